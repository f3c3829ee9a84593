"""The fault matrix names tests that are there, and leaves no fault without a test or a reason."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import hostile
from tests.collected import COLLECTED
from tests.fault_matrix import BEGIN, END, MATRIX, PAGE, Row, short, table, with_table, written
from tests.hostile import answers
from tests.simulation.mutants import MUTANTS
from tests.simulation.oracles import RARE

ROOT = Path(__file__).parent.parent
EACH = pytest.mark.parametrize("row", MATRIX, ids=lambda row: str(row.number))
CASES = {name for name, _ in hostile.CASES} | {f"answers: {case.name}" for case in answers.CASES}


def test_every_fault_has_its_row() -> None:
    assert [row.number for row in MATRIX] == list(range(1, 76))


@EACH
def test_every_fault_is_shown_by_a_test_or_has_its_reason(row: Row) -> None:
    assert row.tests or row.gap
    assert row.fault and row.holds
    for names in (row.tests, row.simulated, row.mutants, row.cases, row.make):
        assert len(set(names)) == len(names)


@pytest.mark.once
def test_every_test_that_is_named_is_collected_under_that_name(
    request: pytest.FixtureRequest,
) -> None:
    named = {f"tests/{test}" for row in MATRIX for test in row.tests}
    collected: set[str] = request.session.stash[COLLECTED]
    missing = named - collected
    assert missing - _collected({test.partition("::")[0] for test in missing}) == set()


def _collected(files: set[str]) -> set[str]:
    """The tests in files that this run was not given."""
    there = sorted(file for file in files if (ROOT / file).exists())
    if not there:
        return set()
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run([*words, *there], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return {_function(line) for line in ran.stdout.splitlines()}


def _function(node_id: str) -> str:
    return node_id.partition("[")[0]


@EACH
def test_every_case_and_target_that_is_named_is_there(row: Row) -> None:
    assert set(row.cases) <= CASES
    targets = (ROOT / "Makefile").read_text("utf-8").splitlines()
    for target in row.make:
        start = f"{target.removeprefix('make ')}:"
        assert any(line.startswith(start) for line in targets), target


@EACH
def test_every_rare_state_and_planted_bug_that_is_named_is_there(row: Row) -> None:
    assert set(row.simulated) <= set(RARE)
    assert set(row.mutants) <= {mutant.name for mutant in MUTANTS}


def test_a_row_is_one_line_of_the_table() -> None:
    lines = table().splitlines()
    assert len(lines) == 2 + len(MATRIX)
    assert {line.count("|") for line in lines} == {6}


def test_a_test_is_shown_by_what_it_says() -> None:
    assert short("faults/test_times.py::test_one_test_is_odd") == "faults/times: one test is odd"


def test_the_table_in_the_docs_is_this_one() -> None:
    page = PAGE.read_text("utf-8")
    assert written(page) == table(), "run: python -m tests.fault_matrix --write"


def test_writing_the_table_touches_nothing_else_and_can_be_repeated() -> None:
    page = with_table(f"# Title\n\n{BEGIN}old\n{END}\n\nmore\n")
    assert page == f"# Title\n\n{BEGIN}{table()}{END}\n\nmore\n"
    assert with_table(page) == page


@pytest.mark.parametrize("page", ["", END + BEGIN, BEGIN, END])
def test_a_page_without_the_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="no place for the fault matrix"):
        written(page)
