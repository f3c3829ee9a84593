"""What repeats is written a few times and then counted; what happens once is always written."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.servers import ROOT, wait_until
from worker import condense, logs
from worker.condense import MAX_REASONS, Condenser
from worker.events import EVENTS, FEW
from worker.logs import log
from worker.settings import SETTINGS
from worker.values import LogFormat, LogLevel

Said = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def said() -> Said:
    return []


@pytest.fixture
def condenser(said: Said) -> Condenser:
    return Condenser(lambda level, facts: said.append((level, facts)))


def line(event: str, **facts: Any) -> dict[str, Any]:
    return {"event": event, "level": EVENTS[event].level or "warning", **facts}


def passed(condenser: Condenser, times: int, event: str, **facts: Any) -> int:
    """How many of so many alike are written."""
    return sum(condenser.passes(line(event, **facts)) for _ in range(times))


def test_a_few_of_each_reason_pass_and_the_rest_is_counted(
    condenser: Condenser, said: Said
) -> None:
    about = {"client_id": "c", "payment_request_id": "p1"}
    assert passed(condenser, FEW + 7, "inquiry.unanswered", why="timeout", **about) == FEW
    assert passed(condenser, FEW + 3, "inquiry.unanswered", why="not_connected") == FEW
    assert said == []
    condenser.tell()
    [(level, facts)] = said
    assert level == "warning"
    assert facts.pop("seconds") >= 0
    assert facts == {
        "condensed": "inquiry.unanswered",
        "count": 10,
        "reasons": {"timeout": 7, "not_connected": 3},
        "example": {},
    }


def test_whom_the_last_line_was_about_is_told(condenser: Condenser, said: Said) -> None:
    for n in range(FEW + 2):
        condenser.passes(line("notification.rejected", reason="path", peer=f"10.0.0.{n}", ms=1))
    condenser.tell()
    assert said[0][1]["example"] == {"peer": f"10.0.0.{FEW + 1}"}


def test_what_was_told_is_not_told_again(condenser: Condenser, said: Said) -> None:
    passed(condenser, FEW + 1, "cancel.sent")
    condenser.tell()
    condenser.tell()
    assert len(said) == 1


ONCE = [name for name, entry in EVENTS.items() if not entry.burst]


@pytest.mark.parametrize("event", ONCE)
def test_what_happens_once_always_passes(condenser: Condenser, event: str) -> None:
    assert passed(condenser, 3 * FEW, event) == 3 * FEW


@pytest.mark.parametrize(
    "event",
    ["payment.tracked", "payment.changed", "payment.final", "payment.stuck", "notification.applied"]
    + ["outcome.published", "command.accepted", "command.rejected", "command.dead"]
    + ["worker.started", "worker.redis_back", "redis.away", "store.lost", "log.condensed"],
)
def test_what_may_never_be_missing_is_never_counted_instead(event: str) -> None:
    assert event in ONCE


@pytest.mark.parametrize("event", ["notification.accepted", "notification.quarantined"])
def test_a_genuine_notification_passes_and_only_its_duplicates_are_counted(
    condenser: Condenser, event: str
) -> None:
    assert passed(condenser, 2 * FEW, event, result="parked") == 2 * FEW
    assert passed(condenser, 2 * FEW, event, result="duplicate") == FEW


def test_the_next_window_begins_anew(
    condenser: Condenser, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condense, "WINDOW_SECONDS", 0.05)
    assert passed(condenser, FEW, "cancel.sent") == FEW
    time.sleep(0.06)
    assert passed(condenser, FEW, "cancel.sent") == FEW
    assert said == []


def test_the_count_is_told_in_time_also_where_nothing_more_is_logged(
    condenser: Condenser, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condense, "WINDOW_SECONDS", 0.05)
    assert passed(condenser, FEW + 1, "cancel.sent") == FEW
    wait_until(lambda: said, 5)
    assert said[0][1]["count"] == 1


def test_a_stranger_cannot_make_it_hold_more_than_a_few_reasons(
    condenser: Condenser, said: Said
) -> None:
    written = sum(
        condenser.passes(line("http.malformed", error=f"E{n % 5000}")) for n in range(10_000)
    )
    condenser.tell()
    assert written == 2 * MAX_REASONS + FEW  # those told apart were there twice
    [(_, facts)] = said
    assert facts["count"] == 10_000 - written
    assert set(facts["reasons"]) == {"other"}


def test_threads_that_log_at_once_are_counted_together(
    condenser: Condenser, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Slow(threading.Timer):
        """Whoever makes one gives all other threads the time to come between."""

        def __init__(self, *args: Any) -> None:
            made.append(self)
            time.sleep(0.05)
            super().__init__(*args)

    monkeypatch.setattr(threading, "Timer", Slow)
    threads = [
        threading.Thread(target=passed, args=(condenser, 100, "cancel.sent")) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    condenser.tell()
    assert len(made) == 1
    assert [facts["count"] for _, facts in said] == [800 - FEW]


# In the log


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Any:
    """What stands on stderr, condensed as in production."""
    logs.configure(LogFormat.JSON, LogLevel.INFO, strict=True)
    capsys.readouterr()
    yield lambda: [json.loads(each) for each in capsys.readouterr().err.splitlines()]
    logs.configure(LogFormat.JSON, LogLevel.DEBUG, condensed=False, strict=True)


def test_the_count_is_a_line_at_the_level_of_what_it_counts(
    written: Callable[[], list[dict[str, Any]]],
) -> None:
    for _ in range(FEW + 5):
        log.error("payment.alarmed", alarm="unresolved: brake", payment_request_id="p1")
    logs._condenser.tell()
    *lines, last = written()
    assert [each["event"] for each in lines] == ["payment.alarmed"] * FEW
    assert (last["event"], last["level"]) == ("log.condensed", "error")
    assert (last["condensed"], last["count"]) == ("payment.alarmed", 5)
    assert last["reasons"] == {"unresolved: brake": 5}
    assert last["example"] == {"payment_request_id": "p1"}


def test_watchers_hear_of_every_line(written: Callable[[], list[dict[str, Any]]]) -> None:
    heard: list[str] = []
    logs.watchers.append(lambda event, _: heard.append(event))
    try:
        for _ in range(FEW + 5):
            log.info("cancel.sent")
    finally:
        logs.watchers.pop()
    assert heard == ["cancel.sent"] * (FEW + 5)
    assert len(written()) == FEW


def test_what_libraries_say_again_and_again_is_counted_too(
    written: Callable[[], list[dict[str, Any]]],
) -> None:
    import logging

    for _ in range(FEW + 5):
        logging.getLogger("asyncio").error("Task was destroyed")
    logs._condenser.tell()
    *_, last = written()
    assert (last["condensed"], last["count"], last["reasons"]) == (
        "library.logged",
        5,
        {"asyncio": 5},
    )


def test_a_line_that_cannot_be_written_is_no_flood_either(
    written: Callable[[], list[dict[str, Any]]],
) -> None:
    circle: list[Any] = []
    circle.append(circle)
    for _ in range(FEW + 5):
        log.info("payment.changed", status=circle)
    logs._condenser.tell()
    *lines, last = written()
    assert [each["event"] for each in lines] == ["log.failed"] * FEW
    assert (last["condensed"], last["count"]) == ("log.failed", 5)


def test_the_setting_says_how_many_lines_pass() -> None:
    [setting] = [each for each in SETTINGS if each.name == "LOG_CONDENSED"]
    assert f"written {FEW} times in ten seconds" in setting.meaning
    assert condense.WINDOW_SECONDS == 10


AT_ITS_END = """
from worker import logs
logs.configure()
for n in range(60):
    logs.log.info("cancel.sent", payment_request_id=f"p{n}")
"""


def test_the_last_window_is_told_when_the_process_ends() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", AT_ITS_END], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    *lines, last = [json.loads(each) for each in ended.stderr.splitlines()]
    assert len(lines) == FEW
    assert (last["event"], last["count"]) == ("log.condensed", 10)
    assert last["example"] == {"payment_request_id": "p59"}
