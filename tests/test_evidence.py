"""What a message is worth: a genuine one can be old, or about another payment or other money."""

from dataclasses import replace

import pytest

from jobs.evidence import evidence_from, hear
from jobs.model import CancelState, Money, Ms, Payment, Refusal, Status, SubmitState, Via
from jobs.news import (
    Ask,
    Call,
    CancelConfirmed,
    CancelRefused,
    Closed,
    Confirming,
    Failed,
    Hint,
    Known,
    Mismatch,
    News,
    NoAnswer,
    NotExist,
    NotifyKind,
    NotYet,
    Order,
    OrderCreated,
    OtherKind,
    Paid,
    PaidBack,
    PayRefused,
    Return,
    Silence,
    Tick,
    Unusable,
)
from jobs.schedule import MINUTE, SECOND
from tests.cells import (
    CASHIER,
    CLOSING,
    FRESH,
    POLICY,
    T0,
    USD,
    Life,
    cancel_said,
    inquired,
    notified,
    pay_said,
)

NOW = T0 + 100 * SECOND
KNOWN = replace(FRESH, payment_id="gw_1")
OPEN = replace(KNOWN, cancel_state=CancelState.OPEN, last_cancel_at=NOW - MINUTE)


def worth(payment: Payment, message: object, now: Ms = NOW) -> News:
    return hear(payment, message, now, POLICY)  # type: ignore[arg-type]


def why(news: News) -> str:
    assert isinstance(news, NoAnswer)
    return news.why


# Answers to inquiries: the call and the payment are two things


@pytest.mark.parametrize(
    ("status", "news"),
    [
        ("SUCCESS", Paid),
        ("FAIL", Failed),
        ("CANCELLED", Closed),
        ("PENDING", Confirming),
        ("PROCESSING", NotYet),
        ("NOT_EXIST", NotExist),
    ],
)
def test_an_answered_inquiry_is_worth_its_payment_status(status: str, news: type) -> None:
    assert type(worth(FRESH, inquired(FRESH, status, NOW))) is news


def test_an_answer_with_a_status_not_in_the_protocol_is_no_answer() -> None:
    assert why(worth(FRESH, inquired(FRESH, "?", NOW))) == "unknown_payment_status"


@pytest.mark.parametrize("call", [Call.UNKNOWN, Call.REFUSED, Call.WINDOW_EXCEEDED])
def test_a_call_that_failed_says_nothing_of_the_money(call: Call) -> None:
    """Even with a paymentStatus in it: whatever stands beside a U or an F is not read."""
    assert why(worth(FRESH, inquired(FRESH, "SUCCESS", NOW, call=call, code="X"))) == "X"


def test_a_configuration_error_is_no_answer_and_known_as_one() -> None:
    news = worth(FRESH, inquired(FRESH, "?", NOW, call=Call.MISCONFIGURED, code="KEY_NOT_FOUND"))
    assert news == NoAnswer(why="KEY_NOT_FOUND", asked_at=NOW, misconfigured=True)


def test_an_answer_carries_its_facts() -> None:
    said = inquired(FRESH, "SUCCESS", NOW, created_at=T0, paid_at=T0 + 1, asked_at=NOW - 7)
    news = worth(FRESH, said)
    assert isinstance(news, Paid)
    facts = news.facts
    assert (facts.via, facts.asked_at, facts.code) == (Via.INQUIRY, NOW - 7, "SUCCESS")
    assert (facts.payment_id, facts.created_at, facts.paid_at) == ("gw_1", T0, T0 + 1)


# Rule 1: verified, to us, fresh, and about the payment that was asked about


@pytest.mark.parametrize("age", [-5 * MINUTE, 0, 5 * MINUTE])
def test_an_answer_counts_up_to_five_minutes_off_either_way(age: Ms) -> None:
    assert isinstance(worth(FRESH, inquired(FRESH, "SUCCESS", NOW, answered_at=NOW - age)), Paid)


@pytest.mark.parametrize("answered_at", [NOW - 5 * MINUTE - 1, NOW + 5 * MINUTE + 1, None])
@pytest.mark.parametrize("status", ["SUCCESS", "NOT_EXIST"])
def test_an_answer_of_another_time_is_no_answer(status: str, answered_at: Ms | None) -> None:
    """An old answer, replayed, would verify: the signature does not cover the question."""
    assert why(worth(FRESH, inquired(FRESH, status, NOW, answered_at=answered_at))) == "stale"


