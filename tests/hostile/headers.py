"""Headers that are missing, doubled or misleading, and messages for somebody else."""

from dataclasses import replace

from tests.hostile.cases import (
    BODY,
    GENUINE,
    HEADERS,
    Case,
    accepted,
    framed,
    malformed,
    refused,
)
from tests.keys import CLIENT_ID
from tests.servers import Post, notification
from worker.http_server import MAX_HEADER_BYTES, MAX_HEADERS
from worker.signature import Reason

WIRE = GENUINE.wire()
#: What `Post.wire` adds to the headers of a post: Host, Connection and Content-Length.
FRAME = 3


def crowd(count: int) -> Post:
    """The genuine message among so many headers in all."""
    more = count - len(GENUINE.headers) - FRAME
    return replace(GENUINE, headers=(*GENUINE.headers, *((f"X-{i}", "1") for i in range(more))))


def another(name: str, value: str | None = None) -> Post:
    return GENUINE.also(name, HEADERS[name] if value is None else value)


def first(name: str, value: str) -> Post:
    return replace(GENUINE, headers=((name, value), *GENUINE.headers))


def media(content_type: str) -> Case:
    return refused(
        f"Content-Type {content_type[:40]!r}",
        Reason.MEDIA_TYPE,
        GENUINE.having(Content_Type=content_type),
    )


def encoding(coding: str) -> Case:
    return refused(
        f"Content-Encoding {coding!r}", Reason.ENCODING, GENUINE.having(Content_Encoding=coding)
    )


def stranger(name: str, client_id: str) -> Case:
    """Signed by the gateway's key, as it is one key for all of its clients."""
    return refused(name, Reason.CLIENT_ID, notification(BODY, client_id=client_id))


def bad_time(name: str, at: str, reason: Reason = Reason.TIME_CHARSET) -> Case:
    return refused(name, reason, GENUINE.having(Request_Time=at))


