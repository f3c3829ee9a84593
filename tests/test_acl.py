"""The users of deploy/users.conf can do their whole job, and nothing else."""

import asyncio
import hashlib
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, web
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from jobs.model import Money
from tests.fakes import CLIENT
from tests.keys import CLIENT_ID
from tests.pages import fill, settings_for, showing
from tests.servers import (
    Asked,
    OtherServer,
    Process,
    debian_redis,
    environ,
    notification,
    now_ms,
    own_server,
    paid,
    process,
    reconciler,
    scripted_gateway,
    send,
    until,
)
from worker import client, connect, rights
from worker.embedded import NoServer
from worker.keys import Keys
from worker.mock_gateway import RunningMock
from worker.outcomes import outcomes
from worker.rights import Role
from worker.scripts import Scripts
from worker.values import Durability, Persistence

pytestmark = pytest.mark.once  # what is under test is not Python

FILE = Path(__file__).parent.parent / "deploy" / "users.conf"
NAMES = ("ADMIN", "RECEIVER", "WORKER", "MERCHANT", "SCALER")
K = Keys()
KEY = f"{CLIENT_ID}:order-1"


def filled(text: str) -> str:
    """With the passwords `pw-admin`, `pw-receiver` and so on."""
    for name in NAMES:
        digest = hashlib.sha256(f"pw-{name.lower()}".encode()).hexdigest()
        text = text.replace(f"#{name}-PASSWORD", f"#{digest}")
    return text


@dataclass
class Guarded:
    """A server with the users of the file."""

    url: str
    old: bool
    clients: list[Redis] = field(default_factory=list)

    def url_of(self, who: str) -> str:
        name = who if who == "admin" else f"reconciler-{who}"
        return f"{self.url}?username={name}&password=pw-{who}"

    def who(self, who: str) -> Redis:
        url = self.url_of(who)
        redis: Redis = Redis.from_url(url, decode_responses=True, lib_name=None, lib_version=None)
        self.clients.append(redis)
        return redis


def guarded(folder: Path, make: str) -> Iterator[OtherServer]:
    file, text = folder / "users.conf", filled(FILE.read_text("utf-8"))
    program = debian_redis() if make == "redis-7.0" else None
    file.write_text(text.replace(" +waitaof", "") if program else text)  # as the file says
    with own_server(config=file, program=program) as server:
        yield server


@pytest.fixture(
    scope="module", params=["valkey", pytest.param("redis-7.0", marks=pytest.mark.once)]
)
def running(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherServer]:
    yield from guarded(tmp_path_factory.mktemp("acl"), request.param)


@pytest.fixture
async def server(running: OtherServer) -> AsyncIterator[Guarded]:
    """It holds a record, mail, an outcome, a command: something to read, forge or delete."""
    guarded = Guarded(running.url, old=running.program is not None)
    admin = guarded.who("admin")
    await admin.flushall()
    await admin.acl_log_reset()
    await admin.set(K.canary, "2026-01-01")
    await Scripts(admin).load()
    yield guarded
    for redis in guarded.clients:
        await redis.aclose()


@pytest.fixture
async def stocked(server: Guarded) -> Guarded:
    admin = server.who("admin")
    await admin.hset(K.payment(KEY), mapping={"status": "pending", "version": "1"})  # type: ignore[misc]
    await admin.rpush(K.timeline(KEY), "{}")  # type: ignore[misc]
    await admin.rpush(K.inbox(KEY), "{}")  # type: ignore[misc]
    await admin.zadd(K.open, {KEY: 1})
    await admin.zadd(K.queue, {K.job(KEY): 1})
    await admin.set(f"arq:job:{K.job(KEY)}", "{}")
    for stream in (K.commands, K.dead, K.outcomes, K.quarantine):
        await admin.xadd(stream, {"id": "1"})
    await admin.set("another:system", "x")
    return server


async def denied_to(server: Guarded) -> list[str]:
    """What the server has denied since the test began; to ask how it syncs is a try."""
    denied = await server.who("admin").acl_log()
    return [f"{d['username']} {d['object']}" for d in denied if d["object"] != "config|get"]


# The file


