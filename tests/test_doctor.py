"""Whatever is planted wrong, the doctor finds: in the line of that check, with what to do about it.

Nothing is pretended: servers have the wrong configuration, users lack rights, keys are others',
certificates have expired, proxies strip headers. And where all is well, it says just that.
"""

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from redis.asyncio import Redis

from jobs.model import Money, Payment
from tests.accounts import SIDES, A, B, Side, account, environ_with, write_accounts
from tests.faults.test_times import FAKETIME, LIBRARY
from tests.keys import CLIENT_ID, key_text, private_key, public_key
from tests.servers import (
    bare,
    certificate,
    debian_redis,
    environ,
    now_ms,
    own_server,
    put,
    receiving,
    reconciler,
    scripted_gateway,
    signed_answer,
)
from tests.test_acl import FILE, filled
from worker import connect
from worker.deliveries import Delivery, callback_lane, write
from worker.doctor import Check, Patient, Verdict, examine
from worker.doctor.check import report
from worker.keys import Keys
from worker.mock_gateway import MockConfig, start
from worker.receiving import tls_context
from worker.rights import Role
from worker.signature import private_text
from worker.store import Store

pytestmark = pytest.mark.once  # what is under test is not Python

OK, WARNING, FAILED, SKIPPED = Verdict
K = Keys()
HOUR, DAY = 3_600_000, 86_400_000


