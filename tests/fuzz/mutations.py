"""Genuine messages, and what becomes of them between a signer who means well and us."""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from tests.servers import Post, notification, paid

STOCK = 48


@dataclass(frozen=True, slots=True)
class Mutation:
    kind: str
    wire: bytes
    framed: bool  #: one whole request, as its framing goes: its connection can be used again


@cache
def stock() -> tuple[Post, ...]:
    """Genuine messages of all kinds. The same each time: neither times nor signatures are drawn."""
    return tuple(_genuine(number) for number in range(STOCK))


def _genuine(number: int) -> Post:
    said = paid(
        f"order-{number % 12}",
        paymentCreateTime="2026-01-02T03:04:05+08:00",
        notifyType=("PAYMENT_RESULT", "PAYMENT_PENDING", "REFUND_RESULT")[number % 3],
        buyer=("支付 🙂", "x" * (number * 7))[number % 2],
        turn=number,
    )
    version = 1 + number % 2
    return notification(
        json.dumps(said, ensure_ascii=number % 4 == 0).encode(),
        path=("/notify", "/notify?shop=42")[number % 5 == 0],
        sent_at=("1767294245000", "2026-01-02T03:04:05.678+08:00", "2026-01-01T19:04:05Z")[
            number % 3
        ],
        key=f"alipay_v{version}",
        key_version=version,
    )


def mutation(seed: int, number: int) -> Mutation:
    """The input of this number: a genuine message, changed once or a few times."""
    draw = random.Random(f"{seed}:{number}")
    if draw.random() < 0.25:
        kind, spoil = draw.choice(RAW)
        wire = draw.choice(stock()).wire()
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            wire = spoil(draw, wire)
        return Mutation(kind, wire, framed=False)
    kind, change = draw.choice(FRAMED)
    post = change(draw, draw.choice(stock()))
    return Mutation(kind, kept_open(post), framed=True)


def kept_open(post: Post) -> bytes:
    """Its bytes, without the wish to end the connection: a head of one line each, and a length."""
    return post.wire().replace(b"Connection: close\r\n", b"", 1)


# On the wire: anything may happen to the framing


def _at(draw: random.Random, wire: bytes) -> int:
    return draw.randrange(len(wire)) if wire else 0


def flip(draw: random.Random, wire: bytes) -> bytes:
    at = _at(draw, wire)
    return wire[:at] + bytes([wire[at] ^ 1 << draw.randrange(8)]) + wire[at + 1 :]


def drop(draw: random.Random, wire: bytes) -> bytes:
    at = _at(draw, wire)
    return wire[:at] + wire[at + draw.choice((1, 1, 2, 10)) :] or b"\0"


def double(draw: random.Random, wire: bytes) -> bytes:
    at, length = _at(draw, wire), draw.choice((1, 1, 2, 40))
    return wire[: at + length] + wire[at:]


def insert(draw: random.Random, wire: bytes) -> bytes:
    at = _at(draw, wire)
    odd = (
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b":",
        b"\t",
        b"\xff",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"%",
    )
    return wire[:at] + draw.choice(odd) + wire[at:]


def splice(draw: random.Random, wire: bytes) -> bytes:
    """The beginning of one and the end of another."""
    other = draw.choice(stock()).wire()
    return wire[: _at(draw, wire)] + other[_at(draw, other) :]


def pipeline(draw: random.Random, wire: bytes) -> bytes:
    other = draw.choice(stock()).wire()
    return (
        wire.replace(b"Connection: close\r\n", b"", 1) + draw.choice((b"", b"\r\n", b"x")) + other
    )


def relength(draw: random.Random, wire: bytes) -> bytes:
    odd = (b"0", b"1", b"-1", b"+5", b"007", b"9999", b"1e3", b"0x10", b"", b"18446744073709551617")
    return re.sub(rb"Content-Length: \d+", b"Content-Length: " + draw.choice(odd), wire, count=1)


def chunk(draw: random.Random, wire: bytes) -> bytes:
    """In chunks, and then perhaps not quite."""
    head, _, body = wire.partition(b"\r\n\r\n")
    head = re.sub(rb"\r\nContent-Length: \d+", b"", head) + b"\r\nTransfer-Encoding: chunked"
    size = draw.randrange(1, 400)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    sizes = [b"%x" % len(part) for part in parts]
    if sizes and draw.random() < 0.7:
        odd = (b"0", b"-1", b"zz", b"ffffffffffffffffff", b" 5", b"5 ", b"0x5", b"5;a=b", b"00005")
        sizes[draw.randrange(len(sizes))] = draw.choice(odd)
    chunks = b"".join(
        size + b"\r\n" + part + b"\r\n" for size, part in zip(sizes, parts, strict=True)
    )
    return (
        head
        + b"\r\n\r\n"
        + chunks
        + draw.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n"))
    )


RAW: list[tuple[str, Callable[[random.Random, bytes], bytes]]] = [
    ("flip", flip),
    ("flip", flip),
    ("drop", drop),
    ("double", double),
    ("insert", insert),
    ("splice", splice),
    ("pipeline", pipeline),
    ("relength", relength),
    ("chunk", chunk),
]


# In the message: its framing stays sound


def _header(draw: random.Random) -> str:
    return draw.choice(("Client-Id", "Request-Time", "Signature", "Content-Type"))


