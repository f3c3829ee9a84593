"""Where a request begins and ends, and what it takes to read it."""

import gzip
import zlib
from dataclasses import replace

from tests.hostile.cases import (
    BODY,
    GENUINE,
    Case,
    Expected,
    Fate,
    accepted,
    framed,
    malformed,
    of,
    refused,
)
from tests.servers import Post, notification
from worker.http_server import MAX_HEADER_BYTES
from worker.receiver import MAX_BODY_BYTES
from worker.signature import Reason

WIRE = GENUINE.wire()
LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
KEEPS = WIRE.replace(b"Connection: close\r\n", b"")
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 500


def length(value: bytes) -> bytes:
    return framed(b"Content-Length: " + value, BODY)


def chunks(raw: bytes) -> bytes:
    return framed(CHUNKED, raw)


def method(name: str) -> Case:
    return refused(f"method {name}", Reason.METHOD, replace(GENUINE, method=name))


def path(target: str) -> Case:
    return refused(f"path {target[:40]!r}", Reason.PATH, replace(GENUINE, path=target))


def waits(name: str, reason: Reason, wire: bytes) -> Case:
    """It holds the connection: it is answered when its time is up."""
    return of(name, refused("", reason, None, wire=wire), slow=True)


def broken(name: str, raw: bytes) -> list[Case]:
    """Chunks that are none: at once with the headers it is no request, later it is half of one."""
    late = of(f"{name}, later", refused("", Reason.BODY_TIMEOUT, None, wire=chunks(b"")))
    return [malformed(name, chunks(raw)), replace(late, later=raw, slow=True)]


def ends(name: str, wire: bytes) -> Case:
    return of(name, refused("", Reason.BODY_CUT, None, wire=wire), hangs_up=True)


#: What the parser lets pass, and what we need not mind: these are the bytes that were signed.
LENIENT = [
    accepted("gzip, chunked", GENUINE, wire=framed(b"Transfer-Encoding: gzip, chunked", CHUNKS)),
    accepted("HTTP/2.0, it says", GENUINE, wire=WIRE.replace(b"HTTP/1.1", b"HTTP/2.0")),
    accepted("RTSP, it says", GENUINE, wire=WIRE.replace(b"HTTP/1.1", b"RTSP/1.0")),
    refused("HTTP/0.9", Reason.HEADER_MISSING, None, wire=b"POST /notify\r\n\r\n"),
]

