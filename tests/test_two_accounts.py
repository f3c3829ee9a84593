"""Two accounts in one deployment, mixed in every way: nothing crosses from one to the other.

Both have payments of the same names. Receiver and worker are real, and each account has a gateway.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis
from structlog.typing import EventDict

import jobs.limits
from jobs.model import Money, Status
from tests.accounts import SIDES, A, B, account, environ_with, other, write_accounts
from tests.keys import private_key, public_key
from tests.servers import (
    Asked,
    ScriptedGateway,
    inquired,
    notification,
    now_ms,
    paid,
    scripted_gateway,
    send,
    signed_answer,
    until,
)
from worker import client, records
from worker.keys import Keys
from worker.main import run_worker
from worker.mock_gateway import MockConfig, RunningMock, start
from worker.mock_gateway.ledger import Ledger, agrees
from worker.receiver import Trust, start_receiver
from worker.settings import Settings, load
from worker.signature import Signed, Untrusted, verify
from worker.tools import store_of

BOTH = pytest.mark.parametrize("client_id", [A, B], ids=["a", "b"])
NAME = "order-1"  #: of a payment of either account
GATEWAY_CODES = {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."}


@dataclass
class Deployment:
    """Where the two accounts live, and what can be seen of them."""

    redis: Any  #: a `Redis`, whose annotations know no `await` from no `await`
    settings: Settings
    keys: Keys

    async def track(self, client_id: str, name: str, **more: Any) -> None:
        given = {"expires_in": 600, "prefix": self.keys.prefix, **more}
        await client.track(self.redis, name, "USD", 599, client_id=client_id, **given)

    async def command(self, type_: str, name: str, client_id: str | None) -> str:
        data = {"paymentRequestId": name, "clientId": client_id}
        return await client.send(self.redis, type_, data, self.keys.prefix)

    async def status(self, client_id: str, name: str = NAME) -> str:
        found = await self.redis.hget(self.keys.payment(f"{client_id}:{name}"), "status")
        return str(found)

    async def is_tracked(self, *names: str) -> None:
        async def all_there() -> bool:
            keys = [self.keys.payment(f"{c}:{name}") for c in SIDES for name in names]
            return bool(await self.redis.exists(*keys) == len(keys))

        await until(all_there)

    async def becomes(self, client_id: str, name: str, status: str) -> None:
        async def is_so() -> bool:
            return await self.status(client_id, name) == status

        await until(is_so)

    async def told(self, client_id: str | None = None) -> list[dict[str, Any]]:
        found = [fields for _, fields in await self.redis.xrange(self.keys.outcomes)]
        return [f for f in found if client_id is None or f["clientId"] == client_id]

    async def everything(self) -> dict[str, Any]:
        """All that Redis holds of ours, by key; a stream without the times of its entries."""
        found = {}
        async for key in self.redis.scan_iter(match=f"*{self.keys.prefix}*", count=1000):
            raw = await self.redis.dump(key) if await self.redis.type(key) == "string" else None
            found[key] = raw if raw is not None else await self._content(key)
        return found

    async def _content(self, key: str) -> Any:
        match await self.redis.type(key):
            case "hash":
                return await self.redis.hgetall(key)
            case "list":
                return await self.redis.lrange(key, 0, -1)
            case "set":
                return await self.redis.smembers(key)
            case "zset":
                return await self.redis.zrange(key, 0, -1)
            case "stream":
                return [fields for _, fields in await self.redis.xrange(key)]
            case _:
                return None


Settle = Callable[..., Deployment]


@pytest.fixture
def deploy(redis: Redis, redis_url: str, prefix: str, tmp_path: Path) -> Settle:
    """A deployment of both accounts, whose gateways are at these addresses."""

    def deployed(urls: Sequence[str], *own: dict[str, Any], **environ: str) -> Deployment:
        path = tmp_path / "accounts.toml"
        more = own or ({}, {})
        sides = zip(SIDES.values(), urls, more, strict=True)
        write_accounts(path, *(account(side, url, **each) for side, url, each in sides))
        settings = load(environ_with(path, redis_url, prefix, **environ))
        return Deployment(redis, settings, Keys(prefix))

    return deployed


@asynccontextmanager
async def working(deployment: Deployment) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    task = asyncio.create_task(run_worker(deployment.settings, stopping))
    try:
        yield
        assert not task.done(), "the worker has ended"
    finally:
        stopping.set()
        await task


@asynccontextmanager
async def receiving(deployment: Deployment) -> AsyncIterator[int]:
    """The port of a receiver that is wired as the process wires it."""
    settings = deployment.settings
    store = store_of(settings, deployment.redis)
    store.confirm = None
    trust = Trust(keys=settings.public_keys, path=settings.notify_path, own=settings.own)
    runner = await start_receiver(trust, store, "127.0.0.1", 0)
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


# Notifications

SIGNERS = ("alipay_v1", "alipay_v2", "merchant_v1", "merchant_v2", "attacker")
MIXED = list(
    product(SIGNERS, SIDES, SIDES, ("/a", "/b", "/notify"), ("/a", "/b", "/notify"), (1, 2))
)


def genuine(key: str, addressed: str, signed: str, path: str, signed_path: str, ver: int) -> bool:
    """Whether a message is the gateway's to the account that it is addressed to."""
    side = SIDES[addressed]
    return (key, signed, path, signed_path, ver) == (
        side.theirs,
        addressed,
        side.path,
        side.path,
        1,
    )


