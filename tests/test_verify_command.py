"""`reconciler verify` as it is typed: what it prints, where, and with which exit code."""

import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests import verify_page
from tests.keys import CLIENT_ID, key_text, public_key
from tests.servers import Post, notification, paid, receiving, send
from tests.verify_page import settings_of
from worker import cli
from worker.connect import client
from worker.keys import Keys
from worker.settings import SETTINGS
from worker.store import Store
from worker.verify import KnownKey, read_capture
from worker.verify.case import Said, case_of
from worker.verify.mistakes import MISTAKES
from worker.verify.steps import examined

GATEWAY = key_text("alipay_v1", "public_x509_b64")
GENUINE = notification(paid("order-1"))
ALTERED = replace(GENUINE, body=GENUINE.body.replace(b"599", b"598"))
LOST = replace(GENUINE, path="/notify/")


@dataclass
class Line:
    """A command line, typed in a folder of its own, with no settings but those set here."""

    folder: Path
    set: Callable[[str, str], None]
    feed: Callable[[bytes], None]
    read: Callable[[], Any]

    def __call__(self, *words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        self.feed(stdin)
        try:
            code = cli.main(["--env-file", os.devnull, "verify", *words])
        except SystemExit as said:
            code = int(said.code or 0)
        out, err = self.read()
        return code, out, err

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return name


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[Line]:
    for entry in SETTINGS:
        monkeypatch.delenv(entry.name, raising=False)
    monkeypatch.chdir(tmp_path)

    def feed(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    yield Line(tmp_path, monkeypatch.setenv, feed, capsys.readouterr)


def settings_of_a_merchant(line: Line) -> None:
    line.set("ALIPAY_CLIENT_ID", CLIENT_ID)
    line.set("ALIPAY_GATEWAY_URL", "https://gateway.example")
    line.set("ALIPAY_PRIVATE_KEY", key_text("merchant_v1", "private_pkcs8_b64"))
    line.set("ALIPAY_PUBLIC_KEYS", GATEWAY)


# The verdict


def test_what_verifies_ends_with_0_and_says_so(line: Line) -> None:
    code, out, err = line("--public-key", GATEWAY, stdin=GENUINE.wire())
    assert (code, err) == (0, "")
    assert out.endswith("\nIt verifies.\n")
    assert [row for row in out.splitlines() if row[:1].isdigit()][0].startswith("0. ok ")


def test_what_does_not_verify_ends_with_5_and_names_the_mistake(line: Line) -> None:
    code, out, err = line("--public-key", GATEWAY, stdin=LOST.wire())
    assert (code, err) == (5, "")
    assert "\n  [path.slash_added] " in out
    assert f"Mend it: {MISTAKES['path.slash_added'].fix}." in out
    assert 'path: signed "/notify", here "/notify/"' in out


def test_what_nothing_explains_is_said_to_be_so_with_what_to_try(line: Line) -> None:
    code, out, _ = line("--public-key", GATEWAY, stdin=ALTERED.wire())
    assert code == 5
    assert "none of the known mistakes explains it. What to try:" in out
    assert "It verifies when" not in out


def test_a_script_reads_the_same_as_json(line: Line) -> None:
    code, out, _ = line("--json", "--public-key", GATEWAY, stdin=LOST.wire())
    told = json.loads(out)
    assert (code, told["verifies"], told["reason"], told["explained"]) == (
        *(5, False, "sig_mismatch", True),
    )
    assert [each["mistake"] for each in told["mistakes"]] == ["path.slash_added"]
    assert [step["verdict"] for step in told["steps"]] == ["ok"] * 7 + ["failed"]
    assert told["string"]["escaped"].startswith(f"POST /notify/\\n{CLIENT_ID}.")
    assert told["signedString"]["bytes"] == told["string"]["bytes"] - 1


def test_the_steps_behind_the_one_that_failed_are_not_reached(line: Line) -> None:
    broken = GENUINE.having(Request_Time="yesterday")
    _, out, _ = line("--json", "--public-key", GATEWAY, stdin=broken.wire())
    verdicts = [step["verdict"] for step in json.loads(out)["steps"]]
    assert verdicts == ["ok", "ok", "failed"] + ["not_reached"] * 5


# What is given


def test_a_message_may_stand_in_a_file_or_two_or_come_on_stdin(line: Line) -> None:
    whole = line.write("c.txt", GENUINE.wire())
    head, body = line.write("h.txt", GENUINE.head), line.write("b.json", GENUINE.body)
    for words in ([whole], ["--headers", head, "--body", body], ["-"]):
        code, *_ = line("--public-key", GATEWAY, *words, stdin=GENUINE.wire())
        assert code == 0
    code, *_ = line("--public-key", GATEWAY, "--headers", head, "--body", "-", stdin=GENUINE.body)
    assert code == 0


def test_keys_come_from_the_settings(line: Line) -> None:
    settings_of_a_merchant(line)
    assert line(stdin=GENUINE.wire())[0] == 0
    assert line("--as", "request", stdin=GENUINE.wire())[0] == 5


def test_a_key_that_is_given_stands_for_those_of_the_settings(line: Line) -> None:
    settings_of_a_merchant(line)
    other = key_text("alipay_v2", "public_x509_b64")
    _, out, _ = line("--json", "--public-key", other, stdin=GENUINE.wire())
    assert [each["mistake"] for each in json.loads(out)["mistakes"]] == ["key.unknown"]


def test_a_message_of_ours_taken_for_the_gateways_has_the_key_of_the_wrong_side(line: Line) -> None:
    settings_of_a_merchant(line)
    ours = notification(paid("order-1"), key="merchant_v1")
    _, out, _ = line("--json", stdin=ours.wire())
    assert [each["mistake"] for each in json.loads(out)["mistakes"]] == ["key.wrong_side"]


@pytest.mark.parametrize("form", ["key.txt", "1=key.txt", "pairs.txt", "1=KEY"])
def test_a_key_is_given_as_it_is_or_in_a_file_with_or_without_its_version(
    line: Line, form: str
) -> None:
    line.write("key.txt", GATEWAY.encode())
    other = key_text("alipay_v2", "public_x509_b64")
    line.write("pairs.txt", f"1={GATEWAY}\n2={other}".encode())
    code, *_ = line("--public-key", form.replace("KEY", GATEWAY), stdin=GENUINE.wire())
    assert code == 0


def test_the_path_may_be_given(line: Line) -> None:
    moved = replace(GENUINE, path="/elsewhere")
    assert line("--public-key", GATEWAY, stdin=moved.wire())[0] == 5
    words = ("--path", "/nowhere", "--path", "/notify")
    assert line("--public-key", GATEWAY, *words, stdin=moved.wire())[0] == 0


def test_the_client_id_may_be_given(line: Line) -> None:
    words = ("--public-key", GATEWAY, "--client-id")
    assert line(*words, CLIENT_ID, stdin=GENUINE.wire())[0] == 0
    _, out, _ = line("--json", *words, "SANDBOX_OTHER", stdin=GENUINE.wire())
    assert json.loads(out)["mistakes"][0]["mistake"] == "client.other"


def test_the_string_is_written_for_its_owner_alone(line: Line) -> None:
    line("--public-key", GATEWAY, "--string", "s", stdin=GENUINE.wire())
    written = line.folder / "s"
    assert written.read_bytes().endswith(b"." + GENUINE.body)
    assert written.read_bytes().startswith(b"POST /notify\n" + CLIENT_ID.encode() + b".")
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


MISUSE = {
    "no message": ([], 2, "the capture cannot be read: it is empty"),
    "no such file": (["nowhere.txt"], 2, "nowhere.txt cannot be read: No such file"),
    "a name that is none": (["a\0b"], 2, "no such name is possible"),
    "two forms": (["c.txt", "--body", "b"], 2, "give one FILE with the whole message, or"),
    "stdin twice": (["--body", "-", "--headers", "-"], 2, "only one of --headers and --body"),
    "no key": (["c.txt"], 3, "no public key of the gateway is known: set ALIPAY_PUBLIC_KEYS"),
    "a bad key": (["c.txt", "--public-key", "AAAA"], 2, "--public-key: not a public key: copy"),
    "one version twice": (
        ["c.txt", "--public-key", GATEWAY, "--public-key", GATEWAY],
        2,
        "--public-key: two keys of one version: write VERSION=KEY",
    ),
    "a string that cannot be written": (
        ["c.txt", "--public-key", GATEWAY, "--string", "no/where"],
        1,
        "no/where: No such file or directory",
    ),
}


@pytest.mark.parametrize("words, code, why", MISUSE.values(), ids=MISUSE)
def test_what_cannot_be_used_is_said_in_one_line(
    line: Line, words: list[str], code: int, why: str
) -> None:
    line.write("c.txt", GENUINE.wire())
    found, out, err = line(*words)
    assert (found, out) == (code, "")
    assert err.startswith("reconciler: ")
    assert why in err


def test_a_key_of_the_settings_that_cannot_be_read_is_told(line: Line) -> None:
    line.set("ALIPAY_PUBLIC_KEYS", "AAAA")
    code, _, err = line(stdin=GENUINE.wire())
    assert code == 3
    assert "ALIPAY_PUBLIC_KEYS: not a public key" in err


# Secrets


def test_a_private_key_is_never_printed(line: Line) -> None:
    settings_of_a_merchant(line)
    secret = key_text("merchant_v1", "private_pkcs8_b64")
    for words in ([], ["--json"], ["--public-key", secret], ["--as", "request"]):
        _, out, err = line(*words, stdin=LOST.wire())
        assert secret[40:80] not in out + err


def test_nothing_of_the_message_is_told_on_stderr(line: Line) -> None:
    for wire in (ALTERED.wire(), GENUINE.wire()):
        _, _, err = line("--public-key", GATEWAY, stdin=wire)
        assert err == ""


# The same verdict as the receiver's

DIFFERENT: dict[str, Post] = {
    "genuine": GENUINE,
    "altered": ALTERED,
    "with a query": replace(GENUINE, path="/notify?x=1"),
    "GET": replace(GENUINE, method="GET"),
    "encrypted": GENUINE.also("Encrypt", "algorithm=RSA_AES"),
    "compressed": GENUINE.also("Content-Encoding", "gzip"),
    "a form": GENUINE.having(Content_Type="application/x-www-form-urlencoded"),
    "another charset": GENUINE.having(Content_Type="application/json; charset=GBK"),
    "no signature": GENUINE.without("Signature"),
    "two signatures": GENUINE.also("Signature", "x"),
    "no time": GENUINE.without("Request-Time"),
    "odd time": GENUINE.having(Request_Time="yesterday"),
    "no object": notification(b"[]"),
    "nonsense": GENUINE.having(Signature="nonsense"),
    "another algorithm": GENUINE.having(Signature="algorithm=X,keyVersion=1,signature=AAAA"),
    "short": GENUINE.having(Signature="algorithm=RSA256,keyVersion=1,signature=AAAA"),
    "another client": notification(paid("order-1"), client_id="SANDBOX_OTHER"),
    "another version": notification(paid("order-1"), key_version=9),
    "a stranger": notification(paid("order-1"), key="attacker"),
    "too large": notification(b'{"a":"' + b"x" * 70_000 + b'"}'),
}


async def test_the_verdict_is_that_of_the_receiver(redis_url: str, prefix: str) -> None:
    """The same bytes are sent to a real receiver and read as a capture."""
    redis = client(redis_url)
    believed = Said(
        client_id=CLIENT_ID, keys={1: public_key("alipay_v1"), 2: public_key("alipay_v2")}
    )
    async with receiving(Store(redis, Keys(prefix))) as port:
        for name, post in DIFFERENT.items():
            reply = await send(port, post.wire())
            assert reply is not None
            said = json.loads(reply.body).get("error")
            case = case_of(read_capture(post.wire()), believed, settings_of())
            assert (name, examined(case).reason) == (name, said)
    await redis.aclose()


# The page


def test_the_page_shows_what_the_command_prints(line: Line) -> None:
    told = verify_page.PAGE.read_text("utf-8")
    assert verify_page.page(told, line.folder) == told, "python -m tests.verify_page --write"


def test_the_page_has_an_example_of_each_outcome() -> None:
    told = verify_page.PAGE.read_text("utf-8")
    for end in ("It verifies.\n", "none of the known mistakes explains it", "It verifies when"):
        assert end in told


def test_the_page_lists_every_mistake() -> None:
    told = verify_page.PAGE.read_text("utf-8")
    assert [name for name in MISTAKES if f"| `{name}` |" not in told] == []


def test_a_known_key_does_not_show_itself() -> None:
    assert "key=" not in repr(KnownKey("gateway", 1, public_key("alipay_v1")))
    assert "order-1" not in repr(read_capture(GENUINE.wire()))
