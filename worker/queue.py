"""Jobs as they lie in arq's queue: JSON with a version, never pickle."""

import json
from typing import Any

VERSION = 1


def serialize(job: dict[str, Any]) -> bytes:
    """arq's job or result as JSON; what JSON cannot hold is a bug of the caller."""
    return json.dumps({"v": VERSION, **job}, separators=(",", ":"), default=str).encode()


def deserialize(raw: bytes) -> dict[str, Any]:
    """The job; ValueError if it is of another version, or no JSON at all."""
    job = json.loads(raw)
    if not isinstance(job, dict) or job.get("v", VERSION) != VERSION:
        raise ValueError("not a job of this version")
    return job
