"""A gateway with a ledger of its own: what is true of the money, whatever anybody believes.

Written from the vendor's pages and not from `worker.mock_gateway`, so that one misunderstanding is
not shared by both. What nobody outside the vendor knows is a switch that the tape draws.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from jobs.model import Ms
from jobs.schedule import HOUR, MINUTE
from tests.simulation.loop import SimLoop
from tests.simulation.tape import Tape
from worker.times import parse_time

Standing: TypeAlias = Literal["unpaid", "confirming", "paid", "failed", "closed", "refunded"]
Body: TypeAlias = dict[str, Any]

#: docs.antom.com/ac/ams_zh-cn/notify_subpayment
RESEND_AFTER: tuple[Ms, ...] = (
    0,
    2 * MINUTE,
    10 * MINUTE,
    10 * MINUTE,
    HOUR,
    2 * HOUR,
    6 * HOUR,
    15 * HOUR,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """What is not known of the real gateway, or differs between its payment methods."""

    cancel_of_failed: str = "S"
    missing_order: str = "ORDER_NOT_EXIST"
    resend_time: str = "renewed"
    notify_cancelled: bool = False
    notify_after_end: bool = True  #: a payment after FAIL or after a cancel
    notify_failed: bool = True  #: the in-store page knows only notifications of success
    closes_itself: bool = True  #: an order that nobody paid in time
    pays_after_cancel: bool = False  #: the buyer can still pay an order that was cancelled
    pays_after_failure: bool = False
    refunds_late: bool = False  #: what is paid after the closing time is given back at once
    refund_shows: str = "CANCELLED"  #: or SUCCESS, with a transaction that gives it back
    spelling: str = "SUCCESS"
    window: Ms | None = None  #: how long after its creation an order can be cancelled
    pay_says: str = "S"  #: or U, with the buyer's link all the same
    pay_refused: int = 0  #: in 1/1000, of pays that would make an order
    refuses_for_good: bool = True  #: a pay refused once is refused again
    repeated_pay: str = "same"  #: or F: an order that exists is not told of again

    @classmethod
    def drawn(cls, tape: Tape) -> "Switches":
        return cls(
            cancel_of_failed=tape.among("S", "F"),
            missing_order=tape.among("ORDER_NOT_EXIST", "PROCESS_FAIL"),
            resend_time=tape.among("renewed", "kept"),
            notify_cancelled=tape.among(False, True),
            notify_after_end=tape.among(True, False),
            notify_failed=tape.among(True, False),
            closes_itself=tape.among(True, False),
            pays_after_cancel=tape.among(False, False, False, True),
            pays_after_failure=tape.among(False, False, False, True),
            refunds_late=tape.among(False, True),
            refund_shows=tape.among("CANCELLED", "SUCCESS"),
            spelling=tape.among("SUCCESS", "Success"),
            window=tape.among(None, None, None, None, None, None, None, 3 * MINUTE),
        )


@dataclass(slots=True, kw_only=True)
class Order:
    client_id: str
    request_id: str
    payment_id: str
    amount: int
    closing: Ms  #: when the gateway lets nobody pay any more, or gives it back
    created_at: Ms = 0
    standing: Standing = "unpaid"
    ended: bool = False  #: it has been closed, failed or refunded at some time
    taken: int = 0
    given_back: int = 0
    paid_at: Ms | None = None
    back_by: str = ""  #: REFUND or CANCEL
    by_shop: bool = False  #: the shop gave it back
    said_fail: bool = False  #: somebody was told that it failed

    @property
    def kept(self) -> int:
        return self.taken - self.given_back


Notify: TypeAlias = Callable[[Order, Body], None]


class Gateway:
    def __init__(self, loop: SimLoop, switches: Switches, notify: Notify) -> None:
        self.loop, self.switches, self._notify = loop, switches, notify
        self.orders: dict[tuple[str, str], Order] = {}
        self.asked_at: dict[tuple[str, str], Ms] = {}  #: when an inquiry last came
        self.refused: set[tuple[str, str]] = set()  #: payments whose pay was refused
        self.made: Callable[[Order], None] = lambda _: None  #: an order was made by a pay

    # What the buyer and the gateway itself do

    def create(self, order: Order) -> None:
        order.created_at = self.loop.now
        self.orders[order.client_id, order.request_id] = order

    def confirm(self, order: Order) -> None:
        if order.standing == "unpaid":
            order.standing = "confirming"
            self._tell(order, "PAYMENT_PENDING", "S", "SUCCESS")

    def pay(self, order: Order) -> None:
        after = {
            "closed": self.switches.pays_after_cancel,
            "failed": self.switches.pays_after_failure,
        }
        if order.standing not in ("unpaid", "confirming") and not after.get(order.standing):
            return
        late = order.standing != "confirming" and self.loop.now >= order.closing
        order.standing, order.paid_at = "paid", self.loop.now
        order.taken += order.amount
        if self.switches.notify_after_end or not order.ended:
            self._tell(order, "PAYMENT_RESULT", "S", "SUCCESS")
        if self.switches.refunds_late and late:
            self._give_back(order, "REFUND")

    def fail(self, order: Order) -> None:
        if order.standing in ("unpaid", "confirming"):
            order.standing, order.ended = "failed", True
            if self.switches.notify_failed:
                order.said_fail = True
                self._tell(order, "PAYMENT_RESULT", "F", "USER_BALANCE_NOT_ENOUGH")

    def close(self, order: Order) -> None:
        if order.standing == "unpaid" and self.switches.closes_itself:
            order.standing, order.ended = "closed", True
            if self.switches.notify_failed:
                order.said_fail = True
                self._tell(order, "PAYMENT_RESULT", "F", "ORDER_IS_CLOSED")

    def _give_back(self, order: Order, by: str) -> None:
        if order.standing == "paid":
            order.standing, order.given_back, order.back_by = "refunded", order.taken, by
            order.ended = True

    def refund(self, order: Order) -> None:
        """The shop gives the money back itself."""
        order.by_shop |= order.standing == "paid"
        self._give_back(order, "REFUND")

    # What the merchant's worker asks

    def inquire(self, client_id: str, request_id: str) -> Body:
        self.asked_at[client_id, request_id] = self.loop.now
        order = self.orders.get((client_id, request_id))
        if order is None:
            return _result("F", self.switches.missing_order)
        status = {
            "unpaid": "PROCESSING",
            "confirming": "PENDING",
            "paid": "SUCCESS",
            "failed": "FAIL",
            "closed": "CANCELLED",
            "refunded": "SUCCESS",
        }[order.standing]
        if order.standing == "refunded" and order.back_by == "CANCEL":
            status = self.switches.refund_shows
        order.said_fail |= status == "FAIL"
        body = _result("S", "SUCCESS") | self._about(order)
        body["paymentStatus"] = status if self.switches.spelling == "SUCCESS" else status.title()
        if order.standing == "refunded" and status == "SUCCESS":
            body["transactions"] = [
                {
                    "transactionType": order.back_by,
                    "transactionStatus": "SUCCESS",
                    "transactionAmount": _amount(order.given_back),
                }
            ]
        if status == "SUCCESS":
            body["paymentTime"] = _iso(order.paid_at or 0)
        return body

    def order(self, client_id: str, request_id: str, said: Body, unlucky: bool) -> Body:
        """The call `pay`: make the order, once; it is not paid by that."""
        key = client_id, request_id
        order = self.orders.get(key)
        if order is None:
            closing = parse_time(said["paymentExpiryTime"]) or 0
            again = key in self.refused and self.switches.refuses_for_good
            if again or unlucky or closing <= self.loop.now:
                self.refused.add(key)
                return _result("F", "RISK_REJECT")
            order = self._make(client_id, request_id, said, closing)
        elif self.switches.repeated_pay == "F":
            self.refused.add(key)
            return _result("F", "ORDER_STATUS_INVALID")
        in_process = self.switches.pay_says == "U"
        result = _result("U", "PAYMENT_IN_PROCESS") if in_process else _result("S", "SUCCESS")
        form = {"method": "GET", "redirectUrl": f"https://cashier/{order.payment_id}"}
        return result | self._about(order) | {"redirectActionForm": form}

    def _make(self, client_id: str, request_id: str, said: Body, closing: Ms) -> Order:
        order = Order(
            client_id=client_id,
            request_id=request_id,
            payment_id=f"gw-{client_id}-{request_id}",
            amount=int(said["paymentAmount"]["value"]),
            closing=closing,
        )
        self.create(order)
        self.made(order)
        return order

    def cancel(self, client_id: str, request_id: str) -> Body:
        """Void the unpaid, refund the paid; done twice it is done once."""
        order = self.orders.get((client_id, request_id))
        if order is None:
            return _result("F", self.switches.missing_order)
        window = self.switches.window
        if window is not None and self.loop.now - order.created_at > window:
            return _result("F", "CANCEL_WINDOW_EXCEED")
        match order.standing:
            case "unpaid" | "confirming":
                order.standing, order.ended = "closed", True
                if self.switches.notify_cancelled:
                    self._tell(order, "PAYMENT_RESULT", "F", "ORDER_IS_CANCELED")
            case "paid":
                self._give_back(order, "CANCEL")
            case "failed" if self.switches.cancel_of_failed == "F":
                return _result("F", "ORDER_STATUS_INVALID")
            case "refunded" if order.back_by == "REFUND":
                return _result("F", "PROCESS_FAIL")
        return _result("S", "SUCCESS") | self._about(order)

    # Words

    def _tell(self, order: Order, kind: str, status: str, code: str) -> None:
        self._notify(order, self.notification(order, kind, status, code))

    def notification(self, order: Order, kind: str, status: str, code: str) -> Body:
        body = _result(status, code) | {"notifyType": kind} | self._about(order)
        if order.paid_at is not None:
            body["paymentTime"] = _iso(order.paid_at)
        return body

    def _about(self, order: Order) -> Body:
        return {
            "paymentRequestId": order.request_id,
            "paymentId": order.payment_id,
            "paymentAmount": _amount(order.amount),
            "paymentCreateTime": _iso(order.created_at),
        }


def to_bytes(body: Body) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _result(status: str, code: str) -> Body:
    return {"result": {"resultStatus": status, "resultCode": code, "resultMessage": "."}}


def _amount(value: int) -> Body:
    return {"currency": "USD", "value": str(value)}


def _iso(at: Ms) -> str:
    return str(at)
