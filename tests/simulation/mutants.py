"""Planted bugs: what the product must never become, switched on in the simulation alone.

Each is one change to the product's own protocol, made by patching while a run lasts. `hunt` counts
the seeds that it takes until the oracle sees it. A mutant with a scenario other than "any" is
looked for in worlds shaped towards it: such a bug needs a rare meeting of events.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import jobs.commands
import jobs.evidence
import jobs.follow
import jobs.inquire
import jobs.notification
import jobs.payment
import jobs.step
import jobs.turn
import worker.arq_jobs
import worker.gateway
import worker.messages
import worker.receiver
import worker.signature
from jobs.model import Act, Decision, Ms, OnTimeout, Payment, Status, Via
from jobs.news import (
    Call,
    CancelAnswer,
    CancelConfirmed,
    CancelRefused,
    Closed,
    Facts,
    Failed,
    InquiryAnswer,
    Message,
    News,
    NoAnswer,
    NotExist,
    Notification,
    NotifyKind,
    NotYet,
    OrderCreated,
    Paid,
    PaidBack,
    PayAnswer,
    PayRefused,
    Silence,
    Tick,
)
from jobs.schedule import MINUTE, SECOND, Policy
from jobs.step import judge, write
from jobs.tools import Entry, Loaded, Tools
from jobs.turn import Turn
from tests.simulation import redis, world
from tests.simulation.loop import PROCESS
from tests.simulation.redis import Server
from tests.simulation.runner import one
from tests.simulation.world import Plan, Shape, World, submitting
from worker.dispatch import Dispatcher
from worker.gateway import HttpGateway
from worker.signature import Untrusted
from worker.store import Store


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug by name, how it is planted, and in what worlds it is looked for."""

    name: str
    plant: Callable[[], AbstractContextManager[Any]]
    shape: Shape | None = None
    scenario: str = "any"


@dataclass(frozen=True, slots=True)
class Caught:
    rule: str
    seed: int
    seeds: int  #: how many it took


def hunt(mutant: Mutant, limit: int, first: int = 0) -> Caught | None:
    """What sees the mutant, within `limit` seeds: a rule, and not a mistake in the mutant."""
    for tried in range(1, limit + 1):
        seed = first + tried - 1
        with mutant.plant():
            world = one(seed, mutant.shape)
        if world.loop.faults:
            raise AssertionError(f"{mutant.name} breaks by itself: {world.loop.faults[0]!r}")
        if world.oracle.violation is not None:
            return Caught(str(world.oracle.violation).partition(":")[0], seed, tried)
    return None


# How bugs are planted


