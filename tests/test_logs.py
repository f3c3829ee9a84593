"""A log line is a fact with a known name, and holds no secret."""

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from structlog.typing import EventDict

from tests import log_events
from tests.conftest import Lines
from worker import logs
from worker.events import CONTEXT, EVENTS, FIELDS
from worker.logs import log
from worker.values import LogFormat, LogLevel


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    logs.configure(LogFormat.CONSOLE)
    yield lambda: capsys.readouterr().err
    logs.configure(LogFormat.JSON, LogLevel.DEBUG, condensed=False, strict=True)


# The list


@pytest.mark.parametrize("name", EVENTS)
def test_a_name_is_a_dotted_fact_and_is_explained(name: str) -> None:
    subject, _, fact = name.partition(".")
    assert subject.isalpha()
    assert fact.replace("_", "").isalpha()
    assert EVENTS[name].meaning.endswith(".")


def test_a_line_says_what_to_do_in_sentences() -> None:
    assert all(entry.remedy.endswith(".") for entry in EVENTS.values() if entry.remedy)
    silent = [name for name, e in EVENTS.items() if e.level == "error" and not e.remedy]
    assert silent == [], "an error wants a person: to do what?"


def test_every_field_is_explained_and_none_else() -> None:
    named = {field for entry in EVENTS.values() for field in entry.fields.split()}
    assert named | set(CONTEXT.split()) == set(FIELDS)


def test_what_tells_repeats_apart_is_a_field_of_the_line() -> None:
    for name, entry in EVENTS.items():
        by = {entry.reason, entry.only[0] if entry.only else ""} - {""}
        assert by <= set(entry.fields.split()), name
        assert not by or entry.burst, name


def test_every_line_in_the_code_is_as_the_list_says() -> None:
    found = list(log_events.calls())
    assert len(found) > 50
    for name, level, fields in found:
        logs.check_line(None, level, {"event": name, **dict.fromkeys(fields)})


def test_every_entry_of_the_list_is_logged_somewhere() -> None:
    assert set(EVENTS) - log_events.words() == set()


def test_the_page_of_events_is_as_the_list_says() -> None:
    said = log_events.PAGE.read_text("utf-8")
    assert said == log_events.page(), "python -m tests.log_events --write"


def test_a_line_of_a_process_is_held_against_the_list() -> None:
    good = {"timestamp": "", "level": "info", "event": "worker.stopped", "pid": 1, "role": "worker"}
    log_events.check_written(f"reconciler: hello\n{json.dumps(good)}\n")
    for wrong in ({"event": "worker.lost"}, {"level": "error"}, {"color": "red"}):
        with pytest.raises(ValueError, match="worker.events"):
            log_events.check_written(json.dumps(good | wrong))


def test_in_tests_a_name_that_is_not_on_the_list_raises() -> None:
    with pytest.raises(ValueError, match=r"'payment\.lost' is not in worker\.events: add it"):
        log.info("payment.lost")


def test_in_tests_a_level_other_than_the_lists_raises() -> None:
    with pytest.raises(ValueError, match="logged at info, in worker.events it is error"):
        log.info("worker.failed")
    log.exception("worker.failed")


def test_in_tests_a_field_that_is_not_declared_raises() -> None:
    with pytest.raises(ValueError, match=r"payment.tracked is logged with \['colour'\]"):
        log.info("payment.tracked", colour="red")


def test_the_lines_of_a_test_can_be_looked_at(log_lines: list[EventDict]) -> None:
    log.info("payment.tracked", payment_request_id="p1")
    assert log_lines == [
        {"event": "payment.tracked", "log_level": "info", "payment_request_id": "p1"}
    ]


def test_in_production_a_line_without_a_name_is_still_written(json_lines: Lines) -> None:
    log.error("payment.lost", payment_request_id="p1")
    [line] = json_lines()
    assert line["event"] == "log.unregistered"
    assert line["unregistered"] == "payment.lost"
    assert line["payment_request_id"] == "p1"


# The form


