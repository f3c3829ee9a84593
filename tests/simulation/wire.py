"""Between the processes: a Redis that can be slow, gone or forgetful, and a network that loses,
delays, doubles and reorders.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from multidict import CIMultiDict
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from jobs.model import Ms
from jobs.schedule import SECOND
from tests.simulation.gateway import Body, to_bytes
from tests.simulation.loop import Process
from tests.simulation.redis import Group, Server, run_script, stream_id
from worker.scripts import Call, Confirm, Scripts, confirmed
from worker.signature import Signed, signature_header

if TYPE_CHECKING:
    from tests.simulation.world import World

CONFIRM_TIMEOUT: Ms = 3 * SECOND
#: No message is on its way for longer: `CANCEL_QUIET_SECONDS` (120) counts on that.
LATEST: Ms = 50 * SECOND


class SimServer(Server):
    """Redis as a machine: it can be down, and its disk takes its time."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.ahead: Ms = 0  #: of its clock
        super().__init__(lambda: world.loop.now + self.ahead)
        self.up = True
        self.lives = 0
        self.waiting: list[tuple[str, int, asyncio.Future[Any]]] = []
        self._syncing = False

    def written(self) -> None:
        """After a command: what was written goes to the disk, by and by or at once."""
        if self.world.mix.fsync_always:
            self.sync()
        elif not self._syncing and self.offset > self.synced:
            self._syncing = True
            tape, mix = self.world.tape, self.world.mix
            stall = tape.between(2000, 6000) if tape.chance(mix.disk_stall) else 0
            self.world.loop.after(1 + tape.draw(1000) + stall, self._sync_now, self.lives)

    def _sync_now(self, lives: int) -> None:
        if lives != self.lives:
            return
        self._syncing = False
        self.sync()
        for _, offset, done in self.waiting:
            if offset <= self.synced and not done.done():
                done.set_result([1, 0])
        self.waiting = [each for each in self.waiting if not each[2].done()]

    def go_down(self, power_cut: bool, down: Ms) -> None:
        reached, oracle = self.world.oracle.reached, self.world.oracle
        if power_cut:
            reached["power_cut_between_write_and_ack"] += any(
                caller.startswith("receiver") and not done.done()
                for caller, _, done in self.waiting
            )
            lost = self.cut_power()
            reached["power_cut_forgot_writes"] += lost > 0
            oracle.power_cut()
        else:
            self.sync()  # the kernel has it
            self.scripts.clear()
        self.world.inject("power cut" if power_cut else "redis killed")
        self.up, self._syncing = False, False
        self.lives += 1
        for _, _, done in self.waiting:
            if not done.done():
                done.set_exception(RedisConnectionError("down"))
        self.waiting = []
        self.world.loop.after(down, self._come_up, self.lives)

    def _come_up(self, lives: int) -> None:
        if lives == self.lives:
            self.up = True
            self.ring_all()

    def ring_all(self) -> None:
        """Whoever waits for a key looks again."""
        for key in list(self.bells):
            self._ring(key)


