"""The truth: every order, what befell it, and whose the money is.

No clock, no socket: whoever calls says what time it is, and the ledger first lets everything
happen that was due by then.
"""

import heapq
import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from itertools import count
from typing import Any

from jobs.model import Money, Ms
from worker.mock_gateway.config import Switches
from worker.mock_gateway.order import (
    Calls,
    CancelResult,
    Moment,
    Notice,
    Order,
    Standing,
    befall,
    cancel,
)
from worker.mock_gateway.scenarios import SCENARIOS, Fault, Happening, choose

JOURNAL = 1_000_000  #: moments kept, the newest: some hours of a busy test
USUAL_NOTICE = (3_000, 5_000)  #: ms after the result: docs.antom.com/ac/cashierpay/notifications


class Inconsistent(Exception):
    """The same paymentRequestId was used for another amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a checker is told about one order: money in minor units, times in ms of the epoch."""

    payment_request_id: str
    status: Standing = Standing.NEVER_CREATED
    scenario: str = ""
    expects: str = ""  #: the status that a reconciler must reach
    currency: str = ""
    amount: int = 0
    taken: int = 0  #: what the buyer was charged
    refunded: int = 0
    created_at: Ms | None = None
    closing_at: Ms | None = None
    paid_at: Ms | None = None
    closed_at: Ms | None = None
    inquiries: int = 0
    cancels: int = 0
    pays: int = 0
    notifications_sent: int = 0
    notifications_acked: int = 0
    forgeries_sent: int = 0
    forgeries_acked: int = 0  #: must stay 0
    settled: bool = True  #: nothing more befalls it unless the merchant acts

    @property
    def kept(self) -> int:
        """The buyer's money that stays taken."""
        return self.taken - self.refunded

    def to_json(self) -> dict[str, Any]:
        return {_camel(each.name): getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Truth":
        truth = cls(**{each.name: data[_camel(each.name)] for each in fields(cls)})
        return replace(truth, status=Standing(truth.status))


def agrees(status: str, truth: Truth) -> bool:
    """Whether what the merchant was told is true of the money.

    `succeeded` if and only if it was paid and not given back; `failed` and `cancelled` both mean
    that none stays taken. `unresolved` claims nothing, nor does `forgotten`. A payment that is
    still `pending` or `cancelling` has not ended, and agrees with nothing.
    """
    match status:
        case "succeeded":
            return truth.status is Standing.PAID and truth.kept > 0
        case "failed" | "cancelled":
            return truth.kept == 0
        case _:
            return status in ("unresolved", "forgotten")


class Ledger:
    """All orders of one gateway, and what is still to befall them."""

    def __init__(
        self,
        *,
        seed: int = 0,
        default_life: Ms = 840_000,
        time_scale: float = 1.0,
        notify_url: str | None = None,
        switches: Switches | None = None,
    ) -> None:
        self._seed = seed
        self._default_life = default_life
        self._time_scale = time_scale
        self._notify_url = notify_url
        self._switches = switches or Switches()
        self._orders: dict[str, Order] = {}
        self._request_ids: dict[str, str] = {}  # by paymentId
        self._calls: dict[str, Calls] = {}
        self._numbers = count()  # break ties: what was scheduled first comes first
        self._ahead: list[tuple[Ms, int, Order, Happening]] = []
        self._notices: list[tuple[Ms, int, Notice]] = []
        self.journal: deque[Moment] = deque(maxlen=JOURNAL)

    # Orders, and calls about them.

    def create(
        self,
        payment_request_id: str,
        amount: Money,
        now: Ms,
        *,
        scenario: str | None = None,
        life: Ms | None = None,
        notify_url: str | None = None,
    ) -> Order:
        """Make an order that closes `life` from now; the same id and amount again changes nothing.

        `scenario` names a row of `SCENARIOS`; None leaves it to the id. Raises `Inconsistent` for
        another amount: docs.antom.com/ac/ams/idempotency.
        """
        known = self._orders.get(payment_request_id)
        if known is None:
            row = SCENARIOS[scenario] if scenario else choose(payment_request_id, self._seed)
            known = Order(
                payment_request_id=payment_request_id,
                payment_id=self._payment_id(payment_request_id),
                scenario=row,
                amount=amount,
                created_at=now,
                closing_at=now + (life or self._default_life),
                notify_url=notify_url or self._notify_url,
                notice_delay=self._notice_delay(payment_request_id),
                calls=self._calls_about(payment_request_id),
            )
            self._open(known)
        elif known.amount != amount:
            raise Inconsistent(payment_request_id)
        self.advance(now)
        return known

    def __contains__(self, payment_request_id: str) -> bool:
        return payment_request_id in self._orders

    def ask_pay(self, payment_request_id: str, digest: str, now: Ms) -> Fault | None:
        """Count a pay, and make nothing yet; what is wrong with this one."""
        calls = self._calls_about(payment_request_id)
        calls.pays += 1
        self.advance(now)
        self.note(now, payment_request_id, "pay", digest)
        order = self._orders.get(payment_request_id)
        row = order.scenario if order else choose(payment_request_id, self._seed)
        fault = row.pays.fault(calls.pays, order.age(now) if order else 0) if row.pays else None
        if fault is Fault.REFUSED:
            self.note(now, payment_request_id, "refused")
        return fault

    def inquire(self, payment_request_id: str, now: Ms) -> Order | None:
        """Count an inquiry; the order as it stands now, None if the gateway knows none."""
        self._calls_about(payment_request_id).inquiries += 1
        self.advance(now)
        self.note(now, payment_request_id, "inquiry")
        return self._known(payment_request_id, now)

    def ask_cancel(self, payment_request_id: str, now: Ms) -> Order | None:
        """Count a cancel, and leave the order as it is; None if the gateway knows none."""
        self._calls_about(payment_request_id).cancels += 1
        self.advance(now)
        self.note(now, payment_request_id, "cancel")
        return self._known(payment_request_id, now)

    def cancel(self, order: Order, now: Ms) -> CancelResult:
        """Carry the cancel out."""
        if order.scenario.pays_on_cancel and order.paid_at is None:
            self._happen(order, Happening.PAID, now)
        before = order.standing
        result = cancel(order, now, self._switches)
        if order.standing is not before:
            self._follow_cancel(order, now)
        return result

    def note(self, at: Ms, payment_request_id: str, what: str, detail: str = "") -> None:
        """Write a moment down."""
        self.journal.append(Moment(at, payment_request_id, what, detail))

    def request_id_of(self, payment_id: str) -> str | None:
        """The paymentRequestId of the order with this paymentId."""
        return self._request_ids.get(payment_id)

    # Time.

    def advance(self, now: Ms) -> None:
        """Let everything happen that was due by now."""
        while self._ahead and self._ahead[0][0] <= now:
            at, _, order, happening = heapq.heappop(self._ahead)
            order.ahead -= 1
            self._happen(order, happening, at)

    def take_notices(self, now: Ms) -> Iterator[Notice]:
        """The notifications that are due by now, each handed out once."""
        self.advance(now)
        while self._notices and self._notices[0][0] <= now:
            yield heapq.heappop(self._notices)[2]

    def next_at(self) -> Ms | None:
        """When something happens next by itself; None: nothing will."""
        return min((line[0][0] for line in (self._ahead, self._notices) if line), default=None)

    # The truth.

    def truths(self, now: Ms) -> list[Truth]:
        """Every order by its creation, then the ids that were asked about and never created."""
        self.advance(now)
        return [_truth(order) for order in self._orders.values()] + [
            Truth(
                payment_request_id=name,
                inquiries=calls.inquiries,
                cancels=calls.cancels,
                pays=calls.pays,
            )
            for name, calls in self._calls.items()
            if name not in self._orders
        ]

    # How it works.

    def _known(self, payment_request_id: str, now: Ms) -> Order | None:
        self.advance(now)
        order = self._orders.get(payment_request_id)
        return order if order and order.age(now) >= order.scenario.appears else None

    def _calls_about(self, payment_request_id: str) -> Calls:
        return self._calls.setdefault(payment_request_id, Calls())

    def _payment_id(self, payment_request_id: str) -> str:
        digest = sha256(f"{self._seed}:{payment_request_id}".encode()).digest()
        return f"20260101{int.from_bytes(digest[:8]):020d}"

    def _notice_delay(self, payment_request_id: str) -> Ms:
        draw = random.Random(f"{self._seed}:{payment_request_id}:notice")
        return round(draw.randint(*USUAL_NOTICE) * self._time_scale)

    def _open(self, order: Order) -> None:
        self._orders[order.payment_request_id] = order
        self._request_ids[order.payment_id] = order.payment_request_id
        for percent, happening in order.scenario.happens:
            self._schedule(order, happening, order.at(percent))
        for percent, forgery in order.scenario.forgeries:
            self._post(Notice(order=order, at=order.at(percent), forgery=forgery))

    def _schedule(self, order: Order, happening: Happening, at: Ms) -> None:
        order.ahead += 1
        heapq.heappush(self._ahead, (at, next(self._numbers), order, happening))

    def _post(self, notice: Notice) -> None:
        heapq.heappush(self._notices, (notice.at, next(self._numbers), notice))

    def _happen(self, order: Order, happening: Happening, at: Ms) -> None:
        before = order.standing
        notice = befall(order, happening, at)
        if order.standing is not before:
            self.note(at, order.payment_request_id, happening.value)
        if notice is not None:
            self._notify(notice)

    def _notify(self, notice: Notice) -> None:
        """Send the notice on its way, as the scenario wants it to travel."""
        order, plan = notice.order, notice.order.scenario.notify
        delay = order.notice_delay if plan.after is None else order.part(plan.after)
        for _ in range(plan.copies):
            self._post(replace(notice, at=notice.at + delay))

    def _follow_cancel(self, order: Order, now: Ms) -> None:
        if self._switches.notify_cancelled:
            self._notify(Notice(order=order, at=now, status="F", code="ORDER_IS_CANCELED"))
        wait = order.scenario.pays_after_cancel
        if wait is not None and order.paid_at is None:
            self._schedule(order, Happening.PAID_ALL_THE_SAME, now + order.part(wait))


def _truth(order: Order) -> Truth:
    charged = order.paid_at is not None or order.standing is Standing.CONFIRMING
    return Truth(
        payment_request_id=order.payment_request_id,
        status=order.standing,
        scenario=order.scenario.name,
        expects=order.scenario.expects,
        currency=order.amount.currency,
        amount=order.amount.value,
        taken=order.paid_amount.value if charged else 0,
        refunded=order.paid_amount.value if order.returned else 0,
        created_at=order.created_at,
        closing_at=order.closing_at,
        paid_at=order.paid_at,
        closed_at=order.closed_at,
        inquiries=order.calls.inquiries,
        cancels=order.calls.cancels,
        pays=order.calls.pays,
        notifications_sent=order.notifications_sent,
        notifications_acked=order.notifications_acked,
        forgeries_sent=order.forgeries_sent,
        forgeries_acked=order.forgeries_acked,
        settled=order.ahead == 0,
    )


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
