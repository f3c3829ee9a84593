"""The line to the gateway breaks, its name is not found, its certificate is no good."""

import asyncio
import ipaddress
import random
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from jobs.model import Money
from jobs.news import Silence
from tests.faults.stage import KEYS, reading
from tests.keys import CLIENT_ID, key_text, private_key
from tests.proxy import Proxy, proxying, to_socket, to_url
from tests.servers import (
    environ,
    now_ms,
    own_server,
    process,
    reconciler,
    scripted_gateway,
    until,
)
from tests.test_gateway import NOW, PAYMENT, line
from worker.client import track
from worker.gateway import open_session
from worker.mock_gateway import RunningMock
from worker.receiving import tls_context

pytestmark = pytest.mark.once  # what is under test is not Python

# 50, 8: requests are lost on their way, executed or not, and answers too


BOUGHT = ("paid-1", "paid-2", "failed-1", "closed_by_gateway-1", "never_paid-1", "never_paid-2")
ENDS = {
    "paid-1:succeeded",
    "paid-2:succeeded",
    "failed-1:failed",
    "closed_by_gateway-1:cancelled",
    "never_paid-1:cancelled",
    "never_paid-2:cancelled",
}


async def breaking(gateway: Proxy, redis: Proxy, dice: random.Random) -> None:
    """Break both lines again and again, in mid-word as well."""
    for _ in range(40):
        await asyncio.sleep(dice.uniform(0.02, 0.2))
        gateway.cut_after = dice.choice([None, 0, 0, 200, 700])
        dice.choice([gateway, redis]).reset()
    gateway.cut_after = None


async def test_payments_end_as_the_gateway_says_on_lines_that_break_again_and_again(
    mock: RunningMock, tmp_path: Path
) -> None:
    with own_server() as server:
        async with (
            proxying(to_url(mock.url)) as gateway,
            proxying(to_socket(server.socket)) as line,
        ):
            given = environ(
                f"redis://127.0.0.1:{line.port}/0",
                KEYS.prefix,
                f"http://127.0.0.1:{gateway.port}",
                CANCEL_QUIET_SECONDS="1",
                CANCEL_SCHEDULE="0.3",
                AFTERCARE_SCHEDULE="600",
            )
            with process(tmp_path, given, *reconciler("worker")) as worker:
                async with reading(server.url) as redis:
                    for name in BOUGHT:
                        mock.ledger.create(name, Money("USD", 599), now_ms())
                        await track(redis, name, "USD", 599, expires_in=1)
                    gateway.cut_after = 0
                    await asyncio.to_thread(worker.wait_for, "inquiry.unanswered")
                    await breaking(gateway, line, random.Random(4711))

                    async def ended() -> bool:
                        ids = [f["id"] for _, f in await redis.xrange(KEYS.outcomes)]
                        finals = [id_ for id_ in ids if id_.endswith(_FINAL)]
                        assert len(ids) == len(set(ids)), "an event was published twice"
                        return set(finals) == {f"{CLIENT_ID}:{end}" for end in ENDS}

                    await until(ended, 40)
                assert worker.running


_FINAL = (":succeeded", ":failed", ":cancelled")

# 51: nobody knows whom we would be talking to


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(2) as session:
        yield session


async def test_a_name_that_is_not_found_is_a_question_that_never_left(
    session: aiohttp.ClientSession,
) -> None:
    heard = await line(session, "https://gateway.invalid").inquire(PAYMENT, NOW)
    assert heard == Silence(asked_at=NOW, why="not_connected", left=False)


def certificate(folder: Path, host: str, days: tuple[int, int]) -> tuple[Path, Path]:
    """A certificate for an address, valid between these days from now, and its key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "for tests only")])
    key, today = private_key("attacker"), datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(today + timedelta(days[0]))
        .not_valid_after(today + timedelta(days[1]))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(Encoding.PEM))
    base64 = key_text("attacker", "private_pkcs8_b64")
    key_file.write_text(f"-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n")
    return cert_file, key_file


GOOD = ("127.0.0.1", (-1, 1))


@pytest.mark.parametrize(
    ("host", "days", "told"),
    [
        pytest.param(*GOOD, True, id="good"),  # or the others would prove nothing
        pytest.param("127.0.0.1", (-2, -1), False, id="expired"),
        pytest.param("127.0.0.1", (1, 2), False, id="not valid yet"),
        pytest.param("127.0.0.2", (-1, 1), False, id="of another host"),
    ],
)
async def test_a_gateway_that_proves_nothing_is_told_nothing(
    tmp_path: Path, host: str, days: tuple[int, int], told: bool
) -> None:
    """The issuer is trusted in all of them: self-signed ones of strangers are in test_gateway."""
    cert, key = certificate(tmp_path, host, days)
    issuer = ssl.create_default_context(cafile=str(cert))
    async with scripted_gateway(tls_context(cert, key)) as gateway:
        gateway.answer = nothing
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=issuer)) as session:
            heard = await line(session, gateway.url).inquire(PAYMENT, NOW)
    assert isinstance(heard, Silence)
    assert heard.why == ("http_503" if told else "not_connected")
    assert bool(gateway.asked) is told


async def nothing(_: object) -> aiohttp.web.Response:
    return aiohttp.web.Response(status=503)


async def test_there_is_no_way_back_to_plain_text(session: aiohttp.ClientSession) -> None:
    """A gateway named by https whose port speaks plain HTTP gets no question of ours."""
    async with scripted_gateway() as gateway:
        plain = gateway.url.replace("http://", "https://")
        heard = await line(session, plain).inquire(PAYMENT, NOW)
        assert gateway.asked == []
    assert heard == Silence(asked_at=NOW, why="not_connected", left=False)
