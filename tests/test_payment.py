import pytest
from tests.cells import KNOWN_DIFFERENCES, Cell, cells, place, said, word
from jobs.payment import decide


@pytest.mark.parametrize("cell", [pytest.param(c, id=c.name) for c in cells()])
def test_cell(cell: Cell) -> None:
    scene = place(cell.start, cell.mode)
    decision = decide(scene.payment, word(cell.heard, scene), scene.now, scene.policy)
    assert said(scene.payment, decision, scene.now) == cell.then
