"""The command line. Data goes to stdout, everything else to stderr.

Exit codes: 0 ok, 1 failure, 2 usage, 3 bad configuration, 4 Redis or gateway unavailable, 5 a check
failed. Heavy modules are imported by the commands that need them, so that `--help` is quick.
"""

import argparse
import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from traceback import format_exception
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from worker.display import visible
from worker.secrecy import mask

if TYPE_CHECKING:
    from worker.environment import Need
    from worker.settings import Settings

OK, FAILURE, USAGE, BAD_SETTINGS, UNAVAILABLE, CHECK_FAILED = range(6)

STOPS = (signal.SIGTERM, signal.SIGINT)


class Fault(Exception):
    """A command cannot go on; the text says why and what to do."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    args = _parser().parse_args(argv)
    sys.excepthook = _broken
    try:
        code: int = args.run(args)
        sys.stdout.flush()  # here, where a reader that has gone away is no surprise
    except Fault as fault:
        print(visible(mask(f"reconciler: {fault}")), file=sys.stderr)
        return fault.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `reconciler pending | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def _broken(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    """A bug's traceback, which may quote what a library was given."""
    print(mask("".join(format_exception(kind, fault, trace))), file=sys.stderr)


# The words


class _Parser(argparse.ArgumentParser):
    """Repeats what was written wrongly, but not a password in it."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(mask(message)))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reconciler",
        description="Makes sure that every Alipay payment ends, and that the merchant learns how.",
    )
    parser.add_argument("--env-file", type=Path, default=Path(".env"), metavar="FILE")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_processes(commands)
    _add_payments(commands)
    _add_tools(commands)
    return parser


Commands = Any  # argparse's own type for this is private


def _add(commands: Commands, name: str, run: Callable[..., int], help_: str) -> Any:
    command = commands.add_parser(name, help=help_, description=help_)
    command.set_defaults(run=run)
    return command


def _add_processes(commands: Commands) -> None:
    _add(commands, "run", _run, "Run receiver and worker in one process.")
    _add(commands, "receiver", _receiver, "Receive the gateway's notifications.")
    _add(commands, "worker", _worker, "Follow payments.")


def _add_payments(commands: Commands) -> None:
    track = _add(commands, "track", _track, "Have a payment followed.")
    track.add_argument("id", help="the paymentRequestId")
    track.add_argument("--amount", required=True, metavar="CUR:N", help="as in USD:599 for $5.99")
    track.add_argument("--expires-in", type=int, metavar="SECONDS")
    track.add_argument("--expiry-time", metavar="TIME", help="ISO 8601 with an offset")
    track.add_argument("--payment-id", help="the gateway's id, if known")
    track.add_argument("--on-timeout", choices=["cancel", "report"])
    track.add_argument("--reference", help="your own note, handed back in every outcome")
    status = _add(commands, "status", _status, "Show what is known of a payment, and its story.")
    status.add_argument("id", help="the paymentRequestId")
    pending = _add(commands, "pending", _pending, "List open payments, the oldest first.")
    pending.add_argument("--older", default="0s", metavar="AGE", help="only older than 90s, 5m, 2h")
    pending.add_argument("--limit", type=int, default=1000)
    for command in (track, status):
        command.add_argument("--client-id", help="the account; default ALIPAY_CLIENT_ID")
    for command in (track, status, pending):
        command.add_argument("--redis-url", help="one without a password: others see arguments")
        command.add_argument("--json", action="store_true")


def _add_tools(commands: Commands) -> None:
    demo = _add(commands, "demo", _demo, "See it work against a gateway that misbehaves.")
    demo.add_argument("--payments", type=int, default=0, metavar="N", help="at least two of each")
    demo.add_argument("--seed", type=int, default=1)
    demo.add_argument("--json", action="store_true")
    mock = _add(commands, "mock-gateway", _mock_gateway, "Run a gateway in a box, for tests.")
    mock.add_argument("--keys", type=Path, default=Path("mock-keys"), metavar="DIR")
    mock.add_argument("--host", default="127.0.0.1")
    mock.add_argument("--port", type=int, default=9100)
    mock.add_argument("--client-id", default="SANDBOX_5X00000000000000")
    mock.add_argument("--notify-url", default="http://127.0.0.1:8080/notify")
    mock.add_argument("--closing-seconds", type=float, default=840)
    mock.add_argument(
        "--time-scale", type=float, default=1.0, help="0.01: resends 100 times faster"
    )
    mock.add_argument("--seed", type=int, default=1)
    mock.add_argument("--switch", action="append", default=[], metavar="NAME=VALUE")
    keys = commands.add_parser("keys", help="Make keys.").add_subparsers(required=True)
    generate = _add(keys, "generate", _keys_generate, "Make an RSA key pair for the gateway.")
    generate.add_argument("--bits", type=int, default=2048, choices=[2048, 3072, 4096])
    generate.add_argument("--out", type=Path, metavar="FILE", help="default: private key to stdout")


# Settings


def _settings(args: argparse.Namespace, need: "Need") -> "Settings":
    from worker.settings import BadSettings, load

    flags = {"REDIS_URL": "redis_url", "ALIPAY_CLIENT_ID": "client_id"}
    given = {name: getattr(args, flag, None) for name, flag in flags.items()}
    overrides = {name: value for name, value in given.items() if value}
    try:
        return load(os.environ, args.env_file, overrides, need=need)
    except BadSettings as bad:
        raise Fault(BAD_SETTINGS, bad.message) from None


# Processes


def _run(args: argparse.Namespace) -> int:
    from worker.environment import Need
    from worker.main import run_receiver, run_worker

    settings = _settings(args, Need.GATEWAY | Need.NOTIFICATIONS)

    async def both(stopping: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_receiver(settings, stopping, alone=False))
            group.create_task(run_worker(settings, stopping))

    return _serve(settings, both)


def _receiver(args: argparse.Namespace) -> int:
    from worker.environment import Need
    from worker.main import run_receiver

    settings = _settings(args, Need.NOTIFICATIONS)
    return _serve(settings, lambda stopping: run_receiver(settings, stopping))


def _worker(args: argparse.Namespace) -> int:
    from worker.environment import Need
    from worker.main import run_worker

    settings = _settings(args, Need.GATEWAY)
    return _serve(settings, lambda stopping: run_worker(settings, stopping))


def _serve(settings: "Settings", work: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run until SIGTERM or SIGINT asks to stop; a second one does not wait."""
    from worker.connect import Unsafe
    from worker.logs import configure, take_over

    configure(settings.log_format, settings.log_level)
    take_over()

    async def until_stopped() -> None:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()

        def stop() -> None:
            stopping.set()
            for number in STOPS:
                loop.remove_signal_handler(number)

        for number in STOPS:
            loop.add_signal_handler(number, stop)
        await work(stopping)

    try:
        asyncio.run(until_stopped())
    except Exception as fault:
        first = _first(fault)
        if isinstance(first, Unsafe):
            raise Fault(CHECK_FAILED, str(first)) from None
        if isinstance(first, OSError):
            raise Fault(FAILURE, str(first)) from None
        raise
    return OK


