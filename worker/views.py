"""What a person or a script sees of payments: read from Redis, changed never."""

import json
import re
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from jobs.model import Ms
from jobs.outcome import rfc3339
from jobs.tools import Stuck
from worker.keys import Keys
from worker.replies import text_of

UNREADABLE = "unreadable"  #: a record or a line that none of ours wrote

TIMES = ("closingTime", "nextInquiryAt", "confirmingSince", "phaseSince")

#: What of a record tells why a payment does not end.
STUCK_FACTS = (
    "status",
    "cause",
    "paymentId",
    "resultCode",
    "attempts",
    "unanswered",
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


async def open_payments(redis: Redis, prefix: str, older: Ms, limit: int) -> list[dict[str, Any]]:
    """Open payments tracked more than `older` ago, the oldest first."""
    keys = Keys(prefix)
    seconds, micros = await redis.time()
    now = seconds * 1000 + micros // 1000
    members = [text_of(raw, "replace") for raw in await redis.zrange(keys.open, 0, -1)]
    async with redis.pipeline(transaction=False) as pipe:
        for key in members:
            pipe.hgetall(keys.payment(key))
        answers = await pipe.execute(raise_on_error=False)
    rows = [_row(key, found, now) for key, found in zip(members, answers, strict=True) if found]
    old = [row for row in rows if row["status"] == UNREADABLE or row["ageSeconds"] * 1000 >= older]
    old.sort(key=lambda row: -row["ageSeconds"])
    return old[:limit]


def _row(key: str, found: dict[Any, Any] | Exception, now: Ms) -> dict[str, Any]:
    try:
        return _columns(_texts(found) if isinstance(found, dict) else {}, now)
    except (KeyError, ValueError):
        client_id, _, request_id = key.partition(":")
        names = ("reason", "amount", "ageSeconds", "next", "nextInSeconds")
        empty: dict[str, Any] = dict.fromkeys(names, "")
        about = {"paymentRequestId": request_id, "clientId": client_id, "status": UNREADABLE}
        return about | empty | {"ageSeconds": 0}


def _columns(record: dict[str, str], now: Ms) -> dict[str, Any]:
    return {
        "paymentRequestId": record["paymentRequestId"],
        "clientId": record["clientId"],
        "status": record["status"],
        "reason": record.get("reason") or record.get("aftercare", "").replace("none", ""),
        "amount": f"{record['currency']} {record['amount']}",
        "ageSeconds": (now - int(record["trackedAt"])) // 1000,
        "next": record.get("nextAct", "inquire"),
        "nextInSeconds": (int(record["nextInquiryAt"]) - now) // 1000
        if "nextInquiryAt" in record
        else None,
    }


# For people


def story(seen: dict[str, Any]) -> str:
    """A payment told in lines: the record first, then what happened, in order."""
    shown = {name: value for name, value in seen["payment"].items() if value not in NOTHING}
    fields = [f"{name:18} {value}" for name, value in shown.items()]
    return "\n".join([*fields, "", *map(_told, seen["timeline"])])


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
    return {k: _time(v) if k in TIMES or k.endswith("At") else v for k, v in record.items()}


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
