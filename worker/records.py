"""A payment as a Redis hash and back: the contract's field names, without most defaults."""

import json
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

from jobs.model import SCHEMA, Money, Payment

TOLD_EVERY = 300  #: seconds
MANY = 1000  #: unreadable records: who has not seen so many lines sees no more of them either


class UnknownSchema(ValueError):
    """A record written by another version of this software: it is left alone."""


class Damaged(UnknownSchema):
    """A record that no version wrote like this: it is left alone, too."""


class OtherVersions:
    """What is left to another version: told once in five minutes, not at each try."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def is_news(self, key: str) -> bool:
        now = time.monotonic()
        self._told = {k: at for k, at in self._told.items() if at > now - TOLD_EVERY}
        if key in self._told or len(self._told) == MANY:
            return False
        self._told[key] = now
        return True


def to_hash(payment: Payment) -> dict[str, str]:
    """The record's fields. Times and durations are milliseconds, as everywhere inside."""
    hash_ = {"amount": str(payment.amount.value), "currency": payment.amount.currency}
    for name, (wire, encode, _, default) in _CODECS.items():
        value = getattr(payment, name)
        if value != default:
            hash_[wire] = encode(value)
    return hash_ | {"schema": str(payment.schema), "version": str(payment.version)}


def read(key: str, flat: Sequence[bytes | str]) -> Payment:
    """The payment `key`, from names and values as HGETALL gives them."""
    try:
        texts = [raw.decode() if isinstance(raw, bytes) else raw for raw in flat]
    except UnicodeDecodeError:
        raise Damaged("a field is not text") from None
    payment = from_hash(dict(zip(texts[::2], texts[1::2], strict=True)))
    if payment.key != key:
        raise Damaged("it is the record of another payment")
    return payment


def from_hash(hash_: Mapping[str, str]) -> Payment:
    """The payment of a record; `UnknownSchema` if it was written to another layout."""
    schema = hash_.get("schema", "")
    if schema != str(SCHEMA):
        raise UnknownSchema(f"record has schema {schema!r}, this version knows {SCHEMA}")
    wire = ""
    values: dict[str, Any] = {}
    try:
        for wire in hash_.keys() & _DECODERS.keys():
            name, decode = _DECODERS[wire]
            values[name] = decode(hash_[wire])
        wire = "amount"
        return Payment(amount=Money(hash_["currency"], int(hash_[wire])), **values)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Damaged(f"field {wire} cannot be read, or a field is missing") from None


_Codec = tuple[str, Callable[[Any], str], Callable[[str], Any], Any]

# Names of the contract that differ from ours.
_NAMES = {"next_at": "nextInquiryAt", "result_code": "resultCode"}

# What a merchant reads with HGETALL is there even where nothing has happened yet.
_ALWAYS = frozenset(
    {
        "status",
        "attempts",
        "cancel_state",
        "cancel_attempts",
        "paid_seen",
        "aftercare",
        "on_timeout",
        "seq",
        "updated_at",
    }
)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _codec(hint: Any) -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if get_origin(hint) is tuple:
        return json.dumps, lambda text: tuple(json.loads(text))
    if hint is bool:
        return lambda value: "1" if value else "0", lambda text: text == "1"
    if hint is int:
        return str, int
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return str, hint
    return str, str


def _codecs() -> dict[str, _Codec]:
    hints = get_type_hints(Payment)
    return {
        f.name: (
            _NAMES.get(f.name, _camel(f.name)),
            *_codec(hints[f.name]),
            MISSING if f.name in _ALWAYS else f.default,
        )
        for f in fields(Payment)
        if f.name != "amount"
    }


_CODECS = _codecs()
_DECODERS = {wire: (name, decode) for name, (wire, _, decode, _) in _CODECS.items()}
