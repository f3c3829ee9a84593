"""What all tests share: a real Valkey, and logs that know their own names."""

import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.collected import COLLECTED
from tests.keys import CLIENT_ID, private_key, public_key
from worker import logs, secrecy
from worker.embedded import embedded_server
from worker.mock_gateway import MockConfig, RunningMock, start
from worker.values import LogFormat, LogLevel

#: A busy machine is no fault of ours: nothing fails for being slow.
PATIENT = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("patient", PATIENT)
#: For each Python but the first, which has looked at many.
hypothesis.settings.register_profile("fewer", PATIENT, max_examples=25)
hypothesis.settings.load_profile("patient")

GIVEN = os.environ.get("TEST_REDIS_URL", "")

#: Their tests reach every branch of the modules that the Makefile names in COVERED.
MEASURED = {
    "test_audit",
    "test_client",
    "test_commands",
    "test_currencies",
    "test_evidence",
    "test_follow",
    "test_gate",
    "test_gateway",
    "test_imports",
    "test_limits",
    "test_messages",
    "test_next_try",
    "test_outcome",
    "test_outcomes",
    "test_payment",
    "test_readings",
    "test_receiver",
    "test_records",
    "test_resolve",
    "test_schedule",
    "test_signature",
    "test_step",
    "test_story",
    "test_stuck",
    "test_submission",
    "test_submit",
    "test_sweep",
    "test_turn",
}

#: How a file says that all of its tests are.
ONCE = "\npytestmark = pytest.mark.once"

#: Their tests start processes, which each Python does in its own way.
PROCESSES = {
    "test_code_from_data",
    "test_http_server",
    "test_main",
    "test_stop",
    "test_times",
    "test_worker_process",
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file that `-m` leaves out whole is not read, as reading all takes long, measured longer."""
    chosen: str = config.getoption("markexpr")
    if collection_path.suffix != ".py" or not collection_path.stem.startswith("test_"):
        return None
    if chosen.startswith("measured"):
        return collection_path.stem not in MEASURED or None
    return (chosen.startswith("not once") and ONCE in collection_path.read_text("utf-8")) or None


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    session.stash[COLLECTED] = {item.nodeid.partition("[")[0] for item in items}
    for item in items:
        if item.path.stem in MEASURED:
            item.add_marker("measured")
        if item.path.stem in PROCESSES:
            item.add_marker("processes")


@pytest.fixture(autouse=True)
def _strict_logs() -> None:
    """Anew for each test: one before may have run a command, which has logs of its own."""
    logs.configure(LogFormat.JSON, LogLevel.DEBUG, condensed=False, strict=True)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Started in the background, a shell's child ignores Ctrl-C, and so would what we start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_secrets() -> Iterator[None]:
    """What one test has learned as a secret is none of the next one's."""
    known = dict(secrecy._heads)
    yield
    secrecy._heads.clear()
    secrecy._heads.update(known)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The server of this test process: one of its own, or the one that TEST_REDIS_URL names."""
    if GIVEN:
        yield GIVEN
    else:
        with embedded_server() as url:
            yield url


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test has."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
async def redis(redis_url: str, prefix: str) -> AsyncIterator[Redis]:
    """A client that gives text. A server of our own is empty; one of yours is left as it was."""
    client = Redis.from_url(redis_url, decode_responses=True)
    if not GIVEN:
        await client.flushdb()
    yield client
    async for key in client.scan_iter(match=f"*{prefix}*", count=1000):
        await client.delete(key)
    await client.aclose()


@pytest.fixture
def log_lines() -> Iterator[list[EventDict]]:
    """What is logged during the test; a line that is not on the list fails it."""
    with capture_logs(processors=[logs.check_line]) as lines:
        yield lines


Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def json_lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What stands on stderr, as production writes it."""
    logs.configure(LogFormat.AUTO, LogLevel.INFO, condensed=False)
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    logs.configure(LogFormat.JSON, LogLevel.DEBUG, condensed=False, strict=True)


@pytest.fixture
async def mock() -> AsyncIterator[RunningMock]:
    """A gateway where an order lives for a second."""
    config = MockConfig(
        client_id=CLIENT_ID,
        gateway_private_key=private_key("alipay_v1"),
        attacker_private_key=private_key("attacker"),
        merchant_public_keys={1: public_key("merchant_v1")},
        default_closing_seconds=1,
    )
    mock = await start(config)
    yield mock
    await mock.close()
