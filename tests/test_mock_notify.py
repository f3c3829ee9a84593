"""`reconciler mock-notify` against our own receiver: what it sends, and what the answer means."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from tests.keys import CLIENT_ID
from tests.servers import receiving
from worker import cli, connect
from worker.keys import Keys
from worker.mock_gateway.command import make_keys
from worker.signature import load_public_key
from worker.store import Store

pytestmark = pytest.mark.once

ID = f"{CLIENT_ID}:order-1"


@dataclass
class Line:
    """The command as typed, and the receiver that it talks to."""

    url: str
    folder: Path
    redis: Redis
    keys: Keys
    read: Any

    async def __call__(self, *words: str, url: str = "") -> tuple[int, str, str]:
        command = ["mock-notify", url or self.url, "--id", "order-1"]
        code = await asyncio.to_thread(cli.main, [*command, "--keys", str(self.folder), *words])
        out, err = self.read()
        return code, out, "".join(x for x in err.splitlines(True) if x.startswith("reconciler:"))

    async def mail(self) -> list[dict[str, Any]]:
        raw: list[str] = await self.redis.lrange(self.keys.inbox(ID), 0, -1)  # type: ignore[misc]
        return [json.loads(json.loads(entry)["body"]) for entry in raw]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mock") / "keys"
    make_keys(made)
    return made


@pytest.fixture
async def line(
    redis: Redis, redis_url: str, prefix: str, folder: Path, capsys: Any
) -> AsyncIterator[Line]:
    keys = Keys(prefix)
    believed = {CLIENT_ID: {1: load_public_key((folder / "gateway.pub").read_text())}}
    async with (
        connect.client(redis_url) as client,
        receiving(Store(client, keys), keys=believed) as port,
    ):
        yield Line(f"http://127.0.0.1:{port}/notify", folder, redis, keys, capsys.readouterr)


async def test_a_genuine_notification_is_acknowledged_and_kept(line: Line) -> None:
    code, out, err = await line("--amount", "JPY:1200", "--payment-id", "2026")
    assert (code, err) == (0, "")
    status, means = out.splitlines()
    assert status.startswith('HTTP 200  {"result":{"resultCode":"SUCCESS"')
    assert means == "acknowledged: the gateway would not send it again"
    [said] = await line.mail()
    assert said["paymentAmount"] == {"currency": "JPY", "value": "1200"}
    assert (said["paymentId"], said["result"]["resultStatus"]) == ("2026", "S")


@pytest.mark.parametrize(
    ("words", "kind", "status"),
    [
        (["--result", "F"], "PAYMENT_RESULT", "F"),
        (["--result", "U"], "PAYMENT_RESULT", "U"),
        (["--kind", "PAYMENT_PENDING"], "PAYMENT_PENDING", "S"),
        (["--skew", "10m"], "PAYMENT_RESULT", "S"),
        (["--skew", "+10m"], "PAYMENT_RESULT", "S"),
    ],
)
async def test_every_kind_of_news_may_be_sent(
    line: Line, words: list[str], kind: str, status: str
) -> None:
    assert (await line(*words))[0] == 0
    [said] = await line.mail()
    assert (said["notifyType"], said["result"]["resultStatus"]) == (kind, status)


async def test_the_same_message_twice_is_acknowledged_twice_and_kept_once(line: Line) -> None:
    code, out, _ = await line("--twice", "--json")
    assert (code, [a["acknowledged"] for a in json.loads(out)]) == (0, [True, True])
    assert len(await line.mail()) == 1


async def test_a_forgery_ends_well_where_it_is_refused(line: Line) -> None:
    code, out, _ = await line("--bad-signature")
    assert code == 0
    assert "refused (sig_mismatch: the signature does not match the message)" in out
    assert await line.mail() == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--client-id", "SANDBOX_OTHER"], "refused (client_id"),
        (["--key-version", "9"], "refused (key_version"),
        (["--signed-path", "/other"], "refused (sig_mismatch"),
    ],
)
async def test_what_the_receiver_does_not_believe_is_a_failure_that_says_why(
    line: Line, words: list[str], why: str
) -> None:
    code, out, _ = await line(*words)
    assert code == 1
    assert why in out


async def test_a_foreign_server_is_known_as_one(line: Line) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/thanks":
            return web.Response(text="thanks")
        return web.Response(status=int(request.path[1:]), text="?")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        for path, wanted in (
            ("/thanks", "HTTP 200 without an acknowledgement"),
            ("/404", "refused (not by a receiver of ours)"),
            ("/503", "not kept"),
            ("/302", "HTTP 302: no answer of a receiver"),
        ):
            code, out, _ = await line(url=base + path)
            assert (code, wanted in out) == (1, True), out
            assert (await line("--bad-signature", url=f"{base}/thanks"))[0] == 1
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("http://127.0.0.1:1/notify", 4, "nobody answers at http://127.0.0.1:1/notify: "),
        ("nonsense", 2, "nonsense is no URL"),
    ],
)
async def test_nobody_to_send_it_to_is_told(line: Line, url: str, code: int, says: str) -> None:
    ended, out, err = await line(url=url)
    assert (ended, out) == (code, "")
    assert says in err


async def test_keys_of_a_shop_are_not_used(line: Line, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    code, _, err = await line("--keys", str(tmp_path / "shop"))
    assert code == 2
    assert "was not made by the mock gateway" in err
