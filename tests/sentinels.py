"""A primary, its replicas and their sentinels: real servers on loopback, in one `with`."""

import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.servers import free_port, wait_until
from worker.embedded import EmbeddedServer, find_server

NAME = "main"
Tls = tuple[Path, Path]  #: certificate and key


class Node(EmbeddedServer):
    """A server on a port of loopback (and on its socket, for the test itself)."""

    def __init__(
        self, directory: Path, binary: Path, tls: Tls | None = None, options: Sequence[str] = ()
    ) -> None:
        directory.mkdir()
        super().__init__(directory)
        self._tls, self._options = tls, options
        self.port = free_port()
        self.primary: Node | None = None
        self._binary = binary

    @property
    def own(self) -> redis.Redis:
        """A client of this very server, whatever its role."""
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)

    def role(self) -> str:
        return str(self.ask("ROLE")[0])

    def ask(self, *words: Any) -> Any:
        with self.own as client:
            return client.execute_command(*words)

    def freeze(self) -> None:
        assert self.pid
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.pid
        os.kill(self.pid, signal.SIGCONT)

    def follow(self, primary: "Node") -> None:
        """Be its replica, at once and after the next start."""
        self.primary = primary
        if self.pid:
            self.ask("REPLICAOF", "127.0.0.1", primary.port)

    def follows(self, primary: "Node") -> bool:
        return bool(self.ask("ROLE")[:4] == ["slave", "127.0.0.1", primary.port, "connected"])

    def _command(self) -> list[str]:
        found = str(find_server())
        command = [str(self._binary) if word == found else word for word in super()._command()]
        command += ["--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0"]
        command += ["--repl-timeout", "5", "--repl-backlog-size", "16mb"]
        command += [word for line in self._listening() for word in ("--" + line).split()]
        if self.primary:
            command += ["--replicaof", f"127.0.0.1 {self.primary.port}"]
        return [*command, *self._options]

    def _listening(self) -> list[str]:
        """The lines of its configuration that say where, and how."""
        if self._tls is None:
            return [f"port {self.port}"]
        cert, key = self._tls
        files = [f"tls-cert-file {cert}", f"tls-key-file {key}", f"tls-ca-cert-file {cert}"]
        return [
            "port 0",
            f"tls-port {self.port}",
            "tls-auth-clients no",
            "tls-replication yes",
            *files,
        ]


class SentinelNode(Node):
    """A sentinel that watches `primary`, which it knows as `NAME`."""

    def __init__(
        self, directory: Path, binary: Path, primary: Node, quorum: int, down_after_ms: int
    ) -> None:
        super().__init__(directory, binary, primary._tls)
        self._conf = directory / "sentinel.conf"
        lines = [
            *self._listening(),
            "bind 127.0.0.1",
            f"dir {directory}",
            f"unixsocket {self.socket}",
            f"sentinel monitor {NAME} 127.0.0.1 {primary.port} {quorum}",
            f"sentinel down-after-milliseconds {NAME} {down_after_ms}",
            f"sentinel failover-timeout {NAME} 1000",
        ]
        self._conf.write_text("\n".join(lines) + "\n")

    def state(self) -> dict[str, str]:
        flat = self.ask("SENTINEL", "MASTER", NAME)
        if isinstance(flat, dict):
            return {str(name): str(value) for name, value in flat.items()}
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def _command(self) -> list[str]:
        command = super()._command()
        tie = command[: command.index(str(self._binary))]
        return [*tie, str(self._binary), str(self._conf), "--sentinel"]


@dataclass
class Cluster:
    nodes: list[Node]
    sentinels: list[SentinelNode]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}"

    @property
    def primary(self) -> Node:
        """As the sentinels say."""
        port = int(self.sentinels[0].state()["port"])
        return next(node for node in self.nodes if node.port == port)

    @property
    def replicas(self) -> list[Node]:
        primary = self.primary
        return [node for node in self.nodes if node is not primary]

    def wait_for_another(self, old: Node) -> Node:
        """The new primary, once every sentinel names it and it is one."""

        def named() -> Node | None:
            ports = {int(sentinel.state()["port"]) for sentinel in self.sentinels}
            new = self.primary
            return (
                new if ports == {new.port} and new is not old and new.role() == "master" else None
            )

        new: Node = wait_until(named, 30)
        return new

    def change_over(self) -> Node:
        """A failover as an operator orders it, with everybody well; the new primary."""
        old = self.primary
        wait_until(self._ordered)
        return self.wait_for_another(old)

    def _ordered(self) -> bool:
        try:
            self.sentinels[0].ask("SENTINEL", "FAILOVER", NAME)
        except redis.ResponseError:  # it has not yet heard how its replicas are
            return False
        return True

    def repair(self) -> None:
        """Every server up, and a replica in touch with the primary."""
        primary = self.primary
        for node in self.nodes:
            if node is not primary:
                node.primary = primary
                if node.pid is None:
                    node.start()
                node.follow(primary)
        primary.primary = None
        wait_until(lambda: all(n.follows(primary) for n in self.nodes if n is not primary), 30)

    def wait_until_known(self) -> None:
        """Until the sentinels know each other, and every replica as one that may be promoted."""
        wait_until(lambda: all(self._is_known(s.state()) for s in self.sentinels), 30)

    def _is_known(self, state: dict[str, str]) -> bool:
        others = int(state["num-other-sentinels"]) == len(self.sentinels) - 1
        return others and int(state["num-slaves"]) == len(self.nodes) - 1


@contextmanager
def cluster(
    *,
    nodes: int = 2,
    sentinels: int = 1,
    binary: Path | None = None,
    down_after_ms: int = 500,
    tls: Tls | None = None,
    options: Sequence[str] = (),
) -> Iterator[Cluster]:
    """Servers of which the first is the primary, and sentinels that will agree by majority.

    `down_after_ms`: how long a server must be silent to be taken for dead; `options`: of servers.
    """
    binary = binary or find_server()
    with ExitStack() as stack:
        # /tmp, not the test's folder: a socket's path is short
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ha-", dir="/tmp")))
        servers = [Node(folder / f"n{i}", binary, tls, options) for i in range(nodes)]
        watch = [
            SentinelNode(folder / f"s{i}", binary, servers[0], sentinels // 2 + 1, down_after_ms)
            for i in range(sentinels)
        ]
        for server in [*servers, *watch]:
            if server in servers[1:]:
                server.primary = servers[0]
            server.start()
            stack.callback(_end, server)
            if server is servers[-1]:
                wait_until(lambda: all(n.follows(servers[0]) for n in servers[1:]))
        made = Cluster(servers, watch)
        made.wait_until_known()
        yield made


def _end(server: Node) -> None:
    if server.pid:
        server.thaw()  # a frozen one would not hear
    server.kill()
