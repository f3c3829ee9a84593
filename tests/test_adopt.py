"""A shop that has payments already: its list is taken over, nothing is lost, all can be rebuilt."""

import asyncio
import io
import itertools
import json
import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.audit import AGREEMENTS, Verdict
from jobs.outcome import rfc3339
from tests import test_cli
from tests.keys import CLIENT_ID
from tests.servers import (
    ROOT,
    environ,
    inquired,
    now_ms,
    says,
    scripted_gateway,
    signed_answer,
)
from tests.test_cli import Line
from worker.audit import Audit
from worker.cli import _parser
from worker.cli.progress import EVERY, Progress, bar_of, words_of
from worker.imports import Full, Import, Overtaken, Stalled

line = test_cli.line  #: the fixture

GOOD = '{"paymentRequestId": "order-%d", "paymentAmount": {"currency": "USD", "value": "599"}}'
PAST = "2026-01-02T03:04:05Z"


def listed(folder: Path, *lines: str, name: str = "payments.ndjson") -> str:
    file = folder / name
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return str(file)


def orders(line: Line) -> list[str]:
    entries = line.redis.xrange(line.keys.commands)
    return [json.loads(fields["data"])["paymentRequestId"] for _, fields in entries]


# track --file


def test_a_list_is_written_as_commands(line: Line, tmp_path: Path) -> None:
    code, out, err = line("track", "--file", listed(tmp_path, GOOD % 1, GOOD % 2))
    assert code == 0, err
    assert out.splitlines()[0] == "2 payments: 2 good, 0 faulty, 0 named twice"
    assert out.splitlines()[-1] == "2 written"
    assert "2 name no closing time" in out
    assert orders(line) == ["order-1", "order-2"]


def test_the_same_list_again_writes_nothing_unless_begun_anew(line: Line, tmp_path: Path) -> None:
    words = ["track", "--file", listed(tmp_path, GOOD % 1, GOOD % 2)]
    line(*words)
    code, out, _ = line(*words)
    assert (code, out.splitlines()[-1]) == (0, "0 written")
    assert "written before, up to line 2; --restart begins anew" in out
    assert len(orders(line)) == 2
    line(*words, "--restart")
    assert len(orders(line)) == 4
    line(*words, "--client-id", "OTHER")  # another account's payments, if of the same names
    assert len(orders(line)) == 6


