"""The breaker, the pace and the order of a line, as values: `jobs.limits`."""

from dataclasses import replace

import pytest

from jobs.limits import (
    FIRST_REPEAT,
    IN_A_ROW,
    LEAST,
    MANY,
    PROBE_DELAYS,
    PROBE_LEASE,
    RECOVERY,
    REPEAT_SHARE,
    REPEATS_SAVED,
    SLOW_ONCE,
    TOO_FAST,
    WINDOW,
    Budget,
    Counts,
    Gate,
    Verdict,
    hear,
    pace,
    probe,
    rank,
    repeats,
    room,
    verdict,
)
from jobs.model import Act, Money, Ms, Payment, Status
from jobs.news import Answer, Call, CancelAnswer, InquiryAnswer, PayAnswer, Silence
from jobs.schedule import HOUR, MINUTE, SECOND

NOW: Ms = 1_800_000_000_000
CLOSED, GOOD, BAD = Gate(), (1, 0, 0), (0, 0, 1)


def answer(code: str, call: Call = Call.OK) -> Answer:
    return InquiryAnswer(asked_at=NOW, answered_at=NOW, call=call, code=code)


def silence(why: str) -> Answer:
    return Silence(asked_at=NOW, why=why)


def told(gate: Gate, *heard: Counts, calls: int = 1000, now: Ms = NOW, limit: float = 0) -> Gate:
    for each in heard:
        gate = hear(gate, each, calls, now, limit)
    return gate


def opened(now: Ms = NOW) -> Gate:
    return told(CLOSED, *[BAD] * IN_A_ROW, now=now)


# What an answer says of the gateway


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (answer("SUCCESS"), Verdict.GOOD),
        (answer("ORDER_NOT_EXIST", Call.NOT_EXIST), Verdict.GOOD),
        (answer("ACCESS_DENIED", Call.MISCONFIGURED), Verdict.GOOD),
        (answer("UNKNOWN_EXCEPTION", Call.UNKNOWN), Verdict.GOOD),
        (answer(TOO_FAST, Call.UNKNOWN), Verdict.BUSY),
        (CancelAnswer(asked_at=1, answered_at=1, call=Call.UNKNOWN, code=TOO_FAST), Verdict.BUSY),
        (PayAnswer(asked_at=1, answered_at=1, call=Call.OK, code="SUCCESS"), Verdict.GOOD),
        (silence("timeout"), Verdict.BAD),
        (silence("not_connected"), Verdict.BAD),
        (silence("connection_lost"), Verdict.BAD),
        (silence("http_500"), Verdict.BAD),
        (silence("http_503"), Verdict.BAD),
        (silence("http_429"), Verdict.BUSY),
        (silence("http_404"), Verdict.NEITHER),
        (silence("untrusted_signature"), Verdict.NEITHER),
        (silence("unreadable"), Verdict.NEITHER),
    ],
)
def test_a_business_answer_is_an_answer_and_only_silence_means_that_it_is_away(
    said: Answer, means: Verdict
) -> None:
    assert verdict(said) is means


# The breaker


