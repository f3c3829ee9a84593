"""How much an outage writes to the log: real processes, 50,000 open payments, lines counted.

    python -m tests.outage refuse --payments 50000 --seconds 60
    python -m tests.outage error --past-closing --uncondensed

`refuse`, `hang`, `error` and `lie` are what the gateway does: nobody listens, nothing is answered,
503 at once, an answer that is not signed. `redis` stops Redis under the worker, `forged` sends the
receiver what is not the gateway's.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from redis.asyncio import Redis

from jobs.model import Money, Payment
from jobs.schedule import MINUTE, SECOND
from tests.keys import CLIENT_ID
from tests.servers import (
    Asked,
    OtherServer,
    Process,
    environ,
    notification,
    now_ms,
    own_server,
    paid,
    process,
    reconciler,
    scripted_gateway,
    send,
)
from worker import records
from worker.keys import Keys

PREFIX = "outage"
FORMS = ("refuse", "hang", "error", "lie", "redis", "forged")
NOBODY = "http://127.0.0.1:9"  #: the port of `discard`, where nobody listens
AT_ONCE = 500  #: payments written, or forged messages sent, side by side

#: The patience of a payment past its closing time, made short.
PAST_CLOSING = {
    "LAST_INQUIRY_GRACE_SECONDS": "1",
    "CANCEL_LIMIT_SECONDS": "5",
    "CANCEL_SCHEDULE": "1",
}
#: As in production, where it matters how often something happens; but Redis keeps nothing on disk,
#: so that nothing holds up the worker: it writes as much as it can.
AS_IN_PRODUCTION = {
    "DURABILITY": "memory",
    "REDIS_CHECKS": "warn",
    "GATEWAY_TIMEOUT_SECONDS": "10",
    "SWEEP_SECONDS": "10",
    "RECONCILER_SCHEDULE": "5,10,30",
}


@dataclass(slots=True)
class Heard:
    """The lines of one run: how many, when, and of what; `condensed` were counted, not written."""

    seconds: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    condensed: Counter[str] = field(default_factory=Counter)
    bytes: int = 0

    @property
    def most(self) -> int:
        """Lines in the second that had most of them."""
        return max(self.seconds.values(), default=0)

    def told(self, seconds: float) -> str:
        total = self.written.total()
        head = (
            f"{total} lines in {seconds:.0f} s: {total / seconds:.1f} a second, at most {self.most}"
        )
        rows = [f"{head}; {self.bytes / 1e6:.2f} MB"]
        for event in sorted(self.written | self.condensed):
            counted = self.condensed[event]
            also = f", and {counted} counted" if counted else ""
            rows.append(f"  {event:24} {self.written[event]:7} written{also}")
        return "\n".join(rows)


def heard(running: Process) -> Heard:
    found = Heard(bytes=running.stderr.stat().st_size)
    for line in running.lines:
        found.seconds[line["timestamp"][:19]] += 1
        found.written[line["event"]] += 1
        if line["event"] == "log.condensed":
            found.condensed[line["condensed"]] += line["count"]
    return found


async def fill(redis: Redis, payments: int, past_closing: bool) -> None:
    """So many open payments, all due by now, none of which has a job: the sweep wakes them.

    Past their closing time they have asked in vain until the next try is the last one.
    """
    keys, now = Keys(PREFIX), now_ms()
    closing_time = now + 10 * MINUTE
    tried: dict[str, Any] = {}
    if past_closing:
        closing_time = now - 5 * SECOND
        tried = {"tries": 3, "tried_for": 2 * SECOND, "tried_at": now - SECOND, "attempts": 3}
    for first in range(0, payments, AT_ONCE):
        async with redis.pipeline(transaction=False) as pipe:
            for n in range(first, min(first + AT_ONCE, payments)):
                payment = Payment(
                    client_id=CLIENT_ID,
                    payment_request_id=f"order-{n}",
                    amount=Money("USD", 599),
                    tracked_at=now - 5 * MINUTE,
                    closing_time=closing_time,
                    next_at=now,
                    version=now,
                    **tried,
                )
                fields: dict[Any, Any] = dict(records.to_hash(payment))
                pipe.hset(keys.payment(payment.key), mapping=fields)
                pipe.zadd(keys.open, {payment.key: now})
            await pipe.execute()


@contextlib.asynccontextmanager
async def gateway(form: str) -> AsyncIterator[str]:
    """The URL of a gateway that is out of order in this way."""
    if form not in ("hang", "error", "lie"):
        yield NOBODY
        return

    async def answer(_: Asked) -> web.StreamResponse:
        if form == "hang":
            await asyncio.sleep(3600)
        return web.Response(status=503 if form == "error" else 200)

    async with scripted_gateway() as scripted:
        scripted.answer = answer
        yield scripted.url


async def forge(port: int, until: float) -> int:
    """Messages that anybody could send, as many as there is time for; how many there were."""
    bodies = [notification(paid(f"order-{n}"), key="attacker") for n in range(AT_ONCE)]
    wires = [post.wire() for post in bodies]
    wires += [bodies[0].without("Signature").wire(), b"GET / HTTP/9.9.9\r\n\r\n"]
    sent = 0
    while time.monotonic() < until:
        batch = [send(port, wires[(sent + n) % len(wires)]) for n in range(50)]
        await asyncio.gather(*batch, return_exceptions=True)
        sent += len(batch)
    return sent


async def run(
    server: OtherServer, folder: Path, form: str, payments: int, seconds: float, **more: str
) -> Heard:
    """What one process of ours writes in an outage of this form."""
    redis = Redis.from_url(server.url)
    past_closing = "CANCEL_LIMIT_SECONDS" in more
    await fill(redis, payments, past_closing)
    await redis.aclose()
    part = "receiver" if form == "forged" else "worker"
    async with gateway(form) as url:
        given = environ(server.url, PREFIX, url, **AS_IN_PRODUCTION | more)
        with process(folder, given, *reconciler(part)) as running:
            started = await asyncio.to_thread(running.wait_for, f"{part}.started")
            if form == "forged":
                port = int(started["addresses"][0].split(",")[1].strip(" )"))
                print(f"{await forge(port, time.monotonic() + seconds)} messages sent")
            else:
                await asyncio.sleep(seconds / 4)
                if form == "redis":
                    await asyncio.to_thread(server.stop)
                await asyncio.sleep(3 * seconds / 4)
                if form == "redis":
                    await asyncio.to_thread(server.start)
                    await asyncio.to_thread(running.wait_for, "worker.redis_back")
            running.signal(signal.SIGTERM)
            await asyncio.to_thread(running.ended, 40)
            return heard(running)


@contextlib.contextmanager
def stage() -> Iterator[tuple[OtherServer, Path]]:
    with (
        own_server("--appendonly", "no") as server,
        tempfile.TemporaryDirectory(prefix="outage-") as folder,
    ):
        yield server, Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("--payments", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--past-closing", action="store_true")
    parser.add_argument("--uncondensed", action="store_true")
    args = parser.parse_args()
    more = PAST_CLOSING if args.past_closing else {}
    more = more | {"LOG_CONDENSED": "false" if args.uncondensed else "true"}
    with stage() as (server, folder):
        found = asyncio.run(run(server, folder, args.form, args.payments, args.seconds, **more))
    print(json.dumps(vars(args)))
    print(found.told(args.seconds))


if __name__ == "__main__":
    main()
