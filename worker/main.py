"""Where the real things meet: worker and receiver are wired here, nowhere else.

`arq worker.main.WorkerSettings` starts the worker as arq's users expect; `reconciler worker` starts
the same and keeps it running when Redis goes away. Nothing connects when this module is imported.
"""

import asyncio
import contextlib
import logging
import os
import platform
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from arq.connections import ArqRedis
from arq.worker import Retry, Worker, func
from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobs.follow import follow
from jobs.model import Ms, OnTimeout
from jobs.schedule import DAY, MINUTE, SECOND, Policy
from jobs.sweep import sweep
from jobs.tools import Account, Tools
from worker import connect, queue
from worker.commands import (
    BadCommand,
    CommandStream,
    encode_data,
    execute,
    make_group,
    rejection_of,
)
from worker.gateway import HttpGateway, open_session
from worker.housekeeping import keep_house
from worker.http_server import warn_of_weak_parser
from worker.keys import Keys
from worker.logs import configure, log
from worker.receiver import Trust, start_receiver
from worker.records import UnknownSchema
from worker.settings import Account as AccountSettings
from worker.settings import Need, Settings, load
from worker.store import Store

MAX_JOBS = 64  #: payments in hand at once, in one worker process
JOB_TIMEOUT: Ms = 20 * SECOND  #: above the lease: what takes longer has lost its payment anyway
DRAIN_SECONDS = 15  #: how long a stopping worker lets running jobs finish
COMMAND_RETRY_SECONDS = 5
HOUSEKEEPING_EVERY: Ms = 10 * MINUTE
RESTART_SECONDS = 1  #: between two rounds: a Redis that answers, but refuses, is not hammered
#: redis-py sends with `asyncio.wait_for`, which up to Python 3.11 swallows a cancel that comes as
#: the send ends (github.com/python/cpython/issues/86296): what must end is cancelled once more.
CANCEL_AGAIN_SECONDS = 0.5
REDIS_TRIES = 30  #: of arq's own commands, with backoff: about half a minute


# Tools


def policy_of(settings: Settings, account: AccountSettings) -> Policy:
    """The patience of one account, from the settings."""
    return Policy(
        inquiry_delays=settings.schedule,
        confirming_delays=settings.pending_schedule,
        cancel_delays=settings.cancel_schedule,
        aftercare_delays=settings.aftercare_schedule,
        unresolved_delays=settings.unresolved_schedule,
        closing=account.closing_time,
        confirming=account.pending_closing_time,
        last_inquiry_grace=settings.last_inquiry_grace,
        cancel_quiet=settings.cancel_quiet,
        cancel_limit=settings.cancel_limit,
        not_found_settle=settings.not_found_settle,
        unresolved_watch=settings.unresolved_watch,
        report=settings.on_timeout is OnTimeout.REPORT,
    )


def store_of(settings: Settings, redis: Redis) -> Store:
    return Store(
        redis,
        Keys(settings.key_prefix),
        confirm=connect.confirmation(settings.durability),
        retention=settings.retention,
    )


@contextlib.asynccontextmanager
async def open_tools(settings: Settings) -> AsyncIterator[tuple[Tools, Store]]:
    """Everything that jobs need, connected."""
    redis = connect.client(settings.redis_url)
    store = store_of(settings, redis)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        store.confirm = await connect.check_durability(redis, settings.durability)
        session = await stack.enter_async_context(open_session(MAX_JOBS))
        accounts = {
            client_id: Account(
                gateway=HttpGateway(session, account, settings.gateway_timeout),
                policy=policy_of(settings, account),
                brake=settings.cancel_brake,
            )
            for client_id, account in settings.accounts.items()
        }
        yield Tools(store=store, accounts=accounts, log=log), store


# The worker's jobs, as arq calls them


async def follow_payment(ctx: dict[str, Any], key: str) -> None:
    """One wake-up of one payment."""
    try:
        await follow(key, ctx["tools"])
    except UnknownSchema as fault:
        log.error("record.unreadable", payment=key, fault=str(fault))
    except (RedisError, OSError) as fault:
        log.warning("worker.redis_waiting", fault=str(fault)[:200], task="follow")
    except Exception:  # a bug: the lease runs out and another wake-up tries again
        log.exception("job.failed", payment=key)


