"""A merchant beside the reconciler, in asyncio, with the reconciler's own package for Python.

python merchant.py track order-4711 USD 599    have a payment of USD 5.99 followed
python merchant.py outcomes [shop-1]           hear how payments end, for ever

Without that package: plain.py, which needs `redis` alone.
"""

import asyncio
import os
import re
import sys
from typing import NoReturn

from redis.asyncio import Redis

from worker import client, outcomes


async def track(redis: Redis, payment_request_id: str, currency: str, value: str) -> None:
    """Write before or right after you call pay; to write it twice is safe."""
    print(await client.track(redis, payment_request_id, currency, int(value), expires_in=600))


async def listen(redis: Redis, me: str = "shop-1") -> None:
    """Each outcome is acknowledged when the next one is asked for. After a restart under the same
    name, what was not acknowledged comes first; ids and seqs that were handled are left out.

    They are remembered in Redis. Give `memory=` one of your own, written in the transaction that
    changes the order, to rule out that a crash between the two has an outcome handled twice.
    """
    async for outcome in outcomes.outcomes(redis, "shop", me):
        handle(outcome)


def handle(outcome: outcomes.Outcome) -> None:
    said = outcome.data
    match outcome.type:
        case "payment.succeeded":
            what = "deliver"
        case "payment.failed" | "payment.cancelled":
            what = "do not deliver"
        case "payment.cancelling":
            what = "do not deliver, the final word follows"
        case "payment.submitted":
            what = f"send the buyer to {said['redirectUrl']}"
        case "payment.unresolved":
            what = f"a person must look: {said['reason']}"
        case "payment.attention":
            what = f"a person must look: {said['kind']}"
        case "command.rejected":
            what = f"mend the program: {said['reason']}, {said['message']}"
        case _:
            what = "nothing to do"
    print(f"{outcome.type} {outcome.payment_request_id}: {what}", flush=True)


def stop(why: str | None) -> NoReturn:
    print(why, file=sys.stderr)
    sys.exit(2)


async def main(words: list[str]) -> None:
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
    if not re.fullmatch(r"rediss?://[^/?#]+(/[0-9]*)?(\?[^#]*)?", url):  # redis would ignore it
        stop("REDIS_URL: write redis://user:password@host:6379/0, or rediss:// for TLS")
    async with Redis.from_url(url, decode_responses=True) as redis:
        match words:
            case ["track", payment_request_id, currency, value] if value.isdecimal():
                await track(redis, payment_request_id, currency, value)
            case ["outcomes"]:
                await listen(redis)
            case ["outcomes", me]:
                await listen(redis, me)
            case _:
                stop(__doc__)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
