"""What follows one try to deliver something: a table, and three days of it."""

import pytest

from jobs.deliveries import LADDER, MOST_PATIENT, Attempt, Fate, Next, next_try
from jobs.model import Ms
from jobs.schedule import DAY, HOUR, MINUTE, SECOND, SPREAD

OK, REFUSED = Attempt(status=200), Attempt(status=500)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_taken(status: int) -> None:
    assert next_try(1, Attempt(status=status), "x") == Next(Fate.DELIVERED)


@pytest.mark.parametrize(
    "attempt",
    [
        Attempt(status=199),
        Attempt(status=301),  # redirects are not followed
        Attempt(status=308),
        Attempt(status=400),
        Attempt(status=404),
        Attempt(status=500),
        Attempt(status=503),
        Attempt(fault="timeout"),
        Attempt(fault="refused_address"),
    ],
)
def test_anything_else_is_tried_again(attempt: Attempt) -> None:
    assert next_try(1, attempt, "x").fate is Fate.AGAIN


@pytest.mark.parametrize("tries", [1, 5, len(LADDER) + 1])
def test_where_nobody_is_there_any_more_nothing_is_tried_again(tries: int) -> None:
    assert next_try(tries, Attempt(status=410), "x") == Next(Fate.GONE)


def test_ten_tries_take_about_three_days_and_then_a_person_must_look() -> None:
    delays = []
    for tries in range(1, 100):
        then = next_try(tries, REFUSED, "lane")
        if then.fate is Fate.DEAD:
            break
        delays.append(then.delay)
    assert tries == 10
    for delay, plain in zip(delays, LADDER, strict=True):
        assert plain * (1 - SPREAD) <= delay <= plain * (1 + SPREAD)
    assert sum(LADDER) == 75 * HOUR + 35 * MINUTE + 5 * SECOND
    assert 2 * DAY < sum(delays) < 4 * DAY


def test_the_last_try_may_still_succeed() -> None:
    assert next_try(len(LADDER) + 1, OK, "x").fate is Fate.DELIVERED


def test_deliveries_of_one_second_drift_apart_and_each_delay_can_be_computed_again() -> None:
    delays = {next_try(2, REFUSED, f"lane-{n}").delay for n in range(50)}
    assert len(delays) > 40
    assert next_try(2, REFUSED, "lane-1") == next_try(2, REFUSED, "lane-1")


@pytest.mark.parametrize(
    ("status", "asked", "least", "most"),
    [
        (503, 10 * MINUTE, 10 * MINUTE, 10 * MINUTE),  # later than ours
        (429, 10 * MINUTE, 10 * MINUTE, 10 * MINUTE),
        (503, SECOND, 3750, 6250),  # sooner than ours: ours
        (503, 365 * DAY, MOST_PATIENT, MOST_PATIENT),
        (503, None, 3750, 6250),
        (500, 10 * MINUTE, 3750, 6250),  # of other answers it means nothing
    ],
)
def test_an_endpoint_that_is_busy_may_say_how_long_within_reason(
    status: int, asked: Ms | None, least: Ms, most: Ms
) -> None:
    then = next_try(1, Attempt(status=status, retry_after=asked), "x")
    assert least <= then.delay <= most


def test_what_was_wrong_is_one_word() -> None:
    assert OK.why == ""
    assert REFUSED.why == "http_500"
    assert Attempt(fault="timeout").why == "timeout"
