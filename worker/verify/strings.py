"""How the parts of a message are joined to the string that is signed: rightly, and wrongly."""

import hashlib
from collections.abc import Callable, Mapping

from worker.verify.message import Parts, encoded


def content(parts: Parts) -> bytes:
    """The bytes that are signed, by the rule of the parts."""
    return RULES[parts.rule][1](parts)


def _right(parts: Parts) -> bytes:
    return parts.head() + parts.body


def _first_line(parts: Parts) -> str:
    return f"{parts.method} {parts.path}"


def _rest(parts: Parts) -> str:
    return f"{parts.client_id}.{parts.time}."


def _joined(between: str) -> Callable[[Parts], bytes]:
    """With something else than one line feed between path and client id."""
    return lambda parts: encoded(_first_line(parts) + between + _rest(parts)) + parts.body


def _begun(form: str) -> Callable[[Parts], bytes]:
    """With another first line."""

    def join(parts: Parts) -> bytes:
        first = form.format(method=parts.method, path=parts.path)
        return encoded(first + _rest(parts)) + parts.body

    return join


def _dotted(form: str) -> Callable[[Parts], bytes]:
    """With client id and time joined otherwise."""

    def join(parts: Parts) -> bytes:
        rest = form.format(client_id=parts.client_id, time=parts.time)
        return encoded(f"{_first_line(parts)}\n{rest}") + parts.body

    return join


def _of_digest(digest: Callable[[bytes], bytes]) -> Callable[[Parts], bytes]:
    return lambda parts: parts.head() + digest(parts.body)


def _hex(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _raw(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


#: By name: the mistake that the rule is, and the rule. The first is no mistake.
RULES: Mapping[str, tuple[str, Callable[[Parts], bytes]]] = {
    "": ("", _right),
    "CR LF": ("string.line_feed", _joined("\r\n")),
    "backslash n": ("string.line_feed", _joined("\\n")),
    "nothing": ("string.line_feed", _joined("")),
    "blank": ("string.line_feed", _joined(" ")),
    "two line feeds": ("string.line_feed", _joined("\n\n")),
    "dot": ("string.line_feed", _joined(".")),
    "no method": ("string.first_line", _begun("{path}\n")),
    "no path": ("string.first_line", _begun("{method}\n")),
    "no first line": ("string.first_line", _begun("")),
    "no blank": ("string.first_line", _begun("{method}{path}\n")),
    "no dots": ("string.dots", _dotted("{client_id}{time}")),
    "no last dot": ("string.dots", _dotted("{client_id}.{time}")),
    "line feeds": ("string.dots", _dotted("{client_id}\n{time}\n")),
    "commas": ("string.dots", _dotted("{client_id},{time},")),
    "time first": ("string.order", _dotted("{time}.{client_id}.")),
    "no body": ("string.no_body", Parts.head),
    "no body, no dot": ("string.no_body", lambda parts: parts.head()[:-1]),
    "body alone": ("string.body_alone", lambda parts: parts.body),
    "hex of the body": ("string.body_digest", _of_digest(_hex)),
    "digest of the body": ("string.body_digest", _of_digest(_raw)),
    "hex of it": ("string.hashed_twice", lambda parts: _hex(_right(parts))),
    "digest of it": ("string.hashed_twice", lambda parts: _raw(_right(parts))),
}
