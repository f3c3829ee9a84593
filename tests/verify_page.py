"""The captures and outputs that docs/verify.md shows: real ones, and its list of mistakes.

`python -m tests.verify_page --write` writes them into the page.
"""

import contextlib
import io
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.keys import CLIENT_ID, key_text, vector
from worker import cli
from worker.settings import Settings, Source
from worker.verify.mistakes import MISTAKES, RAW_BODY, SEND_WHAT_YOU_SIGN, Mistake

PAGE = Path(__file__).parent.parent / "docs/verify.md"
LIST = "## Every mistake\n"
EXAMPLE = re.compile(r"^```console\n\$ (reconciler verify [^\n]*)\n(.*?)^```$", re.M | re.S)
SECTIONS = {
    "body": "The body",
    "path": "The path",
    "client": "The client id",
    "time": "The time",
    "string": "The string",
    "signature": "The Signature header",
    "key": "The key",
    "header": "Headers",
    "answer": "Answers",
    "message": "The message",
}


def settings_of(**environ: str) -> Settings:
    """The settings as far as these variables give them."""
    settings, _ = Source(environ=environ).survey()
    return settings


def write_captures(folder: Path) -> None:
    """What stands in the files of the examples."""
    notified, altered, asked = vector("N02"), vector("I01"), vector("V06")
    indented = json.dumps(json.loads(notified["body"]), ensure_ascii=False, indent=2)
    spaced = json.dumps(json.loads(asked["body"]), ensure_ascii=False)
    files = {
        "gateway.txt": key_text("alipay_v1", "public_x509_b64"),
        "ours.txt": key_text("merchant_v1", "public_x509_b64"),
        "notification.txt": _http(notified, "/notify", indented),
        "altered.txt": _http(altered, altered["path"], altered["body"]),
        "answer.txt": _curl(vector("P01")),
        "request.txt": _http(asked, asked["path"], spaced),
    }
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8", newline="")


def _http(message: dict[str, Any], path: str, body: str) -> str:
    lines = [
        f"POST {path} HTTP/1.1",
        "Content-Type: application/json; charset=UTF-8",
        f"Client-Id: {CLIENT_ID}",
        f"Request-Time: {message['time']}",
        f"Signature: {message['signature_header']}",
        f"Content-Length: {len(body.encode())}",
    ]
    return "\r\n".join(lines) + "\r\n\r\n" + body + "\n"


def _curl(message: dict[str, Any]) -> str:
    return (
        "* Connected to gateway.example (192.0.2.1) port 443\n"
        f"> POST {message['path']} HTTP/1.1\r\n> Host: gateway.example\r\n> \r\n"
        "} [58 bytes data]\n"
        "< HTTP/1.1 200 OK\r\n< Content-Type: application/json; charset=UTF-8\r\n"
        f"< client-id: {CLIENT_ID}\r\n< response-time: {message['time']}\r\n"
        f"< signature: {message['signature_header']}\r\n"
        f"< Content-Length: {len(message['body'].encode())}\r\n< \r\n"
        f"{message['body']}\n* Connection #0 to host gateway.example left intact\n"
    )


def output(command: str, folder: Path) -> str:
    """What the command prints when it is typed in `folder`."""
    words = ["--env-file", os.devnull, *shlex.split(command)[1:]]
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as printed:
        cli.main(words)
    return printed.getvalue()


def page(text: str, folder: Path) -> str:
    """The page with the outputs that its commands have, and the list of mistakes."""
    write_captures(folder)
    told = text[: text.index(LIST) + len(LIST)]
    shown = EXAMPLE.sub(
        lambda found: f"```console\n$ {found[1]}\n{output(found[1], folder)}```", told
    )
    return shown + "\n" + "\n".join(_list())


def _list() -> Iterator[str]:
    yield "The names are those that `--json` gives. The list is printed from"
    yield "[`worker/verify/mistakes.py`](../worker/verify/mistakes.py); tests make each of them."
    for group, title in SECTIONS.items():
        yield f"\n### {title}\n\n| name | what happened | mend it |\n|---|---|---|"
        for name, mistake in MISTAKES.items():
            if name.split(".")[0] == group:
                yield f"| `{name}` | {_cell(mistake.what)} | {_fix(mistake)} |"
    yield ""


def _fix(mistake: Mistake) -> str:
    """What is told above is not told again."""
    told = {RAW_BODY: "keep the [raw body](#the-usual-two)", SEND_WHAT_YOU_SIGN: SEND}
    texts = [mistake.fix] + [f"in a request of yours: {mistake.ours}"] * bool(mistake.ours)
    cells = [_cell(text) for text in texts]
    for long, short in told.items():
        cells = [cell.replace(_cell(long), short) for cell in cells]
    return "; ".join(cells)


SEND = "send the [bytes that you signed](#the-usual-two)"


def _cell(text: str) -> str:
    """Text that is no markup."""
    return re.sub(r"([\\|<>*_&])", r"\\\1", text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        told = page(PAGE.read_text("utf-8"), Path(name))
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(told, "utf-8")
    else:
        print(told)