def _text(draw: random.Random, text: str) -> str:
    """A text changed in one place, without what would end its line."""
    at = draw.randrange(len(text) + 1)
    other = draw.choice("0123456789ABCdef+/=%,;. \t{}\"'-_:Ñ支")
    return draw.choice(
        (
            text[:at] + other + text[at + 1 :],
            text[:at] + other + text[at:],
            text[:at] + text[at + 1 :],
            text[:at] + text[at : at + 1].swapcase() + text[at + 1 :],
            text[:at],
            text + other,
        )
    )


def header_text(draw: random.Random, post: Post) -> Post:
    name = _header(draw)
    value = _text(draw, dict(post.headers)[name]).strip()
    return replace(post, headers=tuple((n, value if n == name else v) for n, v in post.headers))


def header_dropped(draw: random.Random, post: Post) -> Post:
    return post.without(_header(draw))


def header_doubled(draw: random.Random, post: Post) -> Post:
    name = draw.choice(("Client-Id", "Request-Time", "Signature"))
    other = draw.choice(stock())
    return post.also(name, dict(draw.choice((post, other)).headers)[name])


def header_swapped(draw: random.Random, post: Post) -> Post:
    """Two headers with each other's value."""
    one, two = draw.sample(("Client-Id", "Request-Time", "Signature"), 2)
    values = dict(post.headers)
    values[one], values[two] = values[two], values[one]
    return replace(post, headers=tuple(values.items()))


def header_of_another(draw: random.Random, post: Post) -> Post:
    name = _header(draw)
    value = dict(draw.choice(stock()).headers)[name]
    return replace(post, headers=tuple((n, value if n == name else v) for n, v in post.headers))


def shuffled(draw: random.Random, post: Post) -> Post:
    headers = list(post.headers)
    draw.shuffle(headers)
    return replace(post, headers=tuple((_case(draw, name), value) for name, value in headers))


def _case(draw: random.Random, name: str) -> str:
    return draw.choice((name, name.lower(), name.upper()))


def body_of_another(draw: random.Random, post: Post) -> Post:
    return replace(post, body=draw.choice(stock()).body)


def path_of_another(draw: random.Random, post: Post) -> Post:
    odd = ("/notify", "/notify?shop=42", "/notify?", "/notify?shop=43", "//notify", "/notify/")
    return replace(post, path=draw.choice(odd))


def split_moved(draw: random.Random, post: Post) -> Post:
    """The same bytes signed, cut elsewhere between client id, time and body."""
    values = dict(post.headers)
    whole = f"{values['Client-Id']}.{values['Request-Time']}.".encode() + post.body
    dots = [at for at, byte in enumerate(whole) if byte == ord(".")][:6]
    one, two = sorted(draw.choices(dots, k=2))
    values["Client-Id"] = whole[:one].decode("latin-1")
    values["Request-Time"] = whole[one + 1 : two].decode("latin-1")
    return replace(post, headers=tuple(values.items()), body=whole[two + 1 :])


def body_bytes(draw: random.Random, post: Post) -> Post:
    spoil = draw.choice((flip, drop, double, insert))
    return replace(post, body=spoil(draw, post.body))


def body_text(draw: random.Random, post: Post) -> Post:
    """Another JSON text, of the same or of other content."""
    said = json.loads(post.body)
    change = draw.randrange(7)
    if change == 0:
        said["paymentAmount"]["value"] = str(draw.randrange(1, 10_000))
    elif change == 1:
        said["paymentRequestId"] = f"order-{draw.randrange(12)}"
    elif change == 2:
        said["result"]["resultStatus"] = draw.choice("SFUX")
    elif change == 3:
        said = dict(draw.sample(sorted(said.items()), len(said)))
    elif change == 4:
        said["more"] = draw.random()
    indent = 1 if change == 5 else None
    return replace(post, body=json.dumps(said, indent=indent, ensure_ascii=change != 6).encode())


def signature_text(draw: random.Random, post: Post) -> Post:
    header = dict(post.headers)["Signature"]
    old, new = draw.choice(
        (
            ("%2F", "%2f"),
            ("%2B", "+"),
            ("%2B", " "),
            ("%3D", "="),
            ("%3D", ""),
            ("%3D", "%253D"),
            ("RSA256", "none"),
            ("RSA256", "RSA512"),
            ("keyVersion=1", "keyVersion=2"),
            ("keyVersion=2", "keyVersion=1"),
            ("keyVersion=", "keyVersion=0"),
            (",", ", "),
            (",", ";"),
            ("signature=", "signature=signature="),
            ("signature=", "Signature="),
        )
    )
    header = header.replace(old, new)
    return post.having(Signature=header)


def nothing(draw: random.Random, post: Post) -> Post:
    return post


FRAMED: list[tuple[str, Callable[[random.Random, Post], Post]]] = [
    ("header text", header_text),
    ("header text", header_text),
    ("header dropped", header_dropped),
    ("header doubled", header_doubled),
    ("header swapped", header_swapped),
    ("header of another", header_of_another),
    ("headers shuffled", shuffled),
    ("body of another", body_of_another),
    ("path of another", path_of_another),
    ("split moved", split_moved),
    ("body bytes", body_bytes),
    ("body bytes", body_bytes),
    ("body text", body_text),
    ("signature text", signature_text),
    ("signature text", signature_text),
    ("nothing", nothing),
]
