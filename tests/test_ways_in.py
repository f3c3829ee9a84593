"""However a command comes in, the same becomes of it: one code path."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from arq.connections import ArqRedis
from redis.asyncio import Redis

from tests.keys import CLIENT_ID
from tests.servers import (
    Asked,
    ScriptedGateway,
    environ,
    free_port,
    get,
    inquired,
    scripted_gateway,
    signed_answer,
    until,
)
from tests.test_submission import ORDER
from worker import cli, client, connect, queue, views
from worker.arq_jobs import COMMAND_JOBS
from worker.keys import Keys
from worker.main import run_worker
from worker.settings import SETTINGS, load

pytestmark = pytest.mark.once  # each with a whole worker

TOKEN = "a-token-of-20-signs!"
S = {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"}
Data = dict[str, Any]
Way = Callable[["Shop", str, Data], Awaitable[str]]


async def unpaid(asked: Asked) -> Any:
    """A gateway where nobody pays, every order is made and every cancel is done."""
    name = json.loads(asked.body)["paymentRequestId"]
    if asked.path.endswith("/inquiryPayment"):
        return signed_answer(asked.path, inquired(name, "PROCESSING"))
    form = {"redirectActionForm": {"method": "GET", "redirectUrl": "https://pay.example/x"}}
    amount = {"currency": "USD", "value": "599"}
    about = {"paymentRequestId": name, "paymentId": f"2026{name}", "paymentAmount": amount}
    return signed_answer(asked.path, {"result": S, **about, **form})


@dataclass
class Shop:
    """A merchant, a worker that runs, and a gateway."""

    redis: Redis
    arq: ArqRedis
    keys: Keys
    gateway: ScriptedGateway
    port: int
    read: Callable[[], Any]
    folder: Path

    async def outcome(self, id_: str) -> dict[str, Any]:
        """The event with this id, once it is there."""

        async def found() -> dict[str, Any] | None:
            entries = await self.redis.xrange(self.keys.outcomes)
            return next((fields for _, fields in entries if fields["id"] == id_), None)

        event: dict[str, Any] = json.loads((await until(found))["data"])
        return event

    async def seen(self, name: str) -> dict[str, Any] | None:
        return await views.look_up(self.redis, self.keys.prefix, CLIENT_ID, name)

    async def record(self, name: str, **wanted: str) -> dict[str, Any]:
        """The payment's record, once it holds this; and what stands in its timeline."""

        async def holds() -> dict[str, Any] | None:
            seen = await self.seen(name)
            return seen if seen and wanted.items() <= seen["payment"].items() else None

        found: dict[str, Any] = await until(holds)
        return found

    def inquiries(self, name: str) -> int:
        asked = [one for one in self.gateway.asked if one.path.endswith("/inquiryPayment")]
        return sum(json.loads(one.body).get("paymentRequestId") == name for one in asked)


@pytest.fixture
async def shop(
    redis_url: str,
    redis: Redis,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    tmp_path: Path,
) -> AsyncIterator[Shop]:
    keys, port, stopping = Keys(prefix), free_port(), asyncio.Event()
    arq = ArqRedis(
        connection_pool=connect.pool(redis_url, tries=1),
        job_serializer=queue.serialize,
        job_deserializer=queue.deserialize,
        default_queue_name=keys.queue,
    )
    async with scripted_gateway() as gateway:
        gateway.answer = unpaid
        given = environ(redis_url, prefix, gateway.url, RECONCILER_SCHEDULE="600")
        given |= {"WORKER_ADMIN_PORT": str(port), "ADMIN_TOKEN": TOKEN, "DURABILITY": "memory"}
        given |= {"ALIPAY_NOTIFY_URL": "https://shop.example/notify"}
        for entry in SETTINGS:
            monkeypatch.delenv(entry.name, raising=False)
        for name in ("REDIS_URL", "RECONCILER_KEY_PREFIX", "ALIPAY_CLIENT_ID"):
            monkeypatch.setenv(name, given[name])
        worker = asyncio.create_task(run_worker(load(given), stopping))
        await until(lambda: _ready(port))
        yield Shop(redis, arq, keys, gateway, port, capsys.readouterr, tmp_path)
        stopping.set()
        await worker
    await arq.connection_pool.disconnect()


