"""Our Lua scripts, and how Redis confirms that what they wrote is safe."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

#: How long a call waits for those on their way: nearly always they are back before.
PATIENCE_SECONDS = 0.05
#: A confirmation may take a second, where Redis syncs its disk every second: others go meanwhile.
CONFIRMING_SECONDS = 0.005


class NotDurable(RedisError):
    """Redis took the write, but did not confirm in time that it is safe."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """How Redis is asked whether a write is safe: a command, and the count it must answer."""

    command: tuple[str | int, ...]
    at_least: int
    replicas: int = 0  #: of WAITAOF's two counts, the second

    def holds(self, answer: Any) -> bool:
        """Whether this answer of Redis says so: `WAIT` gives one count, `WAITAOF` two."""
        counts = answer if isinstance(answer, list) else [answer]
        wanted = (self.at_least, self.replicas)
        return all(count >= least for count, least in zip(counts, wanted, strict=False))


@cache
def _sources() -> Mapping[str, str]:
    """The scripts by name, each with the prelude."""
    folder = resources.files("worker") / "lua"
    files = [file for file in folder.iterdir() if file.name.endswith(".lua")]
    texts = {file.name.removesuffix(".lua"): file.read_text() for file in files}
    prelude = texts.pop("prelude")
    return {name: prelude + text for name, text in texts.items()}


@dataclass(slots=True, eq=False)
class Call:
    """A script that somebody waits for."""

    name: str
    keys: Sequence[str]
    args: Sequence[Any]
    answer: "asyncio.Future[list[Any]]"


class Lane:
    """Calls that need the same confirmation. What comes while one batch is on its way makes up the
    next, so the busier we are the fewer round trips there are; who comes alone waits for nobody."""

    def __init__(self, send: Callable[[Sequence[Call]], Awaitable[None]], patience: float) -> None:
        self._send, self._patience = send, patience
        self._waiting: list[Call] = []
        self.flights: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Call) -> None:
        self._waiting.append(call)
        if self._timer is None:
            delay = self._patience if self.flights else 0.0
            self._timer = asyncio.get_running_loop().call_later(delay, self._depart)

    def _depart(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            calls, self._waiting = self._waiting, []
            flight = asyncio.ensure_future(self._send(calls))
            self.flights.add(flight)
            flight.add_done_callback(self._land)

    def _land(self, flight: "asyncio.Task[None]") -> None:
        self.flights.discard(flight)
        self._depart()


class Scripts:
    """Our Lua scripts, sent to the server when it does not know them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = {name: redis.register_script(text) for name, text in _sources().items()}
        self._lanes: dict[Confirm | None, Lane] = {}

    async def load(self) -> None:
        """Make the server know them all; what it cannot compile it refuses."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for script in self._scripts.values():
                pipe.script_load(script.script)
            await pipe.execute()

    async def run(
        self, name: str, keys: Sequence[str], args: Sequence[Any], confirm: Confirm | None = None
    ) -> list[Any]:
        """The script's answer, once `confirm` has been answered too.

        Calls that are made at the same time go in one round trip, and share the confirmation.
        """
        call = Call(name, keys, args, asyncio.get_running_loop().create_future())
        self._lane(confirm).add(call)
        return await call.answer

    async def end(self) -> None:
        """Give up what is on its way: who waited for it has been cancelled."""
        flights = [flight for lane in self._lanes.values() for flight in lane.flights]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _lane(self, confirm: Confirm | None) -> Lane:
        lane = self._lanes.get(confirm)
        if lane is None:
            patience = PATIENCE_SECONDS if confirm is None else CONFIRMING_SECONDS
            lane = self._lanes[confirm] = Lane(partial(self._fly, confirm), patience)
        return lane

    async def _fly(self, confirm: Confirm | None, calls: Sequence[Call]) -> None:
        try:
            answers = await self._send(calls, confirm)
            if unknown := [n for n, each in enumerate(answers) if isinstance(each, NoScriptError)]:
                again = [calls[n] for n in unknown]  # the server was restarted; none of them ran
                for name in {call.name for call in again}:
                    await self._redis.script_load(self._scripts[name].script)
                for n, answer in zip(unknown, await self._send(again, confirm), strict=True):
                    answers[n] = answer
        except Exception as fault:
            answers = [fault] * len(calls)
        for call, answer in zip(calls, answers, strict=True):
            _give(call.answer, answer)

    async def _send(self, calls: Sequence[Call], confirm: Confirm | None) -> list[Any]:
        """What each call answered, or the fault of it."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.evalsha(self._scripts[call.name].sha, len(call.keys), *call.keys, *call.args)
            if confirm is not None:
                pipe.execute_command(*confirm.command)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        return answers if confirm is None else confirmed(answers[:-1], answers[-1], confirm)


def confirmed(answers: list[Any], counts: Any, confirm: Confirm) -> list[Any]:
    """The answers, where they are known to be safe."""
    if isinstance(counts, Exception):
        doubt: Exception = counts
    elif confirm.holds(counts):
        return answers
    else:
        doubt = NotDurable(f"{confirm.command[0]} answered {counts}")
    return [each if isinstance(each, Exception) else doubt for each in answers]


def _give(waits: "asyncio.Future[Any]", answer: Any) -> None:
    if waits.done():  # who asked has been cancelled
        return
    if isinstance(answer, Exception):
        waits.set_exception(answer)
    else:
        waits.set_result(answer)