def swap(owner: Any, name: str, by: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: patch.object(owner, name, by)


def _without_timers(
    plant: Callable[[], AbstractContextManager[Any]],
) -> Callable[[], AbstractContextManager[Any]]:
    """The same, where nobody ends a job that takes too long: that hides most of what was frozen."""

    @contextlib.contextmanager
    def planted() -> Iterator[None]:
        with plant(), patch.object(Dispatcher, "end_overdue", lambda _: None):
            yield

    return planted


def mishear(
    change: Callable[[Payment, Message, News], News],
) -> Callable[[], AbstractContextManager[Any]]:
    """`hear` that takes some news for other news."""
    real = jobs.evidence.hear

    def hear(payment: Payment, message: Message, now: Ms, policy: Policy) -> News:
        return change(payment, message, real(payment, message, now, policy))

    return swap(jobs.step, "hear", hear)


def twin(name: str, by: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Another script, over whatever is mended already."""

    @contextlib.contextmanager
    def plant() -> Iterator[None]:
        with patch.dict(redis.TWINS, {name: by}):
            yield

    return plant


def method(name: str, by: Any) -> Callable[[], AbstractContextManager[Any]]:
    return swap(Store, name, by)


# The store


def _save_over_anything(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    write = json.loads(args[0])
    version = server.hget(keys[0], "version")
    if version is not None and write["expect"] is not None:
        write["expect"] = int(version)
    return redis.save(server, keys, [json.dumps(write)])


async def _save_in_two(
    self: Store, payment: Payment, write: dict[str, Any], safe: bool
) -> Payment | None:
    events, write["events"] = write["events"], []
    saved = await _SAVE(self, payment, write, safe)
    if saved is not None:
        for fields in events:
            await self.run("append", [self.keys.outcomes], fields, True)
    return saved


_SAVE = Store._save
_SAVE_ALL = Store.save
_WRITE = Store._write
_RUN = Store.run
_RECEIVE = Store.receive
_CLAIM = redis.claim


async def _inbox_first(
    self: Store,
    loaded: Loaded,
    decision: Decision,
    entries: Sequence[Entry],
    *,
    heard: int = 0,
    brake: int = 0,
) -> Payment | None:
    """The message leaves the inbox before what it changes is written."""
    server, name = _server(self), self.keys.inbox(loaded.payment.key)
    if heard:
        await _link(self).call(lambda: server.ltrim(name, heard))
    return await _SAVE_ALL(self, loaded, decision, entries, heard=0, brake=brake)


def _link(store: Store) -> Any:
    return store._scripts._link  # type: ignore[attr-defined]


def _server(store: Store) -> Server:
    server: Server = _link(store).world.server
    return server


def _not_alone(
    self: Store,
    expect: int | None,
    decision: Decision,
    entries: Sequence[Entry],
    holds: bool = False,
) -> dict[str, Any]:
    return _WRITE(self, expect, decision, entries, holds) | {"alone": False}


def _never_confirmed(name: str) -> Callable[[], AbstractContextManager[Any]]:
    async def run(
        self: Store, script: str, keys: Sequence[str], args: Sequence[Any], safe: bool = False
    ) -> list[Any]:
        return await _RUN(self, script, keys, args, safe and script != name)

    return method("run", run)


async def _digest_before_message(
    self: Store, key: str, mail: str, digest: str, *, parks: bool, quarantine: Any, forward: Any
) -> str:
    server, name = _server(self), self.keys.heard(key)
    if not await _link(self).call(lambda: server.sadd(name, digest)):
        return "duplicate"
    return await _RECEIVE(self, key, mail, f"{digest}!", parks=parks, quarantine=quarantine)


async def _forget_strangers(
    self: Store, key: str, mail: str, digest: str, *, parks: bool, quarantine: Any, forward: Any
) -> str:
    return await _RECEIVE(self, key, mail, digest, parks=False, quarantine=quarantine)


def _lease_for_ever(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    id_, client, lease, *more = args
    return _CLAIM(server, keys, [id_, client, lease and str(100 * 24 * 60 * MINUTE), *more])


def _counted(version: str | None, _: Ms) -> int:
    return int(version or 0) + 1


def _no_alarm_clock(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    return [0, 0, []]


async def _nobody_looks(_: Tools) -> int:
    return 0


def _its_own_wish(turn: Turn) -> bool:
    return turn.payment.on_timeout is OnTimeout.REPORT


def _throw_away(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    moved = redis.unpark(server, keys, args)
    if moved[0]:
        server.stream(keys[3]).entries.pop()
    return moved


# The receiver


async def _ack_first(visit: Any, message: Any, store: Any) -> str:
    process = PROCESS.get()
    said = json.loads(message.body)
    visit.facts |= {"payment_request_id": said["paymentRequestId"], "result": "accepted"}
    loop = _link(store).world.loop
    loop.spawn(process, _kept_quietly(message, store))
    return "notification.accepted"


async def _kept_quietly(message: Any, store: Any) -> None:
    with contextlib.suppress(Exception):
        await _KEEP(worker.receiver.Visit(None), message, store)  # type: ignore[arg-type]


_KEEP = worker.receiver._keep


def _any_tenant(signed: Any, header: str, *, client_id: str, keys: Any) -> None:
    """The key of any account will do."""
    for name in world.CLIENTS:
        with contextlib.suppress(Untrusted):
            key = world.FakeKey(f"gateway for {name}")
            return _VERIFY(signed, header, client_id=client_id, keys={1: key})
    return _VERIFY(signed, header, client_id=client_id, keys=keys)


_VERIFY: Callable[..., None] = worker.signature.verify


def _anybody(*_: Any, **__: Any) -> None:
    """Nothing is verified."""


# Evidence


def _any_success_is_proof(payment: Payment, said: Notification, policy: Policy) -> News:
    same = said.amount == payment.amount
    if said.kind is NotifyKind.RESULT and said.status == "S" and same:
        return Paid(Facts(via=Via.NOTIFICATION, payment_id=said.payment_id))
    return _NOTIFICATION(payment, said, policy)


def _pending_is_paid(payment: Payment, said: Notification, policy: Policy) -> News:
    if said.kind is NotifyKind.PENDING:
        said = replace(said, kind=NotifyKind.RESULT)
    return _NOTIFICATION(payment, said, policy)


_NOTIFICATION = jobs.evidence._notification


def _call_is_payment(payment: Payment, message: Message, news: News) -> News:
    if isinstance(message, InquiryAnswer) and message.call is Call.OK and isinstance(news, NotYet):
        return Paid(news.facts)
    return news


def _unknown_is_failed(payment: Payment, message: Message, news: News) -> News:
    if isinstance(news, NotExist):
        return Failed(news.facts)
    return news


def _silence_is_no(payment: Payment, message: Message, news: News) -> News:
    if isinstance(news, NoAnswer) and not news.to_cancel:
        return NotYet(Facts(via=Via.INQUIRY, asked_at=news.asked_at))
    return news


def _silence_is_cancelled(payment: Payment, message: Message, news: News) -> News:
    if (
        isinstance(message, Silence | CancelAnswer)
        and isinstance(news, NoAnswer)
        and news.to_cancel
    ):
        return CancelConfirmed(Facts(via=Via.CANCEL, asked_at=news.asked_at))
    return news


def _refused_is_cancelled(payment: Payment, message: Message, news: News) -> News:
    return CancelConfirmed(news.facts) if isinstance(news, CancelRefused) else news


def _blind_to_refunds(payment: Payment, message: Message, news: News) -> News:
    return Paid(news.facts) if isinstance(news, PaidBack) else news


def _evidence(
    rule: Callable[[Payment, Policy], Ms],
) -> Callable[[], AbstractContextManager[Any]]:
    """Both where answers are judged and where questions are put off."""

    @contextlib.contextmanager
    def plant() -> Iterator[None]:
        with (
            patch.object(jobs.evidence, "evidence_from", rule),
            patch.object(jobs.turn, "evidence_from", rule),
        ):
            yield

    return plant


def _from_the_cancel_on(payment: Payment, policy: Policy) -> Ms:
    """Evidence counts from the cancel on, quiet or not."""
    return payment.last_cancel_at or 0


def _from_ever(payment: Payment, policy: Policy) -> Ms:
    return 0


# The life


def _after_closing_to_the_millisecond(payment: Payment, said: Notification, policy: Policy) -> bool:
    closing_time, created_at = payment.closing_time, payment.created_at or said.created_at
    if payment.closing_agreed and created_at is not None:
        closing_time = min(closing_time, created_at + policy.closing)
    return max(said.received_at, said.paid_at or 0) >= closing_time


def _last_before_closing(self: Turn, asked_at: Ms) -> bool:
    return asked_at >= self.payment.closing_time - 5 * SECOND


def _give_up_after_five(self: Turn) -> Turn:
    return self.rest() if self.payment.attempts >= 5 else _ON_SCHEDULE(self)


_ON_SCHEDULE = Turn.ask_on_schedule


def _cancel_once(self: Turn) -> Turn:
    return self.rest()


def _seq_is_a_counter_of_now(self: Turn, type_: str, name: str, **details: str) -> Turn:
    told = _TELL(self, type_, name, **details)
    seq = self.payment.seq or self.now
    last = replace(told.events[-1], seq=seq)  # type: ignore[arg-type]  # an event of ours
    events = (*told.events[:-1], last)
    return replace(told, events=events).change(seq=seq)


_TELL = Turn.tell


def _flips(turn: Turn, news: News) -> Turn:
    if isinstance(news, Failed | Closed | PaidBack):
        return jobs.payment._end(turn, Status.CANCELLED, Via.INQUIRY)
    return _SUCCEEDED(turn, news)


_SUCCEEDED = jobs.payment._succeeded


def _believes_a_refusal(turn: Turn, news: CancelRefused) -> Turn:
    return jobs.payment._end(turn, Status.SUCCEEDED, Via.CANCEL)


def _open_is_over(turn: Turn, news: News) -> Turn:
    """A success heard while a cancel is open is told."""
    if isinstance(news, Paid):
        return jobs.payment._end(turn, Status.SUCCEEDED, Via.INQUIRY)
    return _CANCEL_OPEN(turn, news)


_CANCEL_OPEN = jobs.payment._cancel_open


def _no_aftercare(self: Turn) -> Turn:
    return self.rest()


def _money_is_no_matter(turn: Turn) -> Turn:
    return turn.ask_in_aftercare()


# The jobs


async def _act_then_write(key: str, tools: Tools) -> None:
    """The cancel leaves before the right to send it is written."""
    loaded = await tools.store.claim(key)
    if loaded is None:
        return
    heard = await jobs.notification.apply_inbox(tools, loaded)
    if heard is None:
        return
    step = judge(tools, heard, Tick())
    if step.decision.act is Act.INQUIRE:
        return await jobs.inquire.inquire(tools, heard)
    if step.decision.act is Act.CANCEL:
        gateway = tools.accounts[heard.payment.client_id].gateway
        answer = await gateway.cancel(step.decision.payment, tools.store.now())
        written = await write(tools, step)
        if written is not None:
            await jobs.step.take(tools, written, answer)
        return None
    await write(tools, step)
    return None


@contextlib.contextmanager
def _judging_once() -> Iterator[None]:
    with (
        patch.object(jobs.inquire, "take", _judge_once),
        patch.object(jobs.step, "take", _judge_once),
        patch.object(jobs.commands, "take", _judge_once),
    ):
        yield


async def _judge_once(tools: Tools, loaded: Loaded, message: Message) -> bool:
    """The loser of a race writes what it had decided before."""
    step = judge(tools, loaded, message)
    while not await write(tools, step):
        current = await tools.store.load(loaded.payment.key)
        if current is None:
            return False
        step = replace(step, loaded=current)
    return True


@contextlib.contextmanager
def _telling_too_soon() -> Iterator[None]:
    """Two guards stand here, one behind the other: both are taken away."""
    with (
        patch.object(jobs.payment, "_cancel_open", _open_is_over),
        _evidence(_from_ever)(),
    ):
        yield


# Worlds shaped towards a bug


def quiet(world: World) -> None:
    """No faults at all, but for what a shape adds."""
    rates = "redis_lost redis_slow disk_stall not_connected lost delayed doubled bad_answer"
    others = "crash_steps freeze_steps redis_falls cut_at_ack clock_steps attacks"
    none = dict.fromkeys(f"{rates} {others} orders_missing brake".split(), 0)
    world.mix = replace(world.mix, outage=False, **none)  # type: ignore[arg-type]


def queue_deleted(world: World) -> None:
    """Somebody deletes arq's queue, with all jobs in it."""
    quiet(world)
    at = world.tape.between(5, 60) * SECOND
    world.loop.after(at, lambda: world.server.delete(world.keys.queue))


def frozen_in_mid_cancel(world: World) -> None:
    """A worker sleeps between the right to cancel and the cancel; the order comes meanwhile."""
    quiet(world)
    world.mix = replace(world.mix, heal=10 * MINUTE)
    plain: dict[str, Any] = {"window": None, "refunds_late": False, "closes_itself": False}
    world.switches = replace(world.switches, missing_order="ORDER_NOT_EXIST", **plain)
    world.plan = _late_order(90 * SECOND)
    world.loop.after(0, _freeze_who_may_cancel, world)


def _freeze_who_may_cancel(world: World) -> None:
    """Once: as Redis writes a cancel down, and before its answer is read."""
    real = world.oracle.saved
    length = world.tape.between(200_000, 300_000)
    frozen: list[str] = []

    def saved(before: Any, write: dict[str, Any], version: int) -> None:
        real(before, write, version)
        flat = write["fields"]
        record = dict(zip(flat[::2], flat[1::2], strict=True))
        holder = world.oracle.holders.get(write["id"])
        if record.get("cancelState") == "open" and holder and not frozen:
            frozen.append(holder)
            [process] = [shell.process for shell in world.shells if shell.name == holder]
            world.loop.freeze(process, length)

    setattr(world.oracle, "saved", saved)  # noqa: B010 - mypy takes no assignment to a method


def late_orders(world: World) -> None:
    """An order comes to the gateway while a cancel of it is on its way."""
    quiet(world)
    world.mix = replace(world.mix, delayed=400, heal=10 * MINUTE)
    world.switches = replace(world.switches, missing_order="ORDER_NOT_EXIST", window=None)
    world.plan = _late_order(40 * SECOND)


def _late_order(late: Ms) -> Callable[[World, int], Plan]:
    def plan(world: World, number: int) -> Plan:
        drawn = Plan.drawn(world, number)
        after = drawn.life + world.tape.draw(late)
        order: Any = {"ordered_after": after, "tracked_after": 0, "order_amount": drawn.amount}
        return replace(drawn, **order, buyer=(("pay", after + 50),), commands=(), report=False)

    return plan


def late_payers(world: World) -> None:
    """Buyers pay after closing, and the gateway gives it back at once."""
    world.switches = replace(world.switches, refunds_late=True, closes_itself=False)
    world.plan = _paid_late


def paying_in_the_last_second(world: World) -> None:
    """Orders that the worker makes: the gateway is told in whole seconds when they close."""
    submitting(world)
    world.switches = replace(world.switches, refunds_late=True, closes_itself=False)
    drawn = world.plan

    def plan(world: World, number: int) -> Plan:
        ours = drawn(world, number)
        at = ours.life - world.tape.between(100, 900)
        return replace(ours, buyer=(("pay", at),), report=False)

    world.plan = plan


def late_payers_on_a_slow_line(world: World) -> None:
    """Buyers pay at the closing time, while cancels take their time."""
    quiet(world)
    world.mix = replace(world.mix, delayed=400, heal=10 * MINUTE)
    world.switches = replace(world.switches, refunds_late=False, closes_itself=False, window=None)
    world.plan = _paid_late


def _paid_late(world: World, number: int) -> Plan:
    drawn = Plan.drawn(world, number)
    at = drawn.life + world.tape.between(-3000, 15_000)
    return replace(drawn, buyer=(("pay", at),), report=False)


def old_answers(world: World) -> None:
    """Payments that last ten minutes, and a line that says what was true six minutes ago."""
    quiet(world)
    world.mix = replace(world.mix, bad_answer=500, lies=(7, 7, 0), lost=100, heal=40 * MINUTE)
    world.switches = replace(world.switches, window=None)

    def plan(world: World, number: int) -> Plan:
        drawn = replace(Plan.drawn(world, number), life=8 * MINUTE, by_contract=False)
        paid = 6 * MINUTE + world.tape.draw(4 * MINUTE)
        return replace(
            drawn, ordered_after=0, tracked_after=0, buyer=(("pay", paid),), report=False
        )

    world.plan = plan


def cancel_meets_payment(world: World) -> None:
    """The shop cancels as the buyer pays, before the closing time."""
    world.mix = replace(world.mix, redis_slow=100, crash_steps=150)

    def plan(world: World, number: int) -> Plan:
        drawn = replace(Plan.drawn(world, number), life=2 * MINUTE, by_contract=False)
        paid = 10 * SECOND + world.tape.draw(90 * SECOND)
        cancel = paid + world.tape.draw(6 * SECOND)
        told: Any = {"buyer": (("pay", paid),), "commands": (("cancel", cancel),)}
        return replace(drawn, ordered_after=0, tracked_after=0, order_amount=599, **told)

    world.plan = plan


def forgets_and_tracks(world: World) -> None:
    """Payments are forgotten, erased and tracked again, while workers freeze and power fails."""
    world.mix = replace(world.mix, freeze_steps=80, redis_falls=3, fsync_always=False)

    def plan(world: World, number: int) -> Plan:
        drawn = Plan.drawn(world, number)
        at = world.tape.draw(drawn.life)
        again = (("forget", at), ("forget", at + 3000), ("track", at + 6000))
        return replace(drawn, commands=again, tracked_after=0)

    world.plan = plan


def after_the_end(world: World) -> None:
    """Buyers pay what was closed, and nobody is notified of it."""
    world.switches = replace(world.switches, pays_after_cancel=True, notify_after_end=False)
    world.plan = _paid_late


def braking(world: World) -> None:
    """Report mode is switched on as payments reach their closing time and are given up."""
    at = world.tape.between(20, 130) * SECOND
    world.mix = replace(world.mix, report_at=at, lost=world.tape.among(0, 250))
    world.policy = replace(world.policy, last_inquiry_grace=30 * SECOND)


def reporting(world: World) -> None:
    """Every payment is in report mode."""
    world.plan = lambda world, number: replace(Plan.drawn(world, number), report=True)


# Paying


async def _pay_anew(self: HttpGateway, payment: Payment, asked_at: Ms) -> Any:
    """Each try is a request of its own."""
    body = payment.pay_request.replace("a strap", f"a strap {payment.pay_attempts}").encode()
    return await self._ask("pay", body, asked_at, worker.messages.parse_pay_answer)


def _created_is_paid(_: Payment, __: Message, news: News) -> News:
    return Paid(news.facts) if isinstance(news, OrderCreated) else news


def _silence_is_refusal(_: Payment, message: Message, news: News) -> News:
    if isinstance(news, NoAnswer) and news.to_pay:
        return PayRefused(Facts(via=Via.PAY, asked_at=news.asked_at, code=news.why))
    return news


def _fails_at_once(turn: Turn, _: News) -> Turn:
    return jobs.payment._end(turn, Status.FAILED, Via.PAY)


def _any_link(payment: Payment, said: PayAnswer) -> OrderCreated:
    facts = Facts(via=Via.PAY, asked_at=said.asked_at, payment_id=payment.payment_id)
    return OrderCreated(facts, said.redirect_url, said.redirect_method)


def refused_on_a_slow_line(world: World) -> None:
    """Submitted, on a line that loses and delays much, to a gateway that refuses much."""
    submitting(world)
    world.mix = replace(world.mix, delayed=300, lost=100, bad_answer=50)
    fickle: dict[str, Any] = {"pay_refused": 600, "refuses_for_good": False, "repeated_pay": "same"}
    world.switches = replace(world.switches, missing_order="ORDER_NOT_EXIST", **fickle)


def submitting_and_braking(world: World) -> None:
    """Report mode is switched on while pays are without an answer."""
    refused_on_a_slow_line(world)
    world.mix = replace(world.mix, report_at=world.tape.between(2, 30) * SECOND, lost=400)


MUTANTS: tuple[Mutant, ...] = (
    # Writing
    Mutant("no_version_check", twin("save", _save_over_anything)),
    Mutant(
        "version_counted",
        swap(redis, "next_version", _counted),
        forgets_and_tracks,
        "forgets_and_tracks",
    ),
    Mutant("record_and_event_in_two_writes", method("_save", _save_in_two)),
    Mutant("inbox_emptied_before_the_write", method("save", _inbox_first)),
    Mutant("loser_writes_all_the_same", _judging_once),
    Mutant("lease_never_ends", twin("claim", _lease_for_ever)),
    Mutant("no_sweep", twin("overdue", _no_alarm_clock), queue_deleted, "queue_deleted"),
    Mutant("stuck_in_silence", swap(world, "report_stuck", _nobody_looks)),
    # Receiving
    Mutant("ack_before_write", swap(worker.receiver, "_keep", _ack_first)),
    Mutant("ack_before_disk", _never_confirmed("receive")),
    Mutant("digest_before_message", method("receive", _digest_before_message)),
    Mutant("mail_for_strangers_dropped", method("receive", _forget_strangers)),
    Mutant("unparked_mail_dropped", twin("unpark", _throw_away)),
    Mutant("accepts_another_tenants_signature", swap(world, "verify", _any_tenant)),
    Mutant("accepts_unsigned_notifications", swap(world, "verify", _anybody)),
    Mutant("accepts_unsigned_answers", swap(worker.gateway, "verify", _anybody)),
    # Evidence
    Mutant("trusts_pending_with_s", swap(jobs.evidence, "_notification", _pending_is_paid)),
    Mutant("call_result_is_payment_result", mishear(_call_is_payment)),
    Mutant("unknown_order_is_failed", mishear(_unknown_is_failed)),
    Mutant("silence_is_an_answer", mishear(_silence_is_no)),
    Mutant("silence_is_a_confirmed_cancel", mishear(_silence_is_cancelled)),
    Mutant("refusal_is_a_confirmed_cancel", mishear(_refused_is_cancelled)),
    Mutant("blind_to_refunds", mishear(_blind_to_refunds), late_payers, "late_payers"),
    Mutant("answer_of_another_payment", swap(jobs.evidence, "_foreign", lambda *_: "")),
    Mutant("amount_not_compared", swap(jobs.evidence, "_mismatch", lambda *_, **__: None)),
    Mutant(
        "stale_answers_count",
        swap(jobs.evidence, "_fresh", lambda *_: True),
        old_answers,
        "old_answers",
    ),
    Mutant(
        "old_notification_counts_after_a_cancel",
        swap(jobs.evidence, "_notification", _any_success_is_proof),
        late_orders,
        "late_orders",
    ),
    Mutant(
        "evidence_from_before_the_cancel",
        _evidence(_from_ever),
        late_orders,
        "late_orders",
    ),
    Mutant(
        "no_quiet_time",
        _evidence(_from_the_cancel_on),
        late_orders,
        "late_orders",
    ),
    Mutant(
        "late_notification_counts",
        swap(jobs.evidence, "_after_closing", lambda *_: False),
        late_payers,
        "late_payers",
    ),
    Mutant(
        "closing_time_counts_to_the_millisecond",
        swap(jobs.evidence, "_after_closing", _after_closing_to_the_millisecond),
        paying_in_the_last_second,
        "paying_in_the_last_second",
    ),
    # The life
    Mutant("gives_up_after_five_tries", swap(Turn, "ask_on_schedule", _give_up_after_five)),
    Mutant("no_last_inquiry", swap(Turn, "last", _last_before_closing)),
    Mutant("blind_cancel_in_an_outage", swap(Turn, "grace_spent", property(lambda _: True))),
    Mutant("cancel_not_repeated", swap(Turn, "cancel_again", _cancel_once)),
    Mutant(
        "cancel_before_the_write",
        swap(worker.arq_jobs, "follow", _act_then_write),
        cancel_meets_payment,
        "cancel_meets_payment",
    ),
    Mutant(
        "cancel_with_mail_waiting",
        method("_write", _not_alone),
        cancel_meets_payment,
        "cancel_meets_payment",
    ),
    Mutant(
        "success_told_with_a_cancel_open",
        _telling_too_soon,
        late_payers_on_a_slow_line,
        "late_payers_on_a_slow_line",
    ),
    Mutant("refused_cancel_is_success", swap(jobs.payment, "_cancel_refused", _believes_a_refusal)),
    Mutant("final_status_flips", swap(jobs.payment, "_succeeded", _flips)),
    Mutant(
        "no_aftercare",
        swap(Turn, "ask_in_aftercare", _no_aftercare),
        after_the_end,
        "after_the_end",
    ),
    Mutant("money_after_the_end_ignored", swap(jobs.payment, "_money_taken", _money_is_no_matter)),
    Mutant("seq_stands_still", swap(Turn, "tell", _seq_is_a_counter_of_now)),
    Mutant(
        "report_mode_cancels",
        swap(Turn, "reporting", property(lambda _: False)),
        reporting,
        "reporting",
    ),
    Mutant(
        "emergency_brake_ignored",
        swap(Turn, "reporting", property(_its_own_wish)),
        braking,
        "braking",
    ),
    Mutant(
        "cancel_sent_after_a_long_freeze",
        _without_timers(swap(jobs.step, "LEASE", 10**12)),
        frozen_in_mid_cancel,
        "frozen_in_mid_cancel",
    ),
    Mutant(
        "late_answer_taken_for_a_new_one",
        _without_timers(swap(Store, "latest", Store.now)),
        frozen_in_mid_cancel,
        "frozen_in_mid_cancel",
    ),
    # Paying
    Mutant(
        "pays_with_another_request",
        swap(HttpGateway, "pay", _pay_anew),
        refused_on_a_slow_line,
        "refused_on_a_slow_line",
    ),
    Mutant("created_order_is_paid", mishear(_created_is_paid), submitting, "submitting"),
    Mutant(
        "silent_pay_is_refused",
        mishear(_silence_is_refusal),
        refused_on_a_slow_line,
        "refused_on_a_slow_line",
    ),
    Mutant(
        "refused_pay_is_failed_unasked",
        swap(jobs.payment, "_pay_refused", _fails_at_once),
        refused_on_a_slow_line,
        "refused_on_a_slow_line",
    ),
    Mutant(
        "refusal_waits_for_no_earlier_pay",
        swap(Turn, "never_made", lambda *_: True),
        refused_on_a_slow_line,
        "refused_on_a_slow_line",
    ),
    Mutant(
        "link_of_another_order",
        swap(jobs.evidence, "_order_created", _any_link),
        refused_on_a_slow_line,
        "refused_on_a_slow_line",
    ),
    Mutant(
        "pays_in_report_mode",
        swap(Turn, "_pays_again", Turn.may_pay),
        submitting_and_braking,
        "submitting_and_braking",
    ),
)

#: A seed that sees each: where the short version begins to look. Made by `hunt`.
SEEDS: dict[str, int] = {
    "created_order_is_paid": 1,
    "seq_stands_still": 1,
    "refused_cancel_is_success": 3,
    "old_notification_counts_after_a_cancel": 2,
    "amount_not_compared": 3,
    "unknown_order_is_failed": 26,
    "call_result_is_payment_result": 2,
    "record_and_event_in_two_writes": 1,
    "no_version_check": 0,
    "version_counted": 194,
    "loser_writes_all_the_same": 2,
    "lease_never_ends": 22,
    "no_sweep": 5,
    "stuck_in_silence": 320,
    "ack_before_disk": 5,
    "digest_before_message": 1,
    "mail_for_strangers_dropped": 5,
    "unparked_mail_dropped": 24,
    "accepts_another_tenants_signature": 2,
    "accepts_unsigned_notifications": 2,
    "accepts_unsigned_answers": 5,
    "trusts_pending_with_s": 23,
    "silence_is_an_answer": 51,
    "silence_is_a_confirmed_cancel": 26,
    "refusal_is_a_confirmed_cancel": 259,
    "blind_to_refunds": 2,
    "answer_of_another_payment": 140,
    "stale_answers_count": 26,
    "evidence_from_before_the_cancel": 91,
    "no_quiet_time": 91,
    "late_notification_counts": 70,
    "gives_up_after_five_tries": 22,
    "no_last_inquiry": 12,
    "blind_cancel_in_an_outage": 78,
    "cancel_not_repeated": 4,
    "cancel_before_the_write": 42,
    "cancel_with_mail_waiting": 52,
    "success_told_with_a_cancel_open": 241,
    "final_status_flips": 69,
    "no_aftercare": 5,
    "money_after_the_end_ignored": 113,
    "emergency_brake_ignored": 11,
    "cancel_sent_after_a_long_freeze": 1931,
    "late_answer_taken_for_a_new_one": 1931,
    "closing_time_counts_to_the_millisecond": 90,
    "pays_with_another_request": 2,
    "silent_pay_is_refused": 7,
    "refused_pay_is_failed_unasked": 200,
    "refusal_waits_for_no_earlier_pay": 98,
    "link_of_another_order": 50,
    "pays_in_report_mode": 18,
}


# Limits: breaker, pace and waiting line


def long_outages(world: World) -> None:
    """The gateway is away for longer than any grace, and nothing else goes wrong."""
    none = dict.fromkeys(("redis_lost", "redis_slow", "disk_stall", "redis_falls"), 0)
    none |= dict.fromkeys(("crash_steps", "freeze_steps", "clock_steps", "report_at"), 0)
    world.mix = replace(world.mix, **none, outage=False, heal=25 * MINUTE)  # type: ignore[arg-type]
    world.policy = replace(world.policy, last_inquiry_grace=900 * SECOND)
    world.payments = 24  # few tries for each
    world.loop.after(10 * SECOND, world._outage, True)
    world.loop.after(20 * MINUTE, world._outage, False)


def _all_time_is_patience(turn: Turn, asked_at: Ms, via: Via) -> Turn:
    """The clock of the grace runs while nothing may leave."""
    p = turn.payment
    waited = turn.change(next_at=max(p.next_at or 0, asked_at))
    return _real_tried(waited, asked_at, via)


def _in_line_and_nowhere_else(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    answer = redis.pass_(server, keys, args)
    if answer[0] == 0:
        server.zrem(keys[4], args[0])
    return answer


_real_tried = jobs.turn._tried

MUTANTS += (
    Mutant(
        "grace_runs_while_the_breaker_is_open",
        swap(jobs.turn, "_tried", _all_time_is_patience),
        long_outages,
        "long_outages",
    ),
    Mutant("in_line_and_nowhere_else", twin("pass", _in_line_and_nowhere_else)),
)

SEEDS |= {"grace_runs_while_the_breaker_is_open": 3, "in_line_and_nowhere_else": 4}
