"""The merchant: has payments followed or made through the command stream, reads how they end.

It knows nothing of the product but the contract: XADD until it is confirmed, XREADGROUP, and that
an event may come twice.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobs.model import FINAL
from jobs.outcome import rfc3339
from tests.servers import now_ms
from worker.demo import ORDER
from worker.keys import Keys
from worker.mock_gateway import SCENARIOS, SUBMITTED

GROUP = "shop"
CURRENCY, VALUE = "USD", "599"
CONFIRM_MS = 2000
AGAIN_SECONDS = 0.2
UNDER_WAY = 60  #: payments that have not ended: a slow machine gets no more at a time
LIFE = (4.0, 8.0)  #: seconds that a buyer has to pay
LIFE_SUBMITTED = (10.0, 16.0)  #: the same, and to make the order: no pay leaves in the last 3

ENDS = (*FINAL, "unresolved.1")

# How often the merchant does what is not simply to have a payment followed.
NO_ORDER, REPORT, LATE_TRACK, TRACK_TWICE, OTHER_AMOUNT = 0.02, 0.04, 0.12, 0.10, 0.02
SUBMIT, CALLBACK = 0.25, 0.5
ODD_PAYS = 15  #: how much likelier it is that something befalls a pay than what the mix says
CANCEL, CANCEL_AS_PAID, RECHECK, FORGET = 0.04, 0.15, 0.06, 0.02
PAID_BETWEEN = 0.4  #: most buyers pay when 30 % of the time has gone by


@dataclass(slots=True)
class Wish:
    """What the merchant wants of one payment, and what it knows to be safe in the stream."""

    id: str
    closing: int
    report: bool = False
    submitted: bool = False  #: the worker makes the order
    callback: bool = False  #: its events go to our endpoint, too
    tracked: bool = False
    cancel_at: int | None = None  #: when it first asked for a cancel
    forget_at: int | None = None
    conflict: bool = False  #: tracked with two amounts: whichever command is taken up first stands
    confirmed: Counter[str] = field(default_factory=Counter)  #: commands by type
    tries: int = 0  #: to write any of them


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as it was first read."""

    at: int
    id: str
    type: str
    payment: str
    seq: int
    status: str
    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the event says: `succeeded`, `unresolved.1`, ..."""
        return self.id.rpartition(":")[2]


@dataclass(slots=True)
class Merchant:
    redis: Redis
    gateway: aiohttp.ClientSession
    keys: Keys
    rng: random.Random
    waitaof: bool
    callback_url: str
    wishes: dict[str, Wish] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    contradicted: list[str] = field(default_factory=list)  #: ids read again with another status
    commands: list[tuple[str, str]] = field(default_factory=list)  #: confirmed: entry id, type
    tries: int = 0
    _errands: set["asyncio.Task[None]"] = field(default_factory=set)

    async def sell(self, per_second: float) -> None:
        """New payments, until cancelled."""
        while True:
            if len(self.wishes) - self.ended < UNDER_WAY:
                self._errand(self._buy(len(self.wishes)))
            await asyncio.sleep(self.rng.expovariate(per_second))

    @property
    def ended(self) -> int:
        """Payments of which an end was told, or that a person must look."""
        ends = {seen.payment for seen in self.seen.values() if seen.name in ENDS}
        return len(ends)

    async def done(self) -> None:
        """Return when everything that was begun is confirmed."""
        while self._errands:
            await asyncio.wait(self._errands)

    def _errand(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    # Commands

    async def _buy(self, number: int) -> None:
        rng = self.rng
        submitted = rng.random() < SUBMIT
        life = rng.uniform(*(LIFE_SUBMITTED if submitted else LIFE))
        weights = {name: row.weight for name, row in SCENARIOS.items()}
        weights |= dict.fromkeys(SUBMITTED, ODD_PAYS) if submitted else {}
        (scenario,) = rng.choices(list(weights), list(weights.values()))
        wish = Wish(
            f"{scenario}-{number}",
            now_ms() + round(life * 1000),
            report=rng.random() < REPORT,
            submitted=submitted,
            callback=rng.random() < CALLBACK,
        )
        self.wishes[wish.id] = wish
        if not submitted and rng.random() > NO_ORDER:
            wish.closing = await self._order(wish.id, life)
        late = scenario == "notification_before_track" or rng.random() < LATE_TRACK
        await asyncio.sleep(rng.uniform(0.3, 3) if late and not submitted else 0)
        await self._begin(wish, VALUE)
        wish.tracked = True
        life = min(life, LIFE[1])  # what else the merchant wants it wants as soon as of others
        for chance, wait, errand in (
            (TRACK_TWICE, 2 * life, partial(self._begin, wish, VALUE)),
            (OTHER_AMOUNT, life, partial(self._begin_otherwise, wish)),
            (CANCEL, 1.3 * life, partial(self._cancel, wish)),
            (CANCEL_AS_PAID, PAID_BETWEEN * life, partial(self._cancel, wish)),
            (RECHECK, 3 * life, partial(self._command, "payment.recheck", wish)),
            (FORGET, 3 * life, partial(self._forget, wish)),
        ):
            if rng.random() < chance:
                self._errand(_after(rng.uniform(0, wait), errand))

    async def _order(self, id_: str, life: float) -> int:
        """Have the order made at the gateway; its closing time."""
        amount = {"currency": CURRENCY, "value": VALUE}
        order = {"paymentRequestId": id_, "amount": amount, "closingSeconds": life}
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self.gateway.post("/mock/orders", json=order) as reply:
                    reply.raise_for_status()
                    return int((await reply.json())["closingAt"])
            await asyncio.sleep(AGAIN_SECONDS)

    async def _begin(self, wish: Wish, value: str) -> None:
        """Have it followed, and made if it is to be."""
        amount = {"currency": CURRENCY, "value": value}
        details: dict[str, Any] = {
            "paymentAmount": amount,
            "paymentExpiryTime": rfc3339(wish.closing),
        }
        if wish.report:
            details["onTimeout"] = "report"
        if wish.callback:
            details["callbackUrl"] = self.callback_url
        if wish.submitted:
            await self._command("payment.submit", wish, order=ORDER, **details)
        else:
            await self._command("payment.track", wish, **details)

    async def _begin_otherwise(self, wish: Wish) -> None:
        wish.conflict = True
        await self._begin(wish, "600")

    async def _cancel(self, wish: Wish) -> None:
        wish.cancel_at = wish.cancel_at or now_ms()
        await self._command("payment.cancel", wish, reason="the buyer changed their mind")

    async def _forget(self, wish: Wish) -> None:
        wish.forget_at = now_ms()
        await self._command("payment.forget", wish)

    async def _command(self, type_: str, wish: Wish, **details: Any) -> None:
        """Write it until it is confirmed: an answer that is lost means writing it twice."""
        data = json.dumps({"paymentRequestId": wish.id, **details})
        while True:
            self.tries += 1
            wish.tries += 1
            with suppress(RedisError, OSError):
                async with self.redis.pipeline(transaction=False) as pipe:
                    pipe.xadd(self.keys.commands, {"type": type_, "data": data})
                    if self.waitaof:
                        pipe.execute_command("WAITAOF", 1, 0, CONFIRM_MS)
                    answers = await pipe.execute()
                if not self.waitaof or answers[1][0] >= 1:
                    self.commands.append((answers[0], type_))
                    wish.confirmed[type_] += 1
                    return
            await asyncio.sleep(AGAIN_SECONDS)

    # Outcomes

    async def read(self) -> None:
        """Read and acknowledge, until cancelled; what was not acknowledged is read again."""
        since = "0"
        while True:
            try:
                streams: dict[Any, Any] = {self.keys.outcomes: since}
                found = await self.redis.xreadgroup(GROUP, "till", streams, count=200, block=300)
                entries = found[0][1] if found else []
                for _, fields in entries:
                    self._note(fields)
                if entries:
                    await self.redis.xack(
                        self.keys.outcomes, GROUP, *[entry for entry, _ in entries]
                    )
                elif since == "0":
                    since = ">"
            except (RedisError, OSError):
                since = "0"
                await asyncio.sleep(AGAIN_SECONDS)

    def _note(self, fields: Mapping[str, str]) -> None:
        data = json.loads(fields["data"])["data"]
        seen = Seen(
            at=now_ms(),
            id=fields["id"],
            type=fields["type"],
            payment=fields["paymentRequestId"],
            seq=data.get("seq", 0),
            status=data.get("status", ""),
            data=data,
        )
        first = self.seen.setdefault(seen.id, seen)
        if first.status != seen.status:
            self.contradicted.append(f"{seen.id}: {first.status}, then {seen.status}")


async def _after(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(seconds)
    await work()
