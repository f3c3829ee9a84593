"""A real Valkey of our own, and where its data lies."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import free_port
from worker.embedded import EmbeddedServer

_MEMORY = Path("/dev/shm")


class TcpServer(EmbeddedServer):
    """It also listens where most servers do, and where every client library can reach it."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self._options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        return [
            *super()._command(),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            *self._options,
        ]


@contextmanager
def redis_server(*options: str, on_disk: bool = False) -> Iterator[TcpServer]:
    """It appends and fsyncs before it answers, as always. Where CPU is measured it does so in
    memory: how long a disk takes, and who else uses it, must not be seen in a ratio."""
    place = "/tmp" if on_disk or not _MEMORY.is_dir() else str(_MEMORY)
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=place) as folder:
        server = TcpServer(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
