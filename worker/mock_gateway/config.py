"""What a mock gateway is told when it starts, and whom it refuses to play."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from jobs.model import Ms

SANDBOX_PREFIX = "SANDBOX_"  #: what the vendor's test accounts begin with


def wall_clock() -> Ms:
    return time.time_ns() // 1_000_000


class RealAccount(ValueError):
    """The mock gateway plays no real account: its answers would verify as the gateway's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """What nobody outside the vendor knows of the real gateway; a merchant must bear either."""

    cancel_of_failed: Literal["S", "F"] = "S"
    #: what an unknown order is answered with; the vendor's own mock says the second
    missing_order: Literal["ORDER_NOT_EXIST", "PROCESS_FAIL"] = "ORDER_NOT_EXIST"
    resend_time: Literal["kept", "renewed"] = "renewed"  #: the request-time of a resend
    notify_cancelled: bool = False  #: whether a payment that the merchant cancelled is notified
    notify_key_version: int | None = None  #: None: the same as on answers
    notify_signed: Literal["path_and_query", "path"] = "path_and_query"
    #: all three have been seen; docs.antom.com/ac/ams/digital_signature prescribes the first
    signature_encoding: Literal["upper", "lower", "plain"] = "upper"
    payment_status: Literal["SUCCESS", "Success"] = "SUCCESS"  #: a sample prints the second


@dataclass(frozen=True, slots=True, kw_only=True)
class MockConfig:
    """Everything a mock gateway needs to start."""

    client_id: str
    gateway_private_key: RSAPrivateKey
    gateway_key_version: int = 1
    attacker_private_key: RSAPrivateKey | None = None  #: None: one is made, which takes a moment
    merchant_public_keys: Mapping[int, RSAPublicKey]
    own_keys: bool = False  #: whether the keys were made for this run; else SANDBOX_ ids only
    notify_url: str | None = None  #: None: only orders whose `pay` named one are notified
    host: str = "127.0.0.1"
    port: int = 0  #: 0: any free one
    time_scale: float = 1.0  #: of notification delays and resends; 0.01: a hundred times faster
    seed: int = 0
    default_closing_seconds: float = 840  #: 14 minutes, as the vendor's checkout
    switches: Switches = Switches()
    clock: Callable[[], Ms] = wall_clock


def refuse_real_account(client_id: str, own_keys: bool) -> None:
    """Raise `RealAccount` unless the id is a sandbox's or the keys were made for the mock."""
    if not own_keys and not client_id.startswith(SANDBOX_PREFIX):
        raise RealAccount(
            f"the mock gateway does not play the account {client_id!r} with keys that it did not"
            f" make: use a client id that begins with {SANDBOX_PREFIX}, or keys made for this run"
        )
