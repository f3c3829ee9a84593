"""A list becomes commands: all of it or, before anything is written, what is wrong with it.

Killed at any moment, an import goes on where it stood.
"""

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import WatchError

from jobs.model import Money, Rejected
from jobs.news import Track
from tests.keys import CLIENT_ID
from tests.proxy import proxying, to_socket
from tests.servers import own_server
from worker import connect, imports
from worker.commands import GROUP, read_command
from worker.groups import make_group
from worker.imports import Checked, Full, Import, Overtaken, Stalled, Terms, check
from worker.keys import Keys
from worker.payment_list import Line
from worker.replies import now_of
from worker.scripts import Confirm, NotDurable
from worker.store import Store
from worker.tasks import end

NOW = 1_796_000_000_000  #: 2026-11-30
AMOUNT = {"currency": "USD", "value": "599"}


def said(name: str = "order-1", **more: Any) -> dict[str, Any]:
    return {"paymentRequestId": name, "paymentAmount": AMOUNT, **more}


def line(number: int, **more: Any) -> Line:
    return Line(number, said(f"order-{number}", **more))


def checked(*lines: Line, **terms: Any) -> Checked:
    given: dict[str, Any] = {"accounts": [CLIENT_ID], "client_id": CLIENT_ID, "now": NOW}
    return check(lines, Terms(**given | terms), io.BytesIO())


def commands(checked: Checked) -> list[tuple[int, dict[str, Any]]]:
    return [(number, json.loads(data)) for number, data in checked.commands.read()]


def faults(checked: Checked) -> list[tuple[int, str, str]]:
    return [(bad.line, bad.paymentRequestId, bad.message) for bad in checked.faulty]


# Checking

AHEAD, PAST = "2026-12-01T00:00:00Z", "2026-11-01T00:00:00Z"


def test_a_good_line_becomes_the_command_that_it_says() -> None:
    found = checked(line(1, reference="basket 7", paymentExpiryTime=AHEAD))
    assert faults(found) == []
    [(number, data)] = commands(found)
    assert (number, data) == (
        1,
        said(reference="basket 7", paymentExpiryTime=AHEAD, clientId=CLIENT_ID),
    )


def test_what_the_command_line_says_holds_for_lines_that_say_nothing() -> None:
    other = line(2, clientId="OTHER", onTimeout="cancel")
    found = checked(line(1), other, accounts=[CLIENT_ID, "OTHER"], on_timeout="report")
    assert [(d["clientId"], d["onTimeout"]) for _, d in commands(found)] == [
        (CLIENT_ID, "report"),
        ("OTHER", "cancel"),
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"paymentRequestId": "order 1"}, "paymentRequestId: write 1 to 64 of"),
        ({"paymentAmount": None}, 'paymentAmount: write {"currency": "USD", "value": "599"}'),
        ({"paymentAmount": {"currency": "USD", "value": 599}}, "paymentAmount: write"),
        ({"expiresin": 5}, "'expiresin' is not a field of payment.track"),
        ({"paymentExpiryTime": "tomorrow"}, "paymentExpiryTime: write ISO 8601"),
        ({"clientId": "NOBODY"}, "no such account"),
        ({"onTimeout": "wait"}, "onTimeout: write cancel or report"),
    ],
)
def test_lines_are_read_as_the_worker_reads_commands(wrong: dict[str, Any], says: str) -> None:
    found = checked(line(1), Line(2, said("order-2") | wrong), line(3))
    [(number, _, message)] = faults(found)
    assert number == 2 and message.startswith(says) or says in message
    assert [number for number, _ in commands(found)] == [1, 3]
    assert (found.payments, found.last) == (3, 3)


def test_a_line_that_could_not_even_be_read_is_a_fault_like_any() -> None:
    assert faults(checked(Line(7, fault="it is not UTF-8"))) == [(7, "", "it is not UTF-8")]


