"""The commands for taking over payments that are there already: track a list, report, audit."""

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from worker.cli.base import (
    CHECK_FAILED,
    FAILURE,
    OK,
    UNAVAILABLE,
    USAGE,
    Commands,
    Fault,
    add,
    add_account,
    add_redis,
    check_before_writing,
    read_age,
    read_settings,
    run_to_end,
    show,
    telling_if_interrupted,
    why_unreadable,
    with_redis,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from jobs.audit import Asked
    from worker.audit import Audit
    from worker.imports import Bad, Checked, Import
    from worker.settings import Settings

WEEK = "7d"  #: as long as outcomes are kept at least
SHOWN = 50  #: lines that are told one by one where a person reads
STDIN = "-"


def add_to(commands: Commands) -> None:
    report = add(commands, "report", _report, "Sum up what was told, and what report mode did.")
    report.add_argument("--since", default=WEEK, metavar="AGE", help="90s, 5m, 2h; default 7d")
    audit = add(commands, "audit", _audit, "Ask the gateway how payments stand: ours against its.")
    whom = audit.add_mutually_exclusive_group()
    whom.add_argument("--file", metavar="LIST", help="NDJSON or CSV, as for track; - reads stdin")
    whom.add_argument(
        "--since", default=WEEK, metavar="AGE", help="all open ones, and those told of since. 7d"
    )
    audit.add_argument("--format", choices=["ndjson", "csv"], help="default: by name or content")
    audit.add_argument("--rate", type=float, default=5, metavar="N", help="questions a second: 5")
    add_account(audit)
    for command in (report, audit):
        add_redis(command)


# track --file


def add_list_to(track: Any) -> None:
    """The words of `track` that are about a whole list."""
    track.set_defaults(misused=track.error)
    words = track.add_argument_group("a list of payments")
    words.add_argument("--file", metavar="LIST", help="NDJSON or CSV; - reads stdin")
    words.add_argument("--format", choices=["ndjson", "csv"], help="default: by name or content")
    words.add_argument("--dry-run", action="store_true", help="check every line, write nothing")
    words.add_argument("--skip-faulty", action="store_true", help="write the lines that are well")
    words.add_argument("--restart", action="store_true", help="not from where it stood: anew")
    words.add_argument("--wait", action="store_true", help="until a worker has carried all out")
    words.add_argument(
        "--room",
        type=int,
        default=None,
        metavar="N",
        help="wait while N commands and jobs wait for a worker; 0: never. Default 2000",
    )


def _accounts(settings: "Settings") -> "Sequence[str]":
    """Those that a line may name: the one that was asked for, else all."""
    return [settings.client_id] if settings.client_id else settings.client_ids


_OF_ONE = ("id", "amount", "expires_in", "expiry_time", "payment_id", "reference")


def track_list(args: argparse.Namespace) -> int:
    """Check every line of a list, then write them all as commands; or tell why not."""
    from worker.environment import Need
    from worker.payment_list import BadList, Format, recognise

    if any(getattr(args, name) is not None for name in _OF_ONE):
        args.misused("--file: the list says id, amount and all else of its payments")
    if args.room is not None and args.room < 0:
        args.misused("--room: write a number, or 0 for no limit")
    settings = read_settings(args, Need.COMMANDS)
    with open_list(args.file) as file:
        try:
            format_ = Format(args.format) if args.format else recognise(args.file, file)
            return with_redis(settings, lambda redis: _import(args, settings, redis, file, format_))
        except BadList as bad:
            raise Fault(FAILURE, f"{args.file}: {bad}") from None


@contextlib.contextmanager
def open_list(name: str) -> Iterator[BinaryIO]:
    """A file that can be read more than once, also if it is stdin."""
    if name == STDIN:
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.seek(0)
            yield copy
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(name).open("rb"))
        except (OSError, ValueError) as fault:
            hint = "write the path of a list, or - for stdin"
            raise Fault(USAGE, f"--file {name}: {why_unreadable(fault)}; {hint}") from None
        yield file


