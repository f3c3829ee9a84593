"""Whether the gateway knows us and we know it: one signed inquiry about a payment that nobody made.

The answer ORDER_NOT_EXIST, signed, is a clean bill: our key, its version and our client id are
known there, and its signature is by a key that we know. Refusals are not signed; they are read here
as a hint at what is wrong, and decide nothing.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from jobs.model import Ms
from jobs.news import Call, InquiryAnswer
from jobs.schedule import MINUTE, SECOND
from worker import messages, requests
from worker.doctor.check import Check, Verdict, failed, ok, skipped, warning
from worker.doctor.tls import addresses, check_tls
from worker.gateway import HttpGateway, NoAnswerHere, Reply, open_session
from worker.rights import Role
from worker.settings import Account, Settings
from worker.signature import Reason, Untrusted, parse_signature
from worker.strict_json import Unreadable

WHAT, CLOCK = "gateway", "gateway clock"
#: Where a key stands: in the environment or, with several accounts, in their file.
PUBLIC_KEYS = "ALIPAY_PUBLIC_KEYS (public_keys in an accounts file)"
PRIVATE_KEY = "ALIPAY_PRIVATE_KEY (private_key in an accounts file)"
KEY_VERSION = "ALIPAY_KEY_VERSION (key_version in an accounts file)"
STALE: Ms = 5 * MINUTE  #: an answer's time that is further off proves nothing, see jobs.evidence


async def check_gateway(settings: Settings, roles: Sequence[Role], offline: bool) -> list[Check]:
    if Role.WORKER not in roles:
        return []
    account = settings.accounts.get(settings.client_id)
    if account is None:
        return [skipped(WHAT, "not asked: the account's settings cannot be used")]
    if offline:
        return [skipped(WHAT, "not asked: --offline")]
    on_the_way = await _check_way(account)
    if any(check.verdict is Verdict.FAILED for check in on_the_way):
        return [*on_the_way, skipped(WHAT, "not asked: see the line above")]
    return [*on_the_way, *await _ask(account, settings.gateway_timeout)]


async def _check_way(account: Account) -> list[Check]:
    """Name and certificate."""
    url = urlsplit(account.gateway_url)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await addresses(host, port)
    except (OSError, TimeoutError):
        seen = f"{host} leads nowhere: there is no such name"
        return [failed("gateway DNS", seen, "see the spelling in ALIPAY_GATEWAY_URL, and your DNS")]
    checks = [ok("gateway DNS", f"{host} is {', '.join(found)}")]
    if url.scheme == "https":
        checks.append(await check_tls("gateway TLS", url, "ALIPAY_GATEWAY_URL"))
    return checks


async def _ask(account: Account, within: Ms) -> list[Check]:
    name = f"doctor-{secrets.token_hex(12)}"
    body, asked_at = requests.inquiry_body(name), round(time.time() * 1000)
    try:
        async with open_session(1) as session, asyncio.timeout(within / 1000):
            gateway = HttpGateway(session, account, within)
            reply = await gateway.call("inquiryPayment", body, asked_at)
    except TimeoutError:
        seen = f"{account.gateway_url} does not answer within {within / 1000:g} s"
        return [failed(WHAT, seen, "see firewalls on the way, or raise GATEWAY_TIMEOUT_SECONDS")]
    except (aiohttp.ClientError, NoAnswerHere) as fault:
        seen = f"{account.gateway_url} gives no answer ({type(fault).__name__})"
        return [failed(WHAT, seen, "see ALIPAY_GATEWAY_URL, and firewalls and proxies on the way")]
    return judge(reply, account, asked_at)


def judge(reply: Reply, account: Account, asked_at: Ms) -> list[Check]:
    """What an answer says about us, them, and the clocks."""
    if reply.status != HTTPStatus.OK:
        return [_not_the_gateway(reply, account)]
    try:
        said_at = reply.verify(account)
        answer = messages.parse_inquiry_answer(reply.body, asked_at, said_at)
    except Untrusted as doubt:
        return [_untrusted(reply, account, doubt.reason), *_date(reply)]
    except Unreadable as fault:
        seen = f"the gateway's answer verifies, and cannot be understood ({fault.why})"
        return [failed(WHAT, seen, "report this: the protocol may have changed")]
    return [_understood(answer, account), _clock(said_at, "the gateway's")]


def _not_the_gateway(reply: Reply, account: Account) -> Check:
    status, url = reply.status, account.gateway_url
    if status == HTTPStatus.NOT_FOUND:
        seen = f"{url} knows no {reply.path} (HTTP 404): it is not the gateway"
        return failed(WHAT, seen, "set ALIPAY_GATEWAY_URL to the host of your region")
    if status in (401, 403, 407):
        seen = f"{url} does not let us in (HTTP {status})"
        return failed(
            WHAT, seen, "have this machine's address allowed, at the gateway and by proxies"
        )
    if 300 <= status < 400:
        seen = f"{url} sends us elsewhere (HTTP {status})"
        return failed(WHAT, seen, "set ALIPAY_GATEWAY_URL to the host of your region")
    seen = f"{url} is in trouble (HTTP {status})"
    return failed(
        WHAT, seen, "try again later; if it lasts, see ALIPAY_GATEWAY_URL and the proxies"
    )


# An answer that does not verify


def _untrusted(reply: Reply, account: Account, reason: Reason) -> Check:
    known = ", ".join(map(str, sorted(account.public_keys)))
    match reason:
        case Reason.HEADER_MISSING:
            return _unsigned(reply, account)
        case Reason.KEY_VERSION:
            theirs = _version_of(reply)
            seen = f"the gateway signs with its key version {theirs}, we know {known}"
            fix = f"add {theirs}=KEY from the gateway's dashboard to {PUBLIC_KEYS}"
            return failed(WHAT, seen, fix)
        case Reason.SIG_MISMATCH | Reason.SIG_SYNTAX:
            seen = (
                f"its answer is not signed by the key that we know as version {_version_of(reply)}"
            )
            fix = (
                "copy the gateway's public key for this client id from its dashboard into"
                f" {PUBLIC_KEYS}; if it is the same, a proxy alters answers"
            )
            return failed(WHAT, seen, fix)
        case Reason.CLIENT_ID:
            seen = f"its answer is addressed to another client id than {account.client_id}"
            return failed(WHAT, seen, "see ALIPAY_CLIENT_ID and ALIPAY_GATEWAY_URL")
        case _:
            seen = f"its answer is not the gateway's ({reason.value})"
            return failed(WHAT, seen, "see ALIPAY_GATEWAY_URL, and proxies on the way")


def _version_of(reply: Reply) -> str:
    try:
        return str(parse_signature(reply.headers.get("signature", ""))[0])
    except Untrusted:
        return "?"


def _unsigned(reply: Reply, account: Account) -> Check:
    """The gateway signs no refusal of what it does not believe to be ours."""
    try:
        answer = messages.parse_inquiry_answer(reply.body, 0, None)
    except Unreadable:
        seen = f"what answers at {account.gateway_url} is not the gateway: no signature, no result"
        return failed(WHAT, seen, "set ALIPAY_GATEWAY_URL to the host of your region")
    return _refusal(answer.code, account) or failed(
        WHAT,
        f"it answers {answer.code} without a signature",
        "see ALIPAY_GATEWAY_URL, and proxies that strip headers",
    )


def _refusal(code: str, account: Account) -> Check | None:
    """What the gateway does not like about us."""
    words = _REFUSALS.get(code)
    if words is None:
        return None
    seen, fix = (text.format(a=account, world=_world(account)) for text in words)
    return failed(WHAT, f"it refuses us: {code}: {seen}", fix)


def _world(account: Account) -> str:
    return "sandbox" if account.sandbox else "production"


_SIGNATURE = (
    "our signature does not match the public key that is uploaded there",
    f"upload the public half of {PRIVATE_KEY} to the gateway's dashboard, as version"
    " {a.key_version}; the line `keys` shows its SHA-256",
)
_VERSION = (
    "it has no key of ours with version {a.key_version}",
    f"set {KEY_VERSION} to the version that the dashboard shows for our key",
)
_CLIENT = (
    "the client id {a.client_id} is not known there",
    "see ALIPAY_CLIENT_ID and ALIPAY_GATEWAY_URL: account and region must fit, and a client id of"
    " the {world} is used",
)
_CONTRACT = (
    "the account may not call this",
    "ask the gateway's support to open inquiry and cancel for {a.client_id}, and for this address",
)
_TOKEN = ("the token of the agent is not valid", "get a new ALIPAY_AGENT_TOKEN")
_REFUSALS = {
    "INVALID_SIGNATURE": _SIGNATURE,
    "SIGNATURE_INVALID": _SIGNATURE,
    "KEY_NOT_FOUND": _VERSION,
    "INVALID_CLIENT": _CLIENT,
    "CLIENT_INVALID": _CLIENT,
    "UNKNOWN_CLIENT": _CLIENT,
    "INVALID_CLIENT_STATUS": _CONTRACT,
    "ACCESS_DENIED": _CONTRACT,
    "CLIENT_FORBIDDEN_ACCESS_API": _CONTRACT,
    "NO_INTERFACE_DEF": _CONTRACT,
    "INVALID_API": _CONTRACT,
    "EXPIRED_AGENT_TOKEN": _TOKEN,
    "INVALID_AGENT_TOKEN": _TOKEN,
    "INVALID_ACCESS_TOKEN": _TOKEN,
    "OAUTH_FAILED": _TOKEN,
}


# An answer that verifies


def _understood(answer: InquiryAnswer, account: Account) -> Check:
    """Signed by a key that we know: what is left is what it thinks of us."""
    both = "our key is known there, its answer verifies"
    match answer.call:
        case Call.NOT_EXIST:
            return ok(WHAT, f"{both} (a payment that nobody made: {answer.code})")
        case Call.MISCONFIGURED:
            return _refusal(answer.code, account) or failed(
                WHAT, f"it refuses us: {answer.code}", "ask the gateway's support what it means"
            )
        case Call.UNKNOWN:
            seen = f"{both}, but it is busy ({answer.code})"
            return warning(WHAT, seen, "try again later")
        case Call.OK:
            seen = f"{both}, but it says that a payment that nobody made is {answer.payment_status}"
            return failed(WHAT, seen, "see ALIPAY_GATEWAY_URL: this is no gateway to trust")
        case _:
            seen = f"{both}; to a payment that nobody made it says {answer.code}"
            fix = "nothing, if this is how your gateway says it; else ask its support"
            return warning(WHAT, seen, fix)


# Its clock


def _clock(said_at: Ms | None, whose: str) -> Check:
    if said_at is None:
        seen = "the gateway's response-time cannot be read: its answers prove nothing"
        return failed(CLOCK, seen, "ask the gateway's support")
    apart = round(abs(time.time() * 1000 - said_at) / SECOND)
    seen = f"our clock and {whose} differ by {apart} s"
    if apart * SECOND > STALE:
        fix = "set the clock of this machine by NTP: answers more than 300 s off are not believed"
        return failed(CLOCK, seen, fix)
    if apart * SECOND > MINUTE:
        return warning(CLOCK, seen, "set the clock of this machine by NTP")
    return ok(CLOCK, seen)


def _date(reply: Reply) -> list[Check]:
    """By the Date header, where no signed time can be believed."""
    try:
        at = parsedate_to_datetime(reply.headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return []
    return [_clock(round(at * 1000), "the gateway's (its Date header)")]
