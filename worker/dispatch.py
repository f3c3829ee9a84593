"""Takes what is due from arq's queue, many jobs at once, and runs them.

arq's own worker takes each job in six round trips, and deletes what it cannot run. Here a batch is
taken in one, by Redis' clock; a job is held by its score in the queue until its lease is over, so
what a dead worker had in hand comes back by itself, and whoever was too late can end nothing.
"""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

from arq.worker import Retry
from redis.exceptions import RedisError

from jobs.model import Ms
from jobs.schedule import SECOND
from worker.commands import MAX_DELIVERIES, BadCommand, as_dead, rejection_of, report_dead
from worker.logs import log
from worker.outage import Outage
from worker.queue import HeldJob, Jobs, NewerVersion, deserialize
from worker.records import OtherVersions
from worker.store import Store
from worker.tasks import end

POLL_SECONDS = 0.02  #: of a queue where nothing was due: what a notification waits for us at most
BATCH = 64  #: jobs taken in one step: more would keep Redis from others for longer
AGAIN_SECONDS = 1  #: after a failure: a Redis that answers, but refuses, is not hammered
PUT_OFF: Ms = 5 * SECOND  #: a job that broke, or that a newer version has written

Run = Callable[..., Coroutine[Any, Any, None]]
Bound = Callable[[], Coroutine[Any, Any, None]]


class Dispatcher:
    """The jobs in one worker's hands. `ctx` is arq's, and so is what `functions` are given."""

    def __init__(
        self,
        store: Store,
        functions: Mapping[str, Run],
        ctx: Mapping[str, Any],
        outage: Outage,
        *,
        most: int,
        timeout: Ms,
    ) -> None:
        self._store, self._jobs = store, Jobs(store)
        self._functions, self._ctx, self._outage = functions, ctx, outage
        self._most, self._timeout = most, timeout / SECOND
        self._in_hand: dict[asyncio.Task[None], float] = {}  #: and when each is cancelled
        self._other_versions = OtherVersions()
        self._stopping = False
        self._taking = asyncio.Lock()

    async def run(self) -> None:
        """Take and run jobs until `drain` is called; when Redis is away, wait and go on."""
        while not self._stopping:
            try:
                async with self._taking:
                    full = await self.round()
            except (RedisError, OSError) as fault:
                self._outage.waits(fault)
                await asyncio.sleep(AGAIN_SECONDS)
            except Exception:
                log.exception("job.failed", task="take")
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                await asyncio.sleep(0 if full else POLL_SECONDS)

    async def round(self) -> bool:
        """Take a batch and start it; whether more may be due."""
        self.end_overdue()
        if not (most := min(BATCH, self._most - len(self._in_hand))):
            return False
        batch = await self._jobs.take(most)
        follow = self._functions["follow_payment"]
        for key in batch.payments:
            self._start(follow(self._ctx, key))
        for job in batch.jobs:
            self._start(self._guarded(job))
        return len(batch) == most

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._in_hand[task] = time.monotonic() + self._timeout
        task.add_done_callback(self._in_hand.pop)

    def end_overdue(self) -> None:
        """Who takes so long has lost his payment. They are in the order in which they began."""
        now = time.monotonic()
        for task, last in self._in_hand.items():
            if last > now:
                break
            task.cancel()

    async def drain(self, seconds: float) -> None:
        """Take no more; wait until all in hand has ended, and then cancel it."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._taking:  # what is being taken is in hand
                if self._in_hand:
                    await asyncio.wait(list(self._in_hand))
        await end(list(self._in_hand))

    # Other jobs than those of payments

    async def _guarded(self, job: HeldJob) -> None:
        try:
            await self._run(job)
        except (RedisError, OSError) as fault:
            self._outage.waits(fault)  # its lease brings it back
        except Exception:
            log.exception("job.failed", task="end", command_id=job.id)

    async def _run(self, job: HeldJob) -> None:
        name = ""
        try:
            said = deserialize(job.payload)
            name = said["f"]
            if name == "follow_payment":
                await self._jobs.finish(job)  # of a payment that is open no more
                return
            run = self._bound(said, job)
        except NewerVersion as fault:
            await self._leave_alone(job, fault)
        except (ValueError, KeyError, TypeError) as fault:
            await self._bury(job, name, f"no job that can be run: {fault}")
        else:
            await self._carry_out(job, name, run)

    def _bound(
        self, said: Mapping[str, Any], job: HeldJob
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        """The job's function with its arguments; TypeError if they do not fit."""
        if said["f"] not in self._functions:
            raise ValueError(f"there is no function {said['f'][:64]!r}")
        function = self._functions[said["f"]]
        written = datetime.fromtimestamp(said["et"] / SECOND, UTC)
        tries = max(job.tries, said["t"] or 0)
        ctx = {**self._ctx, "job_id": job.id, "job_try": tries, "enqueue_time": written}
        args, kwargs = (ctx, *said["a"]), said["k"]
        inspect.signature(function).bind(*args, **kwargs)
        return lambda: function(*args, **kwargs)

    async def _carry_out(self, job: HeldJob, name: str, run: Bound) -> None:
        try:
            await run()
        except Retry as again:
            await self._jobs.put_off(job, again.defer_score or 0)
        except (RedisError, OSError):
            raise
        except Exception:
            log.exception("job.failed", task=name, command_id=job.id)
            if job.tries >= MAX_DELIVERIES:
                await self._bury(job, name, "running it failed again and again; see the log")
            else:
                await self._jobs.put_off(job, PUT_OFF)
        else:
            await self._jobs.finish(job)

    async def _leave_alone(self, job: HeldJob, fault: Exception) -> None:
        if self._other_versions.is_news(job.id):
            log.error("record.unreadable", command_id=job.id, fault=str(fault))
        await self._jobs.put_off(job, PUT_OFF)

    async def _bury(self, job: HeldJob, name: str, why: str) -> None:
        """To the dead commands, answered as those are. A second run answers with the same id."""
        bad = BadCommand("malformed", why)
        await self._store.reject(rejection_of(bad, name[:64], job.id))
        raw = {"type": name, "data": job.payload}
        if await self._jobs.bury(job, as_dead(raw, bad, job.tries, job.id)):
            report_dead(bad, name, job.id)
