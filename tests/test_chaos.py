"""The short version of `make chaos`, and what it stands on: power cuts, and wires that cut."""

import asyncio
import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from tests.chaos.__main__ import run
from tests.chaos.cuts import REQUESTS, lives
from tests.chaos.endpoint import Call
from tests.chaos.killed import seconds_until_asked_again
from tests.chaos.merchant import Seen, Wish
from tests.chaos.proxy import Wire
from tests.chaos.server import Server, compile_shim
from tests.chaos.verdict import Facts, Kept, faults_in_logs, judge
from tests.chaos.world import Setup
from tests.servers import environ, notification, paid, send, until
from worker.mock_gateway import Standing, Truth
from worker.receiving import run_receiver
from worker.settings import Need, load

WRITES = 300


@pytest.fixture
def folder() -> Iterator[Path]:
    """In /tmp, as the path of a socket must be short."""
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
def shim(folder: Path) -> Path:
    found = compile_shim(folder)
    if found is None:
        pytest.skip("no C compiler, so no power cuts: install gcc")
    return found


# The whole


@pytest.mark.once
async def test_whatever_breaks_nothing_is_lost_wrong_or_doubled(folder: Path) -> None:
    setup = Setup(folder=folder, shim=compile_shim(folder), seed=93)
    result = await run(setup, seconds=6, settle=60)
    assert [(f.kind, f.about, f.what) for f in result.findings] == []
    assert result.kills >= 2
    assert len(result.facts.wishes) > 10


# The verdict: what is right is not blamed, and each thing that is wrong is


ACKED = {"at": 2_000, "what": "acknowledged", "detail": "d1", "paymentRequestId": "paid-1"}


def heard(**changed: Any) -> Kept:
    """A payment that was paid at 1 s and notified at 2 s."""
    lines = [{"source": "command", "what": "payment.track"}, {"source": "notification"}]
    kept = Kept({"status": "succeeded"}, lines, [], frozenset({"d1"}))
    return replace(kept, **changed)


def event(name: str, seq: int = 1, status: str = "", at: int = 2_100) -> Seen:
    return Seen(at, f"C:paid-1:{name}", f"payment.{name}", "paid-1", seq, status or name, {})


def facts(**changed: Any) -> Facts:
    """Everything about one payment that ended as it should."""
    wish = Wish("paid-1", closing=6_000, tracked=True, confirmed=Counter({"payment.track": 1}))
    truth = Truth(payment_request_id="paid-1", status=Standing.PAID, amount=599, taken=599)
    right = Facts({"paid-1": wish}, {"paid-1": [event("succeeded")]}, {"paid-1": heard()}, {}, {})
    right = replace(right, truths={"paid-1": truth}, journal={"paid-1": [ACKED]})
    published = changed.pop("published", Counter())
    given: dict[str, Any] = {name: {"paid-1": value} for name, value in changed.items()}
    return replace(right, published=published, **given)


def asked(**times: int) -> list[dict[str, Any]]:
    return [{"at": at, "what": what, "detail": ""} for what, at in times.items()]


def wish(**changed: Any) -> Wish:
    return replace(facts().wishes["paid-1"], **changed)


PAYS = [{"at": 500, "what": "pay", "detail": "p1"}] * 2
MADE = [
    replace(event("submitted"), data={"paymentId": "P1", "redirectUrl": "https://c/?p=P1"}),
    event("succeeded", 2),
]
BOUGHT: dict[str, Any] = {
    "journal": PAYS,
    "seen": MADE,
    "wishes": wish(submitted=True, callback=True, tries=1),
}
CALLED = [Call(e.id, "paid-1", e.seq, e.status) for e in MADE]

