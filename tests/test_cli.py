"""The command line: data on stdout, all else on stderr, and an exit code that says which it was."""

import asyncio
import json
import logging
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from jobs.model import Money, Payment
from tests.accounts import SIDES, A, B, account, write_accounts
from tests.keys import CLIENT_ID
from tests.servers import (
    environ,
    now_ms,
    process,
    put,
    reconciler,
    says,
    scripted_gateway,
)
from tests.test_submission import SUBMIT
from worker import cli, views
from worker.cli import waiting
from worker.keys import Keys
from worker.replay import Replay
from worker.settings import SETTINGS
from worker.signature import load_private_key, load_public_key


@dataclass
class Line:
    """A command line, as if typed in a shell, and the Redis that it talks to."""

    keys: Keys
    redis: Any
    read: Callable[[], Any]

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of one command."""
        try:
            code = cli.main(["--env-file", os.devnull, *words])
        except SystemExit as said:  # argparse: usage and help
            code = int(said.code or 0)
        out, err = self.read()
        return code, out, err

    def track(self, *names: str, age: int = 0, client_id: str = CLIENT_ID) -> None:
        """Payments that have been followed for `age` seconds."""
        at = now_ms() - age * 1000
        entry = {"at": at, "source": "command", "what": "payment.track", "detail": "USD 599"}
        with self.redis.pipeline() as pipe:
            for name in names:
                payment = Payment(
                    client_id=client_id,
                    payment_request_id=name,
                    amount=Money("USD", 599),
                    tracked_at=at,
                    closing_time=at + 840_000,
                    next_at=at + 842_000,
                )
                put(pipe, self.keys, payment, entry)
            pipe.execute()


@pytest.fixture
def line(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Iterator[Line]:
    for entry in SETTINGS:
        monkeypatch.delenv(entry.name, raising=False)
    for name in ("REDIS_URL", "RECONCILER_KEY_PREFIX", "ALIPAY_CLIENT_ID"):
        monkeypatch.setenv(name, environ(redis_url, prefix, "")[name])
    logging.getLogger("asyncio").setLevel(logging.WARNING)  # tests log at debug, processes do not
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield Line(Keys(prefix), client, capsys.readouterr)
        client.delete("nothing", *client.scan_iter(match=f"{prefix}*", count=10_000))
    logging.getLogger("asyncio").setLevel(logging.NOTSET)


# Words

COMMANDS = [
    "run",
    "receiver",
    "worker",
    "track",
    "status",
    "pending",
    "submit",
    "cancel",
    "recheck",
    "forget",
    "report",
    "audit",
    "doctor",
    "resolve",
    "replay",
    "demo",
    "mock-gateway",
    "mock-notify",
    "keys",
    "verify",
]


def test_help_names_every_command(line: Line) -> None:
    code, out, err = line("--help")
    assert (code, err) == (0, "")
    assert re.findall(r"^    ([a-z-]+) ", out, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("words", [*COMMANDS, "keys generate"])
def test_every_command_explains_itself(line: Line, words: str) -> None:
    code, out, err = line(*words.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: reconciler {words}")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "nonsense",
        "track",
        "track order-1",
        "track order-1 --amount USD:599 --expires-in soon",
        "track order-1 --amount USD:599 --on-timeout wait",
        "status",
        "pending --limit many",
        "submit",
        "submit order-1",
        "cancel",
        "cancel --wait order-1",
        "recheck order-1 --wait soon",
        "recheck order-1 --wait -1",
        "forget order-1 --wait nan",
        "doctor --role merchant",
        "resolve order-1 --as succeeded",
        "resolve order-1 --as lost --reason x",
        "replay outcomes --all",
        "mock-notify http://127.0.0.1:1/notify",
        "keys",
        "keys generate --bits 1024",
        "worker --nonsense",
    ],
)
def test_what_is_not_understood_is_answered_with_the_usage(line: Line, words: str) -> None:
    code, out, err = line(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith("usage: reconciler")


def test_help_waits_for_no_library() -> None:
    """What takes half a second to import is imported by the commands that need it."""
    heavy = {"aiohttp", "redis", "arq", "cryptography", "structlog", "jobs.payment"}
    code = (
        "import sys; from worker.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print(sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stderr == "[]\n"


# track


def test_track_writes_the_command_and_prints_its_id(line: Line) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    code, out, err = line("track", "order-1", "--amount", "USD:599")
    [(entry_id, fields)] = line.redis.xrange(line.keys.commands)
    assert (code, out, err) == (0, f"queued as {entry_id}\n", "")
    assert fields["type"] == "payment.track"
    assert json.loads(fields["data"]) == {
        "paymentRequestId": "order-1",
        "paymentAmount": {"currency": "USD", "value": "599"},
        "clientId": CLIENT_ID,
    }


def test_track_takes_all_that_a_command_may_say(line: Line) -> None:
    words = ["track", "order-1", "--amount", "JPY:1", "--client-id", "OTHER", "--json"]
    words += ["--expires-in", "600", "--payment-id", "2026", "--on-timeout", "report"]
    code, out, _ = line(*words, "--expiry-time", "2027-01-15T16:00:00+08:00", "--reference", "支")
    [(entry_id, fields)] = line.redis.xrange(line.keys.commands)
    assert (code, json.loads(out)) == (0, {"command": entry_id})
    assert json.loads(fields["data"]) == {
        "paymentRequestId": "order-1",
        "paymentAmount": {"currency": "JPY", "value": "1"},
        "clientId": "OTHER",
        "expiresIn": 600,
        "paymentExpiryTime": "2027-01-15T16:00:00+08:00",
        "paymentId": "2026",
        "onTimeout": "report",
        "reference": "支",
    }


@pytest.mark.parametrize(
    "amount",
    ["", "599", "USD", "USD:", "USD:0", "USD:5.99", "USD:-1", "usd:599", "USD 599", "USD:5\n"],
)
def test_an_amount_that_is_none_is_refused_before_anything_is_written(
    line: Line, amount: str
) -> None:
    code, out, err = line("track", "order-1", f"--amount={amount}")
    assert (code, out) == (2, "")
    assert err == "reconciler: --amount: write currency and smallest units, as in USD:599\n"
    assert line.redis.xlen(line.keys.commands) == 0


# submit, cancel, recheck, forget: what becomes of them is told in test_ways_in.py


@pytest.mark.parametrize("verb", ["cancel", "recheck", "forget"])
def test_an_order_is_written_to_the_stream(line: Line, verb: str) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    code, out, err = line(verb, "order-1", "--reason", "支付")
    [(entry_id, fields)] = line.redis.xrange(line.keys.commands)
    assert (code, out, err) == (0, f"queued as {entry_id}\n", "")
    assert fields["type"] == f"payment.{verb}"
    wanted = {"paymentRequestId": "order-1", "clientId": CLIENT_ID, "reason": "支付"}
    assert json.loads(fields["data"]) == wanted
    code, out, _ = line(verb, "order-1", "--client-id", "OTHER", "--json")
    [_, (entry_id, fields)] = line.redis.xrange(line.keys.commands)
    assert (code, json.loads(out)) == (0, {"command": entry_id})
    assert json.loads(fields["data"]) == {"paymentRequestId": "order-1", "clientId": "OTHER"}


@pytest.mark.parametrize("verb", ["cancel", "recheck", "forget"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["order 1"], "paymentRequestId: write 1 to 64 of A-Z a-z 0-9 _ . : -"),
        (["order-1", "--reason", "x" * 257], "reason: write at most 256 characters"),
    ],
)
def test_an_order_that_the_worker_could_not_read_is_not_written(
    line: Line, verb: str, words: list[str], message: str
) -> None:
    assert line(verb, *words) == (2, "", f"reconciler: {message}\n")
    assert line.redis.xlen(line.keys.commands) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "--data cannot be read (json): write a JSON object"),
        (b"[]", "--data cannot be read (not_object): write a JSON object, not other JSON"),
        (
            b'{"a":1,"a":2}',
            "--data cannot be read (duplicate_key): write each name of an object once",
        ),
        (b'"' + b"x" * 65_536, "--data: over 64 KiB; a command has far less"),
    ],
)
def test_a_payment_that_cannot_be_read_is_not_submitted(
    line: Line, tmp_path: Path, data: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "order.json"
    file.write_bytes(data)
    assert line("submit", "--data", str(file)) == (2, "", f"reconciler: {message}\n")
    with file.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert line("submit", "--data", "-") == (2, "", f"reconciler: {message}\n")
    assert line.redis.xlen(line.keys.commands) == 0


def test_a_file_that_is_not_there_is_said_to_be_not(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "none.json"
    hint = "write the path of a file with the data of payment.submit, or - for stdin"
    told = f"reconciler: --data {file}: No such file or directory; {hint}\n"
    assert line("submit", "--data", str(file)) == (2, "", told)
    code, _, err = line("submit", "--data", "no\0where")
    assert code == 2 and "no such name is possible" in err


def test_a_file_of_settings_that_is_named_must_be_there(line: Line, tmp_path: Path) -> None:
    code, out, err = line("--env-file", str(tmp_path / "none.env"), "pending")
    assert (code, out) == (3, "")
    assert err.startswith(f"reconciler: --env-file {tmp_path}/none.env: there is no such file;")


def test_where_none_is_named_there_need_be_none(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["pending"]) == 0


@pytest.mark.parametrize("words", ["mock-gateway --port 0", "mock-notify http://x/ --id a"])
def test_a_folder_of_keys_that_cannot_be_used_is_named(
    line: Line, tmp_path: Path, words: str
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "keys"
    code, out, err = line(*words.split(), "--keys", str(folder))
    assert (code, out) == (1, "")
    assert err.startswith(f"reconciler: --keys {folder}: Not a directory; write the path")


def test_a_port_of_the_mock_gateway_that_is_taken_is_told(line: Line, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = line("mock-gateway", "--keys", str(tmp_path / "keys"), "--port", port)
    assert code == 1 and err.startswith(f"reconciler: 127.0.0.1:{port}: ")
    assert "in use" in err


def ended(line: Line, status: str, **data: str) -> None:
    """What tells how order-1 ended, after any command that is given now."""
    told = {"id": f"{CLIENT_ID}:order-1:{status}", "data": json.dumps({"data": data})}
    line.redis.xadd(line.keys.outcomes, told, id=f"{now_ms() + 60_000}-0")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("USER_BALANCE_NOT_ENOUGH", "the payment is failed (USER_BALANCE_NOT_ENOUGH)"),
        ("", "the payment is failed"),
    ],
)
def test_a_submit_that_fails_says_what_the_gateway_said(
    line: Line, tmp_path: Path, code: str, message: str
) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    file = tmp_path / "order.json"
    file.write_text(json.dumps(SUBMIT))
    ended(line, "failed", resultCode=code)
    found, out, _ = line("submit", "--data", str(file), "--wait", "5", "--json")
    said = json.loads(out)
    assert (found, said["result"], said["status"]) == (1, "ended", "failed")
    assert (said["resultCode"], said["message"]) == (code, message)


def test_an_end_that_is_read_from_the_record_says_what_the_gateway_said(line: Line) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    line.track("order-1")
    record = line.keys.payment(f"{CLIENT_ID}:order-1")
    line.redis.hset(record, mapping={"status": "failed", "resultCode": "ORDER_IS_CLOSED"})
    _, out, _ = line("cancel", "order-1", "--wait", "5")
    assert out.endswith(": ended: the payment is failed (ORDER_IS_CLOSED)\n")


async def interrupted(*_: object) -> None:
    signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(30)


def test_who_stops_waiting_is_told_what_is_queued_and_how_to_look(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    monkeypatch.setattr(waiting, "wait", interrupted)
    code, out, err = line("cancel", "order-1", "--wait")
    [(entry_id, _)] = line.redis.xrange(line.keys.commands)
    look = "`reconciler status order-1` shows what becomes of it"
    assert (code, out) == (130, "")
    assert err == f"reconciler: interrupted. Queued as {entry_id}; {look}\n"


def test_who_interrupts_a_replay_is_told_how_to_see_what_is_left(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    monkeypatch.setattr(Replay, "commands", interrupted)
    code, _, err = line("replay", "commands", "--all")
    left = "What is left, `reconciler replay commands --all --dry-run` lists"
    assert (code, err) == (130, f"reconciler: interrupted. {left}\n")


@pytest.mark.parametrize("words", ["cancel order-1", "track order-1 --amount USD:5"])
@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("worker.cli.base.check_before_writing", "Nothing is queued"),
        ("worker.client.send", "Whether it is queued is not known: `reconciler status order-1`"),
    ],
)
def test_who_interrupts_a_command_is_told_how_far_it_came(
    line: Line, monkeypatch: pytest.MonkeyPatch, words: str, step: str, says: str
) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    monkeypatch.setattr(step, interrupted)
    code, out, err = line(*words.split())
    assert (code, out) == (130, "")
    assert err.startswith(f"reconciler: interrupted. {says}")


def test_waiting_without_a_worker_ends_and_the_command_stays(line: Line) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    line.track("order-1")
    code, out, _ = line("cancel", "order-1", "--wait", "0")
    [(entry_id, _)] = line.redis.xrange(line.keys.commands)
    told = "waiting: nothing was seen of it in 0 s; it stays in the stream"
    assert (code, out) == (4, f"payment.cancel {entry_id}: {told}\n")


def test_who_waits_is_not_told_of_the_commands_of_others(line: Line) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    rejected = {"data": {"reason": "conflict", "message": "x", "advice": "none"}}
    fields = {"id": "command:1-1", "type": "command.rejected", "data": json.dumps(rejected)}
    line.redis.xadd(line.keys.outcomes, fields, id=f"{now_ms() + 60_000}-0")
    code, out, _ = line("cancel", "order-1", "--wait", "0", "--json")
    assert (code, json.loads(out)["result"]) == (4, "waiting")


def test_who_cannot_see_what_becomes_of_an_order_is_told_that_it_is_given(line: Line) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    line.redis.set(line.keys.outcomes, "no stream")
    code, out, err = line("cancel", "order-1", "--wait", "5")
    [(entry_id, _)] = line.redis.xrange(line.keys.commands)
    assert (code, out) == (4, "")
    assert err.startswith(f"reconciler: queued as {entry_id}, and no more is known: WRONGTYPE")


def test_an_order_cannot_be_given_while_redis_is_away(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    code, out, err = line("cancel", "order-1", "--wait")
    assert (code, out) == (4, "")
    assert err.startswith("reconciler: Redis is not available")


# status


def test_status_tells_a_payments_record_and_story(line: Line) -> None:
    line.track("order-1")
    code, out, err = line("status", "order-1")
    assert (code, err) == (0, "")
    assert out.startswith(f"Payment order-1: USD 599 in its smallest unit, account {CLIENT_ID}\n")
    assert re.search(r"^  status +pending$", out, re.MULTILINE)
    assert re.search(r"^  closingTime +20\d\d-.*Z$", out, re.MULTILINE)
    assert "+0.0 s  Your system asked to have it followed: USD 599.\n" in out


def test_status_gives_scripts_the_same_as_json(line: Line) -> None:
    line.track("order-1")
    code, out, err = line("status", "order-1", "--json")
    assert (code, err) == (0, "")
    seen = json.loads(out)
    assert (seen["payment"]["paymentRequestId"], seen["payment"]["status"]) == (
        "order-1",
        "pending",
    )
    assert [entry["what"] for entry in seen["timeline"]] == ["payment.track"]


@pytest.mark.parametrize("words", [["status", "order-2"], ["status", "order-1", "--client-id=B"]])
def test_status_of_a_payment_that_is_not_tracked_is_a_failure(line: Line, words: list[str]) -> None:
    line.track("order-1")
    code, out, err = line(*words, "--json")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"reconciler: order-\d is not tracked under \w+\n", err)


# pending


def test_pending_lists_open_payments_in_a_table_the_oldest_first(line: Line) -> None:
    line.track("young", age=10)
    line.track("old", age=100)
    code, out, err = line("pending")
    assert (code, err) == (0, "")
    heading, *rows, _, counts = [row.split() for row in out.splitlines()]
    assert heading[:3] == ["payment", "account", "status"]
    assert [row[0] for row in rows] == ["old", "young"]
    assert counts[:3] == ["2", "of", "2"]


@pytest.mark.parametrize(
    ("older", "names"),
    [
        ("0s", ["old", "young"]),
        ("50s", ["old"]),
        ("1m", ["old"]),
        ("2m", []),
        ("1h", []),
        ("1d", []),
    ],
)
def test_pending_may_be_asked_for_the_older_ones_alone(
    line: Line, older: str, names: list[str]
) -> None:
    line.track("young", age=10)
    line.track("old", age=100)
    code, out, _ = line("pending", "--json", "--older", older)
    assert (code, [row["paymentRequestId"] for row in json.loads(out)]) == (0, names)


def test_pending_stops_at_a_limit(line: Line) -> None:
    for n in range(3):
        line.track(f"order-{n}", age=10 - n)
    _, out, _ = line("pending", "--json", "--limit", "2")
    assert [row["paymentRequestId"] for row in json.loads(out)] == ["order-0", "order-1"]


def test_pending_says_when_there_is_nothing(line: Line) -> None:
    assert line("pending") == (0, "nothing\n", "")
    assert line("pending", "--json") == (0, "[]\n", "")


@pytest.mark.parametrize("age", ["", "5", "m", "5w", "-5m", "1.5h", "5m ", "9999999999s"])
def test_an_age_that_is_none_is_refused(line: Line, age: str) -> None:
    code, out, err = line("pending", f"--older={age}")
    assert (code, out) == (2, "")
    assert err == "reconciler: --older: write a number and s, m, h or d, as in 5m\n"


@pytest.mark.parametrize(("reader", "payments"), [("head -1", 2000), ("true", 1)])
def test_a_reader_that_has_seen_enough_is_no_failure(
    line: Line, tmp_path: Path, redis_url: str, reader: str, payments: int
) -> None:
    """Whether it goes while we write, or before we write the first time."""
    line.track(*(f"order-{n}" for n in range(payments)))
    command = " ".join([*reconciler("--env-file", os.devnull, "pending"), "|", reader])
    shell = ["bash", "-o", "pipefail", "-c", command]
    given = environ(redis_url, line.keys.prefix, "", PYTHONUNBUFFERED="")
    with process(tmp_path, given, *shell) as piped:
        assert (piped.ended(), piped.said) == (0, "")


# resolve


@pytest.fixture
def asked(line: Line, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`reconciler resolve` of one payment, with a gateway where every payment stands so."""
    for name in ("ALIPAY_PRIVATE_KEY", "ALIPAY_PUBLIC_KEYS", "SUDO_USER"):
        monkeypatch.setenv(name, environ("", "", "").get(name, "ann"))
    line.redis.set(line.keys.canary, "a worker has been here")

    async def resolve(says_: str, *words: str) -> tuple[int, str, str]:
        async with scripted_gateway() as gateway:
            gateway.answer = says(says_)
            monkeypatch.setenv("ALIPAY_GATEWAY_URL", gateway.url)
            code = await asyncio.to_thread(
                cli.main, ["--env-file", os.devnull, "resolve", "order-1", *words]
            )
        out, err = line.read()
        return code, out, "".join(x for x in err.splitlines(True) if x.startswith("reconciler:"))

    yield lambda *words: asyncio.run(resolve(*words))