def test_a_payment_past_its_time_is_not_cancelled_unless_somebody_says_so() -> None:
    found = checked(line(1, paymentExpiryTime=PAST))
    [(number, name, message)] = faults(found)
    assert (number, name) == (1, "order-1")
    assert "--on-timeout report" in message and '"onTimeout" in the line' in message
    assert commands(found) == []


@pytest.mark.parametrize("word", ["cancel", "report"])
def test_once_somebody_has_said_so_it_is_taken(word: str) -> None:
    by_line = checked(line(1, paymentExpiryTime=PAST, onTimeout=word))
    by_flag = checked(line(1, paymentExpiryTime=PAST), on_timeout=word)
    for found in (by_line, by_flag):
        [(_, data)] = commands(found)
        assert (data["onTimeout"], found.past, faults(found)) == (word, 1, [])


def test_the_moment_of_closing_is_past_and_the_one_before_is_not() -> None:
    assert checked(line(1, paymentExpiryTime=str(NOW))).faulty
    assert not checked(line(1, paymentExpiryTime=str(NOW + 1))).faulty


def test_lines_without_a_closing_time_are_counted() -> None:
    found = checked(line(1), line(2, expiresIn=60), line(3))
    assert (found.timeless, found.past) == (2, 0)


def test_a_payment_named_twice_is_written_once_and_told() -> None:
    found = checked(line(1), line(2), Line(3, said("order-1", reference="again")))
    assert [number for number, _ in commands(found)] == [1, 2]
    [double] = found.doubles
    assert (double.line, double.paymentRequestId, double.first) == (3, "order-1", 1)
    assert faults(found) == []


def test_named_twice_with_two_amounts_one_of_them_is_wrong() -> None:
    other = said("order-1") | {"paymentAmount": {"currency": "USD", "value": "600"}}
    [(number, name, message)] = faults(checked(line(1), Line(2, other)))
    assert (number, name) == (2, "order-1")
    assert message.startswith("line 1 names this payment with USD 599, this one with USD 600")


def test_two_accounts_may_each_have_a_payment_of_the_same_name() -> None:
    both = [Line(n, said("order-1", clientId=c)) for n, c in enumerate(("A", "B"), 1)]
    found = checked(*both, accounts=["A", "B"])
    assert len(commands(found)) == 2 and not found.doubles


def test_an_import_that_stood_at_a_line_goes_on_with_the_next() -> None:
    lines = [line(n) for n in range(1, 5)]
    for done in range(5):
        assert [n for n, _ in commands(checked(*lines, done=done))] == list(range(done + 1, 5))


def test_what_is_written_already_is_neither_judged_nor_written_again() -> None:
    """Its time may have passed since; but a later line that repeats it is still seen."""
    again = Line(4, said("order-2"))
    bad = Line(1, fault="it is not UTF-8")
    found = checked(bad, line(2, paymentExpiryTime=PAST), line(3), again, done=2)
    assert [number for number, _ in commands(found)] == [3]
    assert (faults(found), found.past) == ([], 0)
    assert [double.line for double in found.doubles] == [4]


def left_out(checked: Checked) -> list[tuple[int, str]]:
    assert not checked.faulty
    return [(bad.line, bad.message) for bad in checked.left_out]


def test_what_was_left_out_before_is_told_every_time_and_hinders_nothing() -> None:
    bad, past = Line(1, fault="it is not UTF-8"), line(2, paymentExpiryTime=PAST)
    found = checked(bad, past, line(3), line(4), done=3, left={1, 2})
    assert [number for number, _ in commands(found)] == [4]
    [(one, why), (two, time)] = left_out(found)
    assert (one, why, two) == (1, "it is not UTF-8", 2)
    assert time.startswith("its closing time is past")


def test_what_was_left_out_and_is_well_by_now_is_not_passed_over() -> None:
    found = checked(line(1, paymentExpiryTime=PAST), line(2), done=1, left={1}, on_timeout="cancel")
    [(number, message)] = left_out(found)
    assert (
        number == 1
        and message.startswith("it was left out, and is well")
        and ("--restart" in message)
    )
    assert ([number for number, _ in commands(found)], found.past) == ([2], 0)