async def rearm(ctx: dict[str, Any]) -> None:
    """arq has just deleted a payment's job: queue its next one. What fails here is swept up."""
    job_id, prefix = ctx["job_id"], ctx["store"].keys.prefix + ":"
    if not job_id.startswith(prefix):
        return
    try:
        await ctx["store"].rearm(job_id.removeprefix(prefix))
    except (RedisError, OSError) as fault:
        log.warning("worker.redis_waiting", fault=str(fault)[:200], task="rearm")


def command_job(type_: str) -> Any:
    """A command as an arq job: as safe as arq, no safer."""

    async def run(ctx: dict[str, Any], data: Mapping[str, Any] | str) -> None:
        at = round(ctx["enqueue_time"].timestamp() * 1000)
        text = data if isinstance(data, str) else encode_data(data)
        try:
            done = await execute(type_, text, ctx["job_id"], at, ctx["tools"])
        except BadCommand as bad:
            await ctx["store"].reject(rejection_of(bad, type_, ctx["job_id"]))
            log.warning("command.rejected", command_id=ctx["job_id"], reason=bad.reason)
        except (RedisError, OSError) as fault:
            log.warning("worker.redis_waiting", fault=str(fault)[:200], task="command")
            raise Retry(defer=COMMAND_RETRY_SECONDS) from fault
        except UnknownSchema as fault:
            log.error("record.unreadable", command_id=ctx["job_id"], fault=str(fault))
            raise Retry(defer=COMMAND_RETRY_SECONDS) from fault
        else:
            if not done:
                raise Retry(defer=COMMAND_RETRY_SECONDS)

    return run


COMMAND_JOBS = {
    "track_payment": "payment.track",
    "cancel_payment": "payment.cancel",
    "recheck_payment": "payment.recheck",
    "forget_payment": "payment.forget",
}


# What runs beside the jobs


async def every(delay: Ms, work: Callable[[], Awaitable[Any]], event: str) -> None:
    """Do `work` again and again; a failure is a line in the log, not the end."""
    while True:
        try:
            await work()
        except (RedisError, OSError) as fault:
            log.warning("worker.redis_waiting", fault=str(fault)[:200])
        except Exception:
            log.exception(event)
        await asyncio.sleep(delay / 1000)


def companions(settings: Settings, tools: Tools, store: Store) -> list[Coroutine[Any, Any, None]]:
    """The command stream, the sweep and the housekeeping."""
    redis = store.redis
    consumer = f"{platform.node()}-{os.getpid()}"
    commands = CommandStream(redis, store, store.keys, tools, consumer)

    async def swept() -> None:
        await sweep(tools)

    async def housekept() -> None:
        await keep_house(redis, store, settings.retention)

    return [
        commands.run(),
        every(settings.sweep_every, swept, "sweep.failed"),
        every(HOUSEKEEPING_EVERY, housekept, "retention.failed"),
    ]


async def start(ctx: dict[str, Any]) -> None:
    """arq's on_startup: open the tools and start what runs beside the jobs."""
    settings: Settings = ctx["settings"]
    warn_of_weak_parser()
    stack = ctx["stack"] = contextlib.AsyncExitStack()
    tools, store = await stack.enter_async_context(open_tools(settings))
    ctx |= {"tools": tools, "store": store}
    for group in settings.outcome_groups:
        await make_group(store.redis, store.keys.outcomes, group)
    tasks = [asyncio.create_task(task) for task in companions(settings, tools, store)]
    stack.push_async_callback(_end, tasks)
    log.info("worker.started", accounts=list(tools.accounts), pid=os.getpid())


async def _end(tasks: Sequence["asyncio.Future[None]"]) -> None:
    """Cancel until they end: a first cancel may be lost, see `CANCEL_AGAIN_SECONDS`."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


async def stop(ctx: dict[str, Any]) -> None:
    """arq's on_shutdown: the running jobs have ended."""
    if "stack" in ctx:
        await ctx.pop("stack").aclose()
    log.info("worker.stopped", pid=os.getpid())


# The worker