def unresolved(line: Line, **changed: Any) -> None:
    line.track("order-1", age=3600)
    fields = {"status": "unresolved", "reason": "cancel_window", "version": "1"} | changed
    line.redis.hset(line.keys.payment(f"{CLIENT_ID}:order-1"), mapping=fields)


WHY = ("--reason", "seen on the dashboard")


def test_an_operators_word_is_written_down_with_the_login_name(
    line: Line, asked: Callable[..., Any]
) -> None:
    unresolved(line)
    code, out, err = asked("PROCESSING", "--as", "cancelled", *WHY)
    assert (code, err) == (0, "")
    assert out == "order-1: cancelled, as you say; the gateway said: not_yet SUCCESS\n"
    [*_, command, _] = line.redis.lrange(line.keys.timeline(f"{CLIENT_ID}:order-1"), 0, -1)
    assert json.loads(command)["detail"] == (
        "ann: seen on the dashboard (gateway: not_yet SUCCESS)"
    )


def test_what_the_gateway_says_beats_an_operators_word(
    line: Line, asked: Callable[..., Any]
) -> None:
    unresolved(line)
    code, out, _ = asked("SUCCESS", "--as", "failed", "--json", *WHY)
    told = json.loads(out)
    assert (code, told["status"], told["by"]) == (0, "succeeded", "gateway")


