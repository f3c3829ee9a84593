"""What a person or a script sees of payments: read from Redis, changed never."""

import heapq
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from jobs.model import Aftercare, Ms
from jobs.outcome import rfc3339
from jobs.tools import Stuck
from worker import story
from worker.keys import Keys
from worker.replies import now_of, text_of

PAGE = 500
UNREADABLE = "unreadable"  #: a record or a line that none of ours wrote

TIMES = ("closingTime", "cancelWindowEnd", "nextInquiryAt", "confirmingSince", "phaseSince")

#: What of a record tells why a payment does not end.
STUCK_FACTS = (
    "status",
    "cause",
    "paymentId",
    "resultCode",
    "attempts",
    "unanswered",
    "submitState",
    "payAttempts",
    "cancelState",
    "cancelAttempts",
    "askedAt",
    "closingTime",
    "nextAct",
    "nextInquiryAt",
    "schema",
)

NOTHING = ("", "0", "none")  #: what a person need not be shown


async def look_up(
    redis: Redis, prefix: str, client_id: str, payment_request_id: str
) -> dict[str, Any] | None:
    """A payment's record and timeline; None if it is not tracked."""
    keys, key = Keys(prefix), f"{client_id}:{payment_request_id}"
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hgetall(keys.payment(key))
        pipe.lrange(keys.timeline(key), 0, -1)
        found, lines = await pipe.execute()
    record = _texts(found)
    if not record:
        return None
    return {"payment": _readable(record), "timeline": [_entry(line) for line in lines]}


@dataclass(frozen=True, slots=True)
class OpenPayments:
    """The oldest of those that are open, and how many there are of each status."""

    rows: list[dict[str, Any]]
    totals: Counter[str]  #: of those old enough, by status
    watched: int  #: ended, and asked for a few more times: not listed, as nothing waits for them


async def open_payments(redis: Redis, prefix: str, older: Ms, limit: int) -> OpenPayments:
    """Open payments tracked more than `older` ago, the oldest first; none that is only watched.

    They are read a page at a time and no more than `limit` are kept: 50,000 take some seconds,
    and hold up nobody meanwhile.
    """
    keys, moment = Keys(prefix), await now_of(redis)
    oldest: list[tuple[Ms, str, dict[str, Any]]] = []
    totals: Counter[str] = Counter()
    watched = 0
    async for key, record in _open_records(redis, keys):
        row = _row(key, record, moment)
        if row["status"] != UNREADABLE and _only_watched(record):
            watched += 1
            continue
        age = row["ageSeconds"] * 1000
        if row["status"] != UNREADABLE and age < older:
            continue
        totals[row["status"]] += 1
        heapq.heappush(oldest, (age, key, row))
        if len(oldest) > limit:
            heapq.heappop(oldest)
    rows = [row for _, _, row in sorted(oldest, key=lambda each: -each[0])]
    return OpenPayments(rows, totals, watched)


async def _open_records(
    redis: Redis, keys: Keys
) -> AsyncIterator[tuple[str, dict[Any, Any] | Exception]]:
    """Each open payment once, though they change their places while we read."""
    seen: set[bytes | str] = set()
    offset = 0
    while page := await redis.zrange(keys.open, offset, offset + PAGE - 1):
        new = [raw for raw in page if raw not in seen]
        seen.update(new)
        names = [text_of(raw, "replace") for raw in new]
        async with redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(keys.payment(name))
            answers = await pipe.execute(raise_on_error=False)
        for name, found in zip(names, answers, strict=True):
            if found:
                yield name, found
        offset += PAGE


def _only_watched(found: dict[Any, Any] | Exception) -> bool:
    return isinstance(found, dict) and _texts(found).get("aftercare") == Aftercare.WATCHING


