"""Failovers of a real Redis under load: `python -m tests.failover --rounds 20`.

A receiver and a worker, as processes, on a primary with a replica and three sentinels. In each
round the primary is killed or frozen amid a stream of signed notifications, while payments are
followed; then every notification that was acknowledged must be on the new primary, and in the end
every payment must have ended as the mock gateway's ledger says, and the merchant told of one end.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp
import redis as plain_redis
from redis.asyncio import Redis

from jobs.model import FINAL, Money
from tests.keys import CLIENT_ID, private_key, public_key
from tests.sentinels import Cluster, Node, cluster
from tests.servers import Post, Process, environ, notification, now_ms, paid, process, reconciler
from worker import connect
from worker.client import track
from worker.keys import Keys
from worker.messages import ACK
from worker.mock_gateway import MockConfig, RunningMock, start
from worker.mock_gateway.ledger import agrees

KEYS = Keys("failover")
RATE = 250  #: notifications a second
LIFE_SECONDS = 3  #: of an order: many close while there is no primary
SCENARIOS = (
    "paid",
    "paid_notification_lost",
    "failed",
    "never_paid",
    "closed_by_gateway",
    "notification_twice",
    "cancel_unknown",
    "paid_during_cancel",
)
SETTINGS = {
    "RECONCILER_SCHEDULE": "0.4,0.8",
    "CANCEL_SCHEDULE": "0.5,1",
    "CANCEL_QUIET_SECONDS": "1",
    "LAST_INQUIRY_GRACE_SECONDS": "15",
    "NOT_FOUND_SETTLE_SECONDS": "3",
    "AFTERCARE_SCHEDULE": "1,3",
}


@dataclass
class Figures:
    """What happened, and what must be zero."""

    rounds: int = 0
    sent: int = 0
    acked: int = 0
    refused: int = 0  #: answered 503: the gateway would send it again
    unanswered: int = 0
    payments: int = 0
    lost: int = 0  #: acknowledged, and not on the primary after a failover
    wrong: list[str] = field(default_factory=list)  #: payments not ended, or not as the ledger says
    doubled: list[str] = field(default_factory=list)  #: payments with two ends
    took: list[float] = field(default_factory=list)  #: seconds to a new primary
    slowest: float = 0.0  #: seconds to an answer of the receiver
    worker_rounds: int = 0  #: how often the worker began afresh, without ending

    @property
    def right(self) -> bool:
        return not self.lost and not self.wrong and not self.doubled


#: The primary dies while its replica is cut off; freezes, to come back as one; dies.
HOW = ("behind", "frozen", "killed")


def cut_off(replica: Node) -> None:
    """Let a replica hear no more of its primary; for a while the sentinels leave it at that."""
    replica.ask("REPLICAOF", "127.0.0.1", 1)


class Stream:
    """The gateway's notifications, sent to a receiver; what became of each."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session
        self.acked: set[str] = set()
        self.answers: Counter[int | None] = Counter()
        self.slowest = 0.0

    async def run(self, posts: dict[str, Post], rate: float = RATE) -> None:
        """Send them at this rate, whatever the receiver does; ends when every answer is there."""
        begun, sending = time.monotonic(), list[asyncio.Task[None]]()
        for number, (name, post) in enumerate(posts.items()):
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
            sending.append(asyncio.create_task(self.send(name, post)))
        await asyncio.gather(*sending)

    async def send(self, name: str, post: Post) -> None:
        headers, begun = dict(post.headers), time.monotonic()
        try:
            async with self._session.post(self._url, data=post.body, headers=headers) as reply:
                status, body = reply.status, await reply.read()
        except (aiohttp.ClientError, TimeoutError):
            self.answers[None] += 1
            return
        self.answers[status] += 1
        self.slowest = max(self.slowest, round(time.monotonic() - begun, 1))
        if status == 200:
            assert body == ACK
            self.acked.add(name)


@asynccontextmanager
async def streaming(port: int) -> AsyncIterator[Stream]:
    timeout = aiohttp.ClientTimeout(total=20)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Stream(f"http://127.0.0.1:{port}/notify", session)