WRONG = {
    "no record": ("lost", {"kept": heard(record={})}),
    "never ended": ("lost", {"kept": heard(record={"status": "pending"})}),
    "never told": ("lost", {"seen": []}),
    "unresolved and not told": ("lost", {"kept": heard(record={"status": "unresolved"})}),
    "acknowledged and gone": ("lost", {"kept": heard(heard=frozenset())}),
    "acknowledged, not applied": ("lost", {"kept": heard(timeline=heard().timeline[:1])}),
    "left in the inbox": ("lost", {"kept": heard(inbox=["mail"])}),
    "a command not carried out": (
        "lost",
        {"wishes": wish(confirmed=Counter({"payment.cancel": 1}))},
    ),
    "two ends": ("doubled", {"seen": [event("succeeded"), event("cancelled", 2)]}),
    "seq falls": ("doubled", {"seen": [event("unresolved.1", 2), event("succeeded")]}),
    "an event that contradicts itself": ("wrong", {"seen": [event("succeeded", status="failed")]}),
    "not paid": ("wrong", {"truths": Truth(payment_request_id="paid-1", status=Standing.CLOSED)}),
    "money stays taken": ("wrong", {"kept": heard(record={"status": "cancelled"})}),
    "a forgery acknowledged": (
        "wrong",
        {"truths": replace(facts().truths["paid-1"], forgeries_acked=1)},
    ),
    "a cancel after success was told": ("wrong", {"journal": asked(inquiry=6_000, cancel=6_100)}),
    "a cancel before closing time": ("wrong", {"journal": asked(cancel=2_000)}),
    "a cancel without a last inquiry": (
        "wrong",
        {"journal": asked(inquiry=5_000, cancel=6_100), "seen": [event("succeeded", at=9_000)]},
    ),
    "paid for and only to be followed": ("wrong", {"journal": PAYS[:1]}),
    "two requests to pay": (
        "doubled",
        {"journal": [PAYS[0], PAYS[0] | {"detail": "p2"}], "wishes": wish(submitted=True)},
    ),
    "submitted and never asked for": ("wrong", {"wishes": wish(submitted=True), "seen": MADE}),
    "the cashier of another order": (
        "wrong",
        {
            "journal": PAYS,
            "wishes": wish(submitted=True, tries=1),
            "seen": [replace(MADE[0], data={**MADE[0].data, "paymentId": "P2"}), MADE[1]],
        },
    ),
    "the cashier told twice": (
        "doubled",
        {
            "journal": PAYS,
            "wishes": wish(submitted=True, tries=1),
            "seen": MADE,
            "published": Counter({MADE[0].id: 2}),
        },
    ),
    "not called back": ("lost", {"wishes": wish(callback=True)}),
    "called back unasked": ("wrong", {"called": CALLED[1:]}),
    "called back out of order": (
        "wrong",
        BOUGHT | {"called": CALLED[::-1]},
    ),
    "called back and never told": (
        "wrong",
        {"wishes": wish(callback=True), "called": [*CALLED[1:], replace(CALLED[1], id="x", seq=3)]},
    ),
    "called back with two meanings": (
        "wrong",
        {
            "wishes": wish(callback=True),
            "called": [CALLED[1], replace(CALLED[1], status="failed")],
        },
    ),
    "a cancel in report mode": (
        "wrong",
        {"journal": asked(inquiry=6_000, cancel=6_100), "wishes": wish(report=True)},
    ),
}


def test_a_payment_that_ended_rightly_is_not_blamed() -> None:
    assert judge(facts()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"journal": asked(cancel=2_000), "wishes": wish(cancel_at=1_900)},
        {"journal": asked(failed=1_900, cancel=2_000)},
        {"journal": asked(inquiry=6_000, cancel=6_100)},
        {"journal": asked(cancel=30_000)},
    ],
    ids=["asked for", "after FAIL", "after a last inquiry", "after the grace"],
)
def test_a_cancel_that_is_allowed_is_not_blamed(changed: dict[str, Any]) -> None:
    told_later = [event("succeeded", at=90_000)]
    assert judge(facts(**{"seen": told_later, **changed})) == []


@pytest.mark.parametrize(
    "changed",
    [
        BOUGHT | {"wishes": wish(submitted=True, tries=1)},
        BOUGHT | {"called": CALLED},
        BOUGHT | {"called": [CALLED[0], *CALLED]},
        BOUGHT | {"called": CALLED[:1], "kept": heard(to_call=frozenset({MADE[1].id}))},
        {"journal": asked(refused=900, cancel=1_000), "seen": [event("succeeded", at=90_000)]},
    ],
    ids=["paid once", "called back", "called back twice", "waits", "a cancel after a refused pay"],
)
def test_what_a_submit_and_callbacks_may_do_is_not_blamed(changed: dict[str, Any]) -> None:
    assert judge(facts(**changed)) == []


@pytest.mark.parametrize(("kind", "changed"), WRONG.values(), ids=WRONG)
def test_what_must_never_be_is_found(kind: str, changed: dict[str, Any]) -> None:
    assert kind in {finding.kind for finding in judge(facts(**changed))}


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ('{"event": "payment.final", "level": "info"}', False),
        ('{"event": "payment.alarmed", "level": "error"}', False),
        ('{"event": "payment.final", "level": "info", "undeclared": 1}', True),
        ('{"event": "delivery.failed", "level": "warning"}', False),
        ('{"event": "job.failed", "level": "error"}', True),
        ('{"event": "log.unregistered", "level": "error"}', True),
        ('{"event": "account.unknown", "level": "error"}', True),
        ('{"event": "library.logged", "exception": "Traceback (most recent"}', True),
        ("Traceback (most recent call last):", True),
    ],
)
def test_a_line_that_no_run_may_bring_forth_is_found(tmp_path: Path, line: str, bad: bool) -> None:
    (tmp_path / "worker-1.0001.log").write_text(line + "\nto")  # the last line may be torn
    assert [finding.kind for finding in faults_in_logs(tmp_path)] == ["broken"] * bad


