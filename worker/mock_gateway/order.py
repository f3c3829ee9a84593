"""One order at the gateway: what it is, what can befall it, and what a cancel does to it."""

from dataclasses import dataclass, field
from enum import StrEnum

from jobs.model import Money, Ms
from worker.mock_gateway.config import Switches
from worker.mock_gateway.scenarios import Fault, Forgery, Happening, Percent, Scenario, Trouble

HANG: Percent = 10  #: how long a lost answer keeps its connection open


class Standing(StrEnum):
    """Where an order stands in truth, whatever anybody is told."""

    NEVER_CREATED = "never_created"
    UNPAID = "unpaid"
    CONFIRMING = "confirming"  #: the buyer has paid, the bank is confirming
    PAID = "paid"
    FAILED = "failed"
    CLOSED = "closed"  #: no money was taken, and it cannot be paid any more
    REFUNDED = "refunded"  #: paid, and all of it given back


class CancelResult(StrEnum):
    """The resultCode of a cancel."""

    DONE = "SUCCESS"
    STATUS_INVALID = "ORDER_STATUS_INVALID"
    PROCESS_FAIL = "PROCESS_FAIL"  #: it was refunded already


@dataclass(frozen=True, slots=True)
class Return:
    """All of the money given back: by the gateway (REFUND) or by the merchant's cancel (CANCEL)."""

    kind: str
    at: Ms


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to an order or was asked about it, as a checker is told."""

    at: Ms
    payment_request_id: str
    what: str  #: inquiry, pay, refused (a pay), cancel, acknowledged, or what befell the order
    detail: str = ""  #: the SHA-256 of the body that was acknowledged, or of the one that pays


@dataclass(slots=True)
class Calls:
    """What the merchant asked about one paymentRequestId, whether there is such an order or not."""

    inquiries: int = 0
    cancels: int = 0
    pays: int = 0


@dataclass(slots=True, kw_only=True)
class Order:
    """One order. The functions below change where it stands; the notifier counts what it sent."""

    payment_request_id: str
    payment_id: str
    scenario: Scenario
    amount: Money
    created_at: Ms
    closing_at: Ms
    notify_url: str | None = None
    notice_delay: Ms = 0  #: the usual one, drawn for this order
    standing: Standing = Standing.UNPAID
    paid_at: Ms | None = None
    closed_at: Ms | None = None
    returned: Return | None = None
    ahead: int = 0  #: happenings that are still to come
    calls: Calls = field(default_factory=Calls)
    notifications_sent: int = 0
    notifications_acked: int = 0
    forgeries_sent: int = 0
    forgeries_acked: int = 0

    @property
    def paid_amount(self) -> Money:
        """What the buyer pays, which is what the gateway says once it is paid."""
        return Money(self.amount.currency, self.amount.value + self.scenario.overpaid)

    def part(self, percent: Percent) -> Ms:
        """How long a part of this order's life takes."""
        return (self.closing_at - self.created_at) * percent // 100

    def age(self, now: Ms) -> Percent:
        return (now - self.created_at) * 100 // (self.closing_at - self.created_at)

    def at(self, percent: Percent) -> Ms:
        return self.created_at + self.part(percent)

    def next_fault(self, trouble: Trouble | None, nth: int, now: Ms) -> tuple[Fault | None, Ms]:
        """What is wrong with the `nth` call of a kind, and how long its answer takes then."""
        fault = trouble.fault(nth, self.age(now)) if trouble else None
        match fault:
            case Fault.HOLD if trouble and trouble.until:
                return fault, max(0, self.at(trouble.until) - now)
            case Fault.LOST:
                return fault, self.part(HANG)
            case _:
                return fault, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A notification for the merchant; a forged one comes from an attacker, once."""

    order: Order
    at: Ms
    notify_type: str = "PAYMENT_RESULT"
    status: str = "S"
    code: str = "SUCCESS"
    forgery: Forgery | None = None


def befall(order: Order, happening: Happening, at: Ms) -> Notice | None:
    """Change where the order stands, and return what the gateway then has to say.

    What no longer fits, because the order has ended in the meantime, does not happen.
    """
    match happening, order.standing:
        case Happening.CONFIRMING, Standing.UNPAID:
            order.standing = Standing.CONFIRMING
            return Notice(order=order, at=at, notify_type="PAYMENT_PENDING")
        case (Happening.PAID, Standing.UNPAID | Standing.CONFIRMING) | (
            Happening.PAID_ALL_THE_SAME,
            Standing.CLOSED,
        ):
            order.standing, order.paid_at = Standing.PAID, at
            return Notice(order=order, at=at)
        case Happening.FAILED, Standing.UNPAID | Standing.CONFIRMING:
            order.standing = Standing.FAILED
            return Notice(order=order, at=at, status="F", code="USER_BALANCE_NOT_ENOUGH")
        case Happening.CLOSED, Standing.UNPAID:
            order.standing, order.closed_at = Standing.CLOSED, at
            return Notice(order=order, at=at, status="F", code="ORDER_IS_CLOSED")
        case Happening.REFUNDED, Standing.PAID:
            order.standing, order.returned = Standing.REFUNDED, Return("REFUND", at)
            return None
        case _:
            return None


def cancel(order: Order, now: Ms, switches: Switches) -> CancelResult:
    """Close the unpaid order, give back the paid one; done twice it is done once.

    docs.antom.com/ac/tokenized/cancel; a payment that the bank still confirms counts as unpaid,
    since the gateway takes care that none of it stays taken.
    """
    match order.standing:
        case Standing.UNPAID | Standing.CONFIRMING:
            order.standing, order.closed_at = Standing.CLOSED, now
        case Standing.PAID:
            order.standing, order.returned = Standing.REFUNDED, Return("CANCEL", now)
        case Standing.REFUNDED if order.returned and order.returned.kind == "REFUND":
            return CancelResult.PROCESS_FAIL
        case Standing.FAILED if switches.cancel_of_failed == "F":
            return CancelResult.STATUS_INVALID
    return CancelResult.DONE