@pytest.mark.parametrize("status", ["SUCCESS", "FAIL", "CANCELLED", "PENDING", "PROCESSING"])
@pytest.mark.parametrize("other", ["pay_2", "", "PAY_1"])
def test_an_answer_about_another_payment_is_no_answer(status: str, other: str) -> None:
    said = inquired(FRESH, status, NOW, payment_request_id=other)
    assert why(worth(FRESH, said)) == "answer_of_another_payment"


def test_the_payment_id_is_learned_from_the_first_answer() -> None:
    life = Life(FRESH, NOW)
    life.inquiry("PROCESSING", payment_id="gw_7")
    life.inquiry("PROCESSING", payment_id="gw_7")
    assert life.payment.payment_id == "gw_7"


def test_once_known_the_payment_id_may_not_be_missing() -> None:
    assert why(worth(KNOWN, inquired(KNOWN, "SUCCESS", NOW, payment_id=""))) == "payment_id_missing"


@pytest.mark.parametrize("status", ["SUCCESS", "FAIL", "CANCELLED", "PENDING", "PROCESSING", "?"])
def test_another_payment_id_than_the_known_one_is_a_mismatch(status: str) -> None:
    said = inquired(KNOWN, status, NOW, payment_id="gw_2")
    assert worth(KNOWN, said) == Mismatch(kind="payment_id_mismatch", value="gw_2", asked_at=NOW)


def test_an_order_that_does_not_exist_needs_no_ids() -> None:
    """An F carries nothing but its code."""
    assert isinstance(worth(KNOWN, inquired(KNOWN, "NOT_EXIST", NOW)), NotExist)


# Rule 2: when a notification counts


def test_a_fresh_success_before_closing_and_before_any_cancel_is_paid() -> None:
    news = worth(FRESH, notified(FRESH, "S", NOW, paid_at=NOW - 1, created_at=T0))
    assert isinstance(news, Paid)
    assert (news.facts.via, news.facts.paid_at) == (Via.NOTIFICATION, NOW - 1)


def test_a_fresh_failure_before_any_cancel_is_failed_even_after_closing() -> None:
    assert isinstance(worth(FRESH, notified(FRESH, "F", NOW)), Failed)
    assert isinstance(worth(FRESH, notified(FRESH, "F", CLOSING + 1), CLOSING + 1), Failed)


@pytest.mark.parametrize("sent_at", [NOW - 5 * MINUTE - 1, NOW + 5 * MINUTE + 1, None])
@pytest.mark.parametrize("status", ["S", "F"])
def test_a_notification_of_another_time_is_a_hint(status: str, sent_at: Ms | None) -> None:
    assert worth(FRESH, notified(FRESH, status, NOW, sent_at=sent_at)) == Hint()


def test_a_parked_notification_is_judged_by_when_it_was_received() -> None:
    """It waited for its `payment.track` an hour in our own inbox, which does not make it stale."""
    later = replace(FRESH, closing_time=NOW + 3600 * SECOND)
    assert isinstance(worth(later, notified(later, "S", NOW), NOW + 3500 * SECOND), Paid)


def test_a_parked_notification_that_was_stale_on_receipt_stays_a_hint() -> None:
    assert worth(FRESH, notified(FRESH, "S", NOW, sent_at=NOW - 6 * MINUTE), NOW) == Hint()


@pytest.mark.parametrize(
    ("received_at", "paid_at"), [(CLOSING, None), (CLOSING + 1, T0), (CLOSING - 1, CLOSING)]
)
def test_a_success_heard_or_paid_after_closing_is_a_hint(received_at: Ms, paid_at: Ms) -> None:
    """What is paid after closing may be refunded at once: only an inquiry can tell."""
    said = notified(FRESH, "S", received_at, paid_at=paid_at)
    assert worth(FRESH, said, CLOSING + 1) == Hint()


def test_a_success_heard_just_before_closing_counts_when_read_after_it() -> None:
    assert isinstance(worth(FRESH, notified(FRESH, "S", CLOSING - 1), CLOSING + MINUTE), Paid)


