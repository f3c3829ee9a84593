"""A real Valkey of our own, and where its data lies."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.embedded import EmbeddedServer

_MEMORY = Path("/dev/shm")


@contextmanager
def redis_server(*, on_disk: bool = False) -> Iterator[EmbeddedServer]:
    """It appends and fsyncs before it answers, as always. Where CPU is measured it does so in
    memory: how long a disk takes, and who else uses it, must not be seen in a ratio."""
    place = "/tmp" if on_disk or not _MEMORY.is_dir() else str(_MEMORY)
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=place) as folder:
        server = EmbeddedServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
