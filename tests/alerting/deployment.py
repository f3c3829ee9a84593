"""A worker and a receiver, real processes with a Valkey of their own, that are scraped."""

import asyncio
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from tests.alerting.promtool import Scrape
from tests.servers import OtherServer, Process, environ, own_server, send, wait_until
from worker.keys import Keys

STAGED = (sys.executable, "-m", "tests.alerting.staged")
KEYS = Keys("reconciler")
UP = "reconciler_redis_up"
SHOP = "shop"  #: the merchant's consumer group


@dataclass
class Deployment:
    state: str  #: well or sick
    folder: Path
    server: OtherServer
    redis: Any
    environ: Mapping[str, str]
    port: int  #: for notifications
    admin: Mapping[str, int]  #: the admin ports, by kind of process
    keys: Path  #: the file of the gateway's public keys
    processes: dict[str, Process] = field(default_factory=dict)  #: those that run, or ran last
    started: list[Process] = field(default_factory=list)

    def start(self, kind: str) -> None:
        running = Process(self.folder, self.environ, *STAGED, self.state, kind)
        self.processes[kind] = running
        self.started.append(running)
        running.wait_for(f"{kind}.started")
        self.wait_until_shown(kind, UP, lambda up: up == 1)

    def close(self) -> None:
        for running in self.started:
            running.close()

    @property
    def events(self) -> frozenset[str]:
        """The names of all that was logged."""
        return frozenset(line["event"] for running in self.started for line in running.lines)

    def wait_for(self, *events: str) -> None:
        wait_until(lambda: set(events) <= self.events)

    def post(self, *requests: bytes) -> None:
        """Send these to the receiver, one after the other."""

        async def one_by_one() -> None:
            for request in requests:
                await send(self.port, request)

        asyncio.run(one_by_one())

    @contextmanager
    def connections(self, count: int) -> Iterator[None]:
        """So many that say nothing."""
        address = ("127.0.0.1", self.port)
        made = [socket.create_connection(address, timeout=10) for _ in range(count)]
        try:
            yield
        finally:
            for connection in made:
                connection.close()

    def wait_until_shown(self, kind: str, series: str, fits: Callable[[float], bool]) -> None:
        """Gauges tell of what happened some time ago."""

        def shown() -> bool:
            found = re.search(
                rf"^{re.escape(series)} (\S+)$", _metrics(self.admin[kind]) or "", re.M
            )
            return found is not None and fits(float(found[1]))

        wait_until(shown)

    def scrape(self) -> Sequence[Scrape]:
        return [
            Scrape(f"reconciler-{kind}", f"{kind}:{port}", _metrics(port), time.time())
            for kind, port in self.admin.items()
        ]


def _metrics(port: int) -> str | None:
    """What Prometheus is told; None where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


@contextmanager
def deployed(state: str, folder: Path, gateway_url: str) -> Iterator[Deployment]:
    with own_server() as server, Redis(unix_socket_path=str(server.socket)) as redis:
        port, worker, receiver = _free_ports(3)
        given = environ(
            server.url,
            KEYS.prefix,
            gateway_url,
            RECEIVER_PORT=str(port),
            WORKER_ADMIN_PORT=str(worker),
            RECEIVER_ADMIN_PORT=str(receiver),
            GATEWAY_TIMEOUT_SECONDS="0.3",
            OUTCOME_GROUPS=SHOP,
        )
        admin = {"worker": worker, "receiver": receiver}
        keys = folder / f"{state}.keys"
        keys.write_text(given.pop("ALIPAY_PUBLIC_KEYS"))
        given["ALIPAY_PUBLIC_KEYS_FILE"] = str(keys)
        made = Deployment(state, folder, server, redis, given, port, admin, keys)
        try:
            yield made
        finally:
            made.close()


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