@pytest.mark.parametrize(
    ("stands", "gateway", "word", "code", "says_"),
    [
        ({}, "PENDING", "succeeded", 1, "which contradicts succeeded. If you know better, say so"),
        ({}, "?", "failed", 4, "the gateway does not say how it stands (no_answer unknown_"),
        ({}, "PROCESSING", "refunded", 1, "write --as succeeded, failed or cancelled"),
        ({"status": "pending"}, "?", "failed", 1, "order-1 is pending: it is followed and ends"),
        (
            {"status": "failed", "finalAt": "1"},
            "?",
            "failed",
            1,
            "order-1 has ended already: failed",
        ),
        (
            {"status": "failed", "finalAt": "1", "aftercare": "refund_required"},
            "?",
            "failed",
            1,
            "write --as refunded",
        ),
    ],
)
def test_a_word_that_is_not_taken_says_why(
    line: Line,
    asked: Callable[..., Any],
    stands: dict[str, str],
    gateway: str,
    word: str,
    code: int,
    says_: str,
) -> None:
    unresolved(line, **stands)
    ended, out, err = asked(gateway, "--as", word, *WHY)
    assert (ended, out) == (code, "")
    assert says_ in err


def test_a_payment_that_is_not_tracked_is_not_resolved(
    line: Line, asked: Callable[..., Any]
) -> None:
    code, _, err = asked("PROCESSING", "--as", "failed", *WHY)
    assert (code, err) == (
        1,
        "reconciler: order-1 is not tracked: see its spelling and --client-id\n",
    )


