"""The same again, later, and at any time: resends come for a day, and age refuses nothing."""

from datetime import UTC, datetime, timedelta

from tests.hostile.cases import (
    BODY,
    GENUINE,
    Case,
    Expected,
    Fate,
    accepted,
    of,
    refused,
    saying,
)
from tests.servers import notification, now_ms
from worker.signature import Reason


def at(name: str, sent_at: str) -> Case:
    return accepted(f"sent {name}", notification(BODY, sent_at=sent_at))


def ago(name: str, **before: float) -> Case:
    when = datetime.now(UTC) - timedelta(**before)
    return at(name, when.isoformat(timespec="seconds"))


def again(name: str, case: Case) -> Case:
    """Behind the genuine message itself."""
    expected = (Expected(Fate.ACCEPTED, "duplicate"),)
    return of(name, case, before=(GENUINE,), expected=expected)


FAILED = notification(saying(result={"resultCode": "ORDER_IS_CLOSED", "resultStatus": "F"}))
UNREADABLE = notification(BODY[:-1])
UNUSABLE = notification(saying(paymentAmount=None))
SENT = now_ms()

CASES: list[Case] = [
    again("exactly the same again", accepted("", GENUINE)),
    of("the same three times more", again("", accepted("", GENUINE)), before=(GENUINE,) * 3),
    again(
        "the same, signed anew at another time",
        accepted("", notification(BODY, sent_at=str(SENT + 60_000))),
    ),
    again(
        "the same, signed with the other key",
        accepted("", notification(BODY, key="alipay_v2", key_version=2)),
    ),
    again("the same in chunks", accepted("", GENUINE, wire=GENUINE.chunked(10))),
    again("the same under a query", accepted("", notification(BODY, path="/notify?again"))),
    of("the same to a payment that is tracked", again("", accepted("", GENUINE)), tracked=True),
    Case(
        "a success behind a failure",
        GENUINE.wire(),
        (Expected(Fate.ACCEPTED, "parked"),),
        mail=(FAILED.body, BODY),
        before=(FAILED,),
    ),
    Case(
        "a failure behind a success",
        FAILED.wire(),
        (Expected(Fate.ACCEPTED, "parked"),),
        mail=(BODY, FAILED.body),
        before=(GENUINE,),
    ),
    Case(
        "an unusable one again",
        UNUSABLE.wire(),
        (Expected(Fate.QUARANTINED, "amount"),),
        mail=(UNUSABLE.body,),
        aside=(UNUSABLE.body,),
        before=(UNUSABLE,),
    ),
    Case(
        "one that nobody can read, again",
        UNREADABLE.wire(),
        (Expected(Fate.QUARANTINED, "json"),),
        aside=(UNREADABLE.body,),
        before=(UNREADABLE,),
    ),
    of(
        "the same with a forged signature",
        refused("", Reason.SIG_MISMATCH, notification(BODY, key="attacker")),
        before=(GENUINE,),
        mail=(BODY,),
    ),
    of(
        "the same to another path",
        refused("", Reason.PATH, notification(BODY, path="/elsewhere")),
        before=(GENUINE,),
        mail=(BODY,),
    ),
    ago("290 seconds ago", seconds=290),
    ago("310 seconds ago", seconds=310),
    ago("10 minutes ago", minutes=10),
    ago("23 hours ago", hours=23),
    ago("a year ago", days=365),
    ago("in 290 seconds", seconds=-290),
    ago("in 310 seconds", seconds=-310),
    ago("in 10 minutes", minutes=-10),
    ago("in a year", days=-365),
    at("in milliseconds", str(SENT)),
    at("in seconds", str(SENT // 1000)),
    at("in microseconds", str(SENT * 1000)),
    at("without an offset", "2026-01-02T03:04:05"),
    at("in month 13", "2026-13-02T03:04:05Z"),
    at("on February 30", "2026-02-30T03:04:05Z"),
    at("with an offset that is none", "2026-01-02T03:04:05+99:99"),
    at("in year zero", "0000-01-02T03:04:05Z"),
    at("in a leap second", "2026-12-31T23:59:60Z"),
    at("in the hour that summer time skips", "2026-03-29T02:30:00+01:00"),
    at("with an offset of nothing below zero", "2026-01-02T03:04:05-00:00"),
    at("at no time at all", "----------"),
    at("at a time of dots, where the signed string could be cut anywhere", "." * 20),
    at("before 1970", "1969-12-31T23:59:59Z"),
]
