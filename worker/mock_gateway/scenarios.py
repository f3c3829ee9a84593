"""What can happen to a payment, one row a scenario: the gateway's misbehaviour as data.

Every time is a percentage of the order's life, from its creation (0) to its closing time (100), so
that the same row fits an order of six seconds and one of fourteen minutes.
"""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from jobs.model import Status

Percent: TypeAlias = int


class Happening(StrEnum):
    """What befalls an order by itself, without the merchant's doing."""

    CONFIRMING = "confirming"  #: the buyer has paid, the bank takes its time
    PAID = "paid"
    FAILED = "failed"
    CLOSED = "closed"  #: the gateway closes the unpaid order
    REFUNDED = "refunded"  #: the gateway gives all of it back
    PAID_ALL_THE_SAME = "paid_all_the_same"  #: the buyer pays a closed order


class Fault(StrEnum):
    """How the gateway answers one call wrongly, late or not at all."""

    DROP = "drop"  #: the connection is closed without an answer
    UNAVAILABLE = "unavailable"  #: HTTP 503 from something in front of the gateway
    HOLD = "hold"  #: the answer is made now and comes when the trouble is over
    BUSY = "busy"  #: U REQUEST_TRAFFIC_EXCEED_LIMIT; nothing was done
    UNKNOWN = "unknown"  #: U UNKNOWN_EXCEPTION; nothing was done
    LOST = "lost"  #: done, but the connection hangs and then drops
    REFUSED = "refused"  #: F RISK_REJECT; nothing was done
    WINDOW = "window"  #: F CANCEL_WINDOW_EXCEED; nothing was done
    UNSIGNED_SUCCESS = "unsigned_success"
    UNSIGNED_FAIL = "unsigned_fail"
    FORGED_SUCCESS = "forged_success"  #: signed with an attacker's key
    FORGED_FAIL = "forged_fail"
    ALTERED_SUCCESS = "altered_success"  #: the genuine signature over a body changed on the way
    FOREIGN_SUCCESS = "foreign_success"  #: genuine in every way, but about another payment