def test_who_interrupts_a_resolve_is_told_how_to_see_whether_it_is_decided(
    line: Line, asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object, **__: object) -> None:
        raise asyncio.CancelledError  # as asyncio tells a Ctrl-C; signals reach the main thread

    monkeypatch.setattr("jobs.resolve.resolve", interrupted)
    code, _, err = asked("SUCCESS", "--as", "failed", *WHY)
    look = "`reconciler status order-1` says whether your word was written down"
    assert (code, err) == (130, f"reconciler: interrupted. {look}\n")


@pytest.mark.parametrize("words", [["--reason", "two\nlines"], [*WHY, "--who", " "]])
def test_a_reason_is_one_line(line: Line, asked: Callable[..., Any], words: list[str]) -> None:
    code, _, err = asked("PROCESSING", "--as", "failed", *words)
    assert code == 2
    assert "write one line of 1 to " in err


# replay


def bury(line: Line, name: str, client_id: str | None = None, **changed: str) -> str:
    data: dict[str, Any] = {"paymentRequestId": name}
    data["paymentAmount"] = {"currency": "USD", "value": "599"}
    if client_id:
        data["clientId"] = client_id
    fields = {"type": "payment.track", "data": json.dumps(data), "error": "malformed: a bug"}
    line.redis.set(line.keys.canary, "a worker has been here")
    entry_id: str = line.redis.xadd(line.keys.dead, fields | changed)
    return entry_id


