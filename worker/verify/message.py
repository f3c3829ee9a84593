"""What is looked at: a message as it was captured, the keys that are known, and the signed string.

Nothing here is trusted, and nothing is refused: that is for `worker.signature` to do.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


class Kind(StrEnum):
    """Who signed a message, and which of its headers holds the time."""

    NOTIFICATION = "notification"
    ANSWER = "answer"
    REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """One message as somebody wrote it down; header names in small letters."""

    method: str = ""  #: empty for an answer, or where nothing says
    target: str = ""  #: path and query as on the request line; of an answer, of its request
    status: int | None = None  #: of an answer
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)
    notes: tuple[str, ...] = ()  #: what was done to read it

    def values(self, name: str) -> list[str]:
        """Of the header `name`, in small letters."""
        return [value for found, value in self.headers if found == name]

    def first(self, name: str) -> str:
        return next(iter(self.values(name)), "")


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key, and whose it is."""

    owner: str  #: `gateway`, `ours`, or `other`: of either for another account
    version: int
    key: "RSAPublicKey" = field(repr=False)
    account: str = ""

    @property
    def label(self) -> str:
        whose = {"gateway": "the gateway's key", "ours": "our own key"}
        return f"{whose.get(self.owner, f'the key of {self.account}')}, version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A message, and what is known of how it should be."""

    kind: Kind
    capture: Capture
    client_id: str  #: whom it must name
    paths: tuple[str, ...]  #: what may have been signed, the likeliest first
    keys: tuple[KnownKey, ...]
    configured: tuple[str, ...] = ()  #: paths that the settings name

    @property
    def signer(self) -> str:
        return "ours" if self.kind is Kind.REQUEST else "gateway"

    @property
    def signers(self) -> "Mapping[int, RSAPublicKey]":
        """The keys that may have signed it, by version."""
        return {known.version: known.key for known in self.keys if known.owner == self.signer}

    @property
    def time_header(self) -> str:
        return "response-time" if self.kind is Kind.ANSWER else "request-time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a signed string is made of, and how it is joined: a rule of `worker.verify.strings`."""

    path: str
    client_id: str
    time: str
    body: bytes = field(repr=False)
    method: str = "POST"
    rule: str = ""  #: empty: the right one

    def head(self) -> bytes:
        """All that stands before the body, by the right rule."""
        return encoded(f"{self.method} {self.path}\n{self.client_id}.{self.time}.")


def parts_of(case: Case) -> Parts:
    """As the message says, on the likeliest path."""
    capture = case.capture
    return Parts(
        path=case.paths[0],
        client_id=capture.first("client-id"),
        time=capture.first(case.time_header),
        body=capture.body,
    )


def encoded(text: str) -> bytes:
    """Headers are read with surrogates for bytes that are no UTF-8: here they are bytes again."""
    return text.encode("utf-8", "surrogateescape")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