def _first(fault: BaseException) -> BaseException:
    """The first fault of a group: processes that run together end together."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault


# Payments


def _track(args: argparse.Namespace) -> int:
    from worker import client
    from worker.environment import Need

    amount = re.fullmatch(r"([A-Z]{3}):([1-9][0-9]{0,15})", args.amount)
    if amount is None:
        raise Fault(USAGE, "--amount: write currency and smallest units, as in USD:599")
    settings = _settings(args, Need.COMMANDS)

    async def work(redis: Any) -> int:
        await _check_before_writing(redis, settings)
        entry_id = await client.track(
            redis,
            args.id,
            amount[1],
            int(amount[2]),
            client_id=settings.client_id,
            expires_in=args.expires_in,
            expiry_time=args.expiry_time,
            payment_id=args.payment_id,
            on_timeout=args.on_timeout,
            reference=args.reference,
            prefix=settings.key_prefix,
        )
        _print({"command": entry_id}, args.json, f"queued as {entry_id}")
        return OK

    return _with_redis(settings, work)


async def _check_before_writing(redis: Any, settings: "Settings") -> None:
    """What the merchant's user can see: above all whether this is the database of the workers."""
    from worker import admission, probes
    from worker.facts import ask
    from worker.rights import Role

    facts = await ask(redis, settings, Role.MERCHANT)
    found = probes.judge(facts, settings)
    admission.refuse(found)
    for finding in found if facts.info else [f for f in found if f.what == "state"]:
        print(f"reconciler: warning: {finding}", file=sys.stderr)