def test_replay_lists_what_would_happen_and_then_does_it(line: Line) -> None:
    bury(line, "order-1")
    bury(line, "order-2", type="payment.trakc")
    code, out, err = line("replay", "commands", "--all", "--dry-run")
    assert (code, err) == (0, "")
    heading, first, second, _, counts = out.splitlines()
    assert heading.split() == ["id", "paymentRequestId", "reason", "result"]
    assert first.endswith("would be written again: payment.track")
    assert "left: it would be refused again: type 'payment.trakc' is unknown" in second
    assert counts == "1 would be taken up, 1 left"
    assert line.redis.xlen(line.keys.commands) == 0
    code, out, _ = line("replay", "commands", "--since", "1h", "--json")
    assert (code, [row["done"] for row in json.loads(out)]) == (0, [True, False])
    assert line.redis.xlen(line.keys.commands) == 1


def test_replay_of_all_leaves_none_out_however_many_there_are(line: Line) -> None:
    for n in range(1001):
        bury(line, f"order-{n}", data="{}")
    bury(line, "order-last")
    out = line("replay", "commands", "--all", "--dry-run")[1]
    assert out.endswith("\n1 would be taken up, 1001 left\n")
    out = line("replay", "commands", "--all", "--dry-run", "--limit", "2")[1]
    assert out.endswith("\n0 would be taken up, 2 left\n")


