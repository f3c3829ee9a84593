"""How a callback is signed: so that whoever gets it can tell that it is ours, and new.

Source: github.com/standard-webhooks/standard-webhooks
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.settings import Account

MEDIA_TYPE = "application/cloudevents+json"


def headers(id_: str, seconds: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """The headers of one try, sent at `seconds` since 1970; each secret signs."""
    signed = f"{id_}.{seconds}.".encode() + body
    return {
        "Content-Type": MEDIA_TYPE,
        "webhook-id": id_,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def _signature(secret: bytes, signed: bytes) -> str:
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def checker(accounts: "Mapping[str, Account]") -> Callable[[str, str], str]:
    """By client id and URL, why there can be no callbacks to it; empty if there can."""

    def why_not(client_id: str, url: str) -> str:
        hosts = accounts[client_id].callback_allowed_hosts if client_id in accounts else None
        if not hosts:
            return "no callback hosts are allowed here: set CALLBACK_ALLOWED_HOSTS, or leave it out"
        return hosts.why_not(url)

    return why_not
