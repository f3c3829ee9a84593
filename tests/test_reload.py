"""Accounts and keys are read again while a process runs: all of it, or nothing and an error."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from redis.asyncio import Redis
from structlog.typing import EventDict

from tests.accounts import SIDES, A, B, account, environ_with, write_accounts
from tests.keys import CLIENT_ID, key_text, public_key
from tests.servers import (
    ARQ_WORKER,
    Asked,
    Process,
    environ,
    free_port,
    inquired,
    notification,
    now_ms,
    paid,
    process,
    reconciler,
    scripted_gateway,
    send,
    signed_answer,
    until,
    wait_until,
)
from worker import cli, client
from worker.cli import processes
from worker.cli.base import BAD_SETTINGS, Fault
from worker.gateway import open_session
from worker.reload import Reloader, reloading
from worker.settings import Need, Settings, Source
from worker.signature import Signed, Untrusted, verify
from worker.tools import Accounts

URL = "https://open-sea-global.alipay.com"
ONE, TWO = (account(side, URL) for side in SIDES.values())
THEIRS, THEIRS_2 = (key_text(f"alipay_{v}", "public_x509_b64") for v in ("v1", "v2"))
OURS, OURS_2 = (key_text(f"merchant_{v}", "private_pkcs8_b64") for v in ("v1", "v2"))


@pytest.fixture(autouse=True)
def hangups_as_usual() -> Iterator[None]:
    """What this process ignores, those that it starts would ignore from the outset."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


