"""Whatever somebody plants in Redis, no process ends, no good payment waits, and a line names it.

A real worker runs while junk lies in each of its keys; a good payment must reach its end beside it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobs.model import Act, Decision, Money, Payment
from jobs.news import Unusable
from tests.keys import CLIENT_ID
from tests.servers import (
    Process,
    environ,
    now_ms,
    own_server,
    process,
    put,
    reconciler,
    says,
    scripted_gateway,
    until,
)
from worker import connect, story, views
from worker.client import track
from worker.housekeeping import PARKED_FOR, keep_house
from worker.keys import Keys
from worker.records import Damaged, read, to_hash
from worker.store import Store, read_mail

JUNK = [
    b"",
    b"\x00\xff\xfe",
    b"not json",
    b"[]",
    b"7",
    b"null",
    b'"text"',
    b"{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"at": 1e400, "source": 1, "what": [], "detail": {}}',
    b'{"at": -9999999999999999999, "source": "x", "what": "y", "detail": "z"}',
    b'{"v":1,"at":1e999,"time":"0","body":"{}"}',
    b'{"v":1,"at":99999999999999999999999,"time":[],"body":"{}"}',
    b'{"v":1,"at":1,"time":"0","body":{"x":1}}',
    b'{"v":1,"at":1,"time":"0","body":"\\ud800"}',
    b"x" * 1_000_000,
]
IDS = [
    b"",
    b"no-colon",
    b"*",
    b"a:b\nc",
    b'c:"],"f":"cancel_payment","a":["x',
    b"c:\\",
    b"c:[?*]",
    b"c:\x00",
    b"\xff\xfe:\xff",
    b"c:" + b"x" * 10_000,
]
KEY = f"{CLIENT_ID}:junk-1"


def payment(name: str = "junk-1", **changed: Any) -> Payment:
    given = {
        "client_id": CLIENT_ID,
        "payment_request_id": name,
        "amount": Money("USD", 599),
        "tracked_at": now_ms(),
        "closing_time": now_ms() + 600_000,
        "next_at": now_ms() - 5_000,
    }
    return Payment(**given | changed)  # type: ignore[arg-type]


# Part by part


@pytest.mark.parametrize("raw", JUNK, ids=lambda raw: repr(raw[:30]))
def test_mail_that_is_none_makes_us_ask(raw: bytes) -> None:
    assert isinstance(read_mail(CLIENT_ID, "junk-1", raw), Unusable)


@pytest.mark.parametrize(
    "changed",
    [
        {b"amount": b"1e3"},
        {b"amount": b"9" * 5000},
        {b"status": b"paid"},
        {b"marks": b"["},
        {b"marks": b"[" * 100_000},
        {b"marks": b"7"},
        {b"trackedAt": b"\xff"},
        {b"reference": b"\xff"},
        {b"version": b"nan"},
        {b"\xff": b"1"},
        {b"clientId": b"another"},
        {b"schema": b""},
    ],
    ids=repr,
)
def test_a_damaged_record_is_known_as_one(changed: dict[bytes, bytes]) -> None:
    good = {n.encode(): v.encode() for n, v in to_hash(payment()).items()}
    flat = [part for pair in {**good, **changed}.items() for part in pair]
    with pytest.raises(ValueError) as refused:
        read(KEY, flat)
    assert isinstance(refused.value, Damaged) or "schema" in str(refused.value)


@pytest.mark.parametrize("missing", ["amount", "currency", "clientId", "trackedAt"])
def test_a_record_that_lacks_a_field_is_damaged(missing: str) -> None:
    flat = [part for pair in to_hash(payment()).items() if pair[0] != missing for part in pair]
    with pytest.raises(Damaged):
        read(KEY, flat)


@pytest.fixture
async def store(redis_url: str, redis: Redis, prefix: str) -> Any:
    """A store of a worker, whose client gives bytes."""
    client = connect.client(redis_url)
    yield Store(client, Keys(prefix))
    await client.aclose()


@pytest.mark.parametrize("raw", JUNK, ids=lambda raw: repr(raw[:30]))
async def test_a_timeline_with_junk_is_shown_and_written_on(store: Store, raw: bytes) -> None:
    redis: Any = store.redis
    keys = store.keys
    async with redis.pipeline() as pipe:
        put(pipe, keys, payment())
        await pipe.execute()
    await redis.rpush(keys.timeline(KEY), raw)
    seen = await views.look_up(redis, keys.prefix, CLIENT_ID, "junk-1")
    assert seen and len(seen["timeline"]) == 1
    story.tell(seen, 0)
    loaded = await store.claim(KEY)
    assert loaded
    entry = {"at": 1, "source": "s", "what": "w", "detail": "d"}
    write = _save(store, loaded.payment, [json.dumps(entry)])
    assert (await write)[1] > 0
    assert json.loads(await redis.lindex(keys.timeline(KEY), -1)) == entry


def _save(store: Store, found: Payment, entries: list[str]) -> Awaitable[list[Any]]:
    decision = Decision(payment=found, act=Act.WAIT, events=())
    write = store._write(found.version, decision, [])
    write |= {
        "entries": entries,
        "heard": 0,
        "left": 0,
        "found": False,
        "missed": False,
        "brake": 0,
    }
    k = store.keys
    names = [k.payment(KEY), k.timeline(KEY), k.inbox(KEY), k.open]
    names += [k.outcomes, k.brake, k.parked, k.queue]
    names += [k.deliveries, k.delivery(write["lane"])]
    return store.run("save", names, [json.dumps(write)])


@pytest.mark.parametrize("wrong", ["timeline", "open", "outcomes", "brake", "parked", "queue"])
async def test_a_key_of_the_wrong_type_leaves_a_record_as_it_was(store: Store, wrong: str) -> None:
    """Lua undoes nothing: half a write would be a record without its event."""
    redis: Any = store.redis
    keys = store.keys
    async with redis.pipeline() as pipe:
        put(pipe, keys, payment(version=1))
        await pipe.execute()
    loaded = await store.load(KEY)
    assert loaded
    name = keys.timeline(KEY) if wrong == "timeline" else getattr(keys, wrong)
    await redis.delete(name)
    await redis.set(name, "no such thing")
    before = await redis.hgetall(keys.payment(KEY))
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await _save(store, loaded.payment, ["{}"])
    assert await redis.hgetall(keys.payment(KEY)) == before


@pytest.mark.parametrize("wrong", ["inbox", "parked", "quarantine"])
async def test_a_notification_that_could_not_be_kept_is_kept_when_it_comes_again(
    store: Store, wrong: str
) -> None:
    """It was not acknowledged: were it taken for a duplicate now, it would be lost."""
    keys = store.keys
    name = keys.inbox(KEY) if wrong == "inbox" else getattr(keys, wrong)
    await store.redis.set(name, "no such thing")
    odd = ("amount", b"{}") if wrong == "quarantine" else None
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await store.receive(KEY, "mail", "digest", parks=True, quarantine=odd)
    await store.redis.delete(name)
    assert await store.receive(KEY, "mail", "digest", parks=True, quarantine=odd) == "parked"
    redis: Any = store.redis
    assert await redis.lindex(keys.inbox(KEY), -1) == b"mail"
    assert await store.receive(KEY, "mail", "digest", parks=True, quarantine=odd) == "duplicate"


async def test_junk_among_the_parked_is_passed_by_and_the_rest_is_still_done(
    store: Store, log_lines: list[Any]
) -> None:
    redis: Any = store.redis
    keys = store.keys
    long_ago = now_ms() - PARKED_FOR - 1
    await store.run("overdue", [keys.open, keys.queue, keys.swept], [keys.prefix, 0, 0, 1])
    await redis.zadd(keys.parked, {id_: long_ago for id_ in IDS})
    await redis.zadd(keys.parked, {KEY: long_ago, f"{KEY}-2": long_ago})
    await redis.rpush(keys.inbox(KEY), "mail")
    await redis.set(keys.inbox(f"{KEY}-2"), "no list")
    for key in (keys.commands, keys.outcomes, keys.dead):
        await redis.set(key, "no stream")
    await keep_house(redis, store, 1)
    assert await redis.zcard(keys.parked) == 0
    assert {"event": "notification.never_tracked", "count": 1, "log_level": "error"} in log_lines
    skipped = [line["key"] for line in log_lines if line["event"] == "retention.skipped"]
    assert {keys.parked, keys.commands, keys.outcomes, keys.dead} <= set(skipped)
    assert log_lines[-1]["event"] == "retention.completed"


async def test_ids_without_a_record_leave_the_open_set_and_are_named(
    store: Store, log_lines: list[Any]
) -> None:
    keys = store.keys
    await store.redis.zadd(keys.open, dict.fromkeys(IDS, 1))
    async with store.redis.pipeline() as pipe:
        put(pipe, keys, payment())
        await pipe.execute()
    assert await store.wake_overdue() == 1
    assert await store.redis.zrange(keys.open, 0, -1) == [KEY.encode()]
    [line] = log_lines
    assert (line["event"], line["count"]) == ("record.missing", len(IDS))
    assert "no-colon" in line["payments"]


async def test_a_payment_whose_record_is_gone_when_it_is_woken_is_named(
    store: Store, log_lines: list[Any]
) -> None:
    await store.redis.zadd(store.keys.open, {KEY: 1})
    assert await store.claim(KEY) is None
    [line] = log_lines
    assert (line["event"], line["payments"]) == ("record.missing", [KEY])


async def test_an_id_cannot_write_a_job_of_its_own(store: Store) -> None:
    id_ = 'c:"],"f":"forget_payment","k":{"x":"\\'
    redis: Any = store.redis
    await redis.hset(store.keys.payment(id_), "x", "1")
    await redis.zadd(store.keys.open, {id_: 1})
    assert await store.wake_overdue() == 1
    job = json.loads(await store.redis.get(f"arq:job:{store.keys.job(id_)}"))
    assert (job["f"], job["a"], job["k"]) == ("follow_payment", [id_], {})


async def test_the_list_of_the_pending_shows_what_cannot_be_read(store: Store) -> None:
    redis: Any = store.redis
    keys = store.keys
    async with redis.pipeline() as pipe:
        put(pipe, keys, payment("good"))
        for name in ("a", "b", "c"):
            put(pipe, keys, payment(name))
        await pipe.execute()
    await redis.hset(keys.payment(f"{CLIENT_ID}:a"), "trackedAt", "soon")
    await redis.hdel(keys.payment(f"{CLIENT_ID}:b"), "currency")
    await redis.set(keys.payment(f"{CLIENT_ID}:c"), "no hash")
    await redis.zadd(keys.open, dict.fromkeys(IDS, 1))
    found = await views.open_payments(redis, keys.prefix, 0, 100)
    assert {row["paymentRequestId"]: row["status"] for row in found.rows} == {
        "good": "pending",
        "a": "unreadable",
        "b": "unreadable",
        "c": "unreadable",
    }
    views.listed(found)


# The whole


async def plant(redis: Any, keys: Keys) -> None:
    """Junk in every key of ours; each name and each value as odd as Redis lets them be."""
    soon = now_ms() - 1_000
    async with redis.pipeline(transaction=False) as pipe:
        for n, raw in enumerate(JUNK):
            hurt = payment(f"junk-mail-{n}")
            put(pipe, keys, hurt)
            pipe.rpush(keys.inbox(hurt.key), raw)
            pipe.rpush(keys.timeline(hurt.key), raw)
            odd = payment(f"junk-record-{n}")
            put(pipe, keys, odd)
            pipe.hset(keys.payment(odd.key), mapping={b"marks": raw, b"status": raw})
            pipe.set(f"arq:job:{keys.prefix}:junk-job-{n}", raw)
            pipe.zadd(keys.queue, {f"{keys.prefix}:junk-job-{n}": soon})
            pipe.xadd(keys.commands, {"type": "payment.track", "data": raw})
            pipe.xadd(keys.commands, {"type": raw, raw: raw})
            pipe.xadd(keys.quarantine, {"body": raw})
            pipe.xadd(keys.dead, {raw: raw})
            pipe.xadd(keys.outcomes, {raw: raw})
            pipe.hset(keys.brake, raw, raw)
        pipe.zadd(keys.open, {id_: soon for id_ in IDS})
        pipe.zadd(keys.parked, {id_: soon for id_ in IDS})
        pipe.zadd(keys.open, {f"{CLIENT_ID}:junk-type-{n}": soon for n in range(3)})
        pipe.set(keys.payment(f"{CLIENT_ID}:junk-type-0"), "no hash")
        put(pipe, keys, payment("junk-type-1"))
        pipe.set(keys.inbox(f"{CLIENT_ID}:junk-type-1"), "no list")
        put(pipe, keys, payment("junk-type-2"))
        pipe.set(keys.timeline(f"{CLIENT_ID}:junk-type-2"), "no list")
        for n, job in enumerate(ODD_JOBS):
            pipe.set(f"arq:job:{keys.prefix}:odd-job-{n}", json.dumps(job))
            pipe.zadd(keys.queue, {f"{keys.prefix}:odd-job-{n}": soon})
        await pipe.execute()


_JOB: dict[str, Any] = {"v": 1, "t": None, "f": "follow_payment", "a": ["c:x"], "k": {}, "et": 1}
#: A worker of arq ends at each of these where nobody looks before it.
ODD_JOBS = [
    _JOB | {"t": "one"},
    _JOB | {"t": [1]},
    _JOB | {"f": ["follow_payment"]},
    _JOB | {"f": None},
    _JOB | {"et": "now"},
    _JOB | {"et": 10**30},
    _JOB | {"et": None},
    _JOB | {"a": 7},
    _JOB | {"a": [1, 2, 3]},
    _JOB | {"k": []},
    _JOB | {"k": {"x": 1}},
    _JOB | {"f": "track_payment", "a": [["x"]]},
    _JOB | {"f": "track_payment", "a": [None]},
    _JOB | {"f": "track_payment", "a": []},
    _JOB | {"f": "track_payment", "a": [{"x": "y" * 1_000_000}]},
    _JOB | {"f": "os.system", "a": ["true"]},
    _JOB | {"a": [[1]]},
    {},
]
WAKE_UPS = 3  #: of what is no open payment: there is nothing to do and nothing to keep
DEAD_JOBS = len(JUNK) + len(ODD_JOBS) - WAKE_UPS


async def test_with_junk_in_every_key_a_good_payment_still_reaches_its_end(
    redis_url: str, redis: Redis, prefix: str, tmp_path: Path
) -> None:
    keys, raw = Keys(prefix), Redis.from_url(redis_url)
    await plant(raw, keys)
    async with scripted_gateway() as gateway, raw:
        gateway.answer = says("SUCCESS")
        given = environ(redis_url, prefix, gateway.url)
        with process(tmp_path, given, *reconciler("worker")) as worker:
            await asyncio.sleep(3)  # let it meet all of it
            await track(raw, "good", "USD", 599, expires_in=600, prefix=prefix)
            await until(lambda: _ended(raw, keys, "good"))
            await track(raw, "good-2", "USD", 599, expires_in=600, prefix=prefix)
            await until(lambda: _ended(raw, keys, "good-2"))
            assert worker.running
            _names_the_junk(worker)
            pending = [p["pending"] for p in await raw.xinfo_groups(keys.commands)]
            assert pending == [0]
            assert await raw.xlen(keys.dead) == 3 * len(JUNK) + DEAD_JOBS
            for n in range(len(JUNK)):  # what was hurt only by its mail or timeline ends, too
                await until(partial(_ended, raw, keys, f"junk-mail-{n}"))


async def _ended(redis: Any, keys: Keys, name: str) -> bool:
    return bool(await redis.hget(keys.payment(f"{CLIENT_ID}:{name}"), "status") == b"succeeded")


def _names_the_junk(worker: Process) -> None:
    assert {"record.missing", "record.unreadable", "command.dead"} <= {
        line["event"] for line in worker.lines
    }
    assert not worker.find("worker.failed") and not worker.find("log.failed")
    unreadable = {line["payment_request_id"] for line in worker.find("record.unreadable")}
    assert {f"junk-record-{n}" for n in range(len(JUNK))} <= unreadable
    wrong = [line for line in worker.lines if "WRONGTYPE" in str(line.get("fault"))]
    assert wrong
    assert all(len(json.dumps(line)) < 20_000 for line in worker.lines)


@pytest.mark.parametrize(
    "name",
    [
        "open",
        "commands",
        "outcomes",
        "queue",
        "brake",
        "parked",
    ],
)
@pytest.mark.once
async def test_a_key_that_is_no_such_thing_is_told_and_waited_for(
    name: str, tmp_path: Path
) -> None:
    with own_server() as server:
        keys, raw = Keys(), Redis.from_url(server.url)
        async with scripted_gateway() as gateway, raw:
            gateway.answer = says("SUCCESS")
            await raw.set(getattr(keys, name), "no such thing")
            given = environ(server.url, "reconciler", gateway.url)
            with process(tmp_path, given, *reconciler("worker")) as worker:
                if name != "commands":
                    await track(raw, "good", "USD", 599, expires_in=600)

                def told() -> bool:
                    return any("WRONGTYPE" in str(line.get("fault")) for line in worker.lines)

                await until(_soon(told))
                await raw.delete(getattr(keys, name))
                if name == "commands":
                    await track(raw, "good", "USD", 599, expires_in=600)
                await until(lambda: _ended(raw, keys, "good"), 40)
                assert worker.running


def _soon(told: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return told()

    return look
