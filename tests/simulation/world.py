"""One world: two workers, a receiver, a merchant, a gateway, an attacker, and what befalls them.

Real are `jobs/`, `worker.store`, `worker.scripts`, `worker.gateway`, `worker.messages`,
`worker.signature`, `worker.dispatch`, the receiver's `_keep`, the command stream and
`worker.arq_jobs`. Modelled are Redis, HTTP, RSA and every process's life. Faults stop after a
while; from then on everything must come to an end that agrees with the gateway's ledger.
"""

import asyncio
import contextlib
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from cryptography.exceptions import InvalidSignature
from redis.exceptions import RedisError

import worker.arq_jobs
import worker.commands
import worker.dispatch
import worker.gateway
import worker.housekeeping
import worker.limits
import worker.main
import worker.outage
import worker.receiver
import worker.store
from jobs.model import Ms
from jobs.schedule import HOUR, MINUTE, SECOND, Policy, seconds
from jobs.stuck import STUCK_AFTER, report_stuck
from jobs.sweep import sweep
from jobs.tools import LEASE, Account, Tools
from tests.simulation.gateway import RESEND_AFTER, Body, Gateway, Order, Switches, to_bytes
from tests.simulation.loop import PROCESS, START, Process, SimLoop
from tests.simulation.oracles import Oracle, Violation, Wish, order_of
from tests.simulation.redis import Zset
from tests.simulation.tape import Tape
from tests.simulation.wire import LATEST, Link, SimRedis, SimScripts, SimServer, SimSession
from worker.commands import CommandStream
from worker.dispatch import Dispatcher
from worker.gateway import HttpGateway
from worker.housekeeping import _unpark
from worker.keys import Keys
from worker.limits import Limits
from worker.outage import Outage
from worker.receiver import Visit
from worker.records import OtherVersions
from worker.scripts import Confirm, NotDurable
from worker.signature import Signed, Untrusted, signature_header, verify
from worker.store import Store

CLIENTS = ("SHOP_A", "SHOP_B")
ON_DISK = Confirm(("WAITAOF", 1, 0, 3000), 1)
PATH = "/notify"
SETTLE: Ms = 5 * HOUR  #: after the last fault everything has ended by then
END: Ms = 31 * HOUR  #: and by then the aftercare is over, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How often what goes wrong in this run; most runs have only some kinds. In 1/1000."""

    redis_lost: int
    redis_slow: int
    disk_stall: int
    fsync_always: bool
    not_connected: int
    lost: int
    delayed: int
    doubled: int
    bad_answer: int
    outage: bool  #: the gateway is away around the deadline
    crash_steps: int  #: a process crashes within so many of its steps; 0: never
    freeze_steps: int
    freeze_lengths: tuple[Ms, ...]
    lies: tuple[int, ...]  #: the kinds of bad answers
    redis_falls: int
    cut_at_ack: int  #: the power fails while the receiver waits for the disk
    clock_steps: int
    attacks: int
    orders_missing: int
    brake: int
    report_at: Ms  #: when ON_TIMEOUT=report is set for the whole deployment; 0: never
    parked_for: Ms  #: how long mail of payments never tracked waits
    rate_limit: float  #: calls a second of an account; 0: any number
    places: int  #: for calls at once, in a worker
    heal: Ms  #: when all of it stops

    @classmethod
    def drawn(cls, tape: Tape) -> "Mix":
        return cls(
            redis_lost=tape.among(0, 0, 5, 40),
            redis_slow=tape.among(0, 0, 20, 100),
            disk_stall=tape.among(0, 0, 20, 200),
            fsync_always=tape.among(True, False, False),
            not_connected=tape.among(0, 0, 20, 200),
            lost=tape.among(0, 0, 30, 250),
            delayed=tape.among(0, 0, 30, 200),
            doubled=tape.among(0, 0, 50, 200),
            bad_answer=tape.among(0, 0, 50, 400),
            outage=tape.among(False, False, False, True),
            crash_steps=tape.among(0, 0, 40, 150, 500),
            freeze_steps=tape.among(0, 0, 40, 150, 500),
            freeze_lengths=(1000, 16_000, 40_000, 120_000, 300_000),
            lies=(0, 1, 2, 3, 4, 5, 6, 7, 8),
            redis_falls=tape.among(0, 0, 1, 3),
            cut_at_ack=tape.among(0, 0, 0, 150),
            clock_steps=tape.among(0, 0, 0, 2),
            attacks=tape.among(0, 0, 2, 6),
            orders_missing=tape.among(0, 0, 100, 400),
            brake=tape.among(0, 0, 0, 1),
            report_at=tape.among(0, 0, 0, 0, 0, 0, 0, tape.between(1, 5 * MINUTE)),
            parked_for=tape.among(2 * HOUR, 15 * MINUTE),
            rate_limit=tape.among(0, 0, 0, 1, 0.2),
            places=tape.among(64, 64, 2),
            heal=tape.among(3, 5, 10, 40) * MINUTE,
        )


