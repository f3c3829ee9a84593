"""What the merchant is told: a CloudEvent, complete in itself, with an id that never changes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.model import Event, Ms, Rejected, Via
from jobs.outcome import outcome, rejection, rfc3339
from tests.test_records import FRESH, FULL

NOW = 1_790_000_000_123
LATEST: Ms = 253_402_300_799_999  #: the last time of the year 9999, as the gateway may write one

EVENT = Event(
    type="payment.attention",
    name="attention.amount_mismatch.1",
    seq=1_790_000_000_011,
    kind="amount_mismatch",
    value="EUR 1",
    advice="look",
    would="cancel",
)


def _refused(client_id: str) -> Rejected:
    return Rejected(
        command_id="1-0", command="payment.fly", reason="r", message="m", client_id=client_id
    )


def test_an_outcome_says_everything() -> None:
    assert outcome(FULL, EVENT, NOW) == {
        "specversion": "1.0",
        "id": "SANDBOX_1:order-1:attention.amount_mismatch.1",
        "source": "/reconciler/SANDBOX_1",
        "type": "payment.attention",
        "subject": "order-1",
        "time": "2026-09-21T14:13:20.123Z",
        "datacontenttype": "application/json",
        "data": {
            "schema": 1,
            "seq": 1_790_000_000_011,
            "status": "unresolved",
            "cause": "timed_out",
            "reason": "cancel_limit",
            "kind": "amount_mismatch",
            "value": "EUR 1",
            "advice": "look",
            "would": "cancel",
            "marks": ["blind", "late"],
            "via": "inquiry",
            "clientId": "SANDBOX_1",
            "paymentRequestId": "order-1",
            "paymentId": "gw-1",
            "paymentAmount": {"currency": "USD", "value": "599"},
            "resultCode": "SUCCESS",
            "attempts": 17,
            "trackedAt": "2026-09-21T14:13:20.000Z",
            "closingTime": "2026-09-21T14:27:20.000Z",
            "paymentTime": "2026-09-21T14:13:20.002Z",
            "finalAt": "2026-09-21T14:28:20.000Z",
            "reference": "basket 7",
            "sandbox": True,
        },
    }


SUBMITTED = Event(type="payment.submitted", name="submitted", seq=1, via=Via.PAY)


def test_a_submitted_payment_says_where_the_buyer_pays_and_how_that_is_known() -> None:
    data = outcome(FULL, SUBMITTED, NOW)["data"]
    assert (data["redirectUrl"], data["redirectMethod"]) == ("https://cashier.example/1", "GET")
    assert data["via"] == "pay"


@pytest.mark.parametrize(
    "event",
    [
        replace(EVENT, type="payment.unresolved", name="unresolved.1", kind=""),
        replace(EVENT, kind="refund_required"),
    ],
)
def test_who_must_refund_hears_when_the_cancel_window_ends(event: Event) -> None:
    assert outcome(FULL, event, NOW)["data"]["cancelWindowEnd"] == "2026-09-21T14:13:20.016Z"
    assert outcome(FRESH, event, NOW)["data"]["cancelWindowEnd"] == "", "where none is known"


@pytest.mark.parametrize("type_", ["payment.succeeded", "payment.cancelling", "payment.attention"])
def test_what_only_some_events_tell_is_absent_from_all_others(type_: str) -> None:
    told = outcome(FULL, replace(EVENT, type=type_), NOW)["data"].keys()
    assert not told & {"redirectUrl", "redirectMethod", "cancelWindowEnd"}


def test_what_is_not_known_is_empty_never_absent() -> None:
    data = outcome(FRESH, replace(EVENT, kind="", value="", would=""), NOW)["data"]
    empty = {name for name, value in data.items() if value in ("", [])}
    assert empty == {
        "cause", "reason", "kind", "value", "would", "marks", "via", "paymentId", "resultCode",
        "paymentTime", "finalAt", "reference",
    }  # fmt: skip


def test_the_same_event_has_the_same_id_whenever_it_is_published() -> None:
    first, again = outcome(FRESH, EVENT, NOW), outcome(FULL, EVENT, NOW + 1)
    assert first["id"] == again["id"]


@pytest.mark.parametrize(
    ("client_id", "sandbox"),
    [("SANDBOX_1", True), ("5X00000000000000", False), ("T_SANDBOX_1", False), ("", False)],
)
def test_play_money_is_marked(client_id: str, sandbox: bool) -> None:
    told = outcome(replace(FRESH, client_id=client_id), EVENT, NOW)
    refused = rejection(_refused(client_id), NOW)
    assert told["data"]["sandbox"] is refused["data"]["sandbox"] is sandbox


def test_a_rejection_names_the_command_and_says_why() -> None:
    rejected = Rejected(
        command_id="1790000000000-0",
        command="payment.cancel",
        reason="already_final",
        message="refund it instead",
        client_id="SANDBOX_1",
        payment_request_id="order-1",
        advice="refund",
    )
    assert rejection(rejected, NOW) == {
        "specversion": "1.0",
        "id": "command:1790000000000-0",
        "source": "/reconciler/SANDBOX_1",
        "type": "command.rejected",
        "subject": "order-1",
        "time": "2026-09-21T14:13:20.123Z",
        "datacontenttype": "application/json",
        "data": {
            "schema": 1,
            "commandId": "1790000000000-0",
            "command": "payment.cancel",
            "reason": "already_final",
            "message": "refund it instead",
            "advice": "refund",
            "clientId": "SANDBOX_1",
            "paymentRequestId": "order-1",
            "sandbox": True,
        },
    }


def test_a_command_that_named_no_payment_leaves_the_names_empty() -> None:
    told = rejection(_refused(""), NOW)
    assert told["subject"] == told["data"]["paymentRequestId"] == told["data"]["clientId"] == ""
    assert "seq" not in told["data"]


def test_no_time_is_no_text() -> None:
    assert rfc3339(None) == ""


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_790_000_000_007, "2026-09-21T14:13:20.007Z"),
        (LATEST, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_utc_with_milliseconds(at: Ms, text: str) -> None:
    assert rfc3339(at) == text


@given(st.integers(0, LATEST))
def test_no_millisecond_is_lost(at: Ms) -> None:
    text = rfc3339(at)
    assert len(text) == len("2026-09-21T14:13:20.007Z")
    since_1970 = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    assert since_1970 // timedelta(milliseconds=1) == at