@pytest.mark.parametrize(("received_at", "news"), [(CLOSING - 1, Paid), (CLOSING, Hint)])
def test_a_closing_time_between_two_seconds_closes_with_the_second(
    received_at: Ms, news: type
) -> None:
    """The gateway was told 08:00:28 for our 08:00:28.717, and refunds what is paid in between."""
    between = replace(FRESH, closing_time=CLOSING + 717)
    assert isinstance(worth(between, notified(between, "S", received_at), received_at), news)


@pytest.mark.parametrize(("before", "news"), [(1, Paid), (0, Hint)])
def test_by_the_contract_closing_counts_from_the_creation_at_the_gateway(
    before: Ms, news: type
) -> None:
    """It was tracked 8 s after it was made, so our closing time lags behind the gateway's."""
    agreed = replace(FRESH, closing_time=T0 + 8 * SECOND + POLICY.closing, closing_agreed=True)
    at = T0 + POLICY.closing - before
    assert isinstance(worth(agreed, notified(agreed, "S", at, created_at=T0), at), news)
    given = replace(agreed, closing_agreed=False)
    assert isinstance(worth(given, notified(given, "S", at, created_at=T0), at), Paid)


@pytest.mark.parametrize("state", [CancelState.OPEN, CancelState.REFUSED, CancelState.CONFIRMED])
@pytest.mark.parametrize("status", ["S", "F"])
def test_once_a_cancel_was_sent_a_notification_is_a_hint(status: str, state: CancelState) -> None:
    sent = replace(FRESH, status=Status.CANCELLING, cancel_state=state, last_cancel_at=T0)
    assert worth(sent, notified(sent, status, NOW)) == Hint()


def test_while_the_cancel_is_only_decided_success_is_a_hint_and_failure_counts() -> None:
    """`succeeded` from here needs an inquiry; a failure only makes the cancel surer."""
    decided = replace(FRESH, status=Status.CANCELLING)
    assert worth(decided, notified(decided, "S", NOW)) == Hint()
    assert isinstance(worth(decided, notified(decided, "F", NOW)), Failed)


@pytest.mark.parametrize("status", ["S", "F", "U"])
def test_payment_pending_is_a_hint_whatever_its_result_status(status: str) -> None:
    """It carries resultStatus S while the bank still confirms."""
    said = notified(FRESH, status, NOW, kind=NotifyKind.PENDING)
    assert worth(FRESH, said) == Hint()


@pytest.mark.parametrize("status", ["U", "", "s", "SUCCESS"])
def test_a_result_status_that_is_neither_s_nor_f_is_a_hint(status: str) -> None:
    assert worth(FRESH, notified(FRESH, status, NOW)) == Hint()


def test_a_quarantined_message_whose_payment_can_be_read_is_a_hint() -> None:
    assert worth(FRESH, Unusable(payment_request_id="pay_1", why="no_result")) == Hint()


def test_a_kind_of_notification_that_is_not_ours_is_nothing_new() -> None:
    assert worth(FRESH, OtherKind(kind="REFUND_RESULT", payment_request_id="pay_1")) == Known()


@pytest.mark.parametrize(
    ("status", "said", "news"),
    [
        (Status.SUCCEEDED, "S", Known()),
        (Status.SUCCEEDED, "F", Hint()),
        (Status.FAILED, "F", Known()),
        (Status.FAILED, "S", Hint()),
        (Status.CANCELLED, "F", Known()),
        (Status.CANCELLED, "S", Hint()),
        (Status.FORGOTTEN, "S", Hint()),
    ],
)
def test_after_the_end_what_agrees_is_known_and_what_does_not_makes_us_ask(
    status: Status, said: str, news: News
) -> None:
    ended = replace(FRESH, status=status)
    assert worth(ended, notified(ended, said, NOW)) == news


def test_a_success_of_another_amount_after_success_makes_us_ask() -> None:
    ended = replace(FRESH, status=Status.SUCCEEDED)
    assert worth(ended, notified(ended, "S", NOW, amount=Money("USD", 600))) == Hint()


def test_unresolved_listens_to_notifications_as_pending_does() -> None:
    unresolved = replace(FRESH, status=Status.UNRESOLVED)
    assert isinstance(worth(unresolved, notified(unresolved, "S", NOW)), Paid)


# Rule 3: once a cancel was sent, only what was asked after it counts


def test_before_any_cancel_every_inquiry_counts() -> None:
    assert evidence_from(FRESH, POLICY) == 0


