"""The commands about payments: have one followed, see one, see all that are open."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from worker.cli import adopt
from worker.cli.base import (
    FAILURE,
    OK,
    Commands,
    Fault,
    account_of,
    add,
    add_account,
    add_redis,
    queue,
    read_age,
    read_amount,
    read_settings,
    show,
    with_redis,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis


def add_to(commands: Commands) -> None:
    track = add(commands, "track", _track, "Have a payment followed, or a whole list of them.")
    track.add_argument("id", nargs="?", help="the paymentRequestId")
    track.add_argument("--amount", metavar="CUR:N", help="as in USD:599 for $5.99")
    track.add_argument("--expires-in", type=int, metavar="SECONDS")
    track.add_argument("--expiry-time", metavar="TIME", help="ISO 8601 with an offset")
    track.add_argument("--payment-id", help="the gateway's id, if known")
    track.add_argument("--on-timeout", choices=["cancel", "report"])
    track.add_argument("--reference", help="your own note, handed back in every outcome")
    adopt.add_list_to(track)
    status = add(commands, "status", _status, "Show what is known of a payment, and its story.")
    status.add_argument("id", help="the paymentRequestId")
    pending = add(commands, "pending", _pending, "List open payments, the oldest first, and why.")
    pending.add_argument("--older", default="0s", metavar="AGE", help="only older than 90s, 5m, 2h")
    pending.add_argument("--limit", type=int, default=1000)
    for command in (track, status):
        add_account(command)
    for command in (track, status, pending):
        add_redis(command)


def _track(args: argparse.Namespace) -> int:
    from worker import client
    from worker.environment import Need

    if args.file is not None:
        return adopt.track_list(args)
    if args.id is None or args.amount is None:
        args.misused("write the payment's id and --amount, or --file")
    currency, value = read_amount(args.amount)
    settings = read_settings(args, Need.COMMANDS)
    client_id = account_of(settings)

    async def work(redis: "Redis") -> int:
        track = partial(
            client.track,
            redis,
            args.id,
            currency,
            value,
            client_id=client_id,
            expires_in=args.expires_in,
            expiry_time=args.expiry_time,
            payment_id=args.payment_id,
            on_timeout=args.on_timeout,
            reference=args.reference,
            prefix=settings.key_prefix,
        )
        entry_id = await queue(redis, settings, args.id, track)
        show({"command": entry_id}, args.json, f"queued as {entry_id}")
        return OK

    return with_redis(settings, work)


def _status(args: argparse.Namespace) -> int:
    from worker import story, views
    from worker.environment import Need
    from worker.replies import now_of

    settings = read_settings(args, Need.COMMANDS)
    client_id = account_of(settings)

    async def work(redis: "Redis") -> int:
        seen = await views.look_up(redis, settings.key_prefix, client_id, args.id)
        if seen is None:
            raise Fault(FAILURE, f"{args.id} is not tracked under {client_id}")
        show(seen, args.json, story.tell(seen, await now_of(redis)))
        return OK

    return with_redis(settings, work)


def _pending(args: argparse.Namespace) -> int:
    from worker import views
    from worker.environment import Need

    older = read_age(args.older, "--older")
    settings = read_settings(args, Need.COMMANDS)

    async def work(redis: "Redis") -> int:
        found = await views.open_payments(redis, settings.key_prefix, older, args.limit)
        show(found.rows, args.json, views.listed(found))
        return OK

    return with_redis(settings, work)
