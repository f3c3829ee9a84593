"""The commands for trying things out: the demo, the gateway in a box, keys."""

import argparse
import os
import sys
from pathlib import Path

from worker.cli.base import (
    FAILURE,
    OK,
    UNAVAILABLE,
    USAGE,
    Commands,
    Fault,
    add,
    read_age,
    read_amount,
    show,
    why_unreadable,
)

MOCK_CLIENT_ID = "SANDBOX_5X00000000000000"


def add_to(commands: Commands) -> None:
    demo = add(commands, "demo", _demo, "See it work against a gateway that misbehaves.")
    demo.add_argument("--payments", type=int, default=0, metavar="N", help="at least two of each")
    demo.add_argument("--seed", type=int, default=1)
    demo.add_argument("--json", action="store_true")
    mock = add(commands, "mock-gateway", _mock_gateway, "Run a gateway in a box, for tests.")
    mock.add_argument("--keys", type=Path, default=Path("mock-keys"), metavar="DIR")
    mock.add_argument("--host", default="127.0.0.1")
    mock.add_argument("--port", type=int, default=9100)
    mock.add_argument("--client-id", default=MOCK_CLIENT_ID)
    mock.add_argument("--notify-url", default="http://127.0.0.1:8080/notify")
    mock.add_argument("--closing-seconds", type=float, default=840)
    mock.add_argument(
        "--time-scale", type=float, default=1.0, help="0.01: resends 100 times faster"
    )
    mock.add_argument("--seed", type=int, default=1)
    mock.add_argument("--switch", action="append", default=[], metavar="NAME=VALUE")
    _add_mock_notify(commands)
    keys = commands.add_parser("keys", help="Make keys.").add_subparsers(required=True)
    generate = add(keys, "generate", _keys_generate, "Make an RSA key pair for the gateway.")
    generate.add_argument("--bits", type=int, default=2048, choices=[2048, 3072, 4096])
    generate.add_argument("--out", type=Path, metavar="FILE", help="default: private key to stdout")


def _add_mock_notify(commands: Commands) -> None:
    notify = add(commands, "mock-notify", _mock_notify, "Send one signed notification to any URL.")
    notify.add_argument("url", help="as in http://127.0.0.1:8080/notify")
    notify.add_argument("--id", required=True, help="the paymentRequestId")
    notify.add_argument("--amount", default="USD:599", metavar="CUR:N")
    notify.add_argument("--payment-id", help="the gateway's id; default: one made up")
    notify.add_argument("--result", choices=["S", "F", "U"], default="S")
    notify.add_argument("--kind", default="PAYMENT_RESULT", help="or PAYMENT_PENDING, ...")
    notify.add_argument("--keys", type=Path, default=Path("mock-keys"), metavar="DIR")
    notify.add_argument("--key-version", type=int, default=1)
    notify.add_argument("--client-id", default=MOCK_CLIENT_ID)
    notify.add_argument("--skew", default="0s", metavar="AGE", help="sent 10m ago; +10m: ahead")
    notify.add_argument("--signed-path", default="", help="default: that of the URL")
    notify.add_argument("--bad-signature", action="store_true", help="by a key that nobody knows")
    notify.add_argument("--twice", action="store_true", help="the same message again")
    notify.add_argument("--json", action="store_true")


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
    except OSError as fault:
        what = _of_keys(args, fault) or f"{args.host}:{args.port}: {why_unreadable(fault)}"
        raise Fault(FAILURE, what) from None
    return code


def _of_keys(args: argparse.Namespace, fault: Exception) -> str:
    """What is wrong with the folder of keys; empty if it is something else."""
    if not isinstance(fault, OSError) or fault.filename is None:
        return ""
    hint = "write the path of a folder that can be read and written"
    return f"--keys {args.keys}: {why_unreadable(fault)}; {hint}"


def _mock_notify(args: argparse.Namespace) -> int:
    """Ends well if the answer is the right one: an acknowledgement, or a refusal of a forgery."""
    import asyncio

    import aiohttp

    from jobs.model import Money
    from worker.mock_gateway.once import Wish, a_payment_id, send

    ahead = args.skew.startswith("+")
    age = read_age(args.skew.removeprefix("+"), "--skew")
    wish = Wish(
        url=args.url,
        keys=args.keys,
        client_id=args.client_id,
        payment_request_id=args.id,
        payment_id=args.payment_id or a_payment_id(),
        amount=Money(*read_amount(args.amount)),
        status=args.result,
        kind=args.kind,
        skew=age if ahead else -age,
        key_version=args.key_version,
        signed_path=args.signed_path,
        bad_signature=args.bad_signature,
        times=2 if args.twice else 1,
    )
    try:
        answers = asyncio.run(send(wish))
    except aiohttp.InvalidURL:
        raise Fault(USAGE, f"{args.url} is no URL: write http://host:port/path") from None
    except ValueError as fault:
        raise Fault(USAGE, str(fault)) from None
    except (aiohttp.ClientError, OSError) as fault:
        if unusable := _of_keys(args, fault):
            raise Fault(FAILURE, unusable) from None
        text = str(fault) or "no answer in time"
        raise Fault(UNAVAILABLE, f"nobody answers at {args.url}: {text}") from None
    lines = [f"HTTP {answer.http_status}  {answer.body}\n{answer.means}" for answer in answers]
    show([answer.to_json() for answer in answers], args.json, "\n".join(lines))
    right = [answer.refused if args.bad_signature else answer.acknowledged for answer in answers]
    return OK if all(right) else FAILURE


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
