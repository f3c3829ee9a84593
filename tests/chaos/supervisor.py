"""Keeps processes running as systemd would: whoever ends is started again after a moment."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

RESTART_SECONDS = 0.2  #: systemd's RestartSec, 100 ms by default
STOP_SECONDS = 20  #: systemd's TimeoutStopSec; our worker drains for 15 s at most


@dataclass(eq=False, slots=True)
class Service:
    """One process after another under one name, each with a log of its own."""

    name: str
    words: Sequence[str]
    environ: Mapping[str, str]
    folder: Path
    ready_line: str  #: the log event that says that it works
    starts: int = 0
    frozen: bool = False
    stopping: bool = False
    unasked: list[str] = field(default_factory=list)  #: ends that nobody asked for
    _asked_at: float = 0  #: when it was last told to end; 0: it was not
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.{self.starts:04}.log"

    @property
    def ready(self) -> bool:
        """Whether this process has said that it works."""
        return self.running and f'"{self.ready_line}"' in self.log.read_text(errors="replace")

    def start(self) -> None:
        self.starts += 1
        self._asked_at = 0
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.words,
                env=dict(self.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, number: signal.Signals) -> bool:
        """Send it a signal that ends it; False if there is nothing to end."""
        if not self.running:
            return False
        self._asked_at = self._asked_at or time.monotonic()
        self._send(number)
        return True

    async def freeze(self, seconds: float) -> None:
        """Stop it in its tracks, and let it go on where it was."""
        process = self._process
        if process is None or not self.running:
            return
        self._send(signal.SIGSTOP)
        self.frozen = True
        try:
            await asyncio.sleep(seconds)
        finally:
            self.frozen = False
            self._asked_at = self._asked_at and time.monotonic()  # it could not end so far
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def keep_running(self) -> None:
        """Until cancelled."""
        while True:
            self.start()
            while self.running:
                await asyncio.sleep(0.02)
                self._end_if_hung()
            if not self._asked_at:
                code = self._process.returncode if self._process else "?"
                self.unasked.append(f"{self.log.name}: {self.name} ended by itself, code {code}")
            await asyncio.sleep(RESTART_SECONDS)

    def _end_if_hung(self) -> None:
        asked = self._asked_at and not self.frozen
        if asked and time.monotonic() > self._asked_at + STOP_SECONDS and self.running:
            self.unasked.append(f"{self.log.name}: {self.name} did not end in {STOP_SECONDS} s")
            self.close()

    async def stop(self) -> None:
        """End it in good order, by force if it hangs."""
        self.kill(signal.SIGTERM)
        while self.running:
            await asyncio.sleep(0.05)
            self._end_if_hung()

    def close(self) -> None:
        """End it by force, if it still runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
