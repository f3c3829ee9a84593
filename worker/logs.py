"""How it is logged: one line per fact on stderr, its name and fields from a closed list.

    from worker.logs import log
    log.info("payment.tracked", client_id=..., payment_request_id=...)

What there is to log stands in `worker.events`. Lines are JSON, or easy on the eye on a terminal.
What other libraries log comes out in the same form. Secrets, signatures and bodies are taken out
on the way.
"""

import atexit
import contextlib
import errno
import json
import logging
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, cast

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from worker.condense import Condenser
from worker.display import visible
from worker.events import CONTEXT, EVENTS
from worker.secrecy import REDACTED, mask_known, mask_looks
from worker.values import LogFormat, LogLevel

#: Names under which a secret, or a payment's details, might be logged by mistake.
HIDDEN = frozenset(
    {"signature", "private_key", "agent_token", "body", "authorization", "password", "secret"}
)
#: arq logs the arguments of its jobs at info. aiohttp's access log would repeat our own lines.
QUIET = {"arq": logging.WARNING, "aiohttp.access": logging.WARNING}

#: Who hears of every line, also of those that are not written: called with the event and the line.
watchers: list[Callable[[str, Mapping[str, Any]], None]] = []

log = cast(BoundLogger, structlog.get_logger("reconciler"))


def configure(
    log_format: LogFormat = LogFormat.AUTO,
    level: LogLevel = LogLevel.INFO,
    *,
    condensed: bool = True,
    strict: bool = False,
) -> None:
    """Send every log line of the process to stderr.

    `condensed`: what repeats is counted, see `worker.condense`. `strict`, for tests: what is not
    declared in `worker.events` raises.
    """
    structlog.configure(
        processors=[
            check_line if strict else mark_unknown_name,
            structlog.contextvars.merge_contextvars,
            add_trace,
            structlog.stdlib.add_log_level,
            tell_watchers,
            structlog.stdlib.filter_by_level,
            *([condense] if condensed else []),  # before a line costs what it costs to write it
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=BoundLogger,
    )
    _condenser.tell()  # what was counted before belongs to the log as it was
    handler = ToStderr()
    handler.setFormatter(_formatter(log_format, condensed))
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, ToStderr)] + [handler]
    root.setLevel(level.upper())
    for name, at_least in QUIET.items():
        logging.getLogger(name).setLevel(at_least)


class ToStderr(logging.Handler):
    """Writes lines, and never one that it could not clean: the standard handler would."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except structlog.DropEvent:  # counted instead
            return
        except Exception as fault:
            tell_watchers(None, "", _say_failed(fault))
        else:
            _print(text)


def _print(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
        print(mask_known(text), file=sys.stderr, flush=True)


def _say_failed(fault: Exception) -> EventDict:
    line: EventDict = {"level": "error", "event": "log.failed", "fault": type(fault).__name__}
    if _condenser.passes(line):
        _print(json.dumps(line))
    return line


def tell_watchers(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Before any line is left out. What breaks in a watcher must not break who logs."""
    for watcher in watchers:
        try:
            watcher(line["event"], line)
        except Exception as fault:
            _say_failed(fault)
    return line


def check_line(_: WrappedLogger, method: str, line: EventDict) -> EventDict:
    """Raise if the line is not on the list, or not as the list says: its level, its fields."""
    name, level = line["event"], _LEVEL_OF.get(method, method)
    if name not in EVENTS:
        raise ValueError(f"{name!r} is not in worker.events: add it")
    entry = EVENTS[name]
    if entry.level not in (None, level):
        raise ValueError(f"{name} is logged at {level}, in worker.events it is {entry.level}")
    declared = {*entry.fields.split(), *CONTEXT.split(), "event", "exc_info"}
    if undeclared := line.keys() - declared:
        raise ValueError(f"{name} is logged with {sorted(undeclared)}: add it in worker.events")
    return line


