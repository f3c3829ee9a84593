"""However many payments are open, and whoever sends us what: the log stays small, and tells all.

`python -m tests.outage` does the same with 50,000 payments, for as long as you like.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from jobs.limits import IN_A_ROW
from tests.outage import PAST_CLOSING, PREFIX, Heard, run, stage
from tests.servers import OtherServer
from worker.condense import WINDOW_SECONDS
from worker.events import EVENTS, FEW
from worker.keys import Keys

pytestmark = pytest.mark.once

SECONDS = 8  # a worker on a busy machine needs some of them to begin
#: A run may reach into one window more than it lasts, at each of its ends.
WINDOWS = SECONDS // WINDOW_SECONDS + 2


@pytest.fixture
def at() -> Iterator[tuple[OtherServer, Path]]:
    with stage() as (server, folder):
        yield server, folder


def repeated(found: Heard) -> int:
    """Lines of events that repeat."""
    return sum(n for event, n in found.written.items() if EVENTS[event].burst)


async def recorded(server: OtherServer, field: str) -> int:
    """The sum of a number in all records."""
    redis = Redis.from_url(server.url)
    names = [name async for name in redis.scan_iter(f"{PREFIX}:v1:payment:*", count=1000)]
    found = [int(await redis.hget(name, field) or 0) for name in names]
    await redis.aclose()
    return sum(found)


async def published(server: OtherServer) -> int:
    redis = Redis.from_url(server.url)
    length: int = await redis.xlen(Keys(PREFIX).outcomes)
    await redis.aclose()
    return length


async def test_a_gateway_that_is_away_is_told_of_once_and_each_try_is_counted(
    at: tuple[OtherServer, Path],
) -> None:
    """The breaker opens: of 3000 payments few are asked for."""
    server, folder = at
    found = await run(server, folder, "refuse", 3000, SECONDS)
    tries = found.written["inquiry.unanswered"] + found.condensed["inquiry.unanswered"]
    assert IN_A_ROW <= tries < 1000
    assert tries == await recorded(server, "unanswered")
    assert found.written["breaker.opened"] == 1
    assert repeated(found) <= FEW * WINDOWS


async def test_a_gateway_that_is_not_believed_is_told_of_in_few_lines_and_each_try_is_counted(
    at: tuple[OtherServer, Path],
) -> None:
    """Nothing of ours opens then: it is there, and asked at the pace of the schedule."""
    server, folder = at
    found = await run(server, folder, "lie", 3000, SECONDS)
    tries = found.written["inquiry.unanswered"] + found.condensed["inquiry.unanswered"]
    assert tries > 3 * FEW, "too few to tell anything"
    assert tries == await recorded(server, "unanswered")
    assert repeated(found) <= FEW * WINDOWS


async def test_what_becomes_of_a_payment_without_an_answer_is_told_for_each_one(
    at: tuple[OtherServer, Path],
) -> None:
    """Past their closing time all of them are given up, and the cancels are in vain."""
    server, folder = at
    found = await run(server, folder, "lie", 150, 4 * SECONDS, **PAST_CLOSING, CANCEL_BRAKE="0")
    assert found.written["outcome.published"] == await published(server) >= 150
    assert found.written["payment.changed"] == await published(server)
    assert not {"outcome.published", "payment.changed"} & set(found.condensed)
    cancels = found.written["cancel.sent"] + found.condensed["cancel.sent"]
    assert cancels == await recorded(server, "cancelAttempts") > FEW


async def test_a_flood_of_forged_notifications_is_told_of_in_few_lines_and_all_are_counted(
    at: tuple[OtherServer, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server, folder = at
    found = await run(server, folder, "forged", 0, SECONDS)
    sent = int(capsys.readouterr().out.split()[0])
    both = ("notification.rejected", "http.malformed")
    assert sum(found.written[event] + found.condensed[event] for event in both) == sent > 5 * FEW
    reasons = 3  # signature, header missing, no HTTP
    assert repeated(found) <= FEW * WINDOWS * reasons


async def test_a_redis_that_is_away_is_told_of_in_few_lines(at: tuple[OtherServer, Path]) -> None:
    server, folder = at
    found = await run(server, folder, "redis", 1000, SECONDS)
    assert found.written["worker.redis_waiting"] > 0
    assert found.written["worker.redis_back"] > 0
    assert found.most < 3 * FEW