def test_off_a_terminal_a_line_is_json_with_time_level_and_name_first(json_lines: Lines) -> None:
    log.info("payment.tracked", amount="USD 5", inquiries=3)
    [line] = json_lines()
    assert list(line) == ["timestamp", "level", "event", "amount", "inquiries"]
    assert line["inquiries"] == 3
    assert (line["level"], line["event"], line["amount"]) == ("info", "payment.tracked", "USD 5")
    assert len(line["timestamp"]) == len("2026-01-02T03:04:05.678Z")
    assert line["timestamp"].endswith("Z")


def test_what_is_below_the_level_is_not_written(json_lines: Lines) -> None:
    log.debug("retention.completed")
    assert json_lines() == []


def test_nothing_is_written_to_stdout(
    json_lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    log.info("payment.tracked")
    assert capsys.readouterr().out == ""
    assert json_lines() == []


def test_configuring_twice_writes_a_line_once(json_lines: Lines) -> None:
    logs.configure()
    log.info("payment.tracked")
    assert len(json_lines()) == 1


def test_a_line_cannot_be_forged_from_within(json_lines: Lines) -> None:
    log.warning("notification.rejected", client_id='x"}\n{"event": "payment.final"}')
    assert [line["event"] for line in json_lines()] == ["notification.rejected"]


@pytest.mark.parametrize("nasty", ["\x1b[2J", "a\nb", "\u202eabc", "\r", "\x9b2J"])
def test_on_a_terminal_a_stranger_cannot_move_the_cursor(
    console: Callable[[], str], nasty: str
) -> None:
    log.warning("notification.rejected", client_id=nasty, headers={"x": nasty})
    shown = console()
    assert "notification.rejected" in shown
    assert shown.count("\n") == 1
    assert shown.rstrip("\n").isprintable()


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_a_traceback_shows_no_variables(console: Callable[[], str], log_format: LogFormat) -> None:
    logs.configure(log_format)
    key = "red" + "-secret"
    try:
        raise RuntimeError(f"oops, {len(key)}")
    except RuntimeError:
        log.exception("worker.failed")
    shown = console()
    assert "RuntimeError: oops, 10" in shown
    assert "red-secret" not in shown


def test_a_line_that_cannot_be_written_is_replaced_by_one_that_can(json_lines: Lines) -> None:
    circle: list[Any] = ["red-secret"]
    circle.append(circle)
    log.info("payment.tracked", circle=circle)
    failed = {"level": "error", "event": "log.failed", "fault": "RecursionError"}
    assert json_lines() == [failed]


def test_that_a_line_could_not_be_written_is_heard_by_watchers(json_lines: Lines) -> None:
    heard: list[str] = []
    logs.watchers.append(lambda event, _: heard.append(event))
    try:
        circle: list[Any] = []
        circle.append(circle)
        log.info("payment.tracked", circle=circle)
    finally:
        logs.watchers.pop()
    assert heard == ["payment.tracked", "log.failed"]


def test_a_closed_stderr_stops_nobody(json_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", closed)
        log.info("payment.tracked")
    assert json_lines() == []


# Who watches


@pytest.fixture
def watched() -> Iterator[list[tuple[str, str]]]:
    """Event and level of each line that a watcher hears of."""
    heard: list[tuple[str, str]] = []
    logs.watchers.append(lambda event, line: heard.append((event, line["level"])))
    yield heard
    logs.watchers.pop()


def test_a_watcher_hears_of_every_line_also_of_those_that_are_not_written(
    json_lines: Lines, watched: list[tuple[str, str]]
) -> None:
    log.debug("retention.completed")
    log.info("payment.tracked")
    logging.getLogger("asyncio").error("Task %s was destroyed", "t1")
    assert watched == [
        ("retention.completed", "debug"),
        ("payment.tracked", "info"),
        ("library.logged", "error"),
    ]
    assert [line["event"] for line in json_lines()] == ["payment.tracked", "library.logged"]


def test_a_watcher_that_breaks_breaks_nothing_else(json_lines: Lines) -> None:
    logs.watchers.append(lambda _, line: print(line["red-secret"]))
    try:
        log.info("payment.tracked")
    finally:
        logs.watchers.pop()
    failed, tracked = json_lines()
    assert failed == {"level": "error", "event": "log.failed", "fault": "KeyError"}
    assert tracked["event"] == "payment.tracked"


# What is kept out


@pytest.mark.parametrize(
    "name",
    ["signature", "Signature", "private_key", "agent_token", "Agent-Token", "body"]
    + ["authorization", "Authorization", "password", "secret"],
)
def test_a_secret_logged_by_mistake_is_taken_out(json_lines: Lines, name: str) -> None:
    log.info("payment.tracked", **{name: "red-secret"})
    log.info("payment.tracked", headers={"x": [{name: "red-secret"}]})
    for line in json_lines():
        assert "red-secret" not in str(line)
        assert "[redacted]" in str(line)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:red-secret@h:1/0", "redis://[redacted]@h:1/0"),
        ("unix://:red-secret@/run/r.sock", "unix://[redacted]@/run/r.sock"),
        ("at rediss://:red-secret@h, twice", "at rediss://[redacted]@h, twice"),
        ("https://h/a@b", "https://h/a@b"),
        ("me@h", "me@h"),
    ],
)
def test_a_password_in_a_url_is_taken_out(json_lines: Lines, text: str, shown: str) -> None:
    log.info("payment.tracked", redis_url=text)
    [line] = json_lines()
    assert line["redis_url"] == shown


