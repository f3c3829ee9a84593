"""Take up again what was set aside: commands, notifications, and what nobody took.

Each line is taken up by one script: killed between two, nothing is lost and nothing is there twice.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from redis.asyncio import Redis

from jobs.model import Ms
from jobs.news import Notification, OtherKind, Unusable
from worker import messages
from worker.commands import BadCommand, judged_later, open_entry, read_command, written_at
from worker.deliveries import Damaged, Kind, parse_lane, read, write
from worker.keys import Keys
from worker.replies import now_of, text_of
from worker.scripts import Confirm, Scripts
from worker.store import write_mail
from worker.strict_json import Unreadable

PAGE = 500

Fields = Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which lines to take up."""

    ids: Sequence[str] = ()  #: of entries; empty: every one that the rest lets through
    since: Ms = 0  #: set aside at this time or later
    reason: str = ""  #: set aside for this reason; empty: for any
    limit: int | None = None  #: how many at most, the oldest first; None: all

    def takes(self, entry_id: str, reason: str) -> bool:
        return (
            (not self.ids or entry_id in self.ids)
            and _ms_of(entry_id) >= self.since
            and self.reason in ("", reason)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one line, or would."""

    id: str
    paymentRequestId: str
    reason: str  #: why it was set aside
    done: bool
    result: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One run over a stream of what was set aside."""

    redis: Redis
    keys: Keys
    accounts: Collection[str]
    confirm: Confirm | None = None
    dry_run: bool = False

    async def commands(
        self, choice: Choice, type_: str | None = None, data: str | None = None
    ) -> list[Row]:
        """Dead commands, each as it is or with another `type_` or `data`."""
        dead = self._chosen(self.keys.dead, choice, lambda f: _text(f, "error").partition(":")[0])
        return [
            await self._command(entry_id, _mended(fields, type_, data), reason)
            async for entry_id, fields, reason in dead
        ]

    async def _command(self, entry_id: str, fields: dict[str, bytes], reason: str) -> Row:
        at = written_at(entry_id, fields)
        try:
            type_, data = open_entry(fields)
            command = read_command(type_, data, entry_id, at, self.accounts, judged_later)
        except BadCommand as bad:
            refused = f"left: it would be refused again: {bad.message}"
            return _row(entry_id, bad.payment_request_id, reason, refused, done=False)
        name = command.payment_request_id
        if self.dry_run:
            return _row(entry_id, name, reason, f"would be written again: {type_}")
        flat = [part for field in fields.items() for part in field]
        new = await self._run("replay", [self.keys.dead, self.keys.commands], [entry_id, *flat])
        return _row(entry_id, name, reason, f"written again as {new}" if new else _GONE, bool(new))

    async def quarantine(self, choice: Choice) -> list[Row]:
        """Notifications that can be understood now, or whose payment is tracked now."""
        odd = self._chosen(self.keys.quarantine, choice, lambda f: _text(f, "reason"))
        return [await self._notification(*each) async for each in odd]

    async def _notification(self, entry_id: str, fields: Fields, reason: str) -> Row:
        client_id, name = _text(fields, "clientId"), _text(fields, "paymentRequestId")
        found = _mail(client_id, name, entry_id, fields)
        if found.why_not:
            return _row(entry_id, name, reason, f"left: {found.why_not}", done=False)
        k, key = self.keys, f"{client_id}:{found.payment_request_id}"
        if self.dry_run:
            would = "applied" if await self.redis.exists(k.payment(key)) else "parked"
            if would == "parked" and not found.parks:
                return _row(entry_id, name, reason, _UNTRACKED, done=False)
            return _row(entry_id, found.payment_request_id, reason, f"would be {would}")
        names = [k.quarantine, k.payment(key), k.inbox(key), k.open, k.parked, k.queue]
        args = [entry_id, key, k.prefix, found.mail, "1" if found.parks else "0"]
        result = _RESULTS[await self._run("requeue", names, args)]
        done = result not in (_GONE, _UNTRACKED)
        return _row(entry_id, found.payment_request_id, reason, result, done)

    async def deliveries(self, choice: Choice, kind: Kind) -> list[Row]:
        """Dead callbacks, or notifications that were to be passed on.

        Each is in its lane again, before all that came later, with all its tries.
        """

        def reason_of(fields: Fields) -> str | None:
            return _text(fields, "fault") if _text(fields, "lane").startswith(f"{kind}:") else None

        dead = self._chosen(self.keys.dead_deliveries, choice, reason_of)
        return [await self._delivery(*each) async for each in dead]

    async def _delivery(self, entry_id: str, fields: Fields, reason: str) -> Row:
        lane, name = _text(fields, "lane"), _text(fields, "paymentRequestId")
        try:
            _, client_id, _ = parse_lane(lane)
            found = read(text_of(fields.get("entry", b"")))
        except (Damaged, UnicodeDecodeError) as fault:
            return _row(entry_id, name, reason, f"left: {fault}", done=False)
        if client_id not in self.accounts:
            other = f"left: it is of the account {client_id}: give its --client-id"
            return _row(entry_id, name, reason, other, done=False)
        if self.dry_run:
            return _row(entry_id, name, reason, f"would be sent again: {found.id}")
        k = self.keys
        names = [k.dead_deliveries, k.deliveries, k.delivery(lane)]
        args = [entry_id, lane, write(replace(found, tries=0)), found.seq]
        again = await Scripts(self.redis).run("redeliver", names, args, self.confirm)
        done = bool(again[1])
        return _row(entry_id, name, reason, f"sent again: {found.id}" if done else _GONE, done)

    async def _chosen(
        self, stream: str, choice: Choice, reason_of: Callable[[Fields], str | None]
    ) -> AsyncIterator[tuple[str, dict[str, bytes], str]]:
        """The lines to take up, each with why it was set aside; None: it is none of them."""
        taken = 0
        async for entry_id, fields in _entries(self.redis, stream, choice.ids):
            if taken == choice.limit:
                return
            reason = reason_of(fields)
            if reason is not None and choice.takes(entry_id, reason):
                taken += 1
                yield entry_id, fields, reason

    async def _run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> str:
        answer = await Scripts(self.redis).run(name, keys, args, self.confirm)
        return text_of(answer[1])


_GONE = "left: it is not there any more"
_UNTRACKED = "left: its payment is not tracked; track it first"
_RESULTS = {
    "accepted": "applied: it lies in the payment's inbox",
    "parked": "parked until its payment is tracked",
    "untracked": _UNTRACKED,
    "gone": _GONE,
}


# Commands


#: What the dead stream adds to a command; `origin_id` stays, as it tells when it was written first.
_ADDED = ("error", "deliveries")


def _mended(fields: Fields, type_: str | None, data: str | None) -> dict[str, bytes]:
    given = {"type": type_, "data": data}
    replaced = {*_ADDED, "ce_type"} if type_ is not None else {*_ADDED}
    kept = {name: value for name, value in fields.items() if name not in replaced}
    return kept | {name: text.encode() for name, text in given.items() if text is not None}


# Notifications


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mail:
    mail: str = ""
    payment_request_id: str = ""
    parks: bool = False  #: whether it is worth keeping for a payment that nobody tracks
    why_not: str = ""


def _mail(client_id: str, name: str, entry_id: str, fields: Fields) -> _Mail:
    """A quarantined message as it may lie in an inbox. Only its body was kept, not its time: what
    was not understood at first makes us ask, and proves nothing by itself."""
    if "message" in fields:  # of a payment that nobody tracked; it stands there as it came
        return _Mail(mail=_text(fields, "message"), payment_request_id=name)
    at, body = _ms_of(entry_id), fields.get("body", b"")
    try:
        said = messages.parse_notification(body, None, at, client_id)
    except Unreadable as fault:
        return _Mail(why_not=f"it cannot be understood: {fault.why}")
    match said:
        case Unusable():
            return _Mail(why_not=f"it cannot be understood: {said.why}")
        case OtherKind():
            return _Mail(why_not=f"it is a {said.kind}, which is not about how a payment ends")
        case Notification():
            mail = write_mail(at, "", body)
            return _Mail(mail=mail, payment_request_id=said.payment_request_id, parks=True)


# Streams


async def _entries(
    redis: Redis, stream: str, ids: Sequence[str]
) -> AsyncIterator[tuple[str, dict[str, bytes]]]:
    """The entries of a stream, or those named, the oldest first, a page at a time.

    Only those that are there by now: a command that dies again is not met again in the same run.
    """
    now = str(await now_of(redis))
    for first, last in [(id_, id_) for id_ in ids] or [("-", now)]:
        while page := await redis.xrange(stream, first, last, count=PAGE):
            for raw_id, raw in page:
                fields = {text_of(name, "replace"): value for name, value in raw.items()}
                yield text_of(raw_id), fields
            if ids:
                break
            first = f"({text_of(page[-1][0])}"


def _row(entry_id: str, name: str, reason: str, result: str, done: bool = True) -> Row:
    return Row(id=entry_id, paymentRequestId=name, reason=reason, done=done, result=result)


def _text(fields: Fields, name: str) -> str:
    return text_of(fields.get(name, b""), "replace")


def _ms_of(entry_id: str) -> Ms:
    return int(entry_id.partition("-")[0])
