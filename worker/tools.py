"""What jobs are given, made of the real things: store, gateways, policies."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping

import aiohttp
from redis.asyncio import Redis

from jobs.model import OnTimeout
from jobs.schedule import Policy
from jobs.tools import Account, Tools
from worker import connect
from worker.callbacks import checker
from worker.gateway import HttpGateway, open_session
from worker.keys import Keys
from worker.limits import Limits
from worker.logs import log
from worker.settings import Account as AccountSettings
from worker.settings import Settings
from worker.signer import Sign, Signer, cores, sign_here, threads_for
from worker.store import Store

MAX_JOBS = 512  #: payments in hand at once, in one worker process: what waits costs nothing


def policy_of(settings: Settings, account: AccountSettings) -> Policy:
    """The patience of one account, from the settings."""
    settings = settings.of(account.client_id)
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
        cancel_window=account.cancel_window,
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


class Accounts(Mapping[str, Account]):
    """The accounts as the settings have them at the moment: they may change while a worker runs."""

    def __init__(
        self,
        settings: Settings,
        session: aiohttp.ClientSession,
        limits: Limits,
        sign: Sign = sign_here,
    ) -> None:
        self._settings, self._session, self._sign = settings, session, sign
        self._limits = limits
        self._made: dict[str, tuple[AccountSettings, Account]] = {}

    def __getitem__(self, client_id: str) -> Account:
        told = self._settings.accounts[client_id]
        made = self._made.get(client_id)
        if made is None or made[0] is not told:
            made = self._made[client_id] = (told, self._make(told))
        return made[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings.accounts)

    def __len__(self) -> int:
        return len(self._settings.accounts)

    def _make(self, told: AccountSettings) -> Account:
        own = self._settings.of(told.client_id)
        line = HttpGateway(self._session, told, own.gateway_timeout, own.notify_url, self._sign)
        return Account(
            gateway=self._limits.counted(told.client_id, line),
            policy=policy_of(self._settings, told),
            brake=own.cancel_brake,
        )


class Rates(Mapping[str, float]):
    """Calls a second by client id, as the settings have them at the moment; 0: any number.

    Asked before each call, so it makes no `Settings.of` the account.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __getitem__(self, client_id: str) -> float:
        told: float = self._settings.own[client_id].get("rate_limit", self._settings.rate_limit)
        return told

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings.accounts)

    def __len__(self) -> int:
        return len(self._settings.accounts)


@contextlib.asynccontextmanager
async def open_tools(settings: Settings) -> AsyncIterator[tuple[Tools, Store]]:
    """Everything that jobs need, connected."""
    redis = connect.client(settings.redis_url)
    store = store_of(settings, redis)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(store.end)
        session = await stack.enter_async_context(open_session(MAX_JOBS))
        signer = Signer(threads_for(cores()))
        stack.callback(signer.close)
        limits = Limits(store, Rates(settings), MAX_JOBS)
        accounts = Accounts(settings, session, limits, signer.sign)
        callbacks = checker(settings.accounts)
        bound = log.bind()  # once: a proxy does so for each line
        tools = Tools(store=store, accounts=accounts, log=bound, callbacks=callbacks, limits=limits)
        yield tools, store
