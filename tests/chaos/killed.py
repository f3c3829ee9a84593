"""How long after a worker is killed in mid-inquiry another asks again, with default settings.

`python -m tests.chaos.killed 8` measures it eight times at once, each kill at another moment.
"""

import asyncio
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tests.servers import (
    Asked,
    ScriptedGateway,
    environ,
    own_server,
    process,
    reconciler,
    scripted_gateway,
    until,
)
from worker.client import track

#: As a deployment has them.
DEFAULTS = {"SWEEP_SECONDS": "10", "GATEWAY_TIMEOUT_SECONDS": "10", "RECONCILER_SCHEDULE": "2,3,3"}
START_SECONDS = 60  #: on a busy machine


async def seconds_until_asked_again(
    redis_url: str, prefix: str, folder: Path, *, wait: float = 0, sweep: str = "10"
) -> float:
    """From the kill of one worker to the other one's inquiry.

    `wait` is when, after the start of both, the payment is tracked: at which point of a sweep.
    """
    async with scripted_gateway() as one, scripted_gateway() as other:
        with ExitStack() as stack:
            workers = {}
            for gateway in (one, other):
                gateway.answer = _silence
                given = environ(
                    redis_url, prefix, gateway.url, **DEFAULTS | {"SWEEP_SECONDS": sweep}
                )
                workers[gateway.url] = stack.enter_context(
                    process(folder, given, *reconciler("worker"))
                )
            for worker in workers.values():
                await asyncio.to_thread(worker.wait_for, "worker.started", START_SECONDS)
            await asyncio.sleep(wait)
            redis = Redis.from_url(redis_url)
            await track(redis, "order-1", "USD", 599, expires_in=600, prefix=prefix)
            await redis.aclose()
            asked: ScriptedGateway = await until(lambda: _asked(one, other), START_SECONDS)
            workers[asked.url].signal(signal.SIGKILL)
            killed = time.monotonic()
            await until(
                lambda: _asked(*[each for each in (one, other) if each is not asked]), START_SECONDS
            )
            return time.monotonic() - killed


async def _silence(_: Asked) -> Any:
    await asyncio.sleep(60)


async def _asked(*gateways: ScriptedGateway) -> ScriptedGateway | None:
    return next((gateway for gateway in gateways if gateway.asked), None)


async def _measure(times: int, sweep: str) -> list[float]:
    with own_server() as server, tempfile.TemporaryDirectory() as folder:
        measured = [
            seconds_until_asked_again(
                server.url, f"killed-{n}", Path(folder), wait=10 * n / times, sweep=sweep
            )
            for n in range(times)
        ]
        return sorted(await asyncio.gather(*measured))


if __name__ == "__main__":
    took = asyncio.run(_measure(int(sys.argv[1]), *sys.argv[2:] or ["10"]))
    print(" ".join(f"{seconds:.1f}" for seconds in took), "s")
    raise SystemExit(took[-1] >= 25)
