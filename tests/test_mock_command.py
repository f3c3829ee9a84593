"""`reconciler mock-gateway`: a gateway to try things with, that never touches real keys."""

import json
import os
import signal
import stat
import urllib.request
from pathlib import Path

import pytest

from tests.servers import Process, environ, process, reconciler, wait_until
from worker.mock_gateway.command import make_keys, read_switches
from worker.mock_gateway.config import Switches
from worker.settings import load
from worker.signature import load_public_key


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of keys that the mock gateway made; tests only look at it."""
    folder = tmp_path_factory.mktemp("mock") / "deep" / "keys"
    make_keys(folder)
    return folder


# Keys


def test_a_new_folder_gets_two_pairs_that_belong_together(made: Path) -> None:
    for name, key in zip(("gateway", "merchant"), make_keys(made), strict=True):
        public = load_public_key((made / f"{name}.pub").read_text())
        assert public.public_numbers() == key.public_key().public_numbers()
    gateway, merchant = make_keys(made)
    assert gateway.private_numbers() != merchant.private_numbers()


def test_the_same_folder_gives_the_same_keys_again(made: Path) -> None:
    before = {file.name: file.read_bytes() for file in made.iterdir()}
    assert [k.private_numbers() for k in make_keys(made)] == [
        k.private_numbers() for k in make_keys(made)
    ]
    assert {file.name: file.read_bytes() for file in made.iterdir()} == before


def test_what_is_private_is_readable_by_its_owner_alone(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    for name in ("gateway", "merchant"):
        assert stat.S_IMODE((made / f"{name}.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("files", [[], ["merchant.key", "gateway.key"]])
def test_a_folder_that_was_there_is_refused_and_left_as_it_is(
    tmp_path: Path, files: list[str]
) -> None:
    for name in files:
        (tmp_path / name).write_text("the key of the shop")
    with pytest.raises(ValueError, match="was not made by the mock gateway: name a folder that"):
        make_keys(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(files)


# Switches


@pytest.mark.parametrize(
    ("given", "switches"),
    [
        ([], Switches()),
        (["cancel_of_failed=F"], Switches(cancel_of_failed="F")),
        (["notify_cancelled=true"], Switches(notify_cancelled=True)),
        (["notify_cancelled=false"], Switches()),
        (["notify_key_version=2"], Switches(notify_key_version=2)),
        (["notify_key_version="], Switches()),
        (
            ["resend_time=kept", "missing_order=PROCESS_FAIL"],
            Switches(resend_time="kept", missing_order="PROCESS_FAIL"),
        ),
    ],
)
def test_a_switch_is_set_by_its_name(given: list[str], switches: Switches) -> None:
    assert read_switches(given) == switches


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("nonsense=1", "--switch nonsense=1: there are cancel_of_failed, missing_order, "),
        ("=", "--switch =: there are "),
        ("cancel_of_failed", "--switch cancel_of_failed: give one of S, F"),
        ("cancel_of_failed=X", "--switch cancel_of_failed=X: give one of S, F"),
        ("notify_cancelled=yes", "--switch notify_cancelled=yes: give one of true, false"),
        ("notify_key_version=two", "--switch notify_key_version=two: give a number, or nothing"),
        ("notify_key_version=²", "--switch notify_key_version=²: give a number, or nothing"),
    ],
)
def test_a_switch_that_is_none_is_answered_with_what_there_is(word: str, told: str) -> None:
    with pytest.raises(ValueError, match="^--switch") as caught:
        read_switches([word])
    assert str(caught.value).startswith(told)


# The process


def url_of(mock: Process) -> str:
    """What it prints for scripts, once it answers: it listens on a port of its own choice."""
    wait_until(lambda: "see the truth" in mock.said)
    return next(w for w in mock.said.split() if w.startswith("ALIPAY_GATEWAY_URL=")).split("=")[1]


def test_the_settings_that_it_prints_are_settings_that_work(tmp_path: Path, made: Path) -> None:
    """And it ends at once when it is asked to."""
    words = reconciler("mock-gateway", "--keys", str(made), "--port", "0", "--seed", "7")
    with process(tmp_path, {}, *words) as mock:
        url = url_of(mock)
        hints = [line.strip() for line in mock.said.splitlines() if "=" in line]
        given = environ("redis://localhost", "p", "")
        for name in ("ALIPAY_PRIVATE_KEY", "ALIPAY_PUBLIC_KEYS"):
            del given[name]
        settings = load(given | dict(hint.split("=", 1) for hint in hints))
        assert settings.accounts[settings.client_id].gateway_url == url
        order = {"paymentRequestId": "paid-1", "amount": {"currency": "USD", "value": "599"}}
        request = urllib.request.Request(f"{url}/mock/orders", json.dumps(order).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 201
        with urllib.request.urlopen(f"{url}/mock/ledger", timeout=10) as answer:
            assert [row["paymentRequestId"] for row in json.load(answer)] == ["paid-1"]
        mock.signal(signal.SIGTERM)
        assert mock.ended() == 0
        assert mock.stdout() == f"{url}\n"
    assert "PRIVATE KEY" not in mock.said


def test_ctrl_c_ends_it_in_good_order(tmp_path: Path, made: Path) -> None:
    words = reconciler("mock-gateway", "--keys", str(made), "--port", "0")
    with process(tmp_path, dict(os.environ), *words) as mock:
        url_of(mock)
        mock.signal(signal.SIGINT)
        assert mock.ended() == 0
    assert "Traceback" not in mock.said
