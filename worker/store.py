"""The truth, in Redis: records, open set, timelines, inboxes, events.

Each change is one Lua script, so that any line of ours may be the last: what belongs together is
written together or not at all. A record is saved only over the version that was read.
"""

import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from jobs.deliveries import Fate
from jobs.model import (
    FINAL,
    SCHEMA,
    Act,
    Aftercare,
    Cause,
    Decision,
    Event,
    Ms,
    Payment,
    Rejected,
    Status,
)
from jobs.news import Message, Unusable
from jobs.outcome import outcome, rejection
from jobs.schedule import DAY, HOUR
from jobs.tools import LEASE, Entry, Loaded, Stuck
from worker import deliveries, messages, records, times, views
from worker.deliveries import Delivery
from worker.keys import Keys
from worker.logs import log
from worker.replies import text_of
from worker.scripts import Confirm, Scripts

HEARD_TTL: Ms = 26 * HOUR  #: the gateway resends for 24 h 22 min
SWEEP_GRACE: Ms = 500  #: a job due for less than this may be about to start
SWEEP_PAGE = 500
LOOKED_AT = 500  #: lanes, at either end
STUCK_AT_ONCE = 100  #: lines about stuck payments in one round
HISTORY_LINES = 20
MAX_LISTED = 10  #: names in one log line
MAX_SHOWN = 200  #: characters of a name

_NEVER = "never"
_CALLS = (Act.PAY, Act.CANCEL)  #: written before they are made, so they need the lease to last