async def _import(
    args: argparse.Namespace, settings: "Settings", redis: "Redis", file: BinaryIO, format_: Any
) -> int:
    from worker.imports import ROOM, Import, Terms, check, digest_of
    from worker.keys import Keys
    from worker.payment_list import read_list
    from worker.replies import now_of
    from worker.rights import Role

    confirm = None
    if not args.dry_run:
        with telling_if_interrupted(lambda: "Nothing is written by this run"):
            confirm = await check_before_writing(redis, settings, Role.WORKER)
    importing = Import(
        redis=redis,
        keys=Keys(settings.key_prefix),
        name=f"{settings.client_id}:{digest_of(file)}",
        room=ROOM if args.room is None else args.room,
    )
    await importing.load()
    if args.restart:
        importing.done, importing.left = 0, []
    before = importing.done
    terms = Terms(
        accounts=_accounts(settings),
        client_id=settings.client_id or None,
        on_timeout=args.on_timeout,
        now=await now_of(redis),
        done=before,
        left=frozenset(importing.left),
    )
    written, rejected = 0, None
    with tempfile.TemporaryFile() as scratch:
        checked = check(read_list(file, format_), terms, scratch)
        if not args.dry_run and (args.skip_faulty or not checked.faulty):
            await _write(args, importing, checked, confirm)
            written = checked.commands.count
            rejected = await _wait(importing, checked) if args.wait else None
    _tell_list(args, checked, before, written, rejected)
    return FAILURE if checked.faulty or checked.left_out or rejected else OK


async def _write(
    args: argparse.Namespace, importing: "Import", checked: "Checked", confirm: Any
) -> None:
    from worker.cli.progress import Progress
    from worker.imports import Full, Overtaken, Stalled

    progress = Progress("written", checked.commands.count)
    importing.note = progress.note
    importing.leaving = [bad.line for bad in checked.faulty]
    try:
        with telling_if_interrupted(lambda: _goes_on(importing)):
            await importing.check_memory(checked.commands.count)
            if args.restart:
                await importing.restart()
            await importing.write(checked.commands.read(), progress.advance)
            await importing.finish(checked.last, confirm)
    except (Stalled, Full) as fault:
        raise Fault(UNAVAILABLE, f"{fault}. {_goes_on(importing)}") from None
    except Overtaken:
        text = "another process writes the same list; let it finish, then run this again"
        raise Fault(FAILURE, text) from None
    finally:
        progress.close()


def _goes_on(importing: "Import") -> str:
    return f"Written up to line {importing.done}; the same command goes on from there"


async def _wait(importing: "Import", checked: "Checked") -> "list[Bad]":
    from worker.imports import Stalled

    again = "the same command with --wait waits again, and lists what was rejected"
    try:
        with telling_if_interrupted(lambda: f"All is written; {again}"):
            await importing.carried_out()
            return await importing.rejected(checked)
    except Stalled as fault:
        raise Fault(UNAVAILABLE, f"all is written, but {fault}; {again}") from None


def _tell_list(
    args: argparse.Namespace,
    checked: "Checked",
    before: int,
    written: int,
    rejected: "list[Bad] | None",
) -> None:
    from dataclasses import asdict

    data = {
        "file": args.file,
        "dryRun": args.dry_run,
        "payments": checked.payments,
        "writtenBefore": before,  # a line's number
        "good": checked.commands.count,
        "written": written,
        "past": checked.past,
        "withoutClosingTime": checked.timeless,
        "faulty": [asdict(bad) for bad in (*checked.left_out, *checked.faulty)],
        "leftOutBefore": len(checked.left_out),  # of the faulty ones
        "duplicates": [asdict(double) for double in checked.doubles],
        "rejected": None if rejected is None else [asdict(bad) for bad in rejected],
    }
    show(data, args.json, "\n".join(_words(args, checked, before, written, rejected)))


def _words(
    args: argparse.Namespace,
    checked: "Checked",
    before: int,
    written: int,
    rejected: "list[Bad] | None",
) -> Iterator[str]:
    yield from _listed(
        [f"{_at(bad)}: left out before, {bad.message}" for bad in checked.left_out]
        + [f"{_at(bad)}: {bad.message}" for bad in checked.faulty]
    )
    yield from _listed(
        [f"{_at(d)}: left out, line {d.first} names it already" for d in checked.doubles]
    )
    yield from _listed([f"{_at(bad)}: rejected, {bad.message}" for bad in rejected or ()])
    yield f"{checked.payments} payments: {_counts(checked)}"
    if before:
        yield f"written before, up to line {before}; --restart begins anew"
    if checked.timeless:
        yield (
            f"{checked.timeless} name no closing time: the contract's time to pay counts from when"
            " they are written"
        )
    if checked.past:
        yield f"{checked.past} are past their closing time: asked about at once"
    good = checked.commands.count
    if args.dry_run:
        yield f"nothing is written (--dry-run); {good} would be"
    elif checked.faulty and not args.skip_faulty:
        yield f"nothing is written: mend those lines, or leave them out by --skip-faulty ({good})"
    else:
        yield f"{written} written" + ("" if rejected is None else f", {len(rejected)} rejected")


def _at(bad: Any) -> str:
    name = f" ({bad.paymentRequestId})" if bad.paymentRequestId else ""
    return f"line {bad.line}{name}"