class FakeKey:
    """As RSA looks from outside: 256 bytes that only the holder of the name can make."""

    key_size = 2048

    def __init__(self, name: str) -> None:
        self.name = name

    def sign(self, data: bytes, *_: object) -> bytes:
        return hashlib.sha256(self.name.encode() + data).digest() * 8

    def verify(self, signature: bytes, data: bytes, *_: object) -> None:
        if signature != self.sign(data):
            raise InvalidSignature


class Clock:
    """What `worker.store` takes for the module `time`."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.loop.now / 1000

    def time(self) -> float:
        return (self._world.loop.now + self._world.wall_ahead()) / 1000


class SimLog:
    """Logs go to the trace; an exception that nobody expected is a violation."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def info(self, event: str, **about: Any) -> None:
        if event in ("breaker.opened", "breaker.closed", "gateway.slowed"):
            self._world.oracle.reached[event.replace(".", "_")] += 1
        if self._world.trace is not None:
            self._world.say("log", event, json.dumps(about, default=str))

    debug = warning = info

    def error(self, event: str, **about: Any) -> None:
        oracle = self._world.oracle
        match event:
            case "payment.stuck":
                oracle.told_of_stuck(f"{about['client_id']}:{about['payment_request_id']}")
            case "notification.never_tracked":
                oracle.reached["unparked"] += about["count"]
            case "record.missing" | "record.unreadable":
                oracle.fail("every record is whole", json.dumps(about))
            case _:
                pass
        self.info(event, **about)

    def exception(self, event: str, **about: Any) -> None:
        self._world.oracle.fail("no bug", f"{event} {about} {sys.exc_info()[1]!r}")


