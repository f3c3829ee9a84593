"""Reading a message that somebody captured: raw HTTP, what curl -v or tcpdump -A wrote, headers
alone, JSON, HAR. What cannot be read is a `BadCapture` that says what to give instead.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from worker.verify.bodies import unchunked
from worker.verify.message import Capture

MAX_CAPTURE = 4 * 1024 * 1024  #: bytes; the largest answers have 200 KB
MAX_HEAD = 64 * 1024  #: of start line and headers
MAX_SHOWN = 60


class BadCapture(ValueError):
    """No message can be read; the text says why and what to give instead."""


def read_capture(data: bytes) -> list[Capture]:
    """The messages in a capture: one, or a request and its answer, in this order."""
    if len(data) > MAX_CAPTURE:
        raise BadCapture(f"it has {len(data)} bytes: cut one message out of it, at most 4 MiB")
    if not data.strip():
        raise BadCapture("it is empty")
    text = data.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip().startswith((b"{", b"[")):
        return _from_json(text)
    return _from_curl(text) or [_from_http(text)]


def with_parts(head: bytes | None, body: bytes | None) -> list[Capture]:
    """A message whose headers, or body, stand in files of their own, to the byte."""
    if max(len(head or b""), len(body or b"")) > MAX_CAPTURE:
        raise BadCapture("a file has more than 4 MiB: give one message alone")
    captures = [Capture()] if head is None else _heads(head)
    if body is None:
        return captures
    return [*captures[:-1], replace(captures[-1], body=body)]


def _heads(head: bytes) -> list[Capture]:
    """One message's headers, or those of curl -v, which are a request's and its answer's."""
    curl = _from_curl(head)
    if curl:
        return curl
    return [_from_http(head.strip(b"\r\n") + b"\r\n\r\n")]


# Raw HTTP

_REQUEST = re.compile(rb"([A-Za-z]{3,7}) (\S{1,8192}) HTTP/[0-9.]{1,3}[ \t]*\r?$", re.MULTILINE)
_STATUS = re.compile(rb"HTTP/[0-9.]{1,3} ([0-9]{3})\b[^\r\n]*\r?$", re.MULTILINE)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_NAME = re.compile(r":?[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")


def _from_http(data: bytes) -> Capture:
    """A start line, headers, a blank line, the body; without start line where they come first."""
    start = _start(data)
    message = data[start:]
    end = _BLANK_LINE.search(message)
    if end is None:
        raise BadCapture("no blank line ends its headers: give the body, too, or --body FILE")
    if end.start() > MAX_HEAD:
        raise BadCapture("its headers have more than 64 KiB: give one message alone")
    lines = message[: end.start()].decode("utf-8", "surrogateescape").split("\n")
    capture = _of_lines([line.rstrip("\r") for line in lines])
    notes = (f"left out before the message: {_bytes(start)}",) if start else ()
    body, more = _framed(capture, message[end.end() :])
    return replace(capture, body=body, notes=(*notes, *more))


def _start(data: bytes) -> int:
    """Where the message begins. tcpdump -A puts bytes of its own before it."""
    end = _BLANK_LINE.search(data)
    headed = _is_header(data.split(b"\n", 1)[0])
    where = data[: end.start()] if headed and end else data
    found = [each.start() for each in (_REQUEST.search(where), _STATUS.search(where)) if each]
    return min(found, default=0)


def _is_header(line: bytes) -> bool:
    name, colon, _ = line.decode("utf-8", "surrogateescape").partition(":")
    return bool(colon and _NAME.fullmatch(name))


def _of_lines(lines: list[str]) -> Capture:
    """Start line and headers; CGI's names, as PHP's $_SERVER shows them, are taken, too."""
    first = lines[0].encode("utf-8", "surrogateescape")
    request, answer = _REQUEST.fullmatch(first), _STATUS.fullmatch(first)
    headers = tuple(_headers(lines[1:] if request or answer else lines))
    pseudo = dict(headers)
    target, method = pseudo.get(":path", ""), pseudo.get(":method", "")
    if request:
        method, target = request[1].decode(), request[2].decode("utf-8", "surrogateescape")
    return Capture(
        method=method,
        target=_without_origin(target),
        status=int(answer[1]) if answer else None,
        headers=tuple(each for each in headers if not each[0].startswith(":")),
    )