def mark_unknown_name(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """In production a line is worth more than its name."""
    if line["event"] in EVENTS:
        return line
    return {**line, "event": "log.unregistered", "unregistered": line["event"]}


def add_trace(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """The ids of OpenTelemetry, if whoever started this process has brought it along."""
    telemetry = sys.modules.get("opentelemetry.trace")
    if telemetry is None:
        return line
    span = telemetry.get_current_span().get_span_context()
    if not span.is_valid:
        return line
    return {**line, "trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


def condense(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    if _condenser.passes(line):
        return line
    raise structlog.DropEvent


def _say_condensed(level: str, facts: dict[str, Any]) -> None:
    getattr(log, level)("log.condensed", **facts)


_condenser = Condenser(_say_condensed)
atexit.register(_condenser.tell)

_LEVEL_OF = {"exception": "error", "critical": "error", "fatal": "error", "warn": "warning"}


def _formatter(log_format: LogFormat, condensed: bool) -> ProcessorFormatter:
    on_terminal = sys.stderr.isatty()
    console = log_format == LogFormat.CONSOLE or (log_format == LogFormat.AUTO and on_terminal)
    renderer: Processor = structlog.processors.JSONRenderer(default=str)
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=on_terminal,
            sort_keys=False,
            repr_native_str=True,  # what a stranger sent must not move a reader's cursor
            exception_formatter=structlog.dev.plain_traceback,  # others show variables: keys
        )
    return ProcessorFormatter(
        foreign_pre_chain=[
            adopt,
            structlog.contextvars.merge_contextvars,
            add_trace,
            tell_watchers,
            *([condense] if condensed else []),
        ],
        pass_foreign_args=True,
        processors=[
            stamp,
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            *([inset] if console else []),
            renderer,
        ],
    )


def adopt(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Give a line of another library a name of ours."""
    record: logging.LogRecord = line["_record"]
    args = line.pop("positional_args", ())
    if record.name == "aiohttp.server":
        return {**line, **_server_trouble(record), "peer": args[0] if args else None}
    error = record.exc_info[1] if record.exc_info else None
    if record.name == "asyncio" and isinstance(error, ConnectionError):
        # Of a stream that is thrown away with its connection: who used it has said so in a line.
        line["message"], line["exc_info"] = str(error), None
        return {**line, "level": "warning", "logger": "asyncio", "event": "library.logged"}
    if _out_of_files(record):
        return {**line, "event": "process.out_of_files", "level": "error", "exc_info": None}
    said = {"level": record.levelname.lower(), "logger": record.name, "message": line["event"]}
    return {**line, **said, "event": "library.logged"}


def _server_trouble(record: logging.LogRecord) -> EventDict:
    """What aiohttp could not parse, it logs together with the request: say only what it was."""
    error = record.exc_info[1] if record.exc_info else None
    if type(error).__module__ == "aiohttp.http_exceptions":  # cheaper than to import aiohttp here
        given = {"error": type(error).__name__, "exc_info": None}
        return {"event": "http.malformed", "level": EVENTS["http.malformed"].level, **given}
    return {"event": "receiver.failed", "level": EVENTS["receiver.failed"].level}


def _out_of_files(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def stamp(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Time, level and name first. The time is that of the record: handlers may be slow."""
    created = datetime.fromtimestamp(line["_record"].created, UTC)
    at = created.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"timestamp": at, "level": line.pop("level"), "event": line.pop("event"), **line}


def redact(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    return {key: _clean(key, value) for key, value in line.items()}


def _clean(key: str, value: object) -> object:
    if key.lower().replace("-", "_") in HIDDEN:
        return REDACTED
    if isinstance(value, str):
        return mask_looks(value)
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(inner): _clean(str(inner), each) for inner, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", each) for each in value]
    return mask_looks(str(value))


def inset(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """On a terminal a traceback has lines of its own: none may pass for a line of the log."""
    if "exception" in line:
        line["exception"] = textwrap.indent(visible(line["exception"]), "    ")
    return line


# What would pass by the log


def take_over() -> None:
    """Have the interpreter's own last words logged, too: it would write them as they are."""
    logging.captureWarnings(True)
    sys.excepthook = _died
    sys.unraisablehook = _ignored
    threading.excepthook = _ignored


def _died(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    log.error("process.failed", exc_info=(kind, fault, trace))


def _ignored(what: "sys.UnraisableHookArgs | threading.ExceptHookArgs") -> None:
    fault = what.exc_value or what.exc_type()
    given = (what.exc_type, fault, what.exc_traceback)
    logging.getLogger("python").error("an exception was ignored", exc_info=given)