class World:
    """A run: make it, `run` it, look at `oracle`."""

    def __init__(self, tape: Tape, trace: bool = False, shape: "Shape | None" = None) -> None:
        self.tape = tape
        self.loop = SimLoop(tape)  # type: ignore[abstract]  # no sockets, no threads
        self.trace: list[str] | None = [] if trace else None
        self._digest = hashlib.blake2b(digest_size=16)
        self.injected: Counter[str] = Counter()
        self.mix = Mix.drawn(tape)
        self.policy = _policy(tape)
        self.switches = Switches.drawn(tape)
        self.payments = 1 + tape.draw(3)
        self.plan: Callable[[World, int], Plan] = Plan.drawn
        if shape is not None:
            shape(self)
        self.keys = Keys()
        self.oracle = Oracle(self)
        self.server = SimServer(self)
        self.server.watch = self.oracle
        self.gateway = Gateway(self.loop, self.switches, self._notify)
        self.gateway.made = self._order_made
        self.buyers: dict[str, Callable[[Order], None]] = {}  #: of payments that we submit
        self.keys_of = {name: FakeKey(f"gateway for {name}") for name in CLIENTS}
        self.keys_of["attacker"] = FakeKey("attacker")
        self.said: dict[tuple[str, str, str], Any] = {}
        self.heard: list[tuple[Signed, str]] = []  #: genuine notifications, for the attacker
        self.log = SimLog(self)
        self.shells: list[Shell] = [Worker(self, "worker1"), Worker(self, "worker2")]
        self.receiver = Receiver(self, "receiver")
        self.shells.append(self.receiver)
        self.reporting_since: Ms | None = None
        self.healed = False
        self.calm_at = START + self.mix.heal + 6 * MINUTE  #: what was frozen or away is back

    def wall_ahead(self) -> Ms:
        process = PROCESS.get()
        return next((s.wall_ahead for s in self.shells if s.process is process), 0)

    def _order_made(self, order: Order) -> None:
        key = f"{order.client_id}:{order.request_id}"
        self.oracle.order_made(key)
        self.buyers[key](order)

    def order(self, key: str) -> Order | None:
        return order_of(self.gateway.orders, key)

    # The log of events

    def say(self, *words: str) -> None:
        line = f"{self.loop.now - START} {' '.join(words)}"
        self._digest.update(line.encode())
        if self.trace is not None:
            self.trace.append(line)

    def inject(self, fault: str) -> None:
        self.injected[fault] += 1
        self.say("fault", fault)

    @property
    def lasted(self) -> Ms:
        return self.loop.now - START

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    # The run

    def run(self) -> Violation | None:
        """Until the end, or the first violation."""
        with patched(self):
            for shell in self.shells:
                shell.start()
            for number in range(self.payments):
                plan = self.plan(self, number)
                self.loop.spawn(None, live(self, plan))
            self._schedule_faults()
            self.loop.after(self.mix.heal, self._heal)
            self.loop.after(self.mix.heal + SETTLE, self.oracle.all_ended)
            self.loop.after(self.mix.heal + END, self.loop.stop)
            self.loop.run()
            for fault in self.loop.faults:
                self.oracle.fail("no bug", repr(fault))
            if self.oracle.violation is None:
                self.oracle.at_the_end()
        self._digest.update(str(self.loop.steps).encode())
        return self.oracle.violation

    def _schedule_faults(self) -> None:
        tape, mix = self.tape, self.mix
        for _ in range(mix.redis_falls):
            at, cut = tape.draw(mix.heal), bool(tape.draw(3))
            down = tape.among(200, 1000, 5000, 60_000)
            self.loop.after(at, self.server.go_down, cut, down)
        for _ in range(mix.clock_steps):
            self.loop.after(tape.draw(mix.heal), self._step_clock, tape.between(-14_000, 14_000))
        for _ in range(mix.attacks):
            self.loop.after(tape.draw(mix.heal), self._attack)
        if mix.report_at:
            self.loop.after(mix.report_at, self._pull_the_brake)
        if mix.outage:
            start = tape.draw(2 * MINUTE)
            self.loop.after(start, self._outage, True)
            self.loop.after(start + tape.between(SECOND, 20 * MINUTE), self._outage, False)

    def _outage(self, begins: bool) -> None:
        if begins and not self.healed:
            self.inject("outage")
        self.mix = replace(self.mix, lost=1000 if begins and not self.healed else 0)

    def _pull_the_brake(self) -> None:
        """Every worker is replaced by one that is set never to cancel."""
        self.inject("report mode switched on")
        self.policy = replace(self.policy, report=True)
        self.reporting_since = self.loop.now
        self.oracle.reached["report_mode_switched_on_with_a_cancel_open"] += any(
            isinstance(record, dict) and record.get("cancelState") == "open"
            for record in self.server.live.values()
        )
        for shell in self.shells[:2]:
            if shell.process.alive:
                self.loop.crash(shell.process)

    def _step_clock(self, ahead: Ms) -> None:
        """Redis' clock is set, the workers' are off by minutes, and the receiver's by a day."""
        self.inject("clock step")
        self._set_clocks(ahead, receiver=ahead * 10_000)

    def _set_clocks(self, ahead: Ms, receiver: Ms) -> None:
        self.server.ahead = ahead
        self.receiver.wall_ahead = receiver
        self.shells[0].wall_ahead = ahead * 10
        self.shells[1].wall_ahead = -ahead * 10
        self.server.ring_all()

    def _heal(self) -> None:
        """No more faults: from here on everything must come to its end."""
        self.say("healed")
        self.healed = True
        none = dict.fromkeys(("redis_lost", "redis_slow", "disk_stall", "not_connected"), 0)
        none |= dict.fromkeys(("lost", "delayed", "doubled", "bad_answer"), 0)
        none |= dict.fromkeys(("crash_steps", "freeze_steps", "cut_at_ack"), 0)
        self.mix = replace(self.mix, **none)  # type: ignore[arg-type]
        for shell in self.shells:
            shell.process.crash_in = shell.process.freeze_in = 0
        self._set_clocks(0, receiver=0)

    # Waiting without polling

    async def until(self, key: str, when: Callable[[], float]) -> None:
        """Until the time that `when` says has come; asked again whenever `key` gets something."""
        while (at := when()) > self.loop.now:
            woken: asyncio.Future[None] = self.loop.create_future()

            def wake(woken: "asyncio.Future[None]" = woken) -> None:
                if not woken.done():
                    woken.set_result(None)

            self.server.bells.setdefault(key, []).append(wake)
            timer = None
            if at != float("inf"):
                timer = self.loop.call_at(at / 1000, wake)
            await woken
            if timer is not None:
                timer.cancel()

    # Notifications

    def _notify(self, order: Order, body: Body) -> None:
        self.loop.spawn(None, self._send_until_acked(order.client_id, to_bytes(body)))

    async def _send_until_acked(self, client_id: str, body: bytes) -> None:
        tape = self.tape
        await asyncio.sleep(tape.among(3000, 0, 5000, 4000) / 1000)
        first = str(self.loop.now)
        for pause in RESEND_AFTER:
            await asyncio.sleep(pause / 1000)
            time = first if self.switches.resend_time == "kept" else str(self.loop.now)
            signed = Signed(PATH, client_id, time, body)
            header = signature_header(signed, cast(Any, self.keys_of[client_id]), 1)
            self.heard.append((signed, header))
            if tape.chance(self.mix.lost):
                self.inject("notification lost")
                continue
            if tape.chance(self.mix.delayed):
                self.inject("notification delayed")
                await asyncio.sleep(tape.draw(LATEST) / 1000)
            if tape.chance(self.mix.doubled):
                self.inject("notification doubled")
                self.loop.spawn(None, self.receiver.deliver(signed, header))
            well = self.healed and self.loop.now > self.calm_at
            acked = await self.receiver.deliver(signed, header)
            if well:
                self.oracle.require(acked, "an ack for every genuine message", client_id)
            if acked and not tape.chance(self.mix.lost):
                return

    def _attack(self) -> None:
        """Whatever can be sent without the gateway's key for this account, and replays."""
        orders = list(self.gateway.orders.values())
        if not orders:
            return
        order = orders[self.tape.draw(len(orders))]
        claim = self.gateway.notification(order, "PAYMENT_RESULT", self.tape.among("S", "F"), "X")
        signed = Signed(PATH, order.client_id, str(self.loop.now), to_bytes(claim))
        other = next(name for name in CLIENTS if name != order.client_id)
        self.inject("attack")
        match self.tape.draw(5):
            case 4:
                self.loop.spawn(None, self._say_something_odd(order, claim))
                return
            case 0:
                signer = self.keys_of["attacker"]
            case 1:
                signer = self.keys_of[other]
            case 2 if self.heard:
                old, header = self.heard[self.tape.draw(len(self.heard))]
                self.loop.spawn(None, self._forge(replace(old, body=signed.body), header))
                return
            case _ if self.heard:
                old, header = self.heard[self.tape.draw(len(self.heard))]
                self.loop.spawn(None, self.receiver.deliver(old, header))  # a replay
                return
            case _:
                return
        header = signature_header(signed, cast(Any, signer), 1)
        self.loop.spawn(None, self._forge(signed, header))

    async def _say_something_odd(self, order: Order, claim: Body) -> None:
        """Genuine, and of no use: another kind, no amount, no end of the JSON."""
        odd = self.tape.draw(3)
        if odd == 0:
            claim |= {"notifyType": "CAPTURE_RESULT"}
        elif odd == 1:
            claim["result"]["resultStatus"] = "S"
            del claim["paymentAmount"]
        body = to_bytes(claim)[: -1 if odd == 2 else None]
        signed = Signed(PATH, order.client_id, str(self.loop.now), body)
        header = signature_header(signed, cast(Any, self.keys_of[order.client_id]), 1)
        self.oracle.reached["odd_acknowledged"] += await self.receiver.deliver(signed, header)

    async def _forge(self, signed: Signed, header: str) -> None:
        if (signed, header) in self.heard:
            return
        acked = await self.receiver.deliver(signed, header)
        self.oracle.require(not acked, "nothing forged is acknowledged", signed.client_id)
        self.oracle.reached["forged_refused"] += 1