async def test_of_all_mixtures_only_a_genuine_notification_is_taken_and_by_its_own_account_alone(
    deploy: Settle, log_lines: list[EventDict]
) -> None:
    """Signed by any key and for either account, addressed to either, posted to and signed for any
    path, under either version: of 360 mixtures two are genuine."""
    deployment = deploy(["https://a.example.com", "https://b.example.com"])
    taken = []
    async with receiving(deployment) as port:
        for mixture in MIXED:
            key, addressed, signed, path, signed_path, version = mixture
            message = notification(
                paid(NAME),
                path=path,
                signed_path=signed_path,
                client_id=signed,
                key=key,
                key_version=version,
            ).having(Client_Id=addressed)
            before = await deployment.everything()
            reply = await send(port, message.wire())
            assert reply is not None
            if reply.status == 200:
                taken.append(mixture)
                fresh = set(await deployment.everything()) - set(before)
                assert not [name for name in fresh if other(addressed) in name]
            else:
                assert reply.status in (401, 404)
                assert await deployment.everything() == before
    assert taken == [mixture for mixture in MIXED if genuine(*mixture)]
    assert len(taken) == 2
    lines = [line for line in log_lines if line["event"] == "notification.rejected"]
    assert {line["reason"] for line in lines} == {"path", "sig_mismatch", "key_version"}


@BOTH
async def test_a_notification_of_one_account_is_no_mail_of_the_others_payment(
    deploy: Settle, client_id: str
) -> None:
    """Also where only the other has a payment of this name: it is parked, and stays where it is."""
    urls = ["https://a.example.com", "https://b.example.com"]
    deployment, theirs = deploy(urls), other(client_id)
    async with receiving(deployment) as port:
        side = SIDES[client_id]
        message = notification(paid(NAME), path=side.path, client_id=client_id, key=side.theirs)
        for _ in range(2):  # a resend is known as one, by its own account alone
            reply = await send(port, message.wire())
            assert reply and reply.status == 200
        assert await deployment.redis.zrange(deployment.keys.parked, 0, -1) == [
            f"{client_id}:{NAME}"
        ]
        assert await deployment.redis.exists(deployment.keys.heard(f"{client_id}:{NAME}"))
        assert not await deployment.redis.exists(deployment.keys.heard(f"{theirs}:{NAME}"))
        assert not await deployment.redis.exists(deployment.keys.inbox(f"{theirs}:{NAME}"))
        side = SIDES[theirs]
        same = notification(paid(NAME), path=side.path, client_id=theirs, key=side.theirs)
        reply = await send(port, same.wire())
        assert reply and reply.status == 200
        assert await deployment.redis.llen(deployment.keys.inbox(f"{theirs}:{NAME}")) == 1


# Answers

#: Of an answer: signed by the gateway's key of, signed for, addressed to, about whose paymentId.
ANSWERS = list(product("ox", repeat=4))  #: o: its own, x: the other account's
OWN_ANSWER = "oooo"


def mixed_answer(client_id: str, asked: Asked, kind: str, body: dict[str, Any]) -> web.Response:
    key, signed, addressed = (client_id if c == "o" else other(client_id) for c in kind[:3])
    answer = signed_answer(asked.path, body, client_id=signed, key=SIDES[key].theirs)
    answer.headers["client-id"] = addressed
    return answer


def payment_id(client_id: str, name: str) -> str:
    return f"2026{client_id[-1]}{name}"


