"""What is logged and how: one line per fact on stderr, its name from a closed list.

    from worker.logs import log
    log.info("payment.tracked", client_id=..., payment_request_id=...)

Lines are JSON, or easy on the eye on a terminal. What other libraries log comes out in the same
form. Secrets, signatures and bodies are taken out on the way.
"""

import contextlib
import errno
import json
import logging
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, cast

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from worker.display import visible
from worker.secrecy import REDACTED, mask_known, mask_looks
from worker.values import LogFormat, LogLevel

DEBUG, INFO, WARNING, ERROR = LogLevel


@dataclass(frozen=True, slots=True)
class Entry:
    level: LogLevel
    meaning: str  #: what happened and, where a person must act, what to do


#: Every line there is: dotted facts in the past tense. Whoever logs a new one adds it here.
EVENTS: Mapping[str, Entry] = {
    "worker.started": Entry(INFO, "The worker follows payments from here on."),
    "worker.stopped": Entry(INFO, "The worker finished what it was doing and ended."),
    "worker.redis_waiting": Entry(
        WARNING,
        "Redis does not answer, or refuses; `fault` says which. Whoever says so tries again.",
    ),
    "worker.redis_back": Entry(INFO, "Redis answers again."),
    "worker.failed": Entry(ERROR, "The worker broke and ended. Report the traceback."),
    "process.stalled": Entry(
        WARNING, "The process stood still for `seconds`: give it CPU; look for what froze it."
    ),
    "process.out_of_files": Entry(
        ERROR, "No connection can be taken: raise the limit of open files (LimitNOFILE=)."
    ),
    "receiver.started": Entry(INFO, "The receiver takes notifications from here on."),
    "receiver.stopped": Entry(INFO, "The receiver answered its last request and ended."),
    "receiver.store_down": Entry(
        WARNING, "Redis could not keep a notification: answered 503, the gateway sends it again."
    ),
    "receiver.failed": Entry(ERROR, "The receiver broke on a request. Report the traceback."),
    "process.failed": Entry(ERROR, "The process broke and ended. Report the traceback."),
    "admin.started": Entry(INFO, "The admin port answers: health and metrics are to be had there."),
    "admin.unavailable": Entry(
        WARNING,
        "The admin port cannot be opened, `fault` says why: the process goes on without it. Give"
        " it another port, or 0.",
    ),
    "admin.refused": Entry(
        WARNING,
        "Somebody asked the admin port without the token (`reason` token: ADMIN_TOKEN), or by a"
        " name that is not allowed (`reason` host: ADMIN_ALLOWED_HOSTS).",
    ),
    "admin.failed": Entry(ERROR, "The admin port broke on a request. Report the traceback."),
    "admin.crowded": Entry(
        WARNING,
        "Too many connections to the admin port: `ended` of them were closed, the longest idle"
        " first.",
    ),
    "metrics.stale": Entry(
        WARNING, "Redis did not say what the gauges show, `fault` says why: they are old."
    ),
    "metrics.failed": Entry(
        ERROR, "Asking for the gauges broke; it goes on. Report the traceback."
    ),
    "settings.rejected": Entry(ERROR, "The settings cannot be used. Mend each fault and restart."),
    "notification.accepted": Entry(INFO, "A genuine notification is kept and acknowledged."),
    "notification.rejected": Entry(WARNING, "A message that nothing proves genuine was refused."),
    "notification.encrypted": Entry(
        ERROR, "An encrypted message was refused. Ask the gateway not to encrypt notifications."
    ),
    "notification.ignored": Entry(WARNING, "A genuine notification of a kind that is not ours."),
    "notification.quarantined": Entry(
        WARNING, "A genuine notification could not be understood. It is kept: look at it."
    ),
    "notification.never_tracked": Entry(
        ERROR, "Notifications of payments that nobody tracked went to quarantine after 72 h."
    ),
    "notification.applied": Entry(INFO, "A payment's record has taken in a notification."),
    "http.malformed": Entry(WARNING, "Something that is no HTTP request came in."),
    "http.parser_weak": Entry(
        WARNING,
        "aiohttp parses HTTP in Python, the weaker way: unset AIOHTTP_NO_EXTENSIONS, or install"
        " a wheel of aiohttp for this platform.",
    ),
    "receiver.crowded": Entry(
        WARNING, "Too many connections: `ended` of them were closed, the longest idle first."
    ),
    "payment.tracked": Entry(INFO, "A payment is followed from here on."),
    "payment.changed": Entry(INFO, "A payment has another status."),
    "payment.final": Entry(INFO, "A payment ended; the line tells its whole story."),
    "payment.alarmed": Entry(ERROR, "A payment needs a person. Look at its timeline."),
    "payment.stuck": Entry(
        ERROR,
        "A payment is open ten minutes after its closing time. Its history tells why; said once.",
    ),
    "account.unknown": Entry(ERROR, "A payment's client id has no settings here. Add its account."),
    "inquiry.completed": Entry(INFO, "The gateway answered an inquiry."),
    "inquiry.unanswered": Entry(WARNING, "An inquiry got no answer that counts; it is repeated."),
    "cancel.sent": Entry(INFO, "A cancel is about to leave."),
    "cancel.completed": Entry(INFO, "The gateway answered a cancel."),
    "outcome.published": Entry(INFO, "The merchant was told something about a payment."),
    "command.accepted": Entry(INFO, "A command was carried out."),
    "command.rejected": Entry(WARNING, "A command was not carried out; the merchant was told why."),
    "command.dead": Entry(WARNING, "A command cannot be understood. It is kept: mend its sender."),
    "sweep.completed": Entry(WARNING, "Overdue payments whose job was lost were woken."),
    "sweep.failed": Entry(ERROR, "A sweep broke; the next one follows. Report the traceback."),
    "sweep.stalled": Entry(
        ERROR,
        "This worker's sweep hangs or fails: lost wake-ups are not mended. See the warnings before;"
        " if there are none, restart the worker.",
    ),
    "sweep.missing": Entry(
        ERROR, "No worker has swept for minutes: payments are not followed. Start a worker."
    ),
    "watch.failed": Entry(ERROR, "Looking for stuck payments broke. Report the traceback."),
    "commands.failed": Entry(ERROR, "Reading commands broke; it goes on. Report the traceback."),
    "job.failed": Entry(ERROR, "A job broke and is repeated. Report the traceback."),
    "record.unreadable": Entry(
        ERROR,
        "A record of another version, or a damaged one, is left alone; `fault` says which."
        " Upgrade this process, or mend the record.",
    ),
    "record.missing": Entry(
        ERROR,
        "Payments to be followed have no record: it was deleted or evicted. Track them again.",
    ),
    "retention.completed": Entry(DEBUG, "What was kept long enough was deleted."),
    "retention.skipped": Entry(
        WARNING, "A key is not as it should be, and was passed by; `fault` says what is wrong."
    ),
    "retention.failed": Entry(ERROR, "Housekeeping broke; it is repeated. Report the traceback."),
    "probes.passed": Entry(INFO, "Redis, clocks and keys are as they must be."),
    "probe.warned": Entry(WARNING, "Something may be unsafe. Do what the line says."),
    "probe.alarmed": Entry(
        ERROR, "Something is unsafe; at a start this ends the process. Do what the line says."
    ),
    "probe.failed": Entry(ERROR, "A probe broke; it is repeated. Report the traceback."),
    "redis.nearly_full": Entry(
        WARNING, "Redis takes no writes when it is full. Give it more memory."
    ),
    "store.lost": Entry(
        ERROR, "Redis no longer holds what it held: flushed, or another one. Restore it."
    ),
    "store.empty": Entry(WARNING, "Redis holds nothing of ours: a first start, or data was lost."),
    "library.logged": Entry(WARNING, "A library we use said something; `message` holds it."),
    "log.failed": Entry(ERROR, "A line could not be written. Report its fault."),
    "log.unregistered": Entry(ERROR, "A line is not on this list. Report its name."),
}