def test_it_cannot_be_used_before_passwords_are_set(tmp_path: Path) -> None:
    text = FILE.read_text("utf-8")
    assert len(re.findall(r" on #[A-Z]+-PASSWORD ", text)) == len(NAMES)
    for name in NAMES:  # one forgotten is enough
        file = tmp_path / f"{name}.conf"
        file.write_text(filled(text.replace(f"#{name}-PASSWORD", "#STILL-NAME")))
        with pytest.raises(NoServer, match="64 characters"), own_server(config=file):
            pass


def test_passwords_are_made_by_a_command(tmp_path: Path) -> None:
    command = ["sh", str(FILE.parent / "make-secrets"), "redis.example:6380"]
    subprocess.run(command, cwd=tmp_path, check=True)
    made = {file.name: file.read_text().strip() for file in (tmp_path / "secrets").iterdir()}
    conf = made.pop("redis-users.conf")
    urls = {name: urlsplit(text) for name, text in made.items() if name.startswith("redis-url-")}
    assert {name.removeprefix("redis-url-"): url.username for name, url in urls.items()} == {
        "admin": "admin",
        "receiver": "reconciler-receiver",
        "worker": "reconciler-worker",
        "merchant": "reconciler-merchant",
    }
    assert {(url.hostname, url.port, url.path) for url in urls.values()} == {
        ("redis.example", 6380, "/0")
    }
    others = [made[name] for name in made if name not in urls]
    passwords = [url.password or "" for url in urls.values()] + others
    assert set(made) - set(urls) == {"redis-password-scaler", "admin-token"}
    assert len(set(passwords)) == 6
    assert all(re.fullmatch("[0-9a-f]{64}", password) for password in passwords)
    assert not any(password in conf for password in passwords)
    with own_server(config=tmp_path / "secrets/redis-users.conf") as server:
        for url in urls.values():
            login = f"?username={url.username}&password={url.password}"
            asyncio.run(_ping(server.url + login))


def test_secrets_are_behind_a_door_and_never_overwritten(tmp_path: Path) -> None:
    """A process in a container has another user id, so within the folder it must be let read."""
    command = ["sh", str(FILE.parent / "make-secrets")]
    subprocess.run(command, cwd=tmp_path, check=True, umask=0o077)
    assert [entry.name for entry in tmp_path.iterdir()] == ["secrets"]
    folder = tmp_path / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    before = {file.name: file.read_text() for file in folder.iterdir()}
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode != 0
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


async def _ping(url: str) -> None:
    redis = connect.client(url)
    assert await redis.ping()
    await redis.aclose()


async def test_without_a_password_there_is_only_ping(stocked: Guarded) -> None:
    redis = Redis.from_url(stocked.url)
    assert await redis.ping()
    for words in (["GET", K.canary], ["INFO"], ["ACL", "WHOAMI"], ["SET", "x", "y"]):
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*words)
    await redis.aclose()


def granted(user: str) -> set[str]:
    """The commands that the file grants to a user, wherever."""
    [line] = [
        one for one in FILE.read_text("utf-8").splitlines() if one.startswith(f"user {user} ")
    ]
    return set(re.findall(r"(?<=[ (]\+)[a-z|]+", line))


OPERATORS = {"zrange", "xread"}  #: `reconciler pending`, `cancel --wait`
PROCESSES = {Role.RECEIVER: set(), Role.WORKER: OPERATORS}


@pytest.mark.parametrize("role", PROCESSES)
def test_a_process_is_granted_the_commands_that_it_sends_and_no_others(role: Role) -> None:
    sent = role.sends(K, Durability(Persistence.REPLICA, 1))
    names = {
        "|".join(words[: 1 + (words[0] in ("SCRIPT", "XGROUP", "XINFO", "MEMORY"))]).lower()
        for words in sent
    }
    assert (
        granted(f"reconciler-{role}") == names | {"multi", "discard", "waitaof"} | PROCESSES[role]
    )


@pytest.mark.parametrize("role", PROCESSES)
async def test_a_process_lacks_nothing(server: Guarded, role: Role) -> None:
    sent = role.sends(K, Durability(Persistence.REPLICA, 1))
    assert await rights.lacking(server.who(role), sent) == []


