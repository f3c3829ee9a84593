"""What the merchant commands, written to the stream as any other program would write it."""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.cli.base import (
    OK,
    UNAVAILABLE,
    USAGE,
    Commands,
    Fault,
    account_of,
    add,
    add_account,
    add_redis,
    queue,
    read_settings,
    show,
    telling_if_interrupted,
    why_unreadable,
    with_redis,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.settings import Settings

#: Longer than a command waits for its payment to be tracked, and than a worker takes to come back.
WAIT_SECONDS = 90.0
MOST_BYTES = 64 * 1024

ORDERS = {
    "cancel": "Have a payment cancelled at the gateway.",
    "recheck": "Have the gateway asked about a payment now.",
    "forget": "Have a payment no longer followed, or its record erased if it has ended.",
}


def add_to(commands: Commands) -> None:
    submit = add(commands, "submit", _submit, "Have an Entry Code payment created, and followed.")
    submit.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="the data of payment.submit as JSON; - is stdin",
    )
    orders = [add(commands, name, _order(name), help_) for name, help_ in ORDERS.items()]
    for order in orders:
        order.add_argument("id", help="the paymentRequestId")
        order.add_argument("--reason", metavar="TEXT", help="why; it stands in the payment's story")
    for command in (submit, *orders):
        command.add_argument(
            "--wait",
            nargs="?",
            type=seconds,
            const=WAIT_SECONDS,
            metavar="SECONDS",
            help=f"until what becomes of it is seen; default {WAIT_SECONDS:g}."
            " Exit code 1: rejected, or the payment has ended otherwise; 4: nothing was seen",
        )
        add_account(command)
        add_redis(command)


def seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise ValueError
    return seconds


def _order(name: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        settings = _settings(args)
        data = {
            "paymentRequestId": args.id,
            "clientId": account_of(settings),
            "reason": args.reason,
        }
        return _give(args, settings, f"payment.{name}", data)

    return run


def _submit(args: argparse.Namespace) -> int:
    from worker.strict_json import Unreadable, parse_object

    settings = _settings(args)
    try:
        said = parse_object(_read(args.data))
    except Unreadable as fault:
        raise Fault(USAGE, f"--data cannot be read ({fault.why}): {fault.remedy}") from None
    if args.client_id or "clientId" not in said:
        said["clientId"] = account_of(settings)
    return _give(args, settings, "payment.submit", said)


def _read(name: str) -> bytes:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as fault:
        hint = "write the path of a file with the data of payment.submit, or - for stdin"
        raise Fault(USAGE, f"--data {name}: {why_unreadable(fault)}; {hint}") from None
    if len(data) > MOST_BYTES:
        raise Fault(USAGE, f"--data: over {MOST_BYTES // 1024} KiB; a command has far less")
    return data


def _settings(args: argparse.Namespace) -> "Settings":
    from worker.environment import Need

    return read_settings(args, Need.COMMANDS)


def _give(args: argparse.Namespace, settings: "Settings", type_: str, data: dict[str, Any]) -> int:
    """Check a command as the worker will, write it, and see what becomes of it if that is asked."""
    from redis.exceptions import RedisError

    from worker import client
    from worker.cli.waiting import Command, record_of, wait
    from worker.keys import Keys

    client_id, request_id = _checked(type_, data)
    keys, key = Keys(settings.key_prefix), f"{client_id}:{request_id}"

    async def work(redis: "Redis") -> int:
        before = await record_of(redis, keys, key) if args.wait is not None else {}
        send = partial(client.send, redis, type_, data, settings.key_prefix)
        entry_id = await queue(redis, settings, request_id, send)
        if args.wait is None:
            show({"command": entry_id}, args.json, f"queued as {entry_id}")
            return OK
        command = Command(type=type_, id=entry_id, key=key, before=before.get("status", ""))
        look = f"`reconciler status {request_id}` shows what becomes of it"
        try:
            with telling_if_interrupted(lambda: f"Queued as {entry_id}; {look}"):
                seen = await wait(redis, keys, command, args.wait)
        except (RedisError, OSError) as fault:
            raise Fault(
                UNAVAILABLE, f"queued as {entry_id}, and no more is known: {fault}"
            ) from None
        told = f"{type_} {entry_id}: {seen.result}: {seen.message}"
        show({"command": entry_id} | seen.to_json(), args.json, told)
        return seen.code

    return with_redis(settings, work)


def _checked(type_: str, data: dict[str, Any]) -> tuple[str, str]:
    """The account and the payment of a command; what the worker could not read is not written."""
    from worker.commands import BadCommand, judged_later, read_command
    from worker.envelope import encode_data

    given = {name: value for name, value in data.items() if value is not None}
    named, now = str(data["clientId"]), time.time_ns() // 1_000_000
    try:
        command = read_command(type_, encode_data(given), "", now, (named,), judged_later)
    except BadCommand as bad:
        raise Fault(USAGE, bad.message) from None
    return command.client_id, command.payment_request_id
