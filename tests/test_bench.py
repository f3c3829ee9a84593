"""The bench, made small: that it does the work which it measures, not how fast it is."""

import json
import math
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.bench import fill, gateway, profile, text
from tests.bench.__main__ import PARTS
from tests.bench.frame import Promise, interleaved, ratios
from tests.bench.inquiry import KEYS, contestants
from tests.bench.measure import percentile
from tests.bench.server import redis_server
from tests.keys import CLIENT_ID, private_key
from tests.servers import Process, notification, paid, wait_until
from worker.signature import Untrusted, signature_header

EXAMPLE = {
    "machine": {"cpus": 2, "model": "a CPU", "python": "3.11.0", "load_before": 0.1},
    "sizes": {"rounds": 3},
    "parts": {
        "a": {
            "tables": [{"title": "(a) it", "columns": ["", "CPU µs"], "rows": [["ours", 1234.5]]}],
            "notes": ["So it is."],
            "promises": [
                {
                    "what": "(a) CPU",
                    "value": 0.4,
                    "bound": 0.5,
                    "at_least": False,
                    "goal": 0.25,
                    "holds": True,
                }
            ],
        }
    },
}


# The page


def test_the_page_has_a_place_for_everything_that_is_measured() -> None:
    places = re.findall(r"<!-- bench (\w+) -->", text.PAGE.read_text())
    assert sorted(places) == sorted([*PARTS, "promises", "machine"])


def test_the_tables_on_the_page_have_the_shape_that_is_written() -> None:
    """Filled or still empty: a heading of theirs that the code no longer writes is noticed."""
    for name, lines in _blocks().items():
        if lines:
            assert all(line.count("|") in _widths(lines) for line in lines if "|" in line), name
            assert name == "machine" or any(line.startswith("|---|") for line in lines), name


def _blocks() -> dict[str, list[str]]:
    found = re.findall(r"<!-- bench (\w+) -->\n(.*?)<!-- /bench -->", text.PAGE.read_text(), re.S)
    return {name: body.splitlines() for name, body in found}


def _widths(lines: list[str]) -> set[int]:
    return {line.count("|") for line in lines if line.startswith("|---|")}


def test_figures_are_put_between_the_marks_and_nothing_else_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    other = "B\n<!-- bench b -->\nkept\n<!-- /bench -->\n"
    page.write_text(f"A\n<!-- bench a -->\nold\n<!-- /bench -->\n{other}")
    monkeypatch.setattr(text, "PAGE", page)
    text.write(EXAMPLE)
    table = "**(a) it**\n\n|  | CPU µs |\n|---|---:|\n| ours | 1,234 |\n\nSo it is.\n"
    assert page.read_text() == f"A\n<!-- bench a -->\n{table}<!-- /bench -->\n{other}"


def test_the_report_says_what_holds() -> None:
    said = list(text.report(EXAMPLE))
    assert said[0] == "(a) it" and said[2].split() == ["ours", "1,234"]
    assert said[-1].split() == ["(a)", "CPU", "0.40", "≤", "0.50", "≤", "0.25", "yes"]


# The frame


def test_a_promise_holds_up_to_its_bound() -> None:
    assert Promise("x", 0.5, 0.5).holds and not Promise("x", 0.51, 0.5).holds
    assert Promise("x", 2, 2, at_least=True).holds and not Promise("x", 1, 2, at_least=True).holds


def test_contestants_take_turns_and_every_second_round_goes_backwards() -> None:
    order: list[str] = []

    def measure(each: str) -> int:
        order.append(each)
        return len(order)

    found = interleaved(2, "ab", measure, lambda _: None)
    assert order == ["a", "b", "b", "a"]
    assert found == {"a": [1, 4], "b": [2, 3]}


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    assert ratios([2.0, 30.0, 3.0], [1.0, 10.0, 3.0], float) == 2.0


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile(range(100), 50) == 50 and percentile([1, 2, 3], 99) == 3


def test_a_sample_counts_for_who_had_the_work_done() -> None:
    assert profile.group("worker/gateway.py:call;worker/signature.py:signature_header") == "sign"
    said = "jobs/report.py:report;structlog/stdlib.py:info;json/encoder.py:JSONEncoder.encode"
    assert profile.group(said) == "log"
    assert profile.group("asyncio/events.py:Handle._run") == "event loop"


# The gateway


def test_a_request_that_was_not_signed_is_noticed() -> None:
    post = notification(paid("a"))  # the gateway's signature, not the merchant's
    head = "\r\n".join(["POST / HTTP/1.1", *(f"{name}: {value}" for name, value in post.headers)])
    with pytest.raises(Untrusted):
        gateway.check_request(head.encode() + b"\r\n\r\n" + post.body)


# The whole


@pytest.mark.once
def test_a_copy_of_a_payment_is_what_the_worker_wrote_but_for_its_name() -> None:
    copied = fill.original()
    assert len(copied.timeline) == fill.ENTRIES
    with redis_server() as server, Redis.from_url(server.url) as client:
        fill.fill(server, copied, 3)
        names = [f"{CLIENT_ID}:{fill.name_of(number)}" for number in range(3)]
        first, last = (fill.read(client, name) for name in (names[0], names[2]))
        assert first == copied
        old, new = fill.name_of(0).encode(), fill.name_of(2).encode()
        assert repr(last) == repr(first).replace(old.decode(), new.decode()) and old != new
        key = KEYS.payment(names[2])
        assert client.object("encoding", key) == b"listpack" and client.ttl(key) == -1
        assert client.zscore(KEYS.queue, KEYS.job(names[2]))


@pytest.mark.once
@pytest.mark.parametrize("name", PARTS)
def test_each_part_gives_its_figures_and_has_done_the_work(name: str, tmp_path: Path) -> None:
    """What was asked, verified and published is counted in there; how fast it was is not judged."""
    part = _quick(tmp_path, name)
    assert part["tables"] and all(table["rows"] for table in part["tables"])
    for table in part["tables"]:
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
    for promise in part["promises"]:
        assert promise["value"] > 0 and math.isfinite(promise["value"]), promise
    if name == "a":
        assert [row[0] for row in part["tables"][0]["rows"]] == [who.what for who in contestants(1)]


def _quick(folder: Path, part: str) -> dict[str, Any]:
    file = folder / "bench.json"
    words = ("-m", "tests.bench", part, "--quick", f"--json={file}")
    run = Process(folder, {}, sys.executable, *words)
    try:
        assert run.ended(200) == 0, run.said
        told: dict[str, Any] = json.loads(file.read_text())["parts"][part]
        return told
    finally:
        run.close()


def test_the_gateway_holds_its_answers_until_the_measuring_has_begun() -> None:
    """Or a machine that leaves the meter no turn would have done the work before it looks."""
    asked = gateway.question("a")
    signature = signature_header(asked, private_key("merchant_v1"), 1)
    head = (
        f"POST {asked.path} HTTP/1.1\r\nclient-id: {asked.client_id}\r\n"
        f"request-time: {asked.time}\r\nsignature: {signature}\r\n"
        f"content-length: {len(asked.body)}\r\n\r\n"
    )
    with gateway.running(gateway.answers(["a"], ["PROCESSING"]), hold_at=2) as held:
        host, _, port = held.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as line:
            line.sendall((head.encode() + asked.body) * 5)
            wait_until(lambda: held.answered == 2)
            time.sleep(20 * gateway.HELD_SECONDS)
            assert held.answered == 2
            held.release()
            wait_until(lambda: held.answered == 5)