def answers(client_id: str, final: str) -> Callable[[Asked], Awaitable[web.StreamResponse]]:
    """A gateway that mixes its answers as the payment's name says: `<kind>-...`."""

    async def answer(asked: Asked) -> web.StreamResponse:
        name = json.loads(asked.body)["paymentRequestId"]
        kind = name.partition("-")[0]
        whose = client_id if kind[3] == "o" else other(client_id)
        about = {"paymentRequestId": name, "paymentId": payment_id(whose, name)}
        if asked.path.endswith("/cancel"):
            body = {"result": GATEWAY_CODES, "cancelTime": "2026-01-01T00:00:00Z", **about}
            return mixed_answer(client_id, asked, kind, body)
        body = inquired(name, final, **about)
        return mixed_answer(client_id, asked, kind, body)

    return answer


@asynccontextmanager
async def two_gateways(
    answer: Callable[[str], Callable[[Asked], Awaitable[web.StreamResponse]]],
) -> AsyncIterator[list[ScriptedGateway]]:
    async with scripted_gateway() as one, scripted_gateway() as two:
        for gateway, client_id in ((one, A), (two, B)):
            gateway.answer = answer(client_id)
        yield [one, two]


@pytest.mark.parametrize(
    ("final", "command", "ends", "others"),
    [
        ("SUCCESS", None, "succeeded", "pending"),
        ("FAIL", None, "failed", "pending"),
        ("CANCELLED", None, "cancelled", "pending"),
        ("PROCESSING", "payment.cancel", "cancelled", "cancelling"),
    ],
)
async def test_of_all_mixtures_only_the_gateways_own_answer_ends_a_payment(
    deploy: Settle,
    final: str,
    command: str | None,
    ends: str,
    others: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Signed by either account's gateway, for either, addressed to either, with either's
    paymentId; asked by either account about payments of the same names."""
    monkeypatch.setattr(jobs.limits, "REPEATS_PER_SECOND", 1000)  # so many must be asked again
    monkeypatch.setattr(jobs.limits, "REPEATS_SAVED", 1000)
    kinds = ["".join(kind) for kind in ANSWERS]
    names = [f"{kind}-1" for kind in kinds]
    async with two_gateways(lambda client_id: answers(client_id, final)) as gateways:
        own = {"cancel_schedule": [0.2]}
        deployment = deploy([gateway.url for gateway in gateways], own, own)
        async with working(deployment):
            for client_id, name in product(SIDES, names):
                id_ = payment_id(client_id, name)
                await deployment.track(client_id, name, payment_id=id_)
            await deployment.is_tracked(*names)
            for client_id, name in product(SIDES, names) if command else ():
                await deployment.command(command or "", name, client_id)
            for client_id in SIDES:
                await deployment.becomes(client_id, f"{OWN_ANSWER}-1", ends)
            path = "/cancel" if command else "/inquiryPayment"
            await until(lambda: asked_twice(gateways, path, names, but=OWN_ANSWER))
        for client_id, name in product(SIDES, names):
            kind = name.partition("-")[0]
            expected = ends if kind == OWN_ANSWER else others
            assert await deployment.status(client_id, name) == expected, (client_id, name)


async def asked_twice(
    gateways: Sequence[ScriptedGateway], path: str, names: Sequence[str], but: str
) -> bool:
    """Whether each gateway was asked twice about each payment that an answer could have ended."""
    for gateway in gateways:
        about = [
            json.loads(asked.body)["paymentRequestId"]
            for asked in gateway.asked
            if asked.path.endswith(path)
        ]
        if any(about.count(name) < 2 for name in names if not name.startswith(but)):
            return False
    return True


async def test_each_question_goes_to_the_accounts_own_gateway_signed_by_its_own_key(
    deploy: Settle,
) -> None:
    async with two_gateways(lambda client_id: answers(client_id, "SUCCESS")) as gateways:
        deployment = deploy([gateway.url for gateway in gateways])
        async with working(deployment):
            for client_id in SIDES:
                await deployment.track(client_id, f"{OWN_ANSWER}-{client_id[-1]}")
                await deployment.becomes(client_id, f"{OWN_ANSWER}-{client_id[-1]}", "succeeded")
        for gateway, client_id in zip(gateways, SIDES, strict=True):
            assert gateway.asked
            for asked in gateway.asked:
                assert asked.headers["Client-Id"] == client_id
                name = json.loads(asked.body)["paymentRequestId"]
                assert name == f"{OWN_ANSWER}-{client_id[-1]}"
                assert signed_by(asked, SIDES[client_id].ours)
                assert not signed_by(asked, SIDES[other(client_id)].ours)


def signed_by(asked: Asked, key: str) -> bool:
    client_id, at = asked.headers["Client-Id"], asked.headers["Request-Time"]
    signed = Signed(asked.path, client_id, at, asked.body)
    try:
        verify(signed, asked.headers["Signature"], client_id=client_id, keys={1: public_key(key)})
    except Untrusted:
        return False
    return True


# Commands

COMMANDS = {
    "payment.cancel": "cancelled",
    "payment.forget": "forgotten",
    "payment.recheck": "pending",
}


@BOTH
@pytest.mark.parametrize("type_", COMMANDS)
async def test_a_command_is_about_the_account_that_it_names_alone(
    deploy: Settle, client_id: str, type_: str
) -> None:
    name = f"{OWN_ANSWER}-1"
    async with two_gateways(lambda each: answers(each, "PROCESSING")) as gateways:
        deployment = deploy([gateway.url for gateway in gateways], RECONCILER_SCHEDULE="600")
        async with working(deployment):
            for each in SIDES:
                await deployment.track(each, name)
            await deployment.is_tracked(name)
            left = deployment.keys.payment(f"{other(client_id)}:{name}")
            before = await deployment.redis.hgetall(left)
            stories = [deployment.keys.timeline(f"{each}:{name}") for each in SIDES]
            lengths = [await deployment.redis.llen(story) for story in stories]
            await deployment.command(type_, name, client_id)
            await deployment.becomes(client_id, name, COMMANDS[type_])

            async def heard_of() -> bool:
                now = [await deployment.redis.llen(story) for story in stories]
                at = list(SIDES).index(client_id)
                return bool(now[at] > lengths[at])

            await until(heard_of)
        assert await deployment.redis.hgetall(left) == before
        assert await deployment.told(other(client_id)) == []
        assert {event["clientId"] for event in await deployment.told()} <= {client_id}


@pytest.mark.parametrize("type_", ["payment.track", *COMMANDS])
@pytest.mark.parametrize(
    ("client_id", "reason"), [(None, "malformed"), ("SANDBOX_C", "unknown_account")]
)
async def test_a_command_that_names_no_account_of_ours_is_rejected_and_touches_none(
    deploy: Settle, type_: str, client_id: str | None, reason: str
) -> None:
    name = f"{OWN_ANSWER}-1"
    async with two_gateways(lambda each: answers(each, "PROCESSING")) as gateways:
        deployment = deploy([gateway.url for gateway in gateways], RECONCILER_SCHEDULE="600")
        async with working(deployment):
            for each in SIDES:
                await deployment.track(each, name)
            await deployment.is_tracked(name)
            records_of = [deployment.keys.payment(f"{each}:{name}") for each in SIDES]
            before = [await deployment.redis.hgetall(record) for record in records_of]
            if type_ == "payment.track":
                await client.track(
                    deployment.redis,
                    name,
                    "USD",
                    599,
                    client_id=client_id,
                    prefix=deployment.keys.prefix,
                )
            else:
                await deployment.command(type_, name, client_id)
            await until(deployment.told)
        [event] = await deployment.told()
        assert event["type"] == "command.rejected"
        assert json.loads(event["data"])["data"]["reason"] == reason
        assert [await deployment.redis.hgetall(record) for record in records_of] == before


# The brake


@BOTH
async def test_the_brake_of_one_account_does_not_hold_the_cancels_of_the_other(
    deploy: Settle, client_id: str
) -> None:
    """One gateway knows no payment at all, as with a wrong client id; the other knows them."""

    def answer(each: str) -> Callable[[Asked], Awaitable[web.StreamResponse]]:
        known = answers(each, "PROCESSING")

        async def missing(asked: Asked) -> web.StreamResponse:
            code = {"resultCode": "ORDER_NOT_EXIST", "resultStatus": "F", "resultMessage": "none"}
            key = SIDES[each].theirs
            return signed_answer(asked.path, {"result": code}, client_id=each, key=key)

        return missing if each == client_id else known

    names = [f"{OWN_ANSWER}-{number}" for number in range(4)]
    async with two_gateways(answer) as gateways:
        urls = [gateway.url for gateway in gateways]
        own = {"cancel_brake": 2, "cancel_schedule": [0.2]}
        deployment = deploy(urls, own, own)
        async with working(deployment):
            for each, name in product(SIDES, names):
                await deployment.track(each, name, expires_in=1)
            for name in names:
                await deployment.becomes(other(client_id), name, "cancelled")

            async def braked() -> bool:
                found = [await deployment.status(client_id, name) for name in names]
                return "unresolved" in found

            await until(braked)
    misses = await deployment.redis.hgetall(deployment.keys.brake)
    assert int(misses[client_id]) >= 2
    assert int(misses.get(other(client_id), 0)) == 0
    told = {event["type"] for event in await deployment.told(other(client_id))}
    assert "payment.unresolved" not in told


# All together


def mock_of(client_id: str, notify_url: str) -> MockConfig:
    side = SIDES[client_id]
    return MockConfig(
        client_id=client_id,
        gateway_private_key=private_key(side.theirs),
        attacker_private_key=private_key("attacker"),
        merchant_public_keys={1: public_key(side.ours)},
        notify_url=notify_url,
        time_scale=0.02,
        seed=int(client_id[-1]),
        default_closing_seconds=2,
    )


SCENARIOS = (
    "paid",
    "failed",
    "never_paid",
    "paid_notification_lost",
    "notification_before_track",
    "forged_notification",
)
ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)
#: The same names in both accounts, with another fate in each.
FATES = {
    f"order-{number}": {A: one, B: two}
    for number, (one, two) in enumerate(
        (one, two) for one, two in product(SCENARIOS, SCENARIOS) if one != two
    )
}


async def test_payments_of_the_same_names_end_in_each_account_as_its_own_gateway_says(
    deploy: Settle,
) -> None:
    async with AsyncExitStack() as stack:
        ports = {}
        placeholder = deploy(["http://127.0.0.1:1", "http://127.0.0.1:1"])
        port = await stack.enter_async_context(receiving(placeholder))
        for client_id, side in SIDES.items():
            mock: RunningMock = await start(
                mock_of(client_id, f"http://127.0.0.1:{port}{side.path}")
            )
            stack.push_async_callback(mock.close)
            ports[client_id] = mock
        own = {"cancel_schedule": [0.2, 0.5], "cancel_quiet_seconds": 1, "aftercare_schedule": [60]}
        deployment = deploy(
            [mock.url for mock in ports.values()], own, own, NOT_FOUND_SETTLE_SECONDS="1"
        )
        ledgers = {client_id: mock.ledger for client_id, mock in ports.items()}
        async with working(deployment):
            for name, client_id in product(FATES, SIDES):
                fate = FATES[name][client_id]
                ledgers[client_id].create(name, Money("USD", 599), now_ms(), scenario=fate)
                await deployment.track(client_id, name, expires_in=2)

            async def all_ended() -> bool:
                return await open_payments(deployment) == 0

            await until(all_ended, seconds=60)
        await check(deployment, ledgers)


async def open_payments(deployment: Deployment) -> int:
    """How many have not ended, those not tracked yet among them."""
    async with deployment.redis.pipeline(transaction=False) as pipe:
        for client_id, name in product(SIDES, FATES):
            pipe.hget(deployment.keys.payment(f"{client_id}:{name}"), "status")
        found = await pipe.execute()
    return sum(status not in ENDED for status in found)


async def check(deployment: Deployment, ledgers: dict[str, Ledger]) -> None:
    everything = await deployment.everything()
    for client_id, ledger in ledgers.items():
        truths = {truth.payment_request_id: truth for truth in ledger.truths(now_ms())}
        assert set(truths) == set(FATES)  # no question about a payment that only the other has
        told = await deployment.told(client_id)
        for name, fate in FATES.items():
            truth, key = truths[name], f"{client_id}:{name}"
            record = records.from_hash(everything[deployment.keys.payment(key)])
            assert agrees(record.status.value, truth), (key, fate[client_id], record.status)
            ends = [e["id"] for e in told if e["id"] == f"{key}:{record.status.value}"]
            assert len(ends) == 1, key
            assert truth.forgeries_acked == 0
        foreign = f'"{other(client_id)}'
        ids = [
            ledgers[other(client_id)].create(n, Money("USD", 599), now_ms()).payment_id
            for n in FATES
        ]
        mine = json.dumps([str(everything[name]) for name in everything if client_id in name])
        assert foreign not in mine
        assert not [id_ for id_ in ids if id_ in mine]