def posts(prefix: str, count: int) -> dict[str, Post]:
    names = [f"{prefix}-{number}" for number in range(count)]
    return {name: notification(paid(name)) for name in names}


def missing(client: plain_redis.Redis, names: set[str], keys: Keys = KEYS) -> set[str]:
    """Those of which nothing is kept."""
    asked = sorted(names)
    pipe = client.pipeline(transaction=False)
    for name in asked:
        pipe.exists(keys.inbox(f"{CLIENT_ID}:{name}"))
    return {name for name, kept in zip(asked, pipe.execute(), strict=True) if not kept}


# The merchant


class Merchant:
    """Has payments followed; a command counts only when a replica has it too."""

    def __init__(self, redis: Redis, mock: RunningMock, notify_url: str) -> None:
        self._redis, self._mock, self._notify_url = redis, mock, notify_url
        self.bought: list[str] = []

    async def buy(self, name: str) -> None:
        life = LIFE_SECONDS * 1000
        amount = Money("USD", 599)
        self._mock.ledger.create(name, amount, now_ms(), life=life, notify_url=self._notify_url)
        self.bought.append(name)
        while not await self._tracked(name):
            await asyncio.sleep(0.2)

    async def _tracked(self, name: str) -> bool:
        """Track it: in one pipeline, as `WAIT` speaks of what its own connection has written."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                await track(pipe, name, "USD", 599, expires_in=LIFE_SECONDS, prefix=KEYS.prefix)
                pipe.wait(1, 1000)
                return int((await pipe.execute())[-1]) >= 1
        except (plain_redis.RedisError, OSError):
            return False

    async def check(self, figures: Figures, seconds: float) -> None:
        """Wait for all ends, and compare them with the gateway's ledger."""
        end = time.monotonic() + seconds
        while (wrong := await self._wrong()) and time.monotonic() < end:
            await asyncio.sleep(0.5)
        told = await self._told()
        figures.payments = len(self.bought)
        figures.wrong = wrong
        figures.doubled = [n for n, ends in told.items() if len(set(ends) & set(FINAL)) > 1]

    async def _wrong(self) -> list[str]:
        truths = {t.payment_request_id: t for t in self._mock.ledger.truths(now_ms())}
        told, wrong = await self._told(), []
        for name, status in zip(self.bought, await self._statuses(), strict=True):
            ended = status in told.get(name, []) or status == "unresolved"
            if not (ended and truths[name].settled and agrees(status, truths[name])):
                wrong.append(f"{name} is {status or 'unknown'}")
        return wrong

    async def _statuses(self) -> list[str]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in self.bought:
                pipe.hget(KEYS.payment(f"{CLIENT_ID}:{name}"), "status")
            return [(status or b"").decode() for status in await pipe.execute()]

    async def _told(self) -> dict[str, list[str]]:
        told: dict[str, list[str]] = {}
        for _, fields in await self._redis.xrange(KEYS.outcomes):
            _, name, what = fields[b"id"].decode().split(":", 2)
            told.setdefault(name, []).append(what)
        return told


# The campaign