CASES: list[Case] = [
    *LENIENT,
    method("GET"),
    method("PUT"),
    method("PATCH"),
    method("DELETE"),
    method("TRACE"),
    method("OPTIONS"),
    method("HEAD"),
    method("PROPFIND"),
    malformed("a method nobody knows", WIRE.replace(b"POST", b"HACK"), "BadHttpMethod"),
    malformed("a method in small letters", WIRE.replace(b"POST", b"post"), "BadHttpMethod"),
    malformed("no method", WIRE.removeprefix(b"POST"), "BadHttpMethod"),
    path("/"),
    path("/notify/"),
    path("//notify"),
    path("/%6eotify"),
    path("/notify%20"),
    path("/notify;a=1"),
    path("/Notify"),
    path("/a/../notify"),
    path("/./notify"),
    path("/notify/../../etc/passwd"),
    path("http://us"),
    path("http://us/"),
    path("http://notify"),
    path("/notify\\"),
    path("/" + "x" * (MAX_HEADER_BYTES - 1)),
    refused(
        "the target of a tunnel", Reason.PATH, replace(GENUINE, method="CONNECT", path="us:443")
    ),
    refused("a star", Reason.PATH, replace(GENUINE, method="OPTIONS", path="*")),
    refused(
        "another query than was signed",
        Reason.SIG_MISMATCH,
        notification(BODY, path="/notify?a=1", signed_path="/notify?a=2"),
    ),
    refused("a query behind a hash", Reason.PATH, replace(GENUINE, path="/notify#?a=1")),
    malformed(
        "a target that is long",
        replace(GENUINE, path="/" + "x" * MAX_HEADER_BYTES).wire(),
        "LineTooLong",
    ),
    malformed("a target with a blank", replace(GENUINE, path="/not ify").wire(), "BadStatusLine"),
    malformed("a target with a NUL", replace(GENUINE, path="/not\0ify").wire(), "InvalidURLError"),
    malformed("a target that is none", replace(GENUINE, path="notify").wire(), "InvalidURLError"),
    malformed("a length and chunks", framed(LENGTH + b"\r\n" + CHUNKED, CHUNKS)),
    malformed("chunks and a length", framed(CHUNKED + b"\r\n" + LENGTH, CHUNKS)),
    malformed("chunked, then identity", framed(b"Transfer-Encoding: chunked, identity", CHUNKS)),
    malformed("xchunked", framed(b"Transfer-Encoding: xchunked", CHUNKS)),
    malformed("identity", framed(b"Transfer-Encoding: identity", BODY)),
    malformed("chunked twice", framed(CHUNKED + b"\r\n" + CHUNKED, CHUNKS)),
    malformed("chunked behind a tab", framed(b"Transfer-Encoding:\x0bchunked", CHUNKS)),
    malformed("chunked, the name spaced", framed(b"Transfer-Encoding : chunked", CHUNKS)),
    malformed("two lengths that differ", framed(LENGTH + b"\r\nContent-Length: 1", BODY)),
    malformed("two lengths that agree", framed(LENGTH + b"\r\n" + LENGTH, BODY)),
    malformed("a length that is a list", length(b"%d, %d" % (len(BODY), len(BODY)))),
    malformed("a length with a plus", length(b"+10")),
    malformed("a length with a minus", length(b"-1")),
    malformed("a length with an underscore", length(b"1_0")),
    malformed("a length with an exponent", length(b"10e3")),
    malformed("a length in hexadecimal", length(b"0x10")),
    malformed("a length beyond 64 bits", length(b"18446744073709551617")),
    malformed("an empty length", length(b"")),
    malformed("a length in other digits", length("١٠".encode())),
    malformed("a length with a blank within", length(b"1 0")),
    malformed("bare line feeds", WIRE.replace(b"\r\n", b"\n"), "BadStatusLine"),
    malformed("bare line feeds, one of them", WIRE.replace(b"Host: us\r\n", b"Host: us\n")),
    malformed("bare carriage returns", WIRE.replace(b"\r\n", b"\r")),
    malformed("HTTP/1.2", WIRE.replace(b"HTTP/1.1", b"HTTP/1.2"), "BadStatusLine"),
    malformed("HTTP/9.9.9", WIRE.replace(b"HTTP/1.1", b"HTTP/9.9.9"), "BadStatusLine"),
    malformed("HTTP in small letters", WIRE.replace(b"HTTP/1.1", b"http/1.1"), "BadStatusLine"),
    malformed("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "BadHttpMessage"),
    malformed("TLS", CLIENT_HELLO, "BadHttpMethod"),
    malformed("SSH", b"SSH-2.0-OpenSSH_9.9\r\n", "BadHttpMethod"),
    malformed("an answer", b"HTTP/1.1 200 OK\r\n\r\n", "BadHttpMethod"),
    malformed(
        "the header of a proxy", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + WIRE, "BadHttpMethod"
    ),
    malformed("a command for Redis", b"*1\r\n$8\r\nFLUSHALL\r\n", "BadHttpMethod"),
    malformed("a command for Redis, on one line", b"FLUSHALL\r\n", "BadHttpMethod"),
    malformed("zeros", bytes(1000), "BadHttpMethod"),
    malformed("the body alone", BODY, "BadHttpMethod"),
    malformed("junk behind the body", WIRE + b"junk\r\n\r\n", "BadHttpMessage"),
    malformed("a body without a length", GENUINE.head + b"\r\n" + BODY, "BadHttpMessage"),
    malformed("junk behind the body, connection kept", KEEPS + b"junk\r\n\r\n", "BadHttpMethod"),
    Case(
        "a second request that is no HTTP, behind a refused one",
        replace(GENUINE, method="GET", body=b"").wire().replace(b"Connection: close\r\n", b""),
        (Expected(Fate.REJECTED, Reason.METHOD.value),),
        slow=True,
    ),
    malformed(
        "a request in the body's place",
        framed(b"Content-Length: 0", WIRE).replace(b"Connection: close\r\n", b"") + b"\0",
        "BadHttpMethod",
    ),
    refused("a body of nothing", Reason.NOT_OBJECT, None, wire=framed(b"Content-Length: 0", b"")),
    refused("no body", Reason.NOT_OBJECT, None, wire=GENUINE.head + b"\r\n"),
    refused("no chunk", Reason.NOT_OBJECT, None, wire=chunks(b"0\r\n\r\n")),
    refused(
        "a byte less than it has",
        Reason.SIG_MISMATCH,
        None,
        wire=framed(b"Content-Length: %d" % (len(BODY) - 1), BODY[:-1]),
    ),
    refused(
        "a chunk's extension of 100 kB",
        Reason.NOT_OBJECT,
        None,
        wire=chunks(b"1;" + b"x" * 100_000 + b"\r\n \r\n0\r\n\r\n"),
    ),
    refused("a byte over the limit", Reason.TOO_LARGE, notification(b"{" + b" " * MAX_BODY_BYTES)),
    refused(
        "chunks a byte over the limit",
        Reason.TOO_LARGE,
        None,
        wire=notification(b"{" + b" " * MAX_BODY_BYTES).chunked(),
    ),
    refused(
        "a gigabyte announced",
        Reason.TOO_LARGE,
        None,
        wire=framed(b"Content-Length: 1000000000", b""),
    ),
    refused(
        "a chunk of a gigabyte announced, and begun",
        Reason.TOO_LARGE,
        None,
        wire=chunks(b"3b9aca00\r\n" + b"{" * (MAX_BODY_BYTES + 1)),
    ),
    refused(
        "chunks over the limit, without end",
        Reason.TOO_LARGE,
        None,
        wire=chunks((b"10000\r\n" + b"{" * 0x10000 + b"\r\n") * 3),
    ),
    refused(
        "a signed bomb, gzip",
        Reason.ENCODING,
        notification(gzip.compress(b" " * 10_000_000)).having(Content_Encoding="gzip"),
    ),
    refused(
        "a signed body, deflate",
        Reason.ENCODING,
        notification(zlib.compress(BODY)).having(Content_Encoding="deflate"),
    ),
    refused(
        "a signed body, gzip, that does not say so",
        Reason.NOT_OBJECT,
        notification(gzip.compress(BODY)),
    ),
    refused(
        "a wrong path, and asks first",
        Reason.PATH,
        Post(BODY, GENUINE.headers, "/elsewhere").having(Expect="100-continue"),
    ),
    waits("the body a byte short, and silence", Reason.BODY_TIMEOUT, WIRE[:-1]),
    waits("no byte of the body, and silence", Reason.BODY_TIMEOUT, framed(LENGTH, b"")),
    waits("the last chunk missing", Reason.BODY_TIMEOUT, chunks(CHUNKS.removesuffix(b"0\r\n\r\n"))),
    *broken("a chunk whose size is no number", b"zz\r\n{"),
    *broken("a chunk of 68 bits", b"fffffffffffffffff\r\n{"),
    *broken("a chunk with a minus", b"-1\r\n{"),
    *broken("a chunk with 0x", b"0x1\r\n{"),
    *broken("a chunk that is longer than it says", b"1\r\n{}\r\n0\r\n\r\n"),
    *broken("a chunk ended by a bare line feed", CHUNKS.replace(b"\r\n", b"\n", 1)),
    *broken("a chunk's size with a blank behind it", CHUNKS.replace(b"\r\n", b" \r\n", 1)),
    ends("the end before the end of the body", WIRE[:-1]),
    ends("the end before the body", framed(LENGTH, b"")),
    ends("the end before the last chunk", chunks(CHUNKS.removesuffix(b"0\r\n\r\n"))),
    Case("a connection without a word", b"", (), hangs_up=True),
    Case("half a request line", b"POST /not", (), hangs_up=True),
    Case("half a header", GENUINE.head[:-40], (), hangs_up=True),
    Case("a request line, and silence", b"POST /notify HTTP/1.1\r\n", (), slow=True),
    Case("half a header, and silence", GENUINE.head[:-40], (), slow=True),
    Case("all headers but the blank line, and silence", GENUINE.head + LENGTH, (), slow=True),
    Case("not a word", b"", (), slow=True),
]
