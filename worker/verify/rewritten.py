"""A body that was parsed and written again: every usual way in which the original may have stood.

Names, texts and numbers keep the order and the value they have; what is tried is how they are
written.
"""

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 32  #: of nesting; real bodies have five
#: Bodies up to here are written in every combination of ways; longer ones in the usual ones.
MAX_EVERY = 8 * 1024
MAX_LENGTH = 512 * 1024  #: and those beyond, in none
MAX_ORDERS = 70_000  #: of members that are tried: 7 in the body, 3 and 2 in its objects

Write = Callable[[str], str]


class Members(list[tuple[str, Any]]):
    """An object with its members in order, also those that are there twice."""


class Number(str):
    """A number as it stands."""


@dataclass(frozen=True, slots=True)
class Style:
    """How JSON is written."""

    comma: str = ","
    colon: str = ":"
    indent: str | None = None
    line_end: str = "\n"
    text: str = "raw"
    number: str = "as it is"
    ordered: bool = False
    nulls: bool = True


SPACING: tuple[Mapping[str, Any], ...] = (
    {},
    {"comma": ", ", "colon": ": "},
    {"colon": ": "},
    {"comma": ", "},
    {"colon": ": ", "indent": "  "},
    {"colon": ": ", "indent": "    "},
    {"colon": ": ", "indent": "\t"},
    {"colon": ": ", "indent": "  ", "line_end": "\r\n"},
    {"colon": ": ", "indent": "    ", "line_end": "\r\n"},
    {"colon": " : ", "indent": "  "},
    {"colon": ":", "indent": "  "},
)


def rewritten(body: bytes) -> Iterator[bytes]:
    """Every way in which the same JSON object may have been written; nothing for other bodies."""
    value = _parsed(body)
    if value is None:
        return
    for style in _styles(len(body) <= MAX_EVERY):
        yield _dump(value, style, 0).encode("utf-8", "replace")


def reordered(body: bytes) -> Iterator[bytes]:
    """The same in every order of its members, written without blanks."""
    value = _parsed(body)
    if value is None or _orders(value) > MAX_ORDERS:
        return
    for text in ("raw", "ascii and slashes"):
        for written in _permuted(value, Style(text=text)):
            yield written.encode("utf-8", "replace")


# Reading

_BRACKET = re.compile(r"[\[\]{}]")
_STRING = re.compile(r'"(?:[^"\\]+|\\.?)*"?', re.DOTALL)


def _parsed(body: bytes) -> Members | None:
    """The object in the body, if it is one that is worth the while."""
    if len(body) > MAX_LENGTH:
        return None
    try:
        text = body.decode().removeprefix("\ufeff")
        if _depth(text) > MAX_DEPTH:
            return None
        value = json.loads(
            text,
            object_pairs_hook=Members,
            parse_int=Number,
            parse_float=Number,
            parse_constant=Number,
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, Members) else None


def _depth(text: str) -> int:
    brackets = _BRACKET.findall(_STRING.sub("", text))
    return max(itertools.accumulate(1 if each in "[{" else -1 for each in brackets), default=0)


# Writing


def _styles(every: bool) -> Iterator[Style]:
    texts = tuple(TEXTS)
    for text, spacing in itertools.product(texts, SPACING):
        yield Style(text=text, **spacing)
    if not every:
        return
    rest = itertools.product((False, True), NUMBERS, (True, False), texts, SPACING)
    for ordered, number, nulls, text, spacing in rest:
        yield Style(ordered=ordered, number=number, nulls=nulls, text=text, **spacing)


def _dump(value: object, style: Style, depth: int) -> str:
    if isinstance(value, Members):
        pairs = sorted(value) if style.ordered else value
        members = [
            f"{TEXTS[style.text](name)}{style.colon}{_dump(item, style, depth + 1)}"
            for name, item in pairs
            if style.nulls or item is not None
        ]
        return _wrap("{", members, "}", style, depth)
    if isinstance(value, list):
        items = [_dump(item, style, depth + 1) for item in value]
        return _wrap("[", items, "]", style, depth)
    return _scalar(value, style)


def _scalar(value: object, style: Style) -> str:
    if isinstance(value, Number):
        return NUMBERS[style.number](value)
    if isinstance(value, str):
        return TEXTS[style.text](value)
    return json.dumps(value)


def _wrap(start: str, items: list[str], end: str, style: Style, depth: int) -> str:
    if style.indent is None or not items:
        return start + style.comma.join(items) + end
    line = style.line_end + style.indent * (depth + 1)
    return start + line + f",{line}".join(items) + style.line_end + style.indent * depth + end


