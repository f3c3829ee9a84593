"""When things happen in a payment's life: patience, retries, limits, and what is told how often."""

from dataclasses import replace

import pytest

from jobs.model import (
    Act,
    Aftercare,
    CancelState,
    Cause,
    Event,
    Money,
    Ms,
    OnTimeout,
    Rejected,
    Status,
    Via,
)
from jobs.news import Ask, Call, Facts, Hint, Mismatch, Order, PaidBack, Resolve, Tick, Track
from jobs.payment import RECHECK_TRIES, decide, track
from jobs.schedule import (
    DAY,
    HOUR,
    JUST_BEFORE,
    MINUTE,
    SECOND,
    SPREAD,
    CancelWindow,
    Policy,
    seconds,
)
from jobs.turn import ALARM_WINDOW, TOLD_VALUES, name_of
from tests.cells import (
    CLOSING,
    FRESH,
    POLICY,
    T0,
    USD,
    Life,
    cancel_said,
    inquired,
    place,
    word,
)

TRACK = Track(id="1-0", at=T0, client_id=FRESH.client_id, payment_request_id="pay_1", amount=USD)


def live(start: str, mode: str = "cancel") -> Life:
    scene = place(start, mode)
    return Life(scene.payment, scene.now, scene.policy)


def at_closing() -> Life:
    """The last inquiry is about to leave."""
    return Life(replace(FRESH, next_at=CLOSING, tried_at=CLOSING - 3 * SECOND), CLOSING - SECOND)


def roughly(gap: Ms, delay: Ms) -> bool:
    return delay * (1 - SPREAD) <= gap <= delay * (1 + SPREAD)


# Tracking


def test_a_tracked_payment_is_asked_about_within_seconds() -> None:
    decision = track(TRACK, T0 + 5, POLICY)
    payment = decision.payment
    assert (payment.status, payment.next_act) == (Status.PENDING, Act.INQUIRE)
    assert payment.next_at is not None
    assert roughly(payment.next_at - T0 - 5, POLICY.inquiry_delays[0])
    assert (payment.tracked_at, payment.updated_at) == (T0 + 5, T0 + 5)
    assert decision.events == ()


def test_tracking_keeps_what_the_merchant_said() -> None:
    command = replace(
        TRACK,
        closing_time=T0 + HOUR,
        payment_id="gw_9",
        on_timeout=OnTimeout.REPORT,
        reference="order 7",
        callback_url="https://shop.example/paid",
    )
    payment = track(command, T0, POLICY).payment
    assert payment.key == "SANDBOX_5X00000000000000:pay_1"
    assert payment.amount == USD
    assert payment.closing_time == T0 + HOUR
    assert not payment.closing_agreed
    assert payment.payment_id == "gw_9"
    assert payment.on_timeout is OnTimeout.REPORT
    assert (payment.reference, payment.callback_url) == ("order 7", "https://shop.example/paid")


def test_without_a_closing_time_the_contract_counts_from_when_the_command_was_written() -> None:
    """Not from when it was read: a command may lie in the stream for a while."""
    payment = track(TRACK, T0 + MINUTE, POLICY).payment
    assert payment.closing_time == T0 + POLICY.closing
    assert payment.closing_agreed


@pytest.mark.parametrize("late", [0, HOUR])
def test_a_closing_time_already_past_means_inquire_now(late: Ms) -> None:
    payment = track(replace(TRACK, closing_time=T0), T0 + late, POLICY).payment
    assert payment.next_at == T0 + late


# The closing time


def test_a_payment_nobody_pays_is_asked_about_just_before_closing_and_at_it() -> None:
    life, asked = Life(track(TRACK, T0, POLICY).payment), []
    while life.payment.status is Status.PENDING:
        assert life.wake() is Act.INQUIRE
        asked.append(life.now)
        life.inquiry("PROCESSING")
    assert asked[-1] == CLOSING
    assert CLOSING - JUST_BEFORE in asked
    assert life.payment.cause is Cause.TIMED_OUT
    assert 30 < len(asked) < 50


def test_only_an_inquiry_sent_at_closing_or_later_allows_a_timeout() -> None:
    """Its answer may come after closing: what counts is when the question left."""
    life = at_closing()
    asked = life.now
    life.now = CLOSING + SECOND
    life.hear(inquired(life.payment, "PROCESSING", asked, answered_at=life.now))
    assert life.payment.status is Status.PENDING


def test_when_closing_passes_during_an_inquiry_the_last_one_follows_at_once() -> None:
    """Not after a delay of the schedule, which may be hours."""
    policy = replace(POLICY, inquiry_delays=seconds(2, 3600))
    life = Life(replace(FRESH, tries=5, next_at=CLOSING - JUST_BEFORE), T0, policy)
    life.wake()
    asked, life.now = life.now, CLOSING + SECOND
    life.hear(inquired(life.payment, "PROCESSING", asked, answered_at=life.now))
    assert life.payment.next_at is not None
    assert life.payment.next_at <= life.now + 10 * SECOND


def test_a_worker_that_wakes_long_after_closing_asks_once_and_believes_the_answer() -> None:
    life = at_closing()
    assert life.wake(late=DAY) is Act.INQUIRE
    life.inquiry("SUCCESS")
    assert life.payment.status is Status.SUCCEEDED
    assert life.payment.marks == ("late",)


def test_paid_is_late_from_the_closing_time_on() -> None:
    for early, marks in ((1, ()), (0, ("late",))):
        life = Life(FRESH, CLOSING - early)
        life.inquiry("SUCCESS")
        assert life.payment.marks == marks


