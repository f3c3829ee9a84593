"""The scripts as such: what arq finds in its queue, and what happens when the server forgets them,
hangs up in the middle, or cannot say that a write is safe.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job, deserialize_job_raw
from arq.worker import Worker as ArqWorker
from arq.worker import func
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from jobs.model import Decision, Event, Ms, Payment, Status
from jobs.payment import track as tracked
from jobs.schedule import DAY, MINUTE, Policy
from jobs.tools import LEASE, Entry
from tests.fakes import KEY, Bench, notification, open_bench, track
from worker import connect, queue
from worker.embedded import EmbeddedServer
from worker.keys import Keys
from worker.scripts import Confirm, NotDurable, Scripts
from worker.store import Store

SOON: Ms = 2_000
ON_DISK = Confirm(("WAITAOF", 1, 0, 3000), 1)


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


@pytest.fixture
async def payment(bench: Bench) -> Payment:
    now = await bench.now()
    created = await bench.worker.store.create(tracked(track(now), now, Policy()), [])
    assert created is not None
    return created


ENTRY = Entry(at=1, source="inquiry", what="paid")


async def written(bench: Bench) -> int:
    """How often `ENTRY` was written: equal lines are counted."""
    [line] = await bench.timeline()
    return int(line.get("count", 1))


def job_key(bench: Bench) -> str:
    return f"arq:job:{bench.keys.job(KEY)}"


async def job_at(bench: Bench) -> Ms | None:
    score = await bench.redis.zscore(bench.keys.queue, bench.keys.job(KEY))
    return None if score is None else round(score)


async def set_due(bench: Bench, at: Ms | str) -> None:
    await bench.redis.zadd(bench.keys.open, {KEY: at})


def arq_redis(bench: Bench) -> ArqRedis:
    """A client such as arq's own worker has."""
    return ArqRedis(
        connection_pool=bench.redis.connection_pool,
        job_deserializer=queue.deserialize,
        job_serializer=queue.serialize,
        default_queue_name=bench.keys.queue,
    )


# What arq finds


async def test_a_job_is_read_by_us_and_by_arq(bench: Bench, payment: Payment) -> None:
    raw = await bench.redis.get(job_key(bench))
    assert raw is not None
    ours = queue.deserialize(raw)
    assert (ours["f"], ours["a"], ours["k"], ours["v"]) == ("follow_payment", [KEY], {}, 1)
    arqs = list(deserialize_job_raw(raw, deserializer=queue.deserialize))
    queued_at = arqs.pop()
    assert arqs == ["follow_payment", [KEY], {}, None]
    assert queued_at == pytest.approx(await bench.now(), abs=SOON)


async def test_arq_knows_the_job_and_when_it_is_due(bench: Bench, payment: Payment) -> None:
    job = Job(bench.keys.job(KEY), arq_redis(bench), bench.keys.queue, queue.deserialize)
    info = await job.info()
    assert info is not None
    assert (info.function, info.score) == ("follow_payment", payment.next_at)
    assert (await job.status()).value == "deferred"


async def test_arq_runs_the_job_with_the_payments_key(bench: Bench, payment: Payment) -> None:
    ran: list[tuple[str, str]] = []

    async def follow_payment(ctx: dict[Any, Any], key: str) -> None:
        ran.append((ctx["job_id"], key))

    await bench.deliver(notification())  # wakes it now
    worker = ArqWorker(
        functions=[func(follow_payment, name="follow_payment")],
        redis_pool=arq_redis(bench),
        queue_name=bench.keys.queue,
        job_serializer=queue.serialize,
        job_deserializer=queue.deserialize,
        burst=True,
        poll_delay=0.01,
        keep_result=0,
        handle_signals=False,
    )
    await worker.main()
    assert ran == [(bench.keys.job(KEY), KEY)]
    assert await job_at(bench) is None


@pytest.mark.parametrize("ahead", [0, MINUTE, 30 * DAY])
async def test_no_payload_expires_before_its_time(
    bench: Bench, payment: Payment, ahead: Ms
) -> None:
    waits = Decision(payment=replace(payment, next_at=await bench.now() + ahead))
    assert await bench.worker.store.save(await bench.worker.load(), waits, [])
    assert await bench.redis.pttl(job_key(bench)) == pytest.approx(ahead + 30 * DAY, abs=SOON)


