"""The job that each of the other queues runs: our own code for one wake-up of one payment.

Record, timeline, decision, fences, log and verification are the product's, and so is the session to
the gateway. What differs is who wakes the payment, and what that costs.
"""

import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis
from structlog.contextvars import bound_contextvars

from jobs.follow import follow
from jobs.model import Decision, Ms, Payment
from jobs.tools import Entry, Loaded, Tools
from tests.bench.peers.loop import run
from tests.bench.seed import settings_of
from worker import admission
from worker.keys import Keys
from worker.logs import configure
from worker.rights import Role
from worker.settings import Settings
from worker.store import Store
from worker.tools import open_tools

AT_ONCE = 64  #: payments in hand, as much as a queue is let have
QUEUE = "bench-peer"


class Remembering(Store):
    """Says when a payment that was saved last is due again."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.due: dict[str, Ms | None] = {}

    async def save(
        self, loaded: Loaded, decision: Decision, entries: Sequence[Entry], **how: Any
    ) -> Payment | None:
        saved = await super().save(loaded, decision, entries, **how)
        if saved is not None:
            self.due[saved.key] = saved.next_at
        return saved


class Job:
    """One wake-up; seconds until the next one, None where there is none."""

    def __init__(self, tools: Tools, store: Remembering) -> None:
        self._tools, self._store = tools, store

    async def __call__(self, key: str) -> float | None:
        with bound_contextvars(wake_id=secrets.token_hex(8)):
            await follow(key, self._tools)
        if key not in self._store.due:
            return 0.1  # it was not due, or not ours: another look
        at = self._store.due.pop(key)
        return None if at is None else max(0.0, (at - self._store.now()) / 1000)


def settings() -> Settings:
    return settings_of(os.environ)


@asynccontextmanager
async def opened() -> AsyncIterator[Job]:
    """The job with its tools, opened and checked as our worker does it."""
    given = settings()
    configure(given.log_format, given.log_level, condensed=given.log_condensed)
    for name in ("saq", "streaq", "taskiq", "taskiq.receiver"):  # as our worker does with arq
        logging.getLogger(name).setLevel(logging.ERROR)
    async with open_tools(given) as (tools, plain):
        store = Remembering(plain.redis, plain.keys, retention=given.retention)
        store.confirm = (await admission.admit(store.redis, given, Role.WORKER)).confirm
        yield Job(replace(tools, store=store), store)


async def payments() -> list[str]:
    """All that are open, the first one due first."""
    given = settings()
    async with Redis.from_url(given.redis_url) as redis:
        return [key.decode() for key in await redis.zrange(Keys(given.key_prefix).open, 0, -1)]


def main(
    enqueue: Callable[[Sequence[str]], Awaitable[None]], work: Callable[[], Awaitable[None]]
) -> None:
    """`enqueue`: queue a job for each payment that is open; `work`: run them."""

    async def queued() -> None:
        await enqueue(await payments())

    async def worked() -> None:
        await work()

    run(queued() if sys.argv[1] == "enqueue" else worked())