def test_the_contracts_closing_time_runs_from_the_creation_at_the_gateway() -> None:
    life = Life(replace(FRESH, closing_agreed=True, next_at=T0 + 1))
    life.wake()
    life.inquiry("PROCESSING", created_at=T0 + 60 * SECOND)
    assert life.payment.closing_time == CLOSING + 60 * SECOND


@pytest.mark.parametrize(
    ("created_at", "closing_time"),
    [
        (T0 - DAY, CLOSING),
        (T0 + 30 * DAY, CLOSING + POLICY.closing),
        (CLOSING, CLOSING + POLICY.closing),
    ],
)
def test_it_moves_only_later_and_by_no_more_than_itself(created_at: Ms, closing_time: Ms) -> None:
    life = Life(replace(FRESH, closing_agreed=True))
    life.inquiry("PROCESSING", created_at=created_at)
    assert life.payment.closing_time == closing_time


def test_it_moves_once() -> None:
    life = Life(replace(FRESH, closing_agreed=True))
    life.inquiry("PROCESSING", created_at=T0 + MINUTE)
    life.inquiry("PROCESSING", created_at=T0 + 10 * MINUTE)
    assert life.payment.closing_time == CLOSING + MINUTE


def test_a_closing_time_that_the_merchant_gave_does_not_move() -> None:
    life = Life(FRESH)
    life.inquiry("PROCESSING", created_at=T0 + MINUTE)
    assert life.payment.closing_time == CLOSING


def test_a_creation_heard_at_the_last_inquiry_may_still_save_the_payment() -> None:
    life = Life(replace(FRESH, closing_agreed=True, next_at=CLOSING))
    life.wake()
    life.inquiry("PROCESSING", created_at=T0 + MINUTE)
    assert life.payment.status is Status.PENDING
    assert life.payment.next_at is not None
    assert life.payment.next_at <= life.payment.closing_time


# Confirming: the buyer has paid, the bank takes its time


def test_the_first_confirming_moves_the_closing_time_and_no_other_does() -> None:
    life = Life(FRESH, T0 + MINUTE)
    for _ in range(5):
        life.inquiry("PENDING")
        life.wake()
    assert life.payment.confirming_since == T0 + MINUTE
    assert life.payment.closing_time == T0 + MINUTE + POLICY.confirming


def test_a_confirming_payment_is_asked_about_slowly_and_ends_for_a_person() -> None:
    life, gaps = Life(FRESH, T0 + MINUTE), []
    while life.payment.status is Status.PENDING:
        before = life.now
        life.inquiry("PENDING")
        if life.payment.status is Status.PENDING:
            life.wake()
            gaps.append(life.now - before)
    assert roughly(gaps[0], MINUTE)
    assert roughly(gaps[1], 5 * MINUTE)
    assert roughly(gaps[2], 15 * MINUTE)
    assert all(roughly(gap, HOUR) for gap in gaps[3:-2])
    assert life.payment.reason == "pending_expired"
    assert life.now == T0 + MINUTE + POLICY.confirming


def test_confirming_never_moves_the_closing_time_to_an_earlier_one() -> None:
    """The merchant gave the buyer twenty days; the bank's seven do not take them away."""
    life = Life(replace(FRESH, closing_time=T0 + 20 * DAY))
    life.inquiry("PENDING")
    assert life.payment.closing_time >= T0 + 20 * DAY


# The last inquiry, unanswered


def test_an_unanswered_last_inquiry_is_repeated_for_its_grace_then_cancelled_blind() -> None:
    life, asked = at_closing(), []
    while life.payment.status is Status.PENDING:
        assert life.wake() is Act.INQUIRE
        asked.append(life.now)
        life.silence()
    assert life.payment.marks == ("blind",)
    assert life.payment.cause is Cause.TIMED_OUT
    assert asked[0] == CLOSING
    grace = POLICY.last_inquiry_grace
    assert grace <= life.now - CLOSING <= grace + MINUTE * (1 + SPREAD)
    gaps = [b - a for a, b in zip(asked, asked[1:], strict=False)]
    assert all(roughly(gap, 2 * SECOND) for gap in gaps[:3])
    assert all(roughly(gap, MINUTE) for gap in gaps[-5:])
    assert all(b > a / 2 for a, b in zip(gaps, gaps[1:], strict=False)), "it only stretches"


def test_a_minute_without_an_answer_after_closing_alarms_once() -> None:
    life, alarmed_at = at_closing(), []
    while life.payment.status is Status.PENDING:
        life.wake()
        if life.silence().alarms:
            alarmed_at.append(life.now - CLOSING)
    assert len(life.alarms) == 1
    assert MINUTE <= alarmed_at[0] <= 3 * MINUTE


def test_unanswered_inquiries_before_closing_use_up_no_grace() -> None:
    life = Life(replace(FRESH, next_at=T0 + SECOND))
    while life.now < CLOSING - MINUTE:
        life.wake()
        life.silence()
    assert life.payment.tried_for == 0


def test_unanswered_inquiries_before_closing_keep_to_the_schedule() -> None:
    """A question is not repeated faster because it was not heard."""
    life = Life(replace(FRESH, tries=30, closing_time=T0 + HOUR))
    life.silence()
    assert life.payment.next_at is not None
    assert roughly(life.payment.next_at - life.now, POLICY.inquiry_delays[-1])


def test_a_shop_that_is_not_found_at_all_alarms() -> None:
    life = live("pending braked at closing")
    life.inquiry("NOT_EXIST")
    assert life.alarms == ["unresolved: brake"]


def test_time_in_which_no_worker_ran_uses_up_no_grace() -> None:
    life = at_closing()
    life.wake()
    life.silence()
    for _ in range(3):
        life.wake(late=DAY)
        life.silence()
    assert life.payment.status is Status.PENDING
    assert life.payment.tried_for < MINUTE