@pytest.mark.parametrize("status", ["SUCCESS", "FAIL", "NOT_EXIST"])
def test_an_unanswered_cancel_keeps_us_deaf_for_its_quiet_time(status: str) -> None:
    """The request may still be on its way: what was true before it arrives proves nothing."""
    sent_at = OPEN.last_cancel_at or 0
    quiet_over = sent_at + POLICY.cancel_quiet
    early = inquired(OPEN, status, quiet_over - 1)
    assert why(worth(OPEN, early, quiet_over)) == "asked_before_cancel_settled"
    assert not isinstance(worth(OPEN, inquired(OPEN, status, quiet_over), quiet_over), NoAnswer)


def test_after_a_refusal_only_inquiries_sent_since_count() -> None:
    refused = replace(OPEN, cancel_state=CancelState.REFUSED, cancel_answered_at=NOW)
    early = worth(refused, inquired(refused, "SUCCESS", NOW, asked_at=NOW - 1))
    assert why(early) == "asked_before_cancel_settled"
    assert isinstance(worth(refused, inquired(refused, "SUCCESS", NOW)), Paid)


def test_a_refusal_does_not_end_the_quiet_time_of_an_earlier_silent_cancel() -> None:
    refused = replace(OPEN, cancel_state=CancelState.REFUSED, cancel_answered_at=NOW)
    refused = replace(refused, silent_cancel_at=NOW - 30 * SECOND)
    assert evidence_from(refused, POLICY) == NOW - 30 * SECOND + POLICY.cancel_quiet


def test_a_refusal_heard_long_after_a_silent_cancel_opens_our_ears_at_once() -> None:
    refused = replace(OPEN, cancel_state=CancelState.REFUSED, cancel_answered_at=NOW)
    refused = replace(refused, silent_cancel_at=NOW - 10 * MINUTE)
    assert evidence_from(refused, POLICY) == NOW


def test_after_a_confirmed_cancel_only_inquiries_sent_since_count() -> None:
    done = replace(OPEN, cancel_state=CancelState.CONFIRMED, cancel_answered_at=NOW)
    assert evidence_from(done, POLICY) == NOW


# Rule 4: which money


@pytest.mark.parametrize(
    ("amount", "value"),
    [(None, "none"), (Money("USD", 600), "USD 600"), (Money("EUR", 599), "EUR 599")],
)
def test_a_success_needs_amount_and_currency_present_and_equal(
    amount: Money | None, value: str
) -> None:
    heard = worth(FRESH, inquired(FRESH, "SUCCESS", NOW, amount=amount))
    assert heard == Mismatch(kind="amount_mismatch", value=value, asked_at=NOW)
    told = worth(FRESH, notified(FRESH, "S", NOW, amount=amount))
    assert told == Mismatch(kind="amount_mismatch", value=value)


@pytest.mark.parametrize(("status", "news"), [("FAIL", Failed), ("CANCELLED", Closed)])
def test_a_failure_or_closing_may_be_without_an_amount_but_not_with_another(
    status: str, news: type
) -> None:
    assert type(worth(FRESH, inquired(FRESH, status, NOW, amount=None))) is news
    assert type(worth(FRESH, inquired(FRESH, status, NOW, amount=USD))) is news
    other = worth(FRESH, inquired(FRESH, status, NOW, amount=Money("USD", 1)))
    assert other == Mismatch(kind="amount_mismatch", value="USD 1", asked_at=NOW)


def test_a_notified_failure_may_be_without_an_amount_but_not_with_another() -> None:
    assert isinstance(worth(FRESH, notified(FRESH, "F", NOW, amount=None)), Failed)
    other = worth(FRESH, notified(FRESH, "F", NOW, amount=Money("USD", 1)))
    assert other == Mismatch(kind="amount_mismatch", value="USD 1")


def test_a_notified_payment_id_must_be_the_known_one() -> None:
    other = worth(KNOWN, notified(KNOWN, "S", NOW, payment_id="gw_2"))
    assert other == Mismatch(kind="payment_id_mismatch", value="gw_2")


@pytest.mark.parametrize(("status", "news"), [("PROCESSING", NotYet), ("PENDING", Confirming)])
def test_while_nothing_is_final_the_amount_does_not_matter(status: str, news: type) -> None:
    assert type(worth(FRESH, inquired(FRESH, status, NOW, amount=Money("USD", 1)))) is news


# Money given back


