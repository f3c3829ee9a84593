"""The README's drawing cannot lie: it is compared with what `decide` does."""

import pytest

from tests.drawing import BEGIN, END, README, drawing, drawn, edges, with_drawing

pytestmark = pytest.mark.once


def test_the_drawing_in_the_readme_is_the_one_of_the_code() -> None:
    readme = README.read_text("utf-8")
    assert drawn(readme) == drawing(), "run: python -m tests.drawing --write"


def test_the_drawing_is_small_enough_to_read() -> None:
    assert 15 < len(edges()) <= 26
    assert max(len(line) for line in drawing().splitlines()) <= 120


def test_final_states_are_left_only_for_the_money_that_came_after_all() -> None:
    for (before, after), _ in edges().items():
        if before in ("succeeded", "failed", "cancelled", "forgotten", "no_money_taken"):
            assert (before, after) in {
                ("no_money_taken", "taking_back"),
                ("no_money_taken", "refund_required"),
            }


def test_writing_the_drawing_touches_nothing_else_and_can_be_repeated() -> None:
    written = with_drawing(f"# Title\n\n{BEGIN}old\n{END}\n\nmore\n")
    assert written == f"# Title\n\n{BEGIN}{drawing()}{END}\n\nmore\n"
    assert with_drawing(written) == written


@pytest.mark.parametrize("readme", ["", END + BEGIN, BEGIN, END])
def test_a_readme_without_the_markers_is_refused(readme: str) -> None:
    with pytest.raises(ValueError, match="no place for the drawing"):
        drawn(readme)