def test_replay_sends_again_what_nobody_took(line: Line) -> None:
    line.redis.set(line.keys.canary, "a worker has been here")
    lane = f"callback:{CLIENT_ID}:order-1"
    entry = {"v": 1, "at": 1, "seq": 7, "id": f"{CLIENT_ID}:order-1:succeeded", "about": "order-1"}
    entry |= {"tries": 10, "url": "https://shop.example/hook", "body": "{}"}
    letter = {"lane": lane, "paymentRequestId": "order-1", "fault": "http_500"}
    line.redis.xadd(line.keys.dead_deliveries, letter | {"entry": json.dumps(entry)})
    code, out, err = line("replay", "callbacks", "--all", "--dry-run")
    assert (code, err) == (0, "")
    assert f"would be sent again: {CLIENT_ID}:order-1:succeeded" in out
    assert line("replay", "forwards", "--all")[1].endswith("0 taken up, 0 left\n")
    code, out, _ = line("replay", "callbacks", "--reason", "http_500", "--json")
    assert (code, [row["done"] for row in json.loads(out)]) == (0, [True])
    assert line.redis.llen(line.keys.delivery(lane)) == 1


def test_to_leave_one_that_was_named_is_a_failure(line: Line) -> None:
    entry_id = bury(line, "order-2", type="payment.trakc")
    assert line("replay", "commands", entry_id)[0] == 1
    code, out, _ = line("replay", "commands", "1-1")
    assert code == 1 and out.endswith("0 taken up, 0 left, not there: 1-1\n")
    assert line("replay", "commands", entry_id, "--type", "payment.track")[0] == 0


@pytest.mark.parametrize(
    ("words", "says_"),
    [
        ("commands", "name entries, or write --all, --since or --reason"),
        ("commands latest", "latest is no id of an entry"),
        ("commands --all --data {}", "for one dead command"),
        ("quarantine 1-1 --type payment.track", "for one dead command"),
        ("commands --since soon", "--since: write a number"),
    ],
)
def test_a_choice_that_is_none_is_refused(line: Line, words: str, says_: str) -> None:
    code, out, err = line("replay", *words.split())
    assert (code, out) == (2, "")
    assert says_ in err