# The whole job


async def line(running: Process, event: str, **facts: Any) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.to_thread(running.wait_for, event, **facts)
    return found


async def ended(running: Process) -> int:
    running.signal(signal.SIGTERM)
    return await asyncio.to_thread(running.ended)


async def test_a_receiver_receives_with_its_own_rights(server: Guarded, tmp_path: Path) -> None:
    admin = server.who("admin")
    await admin.script_flush()
    given = environ(server.url_of("receiver"), "reconciler", "")
    with process(tmp_path, given, *reconciler("receiver")) as receiver:
        started = await line(receiver, "receiver.started")
        await until(lambda: _loaded(admin))  # by the probes
        port = int(started["addresses"][0].split(",")[1].strip(" )"))
        await admin.hset(K.payment(KEY), "version", "1")  # type: ignore[misc]
        unreadable = b'{"notifyType": "PAYMENT_RESULT",,}'
        odd = paid("order-3", paymentAmount={"currency": "USD", "value": "8e3"})
        other = paid("order-1", notifyType="REFUND_RESULT")
        await admin.script_flush()  # as a restart would
        for body in (paid("order-1"), paid("order-1"), paid("order-2"), odd, unreadable, other):
            reply = await send(port, notification(body).wire())
            assert reply and reply.status == 200, reply
        assert await ended(receiver) == 0
        assert receiver.find("receiver.store_down") == []
    assert await admin.llen(K.inbox(KEY)) == 2  # type: ignore[misc]
    assert await admin.zscore(K.open, KEY) and await admin.zscore(K.queue, K.job(KEY))
    assert await admin.zcard(K.parked) == 2
    assert await admin.xlen(K.quarantine) == 2
    assert await denied_to(server) == []


async def test_a_worker_follows_payments_with_its_own_rights(
    server: Guarded, mock: RunningMock, tmp_path: Path
) -> None:
    admin, merchant = server.who("admin"), server.who("merchant")
    await admin.script_flush()
    await admin.zadd(K.parked, {f"{CLIENT_ID}:stranger": 1})  # long ago: goes to quarantine
    await admin.rpush(K.inbox(f"{CLIENT_ID}:stranger"), "{}")  # type: ignore[misc]
    await admin.xadd(K.dead, {"type": "x"})
    url = server.url_of("worker")
    given = environ(url, "reconciler", mock.url, OUTCOME_GROUPS="shop", AFTERCARE_SCHEDULE="1")
    with process(tmp_path, given, *reconciler("worker")) as worker:
        await line(worker, "worker.started")
        for name in ("paid-1", "failed-1", "never_paid-1"):
            mock.ledger.create(name, Money("USD", 599), now_ms())
            await client.track(merchant, name, "USD", 599, expires_in=1)
        await client.send(merchant, "nonsense", {})
        await client.send(merchant, "payment.recheck", {"paymentRequestId": "paid-1"})

        async def over() -> bool:
            read = await admin.xrange(K.outcomes)
            ends = {fields["id"].split(":", 1)[1] for _, fields in read}
            wanted = {"paid-1:succeeded", "failed-1:failed", "never_paid-1:cancelled"}
            return wanted <= ends and any(end.startswith("command") or "-" in end for end in ends)

        await until(over)
        await client.send(merchant, "payment.forget", {"paymentRequestId": "paid-1"})
        await until(lambda: _gone(admin, f"{CLIENT_ID}:paid-1"))
        await line(worker, "notification.never_tracked")
        pending = environ(url, "reconciler", mock.url)
        with process(tmp_path, pending, *reconciler("pending")) as operator:
            assert await asyncio.to_thread(operator.ended) == 0
        with process(tmp_path, pending, *reconciler("status", "failed-1")) as operator:
            assert await asyncio.to_thread(operator.ended) == 0
        assert await ended(worker) == 0
        assert not worker.find("retention.failed") and not worker.find("job.failed")
    assert await denied_to(server) == []


