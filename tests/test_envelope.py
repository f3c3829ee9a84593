"""A command may be written in three ways, and is read in one; else it is said what to write."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.envelope import Envelope, NoEnvelope, encode_data, unwrap
from worker.strict_json import parse_object

DATA: dict[str, Any] = {
    "paymentRequestId": "order-1",
    "paymentAmount": {"currency": "USD", "value": "599"},
    "reference": "支付 7",
}
TEXT = json.dumps(DATA)
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "4711",
    "source": "/shop",
    "type": "payment.track",
    "data": DATA,
}
TYPE = "payment.track"


@pytest.mark.parametrize(
    "fields",
    [
        {"type": TYPE, "data": TEXT},
        {"type": TYPE, "data": TEXT, "id": "mine"},
        {"type": TYPE, "data": TEXT, "ce_type": TYPE, "ce_specversion": "2.0"},
        {"ce_type": TYPE, "ce_specversion": "1.0", "data": TEXT},
        {"data": json.dumps(EVENT)},
        {"data": json.dumps({"specversion": "1.0", "type": TYPE, "data": DATA})},
        {"data": json.dumps(EVENT | {"datacontenttype": "application/json", "traceparent": "x"})},
        {"data": json.dumps(EVENT, indent=2, ensure_ascii=False)},
    ],
)
def test_a_command_is_the_same_however_it_is_written(fields: dict[str, str]) -> None:
    type_, data = unwrap(fields)
    assert (type_, json.loads(data)) == (TYPE, DATA)


@pytest.mark.parametrize(
    ("fields", "envelope"),
    [
        ({}, Envelope("", "")),
        ({"id": "mine"}, Envelope("", "")),
        ({"type": TYPE}, Envelope(TYPE, "")),
        ({"ce_type": TYPE, "ce_specversion": "1.0"}, Envelope(TYPE, "")),
        ({"type": "", "data": json.dumps(EVENT)}, Envelope("", json.dumps(EVENT))),
        ({"type": TYPE, "data": "nonsense"}, Envelope(TYPE, "nonsense")),
    ],
)
def test_what_a_plain_entry_is_worth_is_not_asked_here(
    fields: dict[str, str], envelope: Envelope
) -> None:
    assert unwrap(fields) == envelope


ALONE = "data stands alone and is no CloudEvent ("


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": ""}, ALONE + "json: write a JSON object): write the field type be"),
        ({"data": "[]"}, ALONE + "not_object: write"),
        ({"data": "\udcff"}, ALONE + "utf8: write"),
        ({"data": TEXT}, ALONE + "no specversion): write the field type beside it, or {"),
        ({"data": '{"specversion":"1.0","specversion":"1.0"}'}, ALONE + "duplicate_key: write"),
        ({"data": json.dumps(EVENT | {"specversion": "0.3"})}, 'specversion: write "1.0"'),
        ({"data": json.dumps(EVENT | {"specversion": 1.0})}, 'specversion: write "1.0"'),
        ({"data": json.dumps(EVENT | {"type": None})}, "type: write the command's, as in "),
        ({"data": json.dumps(EVENT | {"data": TEXT})}, "data of the CloudEvent: write a JSON obj"),
        ({"data": json.dumps(EVENT | {"data": None})}, "data of the CloudEvent: write a JSON obj"),
        ({"data": json.dumps(EVENT | {"data_base64": "e30="})}, "data_base64: write data, as"),
        ({"type": TYPE, "ce_type": "payment.cancel", "data": TEXT}, "type and ce_type differ"),
        ({"ce_type": TYPE, "data": TEXT}, 'ce_specversion: write "1.0"'),
        ({"ce_type": TYPE, "ce_specversion": "2.0", "data": TEXT}, 'ce_specversion: write "1.0"'),
    ],
)
def test_what_is_no_envelope_is_answered_with_what_to_write_instead(
    fields: dict[str, str], message: str
) -> None:
    with pytest.raises(NoEnvelope) as caught:
        unwrap(fields)
    assert str(caught.value).startswith(message)


@given(st.integers(-(10**19), 10**19) | st.decimals(-(10**9), 10**9, places=6).map(float))
def test_a_number_in_an_envelope_stays_a_number(number: float) -> None:
    """A text would be another thing: a reference of 1.5 is refused, "1.5" is not."""
    event = json.dumps(EVENT | {"data": {"reference": number}})
    said = parse_object(unwrap({"data": event}).data.encode())["reference"]
    assert isinstance(said, Decimal | int)
    assert said == Decimal(repr(number))


def test_text_is_written_in_ascii_and_read_back_whole() -> None:
    assert encode_data(DATA).isascii()
    assert json.loads(encode_data(DATA)) == DATA