def test_a_user_without_the_right_is_told_which_one_has_it(line: Line, redis_url: str) -> None:
    bury(line, "order-1")
    rights = ["~*", "&*", "+@all", "-xdel"]
    line.redis.execute_command("ACL", "SETUSER", "u", "reset", "on", ">password", *rights)
    try:
        url = f"{redis_url}?username=u&password=password"
        code, _, err = line("replay", "commands", "--all", "--redis-url", url)
    finally:
        line.redis.execute_command("ACL", "DELUSER", "u")
    assert code == 5
    assert "our user of Redis may not do this" in err and "deploy/users.conf" in err
    assert (line.redis.xlen(line.keys.dead), line.redis.xlen(line.keys.commands)) == (1, 0)


# What may be wrong


@pytest.mark.parametrize(
    "words", [["status", "order-1"], ["pending"], ["track", "order-1", "--amount=USD:1"]]
)
@pytest.mark.parametrize("url", ["unix:///nowhere/r.sock", "redis://127.0.0.1:1"])
def test_without_redis_a_command_says_so_and_ends(line: Line, words: list[str], url: str) -> None:
    started = time.monotonic()
    code, out, err = line(*words, "--redis-url", url)
    assert (code, out) == (4, "")
    assert err.startswith("reconciler: Redis is not available: ")
    assert time.monotonic() - started < 5


def test_the_password_of_a_redis_that_refuses_it_is_not_repeated(line: Line) -> None:
    """The embedded server knows no passwords, so any is refused."""
    path = line.redis.connection_pool.connection_kwargs.get("path")
    if path is None:
        pytest.skip("a server of yours may take it")
    code, _, err = line("pending", "--redis-url", f"unix://someone:s3cret@{path}")
    assert code == 4
    assert "s3cret" not in err


def test_all_faults_of_the_settings_are_told_at_once(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "http://nowhere")
    monkeypatch.setenv("RECONCILER_KEY_PREFIX", "Not A Prefix")
    monkeypatch.delenv("ALIPAY_CLIENT_ID")
    code, out, err = line("pending")
    assert (code, out) == (3, "")
    first, *faults = err.splitlines()
    assert first == "reconciler: the settings cannot be used:"
    assert sorted(re.findall(r"^  - (\w+)", "\n".join(faults), re.MULTILINE)) == [
        "ALIPAY_CLIENT_ID",
        "RECONCILER_KEY_PREFIX",
        "REDIS_URL",
    ]


