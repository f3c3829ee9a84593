"""Stand-ins for what lies outside, and a bench on which one payment is followed on a real Redis.

Time is wound by hand: `pass_time` makes everything in the record that much longer ago, which is
what time does.
"""

import asyncio
import contextlib
import hashlib
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

from redis.asyncio import Redis

from jobs.follow import follow
from jobs.model import Decision, Money, Ms, Payment
from jobs.news import (
    Answer,
    Call,
    CancelAnswer,
    GatewayStatus,
    InquiryAnswer,
    Order,
    PayAnswer,
    Silence,
    Submit,
    Track,
)
from jobs.schedule import Policy
from jobs.tools import Account, Entry, Loaded, Tools
from worker import connect, logs, records
from worker.keys import Keys
from worker.store import Store, write_mail

CLIENT = "SANDBOX_1"
REQUEST = "order-1"
KEY = f"{CLIENT}:{REQUEST}"
USD = Money("USD", 599)


class ListLog:
    """A log that is a list; a line that is not on the list of all lines fails the test."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def _take(self, level: str, event: str, about: dict[str, Any]) -> None:
        logs.check_line(None, level, {"event": event, **about})
        self.lines.append((event, about))

    def debug(self, event: str, **about: Any) -> None:
        self._take("debug", event, about)

    def info(self, event: str, **about: Any) -> None:
        self._take("info", event, about)

    def warning(self, event: str, **about: Any) -> None:
        self._take("warning", event, about)

    def error(self, event: str, **about: Any) -> None:
        self._take("error", event, about)

    def named(self, event: str) -> list[dict[str, Any]]:
        return [about for name, about in self.lines if name == event]


# The gateway

Reply: TypeAlias = Callable[[Payment, Ms], Answer | Awaitable[Answer]]


class ScriptedGateway:
    """Says what it was told to, one reply a call; a call beyond the script fails the test."""

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.calls: list[str] = []
        self.paid_with: list[str] = []  #: the bodies of pay, in order
        self.notify_url = "https://shop.example/notify"

    def will(self, *replies: Reply) -> None:
        self.script += replies

    async def inquire(self, payment: Payment, asked_at: Ms) -> Answer:
        return await self._play("inquire", payment, asked_at)

    async def cancel(self, payment: Payment, asked_at: Ms) -> Answer:
        return await self._play("cancel", payment, asked_at)

    async def pay(self, payment: Payment, asked_at: Ms) -> Answer:
        self.paid_with.append(payment.pay_request)
        return await self._play("pay", payment, asked_at)

    def pay_request(self, submit: Submit, closing_time: Ms) -> str:
        return f"{submit.form} until {closing_time}" if self.notify_url else ""

    async def _play(self, call: str, payment: Payment, asked_at: Ms) -> Answer:
        self.calls.append(call)
        assert self.script, f"{call} was not expected after {self.calls[:-1]}"
        answer = self.script.pop(0)(payment, asked_at)
        return await answer if inspect.isawaitable(answer) else answer


def says(status: GatewayStatus, **more: Any) -> Reply:
    """An inquiry is answered: the payment stands so."""

    def reply(payment: Payment, asked_at: Ms) -> InquiryAnswer:
        return InquiryAnswer(
            asked_at=asked_at,
            answered_at=asked_at,
            call=Call.OK,
            code="SUCCESS",
            payment_status=status,
            payment_request_id=payment.payment_request_id,
            payment_id="gw-1",
            amount=payment.amount,
            **more,
        )

    return reply


def says_not_exist(_: Payment, asked_at: Ms) -> InquiryAnswer:
    return InquiryAnswer(
        asked_at=asked_at, answered_at=asked_at, call=Call.NOT_EXIST, code="ORDER_NOT_EXIST"
    )


PAID = says(GatewayStatus.SUCCESS)
NOT_YET = says(GatewayStatus.PROCESSING)
CLOSED = says(GatewayStatus.CANCELLED)


def cancel_says(call: Call, code: str = "SUCCESS") -> Reply:
    def reply(payment: Payment, asked_at: Ms) -> CancelAnswer:
        return CancelAnswer(
            asked_at=asked_at,
            answered_at=asked_at,
            call=call,
            code=code,
            payment_request_id=payment.payment_request_id,
            payment_id=payment.payment_id,
        )

    return reply


CONFIRMED = cancel_says(Call.OK)


def pay_says(
    call: Call, code: str = "SUCCESS", url: str = "https://cashier.example/1", **more: Any
) -> Reply:
    def reply(payment: Payment, asked_at: Ms) -> PayAnswer:
        return PayAnswer(
            asked_at=asked_at,
            answered_at=asked_at,
            call=call,
            code=code,
            payment_request_id=payment.payment_request_id,
            payment_id="gw-1",
            amount=payment.amount,
            redirect_url=url,
            redirect_method="GET",
            **more,
        )

    return reply


CREATED = pay_says(Call.OK)
REFUSED = pay_says(Call.REFUSED, "RISK_REJECT", url="")


def pay_silent(_: Payment, asked_at: Ms) -> Silence:
    return Silence(asked_at=asked_at, why="timeout", to_pay=True)


def silent(_: Payment, asked_at: Ms) -> Silence:
    return Silence(asked_at=asked_at, why="timeout")


def cancel_silent(_: Payment, asked_at: Ms) -> Silence:
    return Silence(asked_at=asked_at, why="timeout", to_cancel=True)


def after(happens: Callable[[], Awaitable[Any]], reply: Reply) -> Reply:
    """A reply that comes when something else has happened."""

    async def late(payment: Payment, asked_at: Ms) -> Answer:
        await happens()
        answer = reply(payment, asked_at)
        return await answer if inspect.isawaitable(answer) else answer

    return late


class Killed(Exception):
    """The worker dies here."""


def dies(_: Payment, __: Ms) -> Answer:
    raise Killed


# The bench


class HeldUpStore(Store):
    """The real store of a worker that can be held up around its next save, or be frozen."""

    before_save: Callable[[], Awaitable[Any]] | None = None
    after_save: Callable[[], Awaitable[Any]] | None = None
    frozen_for: Ms = 0

    def now(self) -> Ms:
        return super().now() + self.frozen_for

    def latest(self) -> Ms:
        return super().latest() + self.frozen_for

    async def save(
        self,
        loaded: Loaded,
        decision: Decision,
        entries: Sequence[Entry],
        *,
        heard: int = 0,
        brake: int = 0,
    ) -> Payment | None:
        await self._before()
        saved = await super().save(loaded, decision, entries, heard=heard, brake=brake)
        await self._after()
        return saved

    async def create(self, decision: Decision, entries: Sequence[Entry]) -> Payment | None:
        await self._before()
        created = await super().create(decision, entries)
        await self._after()
        return created

    async def _before(self) -> None:
        happens, self.before_save = self.before_save, None
        if happens is not None:
            await happens()

    async def _after(self) -> None:
        happens, self.after_save = self.after_save, None
        if happens is not None:
            await happens()


@dataclass
class Worker:
    """One worker process: its own connection, its own clock, its own line to the gateway."""

    store: HeldUpStore
    policy: Policy = field(default_factory=Policy)
    gateway: ScriptedGateway = field(default_factory=ScriptedGateway)
    log: ListLog = field(default_factory=ListLog)
    brake: int = 0
    client_id: str = CLIENT

    @property
    def tools(self) -> Tools:
        account = Account(gateway=self.gateway, policy=self.policy, brake=self.brake)
        return Tools(store=self.store, accounts={self.client_id: account}, log=self.log)

    async def follow(self) -> None:
        async with asyncio.timeout(10):  # a loop that never ends must fail, not hang
            await follow(KEY, self.tools)

    async def load(self) -> Loaded:
        loaded = await self.store.load(KEY)
        assert loaded is not None
        return loaded


_MOMENTS = [f.name for f in fields(Payment) if f.name.endswith(("_at", "_since", "_time", "_end"))]


@dataclass
class Bench:
    """A prefix on a real Redis with workers at it. `redis` gives bytes, as in production."""

    redis: Redis
    keys: Keys
    worker: Worker
    clients: contextlib.AsyncExitStack
    url: str

    async def another(self) -> Worker:
        """One more worker, on a connection of its own."""
        client = connect.client(self.url)
        self.clients.push_async_callback(client.aclose)
        return Worker(HeldUpStore(client, self.keys))

    async def wake(self, worker: Worker | None = None) -> None:
        """Let time pass until the payment is due, and follow it once."""
        due = await self.due()
        assert due is not None, "nothing is due any more"
        await self.pass_time(due - await self.now() + 1)
        await (worker or self.worker).follow()

    async def pass_time(self, length: Ms) -> None:
        if length <= 0:
            return
        payment = await self.payment()
        then = {name: getattr(payment, name) for name in _MOMENTS}
        moved = {name: at - length for name, at in then.items() if at is not None}
        hash_: dict[Any, Any] = dict(records.to_hash(replace(payment, **moved)))
        due = await self.due()
        async with self.redis.pipeline() as pipe:
            pipe.hset(self.keys.payment(KEY), mapping=hash_)
            if due is not None:
                pipe.zadd(self.keys.open, {KEY: due - length})
            await pipe.execute()

    async def now(self) -> Ms:
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    # Looking

    async def payment(self) -> Payment:
        return (await self.worker.load()).payment

    async def due(self) -> Ms | None:
        """When the payment is due; None if it is not open, or open without a next action."""
        score = await self.redis.zscore(self.keys.open, KEY)
        return None if score is None or score == float("inf") else round(score)

    async def outcomes(self) -> list[dict[str, Any]]:
        entries = await self.redis.xrange(self.keys.outcomes)
        return [json.loads(said[b"data"]) for _, said in entries]

    async def told(self) -> list[str]:
        """The names of the events published, in order."""
        return [event["id"].removeprefix(f"{KEY}:") for event in await self.outcomes()]

    async def timeline(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in await self._list(self.keys.timeline(KEY))]

    async def story(self) -> list[str]:
        return [f"{line['source']} {line['what']}" for line in await self.timeline()]

    async def inbox(self) -> list[bytes]:
        return await self._list(self.keys.inbox(KEY))

    async def _list(self, name: str) -> list[bytes]:
        lines: list[bytes] = await self.redis.lrange(name, 0, -1)  # type: ignore[misc]
        return lines

    # What comes from outside

    async def deliver(self, body: bytes, *, key: str = KEY) -> str:
        """A verified notification arrives at the receiver."""
        now = await self.now()
        digest = hashlib.sha256(body).hexdigest()
        mail = write_mail(now, str(now), body)
        return await self.worker.store.receive(key, mail, digest, parks=True, quarantine=None)


@contextlib.asynccontextmanager
async def open_bench(url: str, prefix: str) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as clients:
        redis = connect.client(url)
        clients.push_async_callback(redis.aclose)
        keys = Keys(prefix)
        yield Bench(redis, keys, Worker(HeldUpStore(redis, keys)), clients, url)


def track(at: Ms, **changes: Any) -> Track:
    """`payment.track`, written at `at`."""
    command = Track(id="1-0", at=at, client_id=CLIENT, payment_request_id=REQUEST, amount=USD)
    return replace(command, **changes)


def submit(at: Ms, **changes: Any) -> Submit:
    """`payment.submit`, written at `at`."""
    told: dict[str, Any] = {"id": "1-0", "client_id": CLIENT, "payment_request_id": REQUEST}
    return Submit(**told | {"at": at, "amount": USD, "form": "{}", "digest": "d1"} | changes)


def order(ask: Any, at: Ms, id_: str = "2-0") -> Order:
    return Order(ask=ask, id=id_, at=at, client_id=CLIENT, payment_request_id=REQUEST)


def notification(status: str = "S", **changes: Any) -> bytes:
    """The body of a notification: paid, unless told otherwise."""
    said = {
        "notifyType": "PAYMENT_RESULT",
        "result": {"resultStatus": status, "resultCode": "SUCCESS"},
        "paymentRequestId": REQUEST,
        "paymentId": "gw-1",
        "paymentAmount": {"currency": USD.currency, "value": str(USD.value)},
    }
    return json.dumps(said | changes).encode()