def back(*parts: tuple[str, Money | None]) -> News:
    returns = tuple(Return(kind, amount) for kind, amount in parts)
    return worth(FRESH, inquired(FRESH, "SUCCESS", NOW, returns=returns))


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([("REFUND", USD)], True),
        ([("REFUND", Money("USD", 598))], False),
        ([("REFUND", Money("USD", 300)), ("REFUND", Money("USD", 299))], True),
        ([("REFUND", Money("USD", 300)), ("REFUND", Money("USD", 298))], False),
        ([("REFUND", Money("USD", 600))], True),
        ([("REFUND", None)], False),
        ([("CANCEL", None)], True),
        ([("VOID", None)], True),
        ([("CANCEL", Money("USD", 100))], False),
        ([("REFUND", Money("EUR", 599))], False),
        ([("REFUND", Money("EUR", 599)), ("REFUND", USD)], True),
    ],
)
def test_what_was_given_back_adds_up(parts: list[tuple[str, Money | None]], whole: bool) -> None:
    """Other currencies do not count; a CANCEL or VOID without an amount is all of it."""
    news = back(*parts)
    assert isinstance(news, PaidBack)
    assert news.whole is whole


def test_money_given_back_does_not_excuse_another_amount() -> None:
    said = inquired(FRESH, "SUCCESS", NOW, amount=Money("USD", 1), returns=(Return("VOID", None),))
    assert isinstance(worth(FRESH, said), Mismatch)


# Answers to cancels


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (Call.WINDOW_EXCEEDED, Refusal.WINDOW),
        (Call.NOT_EXIST, Refusal.NOT_EXIST),
        (Call.REFUSED, Refusal.OTHER),
    ],
)
def test_a_verified_f_refuses_the_cancel(call: Call, refusal: Refusal) -> None:
    news = worth(OPEN, cancel_said(OPEN, call, NOW))
    assert isinstance(news, CancelRefused)
    assert news.why is refusal


def test_an_s_confirms_the_cancel() -> None:
    news = worth(OPEN, cancel_said(OPEN, Call.OK, NOW))
    assert isinstance(news, CancelConfirmed)
    assert news.facts.via is Via.CANCEL


def test_a_u_is_never_cancelled() -> None:
    news = worth(OPEN, cancel_said(OPEN, Call.UNKNOWN, NOW, code="UNKNOWN_EXCEPTION"))
    assert news == NoAnswer(why="UNKNOWN_EXCEPTION", asked_at=NOW, to_cancel=True)


def test_a_configuration_error_does_not_refuse_the_cancel() -> None:
    news = worth(OPEN, cancel_said(OPEN, Call.MISCONFIGURED, NOW, code="ACCESS_DENIED"))
    assert isinstance(news, NoAnswer)
    assert news.misconfigured
    assert news.to_cancel


@pytest.mark.parametrize("call", [Call.OK, Call.REFUSED, Call.NOT_EXIST, Call.WINDOW_EXCEEDED])
def test_an_answer_to_a_cancel_of_another_time_is_no_answer(call: Call) -> None:
    said = cancel_said(OPEN, call, NOW, answered_at=NOW - 5 * MINUTE - 1)
    assert why(worth(OPEN, said)) == "stale"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"payment_request_id": "pay_2"}, "answer_of_another_payment"),
        ({"payment_id": "gw_2"}, "answer_of_another_payment"),
        ({"payment_id": ""}, "payment_id_missing"),
    ],
)
def test_an_s_to_another_payments_cancel_confirms_nothing(
    wrong: dict[str, str], reason: str
) -> None:
    assert why(worth(OPEN, cancel_said(OPEN, Call.OK, NOW, **wrong))) == reason


def test_an_s_to_a_cancel_may_bring_the_first_payment_id() -> None:
    unknown = replace(OPEN, payment_id="")
    assert isinstance(worth(unknown, cancel_said(unknown, Call.OK, NOW)), CancelConfirmed)


# What is no answer at all, and what is a message and news at once


def test_silence_is_no_answer_and_keeps_what_is_known_of_the_try() -> None:
    silence = Silence(asked_at=NOW, why="timeout", to_cancel=True, left=False)
    assert worth(OPEN, silence) == NoAnswer(why="timeout", asked_at=NOW, to_cancel=True, left=False)