def worker_settings(settings: Settings) -> dict[str, Any]:
    """arq's settings, as they must be for payments. Each of these defaults loses jobs otherwise."""
    keys = Keys(settings.key_prefix)
    arq_redis = ArqRedis(
        connection_pool=connect.pool(settings.redis_url, REDIS_TRIES),
        job_serializer=queue.serialize,
        job_deserializer=queue.deserialize,
        default_queue_name=keys.queue,
        expires_extra_ms=30 * DAY,
    )
    commands = [func(command_job(type_), name=name) for name, type_ in COMMAND_JOBS.items()]
    return {
        "functions": [func(follow_payment, name="follow_payment"), *commands],
        "redis_pool": arq_redis,
        "queue_name": keys.queue,
        "job_serializer": queue.serialize,  # never pickle: whoever writes to Redis would run code
        "job_deserializer": queue.deserialize,
        "on_startup": start,
        "on_shutdown": stop,
        "after_job_end": rearm,
        "max_jobs": MAX_JOBS,
        "job_timeout": JOB_TIMEOUT / SECOND,
        "max_tries": 2**31 - 1,  # crashes and deploys count as tries
        "keep_result": 0,  # a kept result blocks the job's id
        "expires_extra_ms": 30 * DAY,
        "poll_delay": 0.25,
        "queue_read_limit": 4 * MAX_JOBS,  # or jobs in hand hide those behind them
        "job_completion_wait": DRAIN_SECONDS,
        "health_check_interval": 5,
        "health_check_key": f"{keys.queue}:health:{platform.node()}-{os.getpid()}",
        "log_results": False,
        "ctx": {"settings": settings},
    }


async def run_worker(settings: Settings, stopping: asyncio.Event) -> None:
    """Run until `stopping` is set; when Redis goes away, wait for it and start afresh.

    arq's worker ends whenever Redis does, so each round has a new one.
    """
    probe = connect.client(settings.redis_url, tries=0)
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        while not stopping.is_set():
            reached = asyncio.ensure_future(connect.wait_for(probe))
            await asyncio.wait({stopped, reached}, return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
            if not stopping.is_set():
                await _work(Worker(**worker_settings(settings), handle_signals=False), stopping)
    finally:
        stopped.cancel()
        await probe.aclose()


async def _work(worker: Worker, stopping: asyncio.Event) -> None:
    """One round: until `stopping` is set and the running jobs are done, or Redis goes away."""
    draining = asyncio.ensure_future(_drain(worker, stopping))
    try:
        await worker.async_run()
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
    except (RedisError, OSError) as fault:
        log.warning("worker.redis_waiting", fault=str(fault)[:200])
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
    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    while True:  # until the worker has ended and this is cancelled
        await asyncio.sleep(CANCEL_AGAIN_SECONDS)
        if worker.main_task and not worker.tasks:
            worker.main_task.cancel()


async def _close(worker: Worker) -> None:
    """Close what can be closed: with Redis away, arq's own closing fails half-way."""
    with contextlib.suppress(RedisError, OSError, asyncio.CancelledError):
        await worker.close()
    if "stack" in worker.ctx:
        with contextlib.suppress(RedisError, OSError):
            await stop(worker.ctx)


# The receiver


async def run_receiver(settings: Settings, stopping: asyncio.Event) -> None:
    """Receive notifications until `stopping` is set. Without Redis every one is answered 503."""
    redis = connect.client(settings.redis_url, tries=1)
    store = store_of(settings, redis)
    trust = Trust(
        keys=settings.public_keys,
        path=settings.notify_path,
        signed_paths=settings.notify_signed_paths,
    )
    tls = tls_context(settings.tls_cert_file, settings.tls_key_file)
    runner = await start_receiver(trust, store, settings.receiver_host, settings.receiver_port, tls)
    checking = asyncio.ensure_future(_check(store, settings))
    log.info("receiver.started", addresses=[str(a) for a in runner.addresses], pid=os.getpid())
    try:
        stopped = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({stopped, checking}, return_when=asyncio.FIRST_COMPLETED)
        if checking.done():
            checking.result()  # raises if Redis is unsafe
        await stopped
    finally:
        checking.cancel()
        await runner.cleanup()
        await redis.aclose()
        log.info("receiver.stopped", pid=os.getpid())


async def _check(store: Store, settings: Settings) -> None:
    await connect.wait_for(store.redis)
    store.confirm = await connect.check_durability(store.redis, settings.durability)


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


def __getattr__(name: str) -> Any:
    """`WorkerSettings` is made when arq asks for it, so that importing reads no environment."""
    if name != "WorkerSettings":
        raise AttributeError(name)
    settings = load(os.environ, Path(".env"), need=Need.GATEWAY)
    configure(settings.log_format, settings.log_level)
    _speak_for_arq()
    return worker_settings(settings)


def _speak_for_arq() -> None:
    """arq's command line gives arq's logger a handler of its own, after our settings were read;
    what arq says never gets there, and its warnings are lines of ours."""

    def take(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            logging.getLogger().handle(record)
        return False

    for name in ("arq.worker", "arq.connections"):
        logging.getLogger(name).addFilter(take)