def test_tries_that_did_not_leave_use_up_no_grace() -> None:
    life = at_closing()
    while life.now <= CLOSING + 2 * POLICY.last_inquiry_grace:
        life.wake()
        life.silence(left=False)
    assert life.payment.status is Status.PENDING


def test_an_open_breaker_stops_the_clock_of_the_grace() -> None:
    """Half an hour in which nothing could leave is no half hour of patience."""
    life = at_closing()
    life.wake()
    life.silence()
    while life.now < CLOSING + 30 * MINUTE:
        life.wake()
        life.silence(left=False)
    life.wake()
    life.silence()
    assert life.payment.status is Status.PENDING


def test_a_gateway_that_refuses_us_is_told_once_a_row_and_ends_for_a_person() -> None:
    life = at_closing()
    while life.payment.status is Status.PENDING:
        life.wake()
        life.inquiry("?", call=Call.MISCONFIGURED, code="KEY_NOT_FOUND")
    assert life.payment.reason == "gateway_refuses_us"
    assert life.alarms.count("the gateway refuses us: KEY_NOT_FOUND") == 1
    assert life.cancels == []


def test_an_answered_try_starts_the_row_of_unanswered_ones_again() -> None:
    life = Life(FRESH)
    life.silence()
    life.silence(left=False)
    assert life.payment.unanswered == 2
    life.inquiry("PROCESSING")
    assert life.payment.unanswered == 0


# Cancels


def unanswered_cancels(life: Life) -> tuple[list[Ms], list[Ms]]:
    """When cancels left, and when inquiries did, until the limit; none is answered."""
    inquiries: list[Ms] = []
    while life.payment.status is Status.CANCELLING:
        if life.wake() is Act.CANCEL:
            life.silence(to_cancel=True)
        elif life.payment.status is Status.CANCELLING:
            inquiries.append(life.now)
            life.inquiry("PROCESSING")
    return life.cancels, inquiries


def test_an_unanswered_cancel_is_repeated_by_its_schedule_up_to_its_limit() -> None:
    life = live("cancelling t none")
    began = life.now
    cancels, _ = unanswered_cancels(life)
    gaps = [b - a for a, b in zip(cancels, cancels[1:], strict=False)]
    for gap, delay in zip(gaps, POLICY.cancel_delays, strict=False):
        assert roughly(gap, delay)
    assert all(roughly(gap, 600 * SECOND) for gap in gaps[len(POLICY.cancel_delays) :])
    assert life.payment.reason == "cancel_limit"
    assert POLICY.cancel_limit <= life.now - began <= POLICY.cancel_limit + 15 * MINUTE
    assert life.alarms.count("the cancel is still not confirmed") == 1


def test_between_cancels_that_are_far_apart_one_inquiry_asks_when_it_counts() -> None:
    """After the quiet time, so that its answer is evidence; never two."""
    cancels, inquiries = unanswered_cancels(live("cancelling t none"))
    for sent, again in zip(cancels, cancels[1:], strict=False):
        between = [at for at in inquiries if sent < at < again]
        assert between == ([sent + POLICY.cancel_quiet] * (again - sent > POLICY.cancel_quiet))


def test_the_right_to_cancel_is_written_down_before_the_cancel_leaves() -> None:
    life = live("cancelling t none")
    assert life.payment.cancel_state is CancelState.NONE
    decision = life.decide(Tick())
    assert decision.act is Act.CANCEL
    assert decision.payment.cancel_state is CancelState.OPEN
    assert decision.payment.first_cancel_at == decision.payment.last_cancel_at == life.now
    assert decision.payment.cancel_attempts == 1


def test_a_cancel_is_no_inquiry() -> None:
    life = live("cancelling t none")
    asked = life.payment.asked_at, life.payment.attempts
    life.wake()
    life.silence(to_cancel=True)
    assert (life.payment.asked_at, life.payment.attempts) == asked
    assert life.payment.cancel_attempts == 1


def test_a_second_waking_at_the_same_moment_sends_nothing() -> None:
    life = live("cancelling t none")
    assert life.decide(Tick()).act is Act.CANCEL
    assert life.decide(Tick()).act is Act.WAIT


def test_a_worker_killed_with_the_right_in_its_hand_leaves_the_schedule_running() -> None:
    life = live("cancelling t none")
    for _ in range(4):
        assert life.wake() is Act.CANCEL
    gaps = [b - a for a, b in zip(life.cancels, life.cancels[1:], strict=False)]
    assert all(roughly(gap, d) for gap, d in zip(gaps, POLICY.cancel_delays, strict=False))


def test_time_in_which_no_worker_ran_is_not_time_of_cancelling() -> None:
    life = live("cancelling t none")
    life.wake()
    life.silence(to_cancel=True)
    life.wake(late=25 * HOUR)
    life.silence(to_cancel=True)
    assert life.payment.status is Status.CANCELLING


def test_an_open_breaker_stops_the_clock_of_the_cancel_limit() -> None:
    life = live("cancelling t none")
    began = life.now
    while life.now < began + 25 * HOUR:
        life.silence(left=False, to_cancel=life.wake() is Act.CANCEL)
    life.silence(to_cancel=life.wake() is Act.CANCEL)
    assert life.payment.status is Status.CANCELLING


# The cancel window

WINDOW = CancelWindow().end(T0)  #: of the payment of all scenes


def shut_out(created_at: Ms, policy: Policy = POLICY) -> Life:
    """A payment that is cancelled after its time; no cancel is ever answered."""
    closing = created_at + 840 * SECOND
    p = replace(FRESH, tracked_at=created_at, closing_time=closing, tried_at=closing)
    life = Life(replace(p, next_at=closing), closing, policy)
    life.wake()
    life.inquiry("PROCESSING", created_at=created_at)
    return life


