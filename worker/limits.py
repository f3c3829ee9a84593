"""Breaker, pace and waiting line of each account, shared by all processes through Redis.

`jobs.limits` decides; here is who asks it, and when. While all is well a call costs no round trip:
the process knows the account's gate as it was a second ago, and takes tokens by the handful. What
is kept here may be lost at any moment: payments stand in the open set, and come back from there.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from jobs import limits
from jobs.limits import FIRST_REPEAT, WINDOW, Budget, Counts, Gate, Verdict, rank, repeats, room
from jobs.model import Act, Ms, Payment
from jobs.news import Answer, Silence, Submit
from jobs.schedule import MINUTE, SECOND, spread
from jobs.tools import Gateway, Loaded
from worker.logs import log
from worker.replies import text_of
from worker.store import Store

ROUND: Ms = 100  #: between two rounds while somebody waits
LOOK_EVERY: Ms = SECOND  #: at the gate of an account that is called
LOOK_SELDOM: Ms = 30 * SECOND  #: at that of any other: who put somebody in line may have died
#: After this a payment in line comes back unasked. The line alone wakes it sooner, so this matters
#: only where a line was deleted.
COME_BACK: Ms = 15 * MINUTE
KEPT: Ms = SECOND  #: how long tokens are kept in hand
#: An account whose places are all taken, but that had an answer so lately, has one free at once.
MOVING: Ms = 100
LOOKED_AT = 500  #: in line, in one round: who waits no more costs no token, but some time
#: Who was called and did not come in this time comes elsewhere, or not at all.
OWED: Ms = 5 * SECOND


class _Reply(NamedTuple):
    """What `gate.lua` says."""

    now: Ms
    text: str
    waiting: int
    calls: int


@dataclass(slots=True)
class Lane:
    """One account as this process sees it."""

    client_id: str
    gate: Gate = Gate()
    waiting: int = 0
    budget: Budget = Budget()
    in_flight: int = 0
    answered_at: Ms = 0
    tokens: int = 0
    tokens_until: Ms = 0
    owed: int = 0  #: called from the line by us, less those who came to us
    owed_since: Ms = 0
    heard: list[int] = field(default_factory=lambda: [0, 0, 0])  #: good, busy, bad: not told yet
    calls: int = 0  #: not told yet
    why: str = ""  #: what the last fault was
    asked_at: Ms = 0
    looked_at: Ms = 0

    @property
    def urgent(self) -> bool:
        """Whether all others must know what we heard."""
        good, busy, bad = self.heard
        return bool(busy or bad or (good and (self.gate.open or self.gate.in_a_row)))

    def look_at(self, now: Ms) -> Ms:
        """When its gate must be looked at again."""
        if self.urgent:
            return now
        if self.waiting and not self.gate.open:
            return self.looked_at + ROUND
        if self.waiting:
            return min(max(self.gate.probe_at, self.looked_at + ROUND), self.looked_at + LOOK_EVERY)
        active = now - self.asked_at < LOOK_SELDOM or self.gate != Gate()
        return self.looked_at + (LOOK_EVERY if active else LOOK_SELDOM)


class Limits:
    """Implements `jobs.tools.Limits`. `run` must run beside the jobs, or nobody is ever called."""

    def __init__(self, store: Store, rates: Mapping[str, float], places: int) -> None:
        """`rates`: calls a second by client id, 0: any number; `places`: jobs at once."""
        self.keys, self._now, self._run = store.keys, store.now, store.run
        self._rates, self._places = rates, places
        self._lanes: dict[str, Lane] = {}
        self._freed, self._wanted = asyncio.Event(), asyncio.Event()

    def lane(self, client_id: str) -> Lane:
        if client_id not in self._lanes:
            self._lanes[client_id] = Lane(client_id)
        return self._lanes[client_id]

    def counted(self, client_id: str, gateway: Gateway) -> Gateway:
        """The same gateway, and we learn what comes of each call."""
        return _Counted(self, self.lane(client_id), gateway)

    # May it leave?

    async def admit(self, loaded: Loaded, act: Act) -> bool:
        payment, now = loaded.payment, self._now()
        lane = self.lane(payment.client_id)
        lane.asked_at, lane.budget = now, lane.budget.by(now)
        again = repeats(payment, now)
        free = not lane.gate.open and not (again and not lane.budget.left)
        free = free and await self._has_place(lane, now)
        if not (free and not lane.waiting and self._token_in_hand(lane, now)):
            # What waits for the gateway's return is then asked in its turn, as often as it was.
            place = rank(payment, act, again and not lane.budget.left and not lane.gate.open)
            if not await self._passes(lane, payment, place, free):
                return False
        lane.budget = lane.budget.sent(again)
        return True

    def _pace(self, lane: Lane, now: Ms) -> float:
        return limits.pace(lane.gate, now, self._rates.get(lane.client_id, 0))

    def _token_in_hand(self, lane: Lane, now: Ms) -> bool:
        if not self._pace(lane, now):
            return True
        if lane.tokens <= 0 or now > lane.tokens_until:
            return False
        lane.tokens -= 1
        return True

    def _room(self, lane: Lane) -> int:
        taken = sum(other.in_flight for other in self._lanes.values())
        return room(self._places, lane.in_flight, taken)

    async def _has_place(self, lane: Lane, now: Ms) -> bool:
        """Or a place is free in a moment: a gateway that answers is not worth a way round."""
        if self._room(lane):
            return True
        if now - lane.answered_at > MOVING:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOVING / SECOND):
                while not self._room(lane):
                    self._freed.clear()
                    await self._freed.wait()
        return self._room(lane) > 0

    async def _passes(self, lane: Lane, payment: Payment, place: float, free: bool) -> bool:
        k, key, now = self.keys, payment.key, self._now()
        rate, burst = _bucket(self._pace(lane, now))
        names = [k.limits(lane.client_id), k.waiting(lane.client_id)]
        names += [k.payment(key), k.inbox(key), k.open, k.queue]
        back = spread(COME_BACK, key, payment.attempts)
        args = [
            key,
            k.prefix,
            payment.version,
            f"{place:.0f}",
            back,
            rate,
            burst,
            max(burst // 10, 1),
        ]
        _, tokens, waiting = await self._run("pass", names, [*args, "1" if free else "0"])
        lane.waiting = int(waiting)
        if waiting:
            self._wanted.set()
        if tokens < 0:
            lane.owed = max(lane.owed - 1, 0)
        elif tokens and rate:
            lane.tokens, lane.tokens_until = int(tokens) - 1, now + KEPT
        return bool(tokens)

    # What came of it

    def begins(self, lane: Lane) -> None:
        lane.in_flight += 1

    def ends(self, lane: Lane, answer: Answer | None) -> None:
        lane.in_flight -= 1
        self._freed.set()
        if answer is None:
            return
        said = limits.verdict(answer)
        lane.calls += 1
        if said is Verdict.NEITHER:
            return
        lane.heard[(Verdict.GOOD, Verdict.BUSY, Verdict.BAD).index(said)] += 1
        if said is Verdict.BAD and isinstance(answer, Silence):
            lane.why = answer.why
        else:
            lane.answered_at = self._now()
        if lane.urgent:
            self._wanted.set()

    # What comes round

    async def run(self) -> None:
        """A round, and the time until the next one is worth it, or wanted."""
        self._wanted.clear()
        delay = await self.round()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay / SECOND):
                await self._wanted.wait()

    async def round(self) -> Ms:
        """Tell what was heard, learn what others heard, call from the line; ms until the next."""
        now, lanes = self._now(), [self.lane(client_id) for client_id in self._rates]
        for lane in lanes:
            if lane.look_at(now) <= now:
                await self._look(lane)
        return max(min((lane.look_at(now) for lane in lanes), default=now + LOOK_EVERY) - now, 0)

    async def _look(self, lane: Lane) -> None:
        lane.looked_at = self._now()
        probing = await self._tell(lane)
        if lane.waiting and (probing or not lane.gate.open):
            await self._release(lane, probing)

    async def _tell(self, lane: Lane) -> bool:
        """Bring the shared gate up to what we heard; whether its probe is ours to send."""
        heard, calls = _counts(lane.heard), lane.calls
        lane.heard, lane.calls = [0, 0, 0], 0
        try:
            return await self._change(lane, heard, calls)
        except BaseException:
            lane.heard = [n + m for n, m in zip(lane.heard, heard, strict=True)]
            lane.calls += calls
            raise

    async def _change(self, lane: Lane, heard: Counts, calls: int) -> bool:
        reply = await self._gate(lane, calls)
        while True:
            was = _read(reply.text)
            limit = self._rates.get(lane.client_id, 0)
            new = limits.hear(was, heard, reply.calls, reply.now, limit)
            probe = limits.probe(new, reply.now) if reply.waiting else None
            new = probe or new
            text = _write(new)
            if new != was:
                reply = await self._gate(lane, 0, reply.text, text)
            lane.gate, lane.waiting = new, reply.waiting
            if new == was:
                return False
            if reply.text == text:
                _report(lane, was, new, reply)
                return probe is not None

    async def _gate(self, lane: Lane, calls: int, was: str = "", new: str = "") -> _Reply:
        names = [self.keys.limits(lane.client_id), self.keys.waiting(lane.client_id)]
        now, text, waiting, all_ = await self._run("gate", names, [WINDOW, calls, was, new])
        return _Reply(int(now), text_of(text), int(waiting), int(all_))

    async def _release(self, lane: Lane, probing: bool) -> None:
        k, now = self.keys, self._now()
        most = 1 if probing else self._to_call(lane, now)
        if not most:
            return
        lane.budget = lane.budget.by(now)
        repeats_ = 1 if probing else lane.budget.left
        rate, burst = _bucket(self._pace(lane, now))
        names = [k.limits(lane.client_id), k.waiting(lane.client_id), k.open, k.queue]
        args: list[Any] = [k.prefix, rate, burst, most, FIRST_REPEAT, repeats_]
        args += ["1" if probing else "0", LOOKED_AT]
        _, called, waiting = await self._run("release", names, args)
        lane.owed, lane.owed_since = lane.owed + int(called), now
        lane.waiting = int(waiting)

    def _to_call(self, lane: Lane, now: Ms) -> int:
        """As many as there are places for, less those who were called and are not here yet."""
        if now - lane.owed_since > OWED:
            lane.owed = 0
        return max(self._room(lane) - lane.owed, 0)


class _Counted:
    """A gateway whose calls are counted."""

    def __init__(self, limits_: Limits, lane: Lane, gateway: Gateway) -> None:
        self._limits, self._lane, self._gateway = limits_, lane, gateway

    async def inquire(self, payment: Payment, asked_at: Ms) -> Answer:
        return await self._call(self._gateway.inquire, payment, asked_at)

    async def cancel(self, payment: Payment, asked_at: Ms) -> Answer:
        return await self._call(self._gateway.cancel, payment, asked_at)

    async def pay(self, payment: Payment, asked_at: Ms) -> Answer:
        return await self._call(self._gateway.pay, payment, asked_at)

    def pay_request(self, submit: Submit, closing_time: Ms) -> str:
        return self._gateway.pay_request(submit, closing_time)

    async def _call(
        self, ask: Callable[[Payment, Ms], Awaitable[Answer]], payment: Payment, asked_at: Ms
    ) -> Answer:
        answer: Answer | None = None
        self._limits.begins(self._lane)
        try:
            answer = await ask(payment, asked_at)
            return answer
        finally:
            self._limits.ends(self._lane, answer)


def _bucket(pace: float) -> tuple[int, int]:
    """Calls in 1000 s, and how many may come at once: those of one second."""
    return round(pace * 1000), max(round(pace), 1)


def _counts(heard: Sequence[int]) -> Counts:
    good, busy, bad = heard
    return good, busy, bad


# The gate as it stands in Redis: without what is as in a gate at rest


def _write(gate: Gate) -> str:
    rest = asdict(Gate())
    changed = {name: value for name, value in asdict(gate).items() if value != rest[name]}
    return json.dumps({"v": 1, **changed}, separators=(",", ":"))


def _read(text: str) -> Gate:
    """What cannot be read is a gate at rest: at worst we learn anew what was known."""
    try:
        said = json.loads(text)
        told = {name: said[name] for name in asdict(Gate()) if name in said}
    except (ValueError, TypeError):
        return Gate()
    sound = all(isinstance(value, int | float) for value in told.values())
    return replace(Gate(), **told) if sound else Gate()


def _report(lane: Lane, was: Gate, gate: Gate, reply: _Reply) -> None:
    about = {"client_id": lane.client_id, "waiting": reply.waiting}
    if gate.open and not was.open:
        log.error("breaker.opened", why=lane.why, **about)
    if was.opened_at is not None and not gate.open:
        log.info("breaker.closed", away_ms=reply.now - was.opened_at, **about)
    if gate.slowed_at != was.slowed_at:
        log.warning("gateway.slowed", calls_per_second=round(gate.slowed_to, 1), **about)
