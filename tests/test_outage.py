"""How long Redis is away is said, and that it is back."""

from typing import Any

import pytest
from structlog.typing import EventDict

from worker import outage
from worker.outage import LONG_SECONDS, Outage

AWAY = ConnectionError("nobody listens")


class Clock:
    """A monotonic clock that is wound by hand; it began long ago."""

    now = 10_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(outage, "time", clock)
    monkeypatch.setattr(Outage, "_told_at", -LONG_SECONDS)
    return clock


def named(lines: list[EventDict], event: str) -> list[dict[str, Any]]:
    return [dict(line) for line in lines if line["event"] == event]


def test_nothing_is_said_of_a_redis_that_answers(clock: Clock, log_lines: list[EventDict]) -> None:
    jobs = Outage("jobs")
    jobs.answers()
    jobs.answers()
    assert log_lines == []


def test_that_it_is_back_is_said_once_with_how_long_it_was_away(
    clock: Clock, log_lines: list[EventDict]
) -> None:
    jobs = Outage("jobs")
    jobs.waits(AWAY)
    clock.now += 7
    jobs.waits(AWAY)
    clock.now += 1
    jobs.answers()
    jobs.answers()
    assert [line["event"] for line in log_lines] == ["worker.redis_waiting"] * 2 + [
        "worker.redis_back"
    ]
    assert [line["away_ms"] for line in log_lines] == [0, 7000, 8000]
    assert {line["task"] for line in log_lines} == {"jobs"}
    assert log_lines[0]["fault"] == "nobody listens"


def test_after_five_minutes_it_is_an_error_and_again_every_five(
    clock: Clock, log_lines: list[EventDict]
) -> None:
    jobs = Outage("jobs")
    for _ in range(16 * 60 + 1):  # a second each, all of 16 minutes
        jobs.waits(AWAY)
        clock.now += 1
    errors = named(log_lines, "redis.away")
    assert [line["away_ms"] for line in errors] == [300_000, 600_000, 900_000]
    assert {line["log_level"] for line in errors} == {"error"}


def test_several_tasks_that_wait_say_it_once_together(
    clock: Clock, log_lines: list[EventDict]
) -> None:
    tasks = [Outage("jobs"), Outage("commands"), Outage("sweep")]
    for _ in range(301):
        for task in tasks:
            task.waits(AWAY)
        clock.now += 1
    assert len(named(log_lines, "redis.away")) == 1


def test_an_outage_begins_anew_once_it_was_over(clock: Clock, log_lines: list[EventDict]) -> None:
    jobs = Outage("jobs")
    for _ in range(10):
        jobs.waits(AWAY)
        clock.now += 40
        jobs.answers()
    assert named(log_lines, "redis.away") == []