# claim: the payment's job goes where the payment does


async def lose_job(bench: Bench) -> None:
    """As stock arq does when a job has ended."""
    await bench.redis.delete(job_key(bench))
    await bench.redis.zrem(bench.keys.queue, bench.keys.job(KEY))


async def test_a_job_that_was_woken_before_its_time_is_put_back(
    bench: Bench, payment: Payment
) -> None:
    later = await bench.now() + MINUTE
    await set_due(bench, later)
    await bench.redis.zadd(bench.keys.queue, {bench.keys.job(KEY): 1})
    assert await bench.worker.store.claim(KEY) is None
    assert await job_at(bench) == later


@pytest.mark.parametrize("due", ["+inf", None])
async def test_what_needs_no_wake_up_has_no_job(
    bench: Bench, payment: Payment, due: str | None
) -> None:
    if due is None:
        await bench.redis.zrem(bench.keys.open, KEY)
    else:
        await set_due(bench, due)
    assert await bench.worker.store.claim(KEY) is None
    assert await job_at(bench) is None
    assert not await bench.redis.exists(job_key(bench))


async def test_a_payment_in_hand_has_its_job_at_the_end_of_the_lease(
    bench: Bench, payment: Payment
) -> None:
    """So whatever becomes of the worker, it is taken up then."""
    await set_due(bench, await bench.now())
    assert await bench.worker.store.claim(KEY)
    assert await job_at(bench) == await bench.due()
    assert await job_at(bench) == pytest.approx(await bench.now() + LEASE, abs=SOON)


async def test_mail_that_comes_while_it_is_in_hand_wakes_it_at_once(
    bench: Bench, payment: Payment
) -> None:
    await set_due(bench, await bench.now())
    assert await bench.worker.store.claim(KEY)
    await bench.deliver(notification())
    assert (await job_at(bench) or 0) <= await bench.now()
    assert await bench.worker.store.claim(KEY)


# The scripts themselves


async def test_there_is_a_script_for_each_file(bench: Bench) -> None:
    files = {file.stem for file in (Path(connect.__file__).parent / "lua").glob("*.lua")}
    assert set(Scripts(bench.redis)._scripts) == files - {"prelude"}


async def test_every_answer_begins_with_the_time_of_redis(bench: Bench, payment: Payment) -> None:
    calls: dict[str, tuple[list[str], list[Any]]] = {
        "claim": ([KEY, "inbox", "open", "brake", "queue"], [KEY, "c", "", 1, "prefix"]),
        "census": (["open"], ["payment:", "0", 10, 0, 1]),
        "hours": (["outcomes"], ["0-0", 10, "payment.succeeded"]),
        "collect": (["deliveries"], ["lane:", 1, 1, 1, 1, "{}"]),
        "finish": (["queue", "dead"], ["job", "1", ""]),
        "erase": (["p", "t", "open", "inbox", "parked"], [KEY, 1]),
        "overdue": (["open", "queue", "swept"], ["prefix", 500, 0, 10]),
        "gate": (["limits", "line"], [10_000, 0, "", ""]),
        "pass": (["limits", "line", KEY, "i", "open", "queue"], [KEY, "p", 1, 1, 1, 0, 1, 1, "1"]),
        "release": (["limits", "line", "open", "queue"], ["prefix", 0, 1, 0, 3, 0, "0", 10]),
        "redeliver": (["dead", "deliveries", "lane"], ["1-0", "lane", "{}", 0]),
        "settle": (["deliveries", "lane", "dead"], ["lane", "{}", "delivered", "", 1]),
        "stuck": (["open", "stuck"], ["payment:", "timeline:", 0, 0, 10, 10, 10]),
        "take": (["queue", "open"], ["prefix", 15_000, 10]),
        "told": (["stuck"], [KEY]),
        "waiting": (["deliveries"], ["lane:", 1]),
        "unpark": (["parked", "inbox", "p", "q"], [KEY, 1, "c", "r"]),
    }
    for name, (keys, args) in calls.items():
        names = [f"{bench.keys.prefix}:{key}" for key in keys]
        answer = await Scripts(bench.redis).run(name, names, args)
        assert answer[0] == pytest.approx(await bench.now(), abs=SOON), name


