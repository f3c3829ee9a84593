"""When to ask next: dense early, stretching, and never blind to the closing time."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.model import Ms
from jobs.schedule import (
    DAY,
    HOUR,
    JUST_BEFORE,
    MINUTE,
    SECOND,
    SPREAD,
    Policy,
    delay_of,
    next_inquiry,
    seconds,
    spread,
)

NOW: Ms = 1_800_000_000_000
KEY = "SANDBOX_5X00000000000000:pay_1"
delays_in_ms = st.lists(st.integers(100, 10 * DAY), min_size=1, max_size=8)


def test_delays_are_written_in_seconds_and_kept_in_milliseconds() -> None:
    assert seconds(2, 0.5, 30) == (2000, 500, 30_000)


@pytest.mark.parametrize(("tries", "delay"), [(0, 10), (1, 20), (2, 30), (3, 30), (1000, 30)])
def test_the_last_delay_of_a_list_repeats(tries: int, delay: Ms) -> None:
    assert delay_of([10, 20, 30], tries) == delay


def test_jitter_stays_within_a_quarter_and_can_be_computed_again() -> None:
    drawn = [spread(MINUTE, KEY, tries) for tries in range(200)]
    assert drawn == [spread(MINUTE, KEY, tries) for tries in range(200)]
    assert all(MINUTE * (1 - SPREAD) <= delay <= MINUTE * (1 + SPREAD) for delay in drawn)
    assert max(drawn) - min(drawn) > MINUTE * SPREAD  # it does spread


def test_payments_of_one_moment_drift_apart() -> None:
    first = {spread(MINUTE, f"{KEY}{n}", 0) // SECOND for n in range(100)}
    assert len(first) > 10


@pytest.mark.parametrize(
    ("now", "closing_time", "expected"),
    [
        (NOW, NOW + HOUR, "by schedule"),
        (NOW, NOW + 10 * SECOND, NOW + 10 * SECOND - JUST_BEFORE),
        (NOW, NOW + JUST_BEFORE, NOW + JUST_BEFORE),
        (NOW, NOW + 1, NOW + 1),
        (NOW, NOW, "by schedule"),
        (NOW, NOW - DAY, "by schedule"),
    ],
)
def test_no_delay_leaps_over_the_closing_time(
    now: Ms, closing_time: Ms, expected: Ms | str
) -> None:
    """One inquiry just before it, one at it; the one at it is the last."""
    at = next_inquiry([MINUTE], 0, KEY, now, closing_time)
    assert at == (now + spread(MINUTE, KEY, 0) if expected == "by schedule" else expected)


@given(delays_in_ms, st.integers(1, 30 * DAY))
def test_every_schedule_asks_just_before_the_closing_time_and_at_it(
    delays: Sequence[Ms], closes_in: Ms
) -> None:
    """Whatever the delays, from any moment at which there is still time for both."""
    closing_time, now, asked = NOW + closes_in, NOW, []
    for tries in range(3000):
        now = next_inquiry(delays, tries, KEY, now, closing_time)
        asked.append(now)
        if now >= closing_time:
            break
    else:
        return  # short delays, long closing time: cut off
    assert asked[-1] == closing_time
    if closes_in > JUST_BEFORE:
        assert closing_time - JUST_BEFORE in asked


@given(delays_in_ms, st.integers(0, 50), st.integers(-DAY, 30 * DAY), st.text(max_size=8))
def test_the_next_inquiry_is_always_ahead_and_never_later_than_its_delay(
    delays: Sequence[Ms], tries: int, closes_in: Ms, key: str
) -> None:
    at = next_inquiry(delays, tries, key, NOW, NOW + closes_in)
    assert NOW < at <= NOW + round(max(delays) * (1 + SPREAD))


def test_the_defaults_are_those_of_the_documents() -> None:
    """The vendor, in store: wait 5 s, then every 3 s at first. The life of a payment: the rest."""
    policy = Policy()
    assert policy.inquiry_delays[0] == 5 * SECOND
    assert set(policy.inquiry_delays[1:8]) == {3 * SECOND}
    assert list(policy.inquiry_delays[1:]) == sorted(policy.inquiry_delays[1:])
    assert policy.cancel_delays == seconds(2, 3, 5, 10, 30, 60, 120, 300, 600)
    assert policy.aftercare_delays == (MINUTE, 10 * MINUTE, HOUR, DAY)
    assert policy.unresolved_delays == (10 * MINUTE, HOUR, 6 * HOUR)
    assert policy.closing == 840 * SECOND
    assert policy.confirming == 7 * DAY
    assert policy.last_inquiry_grace == 900 * SECOND
    assert policy.cancel_quiet == 120 * SECOND
    assert policy.cancel_limit == 86_400 * SECOND
    assert policy.not_found_settle == 600 * SECOND
    assert policy.unresolved_watch == 30 * DAY
    assert policy.freshness == 5 * MINUTE
    assert not policy.report
    assert not policy.braked
