"""What the commands share: exit codes, faults, settings, a connection to Redis, and printing."""

import argparse
import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from worker.display import visible
from worker.secrecy import mask

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.environment import Need
    from worker.rights import Role
    from worker.scripts import Confirm
    from worker.settings import Settings, Source

OK, FAILURE, USAGE, BAD_SETTINGS, UNAVAILABLE, CHECK_FAILED = range(6)
INTERRUPTED = 130  #: by Ctrl-C, as shells tell it

Commands = Any  # argparse's own type for this is private


class Fault(Exception):
    """A command cannot go on; the text says why and what to do."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@contextlib.contextmanager
def telling_if_interrupted(tell: Callable[[], str]) -> Iterator[None]:
    """What stands already, and how to look at it or go on, told to whoever presses Ctrl-C.

    asyncio turns the first Ctrl-C into a cancellation; a second one ends the command at once.
    """
    try:
        yield
    except asyncio.CancelledError:
        raise Fault(INTERRUPTED, f"interrupted. {tell()}") from None


def why_unreadable(fault: OSError | ValueError) -> str:
    """Why a file could not be opened; not its name, which whoever tells it knows."""
    return getattr(fault, "strerror", None) or "no such name is possible"


# Words


def add(commands: Commands, name: str, run: Callable[..., int], help_: str) -> Any:
    """The parser of one command."""
    command = commands.add_parser(name, help=help_, description=help_)
    command.set_defaults(run=run)
    return command


def add_redis(command: Any) -> None:
    command.add_argument("--redis-url", help="one without a password: others see arguments")
    command.add_argument("--json", action="store_true")


def add_account(command: Any) -> None:
    command.add_argument("--client-id", help="the account; default: the only one")


_AGE_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def read_age(text: str, flag: str) -> int:
    """`90s`, `5m`, `2h` or `3d` in milliseconds."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None:
        raise Fault(USAGE, f"{flag}: write a number and s, m, h or d, as in 5m")
    return int(match[1]) * _AGE_UNITS[match[2]]


def read_amount(text: str) -> tuple[str, int]:
    """`USD:599`: the currency, and the value in its smallest unit."""
    amount = re.fullmatch(r"([A-Z]{3}):([1-9][0-9]{0,15})", text)
    if amount is None:
        raise Fault(USAGE, "--amount: write currency and smallest units, as in USD:599")
    return amount[1], int(amount[2])


# Settings


def flags(args: argparse.Namespace) -> dict[str, str]:
    """The settings that were given as flags."""
    names = {"REDIS_URL": "redis_url", "ALIPAY_CLIENT_ID": "client_id"}
    given = {name: getattr(args, flag, None) for name, flag in names.items()}
    return {name: value for name, value in given.items() if value}


def source_of(args: argparse.Namespace, need: "Need") -> "Source":
    """Where the settings of this command are found."""
    from worker.settings import Source

    return Source(environ=os.environ, dotenv=args.env_file, overrides=flags(args), need=need)


def read_settings(args: argparse.Namespace, need: "Need") -> "Settings":
    from worker.settings import BadSettings

    try:
        return source_of(args, need).load()
    except BadSettings as bad:
        raise Fault(BAD_SETTINGS, bad.message) from None


def account_of(settings: "Settings") -> str:
    """The client id that a command is about: --client-id, or the only one there is."""
    if settings.client_id:
        return settings.client_id
    listed = ", ".join(settings.client_ids)
    raise Fault(USAGE, f"there are several accounts: write --client-id, one of {listed}")


# Redis


def with_redis(settings: "Settings", work: "Callable[[Redis], Coroutine[Any, Any, int]]") -> int:
    """What `work` returns, given a client."""
    from worker.connect import client

    async def connected() -> int:
        redis = client(settings.redis_url)
        try:
            return await work(redis)
        finally:
            await redis.aclose()

    return run_to_end(connected())


def run_to_end(work: Coroutine[Any, Any, int]) -> int:
    """What `work` returns; a Redis that is unsafe or away is a fault."""
    from redis.exceptions import RedisError

    from worker.connect import Unsafe, denied

    try:
        return asyncio.run(work)
    except Unsafe as fault:
        raise Fault(CHECK_FAILED, str(fault)) from None
    except BrokenPipeError:  # of stdout: one of Redis is a RedisError
        raise
    except (RedisError, OSError) as fault:
        if denied(fault) or "ACL failure in script" in str(fault):
            hint = "name one that may in REDIS_URL, as admin of deploy/users.conf"
            raise Fault(
                CHECK_FAILED, f"our user of Redis may not do this ({fault}): {hint}"
            ) from None
        raise Fault(UNAVAILABLE, f"Redis is not available: {fault}") from None


async def check_before_writing(
    redis: "Redis", settings: "Settings", role: "Role"
) -> "Confirm | None":
    """Refuse a Redis that is unsafe, as far as `role` can see: above all another database.

    Returns what a write must wait for.
    """
    from worker import admission, probes
    from worker.facts import ask

    facts = await ask(redis, settings, role)
    found = probes.judge(facts, settings)
    admission.refuse(found)
    for finding in found if facts.info else [f for f in found if f.what == "state"]:
        print(mask(f"reconciler: warning: {finding}"), file=sys.stderr)
    return probes.confirmation(facts, settings.durability)


async def queue(
    redis: "Redis", settings: "Settings", request_id: str, send: Callable[[], Awaitable[str]]
) -> str:
    """Write a command about one payment, if Redis is safe; its id in the stream."""
    from worker.rights import Role

    with telling_if_interrupted(lambda: "Nothing is queued"):
        await check_before_writing(redis, settings, Role.MERCHANT)
    unknown = (
        f"Whether it is queued is not known: `reconciler status {request_id}` shows what comes of"
        " it; to give the same command again is safe"
    )
    with telling_if_interrupted(lambda: unknown):
        return await send()


# Output


def show(data: Any, as_json: bool, text: str) -> None:
    """Data for a script, or text for a person, on stdout."""
    import json

    print(visible(json.dumps(data, indent=2, ensure_ascii=False) if as_json else text))