async def _ready(port: int) -> bool:
    try:
        return (await get(port, "/readyz")).status == 200
    except OSError:
        return False


# The ways; each gives the command's id, by which a rejection names it


async def plain_fields(shop: Shop, type_: str, data: Data) -> str:
    fields: dict[Any, Any] = {"type": type_, "data": json.dumps(data), "id": "a note"}
    return str(await shop.redis.xadd(shop.keys.commands, fields))


async def lone_data(shop: Shop, type_: str, data: Data) -> str:
    about = {"specversion": "1.0", "id": "4711", "source": "/shop", "type": type_}
    event = json.dumps(about | {"data": data})
    return str(await shop.redis.xadd(shop.keys.commands, {"data": event}))


async def binary_mode(shop: Shop, type_: str, data: Data) -> str:
    fields = {"ce_specversion": "1.0", "ce_type": type_, "ce_id": "4711", "data": json.dumps(data)}
    return str(await shop.redis.xadd(shop.keys.commands, fields))  # type: ignore[arg-type]


async def python_client(shop: Shop, type_: str, data: Data) -> str:
    name, prefix = data["paymentRequestId"], shop.keys.prefix
    verb = getattr(client, type_.removeprefix("payment."))
    if "paymentAmount" not in data:
        return str(await verb(shop.redis, name, reason=data.get("reason"), prefix=prefix))
    amount = data["paymentAmount"]
    form = [data["order"]] if "order" in data else []
    told = {"expires_in": data.get("expiresIn"), "reference": data.get("reference")}
    words = (amount["currency"], int(amount["value"]), *form)
    return str(await verb(shop.redis, name, *words, **told, prefix=prefix))


async def arq_job(shop: Shop, type_: str, data: Data) -> str:
    [name] = [name for name, each in COMMAND_JOBS.items() if each == type_]
    job = await shop.arq.enqueue_job(name, data)
    assert job
    return job.job_id


async def http(shop: Shop, type_: str, data: Data) -> str:
    name, verb = data["paymentRequestId"], type_.removeprefix("payment.")
    path = {"track": "", "submit": "/submit"}.get(verb, f"/{name}/{verb}")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"http://127.0.0.1:{shop.port}/v1/payments{path}"
    async with ClientSession(headers=headers) as session, session.post(url, json=data) as answer:
        said = await answer.json()
        assert answer.status == 202, said
    assert (said["paymentRequestId"], said["clientId"]) == (name, CLIENT_ID)
    return str(said["commandId"])


async def command_line(shop: Shop, type_: str, data: Data) -> str:
    code, said = await run(shop, *in_words(type_, data))
    assert code == 0, said
    return str(said["command"])


def in_words(type_: str, data: Data) -> list[str]:
    verb = type_.removeprefix("payment.")
    if verb == "track":
        amount = data["paymentAmount"]
        words = [data["paymentRequestId"], "--amount", f"{amount['currency']}:{amount['value']}"]
        flags = {"--expires-in": data.get("expiresIn"), "--reference": data.get("reference")}
    elif verb == "submit":
        return [verb, "--data", json.dumps(data)]
    else:
        words, flags = [data["paymentRequestId"]], {"--reason": data.get("reason")}
    return [verb, *words, *(str(x) for f in flags.items() if f[1] is not None for x in f)]


async def run(shop: Shop, *words: str) -> tuple[int, Any]:
    """The exit code and the output of one command, or what it said was wrong."""
    words = (*words, "--json")
    if words[:2] == ("submit", "--data"):
        file = shop.folder / "data.json"
        file.write_text(words[2], "utf-8")
        words = (*words[:2], str(file), *words[3:])
    code = await asyncio.to_thread(cli.main, ["--env-file", os.devnull, *words])
    out, err = shop.read()
    faults = [line for line in err.splitlines() if line.startswith("reconciler: ")]
    return code, json.loads(out) if out else faults


