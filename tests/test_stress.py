"""A short version of `python -m tests.stress`: an outage, and the gateway's return."""

import pytest

from tests.stress import after_outage
from tests.stress.after_outage import Sizes

pytestmark = pytest.mark.once


def test_after_an_outage_all_are_asked_for_in_turn_and_none_is_cancelled_before_an_answer() -> None:
    found = after_outage.measure(Sizes(payments=400, rate=100, outage=4000, unpaid=0.2))
    assert (found.ended, found.too_early) == (400, 0)
    assert found.asked_while_away < 200, "the breaker has opened"
