"""The worker as a process: where the real things meet. `worker.receiving` is the receiver's.

`arq worker.main.WorkerSettings` starts the worker as arq's users expect; `reconciler worker` starts
the same and keeps it running when Redis goes away. Nothing connects when this module is imported.
"""

import asyncio
import contextlib
import logging
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from arq.worker import Worker, func
from redis.exceptions import RedisError
from structlog.contextvars import bind_contextvars

from jobs.model import Ms
from jobs.schedule import DAY, MINUTE, SECOND
from jobs.stuck import report_stuck
from jobs.sweep import sweep
from jobs.tools import Tools
from worker import admission, connect, queue, stalls
from worker.admin import admin_port
from worker.admission import Admitted
from worker.arq_jobs import COMMAND_JOBS, command_job, follow_payment
from worker.commands import CommandStream
from worker.courier import Courier
from worker.dispatch import Dispatcher, Run
from worker.groups import make_group
from worker.health import Health, told_to_stop
from worker.housekeeping import keep_house
from worker.http_server import warn_of_weak_parser
from worker.keys import Keys
from worker.limits import ROUND, Limits
from worker.logs import configure, log, take_over
from worker.outage import Outage
from worker.records import OtherVersions
from worker.reload import ignore_hangups, reloading
from worker.rights import Role
from worker.settings import BadSettings, Need, Settings, Source
from worker.store import Store
from worker.tasks import CANCEL_AGAIN_SECONDS, end, every
from worker.tools import MAX_JOBS, open_tools
from worker.watch import WATCH_EVERY, Pulse, check_sweep

JOB_TIMEOUT: Ms = 20 * SECOND  #: above the lease: what takes longer has lost its payment anyway
DRAIN_SECONDS = 15  #: how long a stopping worker lets running jobs finish
CLOSE_SECONDS = 5  #: and how long it then waits for a Redis that may hang
#: All that a process may take to stop, also where gateway and Redis hang: whoever sends SIGTERM
#: must wait longer before SIGKILL, as all of deploy/ does.
STOP_SECONDS = 25
COMMANDS_AGAIN: Ms = SECOND  #: after a bug in reading the commands; it never ends otherwise
HOUSEKEEPING_EVERY: Ms = 10 * MINUTE
RESTART_SECONDS = 1  #: between two rounds: a Redis that answers, but refuses, is not hammered
BAD_SETTINGS = 3  #: the exit code of a process that cannot use its settings
UNSAFE = 5  #: the exit code of a process that a check has ended
REDIS_TRIES = 30  #: of arq's own commands, with backoff: about half a minute


# What runs beside the jobs


def companions(
    settings: Settings, tools: Tools, store: Store, jobs: Outage, pulse: Pulse
) -> list[Coroutine[Any, Any, None]]:
    """Commands, deliveries, the sweep, the housekeeping, and who looks after the sweep."""
    redis = store.redis
    consumer = f"{platform.node()}-{os.getpid()}"
    commands = CommandStream(redis, store, store.keys, tools, consumer)
    limits = tools.limits
    assert isinstance(limits, Limits)  # of open_tools

    async def swept() -> None:
        await sweep(tools)
        jobs.answers()  # it writes what jobs write, and comes round where none of them is due

    async def housekept() -> None:
        await keep_house(redis, store, settings.retention)
        await admission.warn_if_nearly_full(redis)

    async def watched() -> None:
        check_sweep(pulse)
        await report_stuck(tools)

    return [
        every(COMMANDS_AGAIN, commands.run, "commands.failed"),
        every(ROUND, limits.run, "limits.failed"),
        every(COMMANDS_AGAIN, lambda: Courier(store, settings).run(), "deliveries.failed"),
        every(settings.sweep_every, swept, "sweep.failed", pulse),
        every(HOUSEKEEPING_EVERY, housekept, "retention.failed"),
        every(WATCH_EVERY, watched, "watch.failed"),
        stalls.watch(),
    ]


