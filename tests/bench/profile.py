"""Where the CPU of an inquiry and of a notification goes: `python -m tests.bench.profile`.

The worker and the receiver run as in the bench, under `tests.bench.sampler`. Each stack counts for
the first of `_GROUPS` that it is found to be in, from its innermost function outwards; so a call of
redis-py's into asyncio counts for redis-py.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

#: By a part of a function's name, as the sampler writes it: what it counts for.
_GROUPS = (
    ("signature.py:signature_header", "sign"),
    ("signature.py:Signer", "sign"),
    ("signature.py:", "verify"),
    ("bench/sampler", "the sampler"),
    ("importlib", "start: imports"),
    ("structlog", "log"),
    ("logging/", "log"),
    ("worker/logs.py", "log"),
    ("worker/condense.py", "log"),
    ("jobs/report.py", "log"),
    ("receiver.py:Visit", "log"),
    ("Scripts.", "Redis client"),
    ("Pipeline.", "Redis client"),
    ("redis/", "Redis client"),
    ("_parsers/", "Redis client"),
    ("Connection.", "Redis client"),
    ("aiohttp/", "aiohttp"),
    ("worker/http_server.py", "aiohttp"),
    ("worker/gateway.py", "gateway call, own code"),
    ("worker/requests.py", "gateway call, own code"),
    ("worker/messages.py", "read the message"),
    ("worker/strict_json.py", "read the message"),
    ("worker/records.py", "record to hash and back"),
    ("worker/store.py", "store, own code"),
    ("jobs/", "judge and decide"),
    ("dataclasses.py", "judge and decide"),
    ("worker/receiver.py", "receiver, own code"),
    ("arq/", "queue"),
    ("worker/dispatch.py", "queue"),
    ("worker/queue.py", "queue"),
    ("worker/arq_jobs.py", "queue"),
    ("asyncio/", "event loop"),
    ("selectors.py", "event loop"),
)
_CLIENTS = ("Redis client", "aiohttp", "log")  #: what they have others do for them is theirs
_HELPERS = ("asyncio/", "selectors.py", "json/", "contextlib")


def group(stack: str) -> str:
    """What a sample counts for."""
    for name in reversed(stack.split(";")):
        if any(name.startswith(helper) for helper in _HELPERS) and ".py:Pipeline" not in name:
            continue
        for part, what in _GROUPS:
            if part in name:
                return what
    return "event loop"


def shares(file: Path) -> dict[str, float]:
    """Percent of the samples, the largest first."""
    counts: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        counts[group(stack)] += int(count)
    total = sum(counts.values())
    return {what: 100 * count / total for what, count in counts.most_common()}


def lines(file: Path) -> Iterator[str]:
    for what, percent in shares(file).items():
        yield f"{percent:5.1f} %  {what}"


if __name__ == "__main__":
    print("\n".join(lines(Path(sys.argv[1]))))
