"""(p) Where the CPU of an inquiry and of a notification goes.

Worker and receiver run as in (a) and (b), with `tests.bench.sampler` inside. Each stack counts for
the first of `_GROUPS` that it is found to be in, from its innermost function outwards, where what
the event loop and JSON do counts for who has them do it.
"""

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.bench.frame import Part, Sizes, Table
from tests.bench.inquiry import contestants, follow, sampled
from tests.bench.receiver import received

#: By a part of a function's name, as the sampler writes it: what it counts for.
_GROUPS = (
    ("signature.py:signature_header", "sign"),
    ("signature.py:sign", "sign"),
    ("signature.py:header_of", "sign"),
    ("worker/signer.py", "sign"),
    ("concurrent/", "sign"),
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
_NOT_COUNTED = ("the sampler", "start: imports")
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
    """Percent of the CPU, the largest first; neither the start nor the sampler is in it."""
    spent: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        stack, _, microseconds = line.rpartition(" ")
        spent[group(stack)] += int(microseconds)
    for what in _NOT_COUNTED:
        spent.pop(what, None)
    total = sum(spent.values())
    return {what: 100 * each / total for what, each in spent.most_common()}


def measure(sizes: Sizes, say: Callable[[str], None]) -> Part:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        worker, receiver = Path(folder) / "worker", Path(folder) / "receiver"
        ours = next(who for who in contestants(sizes.payments) if who.name == "ours")
        ours = replace(ours, words=sampled(ours.words, worker), ends_well=True)
        follow(ours, 2 * sizes.payments)
        say("an inquiry")
        received("ours", sizes.notifications, receiver)
        say("a notification")
        found = {"an inquiry": shares(worker), "a notification": shares(receiver)}
    return Part(
        tables=[
            Table(
                f"(p) the CPU of {what}",
                ("", "%"),
                [[name, percent] for name, percent in each.items() if percent >= 0.5],
            )
            for what, each in found.items()
        ],
        raw=found,
    )