class Forgery(StrEnum):
    """How an attacker's notification pretends that the payment is paid."""

    ATTACKER_KEY = "attacker_key"
    ALTERED_BODY = "altered_body"  #: a genuine failed notification turned into a paid one
    UNSIGNED = "unsigned"
    OTHER_CLIENT = "other_client"  #: genuine, but addressed to another account of the gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """When calls about an order go wrong, and how: the faults are taken in turn."""

    faults: tuple[Fault, ...]
    first: int | None = None  #: only this many calls
    since: Percent = 0
    until: Percent | None = None

    def fault(self, nth: int, age: Percent) -> Fault | None:
        """The fault of the `nth` call, counted from 1, made when the order is `age` old."""
        if self.first is not None and nth > self.first:
            return None
        if age < self.since or (self.until is not None and age >= self.until):
            return None
        return self.faults[(nth - 1) % len(self.faults)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """How the gateway's own notification of the result travels."""

    after: Percent | None = None  #: None: the usual 3 to 5 s after the result
    copies: int = 1  #: 0: lost, every resend of it too


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One way for a payment to go, and the status that a reconciler must reach."""

    name: str
    description: str
    expects: Status
    happens: tuple[tuple[Percent, Happening], ...] = ()
    appears: Percent = 0  #: until then the gateway says that there is no such order
    overpaid: int = 0  #: minor units that the paid amount differs by
    pays_on_cancel: bool = False  #: the buyer pays just before the first cancel arrives
    pays_after_cancel: Percent | None = None  #: the buyer pays this long after the first cancel
    notify: Notify = Notify()
    forgeries: tuple[tuple[Percent, Forgery], ...] = ()
    inquiries: Trouble | None = None
    cancels: Trouble | None = None
    pays: Trouble | None = None  #: calls of pay
    weight: int = 1  #: its share of the mix


_LOST = Notify(copies=0)  # where the inquiry has to find the result

_ROWS = (
    Scenario(
        name="paid",
        description="The buyer pays, the notification arrives.",
        expects=Status.SUCCEEDED,
        happens=((30, Happening.PAID),),
        weight=30,
    ),
    Scenario(
        name="paid_notification_lost",
        description="The buyer pays, no notification ever arrives.",
        expects=Status.SUCCEEDED,
        happens=((30, Happening.PAID),),
        notify=_LOST,
        weight=8,
    ),
    Scenario(
        name="paid_late",
        description="The buyer pays just before closing, the notification comes after it.",
        expects=Status.SUCCEEDED,
        happens=((85, Happening.PAID),),
        notify=Notify(after=30),
        weight=4,
    ),
    Scenario(
        name="failed",
        description="The payment fails and a notification says so.",
        expects=Status.FAILED,
        happens=((30, Happening.FAILED),),
        weight=8,
    ),
    Scenario(
        name="never_paid",
        description="The buyer goes away; the order stays open until the merchant cancels it.",
        expects=Status.CANCELLED,
        weight=8,
    ),
    Scenario(
        name="closed_by_gateway",
        description="The buyer goes away; the gateway closes the order and tells nobody.",
        expects=Status.CANCELLED,
        happens=((95, Happening.CLOSED),),
        notify=_LOST,
        weight=3,
    ),
    Scenario(
        name="pending_confirmation",
        description="The buyer pays in time, the bank confirms only after the closing time.",
        expects=Status.SUCCEEDED,
        happens=((30, Happening.CONFIRMING), (130, Happening.PAID)),
        weight=3,
    ),
    Scenario(
        name="order_not_exist_first",
        description="The gateway does not know the order at first; then it is paid.",
        expects=Status.SUCCEEDED,
        appears=25,
        happens=((60, Happening.PAID),),
        weight=3,
    ),
    Scenario(
        name="notification_twice",
        description="The notification of a paid order arrives twice at the same moment.",
        expects=Status.SUCCEEDED,
        happens=((30, Happening.PAID),),
        notify=Notify(copies=2),
        weight=3,
    ),
    Scenario(
        name="notification_before_track",
        description="Paid and notified at once, before the merchant can ask to follow it.",
        expects=Status.SUCCEEDED,
        happens=((0, Happening.PAID),),
        notify=Notify(after=0),
        weight=3,
    ),
    Scenario(
        name="forged_notification",
        description="Nobody pays; an attacker's notifications say that somebody did.",
        expects=Status.CANCELLED,
        forgeries=(
            (10, Forgery.ATTACKER_KEY),
            (25, Forgery.ALTERED_BODY),
            (40, Forgery.UNSIGNED),
            (55, Forgery.OTHER_CLIENT),
        ),
    ),
    Scenario(
        name="cancel_unknown",
        description="Nobody pays; the first cancel is answered U, the answer of the second lost.",
        expects=Status.CANCELLED,
        cancels=Trouble(faults=(Fault.UNKNOWN, Fault.LOST), first=2),
    ),
    Scenario(
        name="paid_during_cancel",
        description="The buyer pays after the last inquiry; the cancel gives the money back.",
        expects=Status.CANCELLED,
        pays_on_cancel=True,
    ),
    Scenario(
        name="paid_after_cancel",
        description="The buyer pays although a cancel was confirmed; a second one refunds.",
        expects=Status.CANCELLED,
        pays_after_cancel=30,
    ),
    Scenario(
        name="cancel_window_exceeded",
        description="Nobody pays; every cancel is refused as too late, the order stays open.",
        expects=Status.UNRESOLVED,
        cancels=Trouble(faults=(Fault.WINDOW,)),
    ),
    Scenario(
        name="gateway_down",
        description="Paid, but inquiries find nobody until after the closing time.",
        expects=Status.SUCCEEDED,
        happens=((30, Happening.PAID),),
        notify=_LOST,
        inquiries=Trouble(faults=(Fault.DROP, Fault.UNAVAILABLE), until=115),
    ),
    Scenario(
        name="gateway_slow",
        description="Paid, but for a long stretch answers take longer than anybody waits.",
        expects=Status.SUCCEEDED,
        happens=((30, Happening.PAID),),
        notify=_LOST,
        inquiries=Trouble(faults=(Fault.HOLD,), until=80),
    ),
    Scenario(
        name="bad_signature_answers",
        description="Nobody pays; the first answers are forged and say paid or failed.",
        expects=Status.CANCELLED,
        inquiries=Trouble(
            faults=(
                Fault.UNSIGNED_SUCCESS,
                Fault.FORGED_FAIL,
                Fault.ALTERED_SUCCESS,
                Fault.UNSIGNED_FAIL,
                Fault.FORGED_SUCCESS,
            ),
            first=5,
        ),
    ),
    Scenario(
        name="answer_of_another_payment",
        description="Nobody pays; the first answers are genuine, but of a payment that was paid.",
        expects=Status.CANCELLED,
        inquiries=Trouble(faults=(Fault.FOREIGN_SUCCESS,), first=3),
    ),
    Scenario(
        name="amount_mismatch",
        description="The gateway says paid, with another amount than the merchant's.",
        expects=Status.UNRESOLVED,
        happens=((30, Happening.PAID),),
        overpaid=1,
    ),
    Scenario(
        name="paid_after_expiry_refunded",
        description="The buyer pays at the last moment, the gateway gives it back at once.",
        expects=Status.CANCELLED,
        happens=((100, Happening.PAID), (100, Happening.REFUNDED)),
        notify=Notify(after=50),
    ),
    Scenario(
        name="rate_limited",
        description="Paid, but the first inquiries are turned away: too much traffic.",
        expects=Status.SUCCEEDED,
        happens=((30, Happening.PAID),),
        notify=_LOST,
        inquiries=Trouble(faults=(Fault.BUSY,), first=4),
        weight=2,
    ),
)

SCENARIOS = {row.name: row for row in _ROWS}

#: What can happen to `pay` itself: only to payments that the reconciler submits, so never drawn.
SUBMITTED = {
    row.name: row
    for row in (
        Scenario(
            name="pay_unknown",
            description="The first pay is answered U, the second made but lost; then it is paid.",
            expects=Status.SUCCEEDED,
            happens=((60, Happening.PAID),),
            pays=Trouble(faults=(Fault.UNKNOWN, Fault.LOST), first=2),
        ),
        Scenario(
            name="pay_slow",
            description="The answer to the first pay takes longer than anybody waits; it is paid.",
            expects=Status.SUCCEEDED,
            happens=((70, Happening.PAID),),
            pays=Trouble(faults=(Fault.HOLD,), first=1, until=40),
        ),
        Scenario(
            name="pay_refused",
            description="Every pay is refused; there is no order.",
            expects=Status.FAILED,
            pays=Trouble(faults=(Fault.REFUSED,)),
        ),
        Scenario(
            name="pay_refused_late",
            description="The first pay is made but lost, the next one refused; then it is paid.",
            expects=Status.SUCCEEDED,
            happens=((60, Happening.PAID),),
            pays=Trouble(faults=(Fault.LOST, Fault.REFUSED), first=2),
        ),
    )
}


def choose(payment_request_id: str, seed: int) -> Scenario:
    """The scenario that the id's prefix names (`never_paid-42`), else one drawn from the mix.

    The draw depends on the seed and the id alone, not on the order in which payments come.
    """
    named = (SCENARIOS | SUBMITTED).get(payment_request_id.partition("-")[0])
    if named is not None:
        return named
    draw = random.Random(f"{seed}:{payment_request_id}:scenario")
    return draw.choices(_ROWS, weights=[row.weight for row in _ROWS])[0]
