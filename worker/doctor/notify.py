"""Whether a notification that the gateway sends to the notify URL would get to our receiver, whole.

One message is sent that nobody signed: its signature is all zeros. Ours refuses it for just that,
and by the reason that it gives it is known how far a genuine one would have come.
"""

import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from worker.doctor.check import Check, Verdict, failed, ok, skipped, warning
from worker.doctor.tls import STEP_SECONDS, addresses, all_private, check_tls
from worker.receiver import CLIENT_ID, REFUSALS, REQUEST_TIME, SIGNATURE
from worker.settings import Settings
from worker.signature import ALGORITHM, Reason
from worker.values import loopback

WHAT = "notify URL"
MAX_ANSWER_BYTES = 64 * 1024

#: What our receiver says to a message without a true signature, once it has all that we sent.
ARRIVED = (Reason.SIG_MISMATCH, Reason.SIG_SYNTAX)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    location: str
    reason: Reason | None  #: None: it is not an answer of our receiver


async def check_notify_url(settings: Settings, offline: bool) -> list[Check]:
    if settings.notify_url is None:
        return [skipped(WHAT, "ALIPAY_NOTIFY_URL is not set: what the gateway calls is not known")]
    if offline:
        return [skipped(WHAT, "not called: --offline")]
    url = urlsplit(settings.notify_url)
    try:
        found = await addresses(url.hostname or "", url.port or 443)
    except (OSError, TimeoutError):
        seen = f"{url.hostname} leads nowhere: there is no such name"
        return [failed(WHAT, seen, "see the spelling in ALIPAY_NOTIFY_URL, and your DNS")]
    checks = [] if loopback(url.hostname) else [_reachable(url.hostname or "", found)]
    if url.scheme == "https":
        certificate = await check_tls("notify TLS", url, "ALIPAY_NOTIFY_URL")
        checks.append(certificate)
        if certificate.verdict is Verdict.FAILED:
            return [*checks, skipped(WHAT, "not called: see the line above")]
    return [*checks, await _called(settings, settings.notify_url)]


def _reachable(host: str, found: list[str]) -> Check:
    if all_private(found):
        seen = f"{host} is {', '.join(found)} from here: the internet cannot reach that address"
        fix = "see that the public DNS has a public address for it"
        return warning("notify DNS", seen, fix)
    return ok("notify DNS", f"{host} is {', '.join(found)}")


async def _called(settings: Settings, url: str) -> Check:
    version = next(iter(settings.public_keys.get(settings.client_id, {})), 1)
    try:
        answer = await post_unsigned(url, settings.client_id or "unknown", version)
    except TimeoutError:
        seen = f"{url} does not answer within {STEP_SECONDS:.0f} s"
        return failed(WHAT, seen, "start the receiver; see the proxy before it")
    except (aiohttp.ClientError, OSError):
        seen = f"nothing takes a connection at {url}"
        return failed(WHAT, seen, "start the receiver; see firewalls and the proxy before it")
    return _judge(answer, url, settings)


async def post_unsigned(url: str, client_id: str, version: int, *, tls: bool = True) -> Answer:
    """What answers there to a message with a signature of zeros."""
    zeros = base64.b64encode(bytes(256)).decode()
    headers = {
        "Content-Type": "application/json; charset=UTF-8",
        CLIENT_ID: client_id,
        REQUEST_TIME: str(round(time.time() * 1000)),
        SIGNATURE: f"algorithm={ALGORITHM},keyVersion={version},signature={zeros}",
    }
    body = b'{"doctor":"a message that nobody signed"}'
    async with _session(url, tls) as session:
        request = session.post(url, data=body, headers=headers, allow_redirects=False)
        async with request as reply:
            said = await reply.content.read(MAX_ANSWER_BYTES)
            location = reply.headers.get("Location", "")
            return Answer(reply.status, location, _reason(reply.status, said))