WAYS: list[Way] = [
    plain_fields,
    lone_data,
    binary_mode,
    python_client,
    arq_job,
    http,
    command_line,
]
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


# What becomes of it


def tracking(name: str, **more: Any) -> Data:
    amount = {"currency": "USD", "value": "599"}
    return {"paymentRequestId": name, "paymentAmount": amount, "expiresIn": 900} | more


def told(seen: dict[str, Any]) -> list[str]:
    """The commands in a payment's timeline."""
    lines = [line for line in seen["timeline"] if line["source"] == "command"]
    return [f"{line['what']} {line['detail']}".strip() for line in lines]


@each_way
async def test_every_command_does_the_same_however_it_comes(shop: Shop, way: Way) -> None:
    await way(shop, "payment.track", tracking("order-1", reference="支付 7"))
    tracked = await shop.record("order-1", status="pending", reference="支付 7", amount="599")
    assert told(tracked) == ["payment.track USD 599"]
    assert shop.inquiries("order-1") == 0

    await way(shop, "payment.recheck", {"paymentRequestId": "order-1", "reason": "buyer asks"})
    asked = await shop.record("order-1", attempts="1")
    assert told(asked) == ["payment.track USD 599", "payment.recheck buyer asks"]
    assert shop.inquiries("order-1") == 1

    await way(shop, "payment.cancel", {"paymentRequestId": "order-1", "reason": "sold out"})
    ended = await shop.record("order-1", status="cancelled", cause="requested")
    assert told(ended)[2:] == ["payment.cancel sold out"]
    event = await shop.outcome(f"{CLIENT_ID}:order-1:cancelled")
    assert (event["data"]["via"], event["data"]["reference"]) == ("cancel", "支付 7")

    await way(shop, "payment.track", tracking("order-2"))
    await way(shop, "payment.forget", {"paymentRequestId": "order-2", "reason": "a test"})
    forgotten = await shop.record("order-2", status="forgotten")
    assert told(forgotten) == ["payment.track USD 599", "payment.forget a test"]
    await shop.outcome(f"{CLIENT_ID}:order-2:forgotten")


@each_way
async def test_a_payment_is_submitted_however_that_is_asked_for(shop: Shop, way: Way) -> None:
    await way(shop, "payment.submit", tracking("order-1", order=ORDER))
    event = await shop.outcome(f"{CLIENT_ID}:order-1:submitted")
    assert event["data"]["redirectUrl"] == "https://pay.example/x"
    assert (event["data"]["status"], event["data"]["via"]) == ("pending", "pay")


@each_way
async def test_what_cannot_be_carried_out_is_answered_under_the_id_that_was_given(
    shop: Shop, way: Way
) -> None:
    await way(shop, "payment.track", tracking("order-1"))
    await shop.record("order-1", status="pending")
    dearer = tracking("order-1", paymentAmount={"currency": "USD", "value": "600"})
    command_id = await way(shop, "payment.track", dearer)
    event = await shop.outcome(f"command:{command_id}")
    rejected = event["data"]
    assert (rejected["command"], rejected["reason"]) == ("payment.track", "conflict")
    assert (rejected["clientId"], rejected["paymentRequestId"]) == (CLIENT_ID, "order-1")
    assert rejected["commandId"] == command_id
    seen = await shop.seen("order-1")
    assert seen and seen["payment"]["amount"] == "599"


@each_way
async def test_a_mistake_is_answered_in_the_same_words(shop: Shop, way: Way) -> None:
    """At once where somebody waits for an answer, else by an outcome."""
    mistake = {"paymentRequestId": "order-1", "reason": "x" * 257}
    message = "reason: write at most 256 characters"
    if way is http:
        with pytest.raises(AssertionError, match=message):
            await way(shop, "payment.cancel", mistake)
    elif way is command_line:
        code, said = await run(shop, *in_words("payment.cancel", mistake))
        assert (code, said) == (2, [f"reconciler: {message}"])
    else:
        command_id = await way(shop, "payment.cancel", mistake)
        event = await shop.outcome(f"command:{command_id}")
        assert (event["data"]["reason"], event["data"]["message"]) == ("malformed", message)
        return
    assert await shop.redis.xlen(shop.keys.commands) == 0


