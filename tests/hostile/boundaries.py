"""To the last byte, digit and bracket."""

import json

from tests.hostile.cases import (
    ORDER,
    Case,
    accepted,
    malformed,
    quarantined,
    refused,
    saying,
    with_amount,
)
from tests.hostile.headers import FRAME
from tests.hostile.odd import value
from tests.servers import Post, notification, paid
from worker.http_server import MAX_HEADER_BYTES, MAX_HEADERS
from worker.receiver import MAX_BODY_BYTES
from worker.signature import Reason
from worker.strict_json import MAX_INT_DIGITS, MAX_NESTING


def sized(size: int) -> bytes:
    """A notification whose body has exactly this size."""
    short = saying(padding="")
    return short.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (size - len(short))))


def fits(name: str, body: bytes) -> Case:
    return accepted(name, notification(body))


def nested(depth: int) -> bytes:
    """In all, the body's own object among them."""
    return value(b"[" * (depth - 1) + b"]" * (depth - 1))


LARGEST = notification(sized(MAX_BODY_BYTES))
TOO_LARGE = notification(sized(MAX_BODY_BYTES + 1))


def at(sent_at: str) -> Post:
    return notification(saying(), sent_at=sent_at)


def longest_header() -> bytes:
    """Every header as long as it may be, and as many as there may be."""
    post = notification(saying())
    more = MAX_HEADERS - len(post.headers) - FRAME
    for number in range(more):
        name = f"X-{number:02}"
        post = post.also(name, "x" * MAX_HEADER_BYTES)
    return post.wire()


CASES: list[Case] = [
    fits("a body of 65,536 bytes", LARGEST.body),
    accepted("the same in chunks", LARGEST, wire=LARGEST.chunked()),
    accepted("the same in chunks of a kilobyte", LARGEST, wire=LARGEST.chunked(1024)),
    refused("a body of 65,537 bytes, that is signed", Reason.TOO_LARGE, TOO_LARGE),
    refused("65,537 bytes in chunks", Reason.TOO_LARGE, None, wire=TOO_LARGE.chunked()),
    accepted("the longest head there may be", notification(saying()), wire=longest_header()),
    fits("16 brackets deep", nested(MAX_NESTING)),
    quarantined("17 brackets deep", nested(MAX_NESTING + 1), "nesting"),
    fits("100 brackets in a string", saying(x="[" * 100)),
    fits("100 brackets and a quote in a string", saying(x='"\\' + "[{" * 100)),
    fits("many shallow objects side by side", value(b"[" + b"{}," * 5000 + b"{}]")),
    fits("a whole number of 20 digits", value(b"1" * MAX_INT_DIGITS)),
    quarantined("a whole number of 21 digits", value(b"1" * (MAX_INT_DIGITS + 1)), "number"),
    fits("20 digits below zero", value(b"-" + b"1" * MAX_INT_DIGITS)),
    fits("64 decimals", value(b"0." + b"1" * 64)),
    quarantined("65 decimals", value(b"0." + b"1" * 65), "number"),
    fits("an exponent of two digits", value(b"1e99")),
    quarantined("an exponent of three digits", value(b"1e100"), "number"),
    fits("an amount of 16 digits", saying(paymentAmount=with_amount("9" * 16))),
    fits("the smallest amount", saying(paymentAmount=with_amount("1"))),
    fits("a payment id of 64 characters", saying(paymentId="~" * 64)),
    accepted("a time of 10 characters", at("1" * 10)),
    accepted("a time of 40 characters", at("1" * 40)),
    accepted("the first moment of 1970", at("1970-01-01T00:00:00Z")),
    accepted("the last moment of 9999", at("9999-12-31T23:59:59.999Z")),
    accepted("2038", at("2038-01-19T03:14:08Z")),
    malformed(
        "a request line over the limit by a byte",
        notification(saying(), path="/notify?" + "x" * (MAX_HEADER_BYTES - 7)).wire(),
        "LineTooLong",
    ),
    accepted(
        "a target at the limit",
        notification(saying(), path="/notify?" + "x" * (MAX_HEADER_BYTES - 8)),
    ),
    quarantined(
        "an id of 65 characters, to the byte",
        saying(paymentRequestId="x" * 65),
        "payment_request_id",
    ),
]
assert len(LARGEST.body) == MAX_BODY_BYTES
assert json.loads(LARGEST.body)["paymentRequestId"] == paid(ORDER)["paymentRequestId"]