class Bench:
    """A process' settings, and the file that they come from."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "accounts.toml"
        write_accounts(self.path, ONE, TWO)
        given = environ_with(self.path, "redis://127.0.0.1:6379/0", "none")
        self.source = Source(environ=given, dotenv=folder / ".env")
        self.settings: Settings = self.source.load()
        self.reloader = Reloader(self.source, self.settings)

    async def settle(self) -> None:
        """As long as it takes a change to be seen and read."""
        for _ in range(3):
            await self.reloader.look()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def told(lines: list[EventDict]) -> list[dict[str, Any]]:
    return [{name: line[name] for name in line if name != "log_level"} for line in lines]


# What is taken


async def test_what_has_not_changed_is_not_read_again(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    before = dict(bench.settings.accounts)
    write_accounts(bench.path, ONE, TWO)  # the same, in another file
    os.utime(bench.path, (1, 1))
    await bench.settle()
    assert bench.settings.accounts == before
    assert log_lines == []


async def test_both_keys_of_the_gateway_are_believed_while_it_changes_and_then_the_new_one_alone(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    held = bench.settings.public_keys  # as the receiver holds it
    write_accounts(bench.path, ONE | {"public_keys": f"1={THEIRS},2={THEIRS_2}"}, TWO)
    await bench.settle()
    assert list(held[A]) == list(bench.settings.accounts[A].public_keys) == [1, 2]
    assert held[A][2].public_numbers() == public_key("alipay_v2").public_numbers()
    write_accounts(bench.path, ONE | {"public_keys": f"2={THEIRS_2}"}, TWO)
    await bench.settle()
    assert list(held[A]) == [2]
    assert events(log_lines) == ["accounts.reloaded"] * 2
    assert log_lines[0]["keys_added"] == [f"{A}: the gateway's, version 2"]
    assert "keys_removed" not in log_lines[0]
    assert log_lines[1]["keys_removed"] == [f"{A}: the gateway's, version 1"]
    assert log_lines[1]["accounts"] == [A, B]


async def test_a_new_key_of_ours_signs_the_next_request_under_its_own_version(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    async with scripted_gateway() as gateway, open_session(1) as session:
        gateway.answer = answered
        unlimited = SimpleNamespace(counted=lambda _, line: line)
        tools = Accounts(bench.settings, session, cast(Any, unlimited))
        write_accounts(bench.path, ONE | {"gateway_url": gateway.url}, TWO)
        await bench.settle()
        held = tools  # as jobs hold it
        await held[A].gateway.inquire(PAYMENT, now_ms())
        new = {"gateway_url": gateway.url, "private_key": OURS_2, "key_version": 2}
        write_accounts(bench.path, ONE | new, TWO)
        await bench.settle()
        await held[A].gateway.inquire(PAYMENT, now_ms())
    assert [signed_under(asked) for asked in gateway.asked] == [
        ("merchant_v1", 1),
        ("merchant_v2", 2),
    ]
    [_, line] = log_lines
    assert line["keys_added"] == [f"{A}: ours, version 2"]
    assert line["keys_removed"] == [f"{A}: ours, version 1"]


async def test_a_key_that_changes_under_the_same_version_counts_as_new(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    write_accounts(bench.path, ONE | {"private_key": OURS_2}, TWO)
    await bench.settle()
    [line] = log_lines
    assert line["keys_added"] == line["keys_removed"] == [f"{A}: ours, version 1"]


async def test_a_new_account_is_served_and_what_else_has_changed_is_told(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    third = TWO | {"client_id": "SANDBOX_C", "notify_path": "/c"}
    one = ONE | {"cancel_brake": 3, "agent_token": "a-token-of-a"}
    write_accounts(bench.path, one, TWO, third)
    await bench.settle()
    assert bench.settings.client_ids == (A, B, "SANDBOX_C")
    assert bench.settings.own["SANDBOX_C"]["notify_path"] == "/c"
    assert bench.settings.of(A).cancel_brake == 3
    [line] = log_lines
    assert (line["accounts_added"], line["accounts_changed"]) == (["SANDBOX_C"], [A])
    assert line["keys_added"] == [
        "SANDBOX_C: ours, version 1",
        "SANDBOX_C: the gateway's, version 1",
    ]
    assert "a-token" not in json.dumps(line)


async def test_on_demand_it_says_so_also_where_nothing_has_changed(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    bench.reloader.ask()
    await bench.reloader.look()
    await bench.settle()
    assert told(log_lines) == [{"event": "accounts.reloaded", "accounts": [A, B]}]


async def test_what_only_a_restart_takes_is_named_and_left(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    (bench.path.parent / ".env").write_text("CANCEL_BRAKE=5\nLOG_LEVEL=error\n")
    bench.reloader.ask()
    await bench.reloader.look()
    assert bench.settings.cancel_brake == 20
    assert log_lines[0]["need_restart"] == ["CANCEL_BRAKE", "LOG_LEVEL"]


async def test_a_link_that_leads_elsewhere_is_a_change_as_kubernetes_makes_it(
    tmp_path: Path, log_lines: list[EventDict]
) -> None:
    """A mounted Secret: `key` is a link to `..data/key`, and `..data` is set anew."""
    for name, text in (("one", OURS), ("two", OURS_2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(text)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "key").symlink_to("..data/key")
    given = environ("redis://127.0.0.1:6379/0", "none", URL)
    del given["ALIPAY_PRIVATE_KEY"]
    given["ALIPAY_PRIVATE_KEY_FILE"] = str(tmp_path / "key")
    source = Source(environ=given)
    settings = source.load()
    reloader = Reloader(source, settings)
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(tmp_path / "..data")
    for _ in range(3):
        await reloader.look()
    assert settings.accounts[CLIENT_ID].private_key.public_key().public_numbers() == (
        public_key("merchant_v2").public_numbers()
    )
    assert events(log_lines) == ["accounts.reloaded"]


async def test_a_change_between_the_first_reading_and_the_first_look_is_not_missed(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    write_accounts(bench.path, ONE | {"cancel_brake": 3}, TWO)
    late = Reloader(bench.source, bench.settings)
    await late.look()
    await late.look()
    assert bench.settings.of(A).cancel_brake == 3


def events(lines: list[EventDict]) -> list[str]:
    """Without what the log itself says at times of its own."""
    return [line["event"] for line in lines if not line["event"].startswith("log.")]


async def test_a_file_that_is_still_being_written_is_not_read(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    whole = bench.path.read_text()
    for length in (0, 20, 200, 2000):
        bench.path.write_text(whole[:length])
        await bench.reloader.look()
    bench.path.write_text(whole.replace('"/a"', '"/new"'))
    await bench.settle()
    assert events(log_lines) == ["accounts.reloaded"]
    assert bench.settings.of(A).notify_path == "/new"


# What is refused

REFUSED: dict[str, tuple[Any, str]] = {
    "no TOML": ("[[account]]\nclient_id = ", "it is not TOML"),
    "empty": ("", "it has no account"),
    "a bad key": ([ONE | {"private_key": "AAAA"}, TWO], f"{A}, private_key: "),
    "a missing file": ([ONE, TWO | {"agent_token_file": "none"}], f"{B}, agent_token_file: the"),
    "the same twice": ([ONE, TWO, TWO], f"{B} is there 2 times"),
    "two worlds": ([ONE, TWO, TWO | {"client_id": "T_1"}], "mixes sandbox and production"),
    "an unknown name": ([ONE, TWO | {"brake": 1}], f"{B}, brake is unknown"),
    "an account that is gone": ([ONE], f"{B} is missing, and was there when this process began"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_where_anything_is_wrong_everything_stays_and_an_error_says_so_once(
    bench: Bench, log_lines: list[EventDict], kind: str
) -> None:
    content, fault = REFUSED[kind]
    before = {name: dict(getattr(bench.settings, name)) for name in ("accounts", "own")}
    if isinstance(content, str):
        bench.path.write_text(content)
    else:
        changed = [content[0] | {"key_version": 7}, *content[1:]]  # good in itself
        write_accounts(bench.path, *changed)
    await bench.settle()
    await bench.settle()
    assert {name: dict(getattr(bench.settings, name)) for name in before} == before
    [line] = log_lines
    assert (line["event"], line["log_level"]) == ("accounts.refused", "error")
    assert any(fault in said for said in line["faults"])
    gone = [said for said in line["faults"] if "was there when this process began" in said]
    assert len(gone) == (kind == "an account that is gone"), "what cannot be read lacks nobody"
    write_accounts(bench.path, ONE | {"key_version": 7}, TWO)
    await bench.settle()
    assert bench.settings.accounts[A].key_version == 7
    assert log_lines[-1]["event"] == "accounts.reloaded"


async def test_a_file_that_was_missing_is_read_as_soon_as_it_is_there(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    write_accounts(bench.path, ONE | {"agent_token_file": "late"}, TWO)
    await bench.settle()
    (bench.path.parent / "late").write_text("a-token-of-a")
    await bench.settle()
    assert bench.settings.accounts[A].agent_token == "a-token-of-a"
    assert events(log_lines) == ["accounts.refused", "accounts.reloaded"]


async def test_a_file_that_is_gone_is_refused_and_its_return_unchanged_is_told(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    text = bench.path.read_text()
    bench.path.unlink()
    await bench.settle()
    bench.path.write_text(text)
    await bench.settle()
    assert list(bench.settings.accounts) == [A, B]
    assert events(log_lines) == ["accounts.refused", "accounts.reloaded"]


async def test_a_bug_is_a_line_in_the_log_and_it_looks_again(
    bench: Bench, log_lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.reload.LOOK_EVERY", 10)
    broken = [ZeroDivisionError()]
    real = Source.survey

    def survey(source: Source) -> tuple[Settings, list[str]]:
        if broken:
            raise broken.pop()
        return real(source)

    monkeypatch.setattr(Source, "survey", survey)
    async with reloading(bench.source, bench.settings):
        os.kill(os.getpid(), signal.SIGHUP)

        async def failed() -> bool:
            return any(line["event"] == "accounts.failed" for line in log_lines)

        await until(failed)
        os.kill(os.getpid(), signal.SIGHUP)

        async def reloaded() -> bool:
            return any(line["event"] == "accounts.reloaded" for line in log_lines)

        await until(reloaded)


async def test_a_hangup_ends_no_process_that_does_not_listen_any_more(bench: Bench) -> None:
    async with reloading(bench.source, bench.settings):
        pass
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    os.kill(os.getpid(), signal.SIGHUP)


# Processes


class Changing:
    """A gateway that changes its key, and notes by which of our keys it was asked."""

    key, version = "alipay_v1", 1


PAYMENT: Any = type("Payment", (), {"payment_request_id": "order-1"})()


async def answered(asked: Asked) -> Any:
    name = json.loads(asked.body)["paymentRequestId"]
    return signed_answer(
        asked.path,
        inquired(name, "SUCCESS"),
        client_id=asked.headers["Client-Id"],
        key=Changing.key,
        key_version=Changing.version,
    )


def signed_under(asked: Asked) -> tuple[str, int]:
    """By which of our keys a request is signed, and as which version."""
    client_id, at = asked.headers["Client-Id"], asked.headers["Request-Time"]
    signed = Signed(asked.path, client_id, at, asked.body)
    for key, version in (("merchant_v1", 1), ("merchant_v2", 2)):
        try:
            keys = {version: public_key(key)}
            verify(signed, asked.headers["Signature"], client_id=client_id, keys=keys)
        except Untrusted:
            continue
        return key, version
    raise AssertionError("signed by none of our keys under its version")


@pytest.mark.once
@pytest.mark.parametrize(
    "words", [reconciler("worker"), ARQ_WORKER], ids=["reconciler worker", "arq"]
)
async def test_a_worker_changes_its_key_on_hangup_while_it_follows_payments(
    redis: Redis, redis_url: str, prefix: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    path = tmp_path / "accounts.toml"
    async with scripted_gateway() as gateway:
        gateway.answer = answered
        one, two = (each | {"gateway_url": gateway.url} for each in (ONE, TWO))
        both_believed = {"public_keys": f"1={THEIRS},2={THEIRS_2}"}
        write_accounts(path, one | both_believed, two)
        given = environ_with(path, redis_url, prefix)
        with process(tmp_path, given, *words) as worker:
            await line(worker, "worker.started", accounts=[A, B])
            await ends(redis, prefix, "order-1")
            write_accounts(
                path, one | both_believed | {"private_key": OURS_2, "key_version": 2}, two
            )
            worker.signal(signal.SIGHUP)
            await line(worker, "accounts.reloaded", keys_added=[f"{A}: ours, version 2"])
            Changing.key, Changing.version = "alipay_v2", 2
            try:
                await ends(redis, prefix, "order-2")
            finally:
                Changing.key, Changing.version = "alipay_v1", 1
            assert worker.running
            worker.signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.ended) == 0
    names = [json.loads(asked.body)["paymentRequestId"] for asked in gateway.asked]
    signed = {name: signed_under(asked) for name, asked in zip(names, gateway.asked, strict=True)}
    assert signed == {"order-1": ("merchant_v1", 1), "order-2": ("merchant_v2", 2)}


async def ends(redis: Redis, prefix: str, name: str) -> None:
    await client.track(redis, name, "USD", 599, client_id=A, expires_in=600, prefix=prefix)

    async def ended() -> bool:
        key = f"{prefix}:v1:payment:{A}:{name}"
        return bool(await redis.hget(key, "status") == "succeeded")  # type: ignore[misc]

    await until(ended)


async def line(running: Process, event: str, **facts: Any) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.to_thread(running.wait_for, event, **facts)
    return found


@pytest.mark.once
@pytest.mark.parametrize("words", ["receiver", "run"])
async def test_a_receiver_believes_a_new_key_by_itself_and_keeps_the_old_ones_if_a_file_is_bad(
    redis_url: str, prefix: str, tmp_path: Path, words: str
) -> None:
    """One account from the environment, with its secrets in files; nobody sends a signal."""
    keys, port = tmp_path / "keys", free_port()
    keys.write_text(THEIRS)
    given = environ(redis_url, prefix, "http://127.0.0.1:1", RECEIVER_PORT=str(port))
    del given["ALIPAY_PUBLIC_KEYS"]
    given |= {"ALIPAY_PUBLIC_KEYS_FILE": str(keys), "WORKER_ADMIN_PORT": "0"}
    with process(tmp_path, given, *reconciler(words)) as receiver:
        await line(receiver, "receiver.started")
        await line(receiver, "probes.passed", role="receiver")
        assert await status(port, "alipay_v1", 1) == 200
        assert await status(port, "alipay_v2", 2) == 401
        keys.write_text(f"1={THEIRS},2={THEIRS_2}")
        await line(receiver, "accounts.reloaded")
        assert await status(port, "alipay_v1", 1) == 200
        assert await status(port, "alipay_v2", 2) == 200
        keys.write_text("no key")
        await line(receiver, "accounts.refused")
        assert await status(port, "alipay_v2", 2) == 200
        assert len(receiver.find("accounts.reloaded")) == 1


async def status(port: int, key: str, version: int) -> int:
    message = notification(paid("order-1"), key=key, key_version=version)
    reply = await send(port, message.wire())
    assert reply is not None
    return reply.status


@pytest.mark.once
async def test_hangups_while_a_process_starts_do_not_end_it(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    """From the moment on at which it has looked at its command line."""
    given = environ(redis_url, prefix, "http://127.0.0.1:1", RECEIVER_PORT="0")
    with process(tmp_path, given, *reconciler("receiver")) as receiver:
        await asyncio.to_thread(wait_until, lambda: survives_hangups(receiver.pid))
        while not receiver.find("receiver.started"):
            receiver.signal(signal.SIGHUP)
            await asyncio.sleep(0.02)
        await line(receiver, "probes.passed")
        receiver.signal(signal.SIGHUP)
        await line(receiver, "accounts.reloaded", accounts=[CLIENT_ID])
        assert receiver.running


@pytest.mark.parametrize("command", ["receiver", "worker", "run"])
def test_a_hangup_is_ignored_before_anything_is_read(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def read(*_: object) -> NoReturn:
        seen.append(signal.getsignal(signal.SIGHUP))
        raise Fault(BAD_SETTINGS, "that is all")

    monkeypatch.setattr(processes, "read_settings", read)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert cli.main([command]) == BAD_SETTINGS
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == [signal.SIG_IGN]


def survives_hangups(pid: int) -> bool:
    """They are ignored, or, where it was quick to start, heard by now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [each.split()[1] for each in lines if each.startswith(("SigIgn", "SigCgt"))]
    return any(int(mask, 16) & 1 << (signal.SIGHUP - 1) for mask in masks)


def test_a_process_reads_again_only_what_it_needs(tmp_path: Path) -> None:
    """A receiver may not even see our key."""
    path = tmp_path / "accounts.toml"
    hidden = {name: text for name, text in ONE.items() if name != "private_key"}
    write_accounts(path, hidden | {"private_key_file": "hidden"})
    given = environ_with(path, "redis://127.0.0.1:6379/0", "none")
    settings = Source(environ=given, need=Need.NOTIFICATIONS).load()
    assert [file.path.name for file in settings.files] == ["accounts.toml"]
