"""What is known of one payment: values only, nothing here does anything.

All times are Redis time and all durations are lengths of it, both in whole milliseconds (`Ms`),
so that no two clocks and no two units ever meet in a comparison.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Ms: TypeAlias = int

SCHEMA = 1  #: the layout of a stored record; a worker leaves alone what it does not know


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in the smallest unit of its currency: USD 5.99 is `Money("USD", 599)`."""

    currency: str
    value: int

    def __str__(self) -> str:
        return f"{self.currency} {self.value}"


class Status(StrEnum):
    """Where a payment stands."""

    PENDING = "pending"  #: followed; the gateway has not said how it ends
    CANCELLING = "cancelling"  #: hope is given up; the cancel is being sent or repeated
    SUCCEEDED = "succeeded"  #: final: the money is paid and not returned
    FAILED = "failed"  #: final: the gateway said FAIL; no money stays taken
    CANCELLED = "cancelled"  #: final: closed or refunded; no money stays taken
    FORGOTTEN = "forgotten"  #: final: the merchant asked us to stop following it
    UNRESOLVED = "unresolved"  #: a person must look; still listed, asking and listening


FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.FORGOTTEN})


class SubmitState(StrEnum):
    """What became of our `pay`. From `OPEN` on it counts as sent, whatever the network did."""

    NONE = "none"  #: not ours to send, or not sent yet
    OPEN = "open"  #: written before the request leaves; no definite answer yet
    CREATED = "created"  #: the order exists, which does not mean that anybody paid
    REFUSED = "refused"  #: the gateway said F; an earlier try may have made the order all the same


class Cause(StrEnum):
    """Why a payment is being cancelled."""

    FAILED = "failed"
    TIMED_OUT = "timed_out"
    REQUESTED = "requested"


class CancelState(StrEnum):
    """What became of our cancel. From `OPEN` on it counts as sent, whatever the network did."""

    NONE = "none"
    OPEN = "open"  #: written before the request leaves; no definite answer yet
    REFUSED = "refused"
    CONFIRMED = "confirmed"


class Refusal(StrEnum):
    """Why the gateway refused a cancel."""

    WINDOW = "window"
    NOT_EXIST = "not_exist"
    OTHER = "other"


class Aftercare(StrEnum):
    """What is still watched after `cancelled` or `failed`."""

    NONE = "none"
    WATCHING = "watching"  #: a few more inquiries: is money taken after all?
    CANCELLING = "cancelling"  #: it was: the cancel is repeated until confirmed
    REFUND_REQUIRED = "refund_required"  #: the cancel will not do: a person must refund


class OnTimeout(StrEnum):
    CANCEL = "cancel"
    REPORT = "report"


class Via(StrEnum):
    """How a fact was learned."""

    NOTIFICATION = "notification"
    INQUIRY = "inquiry"
    CANCEL = "cancel"
    PAY = "pay"
    OPERATOR = "operator"


class Act(StrEnum):
    """What a worker can do about a payment."""

    INQUIRE = "inquire"
    CANCEL = "cancel"
    PAY = "pay"
    WAIT = "wait"
    ERASE = "erase"  #: delete record and timeline, as the merchant asked


