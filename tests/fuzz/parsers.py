"""The parsers alone, without sockets: whatever the bytes, they are understood or `Unreadable`."""

import json
import random
from collections import Counter
from collections.abc import Callable

from tests.fuzz.mutations import double, drop, flip, insert, stock
from tests.servers import inquired
from worker.messages import (
    parse_cancel_answer,
    parse_inquiry_answer,
    parse_notification,
    parse_pay_answer,
)
from worker.strict_json import Unreadable, parse_object

TOKENS = (
    *(b"null", b"true", b"[]", b"{}", b'""', b"-", b"\xff", b"[" * 17),
    *(b"-0", b"1e99", b"1e999", b"NaN", b"9" * 20, b"9" * 21, b"599"),
    *(b'"\\ud800"', b'"\\u0000"', b'"\xed\xa0\x80"', b'"' + b"x" * 70 + b'"', b'{"a":1,"a":2}'),
    *(b'"S"', b'"599"', b'"SUCCESS"', b'"2026-02-30T00:00:00Z"', b'[{"transactionType":"REFUND"}]'),
)
ANSWER = json.dumps(
    inquired(
        "order-1",
        "SUCCESS",
        paymentTime="2026-01-02T03:04:05Z",
        redirectActionForm={"method": "GET", "redirectUrl": "https://cashier.example/1"},
        transactions=[
            {
                "transactionType": "REFUND",
                "transactionStatus": "SUCCESS",
                "transactionAmount": {"currency": "USD", "value": "1"},
            }
        ],
    )
).encode()
PARSERS: dict[str, Callable[[bytes], object]] = {
    "object": parse_object,
    "notification": lambda body: parse_notification(body, None, 0, "client"),
    "inquiry": lambda body: parse_inquiry_answer(body, 0, 0),
    "cancel": lambda body: parse_cancel_answer(body, 0, 0),
    "pay": lambda body: parse_pay_answer(body, 0, 0),
}


def input_of(seed: int, number: int) -> bytes:
    draw = random.Random(f"{seed}:{number}")
    body = draw.choice((ANSWER, *(post.body for post in stock()[:8])))
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        body = draw.choice((flip, drop, double, insert, token, token, token))(draw, body)
    return body


def token(draw: random.Random, body: bytes) -> bytes:
    """One value exchanged for another."""
    values = [at for at, byte in enumerate(body) if byte == ord(":")]
    if not values:
        return body
    at = draw.choice(values) + 1
    ends = [end for end in (body.find(b",", at), body.find(b"}", at)) if end > 0]
    return body[:at] + draw.choice(TOKENS) + body[min(ends, default=len(body)) :]


def fuzz(seed: int, count: int) -> tuple[Counter[str], list[tuple[int, str]]]:
    """What became of the inputs, and which of them raised what they must not."""
    fates: Counter[str] = Counter()
    violations = []
    for number in range(count):
        body = input_of(seed, number)
        for name, parse in PARSERS.items():
            try:
                parse(body)
                fates[f"{name}: understood"] += 1
            except Unreadable as unreadable:
                fates[f"{name}: {unreadable.why}"] += 1
            except Exception as fault:
                violations.append((number, f"{name}: {fault!r}"))
    return fates, violations
