"""Jobs as they lie in arq's queue: JSON with a version, never pickle."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from worker.times import MAX_TIME

VERSION = 1


def serialize(job: dict[str, Any]) -> bytes:
    """arq's job or result as JSON; what JSON cannot hold is a bug of the caller."""
    return json.dumps({"v": VERSION, **job}, separators=(",", ":"), default=str).encode()


def deserialize(raw: bytes) -> dict[str, Any]:
    """The job; ValueError if it is of another version, or no JSON at all."""
    job = json.loads(raw)
    if not isinstance(job, dict) or job.get("v", VERSION) != VERSION:
        raise ValueError("not a job of this version")
    for name, fits in _SHAPE.items():
        if name in job and not fits(job[name]):
            raise ValueError(f"not a job: {name} is not what arq writes there")
    return job


def _number(most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and 0 <= value <= most


#: What arq takes for granted: a worker that meets anything else ends, and so does each after it.
_SHAPE: Mapping[str, Callable[[Any], bool]] = {
    "f": lambda value: isinstance(value, str),
    "a": lambda value: isinstance(value, list),
    "k": lambda value: isinstance(value, dict),
    "t": lambda value: value is None or _number(2**31 - 1)(value),
    "et": _number(MAX_TIME),
}
