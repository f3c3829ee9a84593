"""The receiver as a process: what it is made of, and how it begins and ends."""

import asyncio
import os
import ssl
from pathlib import Path

from structlog.contextvars import bind_contextvars

from worker import admission, connect, stalls
from worker.admin import admin_port
from worker.health import Health, told_to_stop
from worker.logs import log
from worker.receiver import Trust, start_receiver
from worker.rights import Role
from worker.settings import Settings
from worker.store import Store
from worker.tasks import end, every
from worker.tools import store_of
from worker.watch import WATCH_EVERY, Lookout


async def run_receiver(settings: Settings, stopping: asyncio.Event) -> None:
    """Receive notifications until `stopping` is set. Without Redis every one is answered 503."""
    bind_contextvars(role=Role.RECEIVER.value)
    health = Health()
    async with admin_port(settings, Role.RECEIVER, health), told_to_stop(health, stopping):
        await _receive(settings, stopping, health)


async def _receive(settings: Settings, stopping: asyncio.Event, health: Health) -> None:
    redis = connect.client(settings.redis_url, tries=1)
    store = store_of(settings, redis)
    trust = Trust(
        keys=settings.public_keys,
        path=settings.notify_path,
        signed_paths=settings.notify_signed_paths,
        own=settings.own,
        forwards=settings.forward_urls.keys(),
    )
    tls = tls_context(settings.tls_cert_file, settings.tls_key_file)
    runner = await start_receiver(trust, store, settings.receiver_host, settings.receiver_port, tls)
    checking = asyncio.ensure_future(_check(store, settings, health))
    watches = (
        every(WATCH_EVERY, Lookout(redis, store.keys).look, "watch.failed"),
        stalls.watch(),
    )
    watching = [asyncio.ensure_future(watch) for watch in watches]
    addresses = [str(address) for address in runner.addresses]
    accounts = list(settings.client_ids)
    log.info("receiver.started", accounts=accounts, addresses=addresses, pid=os.getpid())
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({stopped, checking}, return_when=asyncio.FIRST_COMPLETED)
        if checking.done():
            checking.result()  # raises: Redis is unsafe
    finally:
        await end([stopped, checking, *watching])
        await runner.cleanup()
        await redis.aclose()
        log.info("receiver.stopped", pid=os.getpid())


async def _check(store: Store, settings: Settings, health: Health) -> None:
    """For as long as the receiver runs; until Redis is probed, each write waits for WAITAOF."""
    known = await admission.admit(store.redis, settings, Role.RECEIVER)
    store.confirm, health.admitted = known.confirm, True
    await admission.keep_watching(store, settings, Role.RECEIVER, known)


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context