@pytest.mark.parametrize("left", [HOUR, 20 * MINUTE])
def test_the_nearer_the_windows_end_the_sooner_a_cancel_is_repeated(left: Ms) -> None:
    life = shut_out(WINDOW - left - 840 * SECOND)
    cancels, _ = unanswered_cancels(life)
    gaps = [(a, b - a) for a, b in zip(cancels, cancels[1:], strict=False)]
    before = [(sent, gap) for sent, gap in gaps if sent < WINDOW - 20 * SECOND]
    assert all(gap <= (WINDOW - sent) // 4 * (1 + SPREAD) for sent, gap in before)
    assert [gap for sent, gap in before][-1] < 10 * SECOND


def test_the_window_is_a_clock_and_no_lock() -> None:
    """Cancels go on after it: the gateway alone decides, and the limit alone ends them."""
    life = shut_out(WINDOW - HOUR)
    cancels, _ = unanswered_cancels(life)
    assert len([sent for sent in cancels if sent >= WINDOW]) > 100
    assert life.payment.reason == "cancel_limit"


WINDOW_ENDS = (
    "the cancel is not confirmed, and its window ends at 2027-01-15T16:15:00.000Z: then refund"
)


def test_an_unconfirmed_cancel_is_told_of_ever_more_often_towards_the_windows_end() -> None:
    life = shut_out(WINDOW - 2 * HOUR)
    told: list[Ms] = []
    while life.now < WINDOW + HOUR:
        before = life.alarms.count(WINDOW_ENDS)
        if life.wake() is Act.CANCEL:
            life.silence(to_cancel=True)
        else:
            life.inquiry("PROCESSING")
        told += [WINDOW - life.now] * (life.alarms.count(WINDOW_ENDS) - before)
    assert len(told) == len(ALARM_WINDOW) == 5
    assert all(
        step * 0.6 <= left <= step for step, left in zip(ALARM_WINDOW, told[:4], strict=False)
    )
    assert told[4] <= 0, "and once more when it is over"


def test_a_cancel_that_begins_with_little_time_left_is_told_of_when_it_is_repeated() -> None:
    life = shut_out(WINDOW - 10 * MINUTE - 840 * SECOND)
    life.wake()
    life.silence(to_cancel=True)
    assert life.alarms == []
    life.wake()
    assert life.alarms == [WINDOW_ENDS]


def test_a_cancel_that_is_confirmed_raises_no_alarm_however_late_it_is() -> None:
    life = shut_out(WINDOW - MINUTE - 840 * SECOND)
    life.wake()
    life.cancel_answer(Call.OK)
    assert (life.told, life.alarms) == (["cancelling", "cancelled"], [])


def test_without_a_window_nothing_hurries_and_nothing_more_is_told() -> None:
    life = shut_out(WINDOW - HOUR, replace(POLICY, cancel_window=None))
    cancels, _ = unanswered_cancels(life)
    gaps = [b - a for a, b in zip(cancels, cancels[1:], strict=False)]
    assert all(roughly(gap, 600 * SECOND) for gap in gaps[len(POLICY.cancel_delays) :])
    assert not any("window" in alarm for alarm in life.alarms)
    assert life.payment.cancel_window_end is None
    assert [event.advice for event in life.events if isinstance(event, Event)] == ["none", "look"]


def test_cancels_in_vain_until_the_window_is_over_leave_only_a_refund() -> None:
    life = shut_out(WINDOW - HOUR)
    unanswered_cancels(life)
    last = life.events[-1]
    assert isinstance(last, Event)
    assert (last.type, last.advice) == ("payment.unresolved", "refund")
    assert life.payment.cancel_window_end == WINDOW


def test_with_time_left_in_the_window_a_person_looks_first() -> None:
    life = shut_out(T0, replace(POLICY, cancel_limit=10 * MINUTE))
    unanswered_cancels(life)
    last = life.events[-1]
    assert isinstance(last, Event)
    assert (life.payment.reason, last.advice) == ("cancel_limit", "look")


def test_the_gateways_word_that_it_is_too_late_is_believed_at_any_time() -> None:
    life = shut_out(T0)
    life.wake()
    life.cancel_answer(Call.WINDOW_EXCEEDED)
    life.inquiry("PROCESSING")
    last = life.events[-1]
    assert isinstance(last, Event)
    assert (life.payment.reason, last.advice) == ("cancel_window", "refund")


def test_a_creation_far_ahead_is_no_beginning_of_a_window() -> None:
    """A gateway may write any date; the window's end must stay one that can be told."""
    far = replace(FRESH, created_at=253_402_300_799_999, next_at=CLOSING, tried_at=CLOSING)
    life = Life(far, CLOSING)
    life.inquiry("PROCESSING")
    assert life.payment.cancel_window_end == CancelWindow().end(CLOSING)


@pytest.mark.parametrize(
    "start",
    [
        "pending",
        "pending at closing",
        "cancelling t none hinted",
        "cancelling t open",
        "cancelling t refused",
        "unresolved",
        "cancelled",
        "cancelling t just sent far apart",
        "cancelled taking back sent far apart",
    ],
)
def test_while_nothing_can_leave_the_next_try_is_always_ahead(start: str) -> None:
    """A breaker that is open, or a refused connection, must not become a busy loop."""
    life = live(start)
    for _ in range(5):
        if life.wake() is not Act.WAIT:
            life.silence(left=False, to_cancel=life.payment.next_act is Act.CANCEL)
        assert life.payment.next_at is not None
        assert life.payment.next_at > life.now


def test_while_nothing_can_leave_tries_become_rarer() -> None:
    """An outage of an hour finds every open payment here; they must not all knock on and on."""
    life, tries = at_closing(), 0
    while life.now < CLOSING + HOUR:
        life.wake()
        life.silence(left=False)
        tries += 1
    assert tries < 200


def test_a_refusal_of_a_later_try_waits_for_the_silent_one_before_it() -> None:
    """The first request may still be on its way, and would take the money back."""
    life = live("cancelling t none")
    life.wake()
    life.silence(to_cancel=True)
    silent = life.now
    life.wake()
    life.cancel_answer(Call.REFUSED)
    assert life.payment.next_at == silent + POLICY.cancel_quiet
    life.inquiry("SUCCESS")
    assert life.told == [], "asked too early"
    assert life.wake() is Act.INQUIRE
    life.inquiry("SUCCESS")
    assert life.told == ["succeeded"]


def test_a_refusal_of_an_earlier_try_says_nothing_of_the_later_one() -> None:
    """It may be written down late, by a worker that was frozen while another sent a cancel."""
    life = live("cancelling t none")
    life.wake()
    first = life.now
    life.wake(late=18 * SECOND)
    second = life.now
    life.now += SECOND
    life.hear(cancel_said(life.payment, Call.REFUSED, first, answered_at=life.now))
    life.now = second + POLICY.cancel_quiet - SECOND
    life.inquiry("SUCCESS")
    assert life.payment.status is Status.CANCELLING, "the later cancel may still arrive"


def test_a_refused_cancel_is_asked_about_and_sent_again_by_its_schedule() -> None:
    life = live("cancelling t none")
    for _ in range(6):
        while life.wake() is not Act.CANCEL:
            life.inquiry("PROCESSING")
        life.cancel_answer(Call.REFUSED)
    gaps = [b - a for a, b in zip(life.cancels, life.cancels[1:], strict=False)]
    assert all(roughly(gap, d) for gap, d in zip(gaps, POLICY.cancel_delays, strict=False))


def test_a_hint_holds_the_first_cancel_back_until_an_inquiry_is_answered() -> None:
    """It may be the success; but it holds no longer than the grace of a last inquiry."""
    life = live("cancelling t none")
    life.decide(Hint())
    while life.cancels == []:
        if life.wake() is Act.INQUIRE:
            life.silence()
    assert life.now - CLOSING >= POLICY.last_inquiry_grace


# An order that does not exist


def refused_as_unknown(start: str) -> Life:
    life = live(start)
    life.wake()
    life.cancel_answer(Call.NOT_EXIST)
    return life


def test_not_found_needs_a_refused_cancel_and_three_inquiries_the_last_one_settled() -> None:
    life, asked = refused_as_unknown("cancelling t none"), []
    sent = life.now
    while life.payment.status is Status.CANCELLING:
        assert life.wake() is Act.INQUIRE
        asked.append(life.now)
        life.inquiry("NOT_EXIST")
    assert life.payment.status is Status.CANCELLED
    assert life.payment.marks == ("not_found",)
    assert len(asked) == 3
    assert all(b - a > MINUTE for a, b in zip(asked, asked[1:], strict=False)), "spread out"
    assert asked[-1] == max(CLOSING, sent) + POLICY.not_found_settle
    assert len(life.cancels) == 1


@pytest.mark.parametrize(("settle", "gap"), [(600_000, 150_000), (600_003, 150_000)])
def test_between_the_first_two_of_them_a_quarter_of_the_time_to_settle_passes(
    settle: Ms, gap: Ms
) -> None:
    """In whole milliseconds."""
    scene = place("cancelling t refused not_exist")
    life = Life(scene.payment, scene.now, replace(POLICY, not_found_settle=settle))
    life.inquiry("NOT_EXIST")
    assert life.payment.next_at == life.now + gap


def test_three_quick_inquiries_are_not_enough() -> None:
    life = refused_as_unknown("cancelling t none")
    for _ in range(5):
        life.now += SECOND
        life.inquiry("NOT_EXIST")
    assert life.payment.status is Status.CANCELLING


def test_inquiries_from_before_the_refusal_are_not_counted() -> None:
    life = live("cancelling t none")
    life.inquiry("NOT_EXIST")
    life.inquiry("NOT_EXIST")
    life.wake()
    life.cancel_answer(Call.NOT_EXIST)
    assert life.payment.not_found == 0


def test_an_order_that_turns_up_is_cancelled_again() -> None:
    life = refused_as_unknown("cancelling t none")
    life.wake()
    life.inquiry("NOT_EXIST")
    life.wake()
    life.inquiry("PROCESSING")
    assert life.payment.not_found == 0
    assert life.wake() is Act.CANCEL


def test_a_cancel_asked_for_before_closing_waits_for_the_order_until_after_it() -> None:
    """The merchant may still be creating it."""
    life = refused_as_unknown("cancelling r none")
    while life.payment.status is Status.CANCELLING:
        assert life.wake() is Act.INQUIRE
        life.inquiry("NOT_EXIST")
    assert life.payment.status is Status.CANCELLED
    assert life.now == CLOSING + POLICY.not_found_settle


def test_a_cancel_asked_for_days_before_closing_ends_as_not_found_too() -> None:
    """Waiting for the closing time is no time of cancelling."""
    life = live("cancelling r none")
    life.payment = replace(life.payment, closing_time=T0 + 3 * DAY)
    life.wake()
    life.cancel_answer(Call.NOT_EXIST)
    while life.payment.status is Status.CANCELLING:
        life.wake()
        life.inquiry("NOT_EXIST")
    assert life.payment.status is Status.CANCELLED


# Report mode, switched on while a cancel is open


@pytest.mark.parametrize("start", ["cancelling t open", "cancelling t refused"])
def test_report_mode_leaves_inquiries_and_they_become_rare(start: str) -> None:
    life, asked = live(start, "deployment"), 0
    until = life.now + HOUR
    while life.now < until:
        assert life.wake() is Act.INQUIRE
        life.inquiry("PROCESSING")
        asked += 1
    assert asked < 100


def test_report_mode_with_an_open_cancel_ends_for_a_person_at_the_limit() -> None:
    policy = replace(POLICY, report=True, cancel_limit=10 * MINUTE)
    life = Life(place("cancelling f open").payment, CLOSING, policy)
    while life.payment.status is Status.CANCELLING:
        life.wake()
        life.silence()
    assert life.payment.reason == "cancel_limit"
    assert life.cancels == []


def test_a_switch_to_report_mode_answers_the_command_that_asked_for_the_cancel() -> None:
    life = live("cancelling r none", "deployment")
    life.decide(Tick())
    (rejected,) = life.events
    assert isinstance(rejected, Rejected)
    assert (rejected.command_id, rejected.reason) == ("order_1", "report_mode")
    assert life.payment.status is Status.PENDING
    assert life.payment.next_at == life.now


# After the end


def test_after_the_end_it_asks_after_a_minute_ten_an_hour_and_a_day_then_rests() -> None:
    life, asked = live("pending"), []
    life.inquiry("CANCELLED")
    ended = life.now
    while life.payment.next_at is not None:
        life.wake()
        asked.append(life.now - ended)
        life.inquiry("CANCELLED")
    assert asked == [MINUTE, 10 * MINUTE, HOUR, DAY]
    assert life.payment.aftercare is Aftercare.NONE


def test_hints_use_up_none_of_these_inquiries() -> None:
    life, asked = live("pending"), []
    life.inquiry("CANCELLED")
    ended = life.now
    for _ in range(20):
        life.now += SECOND
        life.decide(Hint())
        assert life.wake() is Act.INQUIRE
        life.inquiry("CANCELLED")
    while life.payment.next_at is not None:
        life.wake()
        asked.append(life.now - ended)
        life.inquiry("CANCELLED")
    assert asked == [MINUTE, 10 * MINUTE, HOUR, DAY]


def test_each_of_them_is_repeated_until_answered() -> None:
    life = live("pending")
    life.inquiry("CANCELLED")
    for _ in range(200):
        life.wake()
        life.silence()
    assert life.payment.aftercare is Aftercare.WATCHING
    assert life.payment.next_at is not None
    assert life.payment.next_at - life.now <= MINUTE * (1 + SPREAD)


def test_a_worker_that_slept_through_them_asks_once() -> None:
    life = live("pending")
    life.inquiry("CANCELLED")
    life.wake(late=3 * DAY)
    life.inquiry("CANCELLED")
    assert life.payment.next_at is None


def test_a_success_notified_after_cancelled_is_asked_about_at_once_and_taken_back() -> None:
    life = live("pending at closing")
    life.inquiry("PROCESSING")
    life.wake()
    life.cancel_answer(Call.OK)
    assert life.told == ["cancelling", "cancelled"]
    life.now += 3 * DAY
    life.notification("S")
    assert life.wake() is Act.INQUIRE
    life.inquiry("SUCCESS")
    assert life.wake() is Act.CANCEL
    life.silence(to_cancel=True)
    assert life.wake() is Act.CANCEL
    life.cancel_answer(Call.OK)
    assert life.told[2:] == ["paid_after_cancel", "refund_confirmed"]
    assert life.payment.status is Status.CANCELLED


def test_taking_back_ends_for_a_person_at_its_limit() -> None:
    life = live("cancelled")
    life.inquiry("SUCCESS")
    began = life.now
    while life.payment.aftercare is Aftercare.CANCELLING:
        act = life.wake()
        if act is not Act.WAIT:
            life.silence(to_cancel=act is Act.CANCEL)
    assert life.told == ["paid_after_cancel", "refund_required"]
    assert POLICY.cancel_limit <= life.now - began <= POLICY.cancel_limit + 15 * MINUTE


def test_money_that_comes_back_a_second_time_is_told_a_second_time() -> None:
    life = live("cancelled")
    for _ in range(2):
        life.inquiry("SUCCESS")
        life.wake()
        life.cancel_answer(Call.OK)
        life.now += SECOND
    assert life.told == ["paid_after_cancel", "refund_confirmed"] * 2
    names = [event.name for event in life.events if isinstance(event, Event)]
    assert names[2:] == ["attention.paid_after_cancel.2", "attention.refund_confirmed.2"]


def test_an_answer_asked_for_earlier_does_not_undo_a_newer_one() -> None:
    """Two inquiries crossed: `closed` was true before the buyer paid. No cancel was sent yet."""
    life = live("cancelled")
    earlier = life.now
    life.now += SECOND
    life.inquiry("SUCCESS")
    life.hear(inquired(life.payment, "CANCELLED", earlier, answered_at=life.now))
    assert "refund_confirmed" not in life.told


def test_a_refund_that_is_required_stays_listed_until_somebody_resolves_it() -> None:
    life = live("cancelled refund required")
    until = life.now + 34 * DAY
    while life.payment.next_at is not None and life.now < until:
        life.wake()
        life.inquiry("SUCCESS")
    assert life.payment.needs_a_person
    life.decide(word("resolve", place("cancelled")))
    assert not life.payment.needs_a_person


def test_a_bank_that_confirms_after_the_end_is_watched_more_closely_not_less() -> None:
    life, asked = live("pending"), 0
    life.inquiry("CANCELLED")
    ended = life.now
    while life.now - ended <= HOUR:
        life.wake()
        life.inquiry("PENDING")
        asked += 1
    assert asked > 3, "after a minute, ten and an hour, as in any aftercare"


def test_a_bank_that_confirms_after_the_end_is_not_asked_for_ever() -> None:
    life = live("cancelled")
    until = life.now + 40 * DAY
    while life.payment.next_at is not None and life.now < until:
        life.wake()
        life.inquiry("PENDING")
    assert life.now < until


def test_a_recheck_of_a_succeeded_payment_gives_up_after_a_while_without_answers() -> None:
    life, tries = live("succeeded"), 0
    life.decide(word("recheck", place("succeeded")))
    while life.payment.next_at is not None:
        life.wake()
        life.silence()
        tries += 1
    assert tries == RECHECK_TRIES


# Unresolved


def test_unresolved_asks_after_ten_minutes_an_hour_then_every_six_for_thirty_days() -> None:
    life, gaps = live("pending at closing", "report"), []
    life.inquiry("PROCESSING")
    began = life.now
    while life.payment.next_at is not None:
        before = life.now
        life.wake()
        gaps.append(life.now - before)
        life.inquiry("PROCESSING")
    assert roughly(gaps[0], 10 * MINUTE)
    assert roughly(gaps[1], HOUR)
    assert all(roughly(gap, 6 * HOUR) for gap in gaps[2:])
    assert 30 * DAY <= life.now - began <= 30 * DAY + 8 * HOUR
    assert life.payment.status is Status.UNRESOLVED


def test_after_its_watch_an_unresolved_payment_still_listens() -> None:
    life = live("unresolved")
    life.now += 40 * DAY
    life.inquiry("PROCESSING")
    assert life.payment.next_at is None
    life.notification("S")
    assert life.wake() is Act.INQUIRE
    life.inquiry("SUCCESS")
    assert life.payment.status is Status.SUCCEEDED


def test_the_thirty_days_begin_when_it_becomes_unresolved() -> None:
    """Tracked by an import long after its closing time, it deserves its watch as any other."""
    life = Life(replace(FRESH, closing_time=T0 - 40 * DAY, on_timeout=OnTimeout.REPORT))
    life.inquiry("PROCESSING")
    assert life.payment.status is Status.UNRESOLVED
    assert life.payment.next_at is not None


@pytest.mark.parametrize(
    ("status", "watched"),
    [(Status.SUCCEEDED, False), (Status.FAILED, True), (Status.CANCELLED, True)],
)
def test_an_operators_word_ends_it_and_money_that_comes_later_is_still_seen(
    status: Status, watched: bool
) -> None:
    life = live("unresolved t open paidSeen")
    life.decide(Resolve(id="1", status=status, who="ops", why="seen in the bank"))
    assert life.payment.status is status
    assert life.payment.via is Via.OPERATOR
    assert life.payment.marks == ("resolved",)
    assert (life.payment.next_at is not None) is watched
    assert life.told == [status.value]


# What is told, how often, and in which words


def heard(life: Life, *values: str, kind: str = "amount_mismatch") -> Life:
    for value in values:
        life.decide(Mismatch(kind=kind, value=value))
    return life


def test_an_attention_is_told_once_per_kind_and_value() -> None:
    life = heard(live("pending"), "USD 1", "USD 1", "USD 2", "USD 1")
    heard(life, "gw_2", kind="payment_id_mismatch")
    events = [event for event in life.events if isinstance(event, Event)]
    assert [(event.name, event.value) for event in events] == [
        ("attention.amount_mismatch.1", "USD 1"),
        ("attention.amount_mismatch.2", "USD 2"),
        ("attention.payment_id_mismatch.1", "gw_2"),
    ]
    assert {event.type for event in events} == {"payment.attention"}
    assert {event.advice for event in events} == {"look"}


def test_a_gateway_that_errs_in_ever_new_ways_is_told_a_limited_number_of_times() -> None:
    life = heard(live("pending"), *(f"USD {n}" for n in range(3 * TOLD_VALUES)))
    assert len(life.told) == TOLD_VALUES
    assert len(life.payment.told) == TOLD_VALUES


def test_a_mismatch_of_the_payment_id_keeps_a_blind_cancel_away_too() -> None:
    life = heard(live("pending past grace"), "gw_2", kind="payment_id_mismatch")
    life.silence()
    assert life.payment.reason == "payment_id_mismatch"


def test_seq_is_at_least_redis_time_and_rises_within_one_millisecond() -> None:
    """Over a rebuild of the record, too: Redis time has moved on by then."""
    life = live("pending")
    life.inquiry("SUCCESS", returns=())
    assert life.events[0].seq == life.now  # type: ignore[union-attr]
    ahead = replace(place("pending").payment, seq=life.now + 10)
    life = Life(ahead, life.now)
    life.decide(PaidBack(Facts(via=Via.INQUIRY, asked_at=life.now), whole=False))
    assert [event.seq - life.now for event in life.events] == [11, 12]  # type: ignore[union-attr]


def test_what_may_come_twice_is_numbered() -> None:
    life = live("unresolved")
    life.decide(word("cancel", place("pending")))
    life.decide(Mismatch(kind="amount_mismatch", value="USD 1"))
    life.payment = replace(life.payment, status=Status.UNRESOLVED)
    life.decide(word("cancel", place("pending")))
    names = [event.name for event in life.events if isinstance(event, Event)]
    assert names == ["cancelling.1", "attention.amount_mismatch.1", "cancelling.2"]


def test_telling_the_end_again_keeps_the_name_and_raises_the_seq() -> None:
    life = live("pending")
    life.inquiry("SUCCESS")
    life.decide(word("track again", place("pending")))
    first, again = life.events
    assert isinstance(first, Event)
    assert isinstance(again, Event)
    assert (
        (first.type, first.name) == (again.type, again.name) == ("payment.succeeded", "succeeded")
    )
    assert again.seq > first.seq


@pytest.mark.parametrize(
    ("start", "heard", "advice", "would"),
    [
        ("pending", "Failed", "none", "cancel"),
        ("pending at closing", "NotYet", "look", "cancel"),
        ("pending past grace", "NoAnswer", "look", "cancel"),
        ("cancelling f none", "Tick", "none", "cancel"),
        ("cancelling t none", "Tick", "look", "cancel"),
        ("cancelled", "Paid", "refund", "cancel"),
    ],
)
def test_report_mode_says_what_would_have_been_done(
    start: str, heard: str, advice: str, would: str
) -> None:
    life = live(start, "report")
    event = life.decide(word(heard, place(start))).events[0]
    assert isinstance(event, Event)
    assert (event.advice, event.would) == (advice, would)


@pytest.mark.parametrize(
    ("start", "heard", "advice"),
    [
        ("pending", "cancel", "none"),
        ("cancelling t refused window", "NotYet", "refund"),
        ("cancelling f none", "Paid", "look"),
        ("succeeded", "Closed", "look"),
        ("cancelled taking back sent", "CancelRefused other", "refund"),
        ("cancelled taking back sent", "CancelConfirmed", "none"),
    ],
)
def test_an_event_advises_what_the_merchant_should_do(start: str, heard: str, advice: str) -> None:
    event = live(start).decide(word(heard, place(start))).events[-1]
    assert isinstance(event, Event)
    assert event.advice == advice


def test_a_cancel_of_a_succeeded_payment_is_answered_with_the_advice_to_refund() -> None:
    (rejected,) = live("succeeded").decide(word("cancel", place("succeeded"))).events
    assert rejected == Rejected(
        command_id="order_2",
        command="payment.cancel",
        reason="already_final",
        message="the payment has succeeded; refund it instead",
        client_id=FRESH.client_id,
        payment_request_id="pay_1",
        advice="refund",
    )


def test_a_payment_paid_before_its_cancel_answers_the_command_that_asked_for_it() -> None:
    rejected = live("cancelling r none").decide(word("Paid", place("cancelling r none"))).events[-1]
    assert isinstance(rejected, Rejected)
    assert (rejected.command_id, rejected.reason) == ("order_1", "already_final")
    assert rejected.advice == "refund"


@pytest.mark.parametrize("command", ["track again", "cancel", "recheck", "forget", "resolve"])
def test_a_command_is_named_as_the_merchant_writes_it(command: str) -> None:
    news = word(command, place("pending"))
    assert name_of(news) == f"payment.{command.split()[0]}"  # type: ignore[arg-type]


def test_money_left_taken_alarms_the_operator() -> None:
    life = live("cancelled", "report")
    life.inquiry("SUCCESS")
    assert life.alarms == ["money stays taken after the end: refund it"]


def test_every_notification_is_counted_whatever_it_is_worth_and_nothing_else() -> None:
    life = Life(FRESH)
    life.notification("U")  # a hint
    life.notification("S", amount=Money("EUR", 1))  # a mismatch
    life.inquiry("PROCESSING")
    life.silence()
    assert life.payment.notifications == 2
    life.notification("S")
    assert life.payment.status is Status.SUCCEEDED
    life.notification("S")  # known
    assert life.payment.notifications == 4


def test_a_change_is_stamped_and_no_change_is_not() -> None:
    life = live("pending")
    before = life.payment
    assert decide(before, Tick(), life.now, POLICY).payment is before
    life.decide(Hint())
    assert life.payment.updated_at == life.now


def test_what_evidence_teaches_is_kept() -> None:
    life = live("pending")
    life.inquiry("PROCESSING", created_at=T0 + 5, payment_id="gw_4", code="SUCCESS")
    life.inquiry("SUCCESS", paid_at=T0 + 9, created_at=T0 + 6)
    payment = life.payment
    assert (payment.payment_id, payment.created_at, payment.paid_at) == ("gw_4", T0 + 5, T0 + 9)
    assert (payment.found, payment.result_code, payment.attempts) == (True, "SUCCESS", 2)
    assert payment.via is Via.INQUIRY


def test_an_order_that_does_not_exist_is_not_found_yet() -> None:
    life = live("pending")
    life.inquiry("NOT_EXIST")
    assert not life.payment.found
    assert life.payment.result_code == "ORDER_NOT_EXIST"


def test_money_reads_as_currency_and_minor_units() -> None:
    assert str(Money("JPY", 599)) == "JPY 599"


@pytest.mark.parametrize(("since", "act"), [(119, Act.WAIT), (120, Act.ERASE)])
def test_a_record_is_kept_while_a_cancel_of_it_may_still_be_on_its_way(since: Ms, act: Act) -> None:
    """Tracked again, it would know of no cancel, and take a success for good."""
    sent_at = CLOSING - since * SECOND
    ended = replace(FRESH, status=Status.CANCELLED, final_at=CLOSING, last_cancel_at=sent_at)
    order = Order(
        ask=Ask.FORGET, id="1-0", at=CLOSING, client_id=ended.client_id, payment_request_id="pay_1"
    )
    decision = decide(ended, order, CLOSING, POLICY)
    assert decision.act is act
    assert [type(told) for told in decision.events] == ([Rejected] if act is Act.WAIT else [])