@pytest.mark.parametrize("done", [0, 1])
def test_a_line_that_is_left_out_stands_for_no_later_one(done: int) -> None:
    """The payment would be in no command at all."""
    past, well = line(1, paymentExpiryTime=PAST), Line(2, said("order-1", onTimeout="report"))
    found = checked(past, well, done=done, left={1} if done else set())
    assert [number for number, _ in commands(found)] == [2]
    assert not found.doubles


def test_a_line_that_was_left_out_is_not_missed_where_an_earlier_one_names_its_payment() -> None:
    again = Line(2, said("order-1", paymentExpiryTime=PAST))
    assert left_out(checked(line(1), again, done=2, left={2})) == []


# Writing


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix)


@pytest.fixture
async def plain(redis_url: str, redis: Redis) -> AsyncIterator[Redis]:
    """As the command line connects."""
    client = connect.client(redis_url)
    yield client
    await client.aclose()


def numbered(numbers: Iterable[int]) -> list[tuple[int, bytes]]:
    return [(n, json.dumps(said(f"order-{n}")).encode()) for n in numbers]


async def written(redis: Redis, keys: Keys) -> list[str]:
    """The payments in the stream, as the worker reads them."""
    names = []
    for entry_id, fields in await redis.xrange(keys.commands):
        command = read_command(fields["type"], fields["data"], entry_id, NOW, [CLIENT_ID])
        assert isinstance(command, Track) and command.amount == Money("USD", 599)
        names.append(command.payment_request_id)
    return names


async def opened(redis: Redis, keys: Keys, name: str = "list", **more: Any) -> Import:
    importing = Import(redis=redis, keys=keys, name=name, **{"batch": 10, "room": 0} | more)
    await importing.load()
    return importing


def names(numbers: Iterable[int]) -> list[str]:
    return [f"order-{n}" for n in numbers]


