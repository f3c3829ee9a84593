"""The commands for people who keep it running: doctor, resolve, replay."""

import argparse
import os
import re
import secrets
from typing import TYPE_CHECKING, Any

from worker.cli.base import (
    CHECK_FAILED,
    FAILURE,
    OK,
    UNAVAILABLE,
    USAGE,
    Commands,
    Fault,
    account_of,
    add,
    add_account,
    add_redis,
    check_before_writing,
    flags,
    read_age,
    read_settings,
    run_to_end,
    show,
    telling_if_interrupted,
    with_redis,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from jobs.resolve import Resolution
    from worker.replay import Row

REFUNDED = "refunded"
MAX_WHO, MAX_WHY = 64, 256  #: characters


def add_to(commands: Commands) -> None:
    doctor = add(commands, "doctor", _doctor, "See whether all is as it must be, and what to mend.")
    doctor.add_argument(
        "--role",
        choices=["run", "receiver", "worker"],
        default="run",
        help="what these settings are for; default: both in one process",
    )
    doctor.add_argument(
        "--offline", action="store_true", help="call neither the gateway nor the notify URL"
    )
    add_account(doctor)
    add_redis(doctor)
    resolve = add(commands, "resolve", _resolve, "Decide about a payment that needs a person.")
    resolve.add_argument("id", help="the paymentRequestId")
    resolve.add_argument(
        "--as",
        dest="word",
        required=True,
        choices=["succeeded", "failed", "cancelled", REFUNDED],
        help="how an unresolved payment ended; refunded: where a refund was required",
    )
    resolve.add_argument("--reason", required=True, metavar="TEXT", help="how you know")
    resolve.add_argument("--who", help="your name; default: the login name")
    resolve.add_argument(
        "--despite-gateway",
        action="store_true",
        help="let it stand though the gateway says otherwise, or nothing",
    )
    replay = add(commands, "replay", _replay, "Take up again what was set aside.")
    replay.add_argument(
        "what",
        choices=["commands", "quarantine", "callbacks", "forwards"],
        help="dead commands, notifications not understood, or what nobody took",
    )
    replay.add_argument("ids", nargs="*", metavar="ID", help="of entries, as --dry-run lists them")
    replay.add_argument("--all", action="store_true")
    replay.add_argument("--since", metavar="AGE", help="set aside in the last 90s, 5m, 2h, 3d")
    replay.add_argument("--reason", default="", help="as --dry-run lists it")
    replay.add_argument("--limit", type=int, help="at most so many, the oldest first; default: all")
    replay.add_argument("--type", help="of one dead command: write this type instead")
    replay.add_argument("--data", metavar="JSON", help="of one dead command: write this instead")
    replay.add_argument("--dry-run", action="store_true", help="only say what would happen")
    for command in (resolve, replay):
        add_account(command)
        add_redis(command)


# doctor


def _doctor(args: argparse.Namespace) -> int:
    import asyncio

    from worker.doctor import Patient, Verdict, examine
    from worker.doctor.check import report
    from worker.logs import configure
    from worker.rights import Role
    from worker.values import LogFormat, LogLevel

    configure(LogFormat.CONSOLE, LogLevel.ERROR)  # its own lines say all that there is to say
    roles = [Role.RECEIVER, Role.WORKER] if args.role == "run" else [Role(args.role)]
    patient = Patient(environ=os.environ, dotenv=args.env_file, overrides=flags(args), roles=roles)
    checks = asyncio.run(examine(patient, offline=args.offline))
    show([check.to_json() for check in checks], args.json, report(checks))
    return CHECK_FAILED if any(c.verdict is Verdict.FAILED for c in checks) else OK


# resolve


def _resolve(args: argparse.Namespace) -> int:
    from jobs.model import Status
    from jobs.news import Resolve
    from jobs.resolve import resolve
    from worker.environment import Need
    from worker.logs import configure
    from worker.rights import Role
    from worker.tools import open_tools

    order = Resolve(
        id=f"resolve-{secrets.token_hex(8)}",
        status=None if args.word == REFUNDED else Status(args.word),
        who=_line(args.who or _login(), "--who", MAX_WHO),
        why=_line(args.reason, "--reason", MAX_WHY),
    )
    settings = read_settings(args, Need.GATEWAY)
    key = f"{account_of(settings)}:{args.id}"
    configure(settings.log_format, settings.log_level)

    async def work() -> int:
        async with open_tools(settings) as (tools, store):
            store.confirm = await check_before_writing(store.redis, settings, Role.WORKER)
            unknown = f"`reconciler status {args.id}` says whether your word was written down"
            with telling_if_interrupted(lambda: unknown):
                resolution = await resolve(key, order, tools, force=args.despite_gateway)
        return _say(args, resolution)

    return run_to_end(work())


def _line(text: str, flag: str, limit: int) -> str:
    """Text that fits into one line of a timeline."""
    if not re.fullmatch(rf"\S.{{0,{limit - 1}}}", text) or not text.isprintable():
        raise Fault(USAGE, f"{flag}: write one line of 1 to {limit} characters")
    return text


def _login() -> str:
    import getpass

    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def _say(args: argparse.Namespace, resolution: "Resolution") -> int:
    from jobs.resolve import Verdict

    code = _CODES[resolution.verdict.value]
    if code != OK:
        raise Fault(code, _why_not(args, resolution))
    payment = resolution.payment
    assert payment is not None
    data: dict[str, Any] = {
        "paymentRequestId": payment.payment_request_id,
        "clientId": payment.client_id,
        "status": payment.status.value,
        "by": "operator" if resolution.verdict is Verdict.DONE else "gateway",
        "heard": resolution.heard,
        "reason": payment.reason,
    }
    asked = f"the gateway said: {resolution.heard}"
    if resolution.verdict is Verdict.DONE:
        show(data, args.json, f"{args.id}: {args.word}, as you say; {asked}")
    else:
        ended = f"{args.id}: {payment.status.value}, and needs nobody any more"
        show(data, args.json, f"{ended}; {asked}. Your word was not needed and is not written down")
    return OK


_CODES = {
    "done": OK,
    "ended": OK,
    "contradicted": FAILURE,
    "unanswered": UNAVAILABLE,
    "no_need": FAILURE,
    "other_question": FAILURE,
    "not_tracked": FAILURE,
}


def _why_not(args: argparse.Namespace, resolution: "Resolution") -> str:
    payment, id_ = resolution.payment, args.id
    match resolution.verdict.value:
        case "contradicted":
            return (
                f"{id_} is left as it is: the gateway says {resolution.heard}, which contradicts"
                f" {args.word}. If you know better, say so by --despite-gateway"
            )
        case "unanswered":
            return (
                f"{id_} is left as it is: the gateway does not say how it stands"
                f" ({resolution.heard}). Try again, or decide without it by --despite-gateway"
            )
        case "not_tracked":
            return f"{id_} is not tracked: see its spelling and --client-id"
        case _:
            pass
    assert payment is not None
    if resolution.verdict.value == "other_question":
        wanted = "how it ended" if args.word == REFUNDED else "whether it is refunded"
        words = "succeeded, failed or cancelled" if args.word == REFUNDED else REFUNDED
        return f"{id_} is {payment.status.value}, the question is {wanted}: write --as {words}"
    if payment.final_at is None:
        return (
            f"{id_} is {payment.status.value}: it is followed and ends by itself;"
            f" `reconciler status {id_}` says what comes next"
        )
    return f"{id_} has ended already: {payment.status.value}; an end is never changed"


# replay


def _replay(args: argparse.Namespace) -> int:
    from worker.deliveries import Kind
    from worker.environment import Need
    from worker.keys import Keys
    from worker.replay import Choice, Replay
    from worker.rights import Role

    _check_choice(args)
    settings = read_settings(args, Need.COMMANDS)

    async def work(redis: "Redis") -> int:
        since = read_age(args.since, "--since") if args.since else None
        seconds = (await redis.time())[0]
        choice = Choice(
            ids=args.ids,
            since=seconds * 1000 - since if since is not None else 0,
            reason=args.reason,
            limit=args.limit,
        )
        again = Replay(
            redis=redis,
            keys=Keys(settings.key_prefix),
            accounts=[settings.client_id] if args.client_id else settings.client_ids,
            confirm=await check_before_writing(redis, settings, Role.WORKER),
            dry_run=args.dry_run,
        )
        left = f"What is left, `reconciler replay {args.what} --all --dry-run` lists"
        with telling_if_interrupted(lambda: left):
            match args.what:
                case "commands":
                    rows = await again.commands(choice, args.type, args.data)
                case "quarantine":
                    rows = await again.quarantine(choice)
                case kind:  # callbacks or forwards
                    rows = await again.deliveries(choice, Kind(kind.removesuffix("s")))
        return _tell(args, rows)

    return with_redis(settings, work)


def _check_choice(args: argparse.Namespace) -> None:
    if not (args.ids or args.all or args.since or args.reason):
        raise Fault(USAGE, "replay: name entries, or write --all, --since or --reason")
    for id_ in args.ids:
        if not re.fullmatch(r"[0-9]{1,15}-[0-9]{1,19}", id_):
            raise Fault(USAGE, f"replay: {id_} is no id of an entry, as in 1700000000000-0")
    mended = args.type is not None or args.data is not None
    if mended and (args.what != "commands" or len(args.ids) != 1):
        raise Fault(USAGE, "replay: --type and --data are for one dead command, named by its id")


def _tell(args: argparse.Namespace, rows: "Sequence[Row]") -> int:
    """A line each, and counts. To leave one that was named is a failure."""
    from worker.views import table

    listed = [row.to_json() for row in rows]
    shown = [{name: row[name] for name in row if name != "done"} for row in listed]
    done = sum(row.done for row in rows)
    missing = set(args.ids) - {row.id for row in rows}
    would = " would be" if args.dry_run else ""
    counts = f"{done}{would} taken up, {len(rows) - done} left"
    counts += f", not there: {' '.join(sorted(missing))}" if missing else ""
    show(listed, args.json, f"{table(shown)}\n\n{counts}")
    return FAILURE if args.ids and (missing or done < len(rows)) else OK