@contextlib.asynccontextmanager
async def _session(url: str, tls: bool) -> AsyncIterator[aiohttp.ClientSession]:
    """`tls` says whether a certificate must hold."""
    trusted = ssl.create_default_context() if tls and url.startswith("https:") else False
    connector = aiohttp.TCPConnector(ssl=trusted)
    timeout = aiohttp.ClientTimeout(total=STEP_SECONDS)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield session


def _reason(status: int, said: bytes) -> Reason | None:
    """Why our receiver refuses it, if this is one: what it says is its own."""
    try:
        told = json.loads(said)
        reason = Reason(told["error"])
        ours = (status, told["message"]) == (REFUSALS[reason][0].value, REFUSALS[reason][1])
        return reason if ours else None
    except (ValueError, LookupError, TypeError):
        return None


async def is_ours(url: str) -> bool:
    """Whether a receiver of ours answers on this machine, whatever its settings."""
    try:
        answer = await post_unsigned(url, "unknown", 1, tls=False)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
    return answer.reason is not None


# What its answer means


def _judge(answer: Answer, url: str, settings: Settings) -> Check:
    if answer.reason in (*ARRIVED, *_unknowable(settings)):
        return ok(WHAT, f"our receiver answers at {url}, and takes no message that is not signed")
    if answer.reason is not None:
        seen, fix = _HALF_WAY.get(answer.reason, _ALTERED)
        return failed(WHAT, f"our receiver answers at {url}, but {seen}", fix)
    return _foreign(answer, url, settings)


def _unknowable(settings: Settings) -> list[Reason]:
    """What it cannot but refuse, as our own settings lack what we should have sent."""
    lacking = {
        Reason.CLIENT_ID: not settings.client_id,
        Reason.KEY_VERSION: not settings.public_keys,
    }
    return [reason for reason, lacks in lacking.items() if lacks]


_ALTERED = (
    "what was sent did not arrive as it was",
    "see that the proxy passes path, headers and body on unchanged",
)
_HALF_WAY = {
    Reason.PATH: (
        "listens on another path",
        "set ALIPAY_NOTIFY_PATH to the path that arrives, and ALIPAY_NOTIFY_SIGNED_PATH to the one"
        " in the URL",
    ),
    Reason.HEADER_MISSING: (
        "the headers Client-Id, Request-Time or Signature are gone: a proxy strips them",
        "have the proxy pass all headers on",
    ),
    Reason.CLIENT_ID: (
        "serves another client id",
        "give receiver and worker the same ALIPAY_CLIENT_ID",
    ),
    Reason.KEY_VERSION: (
        "does not know this version of the gateway's key",
        "give receiver and worker the same ALIPAY_PUBLIC_KEYS, or the same accounts file",
    ),
    Reason.METHOD: (
        "a proxy turns POST into another method",
        "have the proxy pass POST on; redirects lose it",
    ),
}


def _foreign(answer: Answer, url: str, settings: Settings) -> Check:
    """Something answers, and it is not our receiver."""
    status = answer.status
    if 300 <= status < 400:
        seen = f"{url} is redirected to {answer.location or 'another place'} (HTTP {status})"
        return failed(
            WHAT, seen, "set ALIPAY_NOTIFY_URL to where it leads; the gateway follows none"
        )
    if status in (502, 503, 504):
        seen = f"the proxy at {url} finds no receiver behind it (HTTP {status})"
        fix = f"start the receiver, and have the proxy call its port {settings.receiver_port}"
        return failed(WHAT, seen, fix)
    if status in (401, 403, 407, 429):
        seen = f"something before our receiver refuses callers at {url} (HTTP {status})"
        return failed(WHAT, seen, "let the gateway through: no login, no filter, no challenge")
    if status == 404:
        seen = f"a foreign server answers at {url} and knows no such path (HTTP 404)"
        fix = f"have it pass {urlsplit(url).path or '/'} on to the receiver"
        return failed(WHAT, seen, fix)
    seen = f"a foreign server answers at {url} (HTTP {status}): notifications would be lost there"
    return failed(WHAT, seen, "have it pass this path on to the receiver, or correct the URL")
