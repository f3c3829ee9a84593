"""`reconciler mock-notify`: one notification to any URL, signed as the gateway in a box signs."""

import asyncio
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from cryptography.hazmat.primitives.asymmetric import rsa

from jobs.model import Money, Ms
from worker.mock_gateway.command import make_keys
from worker.mock_gateway.config import wall_clock
from worker.mock_gateway.notifier import MAX_ACK_BYTES, acknowledges
from worker.mock_gateway.wire import Signer, result, to_bytes, to_request_time, to_time

SECONDS = 10.0  #: for an answer
CODES = {"S": "SUCCESS", "F": "USER_BALANCE_NOT_ENOUGH", "U": "PAYMENT_IN_PROCESS"}
SHOWN = 300  #: characters of an answer that is none of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be sent, and how it is to be wrong."""

    url: str
    keys: Path
    client_id: str
    payment_request_id: str
    payment_id: str
    amount: Money
    status: str = "S"
    kind: str = "PAYMENT_RESULT"
    skew: Ms = 0  #: how far ahead of now its Request-Time is
    key_version: int = 1
    signed_path: str = ""  #: empty: the URL's own
    bad_signature: bool = False
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    http_status: int
    body: str
    acknowledged: bool
    refused: bool  #: by a 4xx
    means: str

    def to_json(self) -> dict[str, Any]:
        return {
            "httpStatus": self.http_status,
            "body": self.body,
            "acknowledged": self.acknowledged,
            "means": self.means,
        }


async def send(wish: Wish) -> list[Answer]:
    """Send it, and what was answered each time. OSError or aiohttp's own where nobody answers;
    ValueError for keys that the mock gateway did not make."""
    headers, body = await asyncio.to_thread(_compose, wish)
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return [await _send(session, wish.url, headers, body) for _ in range(wish.times)]


async def _send(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes
) -> Answer:
    async with session.post(url, data=body, headers=headers, allow_redirects=False) as reply:
        said = await reply.content.read(MAX_ACK_BYTES)
    acked = reply.status == 200 and acknowledges(said)
    return Answer(
        http_status=reply.status,
        body=said.decode(errors="replace")[:SHOWN],
        acknowledged=acked,
        refused=400 <= reply.status < 500,
        means=_meaning(reply.status, acked, said),
    )


def _compose(wish: Wish) -> tuple[dict[str, str], bytes]:
    key, _ = make_keys(wish.keys)
    if wish.bad_signature:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signer = Signer(client_id=wish.client_id, key=key, key_version=wish.key_version)
    parts, now = urlsplit(wish.url), wall_clock()
    path = wish.signed_path or (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    body = to_bytes(_body(wish, now))
    return signer.headers(path, "Request-Time", to_request_time(now + wish.skew), body), body


def _body(wish: Wish, now: Ms) -> dict[str, Any]:
    amount = {"currency": wish.amount.currency, "value": str(wish.amount.value)}
    body = result(wish.status, CODES[wish.status]) | {
        "notifyType": wish.kind,
        "paymentRequestId": wish.payment_request_id,
        "paymentId": wish.payment_id,
        "paymentAmount": amount,
        "paymentCreateTime": to_time(now),
    }
    if (wish.kind, wish.status) == ("PAYMENT_RESULT", "S"):
        body["paymentTime"] = to_time(now)
    return body


def a_payment_id() -> str:
    """As the gateway makes them up: digits."""
    return str(secrets.randbelow(10**20)).zfill(20)


def _meaning(status: int, acked: bool, said: bytes) -> str:
    if acked:
        return "acknowledged: the gateway would not send it again"
    if status == 200:
        return "HTTP 200 without an acknowledgement: the gateway would send it again"
    why = _reason(said)
    if status == 503:
        return "not kept: the gateway would send it again, and should"
    if 400 <= status < 500:
        return f"refused ({why}): nothing of it is kept, and the gateway would send it again"
    return f"HTTP {status}: no answer of a receiver; the gateway would send it again"


def _reason(said: bytes) -> str:
    try:
        told = json.loads(said)
        return f"{told['error']}: {told['message']}"
    except (ValueError, LookupError, TypeError):
        return "not by a receiver of ours"
