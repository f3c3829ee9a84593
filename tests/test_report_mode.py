"""Report mode sends no cancel, and each time it keeps from one the outcome says so."""

from dataclasses import replace
from typing import Any

import pytest

from jobs.model import (
    Act,
    Aftercare,
    CancelState,
    Cause,
    Event,
    OnTimeout,
    Payment,
    Refusal,
    Status,
    Via,
)
from jobs.news import Facts, Failed, News, NoAnswer, NotYet, Paid, Tick
from jobs.payment import decide
from jobs.schedule import DAY, MINUTE, Policy
from tests.fakes import CLIENT, REQUEST, USD

NOW = 1_796_000_000_000
FACTS = Facts(via=Via.INQUIRY, asked_at=NOW)


def payment(**more: Any) -> Payment:
    """One whose closing time has just passed."""
    known: dict[str, Any] = {
        "client_id": CLIENT,
        "payment_request_id": REQUEST,
        "amount": USD,
        "tracked_at": NOW - 10 * MINUTE,
        "closing_time": NOW,
        "found": True,
        "next_at": NOW,
    }
    return Payment(**known | more)


CANCELLING = {
    "status": Status.CANCELLING,
    "cause": Cause.TIMED_OUT,
    "cancel_state": CancelState.OPEN,
    "last_cancel_at": NOW - 10 * MINUTE,
    "next_act": Act.CANCEL,
}
REFUSED = {"cancel_state": CancelState.REFUSED, "cancel_refusal": Refusal.OTHER}
SPENT = {"tried_for": 2 * DAY, "tried_at": NOW - MINUTE}
TAKING_BACK = {
    "status": Status.CANCELLED,
    "final_at": NOW - DAY,
    "aftercare": Aftercare.CANCELLING,
    "cancel_state": CancelState.OPEN,
    "last_cancel_at": NOW - 10 * MINUTE,
}
UNANSWERED = NoAnswer(why="timeout", asked_at=NOW)

#: How a payment stands, what is heard, and the outcome that says what would have been done.
CASES: dict[str, tuple[dict[str, Any], News, str]] = {
    "time is up": ({}, NotYet(FACTS), "unresolved.1"),
    "FAIL": ({}, Failed(FACTS), "failed"),
    "no answer for long": (SPENT, UNANSWERED, "unresolved.1"),
    "switched on before the cancel left": (
        {**CANCELLING, "cancel_state": CancelState.NONE},
        Tick(),
        "unresolved.1",
    ),
    "switched on before the cancel of a failed one left": (
        {**CANCELLING, "cancel_state": CancelState.NONE, "cause": Cause.FAILED},
        Tick(),
        "failed",
    ),
    "switched on while a cancel is repeated": (
        CANCELLING | SPENT,
        NotYet(FACTS),
        "unresolved.1",
    ),
    "switched on after a cancel was refused": (
        {
            **CANCELLING,
            **SPENT,
            "cancel_state": CancelState.REFUSED,
            "cancel_refusal": Refusal.OTHER,
        },
        NotYet(FACTS),
        "unresolved.1",
    ),
    "paid after it was cancelled": (
        {"status": Status.CANCELLED, "final_at": NOW - DAY, "aftercare": Aftercare.WATCHING},
        Paid(FACTS),
        "attention.paid_after_cancel.1",
    ),
    "switched on while money is taken back": (
        TAKING_BACK,
        Paid(FACTS),
        "attention.refund_required.1",
    ),
}


def told(known: Payment, news: News, policy: Policy) -> list[tuple[str, str]]:
    decision = decide(known, news, NOW, policy)
    assert decision.act is not Act.CANCEL or not policy.report
    return [(e.name, e.would) for e in decision.events if isinstance(e, Event)]


@pytest.mark.parametrize("case", CASES)
def test_what_would_have_been_done_is_told_with_the_outcome(case: str) -> None:
    known, news, name = CASES[case]
    assert (name, "cancel") in told(payment(**known), news, Policy(report=True))
    assert not any(would for _, would in told(payment(**known), news, Policy()))


@pytest.mark.parametrize("case", ["time is up", "FAIL", "no answer for long"])
def test_one_payment_may_be_in_report_mode_alone(case: str) -> None:
    known, news, name = CASES[case]
    reported = replace(payment(**known), on_timeout=OnTimeout.REPORT)
    assert told(reported, news, Policy()) == [(name, "cancel")]


def test_where_no_cancel_would_have_been_sent_none_is_told() -> None:
    mismatch = payment(told=("attention.amount_mismatch=USD 600",))
    for news, known in ((NotYet(FACTS), mismatch), (Paid(FACTS), payment())):
        assert all(would == "" for _, would in told(known, news, Policy(report=True)))
