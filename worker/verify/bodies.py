"""Which body may have been signed in the place of the one that was captured: bytes undone."""

import base64
import binascii
import html
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import unquote_plus, unquote_to_bytes

from worker.verify.rewritten import rewritten

BOM = b"\xef\xbb\xbf"
MAX_UNPACKED = 1024 * 1024  #: bytes that a compressed body may become
#: Bodies up to here are undone in two ways at once; longer ones in one.
MAX_TWICE = 32 * 1024
MAX_SECOND = 130  #: ways that are tried upon another: all of bytes, and the usual ones of writing

Found = Iterator[tuple[tuple[str, ...], bytes]]


def candidates(body: bytes) -> Found:
    """The mistakes, and the body under which it would verify: the simplest first, each once."""
    seen = {body}
    for found in _single(body):
        if found[1] not in seen:
            seen.add(found[1])
            yield found


def twice(body: bytes) -> Found:
    """The same for two mistakes, one upon the other; nothing for a long body."""
    if len(body) > MAX_TWICE:
        return
    for first, plain in list(candidates(body)):
        again = (
            _newlines(plain) if first == REWRITTEN else itertools.islice(_single(plain), MAX_SECOND)
        )
        for then, original in again:
            if len(original) <= MAX_TWICE:
                yield (*first, *then), original


REWRITTEN = ("body.rewritten",)  #: named more exactly once it has verified


def _newlines(body: bytes) -> Found:
    for other in _newline_lost(body):
        yield ("body.newline_lost",), other


def _single(body: bytes) -> Found:
    for mistake, undo in UNDOING:
        for other in _attempt(undo, body):
            yield (mistake,), other
    for other in rewritten(body):
        yield REWRITTEN, other


def _attempt(undo: Callable[[bytes], Iterator[bytes]], body: bytes) -> Iterator[bytes]:
    """What `undo` gives until it finds that the body is nothing of the kind."""
    try:
        yield from undo(body)
    except (ValueError, zlib.error, binascii.Error, LookupError, RecursionError):
        return


def _newline_added(body: bytes) -> Iterator[bytes]:
    yield body.removesuffix(b"\n")
    yield body.removesuffix(b"\r\n")
    yield body.rstrip(b" \t\r\n\0")


def _newline_lost(body: bytes) -> Iterator[bytes]:
    yield body + b"\n"
    yield body + b"\r\n"


def _crlf_added(body: bytes) -> Iterator[bytes]:
    yield body.replace(b"\r\n", b"\n")


def _crlf_lost(body: bytes) -> Iterator[bytes]:
    yield body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _bom_added(body: bytes) -> Iterator[bytes]:
    yield body.removeprefix(BOM)


def _bom_lost(body: bytes) -> Iterator[bytes]:
    yield BOM + body


def _blanks(body: bytes) -> Iterator[bytes]:
    yield body.strip()


def _gzip(body: bytes) -> Iterator[bytes]:
    for form in (47, -15):  # gzip or zlib, by its head; raw deflate
        unpack = zlib.decompressobj(form)
        try:
            plain = unpack.decompress(body, MAX_UNPACKED)
        except zlib.error:
            continue
        if unpack.eof:
            yield plain


_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})(?:;[^\r\n]*)?\r?\n")


def unchunked(body: bytes) -> bytes:
    """The body without the sizes of its chunks; ValueError if it has none."""
    plain, at = bytearray(), 0
    while found := _CHUNK.match(body, at):
        size = int(found[1], 16)
        if size == 0:
            return bytes(plain)
        plain += body[found.end() : found.end() + size]
        at = found.end() + size
        at += len(b"\r\n") if body[at : at + 2] == b"\r\n" else 1
    raise ValueError("no chunks")


def _chunked(body: bytes) -> Iterator[bytes]:
    yield unchunked(body)


def _base64(body: bytes) -> Iterator[bytes]:
    yield base64.b64decode(b"".join(body.split()), validate=True)


def _quoted(body: bytes) -> Iterator[bytes]:
    text = json.loads(body)
    if isinstance(text, str):
        yield text.encode()


_LOGGED = re.compile(rb"\\x([0-9A-Fa-f]{2})")


def _log_escaped(body: bytes) -> Iterator[bytes]:
    yield _LOGGED.sub(lambda found: bytes([int(found[1], 16)]), body)
    yield body.replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    yield json.loads(b'"' + body + b'"').encode()


def _url_encoded(body: bytes) -> Iterator[bytes]:
    yield unquote_to_bytes(body)
    yield unquote_plus(body.decode()).encode()
    yield unquote_plus(body.decode()).rstrip("=").encode()


def _html_entities(body: bytes) -> Iterator[bytes]:
    yield html.unescape(body.decode()).encode()


#: Read in the first, written in the second: undone by the reverse.
CHARSETS = [
    *itertools.permutations(("utf-8", "gb18030", "latin-1", "cp1252", "big5", "shift_jis"), 2),
    *(("utf-8", name) for name in ("utf-16-le", "utf-16-be", "utf-16")),
    *((name, "utf-8") for name in ("utf-16", "utf-16-le", "utf-16-be")),
]


def _charset(body: bytes) -> Iterator[bytes]:
    if body.isascii() and b"\0" not in body:
        return
    for read, written in CHARSETS:
        try:
            yield body.decode(read).encode(written)
        except UnicodeError:
            continue


UNDOING: tuple[tuple[str, Callable[[bytes], Iterator[bytes]]], ...] = (
    ("body.newline_added", _newline_added),
    ("body.newline_lost", _newline_lost),
    ("body.crlf_added", _crlf_added),
    ("body.crlf_lost", _crlf_lost),
    ("body.bom_added", _bom_added),
    ("body.bom_lost", _bom_lost),
    ("body.blanks_around", _blanks),
    ("body.gzip", _gzip),
    ("body.chunked", _chunked),
    ("body.base64", _base64),
    ("body.quoted", _quoted),
    ("body.log_escaped", _log_escaped),
    ("body.url_encoded", _url_encoded),
    ("body.html_entities", _html_entities),
    ("body.charset", _charset),
)
