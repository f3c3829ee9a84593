"""Commands of the merchant: from the stream or as arq jobs, checked here, carried out by `jobs`.

A command that cannot be read goes to the dead stream with the reason, is answered by
`command.rejected`, and holds up no other.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from structlog.contextvars import bound_contextvars

from jobs.commands import carry_out
from jobs.model import Money, Ms, OnTimeout, Rejected
from jobs.news import Ask, Order, Submit, Track
from jobs.schedule import DAY, SECOND
from jobs.tools import Tools, no_callbacks
from worker import submission
from worker.envelope import Envelope, NoEnvelope, unwrap
from worker.groups import make_group
from worker.keys import Keys
from worker.logs import log
from worker.messages import PAYMENT_ID, PAYMENT_REQUEST_ID, parse_amount
from worker.outage import Outage
from worker.records import Damaged, OtherVersions, UnknownSchema
from worker.replies import text_of
from worker.store import Store
from worker.strict_json import Json, Unreadable, parse_object
from worker.times import parse_time

GROUP = "reconciler"
BATCH = 64
READ_BLOCK: Ms = 1000
RETRY_IDLE: Ms = 2 * SECOND  #: a command left unacknowledged is taken up again after this
MOST_AHEAD = 10_000  #: entries with an id of the future that are remembered
MAX_DELIVERIES = 10  #: a command that fails this often fails always: a person must look at it

MAX_AHEAD: Ms = 30 * DAY  #: a closing time further off is a mistake in units
MAX_EXPIRES_IN = 30 * 86_400  #: seconds
MAX_REFERENCE_BYTES = 256
MAX_REASON_CHARS = 256


@dataclass(slots=True)
class BadCommand(Exception):
    """A command that is not carried out; `message` says what to write instead."""

    reason: str  #: malformed, unknown_type or unknown_account
    message: str
    client_id: str = ""
    payment_request_id: str = ""


# Reading


def open_entry(raw: Mapping[Any, Any]) -> Envelope:
    """The command in an entry of the stream, or of that of the dead, still to be read."""
    try:
        return unwrap(_texts_of(raw))
    except NoEnvelope as fault:
        raise BadCommand("malformed", str(fault)) from None


def _texts_of(raw: Mapping[Any, Any]) -> Mapping[str, str]:
    fields = {text_of(name, "replace"): value for name, value in raw.items()}
    texts = {name: text_of(fields[name], "replace") for name in _HEADERS if name in fields}
    if "data" in fields:
        texts["data"] = text_of(fields["data"], "surrogateescape")  # no UTF-8: malformed
    return texts


def judged_later(_client_id: str, _url: str) -> str:
    """For who only writes commands: where callbacks may go the worker knows, and says."""
    return ""


_HEADERS = ("type", "ce_type", "ce_specversion")


def read_command(
    type_: str,
    data: str,
    id_: str,
    at: Ms,
    accounts: Collection[str],
    callbacks: Callable[[str, str], str] = no_callbacks,
) -> Track | Order:
    """The command in `data` (JSON), written at `at`; `BadCommand` if it cannot be carried out.

    `callbacks` is that of `jobs.tools.Tools`.
    """
    try:
        return _read(type_, data, id_, at, accounts, callbacks)
    except BadCommand as bad:
        name_payment(bad, data, accounts)
        raise


def name_payment(bad: BadCommand, data: str, accounts: Collection[str]) -> None:
    """Whom an unfit command is about, as far as its data, or the data in its envelope, says so."""
    try:
        said = _parse(data)
    except BadCommand:
        return
    inner = said.get("data")
    said = inner if isinstance(inner, dict) else said
    with contextlib.suppress(BadCommand):
        bad.payment_request_id = request_id_of(said)
    with contextlib.suppress(BadCommand):
        bad.client_id = client_id_of(said, accounts)


def _parse(data: str) -> Json:
    try:
        return parse_object(data.encode(errors="surrogatepass"))
    except Unreadable as fault:
        remedy = f"data cannot be read ({fault.why}): {fault.remedy}"
        raise BadCommand("malformed", remedy) from None


def _read(
    type_: str,
    data: str,
    id_: str,
    at: Ms,
    accounts: Collection[str],
    callbacks: Callable[[str, str], str],
) -> Track | Order:
    if type_ not in _FIELDS:
        known = ", ".join(_FIELDS)
        raise BadCommand("unknown_type", f"type {type_[:64]!r} is unknown: write one of {known}")
    said = _parse(data)
    request_id = request_id_of(said)
    _check_fields(type_, said)
    client_id = client_id_of(said, accounts)
    if type_ in ("payment.track", "payment.submit"):
        callback_url = _callback_url(said, client_id, callbacks)
        track = replace(_track(said, id_, at, client_id, request_id), callback_url=callback_url)
        return track if type_ == "payment.track" else _submit(said, track)
    return Order(
        ask=Ask(type_),
        id=id_,
        at=at,
        client_id=client_id,
        payment_request_id=request_id,
        reason=_text(said, "reason", MAX_REASON_CHARS),
    )


_ALWAYS = ("paymentRequestId", "clientId")
_OF_TRACK = (
    *_ALWAYS,
    "paymentAmount",
    "paymentExpiryTime",
    "paymentExpireTime",
    "expiresIn",
    "paymentId",
    "onTimeout",
    "reference",
    "callbackUrl",
)
_FIELDS: Mapping[str, Sequence[str]] = {
    "payment.track": _OF_TRACK,
    "payment.submit": (*_OF_TRACK, *submission.FIELDS),
    "payment.cancel": (*_ALWAYS, "reason"),
    "payment.recheck": (*_ALWAYS, "reason"),
    "payment.forget": (*_ALWAYS, "reason"),
}


def fields_of(type_: str) -> Sequence[str]:
    """What the data of such a command may say."""
    return _FIELDS[type_]


def _check_fields(type_: str, said: Mapping[str, Any]) -> None:
    """A misspelt field would be a wish silently ignored."""
    for name in said:
        if name not in _FIELDS[type_]:
            known = ", ".join(_FIELDS[type_])
            raise BadCommand("malformed", f"{name[:64]!r} is not a field of {type_}: {known}")


def request_id_of(said: Mapping[str, Any]) -> str:
    """The payment that a command is about, or `BadCommand`."""
    value = said.get("paymentRequestId")
    if not isinstance(value, str) or not PAYMENT_REQUEST_ID.fullmatch(value):
        raise BadCommand("malformed", "paymentRequestId: write 1 to 64 of A-Z a-z 0-9 _ . : -")
    return value


def client_id_of(said: Mapping[str, Any], accounts: Collection[str]) -> str:
    """The account that a command is for: the one that it names, else the only one there is."""
    value = said.get("clientId")
    if value is None and len(accounts) == 1:
        return next(iter(accounts))
    if value is None:
        raise BadCommand("malformed", "clientId: there are several accounts; name one")
    if not isinstance(value, str) or value not in accounts:
        raise BadCommand("unknown_account", "clientId: no such account is configured here")
    return value


def _track(said: Mapping[str, Any], id_: str, at: Ms, client_id: str, request_id: str) -> Track:
    return Track(
        id=id_,
        at=at,
        client_id=client_id,
        payment_request_id=request_id,
        amount=_amount(said.get("paymentAmount")),
        closing_time=_closing_time(said, at),
        payment_id=_payment_id(said),
        on_timeout=_on_timeout(said),
        reference=_reference(said),
    )


def _amount(value: object) -> Money:
    """As the gateway writes it, but with nothing beside: a number of decimals would change it."""
    hint = 'paymentAmount: write {"currency": "USD", "value": "599"}, in the smallest unit'
    if isinstance(value, dict) and value.keys() - {"currency", "value"}:
        raise BadCommand("malformed", f"{hint}, and nothing else")
    try:
        return parse_amount(value)
    except Unreadable:
        raise BadCommand("malformed", hint) from None


def _submit(said: Mapping[str, Any], track: Track) -> Submit:
    try:
        return submission.read(said, track)
    except submission.Unfit as unfit:
        raise BadCommand("malformed", str(unfit)) from None


def _closing_time(said: Mapping[str, Any], at: Ms) -> Ms | None:
    given = [n for n in ("paymentExpiryTime", "paymentExpireTime", "expiresIn") if n in said]
    if len(given) > 1:
        raise BadCommand("malformed", f"{' and '.join(given)}: write only one of them")
    if not given:
        return None
    value = said[given[0]]
    if given[0] == "expiresIn":
        return at + _expires_in(value) * SECOND
    closing_time = parse_time(value) if isinstance(value, str) else None
    if closing_time is None:
        message = f"{given[0]}: write ISO 8601 with an offset, as in 2026-01-02T03:04:05+08:00"
        raise BadCommand("malformed", message)
    if closing_time > at + MAX_AHEAD:
        raise BadCommand("malformed", f"{given[0]}: more than 30 days ahead")
    return closing_time


def _expires_in(value: object) -> int:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not re.fullmatch("[1-9][0-9]{0,6}", text) or int(text) > MAX_EXPIRES_IN:
        raise BadCommand("malformed", f"expiresIn: write whole seconds from 1 to {MAX_EXPIRES_IN}")
    return int(text)


def _payment_id(said: Mapping[str, Any]) -> str:
    value = said.get("paymentId", "")
    if value != "" and not (isinstance(value, str) and PAYMENT_ID.fullmatch(value)):
        raise BadCommand("malformed", "paymentId: write the gateway's id, at most 64 characters")
    return str(value)


def _on_timeout(said: Mapping[str, Any]) -> OnTimeout:
    value = said.get("onTimeout", "cancel")
    if value not in tuple(OnTimeout):
        raise BadCommand("malformed", "onTimeout: write cancel or report")
    return OnTimeout(value)


def _reference(said: Mapping[str, Any]) -> str:
    value = said.get("reference", "")
    if not isinstance(value, str) or len(value.encode()) > MAX_REFERENCE_BYTES:
        raise BadCommand("malformed", f"reference: write at most {MAX_REFERENCE_BYTES} bytes")
    return value


def _callback_url(
    said: Mapping[str, Any], client_id: str, callbacks: Callable[[str, str], str]
) -> str:
    value = said.get("callbackUrl", "")
    if value == "":
        return ""
    why_not = callbacks(client_id, value) if isinstance(value, str) else "write a URL"
    if why_not:
        raise BadCommand("malformed", f"callbackUrl: {why_not}")
    return str(value)


def _text(said: Mapping[str, Any], name: str, limit: int) -> str:
    value = said.get(name, "")
    if not isinstance(value, str) or len(value) > limit:
        raise BadCommand("malformed", f"{name}: write at most {limit} characters")
    return value


# Carrying out


async def execute(type_: str, data: str, id_: str, at: Ms, tools: Tools) -> bool:
    """The one code path of every command. False: its payment is not tracked yet, try again."""
    with bound_contextvars(command_id=id_):
        command = read_command(type_, data, id_, at, tools.accounts, tools.callbacks)
        return await carry_out(command, tools)


def rejection_of(bad: BadCommand, type_: str, id_: str) -> Rejected:
    """The answer to a command that could not be read."""
    return Rejected(
        command_id=id_,
        command=type_,
        reason=bad.reason,
        message=bad.message,
        client_id=bad.client_id,
        payment_request_id=bad.payment_request_id,
    )


def as_dead(
    raw: Mapping[Any, Any], bad: BadCommand, deliveries: int, origin_id: str
) -> dict[Any, Any]:
    """An entry of the dead stream: what was written, and why it was not carried out."""
    error = f"{bad.reason}: {bad.message}"
    return {**raw, "error": error, "deliveries": deliveries, "origin_id": origin_id}


def report_dead(bad: BadCommand, type_: str, id_: str) -> None:
    log.warning(
        "command.dead",
        command=type_[:64],
        command_id=id_,
        reason=bad.reason,
        message=bad.message,
        client_id=bad.client_id,
        payment_request_id=bad.payment_request_id,
    )


# The stream


class CommandStream:
    """The worker's place in the consumer group of the command stream."""

    def __init__(self, redis: Redis, store: Store, keys: Keys, tools: Tools, consumer: str) -> None:
        self._redis, self._store, self._keys = redis, store, keys
        self._tools, self._consumer = tools, consumer
        self._other_versions = OtherVersions()
        self._ahead: dict[str, Ms] = {}  #: when an entry with an id of the future was first met

    async def run(self) -> None:
        """Read for ever; when Redis is away, wait and go on."""
        made, outage = False, Outage("commands")
        while True:
            try:
                if not made:
                    await make_group(self._redis, self._keys.commands, GROUP)
                    made = True
                await self.read()
                outage.answers()
            except (RedisError, OSError) as fault:
                made = False
                outage.waits(fault)
                await asyncio.sleep(1)

    async def read(self) -> int:
        """Take up what was left lying, then what is new; how many entries there were."""
        group = (self._keys.commands, GROUP, self._consumer)
        left = (await self._redis.xautoclaim(*group, RETRY_IDLE, "0", count=BATCH))[1]
        streams: dict[Any, Any] = {self._keys.commands: ">"}
        block = None if left else READ_BLOCK
        new = await self._redis.xreadgroup(GROUP, self._consumer, streams, count=BATCH, block=block)
        entries = [*left, *(new[0][1] if new else [])]
        refused: ResponseError | None = None
        for entry_id, fields in entries:
            try:
                await self._handle(text_of(entry_id, "replace"), fields or {})
            except ResponseError as fault:  # perhaps of its payment alone: no other waits for it
                refused = fault
        if refused:
            raise refused
        return len(entries)

    async def _handle(self, entry_id: str, raw: Mapping[Any, Any]) -> None:
        type_ = ""
        try:
            type_, data = open_entry(raw)
            at = self._written_at(entry_id, raw)
            done = await execute(type_, data, entry_id, at, self._tools)
        except BadCommand as bad:
            await self._bury(entry_id, raw, bad, type_)
        except (RedisError, OSError):
            raise
        except UnknownSchema as fault:  # for the other version's worker, which shares this stream
            await self._leave_alone(entry_id, raw, type_, fault)
        except Exception:
            log.exception("job.failed", task="command", command_id=entry_id)
            await self._bury_if_hopeless(entry_id, raw, type_)
        else:
            if done:
                await self._redis.xack(self._keys.commands, GROUP, entry_id)
                self._ahead.pop(entry_id, None)

    def _written_at(self, entry_id: str, raw: Mapping[Any, Any]) -> Ms:
        """Not later than when we first met it: who writes an entry may choose its id, and a command
        of the future would be given its minute for ever. Nor by an id that is no time, such as 1-1:
        a time to pay counted from 1970 is over, and the payment would be cancelled at once."""
        at, now = written_at(entry_id, raw), self._store.now()
        if at <= now and _ENTRY_ID.fullmatch(entry_id):
            return at
        if len(self._ahead) >= MOST_AHEAD:
            self._ahead.clear()
        return self._ahead.setdefault(entry_id, now)

    async def _leave_alone(
        self, entry_id: str, raw: Mapping[Any, Any], type_: str, fault: UnknownSchema
    ) -> None:
        if self._other_versions.is_news(entry_id):
            log.error("record.unreadable", command_id=entry_id, fault=str(fault))
        if isinstance(fault, Damaged):  # no version can read it
            await self._bury_if_hopeless(entry_id, raw, type_)

    async def _bury(
        self,
        entry_id: str,
        raw: Mapping[Any, Any],
        bad: BadCommand,
        type_: str,
        deliveries: int = 1,
    ) -> None:
        """To the dead stream, answered and acknowledged. A second run answers with the same id."""
        name_payment(bad, _texts_of(raw).get("data", ""), self._tools.accounts)
        await self._store.reject(rejection_of(bad, type_[:64], entry_id))
        dead = as_dead(raw, bad, deliveries, _origin(raw) or entry_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(self._keys.dead, dead)
            pipe.xack(self._keys.commands, GROUP, entry_id)
            await pipe.execute()
        report_dead(bad, type_, entry_id)

    async def _bury_if_hopeless(self, entry_id: str, raw: Mapping[Any, Any], type_: str) -> None:
        pending = await self._redis.xpending_range(
            self._keys.commands, GROUP, entry_id, entry_id, count=1
        )
        deliveries = pending[0]["times_delivered"] if pending else 0
        if deliveries >= MAX_DELIVERIES:
            bad = BadCommand("malformed", "carrying it out failed again and again; see the log")
            await self._bury(entry_id, raw, bad, type_, deliveries)


def written_at(entry_id: str, fields: Mapping[str, Any]) -> Ms:
    """When the merchant wrote a command: one that was replayed keeps the time of its first entry,
    so that a time to pay that it gives is not counted anew."""
    return min(_ms_of(entry_id), _ms_of(_origin(fields) or entry_id))


def _origin(fields: Mapping[Any, Any]) -> str:
    """The id of a replayed command's first entry; empty if there is none that could be one."""
    origin = text_of(fields.get("origin_id", fields.get(b"origin_id", b"")), "replace")
    return origin if _ENTRY_ID.fullmatch(origin) else ""


_ENTRY_ID = re.compile(r"[1-9][0-9]{12}-[0-9]{1,19}")


def _ms_of(entry_id: str) -> Ms:
    return int(entry_id.partition("-")[0])