async def test_every_payment_is_in_the_stream_once_and_in_order(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    importing = await opened(plain, keys)
    heard: list[int] = []
    await importing.write(numbered(range(1, 26)), heard.append)
    await importing.finish(26, None)
    assert await written(redis, keys) == names(range(1, 26))
    assert heard == [10, 10, 5]
    assert await redis.hget(keys.imports, "list") == "26"  # type: ignore[misc]


async def test_an_import_goes_on_where_it_stood(plain: Redis, redis: Redis, keys: Keys) -> None:
    first = await opened(plain, keys)
    began = first.began
    await first.write(numbered(range(1, 11)), lambda _: None)
    again = await opened(plain, keys)
    assert (again.done, again.began) == (10, began)
    await again.write(numbered(range(11, 15)), lambda _: None)
    assert await written(redis, keys) == names(range(1, 15))


async def test_lines_that_are_left_out_are_remembered_as_far_as_it_came(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    """Those behind are judged again by the next run: their time may have come by then."""
    lines = numbered([*range(2, 12), *range(13, 20)])
    killed = await opened(plain, keys)
    killed.leaving = [1, 12, 20]
    await killed.write(lines[:10], lambda _: None)
    again = await opened(plain, keys)
    assert (again.done, again.left) == (11, [1])
    again.leaving = [12, 20]
    await again.write(lines[10:], lambda _: None)
    assert (await opened(plain, keys)).left == [1, 12]
    await again.finish(20, None)
    assert (await opened(plain, keys)).left == again.left == [1, 12, 20]
    await again.restart()
    assert (await opened(plain, keys)).left == again.left == []


async def test_commands_and_progress_are_one_transaction(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    importing = await opened(plain, keys)
    transactions: list[list[str]] = []
    async with redis.monitor() as watched:
        await importing.write(numbered(range(1, 21)), lambda _: None)
        await redis.echo("the end")
        inside = False
        while (word := (await watched.next_command())["command"].split(" ")[0]) != "ECHO":
            if word in ("MULTI", "EXEC"):
                inside = word == "MULTI"
                transactions += [[]] if inside else []
            elif inside:
                transactions[-1].append(word)
            else:
                assert word not in ("XADD", "HSET"), f"{word} outside of a transaction"
    assert transactions == [["XADD"] * 10 + ["HSET"]] * 2


@pytest.mark.parametrize("answered", range(10, 220, 15))
async def test_wherever_the_connection_breaks_none_is_missing_and_none_twice(
    redis: Redis, redis_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch, answered: int
) -> None:
    """Each connection is reset after so many bytes of answers: in the midst of MULTI or EXEC."""

    async def enough(*_: Any) -> None:  # or its long answers would be cut, and nothing else
        return None

    monkeypatch.setattr(Import, "check_memory", enough)
    async with proxying(to_socket(Path(urlsplit(redis_url).path))) as proxy:
        flaky = connect.client(f"redis://127.0.0.1:{proxy.port}", tries=1)
        for proxy.cut_after in (answered, answered, None):
            with contextlib.suppress(RedisConnectionError, WatchError):
                importing = await opened(flaky, keys, batch=3)
                rest = range(importing.done + 1, 8)
                await importing.write(numbered(rest), lambda _: None)
        await flaky.aclose()
    assert await written(redis, keys) == names(range(1, 8))


async def test_another_list_that_goes_on_meanwhile_disturbs_nothing(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    one, two = await opened(plain, keys, "one"), await opened(plain, keys, "two")
    await asyncio.gather(
        one.write(numbered(range(1, 101)), lambda _: None),
        two.write(numbered(range(101, 201)), lambda _: None),
    )
    assert sorted(await written(redis, keys)) == sorted(names(range(1, 201)))


async def test_the_same_list_written_twice_at_once_is_written_once(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    one, two = await opened(plain, keys), await opened(plain, keys)
    ends = await asyncio.gather(
        *(each.write(numbered(range(1, 101)), lambda _: None) for each in (one, two)),
        return_exceptions=True,
    )
    assert {type(end) for end in ends if end is not None} <= {Overtaken}
    assert await written(redis, keys) == names(range(1, 101))


async def test_who_was_overtaken_writes_nothing_more(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    late, quick = await opened(plain, keys), await opened(plain, keys)
    await quick.write(numbered(range(1, 31)), lambda _: None)
    with pytest.raises(Overtaken):
        await late.write(numbered(range(1, 31)), lambda _: None)
    assert await written(redis, keys) == names(range(1, 31))


async def test_begun_anew_it_is_written_anew(plain: Redis, redis: Redis, keys: Keys) -> None:
    first = await opened(plain, keys)
    await first.write(numbered(range(1, 11)), lambda _: None)
    again = await opened(plain, keys)
    await again.restart()
    assert again.began > 0 and (await opened(plain, keys)).done == 0
    await again.write(numbered(range(1, 11)), lambda _: None)
    assert await written(redis, keys) == names([*range(1, 11), *range(1, 11)])


async def test_a_disk_that_does_not_confirm_is_told(plain: Redis, redis: Redis, keys: Keys) -> None:
    importing = await opened(plain, keys)
    with pytest.raises(NotDurable, match="WAIT answered 0"):
        await importing.finish(3, Confirm(("WAIT", 1, 10), 1))
    await importing.finish(3, Confirm(("WAITAOF", 1, 0, 3000), 1))
    assert importing.done == 3


# Not faster than the worker, nor more than there is room for


async def test_it_waits_while_much_is_waiting_for_the_worker(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    await make_group(redis, keys.commands, GROUP)
    importing = await opened(plain, keys, room=15, stall_seconds=20)
    task = asyncio.create_task(importing.write(numbered(range(1, 61)), lambda _: None))
    most, taken = 0, 0
    while not task.done() or taken < 60:
        waiting = await redis.xlen(keys.commands) - taken
        most = max(most, waiting)
        found = await redis.xreadgroup(GROUP, "worker", {keys.commands: ">"}, count=5)
        for entry_id, _ in found[0][1] if found else []:
            taken += await redis.xack(keys.commands, GROUP, entry_id)
        await asyncio.sleep(0.01)
    await task
    assert 10 < most <= 25  # at most one batch above
    assert await written(redis, keys) == names(range(1, 61))


async def test_wake_ups_that_are_due_count_as_well(plain: Redis, redis: Redis, keys: Keys) -> None:
    """A thousand payments asked about at once keep the shop's own ones waiting as long."""
    await redis.zadd(keys.queue, {f"job-{n}": 1 for n in range(16)})
    await redis.zadd(keys.queue, {f"later-{n}": 9e12 for n in range(100)})
    importing = await opened(plain, keys, room=15, stall_seconds=0.1)
    with pytest.raises(Stalled, match="16 wake-ups wait, and for 0 s none was taken up: no worker"):
        await importing.write(numbered([1]), lambda _: None)
    await redis.zrem(keys.queue, "job-1")
    await importing.write(numbered([1]), lambda _: None)
    assert await written(redis, keys) == names([1])


@pytest.mark.parametrize("sign", ["swept", "asks"])
async def test_a_worker_that_runs_is_not_said_to_be_missing(
    plain: Redis, redis: Redis, keys: Keys, sign: str
) -> None:
    await redis.zadd(keys.queue, {f"job-{n}": 1 for n in range(16)})
    await make_group(redis, keys.commands, GROUP)
    importing = await opened(plain, keys, room=15, stall_seconds=0.5)

    async def lives() -> None:
        while True:
            if sign == "swept":
                await redis.set(keys.swept, await now_of(redis))
            else:
                await redis.xreadgroup(GROUP, "worker", {keys.commands: ">"})
            await asyncio.sleep(0.05)

    worker = asyncio.create_task(lives())
    with pytest.raises(Stalled, match="16 wake-ups wait.*though a worker runs: its log says"):
        await importing.write(numbered([1]), lambda _: None)
    await end([worker])


@pytest.mark.parametrize("what", ["commands", "wake-ups"])
async def test_as_long_as_a_worker_takes_anything_up_it_is_waited_for_and_said_to_be_busy(
    plain: Redis, redis: Redis, keys: Keys, what: str
) -> None:
    """The shop writes as much as the worker does: it gets no less, and nothing is wrong."""
    notes: list[str] = []
    importing = await opened(plain, keys, room=15, stall_seconds=0.8, note=notes.append)
    await make_group(redis, keys.commands, GROUP)
    if what == "commands":
        await strangers(redis, keys, 20)
    else:
        await redis.zadd(keys.queue, {f"job-{n}": n for n in range(20)})
    task = asyncio.create_task(importing.write(numbered([1]), lambda _: None))
    n = 20
    while len(notes) < 2:
        assert not task.done(), task.exception()
        if what == "commands":
            await redis.xadd(keys.commands, {"n": n})
            [[_, [(entry_id, _)]]] = await redis.xreadgroup(
                GROUP, "worker", {keys.commands: ">"}, count=1
            )
            await redis.xack(keys.commands, GROUP, entry_id)
        else:
            await redis.zadd(keys.queue, {f"job-{n}": n})
            await redis.zpopmin(keys.queue)
        n += 1
        await asyncio.sleep(0.02)
    busy = f"2[01] {what} wait: the worker is busy, and this goes on when fewer do"
    assert all(re.fullmatch(busy, note) for note in notes)
    await redis.delete(keys.queue)
    await redis.xtrim(keys.commands, maxlen=0)
    await redis.xgroup_destroy(keys.commands, GROUP)
    await asyncio.wait_for(task, 10)
    assert await written(redis, keys) == names([1])


async def test_commands_that_nobody_takes_are_no_busy_workers_whatever_is_woken(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    await strangers(redis, keys, 16)
    importing = await opened(plain, keys, room=15, stall_seconds=0.5)
    task = asyncio.create_task(importing.write(numbered([1]), lambda _: None))
    for n in range(500):
        if task.done():
            break
        await redis.zadd(keys.queue, {f"job-{n}": n})
        await redis.zremrangebyrank(keys.queue, 0, -2)
        await asyncio.sleep(0.02)
    assert task.done()
    with pytest.raises(Stalled, match="16 commands and [12] wake-ups wait.*no worker"):
        await task


async def strangers(redis: Redis, keys: Keys, count: int) -> None:
    for n in range(count):
        await redis.xadd(keys.commands, {"n": n})


async def test_without_a_worker_it_stops_and_keeps_how_far_it_came(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    importing = await opened(plain, keys, room=15, stall_seconds=0.1)
    with pytest.raises(Stalled, match="20 commands wait, .*no worker seems to run; start one"):
        await importing.write(numbered(range(1, 61)), lambda _: None)
    assert (await opened(plain, keys)).done == 20
    assert await written(redis, keys) == names(range(1, 21))


async def test_redis_is_not_filled(prefix: str) -> None:
    with own_server("--maxmemory", "100mb") as server:
        client = connect.client(server.url)
        importing = await opened(client, Keys(prefix))
        await importing.check_memory(1000)
        with pytest.raises(Full, match=r"30000 payments take about 85 MiB.* of its 100 MiB"):
            await importing.check_memory(30_000)
        await client.config_set("maxmemory", 1)
        with pytest.raises(Full):
            await importing.write(numbered([1]), lambda _: None)
        await client.config_set("maxmemory", 0)
        await importing.check_memory(10**9)  # no limit, no fault: the probes tell of that
        await client.aclose()


# What became of it


async def test_all_is_carried_out_when_the_last_command_is_acknowledged(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    """Not when nothing waits: a shop's own commands never cease."""
    await make_group(redis, keys.commands, GROUP)
    importing = await opened(plain, keys)
    await importing.write(numbered(range(1, 4)), lambda _: None)
    await redis.xadd(keys.commands, {"type": "payment.track", "data": "{}"})
    task = asyncio.create_task(importing.carried_out())
    [[_, entries]] = await redis.xreadgroup(GROUP, "worker", {keys.commands: ">"})
    for entry_id, _ in entries[:2]:
        await redis.xack(keys.commands, GROUP, entry_id)
    await asyncio.sleep(3 * imports.LOOK_SECONDS)
    assert not task.done()
    await redis.xack(keys.commands, GROUP, entries[2][0])
    await asyncio.wait_for(task, 10)


@pytest.mark.parametrize("group", [True, False])
async def test_who_waits_for_a_worker_that_is_not_there_is_told(
    plain: Redis, redis: Redis, keys: Keys, group: bool
) -> None:
    if group:
        await make_group(redis, keys.commands, GROUP)
    importing = await opened(plain, keys, stall_seconds=0.1)
    await importing.write(numbered(range(1, 4)), lambda _: None)
    with pytest.raises(Stalled, match="3 commands wait, and for 0 s none was taken up: no worker"):
        await importing.carried_out()


async def test_what_the_worker_rejected_is_told_by_its_line(
    plain: Redis, redis: Redis, keys: Keys
) -> None:
    store = Store(redis, keys)
    found = checked(line(1), line(2), line(3))

    async def reject(name: str, command: str = "payment.track") -> None:
        about: dict[str, Any] = {"client_id": CLIENT_ID, "payment_request_id": name}
        await store.reject(
            Rejected(
                command_id=f"1-{name}",
                command=command,
                reason="conflict",
                message="another amount",
                **about,
            )
        )

    await reject("order-1")  # before this import began
    await asyncio.sleep(0.002)
    importing = await opened(plain, keys)
    await reject("order-3")
    await reject("order-3")
    await reject("order-2", "payment.cancel")
    await reject("stranger")
    told = await importing.rejected(found)
    assert [(bad.line, bad.message) for bad in told] == [(3, "conflict: another amount")]
