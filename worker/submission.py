"""`payment.submit`: an Entry Code payment in the gateway's own words, checked before it is sent.

The merchant writes the fields of `pay` as docs.antom.com/ac/ams/ec has them. What the gateway would
refuse is refused here, with the field's name and what to write instead.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from hashlib import sha256
from typing import Any

from jobs.model import Money
from jobs.news import Submit, Track
from worker import currencies
from worker.messages import parse_amount
from worker.requests import SHAPES, PayRequest, pay_body
from worker.strict_json import Unreadable

#: Where each value of a `PayRequest` is written.
_TEXTS = {
    "order.referenceOrderId": "reference_order_id",
    "order.orderDescription": "order_description",
    "order.merchant.referenceMerchantId": "reference_merchant_id",
    "order.merchant.merchantName": "merchant_name",
    "order.merchant.merchantMCC": "merchant_mcc",
    "order.merchant.store.referenceStoreId": "reference_store_id",
    "order.merchant.store.storeName": "store_name",
    "order.merchant.store.storeMCC": "store_mcc",
    "order.env.userAgent": "user_agent",
    "paymentNotifyUrl": "notify_url",
    "paymentRedirectUrl": "redirect_url",
    "settlementStrategy.settlementCurrency": "settlement_currency",
}
_OPTIONAL = frozenset({"notify_url", "redirect_url", "settlement_currency"})
_ORDER_AMOUNT = ("order.orderAmount.currency", "order.orderAmount.value")
#: The vendor's page for merchants writes the first, its clients send the second.
_ALIASES = {"order.merchant.store.storeMcc": "order.merchant.store.storeMCC"}
#: What makes it an Entry Code payment: may be written, but not otherwise.
_FIXED = {
    "productCode": "IN_STORE_PAYMENT",
    "paymentFactor.inStorePaymentScenario": "EntryCode",
    "paymentMethod.paymentMethodType": "CONNECT_WALLET",
}
_PATHS = (*_TEXTS, *_ORDER_AMOUNT, *_ALIASES, *_FIXED)

#: The fields that `payment.submit` has besides those of `payment.track`.
FIELDS = tuple(dict.fromkeys(path.partition(".")[0] for path in _PATHS))


class Unfit(ValueError):
    """A field that no payment can have; the text says what to write instead."""


def read(said: Mapping[str, Any], track: Track) -> Submit:
    """The command, from its data and what `track` has read of it; else `Unfit`."""
    if track.payment_id:
        raise Unfit("paymentId: leave it out; the gateway gives one when the order is made")
    _check_currency("paymentAmount", track.amount)
    leaves = dict(_leaves({name: said[name] for name in FIELDS if name in said}))
    for path, value in _FIXED.items():
        if leaves.pop(path, value) != value:
            raise Unfit(
                f"{path}: leave it out, or write {value}: an Entry Code payment has no other"
            )
    texts: dict[str, Any] = {n: _text(leaves, path, n) for path, n in _TEXTS.items()}
    request = PayRequest(
        payment_request_id=track.payment_request_id,
        amount=track.amount,
        order_amount=_order_amount(leaves, track.amount),
        **texts,
    )
    form = pay_body(request).decode()
    told = {each.name: getattr(track, each.name) for each in fields(track)}
    return Submit(**told, form=form, digest=sha256(form.encode()).hexdigest()[:32])


def _leaves(said: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value by its path, under one name; a path that is none of ours is refused."""
    for name, value in said.items():
        path = prefix + name
        if path in _PATHS:
            yield _ALIASES.get(path, path), value
        elif not any(known.startswith(f"{path}.") for known in _PATHS):
            known = ", ".join(dict.fromkeys(_next(prefix)))
            raise Unfit(f"{(prefix + name[:64])!r} is not a field of payment.submit: {known}")
        elif not isinstance(value, Mapping):
            raise Unfit(f"{path}: write an object")
        else:
            yield from _leaves(value, f"{path}.")


def _next(prefix: str) -> Iterator[str]:
    """What may be written right under a path."""
    for path in _PATHS:
        if path.startswith(prefix):
            yield path.removeprefix(prefix).partition(".")[0]


def _text(leaves: Mapping[str, Any], path: str, name: str) -> str:
    pattern, shape = SHAPES[name]
    value = leaves.get(path, "" if name in _OPTIONAL else None)
    if value is None:
        raise Unfit(f"{path}: it is missing; write {shape}")
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Unfit(f"{path}: write {shape}")
    if name == "settlement_currency" and value and value not in currencies.DECIMALS:
        raise Unfit(f"{path}: {value} is no currency of ISO 4217")
    return value


def _order_amount(leaves: Mapping[str, Any], amount: Money) -> Money:
    """The order's own; the same as what is paid where it is left out."""
    said = {path.rpartition(".")[2]: leaves[path] for path in _ORDER_AMOUNT if path in leaves}
    if not said:
        return amount
    try:
        order_amount = parse_amount(said)
    except Unreadable:
        example = '{"currency": "USD", "value": "599"}, in the smallest unit'
        raise Unfit(f"order.orderAmount: write {example}") from None
    _check_currency("order.orderAmount", order_amount)
    return order_amount


def _check_currency(name: str, money: Money) -> None:
    if fault := currencies.fault_of(money):
        raise Unfit(f"{name}: {fault}")
