"""Connections to the primary that the sentinels name, wherever it is.

Each connection asks the sentinels when it opens, and believes a server only that says it is a
primary. redis-py's own pool retries the address it found first, and each of its retries once more;
it believes the first sentinel, even one that was cut off, and leaves its connections to them open.

Source: redis.io/docs/latest/develop/reference/sentinel-clients
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Connection, Redis, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ReadOnlyError, RedisError, ResponseError

from worker.replies import text_of
from worker.values import SentinelUrl

SENTINEL_SECONDS = 1  #: one that takes longer is as good as gone: the others know as much
ASK_AGAIN_SECONDS = 5  #: how long we may stay with a primary that was cut off and replaced

Address = tuple[str, int]


class NoPrimary(RedisConnectionError):
    """The sentinels name no primary that works; the message says why."""


class Sentinels:
    """The sentinels of one primary."""

    def __init__(self, where: SentinelUrl, options: Mapping[str, Any]) -> None:
        self.where = where
        self._options = options
        self._found: Address | None = None  #: what they last said
        self._asked_at = 0.0
        self._asking: asyncio.Task[Address] | None = None

    async def primary(self) -> Address:
        """Where the primary is; all who ask at the same time share one round of questions."""
        return await asyncio.shield(self._ask())

    def moved_from(self, address: Address) -> bool:
        """Whether they last named another one. Now and then they are asked anew, on the side."""
        if time.monotonic() > self._asked_at + ASK_AGAIN_SECONDS:
            self._ask()
        return address != self._found

    async def promotable(self) -> int:
        """How many replicas they may make the primary."""
        for address in self.where.sentinels:
            try:
                replicas = await self._ask_one(address, "SENTINEL SLAVES")
            except (RedisError, OSError):
                continue
            return sum(replica["slave-priority"] > 0 for replica in replicas)
        raise NoPrimary("no sentinel answers")

    def _ask(self) -> "asyncio.Task[Address]":
        if self._asking is None or self._asking.done():
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._look_up())
            self._asking.add_done_callback(_seen)
        return self._asking

    async def _look_up(self) -> Address:
        """What the newest answer of most sentinels says: one that was cut off knows no better."""
        tasks = [
            asyncio.create_task(self._ask_one(a, "SENTINEL MASTER")) for a in self.where.sentinels
        ]
        states, faults = [], []
        for answer in asyncio.as_completed(tasks):
            try:
                states.append(await answer)
            except (RedisError, OSError) as fault:
                faults.append(str(fault))
            if len(states) > len(tasks) // 2:
                break
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._found = self._best(states, faults)
        return self._found

    def _best(self, states: list[dict[str, Any]], faults: list[str]) -> Address:
        name = self.where.name
        up = [state for state in states if not state["is_sdown"] and not state["is_odown"]]
        if up:
            best = max(up, key=lambda state: int(state["config-epoch"]))
            return best["ip"], best["port"]
        if states:
            raise NoPrimary(f"the sentinels say that their primary {name} is down")
        if any("No such master" in fault for fault in faults):
            raise NoPrimary(f"the sentinels know no primary named {name}: see REDIS_URL")
        raise NoPrimary(f"no sentinel of {name} answers: {'; '.join(faults)}")

    async def _ask_one(self, address: Address, command: str) -> Any:
        async with Redis(host=address[0], port=address[1], **self._options) as sentinel:
            return await sentinel.execute_command(command, self.where.name)  # type: ignore[no-untyped-call]


def _seen(task: "asyncio.Task[Address]") -> None:
    """Nobody may be left who waits for it; asyncio would complain of its failure."""
    if not task.cancelled():
        task.exception()


class PrimaryConnection(Connection):
    """A connection to the primary."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(redis_connect_func=_greeted, **options)
        self._sentinels = sentinels

    async def connect(self) -> None:
        """As the pool hands it out: drop it first if the primary is elsewhere by now."""
        if self.is_connected and self._sentinels.moved_from((self.host, self.port)):
            await self.disconnect(nowait=True)
        await super().connect()  # type: ignore[no-untyped-call]

    async def _connect(self) -> None:
        """Each try asks anew. Greeting is part of it, so that another try follows its failure."""
        self.host, self.port = await self._sentinels.primary()
        await super()._connect()  # type: ignore[no-untyped-call]
        async with asyncio.timeout(self.socket_connect_timeout):
            await self.on_connect()
            role = await self._role()
        if role != "master":
            raise NoPrimary(f"{self.host}:{self.port} is a replica: a failover is under way")

    async def _role(self) -> str:
        await self.send_command("ROLE", check_health=False)
        try:
            answer = await self.read_response()
        except NoPermissionError:  # the first write will tell
            return "master"
        return text_of(answer[0])

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """A primary that may not write any more is none: ask again where it is."""
        try:
            return await super().read_response(*args, **options)
        except ResponseError as refusal:
            if not isinstance(refusal, ReadOnlyError) and not _lonely(refusal):
                raise
            await self.disconnect(nowait=True)
            raise NoPrimary(str(refusal)) from refusal


class PrimaryTlsConnection(PrimaryConnection, SSLConnection):
    """The same by TLS."""


async def _greeted(_: Connection) -> None:
    """`_connect` has done it."""


def _lonely(refusal: ResponseError) -> bool:
    """Whether a primary refuses to write without its replicas (`min-replicas-to-write`)."""
    return str(refusal).startswith("NOREPLICAS")