class Store:
    """Implements `jobs.tools.Store`, and what the receiver and the commands need besides."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        confirm: Confirm | None = None,
        retention: Ms = 35 * DAY,
    ) -> None:
        self.redis = redis
        self.keys = keys
        self._scripts = Scripts(redis)
        self.confirm = confirm
        self._retention = retention
        self._redis_ahead = time.time() * 1000 - time.monotonic() * 1000
        self._at_most_ahead = self._redis_ahead

    def now(self) -> Ms:
        """Redis time as of its last answer, carried on by our monotonic clock."""
        return round(time.monotonic() * 1000 + self._redis_ahead)

    def latest(self) -> Ms:
        """The same, counted from when that answer was asked for: whoever was frozen before he read
        it learns here how long."""
        return round(time.monotonic() * 1000 + self._at_most_ahead)

    async def run(
        self, name: str, keys: Sequence[str], args: Sequence[Any], safe: bool = False
    ) -> list[Any]:
        """The answer of a script, when it is `safe`."""
        asked_at = time.monotonic() * 1000
        answer = await self._scripts.run(name, keys, args, self.confirm if safe else None)
        self._redis_ahead = int(answer[0]) - time.monotonic() * 1000
        self._at_most_ahead = int(answer[0]) - asked_at
        return answer

    async def end(self) -> None:
        """Give up what is on its way to Redis."""
        await self._scripts.end()

    # What jobs need

    async def claim(self, key: str) -> Loaded | None:
        return await self._load(key, str(LEASE))

    async def load(self, key: str) -> Loaded | None:
        return await self._load(key, "")

    async def _load(self, key: str, lease: str) -> Loaded | None:
        k, client_id = self.keys, key.partition(":")[0]
        names = [k.payment(key), k.inbox(key), k.open, k.brake, k.queue]
        args = [key, client_id, lease, SCHEMA, k.prefix]
        _, flat, inbox, misses, late = await self.run("claim", names, args)
        if not flat:
            if misses < 0:
                _report_missing([key])
            return None
        payment = records.read(key, flat)
        mail = tuple(read_mail(client_id, payment.payment_request_id, raw) for raw in inbox)
        return Loaded(payment=payment, inbox=mail, misses=int(misses), late=int(late))

    async def save(
        self,
        loaded: Loaded,
        decision: Decision,
        entries: Sequence[Entry],
        *,
        heard: int = 0,
        brake: int = 0,
    ) -> Payment | None:
        before, after = loaded.payment, decision.payment
        missed = _missed(before, after)
        write = self._write(before.version, decision, entries, holds=heard > 0)
        write |= {
            "heard": heard,
            "left": len(loaded.inbox) - heard if heard else 0,
            "found": after.found and not before.found and loaded.misses > 0,
            "missed": missed,
            "brake": brake if missed and after.status is Status.CANCELLING else 0,
        }
        # What changes nothing is repeated if it is lost: only news and acts must be safe.
        safe = bool(decision.events or heard or decision.act is not Act.WAIT)
        return await self._save(after, write, safe)

    async def create(self, decision: Decision, entries: Sequence[Entry]) -> Payment | None:
        write = self._write(None, decision, entries)
        write |= {"heard": 0, "left": 0, "found": False, "missed": False, "brake": 0}
        return await self._save(decision.payment, write, True)

    def _write(
        self,
        expect: int | None,
        decision: Decision,
        entries: Sequence[Entry],
        holds: bool = False,
    ) -> dict[str, Any]:
        payment, now = decision.payment, self.now()
        fields = records.to_hash(payment)
        return {
            "id": payment.key,
            "client": payment.client_id,
            "prefix": self.keys.prefix,
            "expect": expect,
            "fields": [text for field in fields.items() for text in field],
            "at": _open_until(decision, now, holds),
            "ttl": self._retention if _may_expire(payment) else 0,
            "alone": decision.act in _CALLS,
            "entries": [_line(entry) for entry in entries],
            "events": [_event_fields(payment, event, now) for event in decision.events],
            "lane": deliveries.callback_lane(payment.key),
            "callbacks": _callbacks(payment, decision.events, now),
        }

    async def _save(self, payment: Payment, write: dict[str, Any], safe: bool) -> Payment | None:
        k, key = self.keys, payment.key
        names = [k.payment(key), k.timeline(key), k.inbox(key), k.open]
        names += [k.outcomes, k.brake, k.parked, k.queue]
        names += [k.deliveries, k.delivery(write["lane"])]
        _, version = await self.run("save", names, [json.dumps(write)], safe)
        return payment.having(version=int(version)) if version else None

    async def erase(self, loaded: Loaded) -> bool:
        k, key = self.keys, loaded.payment.key
        names = [k.payment(key), k.timeline(key), k.open, k.inbox(key), k.parked]
        _, erased = await self.run("erase", names, [key, loaded.payment.version], True)
        return bool(erased)

    async def reject(self, rejected: Rejected) -> None:
        fields = _rejection_fields(rejected, self.now())
        await self.run("append", [self.keys.outcomes], fields, True)

    async def wake_overdue(self) -> int:
        """A page at a time: a long outage leaves many."""
        woken = offset = 0
        while True:
            args = [self.keys.prefix, SWEEP_GRACE, offset, SWEEP_PAGE]
            names = [self.keys.open, self.keys.queue, self.keys.swept]
            _, looked, mended, gone = await self.run("overdue", names, args)
            woken, offset = woken + mended, offset + looked - len(gone)
            if gone:
                _report_missing(gone)
            if looked < SWEEP_PAGE:
                return int(woken)

    async def stuck(self, after: Ms) -> AsyncIterator[Stuck]:
        """At most `STUCK_AT_ONCE`: when everything is stuck, the log must not be flooded."""
        k, offset, most = self.keys, 0, STUCK_AT_ONCE
        while most:
            stems = [k.payment(""), k.timeline("")]
            args = [*stems, after, offset, SWEEP_PAGE, most, HISTORY_LINES]
            _, looked, found = await self.run("stuck", [k.open, k.stuck], args)
            for id_, past_closing, flat, lines in found:
                yield views.stuck(text_of(id_, "replace"), past_closing, flat, lines)
            offset, most = offset + looked, most - len(found)
            if looked < SWEEP_PAGE:
                return

    async def told(self, key: str) -> None:
        await self.run("told", [self.keys.stuck], [key])

    async def unpark(self, key: str, before: Ms) -> int:
        """Quarantine the notifications of a payment never tracked; how many there were."""
        k, (client_id, _, request_id) = self.keys, key.partition(":")
        names = [k.parked, k.inbox(key), k.payment(key), k.quarantine]
        _, moved = await self.run("unpark", names, [key, before, client_id, request_id], True)
        return int(moved)

    # Deliveries

    async def collect(
        self, lease: Ms, most: int, each: int, look: int, groups: Mapping[str, Sequence[int]]
    ) -> tuple[list[tuple[str, str, bytes]], Ms | None]:
        """Lane, group and entry of the deliveries that are due, held for `lease`; and how long
        until the next one is, None if there is none.

        `most` of them, and no more of a group than `each`; `groups` says how many are in hand of
        one, and how many milliseconds one takes.
        """
        k = self.keys
        args = [k.delivery(""), lease, most, each, look, json.dumps(groups)]
        now, taken, first = await self.run("collect", [k.deliveries], args)
        due = [
            (text_of(lane, "replace"), text_of(group, "replace"), raw) for lane, group, raw in taken
        ]
        return due, round(float(first)) - int(now) if first else None

    async def settle(
        self,
        lane: str,
        entry: bytes,
        fate: Fate,
        fault: str,
        tries: int,
        again: tuple[Ms, str | bytes] | None = None,
    ) -> tuple[bool, list[str]]:
        """Whether it was still there to be settled, and the ids of what is dead now.

        `again`: how long until the next try, and the entry as it is then.
        """
        k = self.keys
        names = [k.deliveries, k.delivery(lane), k.dead_deliveries]
        args = [lane, entry, fate.value, fault, tries, *(again or ())]
        _, settled, buried = await self.run("settle", names, args)
        return bool(settled), [text_of(id_, "replace") for id_ in buried]

    async def waiting(self) -> tuple[int, Ms | None]:
        """How many lanes have something to send, and how long the oldest of it waits."""
        k = self.keys
        _, lanes, oldest = await self.run("waiting", [k.deliveries], [k.delivery(""), LOOKED_AT])
        return int(lanes), int(oldest) if oldest >= 0 else None

    # What the receiver needs

    async def receive(
        self,
        key: str,
        mail: str,
        digest: str,
        *,
        parks: bool,
        quarantine: tuple[str, bytes] | None,
        forward: Delivery | None = None,
    ) -> str:
        """Keep a verified notification, safely; `accepted`, `parked`, `duplicate` or `untracked`.

        `quarantine` is the reason and the raw body of one that could not be understood; `forward`
        is what is passed on to the merchant's own receiver, once.
        """
        k, (client_id, _, payment_request_id) = self.keys, key.partition(":")
        lane = deliveries.forward_lane(client_id, digest) if forward else ""
        heard = k.heard(key if payment_request_id else f"{client_id}:/{digest}")
        names = [k.payment(key), k.inbox(key), k.open, k.parked, heard, k.queue]
        names += [k.quarantine, k.deliveries, k.delivery(lane)]
        args: list[Any] = [key, k.prefix, mail, digest, HEARD_TTL, "1" if parks else "0"]
        args += [lane, deliveries.write(forward) if forward else ""]
        if quarantine is not None:
            args += [client_id, payment_request_id, *quarantine]
        answer = await self.run("receive", names, args, True)
        return text_of(answer[1])

    async def quarantine(
        self, client_id: str, reason: str, body: bytes, forward: Delivery | None = None
    ) -> str:
        """Keep a verified message that names no payment, safely, and once however often it comes.

        Who has caught one could fill Redis with it otherwise.
        """
        no_payment = f"{client_id}:"
        kept = (reason, body)
        more: dict[str, Any] = {"parks": False, "quarantine": kept, "forward": forward}
        return await self.receive(no_payment, "", digest(body), **more)


# Mail: a verified notification in an inbox


def digest(body: bytes) -> str:
    """By which a notification is known again."""
    return hashlib.sha256(body).hexdigest()


def short_digest(body: bytes) -> str:
    """The same, as long as a person needs it to follow one from the receiver to the worker."""
    return digest(body)[:16]


def write_mail(received_at: Ms, time_: str, body: bytes) -> str:
    """A notification as it waits in an inbox: its raw body and its Request-Time, verbatim."""
    return json.dumps({"v": 1, "at": received_at, "time": time_, "body": body.decode()})


def read_mail(client_id: str, payment_request_id: str, raw: bytes | str) -> Message:
    """The message in an inbox entry; what cannot be understood still makes us ask."""
    try:
        mail = json.loads(raw)
        at = mail["at"]
        if type(at) is not int or not 0 <= at <= times.MAX_TIME:
            raise ValueError("at is no time")
        body = mail["body"].encode()
        message = messages.parse_notification(body, times.parse_time(mail["time"]), at, client_id)
        return replace(message, digest=short_digest(body))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        return Unusable(payment_request_id=payment_request_id, why=str(fault))


# What is not as it should be


def _report_missing(ids: Sequence[bytes | str]) -> None:
    shown = [text_of(id_, "replace")[:MAX_SHOWN] for id_ in ids[:MAX_LISTED]]
    log.error("record.missing", payments=shown, count=len(ids))


# How a decision looks in Redis


def _open_until(decision: Decision, now: Ms, holds: bool) -> str:
    """The score in the open set: the next action, or the end of our lease while we act, or hold the
    payment to hear the rest of its mail and do what is due."""
    payment = decision.payment
    if payment.next_at is None:
        return _NEVER if payment.needs_a_person else ""
    if decision.act in _CALLS or holds:
        return str(max(payment.next_at, now + LEASE))
    return str(payment.next_at)


def _may_expire(payment: Payment) -> bool:
    owed = payment.aftercare in (Aftercare.CANCELLING, Aftercare.REFUND_REQUIRED)
    return payment.status in FINAL and not owed


def _missed(before: Payment, after: Payment) -> bool:
    """Whether a payment reached its closing time and was never found: one more for the brake."""
    if before.status is not Status.PENDING or after.found:
        return False
    return after.cause is Cause.TIMED_OUT or after.reason == "brake"


def _line(entry: Entry) -> str:
    line = {"at": entry.at, "source": entry.source, "what": entry.what, "detail": entry.detail}
    return json.dumps(line)


def _event_fields(payment: Payment, event: Event | Rejected, now: Ms) -> list[str]:
    if isinstance(event, Rejected):
        return _rejection_fields(event, now)
    return _stream_fields(
        outcome(payment, event, now), payment.client_id, payment.payment_request_id
    )


def _callbacks(payment: Payment, events: Sequence[Event | Rejected], now: Ms) -> list[str]:
    """What the payment's own callback is told: its events, as they stand in the stream. Commands
    that are not carried out are answered in the stream alone, as some belong to no payment."""
    told = [event for event in events if isinstance(event, Event)] if payment.callback_url else ()
    return [
        deliveries.write(
            Delivery(
                id=f"{payment.key}:{event.name}",
                at=now,
                about=payment.payment_request_id,
                body=_json(outcome(payment, event, now)).encode(),
                seq=event.seq,
                url=payment.callback_url,
            )
        )
        for event in told
    ]


def _rejection_fields(rejected: Rejected, now: Ms) -> list[str]:
    return _stream_fields(rejection(rejected, now), rejected.client_id, rejected.payment_request_id)


def _stream_fields(event: dict[str, Any], client_id: str, payment_request_id: str) -> list[str]:
    fields = {
        "id": event["id"],
        "type": event["type"],
        "clientId": client_id,
        "paymentRequestId": payment_request_id,
        "data": _json(event),
    }
    return [text for field in fields.items() for text in field]


def _json(event: dict[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))
