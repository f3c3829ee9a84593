"""A server that is started with deploy/redis.conf is one on which payments are safe."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import OtherServer, debian_redis, environ, own_server, until
from tests.test_acl import filled
from worker import connect, probes
from worker.embedded import NoServer
from worker.facts import ask
from worker.rights import Role
from worker.settings import Settings, load

pytestmark = pytest.mark.once  # what is under test is not Python

DEPLOY = Path(__file__).parent.parent / "deploy"
FILE = DEPLOY / "redis.conf"
USERS = "/etc/reconciler/redis-users.conf"


def options() -> dict[str, str]:
    """What the file sets, by name."""
    lines = re.findall(r"^([a-z-]+) (.+)$", FILE.read_text("utf-8"), re.MULTILINE)
    assert len(dict(lines)) == len(lines)
    return dict(lines)


class FileAlone(OtherServer):
    """No option on its command line but where it listens and writes."""

    def _command(self) -> list[str]:
        command = super()._command()
        at = command.index("--save")
        assert command[at:] == [
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
            *("--maxmemory-policy", "noeviction"),
        ]
        return command[:at]


@contextmanager
def from_file(
    folder: Path,
    text: str,
    program: str | None = None,
    prepare: Callable[[Path], object] | None = None,
) -> Iterator[OtherServer]:
    """A server with this redis.conf, and users whose passwords are known."""
    users = filled((DEPLOY / "users.conf").read_text("utf-8"))
    (folder / "users.conf").write_text(users.replace(" +waitaof", "") if program else users)
    (folder / "redis.conf").write_text(text.replace(USERS, str(folder / "users.conf")))
    # /tmp, not the test's folder: a socket's path is short
    with tempfile.TemporaryDirectory(prefix="reconciler-", dir="/tmp") as data:
        server = FileAlone(Path(data))
        server.config, server.program = folder / "redis.conf", program
        if prepare:
            prepare(Path(data))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module", params=["valkey", "redis-7.0"])
def server(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherServer]:
    program = debian_redis() if request.param == "redis-7.0" else None
    folder = tmp_path_factory.mktemp("conf")
    with from_file(folder, FILE.read_text("utf-8"), program) as running:
        yield running


def settings_of(server: OtherServer, who: str) -> Settings:
    url = f"{server.url}?username={who}&password=pw-{who.removeprefix('reconciler-')}"
    return load(environ(url, "reconciler", "http://127.0.0.1:9"))


@pytest.mark.parametrize("role", [Role.RECEIVER, Role.WORKER])
async def test_every_probe_passes_for_a_user_who_may_see_the_configuration(
    server: OtherServer, role: Role
) -> None:
    settings = settings_of(server, "admin")
    redis = connect.client(settings.redis_url)
    facts = await ask(redis, settings, role)
    found = [finding for finding in probes.judge(facts, settings) if finding.what != "state"]
    assert found == []
    assert facts.config["appendfsync"] == "always"
    await redis.aclose()


@pytest.mark.parametrize("role", [Role.RECEIVER, Role.WORKER])
async def test_with_its_own_user_a_process_only_cannot_see_how_the_server_syncs(
    server: OtherServer, role: Role
) -> None:
    settings = settings_of(server, f"reconciler-{role}")
    redis = connect.client(settings.redis_url)
    found = probes.judge(await ask(redis, settings, role), settings)
    assert {(finding.what, finding.level) for finding in found} <= {
        ("persistence", probes.Level.WARN),
        ("state", probes.Level.WARN),
    }
    await redis.aclose()


async def test_what_was_answered_is_there_again_after_a_power_cut(server: OtherServer) -> None:
    redis = connect.client(settings_of(server, "admin").redis_url, tries=5)
    await redis.set("kept", "1")
    server.kill()
    server.start()
    assert await redis.get("kept") == b"1"
    await redis.delete("kept")
    await redis.aclose()


async def test_a_server_without_its_users_does_not_start(tmp_path: Path) -> None:
    assert options()["include"] == USERS
    file = tmp_path / "redis.conf"
    file.write_text(FILE.read_text("utf-8").replace(USERS, str(tmp_path / "none.conf")))
    with pytest.raises(NoServer), own_server(config=file):
        pass


async def test_it_has_a_limit_and_refuses_writes_there(server: OtherServer) -> None:
    redis = connect.client(settings_of(server, "admin").redis_url)
    told = await redis.info("memory")
    assert (told["maxmemory_human"], told["maxmemory_policy"]) == ("512.00M", "noeviction")
    await redis.aclose()


@pytest.mark.parametrize(
    ("safe", "unsafe"),
    [
        ("appendonly yes", "appendonly no"),
        ("appendfsync always", "appendfsync everysec"),
        ("maxmemory-policy noeviction", "maxmemory-policy allkeys-lru"),
    ],
)
async def test_each_line_that_matters_is_missed_when_it_is_another(
    tmp_path: Path, safe: str, unsafe: str
) -> None:
    text = FILE.read_text("utf-8").replace(f"\n{safe}\n", f"\n{unsafe}\n")
    assert unsafe in text
    with from_file(tmp_path, text) as server:
        settings = settings_of(server, "admin")
        redis = connect.client(settings.redis_url)
        found = probes.judge(await ask(redis, settings, Role.WORKER), settings)
        assert probes.Level.REFUSE in {finding.level for finding in found}
        await redis.aclose()


# Backups


def restore(backup: Path, data: Path) -> "subprocess.CompletedProcess[str]":
    command = ["sh", str(DEPLOY / "restore-redis"), str(backup), str(data)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(params=["valkey", "redis-7.0"])
async def backup(request: Any, tmp_path: Path) -> AsyncIterator[tuple[Path, str | None]]:
    """A backup of a server that holds one key, and the program that made it."""
    program = debian_redis() if request.param == "redis-7.0" else None
    with from_file(tmp_path, FILE.read_text("utf-8"), program) as server:
        redis = connect.client(settings_of(server, "admin").redis_url)
        await redis.set("kept", "1")
        await redis.bgsave()
        dump = server.directory / "dump.rdb"

        async def saved() -> bool:
            return dump.is_file() and not (await redis.info())["rdb_bgsave_in_progress"]

        await until(saved)
        await redis.aclose()
        shutil.copy(dump, tmp_path / "backup.rdb")
    yield tmp_path / "backup.rdb", program


async def kept_in(server: OtherServer) -> Any:
    redis = connect.client(settings_of(server, "admin").redis_url)
    kept = await redis.get("kept")
    await redis.aclose()
    return kept


async def test_a_backup_is_read_where_it_was_laid_and_goes_on_being_kept(
    backup: tuple[Path, str | None], tmp_path: Path
) -> None:
    file, program = backup
    with from_file(
        tmp_path, FILE.read_text("utf-8"), program, lambda d: restore(file, d)
    ) as server:
        assert await kept_in(server) == b"1"
        server.kill()
        server.start()
        assert await kept_in(server) == b"1"
        again = restore(file, server.directory)
        assert again.returncode == 1 and "exists" in again.stderr


async def test_a_dump_alone_is_not_read(backup: tuple[Path, str | None], tmp_path: Path) -> None:
    """Hence the script: without a word the server would start empty."""
    file, program = backup
    text = FILE.read_text("utf-8")
    with from_file(tmp_path, text, program, lambda d: shutil.copy(file, d / "dump.rdb")) as server:
        assert await kept_in(server) is None


def test_what_is_no_whole_backup_is_refused(tmp_path: Path) -> None:
    file, whole = tmp_path / "backup.rdb", b"REDIS0011" + b"x" * 20 + b"\xff" + b"8 bytes."
    for raw in (b"", b"kept", whole[:-3], whole + b"f" * 40, whole[1:]):
        file.write_bytes(raw)
        refused = restore(file, tmp_path)
        assert refused.returncode == 1 and "RDB" in refused.stderr
    assert not (tmp_path / "appendonlydir").exists()
    file.write_bytes(whole)
    assert restore(file, tmp_path).returncode == 0