async def test_a_server_that_forgot_its_scripts_is_told_them_again_and_runs_once(
    bench: Bench, payment: Payment
) -> None:
    await bench.redis.script_flush()
    loaded = await bench.worker.load()
    await bench.redis.script_flush()
    assert await bench.worker.store.save(loaded, Decision(payment=payment), [ENTRY])
    assert await written(bench) == 1
    await bench.redis.script_flush()
    assert await bench.deliver(notification()) == "accepted"
    assert len(await bench.inbox()) == 1


async def test_a_server_that_forgets_at_once_is_an_error_not_a_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loads_nothing(_: str) -> None: ...

    await bench.redis.script_flush()
    monkeypatch.setattr(bench.redis, "script_load", loads_nothing)
    with pytest.raises(NoScriptError):
        await bench.worker.store.load(KEY)


async def test_scripts_and_payments_survive_the_death_of_the_server(
    tmp_path: Path, prefix: str
) -> None:
    """Each write was on disk before it was answered; the restarted server knows no script."""
    server = EmbeddedServer(tmp_path)
    server.start()
    redis = connect.client(server.url, tries=30)
    store = Store(redis, Keys(prefix), confirm=ON_DISK)
    try:
        now = store.now()
        assert await store.create(tracked(track(now), now, Policy()), [])
        server.kill()
        server.start()
        loaded = await store.load(KEY)
        assert loaded is not None
        assert await store.save(loaded, Decision(payment=loaded.payment), [])
    finally:
        await redis.aclose()
        server.stop()


async def test_a_fault_in_a_script_is_raised(bench: Bench) -> None:
    await bench.redis.set(bench.keys.open, "not a sorted set")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await bench.worker.store.claim(KEY)


# Safe, and what if not


async def test_a_write_is_answered_when_it_is_on_disk(bench: Bench, payment: Payment) -> None:
    confirmed = Store(bench.redis, bench.keys, confirm=ON_DISK)
    await confirmed.receive(KEY, "{}", "digest", parks=True, quarantine=None)
    assert len(await bench.inbox()) == 1


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_fewer_confirmations_than_asked_for_are_none(bench: Bench, count: int) -> None:
    """`WAIT 0` answers with the number of replicas: there are none."""
    store = Store(bench.redis, bench.keys, confirm=Confirm(("WAIT", 0, 1), count))
    if count == 0:
        await store.quarantine("c", "r", b"")
    else:
        with pytest.raises(NotDurable, match="WAIT answered 0"):
            await store.quarantine("c", "r", b"")


async def test_the_first_number_that_waitaof_answers_counts(bench: Bench, payment: Payment) -> None:
    """It is that of this server; the second one is that of its replicas."""
    two = Confirm(("WAITAOF", 1, 0, 3000), 2)
    with pytest.raises(NotDurable, match=r"WAITAOF answered \[1, 0\]"):
        await Store(bench.redis, bench.keys, confirm=two).quarantine("c", "r", b"")


def test_a_write_not_confirmed_is_a_failure_of_redis_as_any_other() -> None:
    """Whoever waits for Redis to come back waits for this, too."""
    assert issubclass(NotDurable, RedisError)


# A connection that is lost in the middle


async def cut_off(bench: Bench, work: Callable[[Store], Awaitable[Any]]) -> Any:
    """What `work` returns when its connection is killed after the script ran, before the answer."""
    redis = connect.client(bench.url)
    for script in Scripts(redis)._scripts.values():
        await redis.script_load(script.script)  # so that it runs the first time
    slow = Confirm(("WAIT", 1, 100), 0)  # the answer waits 100 ms for a replica that is not there
    try:
        connection = await redis.client_id()
        working = asyncio.ensure_future(work(Store(redis, bench.keys, confirm=slow)))
        while "wait" not in await commands_of(bench, connection):
            await asyncio.sleep(0.002)
        await bench.redis.client_kill_filter(_id=str(connection))
        return await working
    finally:
        await redis.aclose()


async def commands_of(bench: Bench, connection: int) -> list[str]:
    clients = await bench.redis.client_list(client_id=[str(connection)])
    return [client["cmd"] for client in clients]