class Link:
    """One process's connection to Redis; tries again as redis-py does."""

    def __init__(self, world: "World", process: Process | None, tries: int) -> None:
        self.world, self.process, self.tries = world, process, tries
        self.name = process.name if process else "merchant"

    async def call(self, work: Callable[[], Any], confirm: Confirm | None = None) -> Any:
        """What `work`, one atomic step at the server, returns; with `confirm` also its answer."""
        for attempt in range(self.tries + 1):
            try:
                return await self._once(work, confirm)
            except RedisConnectionError:
                if attempt == self.tries:
                    raise
                await asyncio.sleep(min(1000, 50 << min(attempt, 5)) / 1000)
        raise AssertionError

    async def _once(self, work: Callable[[], Any], confirm: Confirm | None) -> Any:
        world, mix = self.world, self.world.mix
        done: asyncio.Future[Any] = world.loop.create_future()
        if world.tape.chance(mix.redis_lost):
            world.inject("redis request lost")
            world.loop.after(self._hop(), _fail, done, RedisConnectionError("reset"))
        else:
            lost = world.tape.chance(mix.redis_lost)
            world.loop.after(self._hop(), self._arrive, done, work, confirm, lost)
        return await done

    def _hop(self) -> Ms:
        tape, mix = self.world.tape, self.world.mix
        return 1 + (tape.between(10, 2000) if tape.chance(mix.redis_slow) else 0)

    def _arrive(
        self,
        done: "asyncio.Future[Any]",
        work: Callable[[], Any],
        confirm: Confirm | None,
        lost: bool,
    ) -> None:
        world, server = self.world, self.world.server
        if not server.up:
            return _fail(done, RedisConnectionError("refused"))
        server.caller = self.name
        try:
            answer = work()
        except ResponseError as refusal:
            return _fail(done, refusal)
        finally:
            server.caller = ""
        server.written()
        if lost:
            world.inject("redis reply lost")
            world.loop.after(50, _fail, done, RedisConnectionError("reset"))
        elif confirm is None:
            world.loop.after(self._hop(), _succeed, done, answer)
        else:
            world.loop.spawn(None, self._confirm(done, answer, self._wait_for_disk()))
        return None

    def _wait_for_disk(self) -> "asyncio.Future[Any]":
        """WAITAOF 1 0 3000, which begins in the same moment as the write ended."""
        world, server = self.world, self.world.server
        synced: asyncio.Future[Any] = world.loop.create_future()
        if server.synced >= server.offset:
            synced.set_result([1, 0])
        else:
            server.waiting.append((self.name, server.offset, synced))
            cut = world.mix.cut_at_ack if self.name == "receiver" else 0
            if world.tape.chance(cut):
                world.loop.after(world.tape.draw(5), server.go_down, True, 1000)
            world.loop.after(CONFIRM_TIMEOUT, _succeed, synced, [0, 0])
        return synced

    async def _confirm(
        self, done: "asyncio.Future[Any]", answer: Any, synced: "asyncio.Future[Any]"
    ) -> None:
        try:
            counts = await synced
        except RedisConnectionError as fault:
            return _fail(done, fault)
        if counts == [0, 0]:
            self.world.oracle.reached["not_durable"] += 1
        await asyncio.sleep(self._hop() / 1000)
        return _succeed(done, [answer, counts])


def _fail(done: "asyncio.Future[Any]", fault: BaseException) -> None:
    if not done.done():
        done.set_exception(fault)


def _succeed(done: "asyncio.Future[Any]", answer: Any) -> None:
    if not done.done():
        done.set_result(answer)


