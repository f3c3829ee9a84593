"""Starts a mock gateway and ends it without a trace: the one place where its parts meet."""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from worker.mock_gateway.admin import add_admin
from worker.mock_gateway.config import MockConfig, refuse_real_account
from worker.mock_gateway.ledger import Ledger
from worker.mock_gateway.notifier import ACK_TIMEOUT, Notifier
from worker.mock_gateway.server import GATEWAY, Gateway, add_api
from worker.mock_gateway.wire import Signer

SHUTDOWN = 0.2  #: s that calls in flight get; those that a scenario holds back never end by then


@dataclass(frozen=True, slots=True)
class RunningMock:
    """A mock gateway that answers at `url`."""

    url: str
    ledger: Ledger
    _stack: AsyncExitStack

    async def close(self) -> None:
        """Stop answering and notifying; done twice it is done once."""
        await self._stack.aclose()


async def start(config: MockConfig) -> RunningMock:
    """Start a mock gateway.

    Raises `RealAccount` for an account that is not a sandbox's, with keys not made for the mock;
    OSError if the address cannot be had.
    """
    refuse_real_account(config.client_id, config.own_keys)
    changed = asyncio.Event()
    attacker_key = config.attacker_private_key
    if attacker_key is None:
        attacker_key = await asyncio.to_thread(rsa.generate_private_key, 65537, 2048)
    gateway = Gateway(
        config=config,
        ledger=_ledger(config),
        signer=_signer(config, config.gateway_private_key),
        attacker=_signer(config, attacker_key),
        changed=changed.set,
        clock=config.clock,
    )
    async with AsyncExitStack() as stack:
        url = await _serve(gateway, stack)
        await _notify(gateway, changed, stack)
        return RunningMock(url, gateway.ledger, stack.pop_all())


def _ledger(config: MockConfig) -> Ledger:
    return Ledger(
        seed=config.seed,
        default_life=round(config.default_closing_seconds * 1000),
        time_scale=config.time_scale,
        notify_url=config.notify_url,
        switches=config.switches,
    )


def _signer(config: MockConfig, key: rsa.RSAPrivateKey) -> Signer:
    return Signer(
        client_id=config.client_id,
        key=key,
        key_version=config.gateway_key_version,
        encoding=config.switches.signature_encoding,
    )


async def _serve(gateway: Gateway, stack: AsyncExitStack) -> str:
    app = web.Application()
    app[GATEWAY] = gateway
    add_api(app)
    add_admin(app)
    # A merchant that hangs up frees the answer that a scenario holds back for it.
    runner = web.AppRunner(
        app, handler_cancellation=True, shutdown_timeout=SHUTDOWN, access_log=None
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, gateway.config.host, gateway.config.port).start()
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _notify(gateway: Gateway, changed: asyncio.Event, stack: AsyncExitStack) -> None:
    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ACK_TIMEOUT), cookie_jar=aiohttp.DummyCookieJar()
        )
    )
    task = asyncio.create_task(Notifier(gateway, session, changed).run())
    stack.push_async_callback(_end, task)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
