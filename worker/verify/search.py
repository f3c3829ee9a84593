"""What a signature was really made over: the message with one mistake undone, or two.

The digest inside the signature says when it is found; then the signature is verified over it.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from worker.verify import bodies, headers, paths
from worker.verify.message import Case, Parts, parts_of
from worker.verify.rewritten import differences, reordered
from worker.verify.signatures import Opened
from worker.verify.strings import RULES, content

MAX_HASHED = 768 * 1024 * 1024  #: bytes: some seconds; only bodies far from real ones reach it
METHODS = ("post", "Post", "GET", "PUT", "get", "")


@dataclass(frozen=True, slots=True)
class Change:
    """One part of the message set to what may have been signed."""

    mistakes: tuple[str, ...]
    slot: str  #: a field of `Parts`
    value: Any


@dataclass(frozen=True, slots=True)
class Origin:
    """What was signed, and the mistakes that made of it what was captured."""

    mistakes: tuple[str, ...]
    parts: Parts


class Exhausted(Exception):
    """More was to be tried than is worth the while."""


def origin(case: Case, found: Opened) -> Origin | None:
    """What the signature was made over, if that can be found."""
    base = parts_of(case)
    target = _Target(found)
    try:
        for changes, bodies_ in _trials(case, base):
            parts = replace(base, **{change.slot: change.value for change in changes})
            body = target.sought(parts, bodies_)
            if body is not None:
                signed = replace(parts, body=body.value)
                mistakes = [name for change in (*changes, body) for name in change.mistakes]
                return Origin(tuple(_exactly(mistakes, signed, base)), signed)
    except Exhausted:
        return None
    return None


class _Target:
    """The digest that is looked for."""

    def __init__(self, found: Opened) -> None:
        self._digest = found.digest
        self._new = partial(hashlib.new, found.hash, usedforsecurity=False)
        self._left = MAX_HASHED

    def sought(self, parts: Parts, changes: Iterable[Change]) -> Change | None:
        """The body with which these parts have the digest. What stands before it is hashed once."""
        head = None if parts.rule else self._new(parts.head())
        for change in changes:
            self._left -= len(change.value)
            if self._left < 0:
                raise Exhausted
            if head is None:
                hashed = self._new(content(replace(parts, body=change.value)))
            else:
                hashed = head.copy()
                hashed.update(change.value)
            if hashed.digest() == self._digest:
                return change
        return None


Trial = tuple[tuple[Change, ...], Iterable[Change]]


def _trials(case: Case, base: Parts) -> Iterator[Trial]:
    """What is tried, the simplest first: changes of the other parts, and bodies for them."""
    same = [Change((), "body", base.body)]
    around = list(_around(case, base))
    body = list(_bodies(bodies.candidates(base.body)))
    yield (), same
    yield from (((change,), same) for change in around)
    yield (), body
    yield from (((each,), same) for each in _changes("time", headers.moments(base.time)))
    yield from (((change,), body) for change in around)
    pairs = itertools.combinations(around, 2)
    yield from ((pair, same) for pair in pairs if pair[0].slot != pair[1].slot)
    yield (), _bodies(bodies.twice(base.body))
    yield (), _bodies((bodies.REWRITTEN, each) for each in reordered(base.body))


def _bodies(found: Iterable[tuple[tuple[str, ...], bytes]]) -> Iterator[Change]:
    return (Change(mistakes, "body", value) for mistakes, value in found)


def _around(case: Case, base: Parts) -> Iterator[Change]:
    """All changes but those of the body."""
    seen = {("path", base.path), ("client_id", base.client_id), ("time", base.time)}
    rules = ((mistake, name) for name, (mistake, _) in RULES.items() if name)
    for change in itertools.chain(
        _changes("path", paths.candidates(case, base.path)),
        _changes("client_id", headers.client_ids(case, base.client_id)),
        _changes("time", headers.times(case, base.time)),
        _changes("method", (("string.method", method) for method in METHODS)),
        _changes("rule", rules),
    ):
        if (change.slot, change.value) not in seen:
            seen.add((change.slot, change.value))
            yield change


def _changes(slot: str, found: Iterable[tuple[str, str]]) -> Iterator[Change]:
    return (Change((mistake,), slot, value) for mistake, value in found)


def _exactly(mistakes: Iterable[str], signed: Parts, base: Parts) -> Iterator[str]:
    """The same, with `body.rewritten` replaced by what differs in the writing."""
    for name in mistakes:
        yield from differences(base.body, signed.body) if name == "body.rewritten" else (name,)