def _counts(checked: "Checked") -> str:
    before, doubles = len(checked.left_out), len(checked.doubles)
    faulty = f"{before + len(checked.faulty)} faulty"
    if before:
        faulty += f" ({before} of them left out before)"
    return f"{checked.commands.count} good, {faulty}, {doubles} named twice"


def _listed(lines: "Sequence[str]") -> Iterator[str]:
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"... and {len(lines) - SHOWN} more: --json tells all"


# report


def _report(args: argparse.Namespace) -> int:
    from worker.adoption import Report, in_words, summarise, told
    from worker.environment import Need
    from worker.keys import Keys
    from worker.replies import now_of

    age = read_age(args.since, "--since")
    settings = read_settings(args, Need.COMMANDS)

    async def work(redis: "Redis") -> int:
        since = max(await now_of(redis) - age, 0)
        events = [event async for event in told(redis, Keys(settings.key_prefix), since)]
        report: Report = summarise(events)
        show(report.to_json(), args.json, in_words(report))
        return OK

    return with_redis(settings, work)


# audit


def _audit(args: argparse.Namespace) -> int:
    from worker.audit import Audit
    from worker.environment import Need
    from worker.logs import configure
    from worker.tools import open_tools

    if not 0 < args.rate <= 1000:
        raise Fault(USAGE, "--rate: write questions a second, more than 0 and at most 1000")
    age = read_age(args.since, "--since")
    settings = read_settings(args, Need.GATEWAY)
    configure(settings.log_format, settings.log_level)

    async def work() -> int:
        listed = _listed_payments(args, settings) if args.file is not None else None
        async with open_tools(settings) as (tools, store):
            audit = Audit(tools=tools, rate=args.rate)
            with telling_if_interrupted(lambda: _so_far(args, audit)):
                await audit.run(
                    _each(listed) if listed else _recent(args, store.redis, settings, age)
                )
        return _tell_audit(args, audit)

    return run_to_end(work())


def _listed_payments(args: argparse.Namespace, settings: "Settings") -> "list[Asked]":
    from worker.audit import read_asked
    from worker.payment_list import BadList, Format, read_list, recognise

    with open_list(args.file) as file:
        try:
            format_ = Format(args.format) if args.format else recognise(args.file, file)
            lines = read_list(file, format_)
            asked, faulty = read_asked(lines, _accounts(settings), settings.client_id or None)
        except BadList as bad:
            raise Fault(FAILURE, f"{args.file}: {bad}") from None
    if faulty:
        told = "\n".join(_listed([f"  {_at(bad)}: {bad.message}" for bad in faulty]))
        raise Fault(FAILURE, f"{args.file}: nobody is asked before these are mended:\n{told}")
    return list(dict.fromkeys(asked))


async def _each(listed: "list[Asked]") -> "AsyncIterator[Asked]":
    for asked in listed:
        yield asked


async def _recent(
    args: argparse.Namespace, redis: "Redis", settings: "Settings", age: int
) -> "AsyncIterator[Asked]":
    from worker.audit import recent
    from worker.keys import Keys
    from worker.replies import now_of

    since = max(await now_of(redis) - age, 0)
    async for asked in recent(redis, Keys(settings.key_prefix), since):
        if args.client_id in (None, asked.client_id):
            yield asked


def _so_far(args: argparse.Namespace, audit: "Audit") -> str:
    """What was found is told, though there may be more."""
    _tell_audit(args, audit)
    return f"{audit.counts.total()} were asked about, and nothing is known of the others"


def _tell_audit(args: argparse.Namespace, audit: "Audit") -> int:
    from jobs.audit import Verdict
    from worker.views import table

    rows = [
        {
            "paymentRequestId": each.payment_request_id,
            "clientId": each.client_id,
            "disagreement": each.verdict.value,
            "ours": each.ours,
            "theirs": each.theirs,
            "told": each.told,
        }
        for each in sorted(audit.disagreements, key=lambda each: (each.verdict, each.client_id))
    ]
    counts = {verdict.value: audit.counts[verdict] for verdict in Verdict if audit.counts[verdict]}
    data = {
        "asked": audit.counts.total(),
        "counts": counts,
        "gaveUp": audit.gave_up,
        "otherAccounts": audit.elsewhere,
        "disagreements": rows,
    }
    summary = (
        ", ".join(f"{count} {name}" for name, count in counts.items()) or "nobody to ask about"
    )
    text = f"{table(rows)}\n\n{summary}" if rows else summary
    if audit.elsewhere:
        text += f"\nof accounts that are not set here, and not asked: {audit.elsewhere}"
    if audit.gave_up:
        text += f"\ngiven up: the gateway did not answer about {audit.silent} in a row"
    show(data, args.json, text)
    if rows:
        return CHECK_FAILED
    return UNAVAILABLE if audit.counts[Verdict.UNANSWERED] else OK
