"""A merchant's list, however it was written: each payment as its command says it, or a remedy."""

import io

import pytest

from worker.payment_list import MAX_LINE, BadList, Format, Line, as_data, read_list, recognise

ORDER = {
    "paymentRequestId": "order-1",
    "paymentAmount": {"currency": "USD", "value": "599"},
}
JSON = b'{"paymentRequestId": "order-1", "paymentAmount": {"currency": "USD", "value": "599"}}'


def lines(content: bytes, format_: Format = Format.CSV) -> list[Line]:
    return list(read_list(io.BytesIO(content), format_))


def table(*rows: str) -> list[Line]:
    return lines("\n".join(rows).encode())


def fault_of(line: Line) -> str:
    assert line.said == {}
    return line.fault


# Which kind


@pytest.mark.parametrize(
    ("name", "content", "is_"),
    [
        ("payments.ndjson", b" x", Format.NDJSON),
        ("payments.JSONL", b"x", Format.NDJSON),
        ("payments.csv", b"paymentRequestId", Format.CSV),
        ("payments", b"paymentRequestId,currency,value\n", Format.CSV),
        ("-", b'\n {"paymentRequestId": "x"}', Format.NDJSON),
        ("payments.txt", b"\xef\xbb\xbf{}", Format.NDJSON),
        ("wrongly-named.csv", JSON, Format.NDJSON),
    ],
)
def test_a_list_is_known_by_its_name_or_its_beginning(
    name: str, content: bytes, is_: Format
) -> None:
    file = io.BytesIO(content)
    assert recognise(name, file) is is_
    assert file.tell() == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"[{}]", "an object a line"),
        ("{}".encode("utf-16"), "save it as UTF-8"),
    ],
)
def test_what_is_neither_is_refused_with_the_remedy(content: bytes, says: str) -> None:
    with pytest.raises(BadList, match=says):
        recognise("payments.json", io.BytesIO(content))


# JSON lines


def test_an_object_a_line_is_a_payment_each() -> None:
    content = b"\xef\xbb\xbf" + JSON + b"\r\n\n" + JSON.replace(b"-1", b"-2")
    first, second = lines(content, Format.NDJSON)
    assert first == Line(1, ORDER)
    assert second == Line(3, ORDER | {"paymentRequestId": "order-2"})


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"order-1", "json"),
        (b"[]", "not_object"),
        (JSON + b",", "json"),
        (b'{"a": 1, "a": 2}', "duplicate_key"),
        (b'{"a": "\xff"}', "utf8"),
    ],
)
def test_a_line_that_is_no_object_is_told_by_its_number(bad: bytes, why: str) -> None:
    good, faulty, also_good = lines(JSON + b"\n" + bad + b"\n" + JSON, Format.NDJSON)
    assert (good.fault, also_good.fault, faulty.number) == ("", "", 2)
    assert fault_of(faulty).startswith(f"not one JSON object ({why}): write ")


def test_a_line_too_long_for_a_payment_is_passed_over_unread() -> None:
    long, next_ = lines(b'{"a": "' + b"x" * 3 * MAX_LINE + b'"}\n' + JSON, Format.NDJSON)
    assert fault_of(long) == f"it is longer than {MAX_LINE} bytes"
    assert next_ == Line(2, ORDER)


def test_numbers_with_decimals_reach_the_reader_of_commands_as_text() -> None:
    [line] = lines(b'{"paymentAmount": {"currency": "USD", "value": 5.99}}', Format.NDJSON)
    assert as_data(line.said) == '{"paymentAmount":{"currency":"USD","value":"5.99"}}'


# Tables

HEADING = "paymentRequestId,currency,value"


@pytest.mark.parametrize(
    "rows",
    [
        [HEADING, "order-1,USD,599"],
        ["paymentRequestId;paymentAmount.value;paymentAmount.currency", "order-1; 599 ;USD"],
        ["value\tcurrency\tpaymentRequestId", "599\tUSD\torder-1"],
        ["\ufeff" + HEADING + "\r", '"order-1","USD","599"\r', "\r"],
        [HEADING + ",reference", "order-1,USD,599,"],
    ],
)
def test_a_row_is_a_payment_whatever_separates_its_cells(rows: list[str]) -> None:
    assert table(*rows) == [Line(2, ORDER)]


def test_every_field_of_a_command_may_be_a_column() -> None:
    names = "clientId,paymentExpiryTime,paymentId,onTimeout,reference"
    row = 'A,2026-01-02T03:04:05Z,2026,report,"Ann, ""the"" buyer"'
    [line] = table(f"{HEADING},{names}", f"order-1,USD,599,{row}")
    more = {
        "clientId": "A",
        "paymentExpiryTime": "2026-01-02T03:04:05Z",
        "paymentId": "2026",
        "onTimeout": "report",
        "reference": 'Ann, "the" buyer',
    }
    assert line.said == ORDER | more


def test_a_row_over_several_lines_is_told_by_its_first() -> None:
    rows = (f"{HEADING},reference", 'order-1,USD,599,"two', 'lines"', "order-1,USD")
    first, second = table(*rows)
    assert (first.number, first.said["reference"]) == (2, "two\nlines")
    assert second.number == 4
    assert fault_of(second) == "it has 2 cells, the first line names 4"


@pytest.mark.parametrize(
    ("heading", "says"),
    [
        ("paymentRequestID,currency,value", "column 'paymentRequestID' of its first line is none"),
        ("order-1,USD,599", "column 'order-1'"),
        ("paymentRequestId,,value", "column ''"),
        ("", "its first line names no column"),
        ("value,paymentAmount.value", "its first line names value twice"),
        ("paymentRequestId,paymentRequestId", "names paymentRequestId twice"),
        ("paymentAmount", "column 'paymentAmount'"),
        ("paymentRequestId,currency,value\rorder-1,USD,599\r", "its first line is not CSV"),
    ],
)
def test_a_heading_that_is_misspelt_refuses_the_table(heading: str, says: str) -> None:
    with pytest.raises(BadList, match=says):
        table(heading, "order-1,USD,599")


def test_a_row_that_is_no_csv_or_no_utf8_is_told_and_the_next_is_read() -> None:
    content = HEADING.encode() + b'\n"order"-1,USD,599\norder-\xff,USD,599\norder-1,USD,599\n'
    quotes, bytes_, good = lines(content)
    assert fault_of(quotes).startswith("not CSV (") and quotes.number == 2
    assert fault_of(bytes_) == "it is not UTF-8: save the file as UTF-8"
    assert good == Line(4, ORDER)


def test_a_quotation_mark_that_never_ends_swallows_no_payment_silently() -> None:
    good, faulty = table(HEADING, "order-1,USD,599", 'order-2,USD,"599', "order-3,USD,599")
    assert good.said == ORDER
    assert fault_of(faulty).startswith("not CSV (") and faulty.number == 3


def test_a_table_with_an_endless_line_is_refused() -> None:
    with pytest.raises(BadList, match="line 2 is longer than"):
        lines(HEADING.encode() + b"\n" + b"x" * (MAX_LINE + 1))


@pytest.mark.parametrize("format_", Format)
def test_an_empty_list_holds_nothing(format_: Format) -> None:
    content = b"" if format_ is Format.NDJSON else HEADING.encode()
    assert lines(content, format_) == []
