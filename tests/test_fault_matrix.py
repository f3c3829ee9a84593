"""The fault matrix names tests that are there, and leaves no fault without a test or a reason."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.fault_matrix import BEGIN, END, MATRIX, MODULE, PAGE, Row, table, with_table, written
from tests.simulation.mutants import MUTANTS
from tests.simulation.oracles import RARE

TESTS = Path(__file__).parent
EACH = pytest.mark.parametrize("row", MATRIX, ids=lambda row: str(row.number))


@cache
def names_in(file: str) -> frozenset[str]:
    """The tests of a module, by name."""
    text = (TESTS / file).read_text("utf-8")
    return frozenset(re.findall(r"^(?:async )?def (test_\w+)\(", text, re.MULTILINE))


def test_every_fault_has_its_row() -> None:
    assert [row.number for row in MATRIX] == list(range(1, 61))


@EACH
def test_every_fault_is_shown_by_a_test_or_has_its_reason(row: Row) -> None:
    assert row.tests or row.simulated or row.mutants or row.gap
    assert row.fault and row.holds


@EACH
def test_every_test_that_is_named_is_there(row: Row) -> None:
    for test in row.tests:
        if test.endswith(MODULE):
            continue
        file, name = test.split("::")
        assert name in names_in(file), test


@EACH
def test_every_rare_state_and_planted_bug_that_is_named_is_there(row: Row) -> None:
    assert set(row.simulated) <= set(RARE)
    assert set(row.mutants) <= {mutant.name for mutant in MUTANTS}


def test_a_row_is_one_line_of_the_table() -> None:
    lines = table().splitlines()
    assert len(lines) == 2 + len(MATRIX)
    assert {line.count("|") for line in lines} == {7}


@pytest.mark.skipif(BEGIN not in PAGE.read_text("utf-8"), reason="NOT TESTED: no place in the docs")
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