def test_commands_and_the_clock_are_heard_as_they_are() -> None:
    order = Order(
        ask=Ask.RECHECK, id="1", at=NOW, client_id=FRESH.client_id, payment_request_id="pay_1"
    )
    assert worth(FRESH, order) is order
    assert worth(FRESH, Tick()) == Tick()


# Answers to our pay: an order that exists, and never money

PAYING = replace(FRESH, pay_request="{}", submit_state=SubmitState.OPEN, last_pay_at=NOW)


def test_an_answer_to_pay_says_that_the_order_exists_and_where_the_buyer_pays() -> None:
    news = worth(PAYING, pay_said(PAYING, Call.OK, NOW, created_at=T0, code="SUCCESS"))
    assert isinstance(news, OrderCreated)
    assert (news.redirect_url, news.redirect_method) == (CASHIER, "GET")
    facts = news.facts
    assert (facts.via, facts.asked_at, facts.code) == (Via.PAY, NOW, "SUCCESS")
    assert (facts.payment_id, facts.created_at, facts.paid_at) == ("gw_1", T0, None)


def test_an_order_in_process_counts_if_it_says_where_the_buyer_pays() -> None:
    in_process = pay_said(PAYING, Call.UNKNOWN, NOW, code="PAYMENT_IN_PROCESS")
    assert isinstance(worth(PAYING, in_process), OrderCreated)
    nowhere = replace(in_process, redirect_url="")
    assert worth(PAYING, nowhere) == NoAnswer(why="PAYMENT_IN_PROCESS", asked_at=NOW, to_pay=True)


def test_an_order_that_no_buyer_can_reach_is_asked_for_again() -> None:
    assert why(worth(PAYING, pay_said(PAYING, Call.OK, NOW, redirect_url=""))) == "no_redirect"


@pytest.mark.parametrize(
    "call", [Call.REFUSED, Call.NOT_EXIST, Call.WINDOW_EXCEEDED, Call.MISCONFIGURED]
)
def test_every_other_answer_is_a_refusal_and_a_configuration_error_known_as_one(
    call: Call,
) -> None:
    news = worth(PAYING, pay_said(PAYING, call, NOW))
    assert isinstance(news, PayRefused)
    assert news.misconfigured is (call is Call.MISCONFIGURED)
    assert (news.facts.via, news.facts.code) == (Via.PAY, call.value)


@pytest.mark.parametrize("call", [Call.OK, Call.UNKNOWN, Call.REFUSED, Call.MISCONFIGURED])
@pytest.mark.parametrize("age", [5 * MINUTE + 1, -5 * MINUTE - 1])
def test_an_answer_to_pay_of_another_time_is_no_answer(call: Call, age: Ms) -> None:
    said = pay_said(PAYING, call, NOW, answered_at=NOW - age)
    assert why(worth(PAYING, said)) == "stale"


@pytest.mark.parametrize("call", [Call.OK, Call.UNKNOWN])
@pytest.mark.parametrize("other", ["pay_2", "", "PAY_1"])
def test_the_cashiers_link_of_another_payment_is_never_taken(call: Call, other: str) -> None:
    said = pay_said(PAYING, call, NOW, payment_request_id=other)
    assert why(worth(PAYING, said)) == "answer_of_another_payment"


def test_an_answer_without_our_id_counts_once_the_gateways_own_id_is_known() -> None:
    known = replace(PAYING, payment_id="gw_1")
    said = pay_said(known, Call.OK, NOW, payment_request_id="")
    assert isinstance(worth(known, said), OrderCreated)
    assert why(worth(known, replace(said, payment_id="gw_2"))) == "answer_of_another_payment"
    named = replace(said, payment_request_id="pay_2")
    assert why(worth(known, named)) == "answer_of_another_payment"


def test_an_order_of_other_money_is_a_mismatch() -> None:
    said = pay_said(PAYING, Call.OK, NOW, amount=Money("USD", 600))
    assert worth(PAYING, said) == Mismatch(
        kind="amount_mismatch", value="USD 600", asked_at=NOW, to_pay=True
    )
    assert isinstance(worth(PAYING, replace(said, amount=None)), OrderCreated)


def test_no_answer_to_pay_keeps_what_it_was_no_answer_to() -> None:
    news = worth(PAYING, Silence(asked_at=NOW, why="timeout", to_pay=True, left=False))
    assert news == NoAnswer(why="timeout", asked_at=NOW, to_pay=True, left=False)
