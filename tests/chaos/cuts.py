"""A connection that is dropped at any command: one life of a payment for each of them.

`python -m tests.chaos.cuts` goes through all of them; the tests take a sample.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from redis.asyncio import Redis

from jobs.model import Money
from jobs.outcome import rfc3339
from tests.chaos.proxy import Connection, Wire
from tests.keys import CLIENT_ID, private_key, public_key
from tests.servers import environ, now_ms, own_server
from worker.client import track
from worker.keys import Keys
from worker.main import run_worker
from worker.mock_gateway import MockConfig, RunningMock, start
from worker.settings import Need, load

REQUESTS = 90  #: of a worker from its start to the end of a payment that lives for LIFE
LIFE = 600  #: ms that the buyer has to pay
PATIENCE_SECONDS = 60  #: a lost claim is taken up again when its lease has run out
AT_ONCE = 30
WANTED = ("cancelling.1", "cancelled")


@dataclass(slots=True)
class Life:
    """One payment that nobody pays, one worker, and the request at which it is cut off."""

    cut_at: int
    passed_on: bool  #: the request is carried out, its answer is lost
    command: str = "none"  #: that was cut
    told: list[str] = field(default_factory=list)
    worker_ended: bool = False
    seconds: float = 0
    _requests: int = 0

    @property
    def right(self) -> bool:
        return tuple(self.told) == WANTED and not self.worker_ended

    def on_request(self, data: bytes, connection: Connection) -> bool:
        self._requests += 1
        if self._requests != self.cut_at:
            return True
        self.command = " ".join(_words(data))
        connection.reply_lost = self.passed_on
        return self.passed_on

    async def live(self, redis: Redis, socket: str, mock: RunningMock) -> None:
        """From the tracking to the end that the merchant is told."""
        prefix = f"cut-{self.cut_at}-{'after' if self.passed_on else 'before'}"
        wire = Wire(socket, on_request=self.on_request)
        await wire.start()
        given = environ(f"redis://127.0.0.1:{wire.port}", prefix, mock.url)
        stopping, name, begun = asyncio.Event(), f"never_paid-{prefix}", now_ms()
        mock.ledger.create(name, Money("USD", 599), begun)
        await track(redis, name, "USD", 599, expiry_time=rfc3339(begun + LIFE), prefix=prefix)
        worker = asyncio.ensure_future(run_worker(load(given, need=Need.GATEWAY), stopping))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while WANTED[-1] not in self.told and not worker.done():
                    await asyncio.sleep(0.1)
                    self.told = await _told(redis, prefix)
        self.seconds = (now_ms() - begun) / 1000
        self.worker_ended = worker.done()
        stopping.set()
        await asyncio.wait({worker}, timeout=20)
        await wire.close()


async def _told(redis: Redis, prefix: str) -> list[str]:
    """What the merchant was told, each once."""
    found = await redis.xrange(Keys(prefix).outcomes)
    return list(dict.fromkeys(fields["id"].rpartition(":")[2] for _, fields in found))


def _words(data: bytes) -> list[str]:
    """The first word of each command in a request."""
    lines = data.split(b"\r\n")
    starts = [i for i, line in enumerate(lines) if line.startswith(b"*") and line[1:].isdigit()]
    return [lines[i + 2].decode(errors="replace") for i in starts if i + 2 < len(lines)]


@contextlib.asynccontextmanager
async def _shared() -> AsyncIterator[tuple[Redis, str, RunningMock]]:
    config = MockConfig(
        client_id=CLIENT_ID,
        gateway_private_key=private_key("alipay_v1"),
        merchant_public_keys={1: public_key("merchant_v1")},
        default_closing_seconds=LIFE / 1000,
    )
    mock = await start(config)
    with own_server() as server:
        redis = Redis.from_url(server.url, decode_responses=True)
        yield redis, str(server.socket), mock
        await redis.aclose()
    await mock.close()


async def lives(cuts: Iterable[int]) -> list[Life]:
    """A life for each request that is cut, before it is passed on and after."""
    made = [Life(n, passed_on) for n in cuts for passed_on in (False, True)]
    gate = asyncio.Semaphore(AT_ONCE)
    async with _shared() as (redis, socket, mock):

        async def one(life: Life) -> None:
            async with gate:
                await life.live(redis, socket, mock)

        await asyncio.gather(*map(one, made))
    return made


def main() -> int:
    logging.disable()
    found = asyncio.run(lives(range(1, REQUESTS + 1)))
    print(f"cut: {dict(Counter(life.command for life in found))}")
    print(f"slowest: {max(life.seconds for life in found):.1f} s")
    wrong = [life for life in found if not life.right]
    for life in wrong:
        print(f"WRONG: {life}")
    print(f"{len(found) - len(wrong)} of {len(found)} payments ended rightly")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
