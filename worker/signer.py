"""Signs on other cores: a signature takes as long as everything else that an inquiry needs.

Nothing else is done there. To verify is so quick that handing it over would cost more.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from worker.signature import sign

#: As many as a thread signs before it says so: each of its messages interrupts the others' work.
CHUNK = 16
MOST_THREADS = 2  #: two sign faster than one loop can ask

Sign: TypeAlias = Callable[[RSAPrivateKey, bytes], Awaitable[bytes]]


async def sign_here(key: RSAPrivateKey, content: bytes) -> bytes:
    return sign(key, content)


def threads_for(cores: int) -> int:
    """One core is for the loop: where there is no other, threads would only get in its way."""
    return max(0, min(MOST_THREADS, cores - 1))


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Signer:
    """Threads that sign, where there is a core for them. What is to be signed in one moment is
    handed over together."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "sign") if threads else None
        self._waiting: list[tuple[RSAPrivateKey, bytes, asyncio.Future[bytes]]] = []

    async def sign(self, key: RSAPrivateKey, content: bytes) -> bytes:
        if self._pool is None:
            return sign(key, content)
        loop = asyncio.get_running_loop()
        signature: asyncio.Future[bytes] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._hand_over, loop, self._pool)
        self._waiting.append((key, content, signature))
        return await signature

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown()

    def _hand_over(self, loop: asyncio.AbstractEventLoop, pool: ThreadPoolExecutor) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), CHUNK):
            chunk = waiting[start : start + CHUNK]
            signing = loop.run_in_executor(pool, _sign_all, [each[:2] for each in chunk])
            signing.add_done_callback(partial(_give, [each[2] for each in chunk]))


def _sign_all(asked: Sequence[tuple[RSAPrivateKey, bytes]]) -> list[bytes]:
    return [sign(key, content) for key, content in asked]


def _give(
    waiting: Sequence["asyncio.Future[bytes]"], signing: "asyncio.Future[list[bytes]]"
) -> None:
    fault = signing.exception()
    signatures = [] if fault else signing.result()
    for place, signature in enumerate(waiting):
        if signature.done():  # who waited for it has been cancelled
            continue
        if fault:
            signature.set_exception(fault)
        else:
            signature.set_result(signatures[place])
