"""Throw-away keys and signed messages from `vectors/`, made for tests only."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from worker.signature import Signed, load_private_key, load_public_key

CLIENT_ID = "SANDBOX_5X00000000000000"

_VECTORS = Path(__file__).parent / "vectors"


@cache
def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_VECTORS / f"{name}.json").read_text("utf-8"))
    return content


def key_text(name: str, form: str) -> str:
    """A key as configured; form: `private_pkcs8_b64`, `private_pkcs1_b64`, `public_x509_b64`."""
    return str(_read("keys")["keys"][name][form])


@cache
def private_key(name: str) -> RSAPrivateKey:
    """`merchant_v1`, `merchant_v2`, `alipay_v1`, `alipay_v2` or `attacker`."""
    return load_private_key(key_text(name, "private_pkcs8_b64"))


@cache
def public_key(name: str) -> RSAPublicKey:
    return load_public_key(key_text(name, "public_x509_b64"))


def vectors(name: str) -> list[dict[str, Any]]:
    """The messages of `valid`, `invalid` or `quirks`."""
    messages: list[dict[str, Any]] = _read(name)["vectors"]
    return messages


def vector(id: str) -> dict[str, Any]:
    """One message by its id, from any of the files."""
    everything = vectors("valid") + vectors("invalid") + vectors("quirks")
    return next(message for message in everything if message["id"] == id)


def signed(message: dict[str, Any]) -> Signed:
    """What a vector's signature is over."""
    return Signed(message["path"], message["client_id"], message["time"], message["body"].encode())
