"""arq with what makes it fast: no results, small jobs, many at once, polled as soon as it pays."""

import json
from collections.abc import Sequence
from typing import Any

from tests.bench.peers import arq_naive, job


def _write(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode()


def _read(raw: bytes) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(raw)
    return data


async def enqueue(keys: Sequence[str]) -> None:
    await arq_naive.enqueue(keys, job_serializer=_write)


async def work() -> None:
    await arq_naive.work(
        max_jobs=job.AT_ONCE,
        queue_read_limit=4 * job.AT_ONCE,
        poll_delay=0.25,
        keep_result=0,
        max_tries=2**31 - 1,
        job_serializer=_write,
        job_deserializer=_read,
        log_results=False,
    )


if __name__ == "__main__":
    job.main(enqueue, work)
