"""The schedules of other systems and of the vendor's pages, as `peers.json` lists them."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from jobs.model import Ms
from jobs.schedule import SECOND

FILE = Path(__file__).parent / "peers.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """When another system asks, in milliseconds after a payment became pending."""

    name: str
    polls: tuple[Ms, ...] = ()
    first: Ms = 0  #: of those that repeat
    every: Ms | None = None
    until: Ms | None = None
    late: Ms = 0  #: each poll is late by up to this
    cuts_off: bool = False  #: it cancels after its last poll, whatever the buyer does
    then: "Peer | None" = None

    def asks(self, key: str) -> Iterator[Ms]:
        """The times at which it asks about one payment."""
        if self.late:
            draw = Random(f"{key}/wake")
            yield from (at + round(self.late * draw.random()) for at in self._planned())
        else:
            yield from self._planned()
        if self.then:
            yield from self.then.asks(key)

    def _planned(self) -> Iterator[Ms]:
        yield from self.polls
        if self.every is not None:
            for at in itertools.count(self.first, self.every):
                if self.until is not None and at > self.until:
                    return
                yield at


def peers() -> dict[str, Peer]:
    """All of them by name."""
    listed = json.loads(FILE.read_text())["schedules"]
    return {name: _peer(name, listed) for name in listed}


def _peer(name: str, listed: Mapping[str, Mapping[str, Any]]) -> Peer:
    given = listed[name]
    every = given.get("every")
    until = given.get("until")
    if "count" in given:
        until = every * given["count"]
    return Peer(
        name=name,
        polls=tuple(at * SECOND for at in given.get("polls", ())),
        first=given.get("polls_from", every or 0) * SECOND,
        every=None if every is None else every * SECOND,
        until=None if until is None else until * SECOND,
        late=round((given.get("tick_max", 0) + given.get("jitter_max", 0)) * SECOND),
        cuts_off=given.get("cuts_off", False),
        then=_peer(given["then"], listed) if "then" in given else None,
    )
