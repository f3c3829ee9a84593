"""What is to be sent over HTTP, as it waits in Redis: outcomes to callbacks, notifications onwards.

Each lies in a lane, and of each lane one is sent at a time. A payment's callbacks share a lane, so
that they arrive in order; each notification has one of its own. It was written in the same step as
what it tells of, and leaves when somebody has taken it, or when the tries are used up.
"""

import base64
import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from jobs.model import Ms

VERSION = 1  #: of an entry; the scripts know it, too


class Kind(StrEnum):
    CALLBACK = "callback"
    FORWARD = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One body to be sent, and how often that was tried."""

    id: str  #: of the event, or a notification's digest
    at: Ms  #: when it was written
    about: str  #: the paymentRequestId; empty where there is none
    body: bytes
    seq: int = 0  #: of the event; orders a lane
    tries: int = 0
    url: str = ""  #: of a callback; where forwards go is a setting
    headers: tuple[tuple[str, str], ...] = ()  #: of a forward, as they came

    def tried(self) -> "Delivery":
        return replace(self, tries=self.tries + 1)


class Damaged(ValueError):
    """An entry that nobody of us wrote like this."""


class OtherVersion(Damaged):
    """An entry of another version of this software: it is left for that."""


def callback_lane(key: str) -> str:
    """The lane of the payment `key`."""
    return f"{Kind.CALLBACK}:{key}"


def forward_lane(client_id: str, digest: str) -> str:
    return f"{Kind.FORWARD}:{client_id}:{digest}"


def parse_lane(lane: str) -> tuple[Kind, str, str]:
    """Kind, client id, and what follows; `Damaged` for a name that is no lane's."""
    kind, _, rest = lane.partition(":")
    client_id, _, name = rest.partition(":")
    if kind not in tuple(Kind) or not client_id:
        raise Damaged("no lane has this name")
    return Kind(kind), client_id, name


def write(delivery: Delivery) -> str:
    """As it waits. The scripts find `at` and `seq` at its beginning, and read `url`."""
    said: dict[str, Any] = {"v": VERSION, "at": delivery.at, "seq": delivery.seq, "id": delivery.id}
    said |= {"about": delivery.about, "tries": delivery.tries}
    if delivery.url:
        said["url"] = delivery.url
    if delivery.headers:
        said["headers"] = delivery.headers
    try:
        said["body"] = delivery.body.decode()
    except UnicodeDecodeError:
        said["raw"] = base64.b64encode(delivery.body).decode()
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def read(text: str) -> Delivery:
    """The delivery in an entry, or `Damaged`."""
    try:
        said = json.loads(text)
        if said["v"] != VERSION:
            raise OtherVersion("another version wrote it")
        raw = said.get("raw")
        return Delivery(
            id=str(said["id"]),
            at=int(said["at"]),
            about=str(said["about"]),
            body=said["body"].encode() if raw is None else base64.b64decode(raw, validate=True),
            seq=int(said["seq"]),
            tries=int(said["tries"]),
            url=str(said.get("url", "")),
            headers=tuple((str(name), str(value)) for name, value in said.get("headers", ())),
        )
    except OtherVersion:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise Damaged(f"it cannot be read: {type(fault).__name__}") from None