async def test_callbacks_and_messages_passed_on_need_no_other_rights(
    server: Guarded, tmp_path: Path
) -> None:
    """From end to end: one process receives, another one sends, also after it was killed."""
    admin, merchant = server.who("admin"), server.who("merchant")
    await admin.script_flush()
    async with scripted_gateway() as shop:
        answers = [503, 410]

        async def answer(_: Asked) -> web.StreamResponse:
            return web.Response(status=answers.pop() if answers else 200)

        shop.answer = answer
        sent: dict[str, str] = {
            "NOTIFY_FORWARD_URL": f"{shop.url}/notify",
            "CALLBACK_SECRETS": "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw",
            "CALLBACK_ALLOWED_HOSTS": shop.url,
        }
        receives = environ(server.url_of("receiver"), "reconciler", "") | sent
        works = environ(server.url_of("worker"), "reconciler", "http://127.0.0.1:1") | sent
        with process(tmp_path, receives, *reconciler("receiver")) as receiver:
            started = await line(receiver, "receiver.started")
            port = int(started["addresses"][0].split(",")[1].strip(" )"))
            with process(tmp_path, works, *reconciler("worker")) as worker:
                await line(worker, "worker.started")
                data: dict[str, Any] = {"paymentRequestId": "order-1"}
                data |= {"paymentAmount": {"currency": "USD", "value": "599"}}
                data |= {"callbackUrl": f"{shop.url}/hook"}
                await client.send(merchant, "payment.track", data)
                await until(lambda: admin.exists(K.payment(KEY)))
                for n in (1, 2):  # the first of them is gone: 410
                    await send(port, notification(paid(f"order-{n}")).wire())
                await line(worker, "delivery.dead")
                await line(worker, "delivery.failed")
                worker.signal(signal.SIGKILL)
            with process(tmp_path, works, *reconciler("worker")) as worker:
                await until(lambda: _at_once(admin), seconds=60)
                assert await ended(worker) == 0
                assert not worker.find("deliveries.failed")
    paths = [asked.path for asked in shop.asked]
    assert len(paths) >= 4, "three, and what was refused once more"
    assert set(paths) == {"/notify", "/hook"}
    assert await admin.xlen(K.dead_deliveries) == 1
    assert await denied_to(server) == []


async def _at_once(admin: Redis) -> bool:
    """Whether nothing is to be sent any more; what waits is made due."""
    for lane in await admin.zrange(K.deliveries, 0, -1):
        await admin.zadd(K.deliveries, {lane: 1}, xx=True)
    return not await admin.exists(K.deliveries)


async def test_an_operator_imports_a_list_with_the_workers_rights(
    server: Guarded, tmp_path: Path
) -> None:
    file = tmp_path / "payments.csv"
    file.write_text("paymentRequestId,currency,value\norder-1,USD,599\n")
    given = environ(server.url_of("worker"), "reconciler", "")
    for words in (["track", "--file", str(file)], ["report"]):
        with process(tmp_path, given, *reconciler(*words)) as operator:
            assert await asyncio.to_thread(operator.ended) == 0, operator.said
    assert await server.who("admin").xlen(K.commands) == 1
    assert await denied_to(server) == []


async def _loaded(admin: Redis) -> bool:
    return bool((await admin.info("memory"))["number_of_cached_scripts"])


async def _gone(admin: Redis, key: str) -> bool:
    return not await admin.exists(K.payment(key))


async def test_the_page_shows_everything_with_the_workers_rights(server: Guarded) -> None:
    await fill(server.who("admin"), K)
    worker = connect.client(server.url_of("worker"))
    server.clients.append(worker)
    await server.who("admin").script_flush()
    async with ClientSession() as http, showing(worker, settings_for(K.prefix)) as url:
        for path in ("/", f"/payments/{CLIENT}:refund-me", "/payments?id=refund-me"):
            async with http.get(url + path) as answer:
                text = await answer.text()
            assert answer.status == 200
            assert "cannot be told" not in text and "cannot be read:" not in text
    assert await denied_to(server) == []