# What it stands on: power


@pytest.mark.parametrize(
    ("fsync", "forgets"),
    [("always", False), ("everysec", True), ("no", True)],
)
def test_a_power_cut_forgets_what_was_acknowledged_unless_every_write_is_synced(
    folder: Path, shim: Path, fsync: str, forgets: bool
) -> None:
    server = Server(folder, shim, fsync=fsync)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            for n in range(WRITES):
                client.set(f"acknowledged-{n}", n)
            lost = server.cut_power()
            server.start()
            kept = sum(client.exists(f"acknowledged-{n}") for n in range(WRITES))
    finally:
        server.stop()
    assert (lost > 0, kept < WRITES) == (forgets, forgets)


def test_waitaof_confirms_what_a_power_cut_takes_unless_every_write_is_synced(
    folder: Path, shim: Path
) -> None:
    """Why it is not believed with `appendfsync everysec`: github.com/redis/redis/pull/13793"""
    server = Server(folder, shim, fsync="everysec")
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            gone = 0
            for round_ in range(5):  # a sync may come in between
                names = [f"{round_}-{n}" for n in range(4)]
                for name in names:
                    client.set(name, 1)
                    assert client.execute_command("WAITAOF", 1, 0, 3000)[0] == 1
                server.cut_power()
                server.start()
                gone += len(names) - client.exists(*names)
    finally:
        server.stop()
    assert gone


def test_a_log_that_was_rewritten_is_still_cut_to_what_was_synced(folder: Path, shim: Path) -> None:
    server = Server(folder, shim)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            for n in range(WRITES):
                client.set(f"acknowledged-{n}", n)
            client.bgrewriteaof()
            while client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.01)
            client.set("later", 1)
            server.cut_power(random.Random(1))
            server.start()
            assert client.dbsize() == WRITES + 1
    finally:
        server.stop()


# What it stands on: a wire


async def test_a_wire_passes_everything_on_and_cuts_when_told(redis_url: str) -> None:
    wire = Wire(redis_url.removeprefix("unix://"))
    await wire.start()
    client = Redis.from_url(f"redis://127.0.0.1:{wire.port}", decode_responses=True)
    try:
        assert await client.set("a", "b")
        wire.lose_next = True
        with pytest.raises(redis.ConnectionError):
            await client.set("a", "c")
        assert await client.get("a") == "c"  # carried out, only nobody was told
        assert wire.cut() == 1
        with pytest.raises(redis.ConnectionError):
            await client.get("a")
        wire.refusing = True
        with pytest.raises(redis.ConnectionError):
            await client.get("a")
        wire.flow()
        assert await client.get("a") == "c"
        wire.swallow()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get("a"), 0.2)
        wire.flow()
        wire.drop_next = True
        with pytest.raises(redis.ConnectionError):
            await client.set("a", "d")
        assert await client.get("a") == "c"  # never passed on
    finally:
        await client.aclose()
        await wire.close()


# The worker


@pytest.mark.once
async def test_a_connection_dropped_at_any_command_changes_no_end() -> None:
    """A sample: `python -m tests.chaos.cuts` goes through every command of a life."""
    found = await lives(range(1, REQUESTS, 11))
    assert [life for life in found if not life.right] == []
    assert len({life.command for life in found}) > 5


@pytest.mark.parametrize("first", range(1, 9))
async def test_a_receiver_whose_redis_goes_away_as_it_starts_receives_all_the_same(
    redis_url: str, prefix: str, first: int, unused_tcp_port: int
) -> None:
    cut = range(first, first + 3)  # more than one command is tried
    wire = Wire(redis_url.removeprefix("unix://"))
    wire.on_request = lambda *_: wire.requests not in cut
    await wire.start()
    given = environ(
        f"redis://127.0.0.1:{wire.port}", prefix, "", RECEIVER_PORT=str(unused_tcp_port)
    )
    stopping = asyncio.Event()
    receiver = asyncio.ensure_future(run_receiver(load(given, need=Need.NOTIFICATIONS), stopping))

    async def acknowledged() -> bool:
        with contextlib.suppress(ConnectionError):
            reply = await send(unused_tcp_port, notification(paid("order-1")).wire())
            return reply is not None and reply.status == 200
        return False

    await until(acknowledged)
    assert not receiver.done()
    stopping.set()
    await receiver
    await wire.close()


@pytest.mark.once
async def test_another_worker_asks_again_within_25_s_after_a_worker_was_killed_in_mid_inquiry(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    assert await seconds_until_asked_again(redis_url, prefix, tmp_path) < 25
