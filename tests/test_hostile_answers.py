"""The other direction: whatever comes back, we hear what was said and signed to us, or nothing.

The cases are data, in `tests/hostile/answers.py`.
"""

import asyncio
import gc
import socket
import ssl
import struct
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.typing import EventDict

from jobs.news import CancelAnswer, InquiryAnswer, Silence
from tests.hostile.answers import CANCEL, CASES, INQUIRY, WIRE, After, Case, signed
from tests.keys import key_text, private_key
from tests.servers import inquired, raw_gateway
from tests.test_gateway import ACCOUNT, NOW, PAYMENT
from worker.gateway import MAX_ANSWER_BYTES, HttpGateway, open_session

PATIENT, IMPATIENT = 8_000, 200


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(4) as session:
        yield session


def line(session: aiohttp.ClientSession, url: str, patience: int = PATIENT) -> HttpGateway:
    return HttpGateway(session, replace(ACCOUNT, gateway_url=url), patience)


async def ask(gateway: HttpGateway, endpoint: str) -> Any:
    return await (gateway.cancel if endpoint == CANCEL else gateway.inquire)(PAYMENT, NOW)


def talker(case: Case) -> Any:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(case.wire)
        with suppress(ConnectionError):
            if case.endless:
                await repeat(writer, case.endless)
            elif case.after is After.HOLD:
                await reader.read()
            elif case.after is After.RESET:
                await writer.drain()
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    return talk


async def repeat(writer: asyncio.StreamWriter, part: bytes) -> None:
    """The last bytes again, until the other side has had enough; not more than 200 MB."""
    for _ in range(200_000_000 // max(len(part), 1000)):
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)


def check(heard: Any, case: Case) -> None:
    if isinstance(case.expected, str):
        silent = Silence(asked_at=NOW, why=case.expected, to_cancel=case.endpoint == CANCEL)
        assert heard == silent
        return
    assert isinstance(heard, CancelAnswer if case.endpoint == CANCEL else InquiryAnswer)
    assert {name: getattr(heard, name) for name in case.expected} == case.expected
    assert heard.asked_at == NOW


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
async def test_it_is_heard_for_what_it_is_and_in_time(
    session: aiohttp.ClientSession, case: Case, log_lines: list[EventDict]
) -> None:
    started = time.monotonic()
    async with raw_gateway(talker(case)) as url:
        heard = await ask(line(session, url, IMPATIENT if case.slow else PATIENT), case.endpoint)
        await session.close()
    check(heard, case)
    assert time.monotonic() - started < 7
    assert log_lines == []


def test_there_are_at_least_80_cases_each_with_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 80


@pytest.mark.once
async def test_what_does_not_end_takes_no_memory() -> None:
    """Nor does what unpacks to more than it was, or is nested beyond all measure."""
    endless = [case for case in CASES if case.endless or "bomb" in case.name]
    deep = [case for case in CASES if "brackets" in case.name]
    for case in [*endless, *deep]:
        gc.collect()
        tracemalloc.start()
        async with raw_gateway(talker(case)) as url, open_session(4) as session:
            gateway = line(session, url, IMPATIENT if case.slow else PATIENT)
            check(await ask(gateway, case.endpoint), case)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 * MAX_ANSWER_BYTES, (case.name, peak)


# Connections that are used again


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(
    session: aiohttp.ClientSession,
) -> None:
    """Two answers to one question, and the second one is what would be believed next."""
    forged = signed(inquired("order-1", "FAIL")).wire()
    true = signed(inquired("order-1", "PROCESSING")).wire()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"}")
                writer.write(true + forged)
                await writer.drain()

    async with raw_gateway(talk) as url:
        for _ in range(3):
            heard = await line(session, url).inquire(PAYMENT, NOW)
            assert isinstance(heard, InquiryAnswer)
            assert heard.payment_status == "PROCESSING"
        await session.close()


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
    session: aiohttp.ClientSession,
) -> None:
    served = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"}")
                served += 1
                if served == 1:
                    await asyncio.sleep(0.4)
                status = "FAIL" if served == 1 else "PROCESSING"
                writer.write(signed(inquired("order-1", status)).wire())
                await writer.drain()

    async with raw_gateway(talk) as url:
        heard = await line(session, url, IMPATIENT).inquire(PAYMENT, NOW)
        assert heard == Silence(asked_at=NOW, why="timeout")
        again = await line(session, url).inquire(PAYMENT, NOW)
        assert isinstance(again, InquiryAnswer)
        assert again.payment_status == "PROCESSING"
        await session.close()