def _headers(lines: list[str]) -> Iterator[tuple[str, str]]:
    """A line that begins with a blank goes on with the one before."""
    joined: list[str] = []
    for line in lines:
        if line[:1] in (" ", "\t") and joined and line.strip():
            joined[-1] += " " + line.strip()
        elif line.strip():
            joined.append(line)
    for line in joined:
        name, colon, value = line.lstrip("<> ").partition(": ")
        if not colon:
            name, colon, value = line.lstrip("<> ").partition(":")
        if not colon or not _NAME.fullmatch(name.strip()):
            raise BadCapture(f"this is no header: {_shown(line)}; write NAME: VALUE on each line")
        yield _plain_name(name.strip()), value.strip()


def _plain_name(name: str) -> str:
    return name.lower().removeprefix("http_").replace("_", "-")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


def _without_origin(target: str) -> str:
    """The path and query of a target that may be a whole URL."""
    if not target.startswith(("http://", "https://")):
        return target
    return "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"


def _framed(capture: Capture, rest: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The body as HTTP marks its end, and what was done for it.

    A file saved by an editor has a line feed more: Content-Length says that it is none of the body.
    """
    if "chunked" in capture.first("transfer-encoding").lower():
        try:
            return unchunked(rest), ("the body's chunks were joined",)
        except ValueError:
            return rest, ("Transfer-Encoding says chunked, but the body has no chunks",)
    said = capture.first("content-length")
    if said.isascii() and said.isdigit() and len(said) < 10 and len(rest) > int(said):
        left = len(rest) - int(said)
        return rest[: int(said)], (f"left out after the body, by Content-Length: {_bytes(left)}",)
    return rest, ()


# curl -v

_CURL_REQUEST = re.compile(rb"^> ([A-Za-z]+ \S+ HTTP/[0-9.]+\r?)$", re.MULTILINE)
_CURL_NOISE = re.compile(rb"^(?:\* |[{}] \[|  % Total|  +[0-9]+ |[> <]\r?$)")
_CURL_END = re.compile(rb"\r?\n?\* (?:Connection|Closing|Curl_)[^\n]*(?:\n\*[^\n]*)*\s*\Z")


def _from_curl(data: bytes) -> list[Capture]:
    """The request, whose body curl does not show, and the answer; nothing of anything else."""
    if not _CURL_REQUEST.search(data):
        return []
    asked = _marked(data, b">")
    answered = _marked(data, b"<")
    captures = [replace(_of_lines(asked), notes=("curl -v shows no body of a request",))]
    if answered:
        body = _after(data)
        answer = replace(_of_lines(answered), target=captures[0].target)
        body, notes = _framed(answer, body)
        captures.append(replace(answer, body=body, notes=notes))
    return captures


def _marked(data: bytes, mark: bytes) -> list[str]:
    """The lines of the last block of this direction, without the mark."""
    block: list[str] = []
    for line in data.split(b"\n"):
        text = line[1:].strip(b" \r").decode("utf-8", "surrogateescape")
        if line[:1] != mark or (line[1:2] not in (b" ", b"\r", b"")):
            continue
        if _REQUEST.fullmatch(text.encode("utf-8", "replace")) or text.startswith("HTTP/"):
            block = []
        block.append(text)
    return [line for line in block if line]


def _after(data: bytes) -> bytes:
    """What stands behind the answer's headers, without curl's own lines."""
    ends = [each.end() for each in re.finditer(rb"^< ?\r?\n", data, re.MULTILINE)]
    rest = _CURL_END.sub(b"", data[ends[-1] :]) if ends else b""
    lines = rest.split(b"\n")
    while lines and _CURL_NOISE.match(lines[0]):
        lines.pop(0)
    return b"\n".join(lines)


# JSON

_AS_JSON = (
    'write {"method": "POST", "path": "/notify", "headers": {...}, "body": "..."}, a HAR file, or'
    " raw HTTP"
)


def _from_json(data: bytes) -> list[Capture]:
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise BadCapture(f"it begins like JSON, but is none: {_AS_JSON}") from None
    if isinstance(value, dict) and isinstance(value.get("log"), dict):
        return _from_har(value["log"].get("entries"))
    if not isinstance(value, dict) or not ("headers" in value or "http_signature" in value):
        raise BadCapture(
            f"it is JSON without headers: give them with --headers FILE, or {_AS_JSON}"
        )
    return [_of_object(value)]


def _of_object(value: dict[str, Any]) -> Capture:
    """Our own form, AWS Lambda's event, or a line of an nginx log that holds $http_signature."""
    target = _text(value, "target", "path", "url", "rawPath", "request_uri", "requestUri")
    target = _without_origin(target)
    query = _text(value, "query", "rawQueryString")
    if query and "?" not in target:
        target = f"{target}?{query}"
    body = _text(value, "body", "request_body").encode("utf-8", "surrogatepass")
    encoded = value.get("bodyBase64")
    if isinstance(encoded, str) or value.get("isBase64Encoded") is True:
        body = _decoded(encoded if isinstance(encoded, str) else _text(value, "body"))
    method, status = _text(value, "method", "httpMethod", "request_method"), value.get("status")
    return Capture(
        method=method,
        target=target,
        status=status if isinstance(status, int) and not method else None,
        headers=tuple(_json_headers(value)),
        body=body,
    )


def _json_headers(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """As an object, as a list of names and values, or each by itself as nginx' $http_..."""
    listed = value.get("headers", {})
    pairs = listed.items() if isinstance(listed, dict) else map(_pair, _list(listed))
    for name, found in pairs:
        for each in found if isinstance(found, list) else [found]:
            if not isinstance(name, str) or not isinstance(each, str):
                raise BadCapture("its headers must be names and texts")
            yield _plain_name(name), each
    for name, found in value.items():
        if name.startswith("http_") and isinstance(found, str):
            yield _plain_name(name), found


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise BadCapture("its headers must be an object or a list")
    return value


def _pair(entry: object) -> tuple[Any, Any]:
    if isinstance(entry, dict):
        return entry.get("name"), entry.get("value")
    if isinstance(entry, list) and len(entry) == 2:
        return entry[0], entry[1]
    raise BadCapture("each header must have a name and a value")


def _text(value: dict[str, Any], *names: str) -> str:
    """The first of these that is there."""
    for name in names:
        found = value.get(name)
        if found is not None:
            if not isinstance(found, str):
                raise BadCapture(f"{name} must be a text: the bytes as they were, not parsed JSON")
            return found
    return ""


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadCapture("its body is said to be base64, but is none") from None


# HAR


def _from_har(entries: object) -> list[Capture]:
    """The first exchange in which something is signed."""
    for entry in _list(entries):
        captures = _exchange(entry) if isinstance(entry, dict) else []
        if any(capture.values("signature") for capture in captures):
            return captures
    raise BadCapture("no message in this HAR has a Signature header")


def _exchange(entry: dict[str, Any]) -> list[Capture]:
    request, response = entry.get("request"), entry.get("response")
    if not isinstance(request, dict) or not isinstance(response, dict):
        return []
    url = urlsplit(_text(request, "url"))
    target = url.path + (f"?{url.query}" if url.query else "")
    asked = Capture(
        method=_text(request, "method"),
        target=target,
        headers=tuple(_json_headers(request)),
        body=_har_body(request.get("postData")),
    )
    status = response.get("status")
    answered = Capture(
        target=target,
        status=status if isinstance(status, int) else 0,
        headers=tuple(_json_headers(response)),
        body=_har_body(response.get("content")),
    )
    return [asked, answered]


def _har_body(content: object) -> bytes:
    if not isinstance(content, dict):
        return b""
    text = _text(content, "text")
    if content.get("encoding") == "base64":
        return _decoded(text)
    return text.encode("utf-8", "surrogatepass")