@dataclass(frozen=True, kw_only=True)  # without slots: a dictionary is copied at once
class Payment:
    """The record of one payment. `decide` alone makes a changed one."""

    # Who and how much, as the merchant tracked it.
    client_id: str
    payment_request_id: str
    amount: Money
    tracked_at: Ms
    closing_time: Ms
    closing_agreed: bool = False  #: from the contract, so the gateway's creation time may move it
    on_timeout: OnTimeout = OnTimeout.CANCEL
    reference: str = ""
    callback_url: str = ""

    # Where it stands.
    status: Status = Status.PENDING
    cause: Cause | None = None
    reason: str = ""  #: why it is unresolved; who resolved it, and why
    marks: tuple[str, ...] = ()
    via: Via | None = None
    final_at: Ms | None = None

    # What the gateway said.
    payment_id: str = ""
    result_code: str = ""
    created_at: Ms | None = None
    paid_at: Ms | None = None
    found: bool = False  #: the gateway has known it in at least one answer
    confirming_since: Ms | None = None
    paid_seen: bool = False  #: heard as paid while a cancel was open
    notifications: int = 0  #: heard of it, of any kind and worth
    not_found: int = 0  #: inquiries in a row answered "order does not exist"

    # Our questions. A phase is a stretch with one schedule: pending, confirming, cancelling, ...
    attempts: int = 0  #: inquiries made, all phases
    phase_since: Ms | None = None  #: None: since it was tracked
    tries: int = 0  #: inquiries or cancels made in this phase
    tried_for: Ms = 0  #: how long the tries of this phase have gone on; outages of ours left out
    tried_at: Ms | None = None  #: when the last try left
    unanswered: int = 0  #: tries in a row that got no answer
    asked_at: Ms | None = None  #: when the last inquiry left

    # Our pay, if the merchant had us submit the payment.
    submit_state: SubmitState = SubmitState.NONE
    pay_request: str = ""  #: its exact body, sent again as it is; empty once it is sent no more
    pay_digest: str = ""  #: of what the merchant submitted, by which the same is known again
    pay_code: str = ""  #: the gateway's word that refused it
    pay_attempts: int = 0
    last_pay_at: Ms | None = None
    silent_pay_at: Ms | None = None  #: the last pay that never got an answer
    redirect_url: str = ""  #: where the buyer pays; kept while somebody may
    redirect_method: str = ""

    # Our cancels.
    cancel_state: CancelState = CancelState.NONE
    cancel_refusal: Refusal | None = None
    cancel_attempts: int = 0
    cancel_command: str = ""  #: the command that asked for it, to be answered if it fails
    first_cancel_at: Ms | None = None
    last_cancel_at: Ms | None = None
    silent_cancel_at: Ms | None = None  #: the last cancel but one, if it never got an answer
    cancel_answered_at: Ms | None = None
    cancel_window_end: Ms | None = None  #: from when on only a refund is expected to help
    aftercare: Aftercare = Aftercare.NONE

    # What comes next.
    next_act: Act = Act.INQUIRE
    next_at: Ms | None = None

    # What was told: the names of events published, so that each is told once.
    told: tuple[str, ...] = ()
    seq: int = 0
    version: int = 0
    schema: int = SCHEMA
    updated_at: Ms = 0

    @property
    def key(self) -> str:
        """The payment's name everywhere: a client id holds no colon, so the first one ends it."""
        return f"{self.client_id}:{self.payment_request_id}"

    def having(self, **changes: Any) -> "Payment":
        """`dataclasses.replace`, at a tenth of its cost: a payment changes often in one turn."""
        if unknown := changes.keys() - vars(self).keys():
            raise TypeError(f"a payment has no {', '.join(sorted(unknown))}")
        new = object.__new__(Payment)
        vars(new).update(vars(self), **changes)
        return new

    @property
    def needs_a_person(self) -> bool:
        """Whether it stays listed until somebody decides, however long that takes."""
        return self.status is Status.UNRESOLVED or self.aftercare is Aftercare.REFUND_REQUIRED

    def count_told(self, prefix: str) -> int:
        """How many events named `prefix`, or `prefix=<value>`, were published."""
        return sum(name == prefix or name.startswith(prefix + "=") for name in self.told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something the merchant is told about a payment, published with the record that says so."""

    type: str  #: `payment.succeeded`, `payment.attention`, ...
    name: str  #: the last part of the CloudEvents id: `succeeded`, `attention.contradiction.1`
    seq: int
    kind: str = ""
    value: str = ""  #: what was seen, for an attention about a value
    advice: str = "none"  #: none, refund or look
    would: str = ""  #: what report mode kept us from doing
    via: Via | None = None  #: how this was learned, if not as the end was


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A command that is not carried out, and why."""

    command_id: str
    command: str
    reason: str
    message: str
    client_id: str = ""
    payment_request_id: str = ""
    advice: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The payment as it is now, what to do at once, and what to tell."""

    payment: Payment
    act: Act = Act.WAIT
    events: tuple[Event | Rejected, ...] = ()
    alarms: tuple[str, ...] = field(default=())  #: for the operator's log, not the merchant