async def test_a_save_whose_answer_is_lost_is_told_as_lost_and_written_once(
    bench: Bench, payment: Payment
) -> None:
    loaded = await bench.worker.load()
    ended = Decision(
        payment=replace(payment, status=Status.SUCCEEDED, next_at=None),
        events=(Event(type="payment.succeeded", name="succeeded", seq=1),),
    )
    assert await cut_off(bench, lambda store: store.save(loaded, ended, [ENTRY])) is None
    assert await bench.told() == ["succeeded"]
    assert await written(bench) == 1


async def test_a_payment_tracked_before_the_answer_is_lost_is_tracked_once(bench: Bench) -> None:
    now = await bench.now()
    decision = tracked(track(now), now, Policy())
    assert await cut_off(bench, lambda store: store.create(decision, [ENTRY])) is None
    assert await written(bench) == 1


async def test_a_notification_kept_before_the_answer_is_lost_is_kept_once(
    bench: Bench, payment: Payment
) -> None:
    result = await cut_off(
        bench, lambda store: store.receive(KEY, "{}", "digest", parks=True, quarantine=None)
    )
    assert result == "duplicate"  # acknowledged all the same
    assert len(await bench.inbox()) == 1


async def test_a_payment_erased_before_the_answer_is_lost_is_gone(
    bench: Bench, payment: Payment
) -> None:
    loaded = await bench.worker.load()
    assert await cut_off(bench, lambda store: store.erase(loaded)) is False
    assert await bench.worker.store.load(KEY) is None


async def test_calls_go_on_while_their_connections_are_killed(
    bench: Bench, payment: Payment
) -> None:
    redis = connect.client(bench.url, tries=20)
    store, saved = Store(redis, bench.keys), 0
    try:
        for _ in range(40):
            await bench.redis.client_kill_filter(_id=str(await redis.client_id()))
            loaded = await store.load(KEY)
            assert loaded is not None
            same = Decision(payment=loaded.payment)
            saved += await store.save(loaded, same, [ENTRY]) is not None
    finally:
        await redis.aclose()
    assert saved == await written(bench) == 40


# Calls of the same moment


async def test_calls_of_the_same_moment_share_a_round_trip_and_a_confirmation(
    bench: Bench, payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts, sent = Scripts(bench.redis), list[int]()
    send = scripts._send

    async def counted(calls: Any, confirm: Any) -> Any:
        sent.append(len(calls))
        return await send(calls, confirm)

    monkeypatch.setattr(scripts, "_send", counted)
    calls = [scripts.run("append", [bench.keys.outcomes], ["n", n], ON_DISK) for n in range(20)]
    await asyncio.gather(*calls, scripts.run("told", [bench.keys.stuck], [KEY]))
    assert sorted(sent) == [1, 20], "what needs no confirmation waits for none"
    assert await bench.redis.xlen(bench.keys.outcomes) == 20


async def test_of_calls_that_share_a_round_trip_one_that_fails_costs_no_other(
    bench: Bench, payment: Payment
) -> None:
    await bench.redis.set(bench.keys.parked, "no sorted set")
    await bench.redis.script_flush()
    scripts = Scripts(bench.redis)
    broken = scripts.run("unpark", [bench.keys.parked, "i", "p", "q"], [KEY, 1, "c", "r"])
    good = scripts.run("told", [bench.keys.stuck], [KEY])
    answers: list[Any] = await asyncio.gather(broken, good, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ResponseError, list]


async def test_what_nobody_confirms_is_told_as_such_to_all_who_share_it(bench: Bench) -> None:
    scripts, two = Scripts(bench.redis), Confirm(("WAITAOF", 1, 0, 3000), 2)
    calls = [scripts.run("append", [bench.keys.outcomes], ["n", n], two) for n in range(3)]
    faults = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(fault) for fault in faults} == {NotDurable}


async def test_who_is_cancelled_takes_nobody_with_him(bench: Bench) -> None:
    scripts = Scripts(bench.redis)
    calls = [
        asyncio.ensure_future(scripts.run("append", [bench.keys.outcomes], ["n", n]))
        for n in range(3)
    ]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert [call.cancelled() for call in calls] == [True, False, False]


async def test_a_server_that_stays_away_is_an_error_after_the_last_try(tmp_path: Path) -> None:
    redis = connect.client(f"unix://{tmp_path}/r.sock", tries=1)
    try:
        with pytest.raises(RedisConnectionError):
            await Store(redis, Keys("x")).load(KEY)
    finally:
        await redis.aclose()
