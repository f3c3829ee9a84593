"""`reconciler mock-gateway`: keys on disk, and a server until it is stopped."""

import argparse
import asyncio
import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

from cryptography.hazmat.primitives.asymmetric import rsa

from worker.mock_gateway.config import MockConfig, Switches
from worker.mock_gateway.running import start
from worker.signature import load_private_key, private_text, public_text


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT. Raises ValueError for what cannot be run."""
    gateway_key, merchant_key = make_keys(args.keys)
    config = MockConfig(
        client_id=args.client_id,
        gateway_private_key=gateway_key,
        merchant_public_keys={1: merchant_key.public_key()},
        own_keys=True,
        notify_url=args.notify_url or None,
        host=args.host,
        port=args.port,
        time_scale=args.time_scale,
        seed=args.seed,
        default_closing_seconds=args.closing_seconds,
        switches=read_switches(args.switch),
    )
    asyncio.run(_until_stopped(config, args.keys))
    return 0


async def _until_stopped(config: MockConfig, keys: Path) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    mock = await start(config)
    print(mock.url, flush=True)  # for scripts: the port may have been any free one
    hints = [
        "A gateway in a box for tests. To try it, give the reconciler:",
        f"  ALIPAY_GATEWAY_URL={mock.url}",
        f"  ALIPAY_CLIENT_ID={config.client_id}",
        f"  ALIPAY_PRIVATE_KEY_FILE={keys / 'merchant.key'}",
        f"  ALIPAY_PUBLIC_KEYS_FILE={keys / 'gateway.pub'}",
        f"Make an order: POST {mock.url}/mock/orders; see the truth: GET {mock.url}/mock/ledger",
    ]
    print("\n".join(hints), file=sys.stderr, flush=True)
    try:
        await stopping.wait()
    finally:
        await mock.close()


def make_keys(folder: Path) -> tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]:
    """The mock's own two key pairs, made when `folder` is new.

    Keys of a real account never get in here: the folder is either made by us or refused.
    """
    marker = folder / "made-by-mock-gateway"
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        for name in ("gateway", "merchant"):
            _make_pair(folder, name)
        marker.touch()
    if not marker.exists():
        raise ValueError(
            f"{folder} was not made by the mock gateway: name a folder that is not there"
        )
    gateway, merchant = (folder / f"{name}.key" for name in ("gateway", "merchant"))
    return load_private_key(gateway.read_text()), load_private_key(merchant.read_text())


def _make_pair(folder: Path, name: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with os.fdopen(os.open(folder / f"{name}.key", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(private_text(key))
    (folder / f"{name}.pub").write_text(public_text(key.public_key()))


def read_switches(given: list[str]) -> Switches:
    """Switches from `name=value` words; ValueError names what there is to choose."""
    hints = get_type_hints(Switches)
    values: dict[str, Any] = {}
    for word in given:
        name, _, text = word.partition("=")
        if name not in hints:
            known = ", ".join(field.name for field in dataclasses.fields(Switches))
            raise ValueError(f"--switch {word}: there are {known}")
        values[name] = _switch(word, text, hints[name])
    return Switches(**values)


def _switch(word: str, text: str, hint: Any) -> object:
    if int in get_args(hint):
        if text and not (text.isascii() and text.isdigit()):
            raise ValueError(f"--switch {word}: give a number, or nothing")
        return int(text) if text else None
    choices = {"true": True, "false": False} if hint is bool else {c: c for c in get_args(hint)}
    if text not in choices:
        raise ValueError(f"--switch {word}: give one of {', '.join(choices)}")
    return choices[text]
