"""A container is well when the processes in it say so; without curl, and in a blink."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.servers import (
    ROOT,
    bare,
    environ,
    free_port,
    own_server,
    process,
    reconciler,
    wait_until,
)
from worker import healthcheck
from worker.settings import SETTINGS


def check(environ: dict[str, str], *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "worker.healthcheck", *words]
    env = {**bare(), **environ}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def test_it_knows_the_ports_as_the_settings_do() -> None:
    defaults = {entry.name: entry.default for entry in SETTINGS}
    assert {name: defaults[name] for name in healthcheck.PORTS} == healthcheck.PORTS
    assert defaults["ADMIN_HOST"] in ("127.0.0.1", "localhost")


@pytest.mark.once
@pytest.mark.parametrize("command", ["receiver", "worker", "run"])
def test_a_process_is_alive_also_without_redis_and_ready_only_with_it(
    tmp_path: Path, command: str
) -> None:
    given = {name: str(free_port()) for name in healthcheck.PORTS}
    given |= {"ADMIN_HOST": "0.0.0.0", "ADMIN_TOKEN": "a-token-of-sixteen"}
    with own_server() as server:
        settings = environ(server.url, "reconciler", "http://127.0.0.1:9") | given
        with process(tmp_path, settings, *reconciler(command)) as running:
            for name in ("receiver", "worker") if command == "run" else (command,):
                running.wait_for(f"{name}.started")
            assert check(given) == (0, "ok")
            wait_until(lambda: check(given, "--ready") == (0, "ok"))
            server.stop()
            wait_until(lambda: "does not answer" in check(given, "--ready")[1])
            assert check(given, "--ready")[0] == 1
            assert check(given) == (0, "ok")
    assert check(given)[0] == 1


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text="not well")

    app = web.Application()
    app.router.add_get("/healthz", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def test_a_process_that_hangs_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = str(hanging.getsockname()[1])
        env = {"RECEIVER_ADMIN_PORT": port, "WORKER_ADMIN_PORT": "0"}
        assert healthcheck.main([], env) == 1


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
async def test_what_one_of_two_says_is_heard(status: int, code: int) -> None:
    async with answering(200) as well, answering(status) as other:
        env = {"RECEIVER_ADMIN_PORT": str(well), "WORKER_ADMIN_PORT": str(other)}
        assert await asyncio.to_thread(healthcheck.main, [], env) == code


def test_where_nobody_may_be_asked_nothing_is_well() -> None:
    code, said = check({"RECEIVER_ADMIN_PORT": "0", "WORKER_ADMIN_PORT": "0"})
    assert (code, said) == (1, "nobody listens on RECEIVER_ADMIN_PORT or WORKER_ADMIN_PORT")


def test_it_imports_little() -> None:
    heavy = "{'aiohttp', 'redis', 'asyncio', 'cryptography', 'structlog'}"
    code = f"import sys, worker.healthcheck; print({heavy} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert told.stdout.strip() == "set()"