# Waiting for it


async def test_who_gives_a_command_on_the_command_line_may_wait_until_it_is_done(
    shop: Shop,
) -> None:
    for name in ("order-1", "order-2"):
        await plain_fields(shop, "payment.track", tracking(name))
        await shop.record(name, status="pending")
    code, said = await run(shop, "recheck", "order-1", "--wait", "20")
    assert (code, said["result"], said["status"]) == (0, "done", "pending")
    assert shop.inquiries("order-1") == 1
    code, said = await run(shop, "cancel", "order-1", "--wait", "20")
    assert (code, said["result"], said["status"]) == (0, "done", "cancelled")
    code, said = await run(shop, "forget", "order-2", "--wait", "20")
    assert (code, said["result"], said["status"]) == (0, "done", "forgotten")
    code, said = await run(shop, "forget", "order-2", "--wait", "20")
    assert (code, said["result"], said["message"]) == (0, "done", "its record is erased")
    assert await shop.seen("order-2") is None


async def test_who_waits_is_told_that_it_is_rejected_and_why(shop: Shop) -> None:
    await plain_fields(shop, "payment.track", tracking("order-1"))
    await plain_fields(shop, "payment.forget", {"paymentRequestId": "order-1"})
    await shop.record("order-1", status="forgotten")
    code, said = await run(shop, "recheck", "order-1", "--wait", "20")
    assert (code, said["result"], said["reason"]) == (1, "rejected", "already_final")
    assert said["message"] == "already_final: the payment is no longer followed"


async def test_who_waits_is_told_that_the_payment_has_ended_otherwise(shop: Shop) -> None:
    async def paid(asked: Asked) -> Any:
        name = json.loads(asked.body)["paymentRequestId"]
        return signed_answer(asked.path, inquired(name, "SUCCESS"))

    shop.gateway.answer = paid
    await plain_fields(shop, "payment.track", tracking("order-1"))
    await plain_fields(shop, "payment.recheck", {"paymentRequestId": "order-1"})
    await shop.record("order-1", status="succeeded")
    code, said = await run(shop, "cancel", "order-1", "--wait", "20")
    assert (code, said["result"], said["reason"]) == (1, "rejected", "already_final")
    assert said["advice"] == "refund"


async def test_who_waits_in_vain_is_told_so(shop: Shop) -> None:
    """There is no such payment: the command waits a minute for it."""
    code, said = await run(shop, "forget", "order-1", "--wait", "0.3")
    assert (code, said["result"], said["status"]) == (4, "waiting", "")
    assert await shop.redis.xlen(shop.keys.commands) == 1


async def test_who_submits_may_wait_for_where_to_send_the_buyer(shop: Shop) -> None:
    words = in_words("payment.submit", tracking("order-1", order=ORDER))
    for _ in range(2):  # the same again is told again
        code, said = await run(shop, *words, "--wait", "20")
        assert (code, said["redirectUrl"]) == (0, "https://pay.example/x")


async def test_an_end_from_before_is_not_taken_for_what_became_of_a_submit(shop: Shop) -> None:
    """Under the id of a payment that has ended another order is refused, and the same one told."""
    words = in_words("payment.submit", tracking("order-1", order=ORDER))
    code, _ = await run(shop, *words, "--wait", "20")
    assert code == 0
    await plain_fields(shop, "payment.cancel", {"paymentRequestId": "order-1"})
    await shop.record("order-1", status="cancelled")
    dearer = {"currency": "USD", "value": "600"}
    other = tracking("order-1", order=ORDER | {"orderAmount": dearer}, paymentAmount=dearer)
    code, said = await run(shop, *in_words("payment.submit", other), "--wait", "20")
    assert (code, said["result"], said["reason"]) == (1, "rejected", "conflict")
    code, said = await run(shop, *words, "--wait", "20")
    assert (code, said["result"], said["status"]) == (1, "ended", "cancelled")
