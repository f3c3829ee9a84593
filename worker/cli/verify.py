"""The command that says why a captured message does not verify."""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from worker.cli.base import (
    BAD_SETTINGS,
    CHECK_FAILED,
    FAILURE,
    OK,
    USAGE,
    Commands,
    Fault,
    add,
    show,
    source_of,
    why_unreadable,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from worker.settings import Settings
    from worker.verify import Capture, Case

HELP = "Say why the signature of a captured message does not verify."


def add_to(commands: Commands) -> None:
    verify = add(commands, "verify", _verify, HELP)
    verify.add_argument(
        "file", nargs="?", help="raw HTTP, output of curl -v, JSON or HAR; - or none: stdin"
    )
    verify.add_argument(
        "--headers", metavar="FILE", help="headers alone, with or without request line"
    )
    verify.add_argument("--body", metavar="FILE", help="the body alone, to the byte; - is stdin")
    verify.add_argument(
        "--as",
        dest="kind",
        choices=["notification", "answer", "request"],
        help="a request is one of ours, an answer the gateway's; default: by its look",
    )
    verify.add_argument(
        "--path",
        action="append",
        default=[],
        help="what the gateway called, with its query; of an answer, what was called",
    )
    verify.add_argument(
        "--public-key",
        action="append",
        default=[],
        metavar="[VERSION=]KEY",
        help="of whoever signed: base64, or a file; default: the settings' keys",
    )
    verify.add_argument("--client-id", help="whom it must name; default ALIPAY_CLIENT_ID")
    verify.add_argument("--string", metavar="FILE", help="write the verified string there")
    verify.add_argument("--json", action="store_true")


def _verify(args: argparse.Namespace) -> int:
    """The message is shown to whoever asks, on stdout; it is neither logged nor kept."""
    from worker.verify import examine
    from worker.verify.telling import string_of, to_json, to_text

    report = examine(_case(args, _captures(args)))
    if args.string:
        _write(Path(args.string), string_of(report))
    show(to_json(report) if args.json else None, args.json, to_text(report))
    return OK if report.verifies else CHECK_FAILED


def _case(args: argparse.Namespace, captures: "list[Capture]") -> "Case":
    from worker.verify import Kind
    from worker.verify.case import NoKey, Said, case_of

    said = Said(
        kind=Kind(args.kind) if args.kind else None,
        client_id=args.client_id or "",
        paths=tuple(args.path),
        keys=_keys(args.public_key),
    )
    settings, faults = _settings(args)
    try:
        return case_of(captures, said, settings)
    except NoKey as fault:
        why = "".join(f"\n  - {each}" for each in faults if "_KEY" in each)
        raise Fault(BAD_SETTINGS, f"{fault}{why}") from None


def _settings(args: argparse.Namespace) -> "tuple[Settings, list[str]]":
    """As far as they can be read: this command needs keys and paths, and no Redis."""
    from worker.environment import Need

    return source_of(args, Need.NOTIFICATIONS | Need.GATEWAY).survey()


# What is given


def _captures(args: argparse.Namespace) -> "list[Capture]":
    from worker.verify import BadCapture, read_capture, with_parts

    parts = args.headers, args.body
    if args.file and any(parts):
        raise Fault(USAGE, "give one FILE with the whole message, or --headers and --body")
    if parts == ("-", "-"):
        raise Fault(USAGE, "only one of --headers and --body can be stdin")
    try:
        if any(parts):
            return with_parts(*(_read(name) if name else None for name in parts))
        return read_capture(_read(args.file or "-"))
    except BadCapture as fault:
        raise Fault(USAGE, f"the capture cannot be read: {fault}") from None


def _read(name: str) -> bytes:
    """A file's bytes, or stdin's; no more than can be a message, and one."""
    from worker.verify.capture import MAX_CAPTURE

    if name == "-":
        if sys.stdin.isatty():
            print("reconciler: paste the message, then Ctrl-D", file=sys.stderr)
        return sys.stdin.buffer.read(MAX_CAPTURE + 1)
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_CAPTURE + 1)
    except (OSError, ValueError) as fault:
        raise Fault(USAGE, f"{name} cannot be read: {why_unreadable(fault)}") from None


def _keys(given: list[str]) -> "dict[int | None, RSAPublicKey]":
    keys: dict[int | None, RSAPublicKey] = {}
    for text in given:
        for version, key in _key(text):
            if version in keys:
                raise Fault(USAGE, "--public-key: two keys of one version: write VERSION=KEY")
            keys[version] = key
    return keys


def _key(text: str) -> "list[tuple[int | None, RSAPublicKey]]":
    """A key, a file that holds one, or either with its version; a file may hold several pairs."""
    from worker import values
    from worker.signature import BadKey, load_public_key

    version, rest = re.fullmatch(r"(?:([0-9]{1,9})=)?(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    found = _of_file(rest)
    try:
        if version is not None:
            return [(int(version), load_public_key(found))]
        if re.match(r"\s*[0-9]{1,9}=", found):
            return [*values.public_keys(found).items()]
        return [(None, load_public_key(found))]
    except (BadKey, ValueError) as fault:
        raise Fault(USAGE, f"--public-key: {fault}") from None


def _of_file(text: str) -> str:
    """The text of the file of this name, if there is one; else the text itself."""
    try:
        path = Path(text)
        return path.read_text("utf-8") if path.is_file() else text
    except (OSError, ValueError) as fault:
        why = why_unreadable(fault)
        raise Fault(USAGE, f"--public-key: the file cannot be read: {why}") from None


def _write(path: Path, data: bytes) -> None:
    """For its owner alone: a signed string holds a payment."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
    except (OSError, ValueError) as fault:
        raise Fault(FAILURE, f"{path}: {why_unreadable(fault)}") from None
