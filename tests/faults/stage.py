"""What the fault tests share: our processes, a server of their own, many senders at once."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis

from tests.keys import CLIENT_ID
from tests.proxy import Proxy, proxying, to_socket
from tests.servers import Process, Reply, environ, own_server, process, reconciler
from worker.embedded import EmbeddedServer
from worker.keys import Keys

KEYS = Keys()
NOBODY = "http://127.0.0.1:9"  #: a gateway that is not asked


@contextmanager
def receiver(folder: Path, redis_url: str, **more: str) -> Iterator[tuple[Process, int]]:
    """The receiver as users start it, and its port."""
    given = environ(redis_url, KEYS.prefix, NOBODY, **more)
    with process(folder, given, *reconciler("receiver")) as running:
        yield running, port_of(running)


def port_of(running: Process) -> int:
    started = running.wait_for("receiver.started")
    return int(started["addresses"][0].split(",")[1].strip(" )"))


@asynccontextmanager
async def proxied_server() -> AsyncIterator[tuple[EmbeddedServer, Proxy, str]]:
    """A server of our own, the line to it, and its URL at the end of that line."""
    with own_server() as server:
        async with proxying(to_socket(server.socket)) as proxy:
            yield server, proxy, f"redis://127.0.0.1:{proxy.port}/0"


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Redis]:
    redis = Redis.from_url(url, decode_responses=True)
    yield redis
    await redis.aclose()


async def acknowledged_are_kept(url: str, answers: Sequence[tuple[str, int | None]]) -> int:
    """How many were acknowledged; a failure if one of those is not in Redis."""
    acked = [name for name, status in answers if status == 200]
    async with reading(url) as redis:
        for name in acked:
            assert await redis.llen(KEYS.inbox(f"{CLIENT_ID}:{name}")), f"{name} is lost"  # type: ignore[misc]
    return len(acked)


async def status_of(port: int, request: bytes, seconds: float = 30) -> int | None:
    """The status that is answered; None if the connection ends without an answer."""
    with suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n"), seconds)
            return int(head.split()[1])
        except asyncio.IncompleteReadError:
            return None
        finally:
            writer.close()
    return None


async def at_once(port: int, requests: Sequence[bytes]) -> tuple[Counter[int | None], float]:
    """All sent in one moment: how many got which status, and the longest wait in seconds."""

    async def timed(request: bytes) -> tuple[int | None, float]:
        started = time.monotonic()
        return await status_of(port, request), time.monotonic() - started

    answers = await asyncio.gather(*map(timed, requests))
    return Counter(status for status, _ in answers), max(took for _, took in answers)


async def eventually(
    ask: Callable[[], Awaitable[Reply | None]], status: int, seconds: float = 20
) -> None:
    """Ask until the answer is this one."""
    end = time.monotonic() + seconds
    while True:
        reply = await ask()
        if reply and reply.status == status:
            return
        assert time.monotonic() < end, reply
        await asyncio.sleep(0.1)


def open_files(pid: int) -> int:
    """How many file descriptors a process has open (Linux)."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory_mib(pid: int) -> int:
    """The resident memory of a process (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024