def _status(args: argparse.Namespace) -> int:
    from worker import views
    from worker.environment import Need

    settings = _settings(args, Need.COMMANDS)

    async def work(redis: Any) -> int:
        seen = await views.look_up(redis, settings.key_prefix, settings.client_id, args.id)
        if seen is None:
            raise Fault(FAILURE, f"{args.id} is not tracked under {settings.client_id}")
        _print(seen, args.json, views.story(seen))
        return OK

    return _with_redis(settings, work)


def _pending(args: argparse.Namespace) -> int:
    from worker import views
    from worker.environment import Need

    older = _age(args.older)
    settings = _settings(args, Need.COMMANDS)

    async def work(redis: Any) -> int:
        rows = await views.open_payments(redis, settings.key_prefix, older, args.limit)
        _print(rows, args.json, views.table(rows))
        return OK

    return _with_redis(settings, work)


def _age(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None:
        raise Fault(USAGE, "--older: write a number and s, m, h or d, as in 5m")
    return int(match[1]) * {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[match[2]]


def _with_redis(settings: "Settings", work: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    from redis.exceptions import RedisError

    from worker.connect import Unsafe, client

    async def connected() -> int:
        redis = client(settings.redis_url)
        try:
            return await work(redis)
        finally:
            await redis.aclose()

    try:
        return asyncio.run(connected())
    except Unsafe as fault:
        raise Fault(CHECK_FAILED, str(fault)) from None
    except BrokenPipeError:  # of stdout: one of Redis is a RedisError
        raise
    except (RedisError, OSError) as fault:
        raise Fault(UNAVAILABLE, f"Redis is not available: {fault}") from None


def _print(data: Any, as_json: bool, text: str) -> None:
    import json

    print(visible(json.dumps(data, indent=2, ensure_ascii=False) if as_json else text))


# Tools


def _demo(args: argparse.Namespace) -> int:
    from worker.demo import demo

    code: int = demo(args.payments, args.seed, args.json)
    return code


def _mock_gateway(args: argparse.Namespace) -> int:
    from worker.mock_gateway.command import run

    try:
        code: int = run(args)
    except ValueError as fault:
        raise Fault(USAGE, str(fault)) from None
    return code


def _keys_generate(args: argparse.Namespace) -> int:
    """The private key stays here; the public one goes to the gateway's dashboard."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    from worker.signature import private_text, public_text

    key = rsa.generate_private_key(public_exponent=65537, key_size=args.bits)
    if args.out is None:
        print(private_text(key))
    else:
        _write_secret(args.out, private_text(key))
        print(f"private key: {args.out} (ALIPAY_PRIVATE_KEY_FILE)", file=sys.stderr)
    print("public key, for the gateway's dashboard:", file=sys.stderr)
    print(public_text(key.public_key()), file=sys.stderr if args.out is None else sys.stdout)
    return OK


def _write_secret(path: Path, text: str) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
    except FileExistsError:
        raise Fault(FAILURE, f"{path} exists: a key is never overwritten") from None
    except OSError as fault:
        raise Fault(FAILURE, f"{path}: {fault.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
