"""A log line is a fact with a known name, and holds no secret."""

import ast
import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.typing import EventDict

from worker import logs
from worker.logs import EVENTS, log
from worker.values import LogFormat, LogLevel

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def json_lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What stands on stderr, as production writes it."""
    logs.configure(LogFormat.AUTO, LogLevel.INFO)
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    logs.configure(LogFormat.JSON, LogLevel.DEBUG, strict=True)


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    logs.configure(LogFormat.CONSOLE)
    yield lambda: capsys.readouterr().err
    logs.configure(LogFormat.JSON, LogLevel.DEBUG, strict=True)


# The list


@pytest.mark.parametrize("name", EVENTS)
def test_a_name_is_a_dotted_fact_and_is_explained(name: str) -> None:
    subject, _, fact = name.partition(".")
    assert subject.isalpha()
    assert fact.replace("_", "").isalpha()
    assert EVENTS[name].meaning.endswith(".")


def logged_in_the_code() -> Iterator[tuple[str, str]]:
    """Each name that is written out at a call of the log, and the level of the call."""
    root = Path(__file__).parent.parent
    for file in [*root.glob("jobs/**/*.py"), *root.glob("worker/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value).split(".")[-1] == "log"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield str(node.args[0].value), node.func.attr


def test_every_line_in_the_code_is_on_the_list_at_its_level() -> None:
    found = set(logged_in_the_code())
    assert len(found) > 10
    for name, level in found:
        logs.check_name(None, level, {"event": name})


def test_in_tests_a_name_that_is_not_on_the_list_raises() -> None:
    with pytest.raises(ValueError, match=r"'payment\.lost' is not in logs\.EVENTS: add it"):
        log.info("payment.lost")


def test_in_tests_a_level_other_than_the_lists_raises() -> None:
    with pytest.raises(ValueError, match="logged at info, in logs.EVENTS it is error"):
        log.info("worker.failed")
    log.exception("worker.failed")


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
    assert json_lines() == [{"event": "log.failed", "fault": "RecursionError"}]


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
    assert failed == {"event": "log.failed", "fault": "KeyError"}
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