#: Names under which a secret, or a payment's details, might be logged by mistake.
HIDDEN = frozenset(
    {"signature", "private_key", "agent_token", "body", "authorization", "password", "secret"}
)
#: arq logs the arguments of its jobs at info. aiohttp's access log would repeat our own lines.
QUIET = {"arq": logging.WARNING, "aiohttp.access": logging.WARNING}


OUT_OF_FILES_SECONDS = 10.0  #: until that is said again

#: Who hears of every line, also of those that are not written: called with the event and the line.
watchers: list[Callable[[str, Mapping[str, Any]], None]] = []

log = cast(BoundLogger, structlog.get_logger("reconciler"))


def configure(
    log_format: LogFormat = LogFormat.AUTO, level: LogLevel = INFO, *, strict: bool = False
) -> None:
    """Send every log line of the process to stderr. `strict`, for tests: unknown names raise."""
    structlog.configure(
        processors=[
            check_name if strict else mark_unknown_name,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            tell_watchers,
            structlog.stdlib.filter_by_level,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=BoundLogger,
    )
    handler = ToStderr()
    handler.setFormatter(_formatter(log_format))
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, ToStderr)] + [handler]
    root.setLevel(level.upper())
    for name, at_least in QUIET.items():
        logging.getLogger(name).setLevel(at_least)
    logging.getLogger("asyncio").addFilter(_not_again)


class ToStderr(logging.Handler):
    """Writes lines, and never one that it could not clean: the standard handler would."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as fault:
            text = _failed(fault)
        _print(text)


def _print(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
        print(mask_known(text), file=sys.stderr, flush=True)


def _failed(fault: Exception) -> str:
    return json.dumps({"event": "log.failed", "fault": type(fault).__name__})


def tell_watchers(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Before any line is left out. What breaks in a watcher must not break who logs."""
    for watcher in watchers:
        try:
            watcher(line["event"], line)
        except Exception as fault:
            _print(_failed(fault))
    return line


def check_name(_: WrappedLogger, method: str, line: EventDict) -> EventDict:
    """Raise if the line is not on the list, or is logged at another level than the list says."""
    name, level = line["event"], _LEVEL_OF.get(method, method)
    if name not in EVENTS:
        raise ValueError(f"{name!r} is not in logs.EVENTS: add it")
    if EVENTS[name].level != level:
        raise ValueError(f"{name} is logged at {level}, in logs.EVENTS it is {EVENTS[name].level}")
    return line


def mark_unknown_name(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """In production a line is worth more than its name."""
    if line["event"] in EVENTS:
        return line
    return {**line, "event": "log.unregistered", "unregistered": line["event"]}


_LEVEL_OF = {"exception": "error", "critical": "error", "fatal": "error", "warn": "warning"}


def _formatter(log_format: LogFormat) -> ProcessorFormatter:
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
        foreign_pre_chain=[adopt, tell_watchers],
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
        return {**line, "event": "process.out_of_files", "level": ERROR, "exc_info": None}
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


_told_at = -OUT_OF_FILES_SECONDS


def _not_again(record: logging.LogRecord) -> bool:
    """asyncio says for every connection that waits, each second, that there are no more files."""
    global _told_at
    if _out_of_files(record):
        if record.created - _told_at < OUT_OF_FILES_SECONDS:
            return False
        _told_at = record.created
    return True


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