async def test_a_merchant_does_its_part_with_its_own_rights(stocked: Guarded) -> None:
    merchant = stocked.who("merchant")
    assert await merchant.ping()
    entry = await client.track(merchant, "order-2", "USD", 599)
    assert await stocked.who("admin").xrange(K.commands, entry, entry)
    await merchant.xgroup_create(K.outcomes, "shop", "0")
    [[_, [(id_, _fields)]]] = await merchant.xreadgroup("shop", "me", {K.outcomes: ">"})
    assert (await merchant.xpending(K.outcomes, "shop"))["pending"] == 1
    assert (await merchant.xautoclaim(K.outcomes, "shop", "you", 0))[1]
    assert await merchant.xack(K.outcomes, "shop", id_) == 1
    assert await merchant.xread({K.outcomes: "0"})
    assert (await merchant.hgetall(K.payment(KEY)))["status"] == "pending"  # type: ignore[misc]
    assert await denied_to(stocked) == []


async def test_a_merchants_loop_over_outcomes_needs_no_other_rights(server: Guarded) -> None:
    merchant, admin = server.who("merchant"), server.who("admin")
    about = {"clientId": CLIENT_ID, "paymentRequestId": "order-1", "data": '{"data": {"seq": 1}}'}
    for name in ("a", "b"):
        fields: dict[Any, Any] = {"id": name, "type": "payment.succeeded"} | about
        await admin.xadd(K.outcomes, fields)
    async with aclosing(outcomes(merchant, "shop", "me", claim_after=0)) as source:
        async with asyncio.timeout(20):
            assert (await anext(source)).id == "a"
        waiting = asyncio.ensure_future(anext(source))  # it is noted, and what was overtaken left
        await until(lambda: _nothing_pending(admin))
        waiting.cancel()
        await asyncio.wait({waiting})
    assert await admin.hgetall(K.handled("shop", KEY)) == {"id:a": "1", "seq": "1"}  # type: ignore[misc]
    assert await denied_to(server) == []


async def _nothing_pending(admin: Redis) -> bool:
    [group] = await admin.xinfo_groups(K.outcomes)
    return (group["pending"], group["lag"]) == (0, 0)


@pytest.mark.parametrize("who", ["merchant", "worker"])
async def test_who_gives_a_command_may_wait_for_what_becomes_of_it(
    server: Guarded, who: str, tmp_path: Path
) -> None:
    admin = server.who("admin")
    given = environ(server.url_of(who), "reconciler", "")
    given = {k: v for k, v in given.items() if "KEY" not in k or k.startswith("RECONCILER")}
    words = reconciler("cancel", "order-1", "--wait", "10", "--json")
    await admin.hset(K.payment(KEY), mapping={"status": "cancelled"})  # type: ignore[misc]
    with process(tmp_path, given, *words) as asked:
        assert await asyncio.to_thread(asked.ended) == 0, asked.said
        assert '"result": "done"' in asked.stdout()
    assert await admin.xlen(K.commands) == 1
    denied = {one.split()[1] for one in await denied_to(server)}  # it tries what the probes ask
    assert not denied & {"xadd", "xread", "hgetall"}


async def test_a_scaler_counts_waiting_commands_with_its_own_rights(stocked: Guarded) -> None:
    admin, scaler = stocked.who("admin"), stocked.who("scaler")
    await admin.xgroup_create(K.commands, "reconciler", "0")
    assert (await scaler.info())["redis_version"]
    [group] = await scaler.xinfo_groups(K.commands)
    assert (group["name"], group["lag"]) == ("reconciler", 1)
    assert await denied_to(stocked) == []


# What they may not do