def _raw(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _ascii(text: str) -> str:
    return json.dumps(text)


def _slashed(write: Write) -> Write:
    return lambda text: write(text).replace("/", "\\/")


def _capital(write: Write) -> Write:
    return lambda text: _ESCAPE.sub(lambda found: "\\u" + found[1].upper(), write(text))


def _html(characters: str, write: Write) -> Write:
    def escape(text: str) -> str:
        written = write(text)
        for each in characters:
            written = written.replace(each, f"\\u{ord(each):04x}")
        return written

    return escape


_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")

TEXTS: Mapping[str, Write] = {
    "raw": _raw,
    "ascii": _ascii,
    "ascii in capitals": _capital(_ascii),
    "ascii and slashes": _slashed(_ascii),  # PHP
    "slashes": _slashed(_raw),
    "Go": _html("<>&\u2028\u2029", _raw),
    "Gson": _html("<>&='\u2028\u2029", _raw),
    ".NET": _capital(_html("<>&'+", _ascii)),
}


def _shortest(text: str) -> str:
    """As JavaScript writes it: 5 for 5.0."""
    number = _float(text)
    if number is None:
        return text
    return str(int(number)) if number.is_integer() and abs(number) < 1e21 else repr(number)


def _with_point(text: str) -> str:
    """As a reader that knows no whole numbers writes it: 5.0 for 5."""
    number = _float(text)
    return text if number is None else repr(number)


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


NUMBERS: Mapping[str, Write] = {
    "as it is": str,
    "shortest": _shortest,
    "with a point": _with_point,
    "as text": lambda text: f'"{text}"',
}


# Orders


def _orders(value: object) -> int:
    """In how many orders all members can stand."""
    if isinstance(value, Members):
        return math.factorial(min(len(value), 20)) * math.prod(_orders(item) for _, item in value)
    if isinstance(value, list):
        return math.prod(map(_orders, value))
    return 1


def _permuted(value: object, style: Style) -> Iterator[str]:
    if isinstance(value, Members):
        texts = [
            [f"{TEXTS[style.text](name)}:{each}" for each in _permuted(item, style)]
            for name, item in value
        ]
        for chosen in itertools.product(*texts):
            for order in itertools.permutations(chosen):
                yield "{" + ",".join(order) + "}"
    elif isinstance(value, list):
        for items in itertools.product(*([*_permuted(item, style)] for item in value)):
            yield "[" + ",".join(items) + "]"
    else:
        yield _scalar(value, style)


# Telling them apart


def differences(one: bytes, other: bytes) -> tuple[str, ...]:
    """The mistakes that turn the one way of writing into the other."""
    first, second = _tokens(one), _tokens(other)
    found = [name for name, feature in FEATURES.items() if feature(first) != feature(second)]
    names, others = _names(first), _names(second)
    shared = set(names) & set(others)
    if [each for each in names if each in shared] != [each for each in others if each in shared]:
        found.append("body.key_order")
    return tuple(found) or ("body.spacing",)


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|\s+|[^\s{}\[\],:"]+', re.DOTALL)
_ABOVE = re.compile(r"\\u(?!00[0-7])[0-9a-fA-F]{4}|[^\x00-\x7f]")
_HTML = re.compile(r"\\u00(?:2[267bB]|3[cdeCDE])")


def _tokens(body: bytes) -> list[str]:
    return _TOKEN.findall(body.decode("utf-8", "replace"))


def _blanks(tokens: list[str]) -> set[tuple[str, str]]:
    """Blanks by what stands before them: the same for members in another order."""
    pairs = itertools.pairwise(["", *tokens])
    return {(before if before in "{}[],:" else "value", it) for before, it in pairs if it.isspace()}


def _words(tokens: list[str]) -> list[str]:
    """Numbers, true, false and null."""
    return [each for each in tokens if each[0] not in '"{}[],:' and not each.isspace()]


def _names(tokens: list[str]) -> list[str]:
    solid = [each for each in tokens if not each.isspace()]
    return [_unescaped(each) for each, after in itertools.pairwise(solid) if after == ":"]


def _unescaped(token: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return token


FEATURES: Mapping[str, Callable[[list[str]], object]] = {
    "body.spacing": _blanks,
    "body.unicode_escapes": lambda tokens: sorted(_ABOVE.findall("".join(tokens))),
    "body.slash_escapes": lambda tokens: "".join(tokens).count("\\/"),
    "body.html_escapes": lambda tokens: len(_HTML.findall("".join(tokens))),
    "body.nulls": lambda tokens: _words(tokens).count("null"),
    "body.numbers": lambda tokens: sorted(
        each for each in _words(tokens) if each not in ("null", "true", "false")
    ),
}