def _row(key: str, found: dict[Any, Any] | Exception, moment: Ms) -> dict[str, Any]:
    try:
        return _columns(_texts(found) if isinstance(found, dict) else {}, moment)
    except (KeyError, ValueError):
        client_id, _, request_id = key.partition(":")
        names = ("reason", "amount", "ageSeconds", "next", "nextInSeconds")
        empty: dict[str, Any] = dict.fromkeys(names, "")
        about = {"paymentRequestId": request_id, "clientId": client_id, "status": UNREADABLE}
        why = "its record cannot be read: see record.unreadable in the worker's log"
        return about | empty | {"ageSeconds": 0, "why": why}


def _columns(record: dict[str, str], moment: Ms) -> dict[str, Any]:
    return {
        "paymentRequestId": record["paymentRequestId"],
        "clientId": record["clientId"],
        "status": record["status"],
        "reason": record.get("reason") or record.get("aftercare", "").replace("none", ""),
        "amount": f"{record['currency']} {record['amount']}",
        "ageSeconds": (moment - int(record["trackedAt"])) // 1000,
        "next": record.get("nextAct", "inquire"),
        "nextInSeconds": (int(record["nextInquiryAt"]) - moment) // 1000
        if "nextInquiryAt" in record
        else None,
        "why": story.why_open(record, moment),
    }


# For people


def listed(payments: OpenPayments) -> str:
    """Open payments as a table that fits a screen, and how many there are in all."""
    rows = [
        {
            "payment": row["paymentRequestId"],
            "account": row["clientId"],
            "status": row["status"],
            "age": story.length(row["ageSeconds"] * 1000),
            "amount": row["amount"],
            "why": row["why"],
        }
        for row in payments.rows
    ]
    total = payments.totals.total()
    besides = f"\nbesides, ended and still watched: {payments.watched}" if payments.watched else ""
    if not total:
        return f"nothing{besides}"
    counts = ", ".join(f"{count} {status}" for status, count in payments.totals.most_common())
    return f"{table(rows)}\n\n{len(rows)} of {total} shown, the oldest first: {counts}{besides}"


def stuck(
    key: str, past_closing: Ms, flat: Sequence[bytes | str], timeline: Sequence[bytes | str]
) -> Stuck:
    """A payment that should have ended, for the log; the record may be of another version."""
    record = _texts(dict(zip(flat[::2], flat[1::2], strict=True)))
    seen = {name: record[name] for name in STUCK_FACTS if record.get(name, "") not in NOTHING}
    facts = {_snake(name): value for name, value in _readable(seen).items()}
    lines = tuple(_told(_entry(line), pad=0) for line in timeline)
    return Stuck(key=key, facts={**facts, "past_closing_ms": past_closing}, history=lines)


def _told(line: dict[str, Any], pad: int = 12) -> str:
    """A line of a timeline as a sentence."""
    said = f"{line['at']}  {line['source']:{pad}} {line['what']}"
    said += f"  {line['detail']}" if line["detail"] else ""
    return said + (f"  x{line['count']} until {line['until']}" if line.get("count") else "")


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: "_" + letter.group().lower(), name)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows in columns, with a heading."""
    if not rows:
        return "nothing"
    names = list(rows[0])
    cells = [names, *[["" if v is None else str(v) for v in row.values()] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _readable(record: dict[str, str]) -> dict[str, str]:
    return {
        name: _time(value) if name in TIMES or name.endswith("At") else value
        for name, value in record.items()
        if name != "payRequest"  # the body of a payment is for the gateway alone
    }


def _entry(raw: bytes | str) -> dict[str, Any]:
    """A line of a timeline; one that is none of ours is shown as it is."""
    try:
        line = json.loads(raw)
        if set(line) >= {"at", "source", "what", "detail"}:
            return {k: _time(v) if k in ("at", "until") else v for k, v in line.items()}
    except (ValueError, TypeError, RecursionError):
        pass
    return {"at": "", "source": "", "what": UNREADABLE, "detail": text_of(raw, "replace")[:200]}


def _time(value: object) -> str:
    try:
        return rfc3339(int(str(value)))
    except (ValueError, OverflowError):
        return str(value)


def _texts(found: dict[Any, Any]) -> dict[str, str]:
    return {text_of(name, "replace"): text_of(value, "replace") for name, value in found.items()}
