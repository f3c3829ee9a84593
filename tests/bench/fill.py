"""A million open payments in a minute: copies of one that was really followed.

A worker tracks a payment and inquires until its timeline has four entries. What it left in Redis is
written again under other names of the same length, in commands that are made by replacing the name.
Only the times differ: the copies are due in a day, so that they lie there and do nothing.
"""

import socket
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from jobs.schedule import DAY
from tests.bench import gateway
from tests.bench.inquiry import KEYS
from tests.bench.server import TcpServer, redis_server
from tests.keys import CLIENT_ID
from tests.servers import environ, now_ms, process, reconciler, wait_until

ENTRIES = 4  #: of the timeline
_ORIGINAL = f"copied-{0:025}"
_STATUSES = ("PROCESSING", "PENDING", "PROCESSING")
_AT_ONCE = 500


def name_of(number: int) -> str:
    """As long as a UUID without dashes."""
    return f"copied-{number:025}"


@dataclass(frozen=True, slots=True)
class Original:
    """A payment as its keys are: what each holds, as far as it is there."""

    hash: Mapping[bytes, bytes]
    timeline: list[bytes]
    job: bytes

    def commands(self, name: str, due: int) -> bytes:
        """What writes the same for another name, in Redis' own protocol."""
        key = f"{CLIENT_ID}:{name}"
        job = KEYS.job(key)
        fields = [part for field in self.hash.items() for part in field]
        made: list[tuple[str | bytes, ...]] = [
            ("HSET", KEYS.payment(key), *fields),
            ("RPUSH", KEYS.timeline(key), *self.timeline),
            ("ZADD", KEYS.open, str(due), key),
            ("ZADD", KEYS.queue, str(due), job),
            ("SET", f"arq:job:{job}", self.job, "PX", str(31 * DAY)),
        ]
        packed = b"".join(map(_pack, made))
        return packed.replace(_ORIGINAL.encode(), name.encode())


COMMANDS = 5  #: that write one payment


def _pack(words: Iterable[str | bytes]) -> bytes:
    given = [word.encode() if isinstance(word, str) else word for word in words]
    parts = [b"*%d\r\n" % len(given)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in given]
    return b"".join(parts)


def original() -> Original:
    """One payment, tracked by command and followed by a worker."""
    with ExitStack() as stack:
        server = stack.enter_context(redis_server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        asked = stack.enter_context(gateway.running(gateway.answers([_ORIGINAL], _STATUSES)))
        given = environ(server.url, KEYS.prefix, asked.url)
        given |= {"RECONCILER_SCHEDULE": "0.1,0.1,0.1,3600", "PENDING_SCHEDULE": "0.1,3600"}
        client = stack.enter_context(Redis.from_url(server.url))
        key = f"{CLIENT_ID}:{_ORIGINAL}"
        client.xadd(KEYS.commands, {"type": "payment.track", "data": _TRACK})
        stack.enter_context(process(folder, given, *reconciler("worker")))
        wait_until(lambda: client.llen(KEYS.timeline(key)) >= ENTRIES)
        wait_until(lambda: client.exists(f"arq:job:{KEYS.job(key)}"))
        return read(client, key)


_TRACK = (
    f'{{"paymentRequestId":"{_ORIGINAL}","paymentAmount":{{"currency":"USD","value":"599"}},'
    '"expiresIn":2000000}'
)


def read(client: Any, key: str) -> Original:
    """What Redis holds of a payment."""
    return Original(
        hash=client.hgetall(KEYS.payment(key)),
        timeline=client.lrange(KEYS.timeline(key), 0, -1),
        job=client.get(f"arq:job:{KEYS.job(key)}") or b"",
    )


def fill(server: TcpServer, copied: Original, count: int) -> float:
    """Write so many copies; the bytes of Redis that each of them takes, everything included."""
    with Redis.from_url(server.url) as client:
        before = _used(client)
        client.config_set("appendfsync", "no")  # it only has to be there
        template = copied.commands(_ORIGINAL, now_ms() + DAY)
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            for first in range(0, count, _AT_ONCE):
                names = [name_of(n).encode() for n in range(first, first + _AT_ONCE)]
                wanted = names[: count - first]
                line.sendall(
                    b"".join(template.replace(_ORIGINAL.encode(), name) for name in wanted)
                )
                _take_answers(line, len(wanted) * COMMANDS)
        client.config_set("appendfsync", "always")
        found: Any = client.zcard(KEYS.open)
        assert found == count, f"{found} of {count} are there"
        return (_used(client) - before) / count


def _take_answers(line: socket.socket, count: int) -> None:
    """Each is one line."""
    got = b""
    while got.count(b"\n") < count:
        got += line.recv(1 << 16)
    assert b"\r\n-" not in got and not got.startswith(b"-"), got[:200]


def _used(client: Any) -> int:
    time.sleep(0.2)  # buffers of the connection before are given back
    return int(client.info("memory")["used_memory"])
