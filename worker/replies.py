"""What Redis answers: bytes or text, depending on how the client was made."""

from typing import Any

from redis.asyncio import Redis

from jobs.model import Ms


def text_of(raw: Any, errors: str = "strict") -> str:
    """The text of one answer; `errors` as in `bytes.decode`."""
    return raw.decode(errors=errors) if isinstance(raw, bytes) else str(raw)


def ms_of(time: tuple[int, int]) -> Ms:
    """Redis time, as TIME answers it: seconds and microseconds."""
    seconds, micros = time
    return int(seconds) * 1000 + int(micros) // 1000


async def now_of(redis: Redis) -> Ms:
    """Redis time."""
    return ms_of(await redis.time())
