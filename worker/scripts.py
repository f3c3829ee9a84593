"""Our Lua scripts, and how Redis confirms that what they wrote is safe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError


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


class Scripts:
    """Our Lua scripts, sent to the server when it does not know them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = {name: redis.register_script(text) for name, text in _sources().items()}

    async def load(self) -> None:
        """Make the server know them all; what it cannot compile it refuses."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for script in self._scripts.values():
                pipe.script_load(script.script)
            await pipe.execute()

    async def run(
        self, name: str, keys: Sequence[str], args: Sequence[Any], confirm: Confirm | None = None
    ) -> list[Any]:
        """The script's answer, once `confirm` has been answered too; both in one round trip."""
        try:
            answers = await self._send(name, keys, args, confirm)
        except NoScriptError:  # the server was restarted; nothing has run
            await self._redis.script_load(self._scripts[name].script)
            answers = await self._send(name, keys, args, confirm)
        if confirm is not None and not confirm.holds(answers[1]):
            raise NotDurable(f"{confirm.command[0]} answered {answers[1]}")
        result: list[Any] = answers[0]
        return result

    async def _send(
        self, name: str, keys: Sequence[str], args: Sequence[Any], confirm: Confirm | None
    ) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.evalsha(self._scripts[name].sha, len(keys), *keys, *args)
            if confirm is not None:
                pipe.execute_command(*confirm.command)
            return await pipe.execute()
