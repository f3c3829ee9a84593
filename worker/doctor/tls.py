"""Whether a name leads somewhere, and whether what answers there has a certificate that holds."""

import asyncio
import ipaddress
import socket
import ssl
from datetime import UTC, datetime, timedelta
from urllib.parse import SplitResult

from worker.doctor.check import Check, failed, ok, warning

STEP_SECONDS = 5.0  #: for a name, for a connection, for an answer
RENEW_WITHIN = timedelta(days=14)


def judge_expiry(what: str, until: datetime, whose: str) -> Check:
    """A certificate's last day."""
    left = until - datetime.now(UTC)
    if left <= timedelta(0):
        return failed(what, f"{whose} expired on {until:%Y-%m-%d}", "renew it")
    if left < RENEW_WITHIN:
        seen = f"{whose} expires on {until:%Y-%m-%d}, in {left.days} days"
        return warning(what, seen, "renew it, and see why that was not done by itself")
    return ok(what, f"{whose} is valid until {until:%Y-%m-%d}")


async def addresses(host: str, port: int) -> list[str]:
    """Where a name leads; OSError if nowhere."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(STEP_SECONDS):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(entry[4][0]) for entry in found})


def all_private(found: list[str]) -> bool:
    return all(ipaddress.ip_address(address.partition("%")[0]).is_private for address in found)


async def check_tls(what: str, url: SplitResult, setting: str) -> Check:
    """The certificate that stands before a URL."""
    host, port = url.hostname or "", url.port or 443
    context = ssl.create_default_context()
    try:
        async with asyncio.timeout(STEP_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as fault:
        return _bad_certificate(what, host, fault)
    except ssl.SSLError as fault:
        seen = f"{host}:{port} speaks no TLS that we know ({fault.reason})"
        return failed(what, seen, f"see that {setting} names a port with TLS 1.2 or later")
    except (OSError, TimeoutError) as fault:
        seen = f"{host}:{port} cannot be reached ({_short(fault)})"
        return failed(what, seen, f"see {setting}, and what firewalls and proxies let through")
    try:
        certificate = writer.get_extra_info("peercert")
        until = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
        return judge_expiry(what, until, f"the certificate of {host}")
    finally:
        writer.close()


def _bad_certificate(what: str, host: str, fault: ssl.SSLCertVerificationError) -> Check:
    why = fault.verify_message
    if "expired" in why:
        fix = "renew it"
    elif "self-signed" in why or "self signed" in why:
        fix = "use one that a public authority signed; the gateway believes no other"
    elif "mismatch" in why.lower() or "not valid for" in why:
        fix = f"get a certificate for {host}"
    else:
        fix = "serve the whole chain, with the intermediate certificates"
    return failed(what, f"the certificate of {host} does not hold: {why}", fix)


def _short(fault: BaseException) -> str:
    return "timeout" if isinstance(fault, TimeoutError) else str(getattr(fault, "strerror", fault))