class SimScripts(Scripts):
    """The real `run`; what it sends goes to the twins."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._redis = cast(Any, SimpleNamespace(script_load=self._load))
        self._scripts = cast(Any, _Names())
        self._lanes = {}

    async def _load(self, name: str) -> None:
        self._link.world.oracle.reached["script_reloaded"] += 1
        await self._link.call(lambda: self._link.world.server.scripts.add(name))

    async def _send(self, calls: Sequence[Call], confirm: Confirm | None) -> list[Any]:
        """Each on its own: of a pipeline that is cut off a part may have run."""
        sent = (self._one(call, confirm) for call in calls)
        return await asyncio.gather(*sent, return_exceptions=True)

    async def _one(self, call: Call, confirm: Confirm | None) -> Any:
        server = self._link.world.server

        def work() -> list[Any]:
            if call.name not in server.scripts:
                raise NoScriptError("NOSCRIPT")
            return run_script(server, call.name, call.keys, call.args)

        answer = await self._link.call(work, confirm)
        if confirm is None:
            return answer
        return confirmed([answer[0]], answer[1], confirm)[0]


class _Names:
    def __getitem__(self, name: str) -> Any:
        return SimpleNamespace(script=name)


class SimRedis:
    """As much of redis-py as the command stream uses, over a link."""

    def __init__(self, link: Link) -> None:
        self._link, self._world = link, link.world

    def register_script(self, _: str) -> None: ...

    def pipeline(self, transaction: bool) -> "_Pipeline":
        assert transaction
        return _Pipeline(self._link)

    async def xgroup_create(self, stream: str, group: str, _: str, mkstream: bool) -> None:
        def work() -> None:
            groups = self._world.server.stream(stream).groups
            if group in groups:
                raise ResponseError("BUSYGROUP")
            groups[group] = Group()

        assert mkstream
        await self._link.call(work)

    def _group(self, stream: str, group: str) -> Group:
        found = self._world.server.stream(stream).groups.get(group)
        if found is None:
            raise ResponseError("NOGROUP")
        return found

    async def xautoclaim(
        self, stream: str, group: str, _: str, idle: Ms, __: str, count: int
    ) -> list[Any]:
        def work() -> list[Any]:
            pending, now = self._group(stream, group).pending, self._world.server.clock()
            old = [id_ for id_, (at, _) in pending.items() if now - at >= idle][:count]
            entries = {stream_id(n): f for n, f in self._world.server.peek(stream).entries}
            for id_ in old:
                pending[id_] = (now, pending[id_][1] + 1)
                self._world.oracle.reached["command_redelivered"] += 1
            return ["0-0", [(id_, entries[id_]) for id_ in old if id_ in entries], []]

        answer: list[Any] = await self._link.call(work)
        return answer

    async def xreadgroup(
        self, group: str, _: str, streams: Mapping[str, str], count: int, block: Ms | None
    ) -> list[Any]:
        """Many empty polls, each followed by an empty xautoclaim, are one long wait here."""
        (stream,) = streams
        if block is not None:
            await self._world.until(stream, lambda: self._next_command(stream, group))

        def work() -> list[Any]:
            mine, now = self._group(stream, group), self._world.server.clock()
            entries = self._world.server.peek(stream).entries
            new = [(n, f) for n, f in entries if n > mine.last][:count]
            for number, _ in new:
                mine.last = number
                mine.pending[stream_id(number)] = (now, 1)
            return [[stream, [(stream_id(n), f) for n, f in new]]] if new else []

        answer: list[Any] = await self._link.call(work)
        return answer

    def _next_command(self, stream: str, group: str) -> float:
        here = self._world.server.peek(stream)
        mine = here.groups.get(group)
        if mine is None or here.last > mine.last:
            return self._world.loop.now
        idle = [at for at, _ in mine.pending.values()]
        return min(idle) + 2000 - self._world.server.ahead if idle else float("inf")

    async def zrangebyscore(self, key: str, _: str, most: Ms, start: int, num: int) -> list[str]:
        answer: list[str] = await self._link.call(
            lambda: self._world.server.zrangebyscore(key, most, start, num)
        )
        return answer

    async def xack(self, stream: str, group: str, id_: str) -> None:
        await self._link.call(lambda: self._group(stream, group).pending.pop(id_, None))

    async def xpending_range(
        self, stream: str, group: str, low: str, _: str, count: int
    ) -> list[Any]:
        def work() -> list[Any]:
            found = self._group(stream, group).pending.get(low)
            return [{"times_delivered": found[1]}] if found else []

        assert count == 1
        answer: list[Any] = await self._link.call(work)
        return answer


class _Pipeline:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._works: list[Callable[[], Any]] = []

    async def __aenter__(self) -> "_Pipeline":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def xadd(self, stream: str, fields: Mapping[Any, Any]) -> None:
        flat = [str(text) for field in fields.items() for text in field]
        self._works.append(lambda: self._link.world.server.xadd(stream, *flat))

    def xack(self, stream: str, group: str, id_: str) -> None:
        groups = self._link.world.server
        self._works.append(lambda: groups.stream(stream).groups[group].pending.pop(id_, None))

    async def execute(self) -> None:
        await self._link.call(lambda: [work() for work in self._works])


# HTTP, as far as `worker.gateway.HttpGateway` uses a session


class SimSession:
    """The line to the gateway."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def post(self, url: str, *, data: bytes, headers: Mapping[str, str], **_: Any) -> "_Exchange":
        return _Exchange(self._world, url, data, headers)