def test_a_flag_beats_the_environment_and_that_the_file(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings"
    file.write_text("ALIPAY_CLIENT_ID=FROM_FILE\n")
    wanted = ["FROM_FLAG", CLIENT_ID, "FROM_FILE"]
    for client_id, words in zip(wanted, (["--client-id=FROM_FLAG"], [], []), strict=True):
        if client_id == "FROM_FILE":
            monkeypatch.delenv("ALIPAY_CLIENT_ID")
        line("--env-file", str(file), "track", "order-1", "--amount=USD:1", *words)
    given = [json.loads(fields["data"]) for _, fields in line.redis.xrange(line.keys.commands)]
    assert [data["clientId"] for data in given] == wanted


def test_a_command_interrupted_ends_as_shells_expect(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(views, "open_payments", interrupted)
    assert line("pending") == (130, "", "")


# keys generate


def test_a_new_pair_can_be_used_at_once(line: Line) -> None:
    """The private key is data; the public one is for a person to carry to the dashboard."""
    code, out, err = line("keys", "generate")
    heading, public = err.splitlines()
    assert (code, heading) == (0, "public key, for the gateway's dashboard:")
    key = load_private_key(out)
    assert key.key_size == 2048
    assert load_public_key(public).public_numbers() == key.public_key().public_numbers()


def test_a_private_key_on_disk_is_its_owners_alone(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "merchant.key"
    old = os.umask(0)
    try:
        code, out, err = line("keys", "generate", "--bits", "3072", "--out", str(file))
    finally:
        os.umask(old)
    assert (code, stat.S_IMODE(file.stat().st_mode)) == (0, 0o600)
    key = load_private_key(file.read_text())
    assert key.key_size == 3072
    assert load_public_key(out).public_numbers() == key.public_key().public_numbers()
    assert file.read_text().strip() not in out + err


def test_a_key_is_never_overwritten(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "merchant.key"
    file.write_text("the key of the shop")
    code, out, err = line("keys", "generate", "--out", str(file))
    assert (code, out) == (1, "")
    assert err == f"reconciler: {file} exists: a key is never overwritten\n"
    assert file.read_text() == "the key of the shop"


def test_where_no_key_can_be_written_none_is_shown(line: Line, tmp_path: Path) -> None:
    code, out, err = line("keys", "generate", "--out", str(tmp_path / "nowhere" / "merchant.key"))
    assert (code, out) == (1, "")
    assert err.endswith("No such file or directory\n")


# mock-gateway


def test_the_mock_gateway_touches_no_keys_that_it_did_not_make(line: Line, tmp_path: Path) -> None:
    (tmp_path / "merchant.key").write_text("the key of the shop")
    code, out, err = line("mock-gateway", "--keys", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.startswith(f"reconciler: {tmp_path} was not made by the mock gateway: name a ")
    assert [file.name for file in tmp_path.iterdir()] == ["merchant.key"]


def test_the_mock_gateway_knows_its_switches(line: Line, tmp_path: Path) -> None:
    words = ["mock-gateway", "--keys", str(tmp_path / "keys"), "--switch", "nonsense=1"]
    code, out, err = line(*words)
    assert (code, out) == (2, "")
    assert err.startswith("reconciler: --switch nonsense=1: there are cancel_of_failed, ")


# Several accounts


@pytest.fixture
def two(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """A command line whose accounts are in a file."""
    path = tmp_path / "accounts.toml"
    write_accounts(path, *(account(side, "https://a.example.com") for side in SIDES.values()))
    monkeypatch.delenv("ALIPAY_CLIENT_ID")
    monkeypatch.setenv("ALIPAY_ACCOUNTS_FILE", str(path))
    return line


NAMING = [
    ["track", "order-1", "--amount", "USD:599"],
    ["status", "order-1"],
    ["resolve", "order-1", "--as", "failed", "--reason", "the dashboard says so"],
]


@pytest.mark.parametrize("words", NAMING, ids=lambda words: words[0])
def test_with_several_accounts_a_command_about_a_payment_must_name_one(
    two: Line, words: list[str]
) -> None:
    code, out, err = two(*words)
    assert (code, out) == (2, "")
    wanted = f"there are several accounts: write --client-id, one of {A}, {B}\n"
    assert err == f"reconciler: {wanted}"
    assert two.redis.xlen(two.keys.commands) == 0


@pytest.mark.parametrize("words", NAMING, ids=lambda words: words[0])
def test_it_may_not_name_one_that_is_not_there(two: Line, words: list[str]) -> None:
    code, _, err = two(*words, "--client-id", "OTHER")
    assert code == 3
    assert f"--client-id OTHER: accounts.toml has no such account: give one of {A}, {B}" in err


def test_a_list_may_name_every_account_and_each_line_must_name_one(
    two: Line, tmp_path: Path
) -> None:
    path = tmp_path / "payments.csv"
    rows = [f"order-1,USD,599,{A}", f"order-2,USD,599,{B}"]
    path.write_text("\n".join(["paymentRequestId,currency,value,clientId", *rows]))
    code, out, err = two("track", "--file", str(path))
    assert code == 0, err
    written = [json.loads(f["data"])["clientId"] for _, f in two.redis.xrange(two.keys.commands)]
    assert written == [A, B]
    path.write_text("paymentRequestId,currency,value\norder-3,USD,599")
    code, out, _ = two("track", "--file", str(path))
    assert (code, two.redis.xlen(two.keys.commands)) == (1, 2)
    assert "clientId: there are several accounts; name one" in out
    assert two("track", "--file", str(path), "--client-id", B)[0] == 0
    assert two.redis.xlen(two.keys.commands) == 3


def test_the_named_account_is_the_one_whose_payment_is_meant(two: Line) -> None:
    two.track("order-1", client_id=A)
    assert two("track", "order-2", "--amount", "USD:599", "--client-id", B)[0] == 0
    [(_, fields)] = two.redis.xrange(two.keys.commands)
    assert json.loads(fields["data"])["clientId"] == B
    assert f"account {A}" in two("status", "order-1", "--client-id", A)[1]
    code, _, err = two("status", "order-1", "--client-id", B)
    assert (code, err) == (1, f"reconciler: order-1 is not tracked under {B}\n")


def test_pending_lists_the_payments_of_all_accounts_and_says_whose_they_are(two: Line) -> None:
    for client_id in SIDES:
        two.track("order-1", client_id=client_id)
    _, out, _ = two("pending", "--json")
    assert {row["clientId"] for row in json.loads(out)} == {A, B}


def test_replay_takes_up_commands_of_all_accounts_or_of_the_one_that_is_named(two: Line) -> None:
    for client_id in SIDES:
        bury(two, "order-1", client_id=client_id)
    _, out, _ = two("replay", "commands", "--all", "--dry-run", "--client-id", A)
    assert out.endswith("1 would be taken up, 1 left\n")
    assert two("replay", "commands", "--all")[1].endswith("2 taken up, 0 left\n")
    said = [json.loads(f["data"])["clientId"] for _, f in two.redis.xrange(two.keys.commands)]
    assert sorted(said) == [A, B]
