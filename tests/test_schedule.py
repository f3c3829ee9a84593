"""When to ask next: dense early, stretching, and never blind to the closing time."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.model import Ms
from jobs.outcome import rfc3339
from jobs.schedule import (
    DAY,
    HOUR,
    JUST_BEFORE,
    MINUTE,
    RETRY_LEAST,
    SECOND,
    SPREAD,
    CancelWindow,
    Policy,
    cancel_delay,
    delay_of,
    next_inquiry,
    seconds,
    spread,
)
from worker.times import parse_time

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


# The cancel window


def at(text: str) -> Ms:
    moment = parse_time(text)
    assert moment is not None
    return moment


@pytest.mark.parametrize(
    ("created", "end"),
    [
        ("2026-03-10T00:00:00+08:00", "2026-03-10T16:15:00.000Z"),
        ("2026-03-10T12:00:00+08:00", "2026-03-10T16:15:00.000Z"),
        ("2026-03-10T23:59:59+08:00", "2026-03-10T16:15:00.000Z"),
        ("2026-03-11T00:00:00+08:00", "2026-03-11T16:15:00.000Z"),
        ("2026-03-10T15:59:59Z", "2026-03-10T16:15:00.000Z"),
        ("2026-03-10T16:00:00Z", "2026-03-11T16:15:00.000Z"),
    ],
)
def test_the_cancel_window_ends_a_quarter_past_the_midnight_of_the_gateways_day(
    created: str, end: str
) -> None:
    """00:15 in UTC+8 on the day after the payment's, wherever the merchant is."""
    assert rfc3339(CancelWindow().end(at(created))) == end


def test_a_contract_may_count_the_window_from_the_creation() -> None:
    assert CancelWindow(length=7 * DAY).end(NOW) == NOW + 7 * DAY


def test_a_contract_may_count_it_in_other_days_and_zones() -> None:
    window = CancelWindow(days=2, time=HOUR, zone=-5 * HOUR)
    assert rfc3339(window.end(at("2026-03-10T23:00:00-05:00"))) == "2026-03-12T06:00:00.000Z"


@given(delays_in_ms, st.integers(0, 20), st.integers(1, 2 * DAY))
def test_the_nearer_the_windows_end_the_sooner_the_next_cancel(
    delays: Sequence[Ms], tries: int, left: Ms
) -> None:
    now, later = (cancel_delay(delays, tries, each) for each in (left, left // 2 + 1))
    assert later <= now <= delay_of(delays, tries)
    assert now <= max(left // 4, RETRY_LEAST)
    assert now >= min(RETRY_LEAST, delay_of(delays, tries)), "and never without a pause"


@pytest.mark.parametrize("left", [None, 0, -1, -DAY])
def test_without_a_window_or_past_it_cancels_go_by_the_schedule(left: Ms | None) -> None:
    """It is a clock, not a lock: the gateway alone says that it is too late."""
    assert cancel_delay([10, 20, 30 * MINUTE], 2, left) == 30 * MINUTE
