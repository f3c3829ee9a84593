"""A payment's record holds all of it, under the names that the contract gives."""

from dataclasses import fields, replace
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from jobs.model import (
    SCHEMA,
    Act,
    Aftercare,
    CancelState,
    Cause,
    Money,
    OnTimeout,
    Payment,
    Refusal,
    Status,
    SubmitState,
    Via,
)
from worker.records import UnknownSchema, from_hash, to_hash

HINTS: dict[str, Any] = {k: v for k, v in get_type_hints(Payment).items() if k != "schema"}
PAYMENTS = st.builds(Payment, **{name: st.from_type(hint) for name, hint in HINTS.items()})

FRESH = Payment(
    client_id="SANDBOX_1",
    payment_request_id="order-1",
    amount=Money("USD", 599),
    tracked_at=1_790_000_000_000,
    closing_time=1_790_000_840_000,
)
#: No field has its default.
FULL = replace(
    FRESH,
    closing_agreed=True,
    on_timeout=OnTimeout.REPORT,
    reference="basket 7",
    callback_url="https://shop.example/hook",
    status=Status.UNRESOLVED,
    cause=Cause.TIMED_OUT,
    reason="cancel_limit",
    marks=("blind", "late"),
    via=Via.INQUIRY,
    final_at=1_790_000_900_000,
    payment_id="gw-1",
    result_code="SUCCESS",
    created_at=1_790_000_000_001,
    paid_at=1_790_000_000_002,
    found=True,
    confirming_since=1_790_000_000_003,
    paid_seen=True,
    notifications=4,
    not_found=3,
    attempts=17,
    phase_since=1_790_000_000_013,
    tries=5,
    tried_for=1234,
    tried_at=1_790_000_000_004,
    unanswered=2,
    asked_at=1_790_000_000_005,
    submit_state=SubmitState.OPEN,
    pay_request='{"productCode":"IN_STORE_PAYMENT"}',
    pay_digest="0a1b",
    pay_code="RISK_REJECT",
    pay_attempts=2,
    last_pay_at=1_790_000_000_014,
    silent_pay_at=1_790_000_000_015,
    redirect_url="https://cashier.example/1",
    redirect_method="GET",
    cancel_state=CancelState.REFUSED,
    cancel_refusal=Refusal.WINDOW,
    cancel_attempts=6,
    cancel_command="1-0",
    first_cancel_at=1_790_000_000_006,
    last_cancel_at=1_790_000_000_007,
    silent_cancel_at=1_790_000_000_008,
    cancel_answered_at=1_790_000_000_009,
    cancel_window_end=1_790_000_000_016,
    aftercare=Aftercare.WATCHING,
    next_act=Act.CANCEL,
    next_at=1_790_000_000_010,
    told=("cancelling", "attention.amount_mismatch=EUR 1"),
    seq=1_790_000_000_011,
    version=9,
    updated_at=1_790_000_000_012,
)


@given(PAYMENTS)
def test_what_is_written_is_read_back(payment: Payment) -> None:
    assert from_hash(to_hash(payment)) == payment


@given(PAYMENTS)
def test_a_record_is_text_by_name(payment: Payment) -> None:
    for name, value in to_hash(payment).items():
        assert type(name) is str
        assert type(value) is str


def test_the_example_leaves_no_field_at_its_default() -> None:
    same = [f.name for f in fields(Payment) if getattr(FULL, f.name) == f.default]
    assert same == ["schema"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("clientId", "SANDBOX_1"),
        ("paymentRequestId", "order-1"),
        ("paymentId", "gw-1"),
        ("status", "unresolved"),
        ("cause", "timed_out"),
        ("reason", "cancel_limit"),
        ("marks", '["blind", "late"]'),
        ("amount", "599"),
        ("currency", "USD"),
        ("resultCode", "SUCCESS"),
        ("attempts", "17"),
        ("cancelState", "refused"),
        ("cancelAttempts", "6"),
        ("paidSeen", "1"),
        ("aftercare", "watching"),
        ("onTimeout", "report"),
        ("reference", "basket 7"),
        ("trackedAt", "1790000000000"),
        ("closingTime", "1790000840000"),
        ("nextInquiryAt", "1790000000010"),
        ("finalAt", "1790000900000"),
        ("updatedAt", "1790000000012"),
        ("seq", "1790000000011"),
        ("version", "9"),
        ("schema", "1"),
    ],
)
def test_the_contract_names_the_fields(name: str, text: str) -> None:
    assert to_hash(FULL)[name] == text


def test_every_field_of_a_full_record_has_a_name_of_its_own() -> None:
    assert len(to_hash(FULL)) == len(fields(Payment)) + 1  # the amount is two fields


def test_what_a_merchant_reads_is_always_there_and_other_defaults_are_left_out() -> None:
    assert to_hash(FRESH) == {
        "clientId": "SANDBOX_1",
        "paymentRequestId": "order-1",
        "amount": "599",
        "currency": "USD",
        "status": "pending",
        "attempts": "0",
        "cancelState": "none",
        "cancelAttempts": "0",
        "paidSeen": "0",
        "aftercare": "none",
        "onTimeout": "cancel",
        "seq": "0",
        "updatedAt": "0",
        "trackedAt": "1790000000000",
        "closingTime": "1790000840000",
        "schema": "1",
        "version": "0",
    }


@pytest.mark.parametrize("schema", [str(SCHEMA + 1), "0", "", "one", None])
def test_a_record_of_another_layout_is_not_guessed_at(schema: str | None) -> None:
    record = to_hash(FULL)
    del record["schema"]
    if schema is not None:
        record["schema"] = schema
    with pytest.raises(UnknownSchema, match="this version knows 1"):
        from_hash(record)


def test_a_field_of_a_later_version_does_not_hide_the_rest() -> None:
    assert from_hash(to_hash(FULL) | {"mood": "sunny"}) == FULL


async def test_redis_gives_back_what_it_was_given(redis: Redis, prefix: str) -> None:
    record: dict[Any, Any] = dict(to_hash(FULL))
    await redis.hset(f"{prefix}:record", mapping=record)  # type: ignore[misc]
    assert from_hash(await redis.hgetall(f"{prefix}:record")) == FULL  # type: ignore[misc]