def test_stdin_is_a_list_too(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    table = b"paymentRequestId,currency,value\norder-1,USD,599\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(table)))
    code, out, err = line("track", "--file", "-", "--json")
    assert (code, json.loads(out)["written"]) == (0, 1), err
    assert orders(line) == ["order-1"]


def test_one_faulty_line_and_nothing_is_written(line: Line, tmp_path: Path) -> None:
    file = listed(tmp_path, GOOD % 1, (GOOD % 2).replace("599", "5.99"), "order-3")
    code, out, _ = line("track", "--file", file)
    assert (code, orders(line)) == (1, [])
    first, second, *_, last = out.splitlines()
    assert first.startswith("line 2 (order-2): paymentAmount: write ")
    assert second.startswith("line 3: not one JSON object (json): write ")
    assert last.startswith("nothing is written: mend those lines, or leave them out")
    assert not line.redis.exists(line.keys.imports)


def test_faulty_lines_can_be_left_out(line: Line, tmp_path: Path) -> None:
    file = listed(tmp_path, GOOD % 1, "order-2", GOOD % 3, GOOD % 1, "order-5")
    code, out, _ = line("track", "--file", file, "--skip-faulty", "--json")
    said = json.loads(out)
    assert (code, said["written"], orders(line)) == (1, 2, ["order-1", "order-3"])
    assert [bad["line"] for bad in said["faulty"]] == [2, 5]
    assert said["duplicates"] == [{"line": 4, "paymentRequestId": "order-1", "first": 1}]
    assert line.redis.hget(line.keys.imports, *_fields(line)[:1]) == "5"


def _fields(line: Line) -> list[str]:
    return sorted(line.redis.hkeys(line.keys.imports), key=len)


def test_a_dry_run_tells_all_and_writes_nothing(line: Line, tmp_path: Path) -> None:
    file = listed(tmp_path, GOOD % 1, GOOD % 1, "nonsense")
    code, out, _ = line("track", "--file", file, "--dry-run")
    assert code == 1
    assert "line 2 (order-1): left out, line 1 names it already" in out
    assert out.splitlines()[-1] == "nothing is written (--dry-run); 1 would be"
    assert line.redis.keys(f"{line.keys.prefix}:*") == []


def test_old_payments_wait_for_a_word(line: Line, tmp_path: Path) -> None:
    file = listed(tmp_path, (GOOD % 1).replace("}}", f'}}, "paymentExpiryTime": "{PAST}"}}'))
    code, out, _ = line("track", "--file", file)
    assert (code, orders(line)) == (1, [])
    assert "its closing time is past" in out and "--on-timeout report" in out
    code, out, _ = line("track", "--file", file, "--on-timeout", "report")
    assert (code, orders(line)) == (0, ["order-1"])
    assert "1 are past their closing time: asked about at once" in out


def test_what_was_left_out_is_told_by_every_later_run(line: Line, tmp_path: Path) -> None:
    """Also without --skip-faulty: it was said once, and nothing more can come of them."""
    past = (GOOD % 3).replace("}}", f'}}, "paymentExpiryTime": "{PAST}"}}')
    words = ["track", "--file", listed(tmp_path, GOOD % 1, "order-2", past)]
    code, out, _ = line(*words, "--skip-faulty")
    assert code == 1 and "3 payments: 1 good, 2 faulty, 0 named twice" in out
    for more in ([], ["--skip-faulty"], ["--dry-run"]):
        code, out, _ = line(*words, *more)
        assert code == 1
        first, second, summary, *_ = out.splitlines()
        assert first.startswith("line 2: left out before, not one JSON object")
        assert second.startswith("line 3 (order-3): left out before, its closing time is past")
        assert summary == (
            "3 payments: 0 good, 2 faulty (2 of them left out before), 0 named twice"
        )
    code, out, _ = line(*words, "--json")
    said = json.loads(out)
    assert (code, said["leftOutBefore"], [bad["line"] for bad in said["faulty"]]) == (1, 2, [2, 3])
    assert orders(line) == ["order-1"]


def test_the_rest_of_a_list_is_refused_for_its_own_faults_alone(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = listed(tmp_path, GOOD % 1, "order-2", GOOD % 3, "order-4")
    write = Import.write

    async def killed(importing: Import, commands: Any, _: Any) -> None:
        importing.batch = 1
        await write(importing, commands, lambda _: None)
        raise Stalled("0 wait")

    with monkeypatch.context() as patched:
        patched.setattr(Import, "write", killed)
        assert line("track", "--file", file, "--skip-faulty")[0] == 4
    code, out, _ = line("track", "--file", file)
    assert code == 1 and "nothing is written: mend those lines" in out
    assert "2 faulty (1 of them left out before)" in out
    assert line.redis.hget(line.keys.imports, *_fields(line)[:1]) == "3"
    assert line("track", "--file", file, "--skip-faulty")[0] == 1
    assert line.redis.hget(line.keys.imports, *_fields(line)[:1]) == "4"


@pytest.mark.parametrize("word", ["report", "cancel"])
def test_what_is_well_by_a_later_word_is_written_by_beginning_anew(
    line: Line, tmp_path: Path, word: str
) -> None:
    past = (GOOD % 1).replace("}}", f'}}, "paymentExpiryTime": "{PAST}"}}')
    words = ["track", "--file", listed(tmp_path, past, GOOD % 2)]
    line(*words, "--skip-faulty")
    code, out, _ = line(*words, "--on-timeout", word)
    assert code == 1 and "line 1 (order-1): left out before, it was left out, and is well" in out
    code, out, _ = line(*words, "--on-timeout", word, "--restart")
    assert (code, orders(line)) == (0, ["order-2", "order-1", "order-2"])


def test_faults_of_a_table_are_told_by_its_columns(line: Line, tmp_path: Path) -> None:
    rows = ["paymentRequestId,currency,value,paymentExpiryTime", "a,USD,5.99,", f"b,USD,5,{PAST}"]
    code, out, _ = line("track", "--file", listed(tmp_path, *rows, name="p.csv"))
    price, past, *_ = out.splitlines()
    columns = "columns currency and value: write both, as USD and 599, in the smallest unit"
    assert (code, price) == (1, f"line 2 (a): {columns}")
    assert past.endswith("--on-timeout cancel, or by a column onTimeout")


def interrupt() -> None:
    """Ctrl-C, as asyncio takes it."""
    signal.raise_signal(signal.SIGINT)


def test_an_import_that_is_interrupted_says_how_it_goes_on(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = listed(tmp_path, *(GOOD % n for n in range(1, 4)))
    write = Import.write

    async def one_and_then(importing: Import, commands: Any, _: Any) -> None:
        await write(importing, itertools.islice(commands, 1), lambda _: None)
        interrupt()
        await asyncio.sleep(30)

    with monkeypatch.context() as patched:
        patched.setattr(Import, "write", one_and_then)
        code, out, err = line("track", "--file", file)
    goes_on = "Written up to line 1; the same command goes on from there"
    assert (code, out, err.splitlines()[-1]) == (130, "", f"reconciler: interrupted. {goes_on}")
    assert line("track", "--file", file)[0] == 0
    assert orders(line) == ["order-1", "order-2", "order-3"]


def test_who_interrupts_the_waiting_for_a_list_is_told_that_it_is_written(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waits(_: Any) -> None:
        interrupt()
        await asyncio.sleep(30)

    monkeypatch.setattr(Import, "carried_out", waits)
    code, out, err = line("track", "--file", listed(tmp_path, GOOD % 1), "--wait")
    assert (code, out) == (130, "")
    told = err.splitlines()[-1]
    assert told.startswith("reconciler: interrupted. All is written; the same command with --wait")


def test_many_faults_are_counted_where_a_person_reads(line: Line, tmp_path: Path) -> None:
    file = listed(tmp_path, *["nonsense"] * 60)
    code, out, _ = line("track", "--file", file)
    assert code == 1 and out.count("not one JSON object") == 50
    assert "... and 10 more: --json tells all" in out
    _, out, _ = line("track", "--file", file, "--json")
    assert len(json.loads(out)["faulty"]) == 60


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--file", "nowhere.csv"], 2, "--file nowhere.csv: No such file or directory; write"),
        (["--file", "no\0where"], 2, "no such name is possible; write the path"),
        (["order-1", "--file", "x"], 2, "--file: the list says id, amount and all else"),
        (["--file", "x", "--reference", "y"], 2, "--file: the list says"),
        (["--file", "x", "--room", "-1"], 2, "--room: write a number"),
        (["order-1"], 2, "write the payment's id and --amount, or --file"),
        (["--file", os.devnull], 1, "it is empty"),
    ],
)
def test_what_cannot_be_meant_is_told(line: Line, words: list[str], code: int, says: str) -> None:
    found, out, err = line("track", *words)
    assert (found, out) == (code, "")
    assert says in err


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (Stalled("7 wait"), 4, "7 wait. Written up to line 0; the same command goes on from there"),
        (Full("no room"), 4, "no room. Written up to line 0"),
        (Overtaken(), 1, "another process writes the same list"),
    ],
)
def test_what_stops_an_import_is_told_with_how_it_goes_on(
    line: Line,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    code: int,
    says: str,
) -> None:
    async def stops(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(Import, "write", stops)
    found, out, err = line("track", "--file", listed(tmp_path, GOOD % 1))
    assert (found, out) == (code, "")
    assert says in err


def test_who_waits_for_a_worker_that_is_not_there_is_told(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stalls(_: Any) -> None:
        raise Stalled("1 waits")

    monkeypatch.setattr(Import, "carried_out", stalls)
    code, _, err = line("track", "--file", listed(tmp_path, GOOD % 1), "--wait")
    assert code == 4 and "all is written, but 1 waits; the same command with --wait" in err
    assert orders(line) == ["order-1"]


def test_a_heading_that_is_misspelt_is_told(line: Line, tmp_path: Path) -> None:
    code, _, err = line("track", "--file", listed(tmp_path, "id,amount", "x,y", name="p.csv"))
    assert code == 1 and "column 'id' of its first line is none of paymentRequestId" in err


# Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_grows() -> None:
    stream = Terminal()
    progress = Progress("written", 4, stream)
    progress.advance(1)
    progress.advance(3)
    progress.close()
    drawn = stream.getvalue()
    assert drawn.startswith("\r[" + "#" * 7 + "." * 23 + "] 1 of 4 written")
    assert drawn.endswith("\n") and "[" + "#" * 30 + "] 4 of 4 written" in drawn


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_why_it_takes_so_long_is_told_in_a_line_of_its_own(stream: io.StringIO) -> None:
    progress = Progress("written", 4, stream)
    progress.note("before")
    progress.advance(1)
    progress.note("between")
    progress.advance(3)
    progress.close()
    progress.note("after")
    told = stream.getvalue().splitlines()
    assert [said for said in told if said.startswith("reconciler")] == [
        "reconciler: before",
        "reconciler: between",
        "reconciler: after",
    ]


def test_in_a_log_there_is_a_line_now_and_then() -> None:
    stream = io.StringIO()
    progress = Progress("written", 3 * EVERY, stream)
    for _ in range(30):
        progress.advance(EVERY // 10)
    progress.close()
    told = stream.getvalue().splitlines()
    assert [said.split(" written")[0] for said in told] == [
        f"reconciler: {n * EVERY:,} of {3 * EVERY:,}" for n in (1, 2, 3)
    ]


def test_a_bar_says_how_fast_and_how_long() -> None:
    assert (
        words_of("written", 4000, 10_000, 5) == "4,000 of 10,000 written, 800 a second, 8 s to go"
    )
    assert words_of("written", 0, 10, 0) == "0 of 10 written"
    assert bar_of(0, 0) == "." * 30


# report


def told(line: Line, type_: str, name: str, **data: Any) -> None:
    """An outcome as the worker publishes it."""
    data = {
        "clientId": CLIENT_ID,
        "paymentRequestId": name,
        "paymentAmount": {"currency": "USD", "value": "599"},
        "status": "unresolved",
        "reason": "",
        "kind": "",
        "would": "",
        "resultCode": "SUCCESS",
    } | data
    event = {"id": f"{name}:{type_}", "type": type_, "time": rfc3339(now_ms()), "data": data}
    line.redis.xadd(line.keys.outcomes, {"type": type_, "data": json.dumps(event)})


def test_the_report_sums_up_what_report_mode_kept_from_being_done(line: Line) -> None:
    would = {"reason": "report", "would": "cancel"}
    told(line, "payment.succeeded", "a", status="succeeded")
    told(line, "payment.succeeded", "a", status="succeeded")  # published twice
    told(line, "payment.unresolved", "b", **would)
    told(line, "payment.succeeded", "b", status="succeeded")
    told(line, "payment.unresolved", "c", resultCode="ORDER_NOT_EXIST", **would)
    told(line, "payment.failed", "d", status="failed", would="cancel")
    told(
        line, "payment.attention", "e", status="cancelled", kind="paid_after_cancel", would="cancel"
    )
    told(line, "payment.unresolved", "f", reason="amount_mismatch")
    for _ in range(2):
        told(line, "command.rejected", "g", reason="report_mode", command="payment.cancel")
    told(line, "command.rejected", "h", reason="report_mode", command="payment.submit")
    code, out, err = line("report", "--json")
    said = json.loads(out)
    assert (code, err) == (0, "")
    one, two = ({"payments": n, "amounts": {"USD": str(n * 599)}} for n in (1, 2))
    assert said["ended"] == {"succeeded": two, "failed": one, "cancelled": one}
    assert said["cancelCommandsRefused"] == 1
    assert said["wouldCancel"] == {
        "payments": 4,
        "amounts": {"USD": "2396"},
        "byReason": {"report": two, "failed": one, "paid_after_cancel": one},
        "paidLater": two,
        "neverFound": one,
    }


def test_the_report_tells_a_person_the_same(line: Line) -> None:
    told(line, "payment.unresolved", "b", reason="report", would="cancel")
    told(line, "payment.succeeded", "b", status="succeeded")
    told(line, "command.rejected", "g", reason="report_mode", command="payment.cancel")
    _, out, _ = line("report")
    assert out.startswith("what was told since 20")
    assert "\nended as succeeded: 1 (USD 599)\n" in out
    assert "\n  not paid at its closing time: 1 (USD 599)\n" in out
    assert "\n  of these, paid later: 1 (USD 599)\n" in out
    assert "report mode refused: 1\n" in out


def test_the_report_counts_from_when_it_is_told(line: Line) -> None:
    line.redis.xadd(line.keys.outcomes, {"data": "none of ours"}, id="1-1")
    code, out, _ = line("report", "--since", "1h")
    assert (code, out) == (0, "nothing was told in that time\n")
    assert line("report", "--since", "yesterday")[0] == 2


# audit


@pytest.fixture
def known(line: Line, monkeypatch: pytest.MonkeyPatch) -> Line:
    """With the keys that an audit needs."""
    for name, value in environ("", "", "").items():
        if name.startswith("ALIPAY"):
            monkeypatch.setenv(name, value)
    return line


async def audited(line: Line, *words: str, answer: Any) -> tuple[int, str, str]:
    async with scripted_gateway() as gateway:
        gateway.answer = answer
        os.environ["ALIPAY_GATEWAY_URL"] = gateway.url  # put back by the fixture
        return await asyncio.to_thread(line, "audit", *words)


def ended(line: Line, name: str, status: str) -> None:
    line.track(name)
    line.redis.hset(line.keys.payment(f"{CLIENT_ID}:{name}"), "status", status)


async def test_an_audit_that_is_interrupted_tells_what_it_has_found(
    known: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(known, "order-1", "cancelled")
    run = Audit.run

    async def one_and_then(audit: Audit, asked: Any) -> None:
        await run(audit, asked)
        raise asyncio.CancelledError  # as asyncio tells a Ctrl-C; signals reach the main thread

    monkeypatch.setattr(Audit, "run", one_and_then)
    words = ("--file", listed(tmp_path, '{"paymentRequestId": "order-1"}'))
    code, out, err = await audited(known, *words, answer=says("SUCCESS"))
    assert code == 130 and "paid_there_closed_here" in out
    told = "interrupted. 1 were asked about, and nothing is known of the others"
    assert err.splitlines()[-1] == f"reconciler: {told}"


async def test_an_audit_prints_what_disagrees(known: Line) -> None:
    ended(known, "order-1", "cancelled")
    ended(known, "order-2", "succeeded")
    code, out, err = await audited(known, answer=says("SUCCESS"))
    assert code == 5, err
    heading, row, _, counts = out.splitlines()
    assert heading.split() == [
        "paymentRequestId",
        "clientId",
        "disagreement",
        "ours",
        "theirs",
        "told",
    ]
    assert row.split() == [
        "order-1",
        CLIENT_ID,
        "paid_there_closed_here",
        "cancelled",
        "paid",
        "SUCCESS",
    ]
    assert counts == "1 agrees, 1 paid_there_closed_here"


async def test_an_audit_without_disagreements_is_well(known: Line, tmp_path: Path) -> None:
    ended(known, "order-1", "succeeded")
    file = listed(tmp_path, "paymentRequestId", "order-1", "order-1", name="ids.csv")
    code, out, _ = await audited(known, "--file", file, "--json", answer=says("SUCCESS"))
    assert code == 0
    assert json.loads(out) == {
        "asked": 1,
        "counts": {"agrees": 1},
        "gaveUp": False,
        "otherAccounts": 0,
        "disagreements": [],
    }


async def test_a_payment_that_only_the_gateway_knows_is_found_by_a_list(
    known: Line, tmp_path: Path
) -> None:
    file = listed(tmp_path, GOOD % 7)
    code, out, _ = await audited(known, "--file", file, "--json", answer=says("SUCCESS"))
    [row] = json.loads(out)["disagreements"]
    assert (code, row["paymentRequestId"], row["disagreement"]) == (5, "order-7", "unknown_here")


async def test_a_gateway_that_does_not_answer_is_told_apart(known: Line) -> None:
    ended(known, "order-1", "succeeded")

    async def nothing(_: Any) -> Any:
        return signed_answer("/another", inquired("order-1", "SUCCESS"))

    code, out, _ = await audited(known, "--rate", "1000", answer=nothing)
    assert (code, out) == (4, "1 unanswered\n")


async def test_an_audit_of_a_silent_gateway_ends_early_and_says_so(known: Line) -> None:
    for n in range(40):
        ended(known, f"order-{n}", "succeeded")
    known.redis.zadd(known.keys.open, {"OTHER:order-1": 1})

    async def nothing(_: Any) -> Any:
        return signed_answer("/another", inquired("order-1", "SUCCESS"))

    code, out, _ = await audited(known, "--rate", "1000", answer=nothing)
    assert code == 4
    assert "of accounts that are not set here, and not asked: 1" in out
    assert re.search(r"given up: the gateway did not answer about \d+ in a row", out)


async def test_an_audit_may_be_of_one_account_alone(known: Line) -> None:
    ended(known, "order-1", "cancelled")
    words = ("--client-id", "ANOTHER", "--json")
    code, out, _ = await audited(known, *words, answer=says("SUCCESS"))
    assert (code, json.loads(out)["asked"]) == (0, 0)


async def test_a_list_with_faults_is_mended_before_anybody_is_asked(
    known: Line, tmp_path: Path
) -> None:
    file = listed(tmp_path, GOOD % 1, "nonsense")
    code, out, err = await audited(known, "--file", file, answer=None)
    assert (code, out) == (1, "") and "\n  line 2: not one JSON object" in err
    file = listed(tmp_path, "id", name="ids.csv")
    assert (await audited(known, "--file", file, answer=None))[0] == 1
    assert (await audited(known, "--rate", "0", answer=None))[0] == 2


# docs/adopt.md

PAGE = (ROOT / "docs" / "adopt.md").read_text("utf-8")


def test_the_page_names_every_disagreement() -> None:
    _, *named = re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE)  # the first heads them
    assert set(named) == set(Verdict) - AGREEMENTS


def test_the_list_on_the_page_can_be_imported(line: Line, tmp_path: Path) -> None:
    [table] = re.findall(r"^```\n(paymentRequestId.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    [words] = re.findall(r"^reconciler (track .*) --wait$", PAGE, re.MULTILINE)
    file = listed(tmp_path, table, name="payments.csv")
    code, out, _ = line(*words.replace("payments.csv", file).split())
    assert (code, out.splitlines()[-1], orders(line)) == (
        0,
        "2 written",
        ["order-4711", "order-4712"],
    )


@pytest.mark.parametrize("words", re.findall(r"^reconciler ([^#\n]+)", PAGE, re.MULTILINE))
def test_every_command_on_the_page_is_one(words: str) -> None:
    _parser().parse_args(words.split())
