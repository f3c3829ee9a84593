"""JSON read so that no two readers can see two things in it.

Anything else is `Unreadable`, whoever sent it: a message whose meaning depends on the parser proves
nothing.
"""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NoReturn, TypeAlias

Json: TypeAlias = dict[str, Any]

MAX_NESTING = 16  #: real messages nest five deep; keeps the JSON parser's recursion shallow
MAX_INT_DIGITS = 20  #: as long as a paymentId sent as a number; longer ones only cost time


class Unreadable(ValueError):
    """A message that cannot be understood. `why` is one of a few fixed words, safe to log."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    @property
    def remedy(self) -> str:
        """What to write instead, for who can be told; only of what `parse_object` refuses."""
        return _REMEDIES[self.why]


_REMEDIES: Mapping[str, str] = {
    "utf8": "write a JSON object in UTF-8",
    "json": "write a JSON object",
    "not_object": "write a JSON object, not other JSON",
    "nesting": f"nest at most {MAX_NESTING} levels deep",
    "text": "write texts without NUL and half surrogate pairs",
    "duplicate_key": "write each name of an object once",
    "number": f"write numbers of at most {MAX_INT_DIGITS} digits, and neither NaN nor Infinity",
}


def parse_object(body: bytes, *, ints_as_text: bool = False) -> Json:
    """The JSON object in `body`, or `Unreadable` where two readers could see two things.

    Refused: anything but UTF-8, duplicate keys, NaN and Infinity, numbers out of all proportion,
    text with NUL or half a surrogate pair, nesting beyond `MAX_NESTING`. Takes linear time.
    Decimals become `Decimal`, never float; whole numbers become int, or their digits if
    `ints_as_text`.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Unreadable("utf8") from None
    _check_nesting(text)
    try:
        value = (_TEXT_DECODER if ints_as_text else _DECODER).decode(text)
    except json.JSONDecodeError:
        raise Unreadable("json") from None
    if not isinstance(value, dict):
        raise Unreadable("not_object")
    if "\\u" in text:  # the parser lets no control character stand as it is
        _check_text(value)
    return value


#: Every part may be missing, so that a match never fails and never starts over: linear time.
_STRING = re.compile(r'"(?:[^"\\]+|\\.?)*"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_BAD_TEXT = re.compile("[\0\ud800-\udfff]")
#: Rates have decimals, also those of a double printed in full; an exponent of three digits is none.
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,64})?([eE][+-]?[0-9]{1,2})?")


def _check_nesting(text: str) -> None:
    """Before parsing, since the parser recurses. Brackets in strings do not count."""
    if text.count("{") + text.count("[") <= MAX_NESTING:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_NESTING:
            raise Unreadable("nesting")


def _check_text(value: object) -> None:
    """Escapes can smuggle in what the bytes could not hold."""
    if isinstance(value, str):
        if _BAD_TEXT.search(value):
            raise Unreadable("text")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_text(name)
            _check_text(item)
    elif isinstance(value, list):
        for item in value:
            _check_text(item)


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Unreadable("duplicate_key")
    return members


def _int(text: str) -> int:
    return int(_digits(text))


def _digits(text: str) -> str:
    if len(text.lstrip("-")) > MAX_INT_DIGITS:
        raise Unreadable("number")
    return text


def _decimal(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise Unreadable("number")
    return Decimal(text)


def _refuse_number(_: str) -> NoReturn:
    raise Unreadable("number")


def _decoder(whole: Callable[[str], int | str]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_unique,
        parse_int=whole,
        parse_float=_decimal,
        parse_constant=_refuse_number,
    )


_DECODER, _TEXT_DECODER = _decoder(_int), _decoder(_digits)