@dataclass
class World:
    """A deployment where all is well: Valkey, a gateway, a receiver that the gateway reaches."""

    url: str
    redis: Redis
    gateway: str
    port: int
    folder: Path
    stack: AsyncExitStack
    dotenv: Path | None = None
    trusted: list[Path] = field(default_factory=list)

    def given(self, **changed: str) -> dict[str, str]:
        good = {
            "ALIPAY_NOTIFY_URL": f"http://127.0.0.1:{self.port}/notify",
            "RECEIVER_PORT": str(self.port),
            "OUTCOME_GROUPS": "shop",
        }
        return environ(self.url, K.prefix, self.gateway, **(good | changed))

    async def examine(self, **changed: str) -> list[Check]:
        return await examine(Patient(environ=self.given(**changed), dotenv=self.dotenv))

    async def enter(self, context: AbstractAsyncContextManager[Any]) -> Any:
        return await self.stack.enter_async_context(context)

    async def serves(self, answer: Callable[[web.Request], Any], tls: Any = None) -> str:
        """The origin of a server where every request is answered so."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        return f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with own_server() as server:
        yield server.url


@pytest.fixture
async def world(server_url: str, tmp_path: Path) -> AsyncIterator[World]:
    config = MockConfig(
        client_id=CLIENT_ID,
        gateway_private_key=private_key("alipay_v1"),
        attacker_private_key=private_key("attacker"),
        merchant_public_keys={1: public_key("merchant_v1")},
    )
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connect.client(server_url))
        await redis.flushall()
        await redis.set(K.canary, "2026-01-01")
        mock = await start(config)
        stack.push_async_callback(mock.close)
        port = await stack.enter_async_context(receiving(Store(redis, K)))
        yield World(server_url, redis, mock.url, port, tmp_path, stack)


def found(checks: Sequence[Check]) -> list[tuple[str, Verdict]]:
    """All that is not well."""
    return [(check.what, check.verdict) for check in checks if check.verdict is not OK]


async def test_where_all_is_well_it_says_just_that(world: World) -> None:
    checks = await world.examine()
    assert found(checks) == []
    assert {check.what for check in checks} >= {
        *("settings", "world", "values", "keys", "port", "redis", "version", "persistence"),
        *("eviction", "clock", "memory", "state", "rights of the receiver", "rights of the worker"),
        *("sweep", "commands", "outcomes", "dead commands", "quarantine", "accounts"),
        *("gateway DNS", "gateway", "gateway clock", "notify URL"),
    }
    assert not any(check.fix for check in checks)
    assert report(checks).splitlines()[-1] == f"{len(checks)} ok"


async def test_behind_tls_all_is_well_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(world.folder, days=90)
    key.chmod(0o600)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    port = await world.enter(receiving(Store(world.redis, K), tls=tls_context(cert, key)))
    checks = await world.examine(
        ALIPAY_NOTIFY_URL=f"https://127.0.0.1:{port}/notify",
        RECEIVER_PORT=str(port),
        TLS_CERT_FILE=str(cert),
        TLS_KEY_FILE=str(key),
    )
    assert found(checks) == []
    assert {"certificate", "notify TLS", "files"} <= {check.what for check in checks}


# What is planted

Environment: TypeAlias = Mapping[str, str]
Plant: TypeAlias = Callable[[World], Any]  #: what it changes in the environment, awaited if needed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def setting(**changed: str) -> Plant:
    return lambda _: changed


def key_of_1024_bits(_: World) -> Environment:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    return {"ALIPAY_PRIVATE_KEY": private_text(short)}


def a_line_that_is_none(world: World) -> Environment:
    world.dotenv = world.folder / ".env"
    world.dotenv.write_text("ALIPAY_CLIENT_ID SANDBOX_1\n")
    return {}


def secret_file(mode: int) -> Plant:
    def plant(world: World) -> Environment:
        world.folder.chmod(0o755)
        file = world.folder / "merchant.key"
        file.write_text(key_text("merchant_v1", "private_pkcs8_b64"))
        file.chmod(mode)
        return {"ALIPAY_PRIVATE_KEY": "", "ALIPAY_PRIVATE_KEY_FILE": str(file)}

    return plant


def dotenv_for_all(world: World) -> Environment:
    world.folder.chmod(0o755)
    world.dotenv = world.folder / ".env"
    world.dotenv.write_text(f"ALIPAY_PRIVATE_KEY={key_text('merchant_v1', 'private_pkcs8_b64')}\n")
    world.dotenv.chmod(0o644)
    return {"ALIPAY_PRIVATE_KEY": ""}


def misspelt_in_dotenv(world: World) -> Environment:
    world.dotenv = world.folder / ".env"
    world.dotenv.write_text("ON_TIMEOT=report\nSHOP_NAME=x\n")
    return {}


# Redis


def redis_with(*options: str) -> Plant:
    async def plant(world: World) -> Environment:
        server = world.stack.enter_context(own_server(*options))
        if "--replicaof" not in options and "--cluster-enabled" not in options:
            async with connect.client(server.url) as redis:
                await redis.set(K.canary, "2026-01-01")
        return {"REDIS_URL": server.url}

    return plant


def user_without(*rights: str) -> Plant:
    async def plant(world: World) -> Environment:
        acl = ["ACL", "SETUSER", "u", "reset", "on", ">open-sesame", "~*", "&*", "+@all", *rights]
        await world.redis.execute_command(*acl)  # type: ignore[no-untyped-call]
        return {"REDIS_URL": f"{world.url}?username=u&password=open-sesame"}

    return plant


async def nearly_full(world: World) -> Environment:
    used = (await world.redis.info("memory"))["used_memory"]
    await world.redis.config_set("maxmemory", round(used / 0.9))
    world.stack.push_async_callback(world.redis.config_set, "maxmemory", 0)
    return {}


async def emptied(world: World) -> Environment:
    await world.redis.delete(K.canary)
    return {}


# What waits in Redis


async def swept_long_ago(world: World) -> Environment:
    await world.redis.set(K.swept, now_ms() - HOUR)
    return {}


async def commands_that_nobody_reads(world: World) -> Environment:
    entry: dict[Any, Any] = {"type": "payment.track", "data": "{}"}
    await world.redis.xadd(K.commands, entry, id=f"{now_ms() - HOUR}-0")
    await world.redis.xgroup_create(K.commands, "reconciler", "0")
    return {}


async def a_command_left_in_hand(world: World) -> Environment:
    await commands_that_nobody_reads(world)
    await world.redis.xreadgroup("reconciler", "dead", {K.commands: ">"})
    return {}


async def a_group_a_day_behind(world: World) -> Environment:
    entry_id = f"{now_ms() - 2 * DAY}-0"
    await world.redis.xadd(K.outcomes, {"id": "1"}, id=entry_id)
    await world.redis.xgroup_create(K.outcomes, "shop", "0")
    await world.redis.xreadgroup("shop", "me", {K.outcomes: ">"})
    return {}


async def a_group_that_never_read(world: World) -> Environment:
    await world.redis.xadd(K.outcomes, {"id": "1"})
    await world.redis.xgroup_create(K.outcomes, "old", "0")
    return {}


def an_entry_in(stream: str) -> Plant:
    async def plant(world: World) -> Environment:
        await world.redis.xadd(stream, {"type": "x"})
        return {}

    return plant


async def a_callback_of_yesterday(world: World) -> Environment:
    at, lane = now_ms() - 25 * HOUR, callback_lane(f"{CLIENT_ID}:order-1")
    one = Delivery(id="x", at=at, about="order-1", body=b"{}", url="https://shop.example/")
    await world.redis.rpush(K.delivery(lane), write(one))  # type: ignore[misc]
    await world.redis.zadd(K.deliveries, {lane: now_ms() + HOUR})
    return {}


def an_open_payment_of(client_id: str) -> Plant:
    async def plant(world: World) -> Environment:
        async with world.redis.pipeline() as pipe:
            payment = Payment(
                client_id=client_id,
                payment_request_id="order-1",
                amount=Money("USD", 599),
                tracked_at=1,
                closing_time=now_ms() + HOUR,
                next_at=now_ms() + HOUR,
            )
            put(pipe, K, payment)
            await pipe.execute()
        return {}

    return plant


# The gateway


def gateway_says(code: str) -> Plant:
    """It refuses, and signs no refusal."""

    async def plant(world: World) -> Environment:
        async def refuse(_: web.Request) -> web.Response:
            said = {"resultStatus": "F", "resultCode": code, "resultMessage": "no"}
            return web.json_response({"result": said})

        return {"ALIPAY_GATEWAY_URL": await world.serves(refuse)}

    return plant


def gateway_answers(status: int, **more: Any) -> Plant:
    async def plant(world: World) -> Environment:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, **more)

        return {"ALIPAY_GATEWAY_URL": await world.serves(answer)}

    return plant


def gateway_signs(code: str, status: str = "F", **how: Any) -> Plant:
    async def plant(world: World) -> Environment:
        gateway = await world.enter(scripted_gateway())

        async def answer(asked: Any) -> web.StreamResponse:
            said = {"result": {"resultStatus": status, "resultCode": code, "resultMessage": ""}}
            return signed_answer(asked.path, said, **how)

        gateway.answer = answer
        return {"ALIPAY_GATEWAY_URL": gateway.url}

    return plant


async def gateway_that_hangs(world: World) -> Environment:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(3)
        return web.Response()

    return {
        "ALIPAY_GATEWAY_URL": await world.serves(hang),
        "GATEWAY_TIMEOUT_SECONDS": "0.2",
    }


def gateway_clock_off_by(seconds: int) -> Plant:
    async def plant(world: World) -> Environment:
        config = MockConfig(
            client_id=CLIENT_ID,
            gateway_private_key=private_key("alipay_v1"),
            attacker_private_key=private_key("attacker"),
            merchant_public_keys={1: public_key("merchant_v1")},
            clock=lambda: now_ms() + seconds * 1000,
        )
        mock = await start(config)
        world.stack.push_async_callback(mock.close)
        return {"ALIPAY_GATEWAY_URL": mock.url}

    return plant


# The notify URL


def notify_answers(status: int, **more: Any) -> Plant:
    async def plant(world: World) -> Environment:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, **more)

        return {"ALIPAY_NOTIFY_URL": f"{await world.serves(answer)}/notify"}

    return plant


def proxy(path: str = "/notify", **changed: str | None) -> Plant:
    """A proxy before our receiver that changes the path or headers; None strips one."""

    async def plant(world: World) -> Environment:
        session = await world.enter(aiohttp.ClientSession())
        names = {name.replace("_", "-"): value for name, value in changed.items()}

        async def forward(request: web.Request) -> web.Response:
            kept = {n: v for n, v in request.headers.items() if n not in (*names, "Host")}
            headers = kept | {name: value for name, value in names.items() if value is not None}
            url = f"http://127.0.0.1:{world.port}{path}"
            async with session.post(url, data=await request.read(), headers=headers) as reply:
                body = await reply.read()
                return web.Response(status=reply.status, body=body, content_type="application/json")

        return {"ALIPAY_NOTIFY_URL": f"{await world.serves(forward)}/notify"}

    return plant


def receiver_with(**trusted: Any) -> Plant:
    async def plant(world: World) -> Environment:
        port = await world.enter(receiving(Store(world.redis, K), **trusted))
        return {"ALIPAY_NOTIFY_URL": f"http://127.0.0.1:{port}/notify", "RECEIVER_PORT": str(port)}

    return plant


def certified(days: int, address: str = "127.0.0.1", trusted: bool = True) -> Plant:
    """The receiver behind TLS."""

    async def plant(world: World) -> Environment:
        cert, key = certificate(world.folder, days, IPv4Address(address))
        if trusted:
            world.trusted.append(cert)
        port = await world.enter(receiving(Store(world.redis, K), tls=tls_context(cert, key)))
        return {"ALIPAY_NOTIFY_URL": f"https://127.0.0.1:{port}/notify"}

    return plant


# This machine


def own_certificate(days: int = 90, other_key: bool = False) -> Plant:
    def plant(world: World) -> Environment:
        cert, key = certificate(world.folder, days)
        if other_key:
            text = key_text("merchant_v1", "private_pkcs8_b64")
            key.write_text(f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
        key.chmod(0o600)
        return {
            "TLS_CERT_FILE": str(cert),
            "TLS_KEY_FILE": str(key),
            "RECEIVER_PORT": str(free_port()),
        }

    return plant


async def port_of_another(world: World) -> Environment:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    return {"RECEIVER_PORT": (await world.serves(answer)).rpartition(":")[2]}


async def admin_port_of_another(world: World) -> Environment:
    return {"WORKER_ADMIN_PORT": (await port_of_another(world))["RECEIVER_PORT"]}


GONE = f"127.0.0.1:{free_port()}"
OUR_PUBLIC_HALF = key_text("merchant_v1", "public_x509_b64")
ATTACKERS = key_text("attacker", "private_pkcs8_b64")

#: What is planted; the check that finds it; words of what it saw, and of what to do.
TABLE: list[tuple[str, Plant, str, Verdict, str, str]] = [
    # settings
    ("no client id", setting(ALIPAY_CLIENT_ID=""), "settings", FAILED, "ALIPAY_CLIENT_ID is not set", "set it"),
    ("a misspelt name", setting(ALIPAY_PUBLIC_KEYS="", ALIPAY_PUBLIC_KEY="x"), "settings", FAILED, "ALIPAY_PUBLIC_KEY is unknown", "did you mean ALIPAY_PUBLIC_KEYS"),
    ("a misspelt name of what has a default", misspelt_in_dotenv, "names", WARNING, "ON_TIMEOT is no setting", "call it ON_TIMEOUT"),
    ("the same in the environment", setting(ON_TIMEOT="report", REDIS_URI="x"), "names", WARNING, "ON_TIMEOT is no setting", "call it ON_TIMEOUT"),
    ("a value that is none", setting(DURABILITY="always"), "settings", FAILED, "DURABILITY='always'", "give fsync, replica:N"),
    ("a key that is none", setting(ALIPAY_PRIVATE_KEY="garbage!"), "settings", FAILED, "ALIPAY_PRIVATE_KEY", "copy it again"),
    ("a key that is too short", key_of_1024_bits, "settings", FAILED, "ALIPAY_PRIVATE_KEY", "use one of 2048"),
    ("our own public key as the gateway's", setting(ALIPAY_PUBLIC_KEYS=OUR_PUBLIC_HALF), "settings", FAILED, "ALIPAY_PUBLIC_KEYS", "give the gateway's key"),
    ("a key and a file of it", setting(ALIPAY_PRIVATE_KEY_FILE="/x"), "settings", FAILED, "are both set", "keep one"),
    ("a line of .env that is none", a_line_that_is_none, "settings", FAILED, ".env, line 1, cannot be read", "write NAME=value"),
    ("a path that the receiver does not believe", setting(ALIPAY_NOTIFY_PATH="/other"), "settings", FAILED, "ALIPAY_NOTIFY_URL", "set ALIPAY_NOTIFY_PATH or ALIPAY_NOTIFY_SIGNED_PATH"),
    ("half of a certificate", setting(TLS_CERT_FILE="/etc/hostname"), "settings", FAILED, "belong together", "both or none"),
    # values
    ("a production account at a mock", setting(ALIPAY_CLIENT_ID="5X00"), "values", FAILED, "a production client id, and a gateway on this machine", "set ALIPAY_GATEWAY_URL"),
    ("a notify URL that is here, a gateway that is not", setting(ALIPAY_GATEWAY_URL="https://gateway.invalid"), "values", FAILED, "ALIPAY_NOTIFY_URL is on this machine", "https:// URL"),
    ("memory alone, elsewhere", setting(DURABILITY="memory", REDIS_URL="rediss://redis.invalid"), "values", FAILED, "DURABILITY=memory with a Redis on another machine", "DURABILITY=fsync"),
    ("memory alone, here", setting(DURABILITY="memory"), "values", WARNING, "a restart of Redis loses", "DURABILITY=fsync"),
    ("checks that only warn", setting(REDIS_CHECKS="warn"), "values", WARNING, "an unsafe Redis is used", "REDIS_CHECKS=refuse"),
    ("report mode", setting(ON_TIMEOUT="report"), "values", WARNING, "no payment is ever cancelled", "ON_TIMEOUT=cancel"),
    ("no time to pay", setting(ALIPAY_CLOSING_TIME_SECONDS="1"), "values", FAILED, "shorter than the first inquiry", "as your contract says"),
    ("little time to pay", setting(ALIPAY_CLOSING_TIME_SECONDS="30"), "values", WARNING, "under a minute", "840 is usual"),
    ("a quiet time that is none", setting(CANCEL_QUIET_SECONDS="1"), "values", FAILED, "CANCEL_QUIET_SECONDS is shorter", "CANCEL_QUIET_SECONDS=120"),
    ("cancels given up soon", setting(CANCEL_LIMIT_SECONDS="60"), "values", WARNING, "CANCEL_LIMIT_SECONDS", "86400"),
    ("no grace", setting(LAST_INQUIRY_GRACE_SECONDS="5"), "values", WARNING, "LAST_INQUIRY_GRACE_SECONDS", "900"),
    ("orders soon given up", setting(NOT_FOUND_SETTLE_SECONDS="5"), "values", WARNING, "NOT_FOUND_SETTLE_SECONDS", "600"),
    ("no brake", setting(CANCEL_BRAKE="0"), "values", WARNING, "every payment of the shop", "CANCEL_BRAKE=20"),
    ("logs that say little", setting(LOG_LEVEL="error"), "values", WARNING, "hides how payments end", "LOG_LEVEL=info"),
    ("records soon gone", setting(RETENTION_DAYS="2"), "values", WARNING, "under a week", "RETENTION_DAYS=35"),
    # this machine
    ("a key that all may read", secret_file(0o644), "files", WARNING, "may read the file of ALIPAY_PRIVATE_KEY_FILE", "chmod 640"),
    ("a key that all may change", secret_file(0o666), "files", FAILED, "may change the file of ALIPAY_PRIVATE_KEY_FILE", "chmod 600"),
    ("a .env that all may read", dotenv_for_all, "files", WARNING, "the file of the settings, ", "chmod 640"),
    ("a certificate with another key", own_certificate(other_key=True), "certificate", FAILED, "TLS_KEY_FILE is not the key", "made together"),
    ("a certificate that has expired", own_certificate(days=-2), "certificate", FAILED, "expired on", "renew it"),
    ("a certificate that expires", own_certificate(days=5), "certificate", WARNING, "in 5 days", "renew it"),
    ("another program on our port", port_of_another, "port", FAILED, "taken by another program", "RECEIVER_PORT"),
    ("any port", setting(RECEIVER_PORT="0"), "port", WARNING, "takes any port", "RECEIVER_PORT=8080"),
    ("another machine's address", setting(RECEIVER_HOST="192.0.2.1"), "port", FAILED, "no address of this machine", "set RECEIVER_HOST to one"),
    ("another program on the admin port", admin_port_of_another, "admin port of the worker", WARNING, "taken by another program", "WORKER_ADMIN_PORT"),
    ("an admin port for others without a token", setting(ADMIN_HOST="0.0.0.0", WORKER_ADMIN_PORT="9102"), "settings", FAILED, "ADMIN_HOST=0.0.0.0", "ADMIN_TOKEN"),
    ("one port for two", lambda _: dict.fromkeys(("RECEIVER_ADMIN_PORT", "WORKER_ADMIN_PORT"), str(free_port())), "port", FAILED, "RECEIVER_ADMIN_PORT and WORKER_ADMIN_PORT", "a port of its own"),
    # Redis
    ("nobody at the port", setting(REDIS_URL=f"redis://{GONE}"), "redis", FAILED, "cannot be reached", "start it, or correct REDIS_URL"),
    ("no such host", setting(REDIS_URL="rediss://redis.invalid"), "redis", FAILED, "cannot be used", "the host in REDIS_URL"),
    ("no such socket", setting(REDIS_URL="unix:///nowhere/r.sock"), "redis", FAILED, "No such file", "the path of the socket"),
    ("a wrong password", lambda w: {"REDIS_URL": f"{w.url}?username=u&password=wrong-one"}, "redis", FAILED, "invalid username-password", "user and password"),
    ("a replica", redis_with("--replicaof", "127.0.0.1", "1"), "redis", FAILED, "a replica, which takes no writes", "the primary's address"),
    ("a cluster", redis_with("--cluster-enabled", "yes"), "cluster", FAILED, "Redis Cluster", "a single primary"),
    ("eviction", redis_with("--maxmemory-policy", "allkeys-lru"), "eviction", FAILED, "allkeys-lru", "noeviction"),
    ("nothing on disk", redis_with("--appendonly", "no"), "persistence", FAILED, "keeps nothing on disk", "appendonly yes"),
    ("a disk once a second", redis_with("--appendfsync", "everysec"), "persistence", FAILED, "everysec", "appendfsync always"),
    ("no replica where one is waited for", setting(DURABILITY="fsync+replica:1"), "replicas", WARNING, "0 of 1 replicas", "start the others"),
    ("little memory left", nearly_full, "memory", WARNING, "full", "more memory"),
    ("another database", emptied, "state", WARNING, "holds nothing of ours", "check REDIS_URL"),
    ("a user that may do nothing", user_without("-@all", "+ping"), "redis", FAILED, "it cannot be used: ", "name a user in REDIS_URL that may"),
    ("a worker without a right", user_without("-xautoclaim"), "rights of the worker", FAILED, "XAUTOCLAIM reconciler:v1:commands", "deploy/users.conf"),
    ("a receiver without a right", user_without("-sismember"), "rights of the receiver", FAILED, "SISMEMBER", "deploy/users.conf"),
    ("a worker's user asked for both", user_without("-sismember"), "rights of the receiver", FAILED, "SISMEMBER", "for the worker alone: doctor --role worker"),
    # what waits in Redis
    ("no worker for an hour", swept_long_ago, "sweep", WARNING, "for 1 h", "start `reconciler worker`"),
    ("commands that nobody reads", commands_that_nobody_reads, "commands", FAILED, "1 commands wait, none was ever read", "start `reconciler worker`"),
    ("a command that nobody finishes", a_command_left_in_hand, "commands", FAILED, "1 commands wait, the oldest for 1 h", "see its log"),
    ("a group that is behind", a_group_a_day_behind, "outcomes", FAILED, "group shop has not acknowledged 1 outcomes, the oldest 2 d", "XGROUP DESTROY"),
    ("a group that never read", a_group_that_never_read, "outcomes", WARNING, "group old has never read", "start what reads them"),
    ("nobody who reads outcomes", setting(OUTCOME_GROUPS=""), "outcomes", WARNING, "no consumer group", "OUTCOME_GROUPS"),
    ("a dead command", an_entry_in(K.dead), "dead commands", WARNING, "1 lie there", "reconciler replay commands"),
    ("a quarantined message", an_entry_in(K.quarantine), "quarantine", WARNING, "1 lie there", "reconciler replay quarantine"),
    ("a callback given up", an_entry_in(K.dead_deliveries), "dead deliveries", WARNING, "1 lie there", "reconciler replay callbacks"),
    ("a callback that nobody takes", a_callback_of_yesterday, "deliveries", WARNING, "the oldest 1 d old", "delivery.failed"),
    ("two worlds in one place", an_open_payment_of("5X00000000000000"), "accounts", FAILED, "sandbox and production", "RECONCILER_KEY_PREFIX"),
    ("payments of a stranger", an_open_payment_of("SANDBOX_OTHER"), "accounts", FAILED, "SANDBOX_OTHER", "run a worker with the settings"),
    # the gateway
    ("a gateway that is nowhere", setting(ALIPAY_GATEWAY_URL="https://gateway.invalid", ALIPAY_NOTIFY_URL=""), "gateway DNS", FAILED, "leads nowhere", "the spelling in ALIPAY_GATEWAY_URL"),
    ("a gateway that is away", setting(ALIPAY_GATEWAY_URL=f"http://{GONE}"), "gateway", FAILED, "gives no answer", "see ALIPAY_GATEWAY_URL"),
    ("a gateway without TLS", lambda w: {"ALIPAY_GATEWAY_URL": w.gateway.replace("http:", "https:")}, "gateway TLS", FAILED, "speaks no TLS", "a port with TLS"),
    ("a gateway that hangs", gateway_that_hangs, "gateway", FAILED, "within 0.2 s", "firewalls"),
    ("a web server as gateway", gateway_answers(404), "gateway", FAILED, "it is not the gateway", "the host of your region"),
    ("a page as gateway", gateway_answers(200, text="<html>"), "gateway", FAILED, "no signature, no result", "the host of your region"),
    ("a gateway that moved", gateway_answers(301, headers={"Location": "https://x.invalid"}), "gateway", FAILED, "sends us elsewhere", "the host of your region"),
    ("a gateway that shuts us out", gateway_answers(403), "gateway", FAILED, "does not let us in", "address allowed"),
    ("a gateway in trouble", gateway_answers(503), "gateway", FAILED, "in trouble (HTTP 503)", "try again later"),
    ("a private key that was not uploaded", setting(ALIPAY_PRIVATE_KEY=ATTACKERS), "gateway", FAILED, "INVALID_SIGNATURE: our signature does not match", "upload the public half"),
    ("another version of our key", setting(ALIPAY_KEY_VERSION="7"), "gateway", FAILED, "KEY_NOT_FOUND: it has no key of ours with version 7", "ALIPAY_KEY_VERSION"),
    ("a contract that lacks inquiries", gateway_says("ACCESS_DENIED"), "gateway", FAILED, "may not call this", "support"),
    ("an agent's token that has expired", gateway_says("EXPIRED_AGENT_TOKEN"), "gateway", FAILED, "token", "ALIPAY_AGENT_TOKEN"),
    ("a refusal that nobody knows", gateway_says("SOMETHING_NEW"), "gateway", FAILED, "SOMETHING_NEW without a signature", "proxies that strip headers"),
    ("a refusal that is signed", gateway_signs("UNKNOWN_CLIENT"), "gateway", FAILED, "is not known there", "ALIPAY_CLIENT_ID"),
    ("a gateway that finds what is not", gateway_signs("SUCCESS", "S"), "gateway", FAILED, "nobody made", "no gateway to trust"),
    ("a gateway that says it otherwise", gateway_signs("PROCESS_FAIL"), "gateway", WARNING, "PROCESS_FAIL", "ask its support"),
    ("a gateway that is busy", gateway_signs("REQUEST_TRAFFIC_EXCEED_LIMIT", "U"), "gateway", WARNING, "busy", "try again"),
    ("an answer to somebody else", gateway_signs("ORDER_NOT_EXIST", client_id="SANDBOX_B"), "gateway", FAILED, "another client id", "ALIPAY_CLIENT_ID"),
    ("an answer without a time", gateway_signs("ORDER_NOT_EXIST", answered_at="2026-01-01T00:00:00"), "gateway clock", FAILED, "cannot be read", "support"),
    ("a gateway key of an attacker", setting(ALIPAY_PUBLIC_KEYS=key_text("attacker", "public_x509_b64")), "gateway", FAILED, "not signed by the key that we know as version 1", "copy the gateway's public key"),
    ("another version of its key", lambda _: {"ALIPAY_PUBLIC_KEYS": f"2={key_text('alipay_v2', 'public_x509_b64')}"}, "gateway", FAILED, "signs with its key version 1, we know 2", "add 1=KEY"),
    ("clocks ten minutes apart", gateway_clock_off_by(-605), "gateway clock", FAILED, "differ by 60", "NTP"),
    ("clocks two minutes apart", gateway_clock_off_by(122), "gateway clock", WARNING, "differ by 12", "NTP"),
    # the notify URL
    ("a notify URL that is nowhere", setting(ALIPAY_NOTIFY_URL="https://pay.invalid/notify"), "notify URL", FAILED, "leads nowhere", "the spelling in ALIPAY_NOTIFY_URL"),
    ("a receiver that is away", setting(ALIPAY_NOTIFY_URL=f"http://{GONE}/notify"), "notify URL", FAILED, "nothing takes a connection", "start the receiver"),
    ("a foreign server that takes everything", notify_answers(200, text="thanks"), "notify URL", FAILED, "notifications would be lost there", "pass this path on"),
    ("a foreign server without such a path", notify_answers(404, text="not found"), "notify URL", FAILED, "a foreign server answers", "pass /notify on"),
    ("a redirect", notify_answers(308, headers={"Location": "https://www.invalid/notify"}), "notify URL", FAILED, "redirected to https://www.invalid/notify", "follows none"),
    ("a proxy without a receiver", notify_answers(502), "notify URL", FAILED, "no receiver behind it", "start the receiver"),
    ("a proxy that asks for a login", notify_answers(401, text="who are you?"), "notify URL", FAILED, "refuses callers", "let the gateway through"),
    ("a proxy that rewrites the path", proxy("/v2/notify"), "notify URL", FAILED, "listens on another path", "ALIPAY_NOTIFY_SIGNED_PATH"),
    ("a proxy that strips headers", proxy(Signature=None), "notify URL", FAILED, "a proxy strips them", "pass all headers on"),
    ("a proxy that changes the body's type", proxy(Content_Type="text/plain"), "notify URL", FAILED, "did not arrive as it was", "unchanged"),
    ("a receiver of another account", receiver_with(keys={"SANDBOX_B": {1: public_key("alipay_v1")}}), "notify URL", FAILED, "serves another client id", "the same ALIPAY_CLIENT_ID"),
    ("a receiver that knows other keys", receiver_with(keys={CLIENT_ID: {5: public_key("alipay_v1")}}), "notify URL", FAILED, "does not know this version", "the same ALIPAY_PUBLIC_KEYS"),
    ("a certificate that nobody signed", certified(90, trusted=False), "notify TLS", FAILED, "self-signed", "a public authority"),
    ("a certificate of the past", certified(-3), "notify TLS", FAILED, "expired", "renew it"),
    ("a certificate of another host", certified(90, "192.0.2.7"), "notify TLS", FAILED, "does not hold", "get a certificate for 127.0.0.1"),
    ("a certificate that ends soon", certified(3), "notify TLS", WARNING, "in 3 days", "renew it"),
]  # fmt: skip

#: What else shows the same mistake.
ALSO: Mapping[str, list[tuple[str, Verdict]]] = {
    "a misspelt name": [("settings", FAILED)],
    "our own public key as the gateway's": [("gateway", FAILED)],
    "a production account at a mock": [("gateway", FAILED), ("notify URL", FAILED)],
    "a notify URL that is here, a gateway that is not": [("gateway DNS", FAILED)],
    "memory alone, elsewhere": [("redis", FAILED)],
}


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
async def test_what_is_planted_is_found_with_what_to_do_and_nothing_else_is(
    world: World, monkeypatch: pytest.MonkeyPatch, row: tuple[str, Plant, str, Verdict, str, str]
) -> None:
    name, plant, what, verdict, seen, fix = row
    changed = plant(world)
    changed = await changed if asyncio.iscoroutine(changed) else changed
    for cert in world.trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    checks = await world.examine(**changed)
    told = report(checks)
    [check] = [c for c in checks if (c.what, c.verdict) == (what, verdict) and seen in c.seen]
    assert fix in check.fix, told
    assert f"{check.seen}. Fix: {check.fix}" in told
    wrong = [(c.what, c.verdict) for c in checks if c.verdict in (WARNING, FAILED)]
    assert sorted(wrong) == sorted([(what, verdict), *ALSO.get(name, [])]), told


async def test_what_lies_in_a_folder_of_ours_alone_nobody_else_reads(world: World) -> None:
    environ = secret_file(0o644)(world)
    assert not asyncio.iscoroutine(environ)
    world.folder.chmod(0o700)
    assert found(await world.examine(**environ)) == []


async def test_everybody_may_read_the_gateways_public_keys(world: World) -> None:
    world.folder.chmod(0o755)
    file = world.folder / "gateway.pub"
    file.write_text(world.given()["ALIPAY_PUBLIC_KEYS"])
    file.chmod(0o644)
    asked = {"ALIPAY_PUBLIC_KEYS": "", "ALIPAY_PUBLIC_KEYS_FILE": str(file)}
    assert found(await world.examine(**asked)) == []


@FAKETIME
@pytest.mark.parametrize("offset", ["+2h", "-2h"])
async def test_a_clock_of_ours_that_is_wrong_is_found_twice(world: World, offset: str) -> None:
    """By Redis' clock and by the gateway's, which agree."""
    wrong = {"LD_PRELOAD": LIBRARY, "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    done = await run(world, "--json", **wrong)
    found_ = {c["check"]: c for c in json.loads(done[1]) if c["verdict"] == "failed"}
    assert done[0] == 5 and set(found_) == {"clock", "gateway clock"}
    assert all("differ by 7" in c["seen"] and "NTP" in c["fix"] for c in found_.values())


# What it does not do


async def test_faults_of_the_settings_hide_nothing_else(world: World) -> None:
    checks = await world.examine(DURABILITY="x", SWEEP_SECONDS="x", ALIPAY_KEY_VERSION="7")
    assert [c.what for c in checks if c.verdict is FAILED] == ["settings", "settings", "gateway"]
    checks = await world.examine(ALIPAY_PRIVATE_KEY="", REDIS_URL="http://x")
    assert found(checks) == [
        ("settings", FAILED),
        ("settings", FAILED),
        ("redis", SKIPPED),
        ("gateway", SKIPPED),
    ]


async def test_with_nothing_set_at_all_it_says_what_to_set(world: World) -> None:
    checks = await examine(Patient(environ={}))
    unset = [c.seen for c in checks if c.what == "settings"]
    assert [text.partition(" ")[0] for text in unset] == [
        "REDIS_URL",
        "ALIPAY_CLIENT_ID",
        "ALIPAY_GATEWAY_URL",
        "ALIPAY_PRIVATE_KEY",
        "ALIPAY_PUBLIC_KEYS",
    ]


async def test_offline_it_calls_nobody_outside(world: World) -> None:
    called = []

    async def answer(request: web.Request) -> web.Response:
        called.append(request.path)
        return web.Response()

    url = await world.serves(answer)
    given = world.given(ALIPAY_GATEWAY_URL=url, ALIPAY_NOTIFY_URL=f"{url}/notify")
    checks = await examine(Patient(environ=given), offline=True)
    assert found(checks) == [("gateway", SKIPPED), ("notify URL", SKIPPED)]
    assert called == []


async def test_it_asks_the_gateway_once_and_sends_the_receiver_nothing_genuine(
    world: World,
) -> None:
    before = await everything(world.redis)
    await world.examine()
    assert await everything(world.redis) == before
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{world.gateway}/mock/journal") as reply,
    ):
        calls = await reply.json()
    assert [call["what"] for call in calls] == ["inquiry"]
    assert calls[0]["paymentRequestId"].startswith("doctor-")


async def everything(redis: Redis) -> dict[bytes, Any]:
    return {name: await redis.dump(name) for name in sorted(await redis.keys("*"))}


@pytest.mark.parametrize(
    ("role", "needs", "not_looked_at"),
    [
        (Role.RECEIVER, "ALIPAY_PUBLIC_KEYS", {"gateway", "rights of the worker", "sweep"}),
        (Role.WORKER, "ALIPAY_PRIVATE_KEY", {"port", "rights of the receiver"}),
    ],
)
async def test_a_process_is_looked_at_for_what_it_does(
    world: World, role: Role, needs: str, not_looked_at: set[str]
) -> None:
    given = world.given()
    if role is Role.RECEIVER:
        del given["ALIPAY_PRIVATE_KEY"], given["ALIPAY_GATEWAY_URL"]
    checks = await examine(Patient(environ=given, roles=[role]))
    assert found(checks) == []
    assert not_looked_at.isdisjoint(check.what for check in checks)
    checks = await examine(Patient(environ=given | {needs: ""}, roles=[role]))
    assert ("settings", FAILED) in found(checks)


async def test_on_the_oldest_redis_that_we_run_on_all_is_well(world: World) -> None:
    server = world.stack.enter_context(own_server(program=debian_redis()))
    async with connect.client(server.url) as redis:
        await redis.set(K.canary, "2026-01-01")
    assert found(await world.examine(REDIS_URL=server.url)) == []


async def test_the_workers_own_user_is_enough(world: World) -> None:
    """But nobody may see how Redis writes to disk, as the configuration holds passwords."""
    config = world.folder / "users.conf"
    config.write_text(filled(FILE.read_text("utf-8")))
    server = world.stack.enter_context(own_server(config=config))
    admin = f"{server.url}?username=admin&password=pw-admin"
    async with connect.client(admin) as redis:
        await redis.set(K.canary, "2026-01-01")
    url = f"{server.url}?username=reconciler-worker&password=pw-worker"
    checks = await examine(Patient(environ=world.given(REDIS_URL=url), roles=[Role.WORKER]))
    assert found(checks) == [("persistence", WARNING)]


# The command


async def run(world: World, *words: str, **more: str) -> tuple[int, str, str]:
    """`reconciler doctor` as a process: exit code, stdout, stderr."""
    given = {**bare(), **world.given(), **more}
    command = reconciler("--env-file", os.devnull, "doctor", *words)
    process = await asyncio.create_subprocess_exec(
        *command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_command_prints_a_line_a_check_and_ends_well(world: World) -> None:
    code, out, err = await run(world)
    *lines, empty, counts = out.splitlines()
    assert (code, err, empty, counts) == (0, "", "", f"{len(lines)} ok")
    assert all(line.startswith("ok       ") for line in lines)


async def test_a_check_that_fails_ends_it_with_5_and_a_warning_does_not(world: World) -> None:
    code, out, _ = await run(world, "--offline", "--json", CANCEL_BRAKE="0")
    assert code == 0
    [warned] = [check for check in json.loads(out) if check["verdict"] == "warning"]
    assert list(warned) == ["check", "verdict", "seen", "fix"]
    code, out, _ = await run(world, "--offline", REDIS_URL="unix:///nowhere/r.sock")
    assert code == 5
    assert "FAILED   redis" in out


async def test_no_secret_is_told_whatever_is_wrong(world: World) -> None:
    secrets_ = {
        "ALIPAY_PRIVATE_KEY": ATTACKERS,
        "ALIPAY_AGENT_TOKEN": "token-of-the-agent-4711",
        "REDIS_URL": f"{world.url}?username=u&password=s3cret-of-redis",
    }
    told = ""
    for words in ((), ("--json",)):
        code, out, err = await run(world, *words, **secrets_, DURABILITY="x")
        assert code == 5
        told += out + err
    for secret in (ATTACKERS, ATTACKERS[100:140], "token-of-the-agent-4711", "s3cret-of-redis"):
        assert secret not in told


def test_a_line_says_what_was_looked_at_what_was_seen_and_what_to_do() -> None:
    assert report([Check(what="a", verdict=FAILED, seen="b", fix="c")]).splitlines() == [
        "FAILED   a  b. Fix: c",
        "",
        "1 failed",
    ]


# Several accounts


@pytest.fixture
async def two(world: World) -> AsyncIterator[Callable[..., Any]]:
    """Two accounts in a file, each with a gateway; what the doctor says of them."""
    sides = [replace(side, path="/notify") for side in SIDES.values()]
    urls = {side.client_id: await a_gateway(world, side) for side in sides}
    keys = {side.client_id: {1: public_key(side.theirs)} for side in sides}
    port = await world.enter(receiving(Store(world.redis, K), keys=keys))
    path = world.folder / "accounts.toml"

    async def examined(of_b: Mapping[str, Any] | None = None, **changed: str) -> list[Check]:
        notify = {"notify_url": f"http://127.0.0.1:{port}/notify"}
        one, two = (account(side, urls[side.client_id], **notify) for side in sides)
        write_accounts(path, one, two | dict(of_b or {}))
        path.chmod(0o600)
        more = {"RECEIVER_PORT": str(port), "OUTCOME_GROUPS": "shop", **changed}
        given = environ_with(path, world.url, K.prefix, **more)
        return await examine(Patient(environ=given))

    yield examined


async def a_gateway(world: World, side: Side) -> str:
    mock = await start(
        MockConfig(
            client_id=side.client_id,
            gateway_private_key=private_key(side.theirs),
            attacker_private_key=private_key("attacker"),
            merchant_public_keys={1: public_key(side.ours)},
        )
    )
    world.stack.push_async_callback(mock.close)
    return mock.url


async def test_where_two_accounts_are_well_each_is_asked_about_and_told_once(two: Any) -> None:
    checks = await two()
    assert not [check for check in checks if check.verdict is FAILED]
    for what in ("world", "keys"):
        told = [check.seen for check in checks if check.what == what]
        assert len(told) == 2 and all(c in "".join(told) for c in SIDES)
    [gateway] = [check for check in checks if check.what == "gateway"]
    assert gateway.verdict is OK and "our key is known there" in gateway.seen
    [files] = [check for check in checks if check.what == "files"]
    assert files.verdict is OK


@pytest.mark.parametrize(
    ("planted", "what", "seen"),
    [
        ({"key_version": 9}, "gateway", f"{B}: it refuses us: KEY_NOT_FOUND"),
        ({"private_key": key_text("attacker", "private_pkcs8_b64")}, "gateway", f"{B}: it refuses"),
        (
            {"public_keys": key_text("alipay_v1", "public_x509_b64")},
            "gateway",
            f"{B}: its answer is not signed by the key that we know as version 1",
        ),
        ({"cancel_limit_seconds": 60}, "values", f"{B}: CANCEL_LIMIT_SECONDS is under ten minutes"),
        ({"notify_url": "http://127.0.0.1:9/notify"}, "notify URL", f"{B}: nothing takes a conn"),
    ],
)
async def test_what_is_wrong_with_one_of_two_accounts_is_told_with_its_name(
    two: Any, planted: dict[str, Any], what: str, seen: str
) -> None:
    checks = await two(planted)
    wrong = [c for c in checks if c.what == what and c.verdict in (FAILED, WARNING)]
    assert [check.seen[: len(seen)] for check in wrong] == [seen]
    assert wrong[0].fix


async def test_a_file_with_keys_that_all_can_read_is_found(two: Any, world: World) -> None:
    world.folder.chmod(0o755)
    given = environ_with(world.folder / "accounts.toml", world.url, K.prefix)
    await two()
    (world.folder / "accounts.toml").chmod(0o644)
    checks = await examine(Patient(environ=given), offline=True)
    seen = [check for check in checks if check.what == "files"]
    assert [check.verdict for check in seen] == [WARNING]
    assert seen[0].seen.endswith("may read the file of ALIPAY_ACCOUNTS_FILE")
    (world.folder / "accounts.toml").chmod(0o666)
    checks = await examine(Patient(environ=given), offline=True)
    assert [check.verdict for check in checks if check.what == "files"] == [FAILED]


async def test_a_fault_in_the_file_is_told_with_account_and_name(two: Any) -> None:
    checks = await two({"shedule": [1]})
    [check] = [check for check in checks if check.what == "settings"]
    assert check.verdict is FAILED
    assert check.seen == f"accounts.toml, {B}, shedule is unknown"
    assert check.fix == "did you mean schedule?"


async def test_open_payments_of_either_account_are_known_and_a_strangers_told(
    two: Any, world: World
) -> None:
    await world.redis.zadd(K.open, {f"{A}:1": 1, f"{B}:1": 1})
    checks = await two()
    [check] = [check for check in checks if check.what == "accounts"]
    assert (check.verdict, check.seen) == (OK, "every open payment is of these accounts")
    await world.redis.zadd(K.open, {"SANDBOX_C:1": 1})
    checks = await two()
    [check] = [check for check in checks if check.what == "accounts"]
    assert check.verdict is FAILED and "SANDBOX_C" in check.seen