NOBODY = [
    "CONFIG GET maxmemory",
    "CONFIG SET appendonly no",
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "EVAL return(1) 0",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "FUNCTION LIST",
    "ACL LIST",
    "ACL SETUSER x on nopass ~* +@all",
    "SHUTDOWN NOSAVE",
    "REPLICAOF NO ONE",
    "CLIENT LIST",
    "CLIENT KILL ID 1",
    "MONITOR",
    "SUBSCRIBE x",
    "SWAPDB 0 1",
    "SELECT 1",
    "BGREWRITEAOF",
    "SAVE",
    "GET another:system",
    "SET another:system x",
    "DEL another:system",
    "GET reconciler:v2:canary",
    "HGETALL other:v1:payment:x",
    f"RENAME {K.outcomes} x",
    f"DUMP {K.payment(KEY)}",
    f"COPY {K.payment(KEY)} {K.payment('x')}",
    f"MIGRATE h 1 {K.open} 0 1",
    f"UNLINK {K.open}",
    f"DEL {K.outcomes}",
    f"XDEL {K.outcomes} 1-1",
    f"XSETID {K.outcomes} 9-9",
    f"XDEL {K.quarantine} 1-1",
    f"DEL {K.canary}",
    f"EXPIRE {K.payment(KEY)} 1",
    f"SORT {K.open} BY nosort GET {K.payment('*')}",
]
ONLY = {
    "receiver": [
        "SCRIPT EXISTS x",
        # records
        f"HGETALL {K.payment(KEY)}",
        f"HGET {K.payment(KEY)} status",
        f"HSET {K.payment(KEY)} status succeeded",
        f"DEL {K.payment(KEY)}",
        f"RPUSH {K.payment('new')} x",
        f"PEXPIRE {K.payment(KEY)} 1",
        f"LRANGE {K.timeline(KEY)} 0 -1",
        f"RPUSH {K.timeline(KEY)} x",
        # what it has received
        f"LRANGE {K.inbox(KEY)} 0 -1",
        f"LPOP {K.inbox(KEY)}",
        f"DEL {K.inbox(KEY)}",
        f"DEL {K.heard(KEY)}",
        f"SREM {K.heard(KEY)} x",
        f"SMEMBERS {K.heard(KEY)}",
        f"XRANGE {K.quarantine} - +",
        f"XTRIM {K.quarantine} MAXLEN 0",
        # outcomes and commands
        f"XRANGE {K.outcomes} - +",
        f"XREAD STREAMS {K.outcomes} 0",
        f"XADD {K.outcomes} * id forged",
        f"XTRIM {K.outcomes} MAXLEN 0",
        f"XADD {K.commands} * type payment.forget",
        f"XRANGE {K.commands} - +",
        # what wakes
        f"ZREM {K.open} {KEY}",
        f"ZRANGE {K.open} 0 -1",
        f"DEL {K.open}",
        f"ZREM {K.queue} x",
        f"ZRANGE {K.queue} 0 -1",
        f"GET arq:job:{K.job(KEY)}",
        f"DEL arq:job:{K.job(KEY)}",
        "SET arq:job:of-another x",
        f"SET {K.canary} x",
    ],
    "worker": [
        f"XADD {K.canary} * x y",
        f"SET {K.payment(KEY)} x",
        f"HSET {K.outcomes} x y",
        f"XDEL {K.commands} 1-1",
        f"XGROUP DESTROY {K.commands} reconciler",
        f"XGROUP SETID {K.outcomes} shop 0",
        f"XDEL {K.outcomes} 1-1",
        f"XRANGE {K.commands} - +",
        f"XRANGE {K.quarantine} - +",
        f"ZSCAN {K.parked} 0",
        f"RPUSH {K.inbox(KEY)} x",
        f"DEL {K.commands}",
        f"DEL {K.quarantine}",
        f"DEL {K.queue}",
        f"DEL {K.open}",
        "ZADD arq:queue 1 x",
        "GET arq:result:x",
        "SET arq:abort x",
    ],
    "merchant": [
        "INFO",
        "DBSIZE",
        "TIME",
        "MULTI",
        "SCRIPT LOAD return(1)",
        f"EVALSHA {'0' * 40} 1 {K.payment(KEY)}",
        # outcomes: read, never written
        f"XADD {K.outcomes} * id forged",
        f"XTRIM {K.outcomes} MAXLEN 0",
        f"XDEL {K.outcomes} 1-1",
        f"XGROUP DESTROY {K.outcomes} shop",
        f"XGROUP SETID {K.outcomes} shop $",
        f"XGROUP DELCONSUMER {K.outcomes} shop me",
        f"SET {K.outcomes} x",
        # commands: written, never read
        f"XRANGE {K.commands} - +",
        f"XREAD STREAMS {K.commands} 0",
        f"XREADGROUP GROUP g c STREAMS {K.commands} >",
        f"XTRIM {K.commands} MAXLEN 0",
        f"XDEL {K.commands} 1-1",
        f"XGROUP CREATE {K.commands} g 0",
        f"XACK {K.commands} reconciler 1-1",
        f"DEL {K.commands}",
        f"XADD {K.dead} * x y",
        f"XREAD STREAMS {K.dead} 0",
        # a record: read, never written
        f"HSET {K.payment(KEY)} status succeeded",
        f"HDEL {K.payment(KEY)} status",
        f"HINCRBY {K.payment(KEY)} version 1",
        f"DEL {K.payment(KEY)}",
        f"HGETALL {K.timeline(KEY)}",
        f"LRANGE {K.timeline(KEY)} 0 -1",
        # all else
        f"LRANGE {K.inbox(KEY)} 0 -1",
        f"RPUSH {K.inbox(KEY)} x",
        f"XREAD STREAMS {K.quarantine} 0",
        f"XREAD STREAMS {K.outcomes} {K.quarantine} 0 0",
        f"XADD {K.quarantine} * x y",
        f"ZADD {K.open} 1 x",
        f"ZRANGE {K.open} 0 -1",
        f"ZADD {K.queue} 1 x",
        f"SET arq:job:{K.job(KEY)} x",
        f"GET arq:job:{K.job(KEY)}",
        f"GET {K.canary}",
    ],
    "scaler": [
        f"XINFO GROUPS {K.outcomes}",
        f"XINFO STREAM {K.commands} FULL",
        f"XINFO CONSUMERS {K.commands} reconciler",
        f"XRANGE {K.commands} - +",
        f"XREAD STREAMS {K.commands} 0",
        f"XADD {K.commands} * type payment.forget",
        f"XGROUP DESTROY {K.commands} reconciler",
        f"ZCARD {K.queue}",
        f"HGETALL {K.payment(KEY)}",
        f"GET {K.canary}",
        "SCRIPT LOAD return(1)",
        "TIME",
    ],
}
FORBIDDEN = [(who, words) for who, own in ONLY.items() for words in NOBODY + own]