@pytest.mark.parametrize("endpoint", [INQUIRY, CANCEL])
async def test_a_connection_that_was_kept_and_is_gone_is_silence_and_then_made_anew(
    session: aiohttp.ClientSession, endpoint: str
) -> None:
    """It is not asked again by itself: whether the first request was heeded, nobody knows."""
    asked = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        with suppress(asyncio.IncompleteReadError):
            for _ in range(2):
                await reader.readuntil(b"}")
                asked += 1
                if asked != 2:
                    writer.write(WIRE)

    async with raw_gateway(talk) as url:
        first, second, third = [await ask(line(session, url), endpoint) for _ in range(3)]
        await session.close()
    assert second == Silence(asked_at=NOW, why="connection_lost", to_cancel=endpoint == CANCEL)
    assert type(first) is type(third)
    assert asked == 3


# TLS


def self_made(folder: Path, *, host: str, days: int) -> ssl.SSLContext:
    """A certificate for `host` that ends in so many days, and a context that serves it."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    key, today = private_key("attacker"), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=10))
        .not_valid_after(today + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "pem"
    base64 = key_text("attacker", "private_pkcs8_b64")
    text = f"-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n"
    pem.write_bytes(certificate.public_bytes(Encoding.PEM) + text.encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.mark.parametrize(
    ("host", "days", "trusted"),
    [("localhost", 5, False), ("localhost", -1, True), ("elsewhere.example", 5, True)],
    ids=["by nobody", "out of date", "for another host"],
)
async def test_a_certificate_that_proves_nothing_is_told_nothing(
    tmp_path: Path, host: str, days: int, trusted: bool
) -> None:
    context = self_made(tmp_path, host=host, days=days)
    trust = ssl.create_default_context(cafile=str(tmp_path / "pem") if trusted else None)
    heard = await ask_over_tls(trust, context, b"")
    assert heard == Silence(asked_at=NOW, why="not_connected", left=False)


async def test_a_good_certificate_is_asked(tmp_path: Path) -> None:
    context = self_made(tmp_path, host="localhost", days=5)
    trust = ssl.create_default_context(cafile=str(tmp_path / "pem"))
    assert isinstance(await ask_over_tls(trust, context, WIRE), InquiryAnswer)


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"", None]
)
async def test_who_speaks_no_tls_is_told_nothing(tmp_path: Path, said: bytes | None) -> None:
    """`None`: a peer that never answers the handshake."""
    self_made(tmp_path, host="localhost", days=5)
    trust = ssl.create_default_context(cafile=str(tmp_path / "pem"))
    heard = await ask_over_tls(trust, None, said)
    assert heard == Silence(asked_at=NOW, why="not_connected", left=False)


async def ask_over_tls(
    trust: ssl.SSLContext, context: ssl.SSLContext | None, said: bytes | None
) -> Any:
    """What is heard of a server that says this; it fails if it is asked over no good TLS."""
    tasks = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        first = await (reader.readuntil(b"}") if context else reader.read(1))
        assert first in (b"", b"\x16") or first.startswith(b"POST /ams/sandbox/")
        if said is None:
            await reader.read()
        writer.write(said or b"")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    connector = aiohttp.TCPConnector(ssl=trust, family=socket.AF_INET)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        heard = await line(session, url, 600 if said is None else PATIENT).inquire(PAYMENT, NOW)
    server.close()
    await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
    return heard
