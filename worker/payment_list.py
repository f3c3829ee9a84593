"""A merchant's own list of payments: a file of JSON objects, one a line, or a CSV table.

A line is either what it says, as the data of a command, or why it says nothing. Nothing here looks
at values: that is done by the one reader of commands.
"""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO

from worker.commands import fields_of
from worker.strict_json import Json, Unreadable, parse_object

MAX_LINE = 64 * 1024  #: bytes; a payment takes some hundred

_BOM = b"\xef\xbb\xbf"  #: what some programs write before UTF-8
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")  #: UTF-16, as some spreadsheets export it
_HALF = re.compile("[\ud800-\udfff]")  #: what is left of bytes that are no UTF-8

#: A table has no nested fields; either spelling does.
_AMOUNT = {
    "currency": "currency",
    "value": "value",
    "paymentAmount.currency": "currency",
    "paymentAmount.value": "value",
}
#: Hints that quote JSON, and what is to be written in a table instead.
_IN_COLUMNS = {
    'paymentAmount: write {"currency": "USD", "value": "599"}': (
        "columns currency and value: write both, as USD and 599"
    ),
    '"onTimeout" in the line': "a column onTimeout",
}


class Format(StrEnum):
    NDJSON = "ndjson"
    CSV = "csv"


class BadList(Exception):
    """The file as a whole cannot be read; the text says what to write instead."""


@dataclass(frozen=True, slots=True)
class Line:
    """One payment of the list, or what is wrong with its line."""

    number: int  #: as an editor counts; a row of several lines has the first one's
    said: Json = field(default_factory=dict)
    fault: str = ""
    table: bool = field(default=False, compare=False)  #: its fields are columns

    def worded(self, message: str) -> str:
        """What is wrong with a command, in the words of the list that it comes from."""
        for said, column in _IN_COLUMNS.items() if self.table else ():
            message = message.replace(said, column)
        return message


def recognise(name: str, file: BinaryIO) -> Format:
    """By the name's ending, else by how the file begins."""
    start = file.read(4096)
    file.seek(0)
    if start.startswith(_OTHER_ENCODINGS):
        raise BadList("it is UTF-16: save it as UTF-8")
    start = start.removeprefix(_BOM).lstrip()
    if not start:
        raise BadList("it is empty")
    if start.startswith(b"["):
        raise BadList("it is one JSON array: write an object a line, as `jq -c '.[]'` does")
    ending = name.lower().rpartition(".")[2]
    if ending in ("ndjson", "jsonl") or start.startswith(b"{"):
        return Format.NDJSON
    return Format.CSV


def read_list(file: BinaryIO, format_: Format) -> Iterator[Line]:
    """Every payment of the list; blank lines are left out. `BadList` if there is no making sense
    of it."""
    return _objects(file) if format_ is Format.NDJSON else _rows(file)


def _physical_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """None for one that is longer than any payment can be: it is not read into memory."""
    first = True
    while raw := file.readline(MAX_LINE + 1):
        if len(raw) > MAX_LINE:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE)
            yield None
        else:
            yield raw.removeprefix(_BOM) if first else raw
        first = False


# JSON


def _objects(file: BinaryIO) -> Iterator[Line]:
    for number, raw in enumerate(_physical_lines(file), 1):
        if raw is None:
            yield Line(number, fault=f"it is longer than {MAX_LINE} bytes")
        elif text := raw.strip():
            yield _object(number, text)


def _object(number: int, text: bytes) -> Line:
    try:
        return Line(number, parse_object(text))
    except Unreadable as fault:
        example = '{"paymentRequestId": "order-1", "paymentAmount": {...}}'
        return Line(number, fault=f"not one JSON object ({fault.why}): write {example}")


# CSV


def _rows(file: BinaryIO) -> Iterator[Line]:
    texts = _texts(file)
    heading = next(texts, "")
    delimiter = next((d for d in ",;\t" if d in heading), ",")
    names = _columns(_heading(heading, delimiter))
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 2  # the heading is line 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as fault:
            yield Line(number, fault=f"not CSV ({fault}): see its quotation marks")
            continue
        if any(cells):
            yield _row(number, names, cells)


def _heading(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        raise BadList(
            "its first line is not CSV: save it as UTF-8, its lines ended by LF"
        ) from None


def _texts(file: BinaryIO) -> Iterator[str]:
    for number, raw in enumerate(_physical_lines(file), 1):
        if raw is None:
            raise BadList(f"line {number} is longer than {MAX_LINE} bytes")
        yield raw.decode(errors="surrogateescape")


def _columns(heading: Sequence[str]) -> list[str]:
    """The names of the columns; a misspelt one would be a wish silently ignored."""
    names = [cell.strip() for cell in heading]
    if not names:
        raise BadList("its first line names no column")
    known = [name for name in fields_of("payment.track") if name != "paymentAmount"]
    for name in names:
        if name not in known and name not in _AMOUNT:
            columns = ", ".join([*known, "currency, value"])
            raise BadList(f"column {name[:64]!r} of its first line is none of {columns}")
    parts = [_AMOUNT.get(name, name) for name in names]
    for name in parts:
        if parts.count(name) > 1:
            raise BadList(f"its first line names {name} twice")
    return names


def _row(number: int, names: Sequence[str], cells: Sequence[str]) -> Line:
    if len(cells) != len(names):
        return Line(number, fault=f"it has {len(cells)} cells, the first line names {len(names)}")
    if any(_HALF.search(cell) for cell in cells):
        return Line(number, fault="it is not UTF-8: save the file as UTF-8")
    given = {name: cell for name, cell in zip(names, cells, strict=True) if cell}
    amount = {_AMOUNT[name]: given.pop(name) for name in list(given) if name in _AMOUNT}
    return Line(number, given | ({"paymentAmount": amount} if amount else {}), table=True)


def as_data(said: Json) -> str:
    """What a line says as the data of a command, decimals as text: none has a place in it."""
    return json.dumps(said, separators=(",", ":"), default=str)