@dataclass
class Campaign:
    servers: Cluster
    stream: Stream
    merchant: Merchant
    figures: Figures

    async def round(self, number: int, payments: int, notifications: int) -> None:
        """One failover amid the traffic, and a look at what is left."""
        traffic = await asyncio.to_thread(posts, f"n{number}", notifications)
        names = [f"{SCENARIOS[i % len(SCENARIOS)]}-r{number}-{i}" for i in range(payments)]
        sending = asyncio.create_task(self.stream.run(traffic))
        buying = [asyncio.create_task(self._buy_later(i * 0.1, n)) for i, n in enumerate(names)]
        await asyncio.sleep(1)
        old = await asyncio.to_thread(lambda: self.servers.primary)
        await self._fail_over(old, HOW[number % len(HOW)])
        await asyncio.gather(sending, *buying)
        lost = await asyncio.to_thread(self._lost)
        self.figures.rounds += 1
        self.figures.lost = len(lost)

    async def _buy_later(self, delay: float, name: str) -> None:
        await asyncio.sleep(delay)
        await self.merchant.buy(name)

    async def _fail_over(self, old: Node, how: str) -> None:
        if how == "behind":
            await asyncio.to_thread(cut_off, self.servers.replicas[0])
            await asyncio.sleep(0.5)
        begun, frozen = time.monotonic(), how == "frozen"
        old.freeze() if frozen else old.kill()
        await asyncio.to_thread(self.servers.wait_for_another, old)
        self.figures.took.append(round(time.monotonic() - begun, 1))
        if frozen:  # it is back, and takes itself for the primary until it is told
            old.thaw()
            await asyncio.sleep(1)
        await asyncio.to_thread(self.servers.repair)

    def _lost(self) -> set[str]:
        with self.servers.primary.own as client:
            return missing(client, self.stream.acked)

    async def close(self) -> Figures:
        await self.merchant.check(self.figures, LIFE_SECONDS + 30)
        answers = self.stream.answers
        self.figures.sent = sum(answers.values())
        self.figures.acked, self.figures.refused = answers[200], answers[503]
        self.figures.unanswered, self.figures.slowest = answers[None], self.stream.slowest
        strange = set(answers) - {200, 503, None}
        assert not strange, f"the receiver answered {strange}"
        self.figures.lost = len(await asyncio.to_thread(self._lost))
        return self.figures


@contextmanager
def _processes(
    folder: Path, servers: Cluster, mock: RunningMock, durability: str
) -> Iterator[list[Process]]:
    given = environ(servers.url, KEYS.prefix, mock.url, **SETTINGS, DURABILITY=durability)
    with ExitStack() as stack:
        yield [
            stack.enter_context(process(folder, given, *reconciler(name)))
            for name in ("receiver", "worker")
        ]


async def campaign(
    rounds: int,
    payments: int = 16,
    notifications: int = 1000,
    durability: str = "replica:1",
    say: Callable[[int, Campaign], None] | None = None,
) -> Figures:
    """Run it all; the processes must survive, and end well when they are told to."""
    config = MockConfig(
        client_id=CLIENT_ID,
        gateway_private_key=private_key("alipay_v1"),
        merchant_public_keys={1: public_key("merchant_v1")},
        time_scale=0.05,
    )
    mock = await start(config)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="failover-")))
            servers = stack.enter_context(cluster(nodes=2, sentinels=3))
            receiver, worker = stack.enter_context(_processes(folder, servers, mock, durability))
            started = await asyncio.to_thread(receiver.wait_for, "receiver.started")
            await asyncio.to_thread(worker.wait_for, "worker.started")
            port = int(started["addresses"][0].rpartition(",")[2].strip(" )"))
            redis = connect.client(servers.url, tries=1)
            merchant = Merchant(redis, mock, f"http://127.0.0.1:{port}/notify")
            async with streaming(port) as stream:
                run = Campaign(servers, stream, merchant, Figures())
                for number in range(rounds):
                    await run.round(number, payments, notifications)
                    if say:
                        say(number, run)
                figures = await run.close()
            await redis.aclose()
            await asyncio.to_thread(_end_well, receiver, worker)
            figures.worker_rounds = len(worker.find("worker.started"))
            return figures
    finally:
        await mock.close()


def _end_well(*running: Process) -> None:
    for each in running:
        assert each.running, each.said[-2000:]
        each.signal(signal.SIGTERM)
    for each in running:
        assert each.ended() == 0, each.said[-2000:]
        bugs = [line for line in each.lines if line["event"] in ("job.failed", "worker.failed")]
        assert not bugs, bugs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--durability", default="replica:1", help="memory shows what is lost else")

    def say(number: int, run: Campaign) -> None:
        seen, answers = run.figures, run.stream.answers
        print(
            f"round {number + 1}: new primary after {seen.took[-1]} s;"
            f" so far {answers[200]} acked, {answers[503]} refused, {answers[None]} unanswered,"
            f" {seen.lost} lost",
            flush=True,
        )

    given = parser.parse_args()
    figures = asyncio.run(campaign(given.rounds, durability=given.durability, say=say))
    for name, value in asdict(figures).items():
        print(f"{name}: {value}")
    return 0 if figures.right else 1


if __name__ == "__main__":
    sys.exit(main())