def _policy(tape: Tape) -> Policy:
    """The product's patience, where it is long cut short."""
    return Policy(
        inquiry_delays=seconds(2, 3, 5, 10, 20),
        confirming_delays=seconds(60, 300),
        closing=60 * SECOND,
        confirming=10 * MINUTE,
        last_inquiry_grace=tape.among(900, 120, 30) * SECOND,
        cancel_limit=tape.among(HOUR, 10 * MINUTE),
        not_found_settle=tape.among(600, 120) * SECOND,
        unresolved_watch=2 * 24 * HOUR,
    )


# The processes


class Shell:
    """A process that a supervisor starts again when it has crashed."""

    calm = 1  #: by how much fewer steps it takes than a worker

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.process = Process(name)
        self.wall_ahead: Ms = 0

    def start(self) -> None:
        mix, tape = self.world.mix, self.world.tape
        self.process = Process(self.name)
        self.process.on_crash = self._crashed
        self.process.on_freeze = self._freeze
        if mix.crash_steps and tape.draw(2):
            self.process.crash_in = tape.between(1, mix.crash_steps // self.calm)
        if mix.freeze_steps and tape.draw(2):
            self.process.freeze_in = tape.between(1, mix.freeze_steps // self.calm)
        self.begin()

    def begin(self) -> None:
        raise NotImplementedError

    def spawn(self, work: Any) -> None:
        self.world.loop.spawn(self.process, work)

    def _crashed(self) -> None:
        world = self.world
        world.inject(f"crash {self.name}")
        claims = [key for key, holder in world.oracle.holders.items() if holder == self.name]
        for key in claims:
            world.oracle.reached["crash_with_a_claim"] += 1
            record = world.server.live.get(world.keys.payment(key))
            opened = isinstance(record, dict) and record.get("cancelState") == "open"
            world.oracle.reached["crash_with_a_cancel_open"] += opened
            paying = isinstance(record, dict) and record.get("submitState") == "open"
            world.oracle.reached["crash_with_a_pay_open"] += paying
        world.loop.after(world.tape.among(1000, 200, 5000, 30_000), self.start)

    def _freeze(self) -> None:
        length = self.world.tape.among(*self.world.mix.freeze_lengths)
        self.world.oracle.reached["frozen_longer_than_lease"] += length > LEASE
        self.world.inject(f"freeze {self.name}")
        self.world.loop.freeze(self.process, length)

    def store(self, tries: int) -> Store:
        link = Link(self.world, self.process, tries)
        store = Store(cast(Any, SimRedis(link)), self.world.keys, confirm=ON_DISK)
        store._scripts = SimScripts(link)
        return store


class Worker(Shell):
    """A worker process: what it runs is real, and so is who takes up its jobs."""

    def begin(self) -> None:
        store = self.store(tries=2)
        self.limits = self._limits(store)
        self.tools = Tools(
            store=store, accounts=self._accounts(), log=self.world.log, limits=self.limits
        )
        self.ctx: dict[str, Any] = {
            "tools": self.tools,
            "store": store,
            "other_versions": OtherVersions(),
            "outage": Outage("jobs"),
        }
        commands = CommandStream(store.redis, store, store.keys, self.tools, self.name)
        self.spawn(commands.run())
        self.spawn(self._sweep())
        self.spawn(self._watch())
        self.spawn(self._keep_house())
        self.spawn(self._call_from_the_line())
        self.spawn(self._poll())

    def _accounts(self) -> dict[str, Account]:
        world = self.world
        accounts = {}
        for client_id in CLIENTS:
            settings = SimpleNamespace(
                client_id=client_id,
                gateway_url="https://gateway",
                private_key=FakeKey(f"merchant {client_id}"),
                key_version=1,
                agent_token=None,
                public_keys={1: world.keys_of[client_id]},
            )
            session, us = cast(Any, SimSession(world)), cast(Any, settings)
            line = HttpGateway(session, us, 10_000, "https://shop/notify")
            counted = self.limits.counted(client_id, line)
            accounts[client_id] = Account(
                gateway=counted, policy=world.policy, brake=world.mix.brake
            )
        return accounts

    def _limits(self, store: Store) -> Limits:
        """With places for as few calls at once as there are payments, or fewer."""
        world = self.world
        rates = dict.fromkeys(CLIENTS, world.mix.rate_limit)
        return Limits(store, rates, world.mix.places)

    async def _call_from_the_line(self) -> None:
        """Rounds that would find nothing are left out: who gets in line moves in the open set."""
        world, limits = self.world, self.limits
        self.spawn(self._look_at_once())
        while True:
            with contextlib.suppress(RedisError):
                await limits.round()
            await asyncio.sleep(worker.limits.ROUND / SECOND)
            await world.until(world.keys.open, self._next_round)

    async def _look_at_once(self) -> None:
        """Where it was heard that the gateway is away, or back."""
        while True:
            await self.limits._wanted.wait()
            self.limits._wanted.clear()
            self.world.server._ring(self.world.keys.open)

    def _next_round(self) -> float:
        world, limits, first = self.world, self.limits, float("inf")
        for client_id in CLIENTS:
            lane = limits.lane(client_id)
            waits = world.server.last_score(world.keys.waiting(client_id)) >= 0
            if waits or lane.urgent:
                first = min(first, lane.look_at(world.loop.now))
        return first

    # The dispatcher

    async def _poll(self) -> None:
        """Every 20 ms; rounds that would find nothing are left out."""
        world, timeout = self.world, worker.main.JOB_TIMEOUT
        functions = {"follow_payment": self._follow}
        dispatcher = Dispatcher(
            cast(Store, self.tools.store),
            functions,
            self.ctx,
            self.ctx["outage"],
            most=worker.tools.MAX_JOBS,
            timeout=timeout,
        )
        while True:
            await world.until(world.keys.queue, self._next_job)
            await asyncio.sleep(world.tape.draw(5) * 0.02)
            try:
                await dispatcher.round()
            except RedisError:
                await asyncio.sleep(1)
            asyncio.get_running_loop().call_later(timeout / SECOND, dispatcher.end_overdue)

    def _next_job(self) -> float:
        """When a poll next finds something; all before would find nothing."""
        server = self.world.server
        return server.first_score(self.world.keys.queue) - server.ahead

    async def _follow(self, ctx: dict[str, Any], key: str) -> None:
        try:
            await worker.arq_jobs.follow_payment(ctx, key)
        finally:
            if self.world.oracle.holders.get(key) == self.name:
                del self.world.oracle.holders[key]
            else:
                self.world.oracle.reached["duplicate_wake_up"] += 1

    # The sweep

    async def _sweep(self) -> None:
        """Every ten seconds; rounds that would find nothing are left out."""
        world, open_ = self.world, self.world.keys.open
        while True:
            with contextlib.suppress(RedisError):
                woken = await sweep(self.tools)
                world.oracle.reached["sweep_woke_a_payment"] += woken > 0
            await asyncio.sleep(10)
            await world.until(
                open_, lambda: world.server.first_score(open_) + 501 - world.server.ahead
            )

    # What else comes round

    async def _watch(self) -> None:
        """Every minute; rounds that would find nothing are left out."""
        while True:
            with contextlib.suppress(RedisError):
                await report_stuck(self.tools)
            await asyncio.sleep(60)
            await self.world.until(self.world.keys.open, self._next_stuck)

    def _next_stuck(self) -> float:
        server, keys = self.world.server, self.world.keys
        first = float("inf")
        open_ = server.live.get(keys.open)
        for key in open_ if isinstance(open_, Zset) else ():
            if server.hget(keys.payment(key), "status") in ("pending", "cancelling"):
                closing = int(server.hget(keys.payment(key), "closingTime") or 0)
                again = server.zscore(keys.stuck, key) or 0
                first = min(first, max(closing + STUCK_AFTER + 1, again) - server.ahead)
        return first

    async def _keep_house(self) -> None:
        world, store = self.world, self.tools.store
        assert isinstance(store, Store)
        while True:
            await world.until(
                world.keys.parked,
                lambda: (
                    world.server.first_score(world.keys.parked)
                    + world.mix.parked_for
                    - world.server.ahead
                ),
            )
            with contextlib.suppress(RedisError):
                before = store.now() - world.mix.parked_for
                await _unpark(store.redis, store, before)
            await asyncio.sleep(60)


class Receiver(Shell):
    """The receiver: what is verified and kept is real, the HTTP around it is not."""

    calm = 10

    def begin(self) -> None:
        self.kept = self.store(tries=1)

    async def deliver(self, signed: Signed, header: str) -> bool:
        """Whether the message was acknowledged within ten seconds."""
        if not self.process.alive:
            return False
        answered: asyncio.Future[bool] = self.world.loop.create_future()
        self.spawn(self._serve(signed, header, answered))
        self.world.loop.after(10 * SECOND, _answer, answered, False)
        return await answered

    async def _serve(self, signed: Signed, header: str, answered: "asyncio.Future[bool]") -> None:
        _answer(answered, await self.serve(signed, header))

    async def serve(self, signed: Signed, header: str) -> bool:
        world = self.world
        keys = cast(Any, {1: world.keys_of[signed.client_id]})
        try:
            verify(signed, header, client_id=signed.client_id, keys=keys)
            visit = Visit(cast(Any, None))
            kept = await worker.receiver._keep(visit, signed, self.kept)
        except Untrusted:
            return False
        except (RedisError, OSError, NotDurable):
            world.say("receiver 503")
            return False
        key = f"{signed.client_id}:{visit.facts.get('payment_request_id', '')}"
        result = str(visit.facts.get("result"))
        world.say("ack", key, kept, result)
        world.oracle.reached["duplicate_notification"] += result == "duplicate"
        if kept != "notification.ignored":
            world.oracle.ack(key, signed.body, kept)
        return True


def _answer(answered: "asyncio.Future[bool]", acked: bool) -> None:
    if not answered.done():
        answered.set_result(acked)


# The merchant and the buyer


@dataclass(slots=True, kw_only=True)
class Plan:
    """What the merchant and the buyer will do about one payment; times from the order on."""

    client_id: str
    request_id: str
    amount: int
    life: Ms
    by_contract: bool = False
    report: bool = False
    submit: bool = False  #: the worker makes the order; `ordered_after` says nothing then
    ordered_after: Ms | None = 0  #: None: the gateway never gets it
    tracked_after: Ms | None = 0  #: None: the merchant never tells us
    order_amount: int = 599
    buyer: tuple[tuple[str, Ms], ...] = ()
    commands: tuple[tuple[str, Ms], ...] = ()

    @classmethod
    def drawn(cls, world: World, number: int) -> "Plan":
        tape = world.tape
        life = tape.among(60, 20, 40, 120) * SECOND
        missing = tape.chance(world.mix.orders_missing)
        settle = world.policy.not_found_settle
        late = tape.among(None, 30 * SECOND, life + settle // 4) if missing else 0
        return cls(
            client_id=CLIENTS[tape.draw(2)],
            request_id=tape.among(f"order-{number}", "order-0"),
            amount=599,
            life=life,
            by_contract=life == 60 * SECOND and bool(tape.draw(2)),
            report=tape.draw(8) == 7,
            ordered_after=late,
            tracked_after=tape.among(*[0] * 6, 500, 500, 8000, 8000, life + 5000, None),
            order_amount=598 if tape.draw(20) == 19 else 599,
            buyer=_buyer(tape, life),
            commands=_commands(tape, life),
        )


def _moment(tape: Tape, life: Ms) -> Ms:
    """Half of all on the deadline, and on the cancel that comes after it."""
    if tape.draw(2):
        return max(0, life + tape.between(-4000, 12_000))
    return tape.draw(life * 3 // 2)


def _buyer(tape: Tape, life: Ms) -> tuple[tuple[str, Ms], ...]:
    at = _moment(tape, life)
    later = at + tape.between(100, 90_000)
    match tape.draw(9):
        case 7:
            return (("pay", at), ("refund", later))
        case 0 | 1 | 2:
            return (("pay", at),)
        case 3:
            return ()
        case 4:
            return (("fail", at),)
        case 5:
            return (("confirm", at), ("pay", later))
        case 6:
            return (("confirm", at), ("fail", later)) if tape.draw(2) else (("confirm", at),)
        case _:
            return (("fail", at), ("pay", later))


def _commands(tape: Tape, life: Ms) -> tuple[tuple[str, Ms], ...]:
    at = _moment(tape, life)
    match tape.draw(12):
        case 6:
            return (("track", at), ("track", at + 200_000))
        case 7:
            return (("conflict", at),)
        case 8:
            return (("recheck", at), ("recheck", at + 300_000))
        case 9:
            return (("cancel", at),)
        case 10:
            return (("cancel", tape.draw(life)), ("recheck", at))
        case 11:
            return (("forget", at), ("forget", at + 5_000), ("track", at + 9_000))
        case _:
            return ()


async def live(world: World, plan: Plan) -> None:
    """One payment's life outside the product."""
    key = f"{plan.client_id}:{plan.request_id}"
    if key in world.oracle.wishes:
        return
    start = world.loop.now + world.tape.draw(10 * SECOND)
    closing = start + plan.life
    world.oracle.wishes[key] = Wish(plan.amount, closing, plan.report, submit=plan.submit)
    if plan.submit:
        world.buyers[key] = lambda order: _shop(world, plan, order, start)
    elif plan.ordered_after is not None:
        created = start + plan.ordered_after
        order = Order(
            client_id=plan.client_id,
            request_id=plan.request_id,
            payment_id=f"gw-{plan.client_id}-{plan.request_id}",
            amount=plan.order_amount,
            # By the contract the gateway's time runs from the order's creation.
            closing=created + plan.life if plan.by_contract else closing,
        )
        _at(world, created, lambda: world.gateway.create(order))
        _shop(world, plan, order, start, created)
    merchant = Merchant(world, plan, key, closing)
    track = () if plan.tracked_after is None else (("track", plan.tracked_after),)
    for command, after in (*track, *plan.commands):
        _at(world, start + after, lambda c=command: world.loop.spawn(None, merchant.send(c)))  # type: ignore[misc]


def _shop(world: World, plan: Plan, order: Order, start: Ms, created: Ms | None = None) -> None:
    """What the buyer does about an order that is there, or will be at `created`."""
    created = world.loop.now if created is None else created
    for what, after in plan.buyer:
        happens: Callable[[Order], None] = getattr(world.gateway, what)
        _at(world, max(created, start + after), lambda do=happens: do(order))  # type: ignore[misc]
    _at(world, max(created, order.closing), lambda: world.gateway.close(order))


def _at(world: World, at: Ms, what: Callable[[], object]) -> None:
    world.loop.call_at(at / 1000, what, context=world.loop.host)


class Merchant:
    """Writes commands, again and again until they are on the disk."""

    def __init__(self, world: World, plan: Plan, key: str, closing: Ms) -> None:
        self.world, self.plan, self.key, self.closing = world, plan, key, closing
        self.link = Link(world, None, tries=0)

    async def send(self, command: str) -> None:
        wish = self.world.oracle.wishes[self.key]
        type_ = self._type(command)
        wish.cancel |= command == "cancel"
        wish.forget |= command == "forget"
        data = json.dumps(self._data(command))
        wish.conflict |= command == "conflict"
        add: Callable[[], Awaitable[Any]] = lambda: self.link.call(  # noqa: E731
            lambda: self.world.server.xadd(
                self.world.keys.commands, "type", f"payment.{type_}", "data", data
            ),
            ON_DISK,
        )
        self.world.say("merchant", self.key, command)
        while True:
            with contextlib.suppress(RedisError):
                if (await add())[1] == [1, 0]:
                    break
            await asyncio.sleep(1)
        wish.tracked |= command == "track"

    def _type(self, command: str) -> str:
        if command == "track" and self.plan.submit:
            return "submit"
        return "track" if command == "conflict" else command

    def _data(self, command: str) -> dict[str, Any]:
        about: dict[str, Any] = {
            "paymentRequestId": self.plan.request_id,
            "clientId": self.plan.client_id,
        }
        if command not in ("track", "conflict"):
            return about
        value = self.plan.amount + (command == "conflict")
        about["paymentAmount"] = {"currency": "USD", "value": str(value)}
        about["onTimeout"] = "report" if self.plan.report else "cancel"
        if not self.plan.by_contract:
            about["paymentExpiryTime"] = str(self.closing)
        return about | (SUBMITTED if self._type(command) == "submit" else {})


SUBMITTED = {
    "order": {
        "referenceOrderId": "basket",
        "orderDescription": "a strap",
        "merchant": {
            "referenceMerchantId": "M1",
            "merchantName": "cup Hu",
            "merchantMCC": "1234",
            "store": {"referenceStoreId": "S1", "storeName": "UGG-2", "storeMCC": "1405"},
        },
        "env": {"userAgent": "AlipayClient"},
    }
}

Shape = Callable[[World], None]


def submitting(world: World) -> None:
    """The worker makes most orders itself, and the gateway refuses some of its pays."""
    tape = world.tape
    world.switches = replace(
        world.switches,
        pay_says=tape.among("S", "S", "U"),
        pay_refused=tape.among(0, 0, 200, 600),
        refuses_for_good=tape.among(True, False),
        repeated_pay=tape.among("same", "same", "F"),
    )
    drawn = world.plan

    def plan(world: World, number: int) -> Plan:
        plan = drawn(world, number)
        if not tape.draw(5):
            return plan
        # Each time counted anew, the closing time would be another request: a merchant says when.
        return replace(plan, submit=True, by_contract=False)

    world.plan = plan


@contextlib.contextmanager
def patched(world: World) -> Iterator[None]:
    """The product's clock and logs are this world's while it runs."""
    with (
        patch.object(worker.store, "time", Clock(world)),
        patch.object(worker.receiver, "time", Clock(world)),
        patch.object(worker.gateway, "time", Clock(world)),
        patch.object(worker.commands, "log", world.log),
        patch.object(worker.housekeeping, "log", world.log),
        patch.object(worker.limits, "log", world.log),
        patch.object(worker.store, "log", world.log),
        patch.object(worker.arq_jobs, "log", world.log),
        patch.object(worker.dispatch, "log", world.log),
        patch.object(worker.dispatch, "time", Clock(world)),
        patch.object(worker.outage, "log", world.log),
        patch.object(worker.outage, "time", Clock(world)),
    ):
        yield