def test_a_password_in_an_exception_is_taken_out(json_lines: Lines) -> None:
    try:
        raise OSError("no route to redis://:red-secret@h")
    except OSError:
        log.exception("worker.failed")
    [line] = json_lines()
    assert "redis://[redacted]@h" in line["exception"]


# What others log


def test_lines_of_libraries_have_our_form(json_lines: Lines) -> None:
    logging.getLogger("asyncio").error("Task %s was destroyed", "t1")
    [line] = json_lines()
    assert line["event"] == "library.logged"
    assert line["level"] == "error"
    assert line["logger"] == "asyncio"
    assert line["message"] == "Task t1 was destroyed"


def test_a_connection_that_broke_when_nobody_used_it_is_no_error(json_lines: Lines) -> None:
    """asyncio reports it when the stream is collected, with a traceback that helps nobody."""
    asyncio_log = logging.getLogger("asyncio")
    lost, mistake = ConnectionResetError(104, "Connection reset by peer"), KeyError("x")
    for error in (lost, mistake):
        asyncio_log.error("Future exception was never retrieved", exc_info=error)
    benign, bug = json_lines()
    assert (benign["level"], benign["event"]) == ("warning", "library.logged")
    assert benign["message"] == "[Errno 104] Connection reset by peer"
    assert "exception" not in benign
    assert (bug["level"], "KeyError" in bug["exception"]) == ("error", True)


def test_arq_does_not_tell_the_arguments_of_its_jobs(json_lines: Lines) -> None:
    logging.getLogger("arq.worker").info("0.01s -> p1:follow('red-secret')")
    logging.getLogger("arq.worker").warning("job p1 expired")
    assert [line["message"] for line in json_lines()] == ["job p1 expired"]


async def serve(handler: Callable[[web.Request], Any], request: bytes) -> bytes:
    """The answer of a real server to these bytes."""
    app = web.Application()
    app.router.add_route("*", "/", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        return await exchange(host, port, request)
    finally:
        await runner.cleanup()


async def exchange(host: str, port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nred-secret\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: red-secret\r\n\r\n",
        b"GET / HTTP/9.9.9\r\nX: red-secret\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_one_line_without_its_text(
    json_lines: Lines, request_: bytes
) -> None:
    await serve(hello, request_)
    [line] = json_lines()
    assert line["event"] == "http.malformed"
    assert line["level"] == "warning"
    assert line["peer"] == "127.0.0.1"
    assert line["error"].startswith(("Bad", "Invalid", "Line"))
    assert "red-secret" not in str(line)


async def test_a_bug_in_a_handler_is_reported_with_its_traceback(json_lines: Lines) -> None:
    async def broken(_: web.Request) -> web.Response:
        raise RuntimeError("oops")

    await serve(broken, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    [line] = json_lines()
    assert line["event"] == "receiver.failed"
    assert line["level"] == "error"
    assert "RuntimeError: oops" in line["exception"]