class _Exchange:
    def __init__(self, world: "World", url: str, data: bytes, headers: Mapping[str, str]) -> None:
        self.world = world
        self.path = "/" + url.split("/", 3)[3]
        self.client_id = headers["Client-Id"]
        self.body = data
        self.request_id = json.loads(data)["paymentRequestId"]
        self.call = self.path.rpartition("/")[2]
        self.done: asyncio.Future[_Reply] = world.loop.create_future()

    async def __aenter__(self) -> "_Reply":
        world, tape, mix = self.world, self.world.tape, self.world.mix
        if tape.chance(mix.not_connected):
            world.inject("not connected")
            await asyncio.sleep(0.01)
            raise aiohttp.ClientConnectorError(cast(Any, _Nowhere()), OSError("refused"))
        if self.call == "inquiryPayment":
            world.oracle.inquiry_leaves(self.client_id, self.request_id)
        if tape.chance(mix.lost):
            world.inject("request lost")
            return await self.done  # until our timeout
        late = tape.chance(mix.delayed)
        if late:
            world.inject("request delayed")
        hop = tape.between(1000, LATEST) if late else 5 + tape.draw(20)
        world.loop.after(hop, self._arrive, world.loop.now)
        return await self.done

    async def __aexit__(self, *_: object) -> None: ...

    def _arrive(self, sent_at: Ms) -> None:
        world, tape, mix = self.world, self.world.tape, self.world.mix
        if world.loop.now - sent_at > 10 * SECOND:
            world.oracle.reached["late_request_executed"] += 1
        if tape.chance(mix.bad_answer):
            world.inject("bad answer")
            reply = self._bad(tape.among(*mix.lies))
        else:
            if tape.chance(mix.doubled):
                world.inject("request doubled")
                self._execute()
            reply = self._say(self._execute())
        if tape.chance(mix.lost):
            world.inject("answer lost")
            if tape.draw(2):
                world.loop.after(5, _fail, self.done, aiohttp.ServerDisconnectedError())
            return
        slow = tape.between(1000, 12_000) if tape.chance(mix.delayed) else 0
        world.loop.after(5 + slow, _succeed, self.done, reply)

    def _execute(self) -> Body:
        world, gateway = self.world, self.world.gateway
        if self.call == "cancel":
            world.oracle.cancel_arrives(self.client_id, self.request_id)
            return gateway.cancel(self.client_id, self.request_id)
        if self.call == "pay":
            world.oracle.pay_arrives(self.client_id, self.request_id, self.body)
            unlucky = world.tape.chance(world.switches.pay_refused)
            return gateway.order(self.client_id, self.request_id, json.loads(self.body), unlucky)
        return gateway.inquire(self.client_id, self.request_id)

    def _bad(self, which: int) -> "_Reply":  # noqa: C901  (a table)
        """Silence in many forms, lies, and other people's truth."""
        unknown: Body = {"result": {"resultStatus": "U", "resultCode": "UNKNOWN_EXCEPTION"}}
        match which:
            case 0:
                return _Reply(503, {}, b"upstream unavailable")
            case 1:
                too_fast = {"resultStatus": "U", "resultCode": "REQUEST_TRAFFIC_EXCEED_LIMIT"}
                return self._say({"result": too_fast})
            case 2:
                self._execute()
                return self._say(unknown)
            case 3:
                return self._say(self._claim("SUCCESS"), key="attacker")
            case 4:
                return self._say(self._claim("FAIL"), key="attacker")
            case 5:
                genuine = self._say(self._execute())
                return _Reply(200, genuine.headers, to_bytes(self._claim("SUCCESS")))
            case 6:
                other = {"paymentRequestId": f"other-{self.request_id}", "paymentId": "another"}
                return self._say(self._claim("SUCCESS") | other)
            case 7:
                return self._stale()
            case _:
                return _Reply(200, {}, to_bytes(self._claim("SUCCESS")))

    def _claim(self, status: str) -> Body:
        order = self.world.gateway.orders.get((self.client_id, self.request_id))
        return {
            "result": {"resultStatus": "S", "resultCode": "SUCCESS"},
            "paymentStatus": status,
            "paymentRequestId": self.request_id,
            "paymentId": order.payment_id if order else "made-up",
            "paymentAmount": {"currency": "USD", "value": str(order.amount if order else 1)},
            "redirectActionForm": {"method": "GET", "redirectUrl": "https://another.cashier/"},
        }

    def _stale(self) -> "_Reply":
        """A genuine answer to the same question, from more than five minutes ago."""
        old = self.world.said.get((self.client_id, self.request_id, self.call))
        if old is None or self.world.loop.now - old[0] < 6 * 60 * SECOND:
            return _Reply(503, {}, b"")
        self.world.oracle.reached["stale_answer"] += 1
        reply: _Reply = old[1]
        return reply

    def _say(self, body: Body, key: str = "") -> "_Reply":
        world, raw = self.world, to_bytes(body)
        time = str(world.loop.now)
        signed = Signed(self.path, self.client_id, time, raw)
        signer = world.keys_of[key or self.client_id]
        header = signature_header(signed, cast(Any, signer), 1)
        reply = _Reply(
            200, {"client-id": self.client_id, "response-time": time, "signature": header}, raw
        )
        if not key:
            asked = (self.client_id, self.request_id, self.call)
            world.said.setdefault(asked, (world.loop.now, reply))
        return reply


class _Nowhere:
    host, port, ssl = "gateway", 443, True


class _Reply:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = CIMultiDict(headers)
        self.content = _Content(body)


class _Content:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body