async def start(ctx: dict[str, Any]) -> None:
    """arq's on_startup: open the tools and start what runs beside the jobs."""
    settings: Settings = ctx["settings"]
    bind_contextvars(role=Role.WORKER.value)
    warn_of_weak_parser()
    stack = ctx["stack"] = contextlib.AsyncExitStack()
    health = await _health(ctx, stack)
    if "source" in ctx:  # arq's own command line has nobody else to look after it
        await stack.enter_async_context(reloading(ctx["source"], settings))
    tools, store = await stack.enter_async_context(open_tools(settings))
    known = ctx.get("admitted") or await admission.admit(store.redis, settings, Role.WORKER)
    store.confirm = known.confirm
    ctx |= {"tools": tools, "store": store, "admitted": known}
    ctx["other_versions"] = OtherVersions()
    jobs = ctx.setdefault("outage", Outage("jobs"))
    for group in settings.outcome_groups:
        await make_group(store.redis, store.keys.outcomes, group)
    work = asyncio.current_task()
    assert work
    health.admitted, health.confirm = True, known.confirm
    health.pulse = Pulse(settings.sweep_every)
    stack.callback(_not_ready, health)
    ctx["dispatcher"] = dispatcher = Dispatcher(
        store, _FUNCTIONS, ctx, jobs, most=MAX_JOBS, timeout=JOB_TIMEOUT
    )
    beside = companions(settings, tools, store, jobs, health.pulse)
    beside += [dispatcher.run(), _watch_or_end(ctx, work), _cancel_again(work)]
    tasks = [asyncio.create_task(task) for task in beside]
    stack.push_async_callback(end, tasks)
    log.info("worker.started", accounts=list(tools.accounts), pid=os.getpid())


async def _health(ctx: dict[str, Any], stack: contextlib.AsyncExitStack) -> Health:
    """That of our process; arq's own command line brings none, so the admin port opens here."""
    if "health" not in ctx:
        ctx["health"] = Health(sweeps=True)
        await stack.enter_async_context(admin_port(ctx["settings"], Role.WORKER, ctx["health"]))
    found: Health = ctx["health"]
    return found


def _not_ready(health: Health) -> None:
    health.admitted, health.pulse = False, None


async def _watch_or_end(ctx: dict[str, Any], work: "asyncio.Task[Any]") -> None:
    """Watch Redis; when it is not safe any more, end arq's worker, and `stop` says why."""
    try:
        await admission.keep_watching(ctx["store"], ctx["settings"], Role.WORKER, ctx["admitted"])
    except connect.Unsafe as fault:
        ctx["unsafe"] = fault
        work.cancel()


async def _cancel_again(work: "asyncio.Task[Any]") -> None:
    """arq cancels its own task once, and that may be lost, see `CANCEL_AGAIN_SECONDS`.

    Twice in a row, as a timeout inside of redis-py looks the same for a moment.
    """
    asked = 0
    while True:
        await asyncio.sleep(CANCEL_AGAIN_SECONDS)
        asked = asked + 1 if work.cancelling() else 0
        if asked > 1:
            work.cancel()


async def stop(ctx: dict[str, Any]) -> None:
    """arq's on_shutdown: let the running jobs end, and close what `start` has opened."""
    if "dispatcher" in ctx:
        await ctx.pop("dispatcher").drain(DRAIN_SECONDS)
    if "stack" in ctx:
        await ctx.pop("stack").aclose()
    log.info("worker.stopped", pid=os.getpid())
    if "unsafe" in ctx:
        raise ctx.pop("unsafe")


# The worker

#: By the names that they have in arq's queue.
_FUNCTIONS: Mapping[str, Run] = {"follow_payment": follow_payment} | {
    name: command_job(type_) for name, type_ in COMMAND_JOBS.items()
}


def worker_settings(settings: Settings) -> dict[str, Any]:
    """arq's settings. Its worker starts, stops and says that it is alive; the jobs in its queue are
    the dispatcher's. Each default would lose jobs, were they arq's to run.
    """
    keys = Keys(settings.key_prefix)
    return {
        "functions": [func(job, name=name) for name, job in _FUNCTIONS.items()],
        "redis_pool": queue.Queue(connect.pool(settings.redis_url, REDIS_TRIES), keys.queue),
        "queue_name": keys.queue,
        "job_serializer": queue.serialize,  # never pickle: whoever writes to Redis would run code
        "job_deserializer": queue.deserialize,
        "on_startup": start,
        "on_shutdown": stop,
        "max_jobs": MAX_JOBS,
        "job_timeout": JOB_TIMEOUT / SECOND,
        "max_tries": 2**31 - 1,  # crashes and deploys count as tries
        "keep_result": 0,  # a kept result blocks the job's id
        "expires_extra_ms": 30 * DAY,
        "poll_delay": 0.25,
        "queue_read_limit": 4 * MAX_JOBS,  # of jobs that are in no worker's hands
        "job_completion_wait": DRAIN_SECONDS,
        "health_check_interval": 5,
        "health_check_key": f"{keys.queue}:health:{platform.node()}-{os.getpid()}",
        "log_results": False,
        "ctx": {"settings": settings},
    }


async def run_worker(settings: Settings, stopping: asyncio.Event) -> None:
    """Run until `stopping` is set; when Redis goes away, wait for it and start afresh."""
    bind_contextvars(role=Role.WORKER.value)
    health = Health(sweeps=True)
    async with admin_port(settings, Role.WORKER, health), told_to_stop(health, stopping):
        await _rounds(settings, stopping, health)