@pytest.mark.parametrize(
    ("heard", "calls", "opens"),
    [
        ([BAD] * (IN_A_ROW - 1), 1000, False),
        ([BAD] * IN_A_ROW, 1000, True),
        ([(0, 0, IN_A_ROW)], 1000, True),
        ([*[BAD] * (IN_A_ROW - 1), GOOD, BAD], 1000, False),  # an answer between them
        ([*[BAD] * (IN_A_ROW - 1), (0, 1, 0), BAD], 1000, False),  # too fast is an answer, too
        ([(1, 0, IN_A_ROW)], 1000, False),  # nobody knows in what order they came
        ([(1, 0, MANY)], 2 * MANY, True),  # half of all
        ([(1, 0, MANY)], 2 * MANY + 1, False),
        ([(1, 0, MANY - 1)], 1, False),  # of a few nothing can be said
        ([(1, 0, MANY // 2)] * 2, 1, True),
    ],
)
def test_it_opens_on_faults_in_a_row_or_on_many_that_are_half_of_all(
    heard: list[Counts], calls: int, opens: bool
) -> None:
    assert told(CLOSED, *heard, calls=calls).open is opens


@pytest.mark.parametrize(
    ("after", "opens"), [(WINDOW - 1, True), (WINDOW, True), (2 * WINDOW, False)]
)
def test_faults_count_in_their_window_and_the_next(after: Ms, opens: bool) -> None:
    """`NOW` is where a window begins."""
    half = (1, 0, MANY // 2)
    assert told(told(CLOSED, half), half, calls=1, now=NOW + after).open is opens


def test_a_clock_that_is_set_back_opens_no_new_window() -> None:
    half = (1, 0, MANY // 2)
    assert told(told(CLOSED, half), half, calls=1, now=NOW - WINDOW).open


def test_what_says_nothing_changes_nothing() -> None:
    assert told(CLOSED, (0, 0, 0)) == CLOSED == told(CLOSED, GOOD)
    assert told(opened(), (0, 0, 0)) == opened()


def test_a_probe_leaves_after_a_second_and_no_other_while_it_is_out() -> None:
    gate = opened()
    assert probe(CLOSED, NOW) is None
    assert probe(gate, NOW + PROBE_DELAYS[0] - 1) is None
    out = probe(gate, NOW + PROBE_DELAYS[0])
    assert out is not None and out.probing
    assert probe(out, NOW + PROBE_DELAYS[0] + PROBE_LEASE - 1) is None
    assert probe(out, NOW + PROBE_DELAYS[0] + PROBE_LEASE), "its worker died with it"


def test_only_a_probe_counts_while_it_is_open() -> None:
    """What else has no answer left before it opened."""
    assert told(opened(), (0, 0, 60)) == opened()


def test_a_probe_in_vain_is_followed_by_a_later_one_but_never_by_a_late_one() -> None:
    gate, now, delays = opened(), NOW, list[Ms]()
    for _ in range(20):
        out = probe(gate, gate.probe_at)
        assert out is not None
        now = gate.probe_at + 10 * SECOND
        gate = told(out, BAD, now=now)
        delays.append(gate.probe_at - now)
    assert gate.probes == 20
    assert delays[0] < delays[-1] <= PROBE_DELAYS[-1] * 1.25
    assert len(set(delays[4:])) > 10, "they are spread"


@pytest.mark.parametrize("heard", [GOOD, (0, 1, 0), (1, 0, 60)])
def test_any_answer_closes_it_and_nothing_of_before_counts(heard: Counts) -> None:
    gate = told(opened(), heard)
    assert not gate.open
    assert (gate.in_a_row, gate.bad, gate.probes, gate.probing) == (0, 0, 0, False)


def test_a_good_answer_between_faults_is_told_and_they_are_no_row() -> None:
    assert told(CLOSED, BAD, BAD, GOOD).in_a_row == 0


def test_when_it_closes_the_pace_stays_as_it_was() -> None:
    slow = told(CLOSED, (0, 100, 0), limit=100)
    closed = told(slow, *[BAD] * IN_A_ROW, GOOD)
    assert (closed.open, pace(closed, NOW, 100)) == (False, 50)


# The pace


def slowed(times: int, limit: float, calls: int = 1000) -> Gate:
    gate = CLOSED
    for n in range(times):
        gate = hear(gate, (0, max(calls // 10, 1), 0), calls, NOW + n * SLOW_ONCE, limit)
    return gate


@pytest.mark.parametrize(
    ("times", "limit", "calls", "expected"),
    [
        (0, 100, 1000, 100),
        (1, 100, 1000, 50),
        (2, 100, 1000, (50 + 100 * SLOW_ONCE / RECOVERY) / 2),
        (1, 0, 1000, 25),  # 1000 calls in twenty seconds
        (1, 0, 0, LEAST),
        (9, 2, 1000, 2),
    ],
)
def test_too_fast_halves_the_pace(times: int, limit: float, calls: int, expected: float) -> None:
    gate = slowed(times, limit, calls)
    at = NOW + max(times - 1, 0) * SLOW_ONCE
    assert pace(gate, at, limit) == pytest.approx(expected, abs=0.1)


def test_what_was_under_way_when_we_slowed_down_does_not_slow_us_down_again() -> None:
    gate = slowed(1, 100)
    later = hear(gate, (0, 600, 0), 1000, NOW + SLOW_ONCE - 1, 100)
    assert (later.slowed_at, later.slowed_to) == (gate.slowed_at, gate.slowed_to)


@pytest.mark.parametrize(("busy", "slows"), [(9, False), (10, True)])
@pytest.mark.parametrize("apart", [0, 1, WINDOW])
def test_a_few_among_many_good_answers_do_not_slow_us_down(
    busy: int, slows: bool, apart: Ms
) -> None:
    """A tenth of the calls in this window and the last one is what it takes."""
    gate = hear(CLOSED, (91, 3, 0), 100, NOW, 0)
    assert gate.slowed_at is None
    gate = hear(gate, (0, busy - 3, 0), 100, NOW + apart, 0)
    assert (gate.slowed_at is not None) is slows


def test_what_found_us_too_fast_two_windows_ago_is_forgotten() -> None:
    gate = hear(CLOSED, (91, 9, 0), 100, NOW, 0)
    assert hear(gate, (99, 1, 0), 100, NOW + 2 * WINDOW, 0).slowed_at is None


@pytest.mark.parametrize(
    ("limit", "after", "expected"),
    [
        (100, RECOVERY // 4, 75),
        (100, RECOVERY // 2, 100),
        (100, HOUR, 100),
        (0, RECOVERY // 2, 50),
        (0, RECOVERY, 75),
        (0, RECOVERY * 3 // 2, 0),  # twice what it was: free again
        (100, -HOUR, 50),  # the clock was set back
    ],
)
def test_it_rises_again_steadily_up_to_what_it_was(
    limit: float, after: Ms, expected: float
) -> None:
    assert pace(slowed(1, limit), NOW + after, limit) == pytest.approx(expected)


@pytest.mark.parametrize("limit", [0, 100])
def test_once_it_has_risen_a_fall_begins_from_what_is_asked_then(limit: float) -> None:
    later = NOW + HOUR
    gate = hear(slowed(3, limit), (0, 40, 0), 400, later, limit)
    assert pace(gate, later, limit) == (50 if limit else 10)
    assert gate.ceiling == (100 if limit else 20)


# Who goes first


def payment(**known: object) -> Payment:
    base = Payment(
        client_id="c",
        payment_request_id="1",
        amount=Money("USD", 1),
        tracked_at=NOW,
        closing_time=NOW + MINUTE,
    )
    return replace(base, **known)  # type: ignore[arg-type]


def test_cancels_go_first_then_pending_then_watched_and_repeats_last_each_by_closing_time() -> None:
    later = NOW + HOUR
    order = [
        rank(payment(closing_time=NOW - HOUR), Act.CANCEL, False),
        rank(payment(), Act.PAY, False),
        rank(payment(closing_time=later, status=Status.CANCELLING), Act.INQUIRE, False),
        rank(payment(closing_time=NOW - HOUR), Act.INQUIRE, False),
        rank(payment(), Act.INQUIRE, False),
        rank(payment(closing_time=later), Act.INQUIRE, False),
        rank(payment(closing_time=NOW - HOUR, status=Status.UNRESOLVED), Act.INQUIRE, False),
        rank(payment(closing_time=NOW, status=Status.FAILED), Act.INQUIRE, False),
        FIRST_REPEAT,
        rank(payment(closing_time=NOW - HOUR), Act.CANCEL, True),
        rank(payment(), Act.INQUIRE, True),
    ]
    assert order == sorted(set(order))
    assert all(place == int(place) for place in order)


# Repeats


@pytest.mark.parametrize(
    ("known", "is_one"),
    [
        ({}, False),
        ({"unanswered": 1}, False),  # the schedule asks again in any case
        ({"unanswered": 1, "closing_time": NOW}, True),
        ({"closing_time": NOW}, False),
        ({"unanswered": 1, "status": Status.CANCELLING}, True),
        ({"unanswered": 0, "status": Status.CANCELLING}, False),
    ],
)
def test_a_repeat_is_what_is_asked_again_for_lack_of_an_answer(
    known: dict[str, object], is_one: bool
) -> None:
    assert repeats(payment(**known), NOW) is is_one


def spent(budget: Budget) -> tuple[Budget, int]:
    sent = 0
    while budget.left:
        budget, sent = budget.sent(True), sent + 1
    return budget, sent


@pytest.mark.parametrize("rate", [10, 100, 1000])
def test_repeats_are_no_more_than_a_tenth_of_the_ordinary_calls(rate: int) -> None:
    """Besides the first few, and a trickle."""
    budget, now, repeated, minutes = Budget(), NOW, 0, 10
    for _ in range(minutes * 60):
        now += SECOND
        budget = budget.by(now)
        for _ in range(rate):
            budget = budget.sent(False)
        budget, more = spent(budget)
        repeated += more
    ordinary = rate * 60 * minutes
    few = REPEATS_SAVED + 60 * minutes * 0.2 + 1
    assert REPEAT_SHARE * ordinary - 1 <= repeated <= REPEAT_SHARE * ordinary + few


def test_when_the_ordinary_calls_are_through_repeats_may_take_their_place_but_no_more() -> None:
    budget, now = Budget(), NOW
    for _ in range(600):
        now += SECOND
        budget = spent(budget.by(now))[0]
        for _ in range(100):
            budget = budget.sent(False)
    ordinarily, seconds = budget.by(now + SECOND).mean, []
    for _ in range(60):
        now += SECOND
        budget, more = spent(budget.by(now))
        seconds.append(more)
    assert 50 < ordinarily < 100
    assert max(seconds[1:]) <= ordinarily + 1
    assert sum(seconds) > 40 * 60


def test_one_payment_alone_is_asked_for_all_the_same() -> None:
    budget, first = spent(Budget().by(NOW))
    assert first == REPEATS_SAVED
    assert spent(budget.by(NOW + MINUTE // 2))[1] == 6
    assert spent(budget.by(NOW + HOUR))[1] == REPEATS_SAVED, "what is saved up has an end"
    assert budget.by(NOW + 1) == budget
    assert Budget(saved=-3.0).left == 0


# The bulkhead


@pytest.mark.parametrize(("accounts", "in_flight"), [(1, 48), (2, 27), (5, 12), (20, 3)])
def test_accounts_that_hang_leave_places_to_others(accounts: int, in_flight: int) -> None:
    held, moved = [0] * accounts, True
    while moved:
        moved = False
        for n in range(accounts):
            if room(64, held[n], sum(held)):
                held[n], moved = held[n] + 1, True
    assert max(held) == pytest.approx(in_flight, abs=1)
    assert sum(held) <= 63