CASES: list[Case] = [
    refused("no Client-Id", Reason.HEADER_MISSING, GENUINE.without("Client-Id")),
    refused("no Request-Time", Reason.HEADER_MISSING, GENUINE.without("Request-Time")),
    refused("none of the three", Reason.HEADER_MISSING, Post(BODY, ())),
    refused(
        "names with underscores",
        Reason.HEADER_MISSING,
        None,
        wire=WIRE.replace(b"Client-Id", b"Client_Id"),
    ),
    refused(
        "the signature in a trailer",
        Reason.HEADER_MISSING,
        None,
        wire=framed(
            b"Transfer-Encoding: chunked",
            b"%x\r\n%b\r\n0\r\nSignature: %b\r\n\r\n"
            % (len(BODY), BODY, HEADERS["Signature"].encode()),
            GENUINE.without("Signature"),
        ),
    ),
    refused(
        "the signature in a cookie",
        Reason.HEADER_MISSING,
        GENUINE.without("Signature").having(Cookie="Signature=" + HEADERS["Signature"]),
    ),
    refused("Signature twice", Reason.HEADER_REPEATED, another("Signature")),
    refused("Client-Id twice", Reason.HEADER_REPEATED, another("Client-Id")),
    refused("Request-Time twice", Reason.HEADER_REPEATED, another("Request-Time")),
    refused(
        "another's Client-Id first", Reason.HEADER_REPEATED, first("Client-Id", "SANDBOX_OTHER")
    ),
    refused(
        "another's Client-Id second", Reason.HEADER_REPEATED, another("Client-Id", "SANDBOX_OTHER")
    ),
    refused(
        "a forged signature first", Reason.HEADER_REPEATED, first("Signature", "algorithm=none")
    ),
    refused("an empty Signature second", Reason.HEADER_REPEATED, another("Signature", "")),
    refused(
        "Signature again in small letters",
        Reason.HEADER_REPEATED,
        GENUINE.also("signature", HEADERS["Signature"]),
    ),
    refused(
        "Client-Id as a list",
        Reason.CLIENT_ID,
        GENUINE.having(Client_Id=f"SANDBOX_OTHER, {CLIENT_ID}"),
    ),
    refused(
        "Client-Id in digits of another script",
        Reason.CLIENT_ID,
        GENUINE.having(Client_Id=CLIENT_ID.replace("5", "٥")),
    ),
    refused(
        "Client-Id in bytes that are no UTF-8",
        Reason.CLIENT_ID,
        None,
        wire=WIRE.replace(b"Client-Id: ", b"Client-Id: \xff"),
    ),
    refused("an empty Client-Id", Reason.CLIENT_ID, GENUINE.having(Client_Id="")),
    refused(
        "Client-Id in small letters", Reason.CLIENT_ID, GENUINE.having(Client_Id=CLIENT_ID.lower())
    ),
    refused("Client-Id in quotes", Reason.CLIENT_ID, GENUINE.having(Client_Id=f'"{CLIENT_ID}"')),
    refused("a Client-Id that is a pattern", Reason.CLIENT_ID, GENUINE.having(Client_Id="*")),
    refused(
        "a Client-Id that would colour the log",
        Reason.CLIENT_ID,
        GENUINE.having(Client_Id='","event":"notification.accepted'),
    ),
    stranger("another client's message", "SANDBOX_5X00000000000001"),
    stranger("the message of a client that sorts before us", "SANDBOX_4X00000000000000"),
    stranger("the message of a client whose id begins like ours", CLIENT_ID + "1"),
    stranger("the message of a client whose id ours begins with", CLIENT_ID[:-1]),
    stranger("the message of a client whose id holds a colon", CLIENT_ID + ":order-1"),
    stranger("the production account's message", CLIENT_ID.removeprefix("SANDBOX_")),
    bad_time("an empty time", ""),
    bad_time("a time with a quote", "2026-01-02T03:04:05'"),
    bad_time("a time with a brace", "2026-01-02T03:04:05{"),
    bad_time("a time with a blank", "2026-01-02 03:04:05Z"),
    bad_time("a time in small letters", "2026-01-02t03:04:05z"),
    bad_time("a time of 41 characters", "1" * 41),
    bad_time("a time of 9 characters", "1" * 9),
    bad_time("an HTTP date", "Fri, 02 Jan 2026 03:04:05 GMT"),
    bad_time("a time in other digits", "١٦٨٥٥٩٩٩٣٣٨٨٠", Reason.HEADER_CHARSET),
    bad_time("a time with a no-break space", "1685599933\u00a0880", Reason.HEADER_CHARSET),
    media("text/plain"),
    media("application/x-www-form-urlencoded"),
    media("multipart/form-data; boundary=x"),
    media("application/json; charset=gbk"),
    media("application/json; charset=utf-16"),
    media("application/json; charset=utf-7"),
    media("application/problem+json"),
    media("application/jsonp"),
    media("application/json, text/plain"),
    media("*/*"),
    media(""),
    media(";;"),
    media("x" * 3000),
    encoding("gzip"),
    encoding("deflate"),
    encoding("br"),
    encoding("zstd"),
    encoding("aes"),
    encoding(""),
    encoding("identity, gzip"),
    encoding("a coding that sorts before identity"),
    refused(
        "encrypted",
        Reason.ENCRYPTED,
        GENUINE.having(Encrypt="algorithm=RSA_AES,keyVersion=1,symmetricKey=x"),
    ),
    refused("encrypted, it says, with nothing", Reason.ENCRYPTED, GENUINE.having(Encrypt="")),
    refused("encrypted, in small letters", Reason.ENCRYPTED, GENUINE.having(encrypt="x")),
    malformed("two Content-Types", another("Content-Type").wire()),
    malformed("two Hosts", GENUINE.having(Host="us").wire()),
    malformed("no Host", WIRE.replace(b"Host: us\r\n", b"")),
    malformed(
        "a header continued on the next line", WIRE.replace(b"signature=", b"\r\n signature=")
    ),
    malformed("a NUL in a value", WIRE.replace(b"signature=", b"signature=\0")),
    malformed("an escape character in a value", WIRE.replace(b"signature=", b"signature=\x1b")),
    malformed("a carriage return in a value", WIRE.replace(b"signature=", b"signature=\r")),
    malformed("a blank before the colon", WIRE.replace(b"Signature:", b"Signature :")),
    malformed("no colon", WIRE.replace(b"Signature:", b"Signature")),
    malformed("no name", WIRE.replace(b"Signature:", b":")),
    malformed("a name in no ASCII", WIRE.replace(b"Signature:", b"S\xc3\xadgnature:")),
    malformed("a name with a parenthesis", WIRE.replace(b"Signature:", b"Sign(ature:")),
    malformed("a blank first", WIRE.replace(b"Host:", b" Host:")),
    accepted("as many headers as allowed", crowd(MAX_HEADERS)),
    malformed("a header too many", crowd(MAX_HEADERS + 1).wire()),
    malformed("ten thousand headers", crowd(10_000).wire()),
    accepted("a header at the limit", GENUINE.also("X", "x" * MAX_HEADER_BYTES)),
    malformed(
        "a header over the limit",
        GENUINE.also("X", "x" * (MAX_HEADER_BYTES + 1)).wire(),
        "LineTooLong",
    ),
    malformed(
        "a name over the limit",
        GENUINE.also("X" * (MAX_HEADER_BYTES + 1), "").wire(),
        "LineTooLong",
    ),
    malformed(
        "trailers without end",
        framed(
            b"Transfer-Encoding: chunked",
            b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY) + b"X: 1\r\n" * 10_000 + b"\r\n",
        ),
    ),
]