async def _rounds(settings: Settings, stopping: asyncio.Event, health: Health) -> None:
    """arq's worker ends whenever Redis does, so each round has a new one."""
    probe = connect.client(settings.redis_url, tries=0)
    outage = Outage("jobs")
    known: Admitted | None = None
    stopped = asyncio.ensure_future(stopping.wait())
    asked: list[asyncio.Future[Any]] = [stopped]
    try:
        while not stopping.is_set():
            admitted = asyncio.ensure_future(admission.admit(probe, settings, Role.WORKER, known))
            asked = [stopped, admitted]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.is_set():
                ctx: dict[str, Any] = {"settings": settings, "admitted": await admitted}
                ctx |= {"outage": outage, "health": health}
                await _work(_new_worker(settings, ctx), stopping)
                known = ctx["admitted"]
    finally:
        await end(asked)
        await probe.aclose()


def _new_worker(settings: Settings, ctx: dict[str, Any]) -> Worker:
    return Worker(**worker_settings(settings) | {"ctx": ctx}, handle_signals=False)


async def _work(worker: Worker, stopping: asyncio.Event) -> None:
    """One round: until `stopping` is set and the running jobs are done, or Redis goes away."""
    draining = asyncio.ensure_future(_drain(worker, stopping))
    try:
        await worker.async_run()
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
    except (RedisError, OSError) as fault:
        worker.ctx["outage"].waits(fault)
        await asyncio.sleep(RESTART_SECONDS)
    except connect.Unsafe:
        raise  # a fault of the deployment, not ours: its message is enough
    except Exception:
        log.exception("worker.failed")
        raise
    finally:
        draining.cancel()
        await _close(worker)


async def _drain(worker: Worker, stopping: asyncio.Event) -> None:
    await stopping.wait()
    if "dispatcher" in worker.ctx:
        await worker.ctx["dispatcher"].drain(DRAIN_SECONDS)
    while True:  # until the worker has ended and this is cancelled: it may hang in Redis
        if worker.main_task:
            worker.main_task.cancel()
        await asyncio.sleep(CANCEL_AGAIN_SECONDS)


async def _close(worker: Worker) -> None:
    """Close what can be closed: with Redis away or a job cancelled, arq's closing ends half-way.

    With one that hangs it would take minutes, as arq's own commands are tried `REDIS_TRIES` times.
    """
    connections = worker.pool.connection_pool
    closing = asyncio.ensure_future(worker.close())
    await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
    await end([closing, *worker.tasks.values()])
    with contextlib.suppress(RedisError, OSError, asyncio.CancelledError):
        closing.result()
    with contextlib.suppress(RedisError, OSError):
        await connections.disconnect()
    if "stack" in worker.ctx:
        with contextlib.suppress(RedisError, OSError):
            await stop(worker.ctx)


def __getattr__(name: str) -> Any:
    """`WorkerSettings` is made when arq asks for it, so that importing reads no environment.

    arq's command line knows no exit codes: settings that cannot be used end it as they end ours.
    """
    if name != "WorkerSettings":
        raise AttributeError(name)
    ignore_hangups()
    source = Source(environ=os.environ, dotenv=Path(".env"), need=Need.GATEWAY)
    try:
        settings = source.load()
    except BadSettings as bad:
        print(f"reconciler: {bad.message}", file=sys.stderr)
        raise SystemExit(BAD_SETTINGS) from None
    configure(settings.log_format, settings.log_level, condensed=settings.log_condensed)
    take_over()
    _speak_for_arq()
    return worker_settings(settings) | {
        "ctx": {"settings": settings, "source": source},
        "on_startup": _or_exit(start),
        "on_shutdown": _or_exit(stop),
    }


def _or_exit(step: Callable[[dict[str, Any]], Awaitable[None]]) -> Any:
    """arq's command line knows no exit codes: a Redis that is unsafe ends it as ours ends."""

    async def run(ctx: dict[str, Any]) -> None:
        try:
            await step(ctx)
        except connect.Unsafe as fault:
            print(f"reconciler: {fault}", file=sys.stderr)
            raise SystemExit(UNSAFE) from None

    return run


def _speak_for_arq() -> None:
    """arq's command line gives arq's logger a handler of its own, after our settings were read;
    what arq says never gets there, and its warnings are lines of ours."""

    def take(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            logging.getLogger().handle(record)
        return False

    for name in ("arq.worker", "arq.connections", "arq.jobs", "arq.utils"):
        logging.getLogger(name).addFilter(take)
