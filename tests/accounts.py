"""Two merchant accounts in one deployment, each with keys of its own: what tests give a process."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.keys import key_text
from tests.servers import environ

A, B = "SANDBOX_5X00000000000001", "SANDBOX_5X00000000000002"


@dataclass(frozen=True, slots=True)
class Side:
    """One account: whose keys sign for it, by the names of `vectors/`, and where it is notified."""

    client_id: str
    ours: str
    theirs: str
    path: str


SIDES = {A: Side(A, "merchant_v1", "alipay_v1", "/a"), B: Side(B, "merchant_v2", "alipay_v2", "/b")}


def other(client_id: str) -> str:
    return B if client_id == A else A


def account(side: Side, gateway_url: str, **more: Any) -> dict[str, Any]:
    """An account by the names of the file."""
    return {
        "client_id": side.client_id,
        "gateway_url": gateway_url,
        "private_key": key_text(side.ours, "private_pkcs8_b64"),
        "public_keys": key_text(side.theirs, "public_x509_b64"),
        "notify_path": side.path,
        **more,
    }


def write_accounts(path: Path, *accounts: Mapping[str, Any]) -> None:
    """The file, in one step; text, numbers and lists are the same in JSON and TOML."""
    lines = []
    for each in accounts:
        lines += ["[[account]]", *(f"{name} = {json.dumps(each[name])}" for name in each), ""]
    beside = path.with_name(path.name + ".new")
    beside.write_text("\n".join(lines))
    beside.replace(path)


def environ_with(path: Path, redis_url: str, prefix: str, **more: str) -> dict[str, str]:
    """Settings of a process whose accounts are in a file."""
    given = environ(redis_url, prefix, "", **more)
    one = [name for name in given if name.startswith("ALIPAY_")]
    kept = {name: text for name, text in given.items() if name not in one}
    return {**kept, "ALIPAY_ACCOUNTS_FILE": str(path)}
