"""What an entry of the command stream says, in whichever of three ways it was written.

    type, data       the type, and the command's data as JSON
    data             alone: a CloudEvents 1.0 envelope as JSON (structured mode)
    ce_type, data    CloudEvents attributes as fields (binary mode)

Source: github.com/cloudevents/spec, cloudevents/formats/json-format.md
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from worker.strict_json import Json, Unreadable, parse_object

SPEC_VERSION = "1.0"


class Envelope(NamedTuple):
    """A command before it is read; `data` is JSON, or meant to be."""

    type: str
    data: str


class NoEnvelope(ValueError):
    """An entry that cannot be opened; the text says what to write instead."""


def unwrap(fields: Mapping[str, str]) -> Envelope:
    """The command in the fields of an entry. What its type and data are worth is not looked at."""
    plain, attribute = fields.get("type"), fields.get("ce_type")
    if plain is not None and attribute is not None and plain != attribute:
        raise NoEnvelope("type and ce_type differ: write only one of them")
    if plain is not None:
        return Envelope(plain, fields.get("data", ""))
    if attribute is not None:
        _check_version("ce_specversion", fields.get("ce_specversion"))
        return Envelope(attribute, fields.get("data", ""))
    if "data" not in fields:
        return Envelope("", "")
    return _structured(fields["data"])


def encode_data(data: Mapping[str, Any]) -> str:
    """The `data` of a command as JSON. TypeError for what is none."""
    return json.dumps(data, separators=(",", ":"), default=_plain)


def _plain(value: object) -> float:
    if isinstance(value, Decimal):  # of a parser
        return float(value)
    raise TypeError(
        f"a command holds texts, numbers, lists and mappings, and no {type(value).__name__}:"
        " write times as text in ISO 8601 with an offset, a time to pay as whole seconds"
    )


def _structured(text: str) -> Envelope:
    try:
        event = parse_object(text.encode(errors="surrogatepass"))
    except Unreadable as fault:
        raise NoEnvelope(f"{_ALONE} ({fault.why}: {fault.remedy}): {_REMEDY}") from None
    if "specversion" not in event:
        raise NoEnvelope(f"{_ALONE} (no specversion): {_REMEDY}")
    _check_version("specversion", event["specversion"])
    type_ = event.get("type")
    if not isinstance(type_, str):
        raise NoEnvelope('type: write the command\'s, as in "type": "payment.track"')
    return Envelope(type_, _data_of(event))


_ALONE = "data stands alone and is no CloudEvent"
_REMEDY = (
    'write the field type beside it, or {"specversion": "1.0", "id": "...", "source": "...",'
    ' "type": "payment.track", "data": {...}}'
)


def _data_of(event: Json) -> str:
    if "data_base64" in event:
        raise NoEnvelope("data_base64: write data, as a JSON object")
    data = event.get("data")
    if not isinstance(data, dict):
        raise NoEnvelope("data of the CloudEvent: write a JSON object, the command's fields")
    return encode_data(data)


def _check_version(name: str, given: object) -> None:
    if given != SPEC_VERSION:
        raise NoEnvelope(f'{name}: write "{SPEC_VERSION}"')