@pytest.mark.parametrize("who", ONLY)
async def test_what_is_not_its_business_is_denied(stocked: Guarded, who: str) -> None:
    admin, redis = stocked.who("admin"), stocked.who(who)
    before = {key: await admin.dump(key) for key in await admin.keys("*")}
    for words in NOBODY + ONLY[who]:
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*words.split())  # type: ignore[no-untyped-call]
    assert {key: await admin.dump(key) for key in await admin.keys("*")} == before


@pytest.mark.parametrize("who", ["receiver", "worker"])
async def test_a_script_of_ones_own_does_no_more_than_one_may_do_by_hand(
    stocked: Guarded, who: str
) -> None:
    redis = stocked.who(who)
    for words in NOBODY + ONLY[who]:
        quoted = ",".join(f"'{word}'" for word in words.split())
        sha = await redis.script_load(f"return redis.call({quoted})")
        for keys in ([], [K.payment(KEY), K.open]):
            with pytest.raises(ResponseError):
                await redis.evalsha(sha, len(keys), *keys)  # type: ignore[misc]
    assert await stocked.who("admin").hget(K.payment(KEY), "status") == "pending"  # type: ignore[misc]
    assert await stocked.who("admin").xlen(K.outcomes) == 1


async def test_a_receiver_cannot_run_a_workers_script_on_a_record(stocked: Guarded) -> None:
    """It may run whatever is loaded: what is in it is checked command by command."""
    receiver, admin = stocked.who("receiver"), stocked.who("admin")
    scripts = Scripts(receiver)
    erase = [K.payment(KEY), K.open, K.open, K.inbox(KEY), K.parked]
    claim = [K.payment(KEY), K.inbox(KEY), K.open, K.parked]
    for name, keys, args in (("erase", erase, [KEY, "1"]), ("claim", claim, [KEY, "c", ""])):
        with pytest.raises(ResponseError, match=r"(?i)acl failure|no permission|can't run this"):
            await scripts.run(name, keys, args)
    assert await admin.exists(K.payment(KEY))
