"""`payment.submit` says all that an Entry Code payment needs, or is answered with what it lacks."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest

from jobs.model import Money, Ms, OnTimeout
from jobs.news import Submit
from tests.keys import CLIENT_ID
from worker.commands import BadCommand, read_command
from worker.requests import finish_pay

NOW: Ms = 1_800_000_000_000
AMOUNT = {"currency": "USD", "value": "599"}
ORDER: dict[str, Any] = {
    "referenceOrderId": "basket-7",
    "orderDescription": "Mi Band 3 Wrist Strap, 支付",
    "orderAmount": AMOUNT,
    "merchant": {
        "referenceMerchantId": "M0000000001",
        "merchantName": "cup Hu",
        "merchantMCC": "1234",
        "store": {"referenceStoreId": "S0000000001", "storeName": "UGG-2", "storeMCC": "1405"},
    },
    "env": {"userAgent": "Mozilla/5.0 AliApp(APHK/) AlipayClientHK/"},
}
SUBMIT: dict[str, Any] = {
    "paymentRequestId": "order-1",
    "paymentAmount": AMOUNT,
    "paymentNotifyUrl": "https://shop.example/notify",
    "order": ORDER,
}
FIXED: dict[str, Any] = {
    "productCode": "IN_STORE_PAYMENT",
    "paymentFactor": {"inStorePaymentScenario": "EntryCode"},
    "paymentMethod": {"paymentMethodType": "CONNECT_WALLET"},
}


def read(said: Mapping[str, Any]) -> Submit:
    command = read_command("payment.submit", json.dumps(said), "1-1", NOW, (CLIENT_ID,))
    assert isinstance(command, Submit)
    return command


def refusal(said: Mapping[str, Any]) -> str:
    with pytest.raises(BadCommand) as caught:
        read(said)
    bad = caught.value
    assert (bad.reason, bad.payment_request_id) == ("malformed", "order-1")
    return bad.message


def having(path: str, value: Any) -> dict[str, Any]:
    """The whole command with one value changed; None takes it away."""
    said = copy.deepcopy(SUBMIT)
    *parents, name = path.split(".")
    place: Any = said
    for parent in parents:
        place = place.setdefault(parent, {})
    if value is None:
        place.pop(name, None)
    else:
        place[name] = value
    return said


def form(said: Mapping[str, Any]) -> Any:
    return json.loads(read(said).form)


def test_every_field_of_the_vendors_page_is_sent_as_it_was_given() -> None:
    everything = {
        **SUBMIT,
        **FIXED,
        "paymentRedirectUrl": "https://shop.example/done",
        "settlementStrategy": {"settlementCurrency": "EUR"},
        "expiresIn": 600,
        "onTimeout": "report",
        "reference": "basket 7",
    }
    command = read(everything)
    assert json.loads(command.form) == {
        **SUBMIT,
        **FIXED,
        "paymentRedirectUrl": "https://shop.example/done",
        "settlementStrategy": {"settlementCurrency": "EUR"},
    }
    assert (command.id, command.at, command.amount) == ("1-1", NOW, Money("USD", 599))
    assert (command.closing_time, command.reference) == (NOW + 600_000, "basket 7")
    assert command.on_timeout is OnTimeout.REPORT


def test_what_makes_it_an_entry_code_payment_need_not_be_written() -> None:
    assert form(SUBMIT) == form(SUBMIT | FIXED)


def test_the_orders_amount_is_what_is_paid_where_it_is_left_out() -> None:
    assert form(having("order.orderAmount", None))["order"]["orderAmount"] == AMOUNT
    other = {"currency": "JPY", "value": "900"}
    assert form(having("order.orderAmount", other))["order"]["orderAmount"] == other


def test_both_spellings_of_the_stores_category_are_taken_and_one_is_sent() -> None:
    said = having("order.merchant.store.storeMCC", None)
    said["order"]["merchant"]["store"]["storeMcc"] = "1405"
    assert form(said) == form(SUBMIT)


def test_the_address_to_notify_may_be_left_to_the_setting() -> None:
    assert "paymentNotifyUrl" not in form(having("paymentNotifyUrl", None))


def test_the_same_order_is_known_again_and_another_is_another() -> None:
    """However long the buyer has: that is counted anew each time, and is not the order."""
    digest = read(SUBMIT).digest
    assert len(digest) == 32
    assert read(SUBMIT | {"expiresIn": 60, "reference": "again"}).digest == digest
    for path in ("order.orderDescription", "order.env.userAgent", "paymentNotifyUrl"):
        assert read(having(path, "https://other.example/")).digest != digest


def test_the_closing_time_is_sent_to_the_gateway_in_whole_seconds() -> None:
    whole = json.loads(finish_pay(read(SUBMIT).form, None, NOW + 840_999))
    assert whole["paymentExpiryTime"] == "2027-01-15T08:14:00+00:00"


MISSING = {
    "order": "order.referenceOrderId: it is missing; write 1 to 64 characters",
    "order.orderDescription": "order.orderDescription: it is missing; write 1 to 256 characters",
    "order.merchant.merchantMCC": "order.merchant.merchantMCC: it is missing; write four digits",
    "order.merchant.store": (
        "order.merchant.store.referenceStoreId: it is missing; write 1 to 64 characters"
    ),
    "order.env": "order.env.userAgent: it is missing; write 1 to 2048 characters",
}


@pytest.mark.parametrize("path", MISSING)
def test_what_the_gateway_requires_must_be_there(path: str) -> None:
    assert refusal(having(path, None)) == MISSING[path]


WRONG = [
    ("order.referenceOrderId", "x" * 65, "order.referenceOrderId: write 1 to 64 characters"),
    ("order.referenceOrderId", 7, "order.referenceOrderId: write 1 to 64 characters"),
    ("order.merchant.store.storeMCC", "shoe", "order.merchant.store.storeMCC: write four digits"),
    ("order.env.userAgent", "a\nb", "order.env.userAgent: write 1 to 2048 characters"),
    ("order", "a strap", "order: write an object"),
    ("order.merchant", [], "order.merchant: write an object"),
    (
        *("paymentNotifyUrl", "shop.example"),
        "paymentNotifyUrl: write empty, or a URL of at most 2048 characters",
    ),
    (
        *("paymentRedirectUrl", "/done"),
        "paymentRedirectUrl: write empty, or a URL of at most 2048 characters",
    ),
    (
        *("settlementStrategy.settlementCurrency", "euro"),
        "settlementStrategy.settlementCurrency: write empty, or three capital letters",
    ),
    (
        *("settlementStrategy.settlementCurrency", "EUX"),
        "settlementStrategy.settlementCurrency: EUX is no currency of ISO 4217",
    ),
    (
        *("order.orderAmount", {"currency": "USD", "value": "5.99"}),
        'order.orderAmount: write {"currency": "USD", "value": "599"}, in the smallest unit',
    ),
    (
        *("order.orderAmount", {"currency": "USD"}),
        'order.orderAmount: write {"currency": "USD", "value": "599"}, in the smallest unit',
    ),
    (
        *("order.orderAmount", {"currency": "UDS", "value": "599"}),
        "order.orderAmount: UDS is no currency of ISO 4217",
    ),
    (
        *("paymentAmount", {"currency": "UDS", "value": "599"}),
        "paymentAmount: UDS is no currency of ISO 4217",
    ),
    (
        *("paymentAmount", {"currency": "IDR", "value": "1050"}),
        'paymentAmount: IDR is paid in multiples of 100 of its smallest unit: "1050" is IDR 10.50',
    ),
    (
        *("productCode", "CASHIER_PAYMENT"),
        "productCode: leave it out, or write IN_STORE_PAYMENT: an Entry Code payment has no other",
    ),
    (
        *("paymentMethod.paymentMethodType", "ALIPAY_CN"),
        "paymentMethod.paymentMethodType: leave it out, or write CONNECT_WALLET: an Entry Code"
        " payment has no other",
    ),
    (
        *("paymentId", "gw-1"),
        "paymentId: leave it out; the gateway gives one when the order is made",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_what_the_gateway_would_refuse_is_named_with_what_to_write(
    path: str, value: Any, message: str
) -> None:
    assert refusal(having(path, value)) == message


UNKNOWN = [
    ("order.oderDescription", "'order.oderDescription' is not a field of payment.submit: "),
    ("order.env.terminalType", "'order.env.terminalType' is not a field of payment.submit: "),
    ("paymentMethod.paymentMethodId", "'paymentMethod.paymentMethodId' is not a field of"),
]


@pytest.mark.parametrize(("path", "message"), UNKNOWN)
def test_a_misspelt_field_is_refused_at_any_depth(path: str, message: str) -> None:
    """And those that there are in its place are named."""
    assert refusal(having(path, "x")).startswith(message)
    *_, parent, _ = ["", *path.split(".")]
    names = {"order": "referenceOrderId, ", "env": "userAgent", "paymentMethod": "paymentMethodT"}
    assert names[parent] in refusal(having(path, "x"))


def test_a_field_of_no_command_is_refused_with_those_of_this_one() -> None:
    message = refusal(SUBMIT | {"buyer": {}})
    assert message.startswith("'buyer' is not a field of payment.submit: paymentRequestId, ")
    assert message.endswith("order, paymentNotifyUrl, paymentRedirectUrl, settlementStrategy,"
                            " productCode, paymentFactor, paymentMethod")  # fmt: skip
