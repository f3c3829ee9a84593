"""What can be heard about a payment.

A *message* is what came, verified and parsed. *News* is what the message is worth for one payment:
`jobs.evidence.hear` turns the first into the second, and `jobs.payment.decide` knows only news.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from jobs.model import Money, Ms, OnTimeout, Refusal, Status, Via

# Messages: what came.


class Call(StrEnum):
    """What became of a call as such; it says nothing about the money."""

    OK = "ok"  #: resultStatus S
    UNKNOWN = "unknown"  #: resultStatus U, or one we do not know
    NOT_EXIST = "not_exist"  #: F: no such order
    WINDOW_EXCEEDED = "window_exceeded"  #: F: too late for a cancel
    MISCONFIGURED = "misconfigured"  #: F: keys, client id, contract: a person must act
    REFUSED = "refused"  #: any other F


class GatewayStatus(StrEnum):
    """The paymentStatus of an inquiry answer."""

    SUCCESS = "SUCCESS"
    FAIL = "FAIL"
    CANCELLED = "CANCELLED"
    PROCESSING = "PROCESSING"
    PENDING = "PENDING"
    UNKNOWN = "?"  #: absent, or a word not in the protocol


class NotifyKind(StrEnum):
    RESULT = "PAYMENT_RESULT"
    PENDING = "PAYMENT_PENDING"


@dataclass(frozen=True, slots=True)
class Return:
    """A transaction that gives money back: REFUND, CANCEL or VOID, done or under way."""

    kind: str
    amount: Money | None  #: None: the gateway did not say


@dataclass(frozen=True, slots=True, kw_only=True)
class InquiryAnswer:
    """A verified answer to our inquiry."""

    asked_at: Ms
    answered_at: Ms | None  #: its response-time; None if unreadable
    call: Call
    code: str
    payment_status: GatewayStatus = GatewayStatus.UNKNOWN
    payment_request_id: str = ""
    payment_id: str = ""
    amount: Money | None = None
    created_at: Ms | None = None
    paid_at: Ms | None = None
    returns: tuple[Return, ...] = ()
    took: Ms | None = field(default=None, compare=False)  #: from asking to the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswer:
    """A verified answer to our cancel."""

    asked_at: Ms
    answered_at: Ms | None
    call: Call
    code: str
    payment_request_id: str = ""
    payment_id: str = ""
    took: Ms | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayAnswer:
    """A verified answer to our pay. S says that the order exists, never that anybody paid."""

    asked_at: Ms
    answered_at: Ms | None
    call: Call
    code: str
    payment_request_id: str = ""
    payment_id: str = ""
    amount: Money | None = None
    created_at: Ms | None = None
    redirect_url: str = ""  #: where the buyer goes to pay; empty: the gateway gave none
    redirect_method: str = ""
    took: Ms | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """No answer that can be trusted."""

    asked_at: Ms
    why: str  #: timeout, connection, http_503, untrusted_<reason>, bad_answer, ...
    to_cancel: bool = False
    to_pay: bool = False
    left: bool = True  #: whether the request may have left us
    took: Ms | None = field(default=None, compare=False)  #: until we gave up


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A verified notification of one of the two kinds about a payment's result."""

    kind: NotifyKind
    client_id: str
    payment_request_id: str
    status: str  #: resultStatus: S, F or U
    code: str
    payment_id: str = ""
    amount: Money | None = None
    created_at: Ms | None = None
    paid_at: Ms | None = None
    sent_at: Ms | None = None  #: its request-time; None if unreadable
    received_at: Ms = 0
    digest: str = field(default="", compare=False)  #: of its body, as the receiver's line tells it


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """Verified, but not to be understood; its paymentRequestId could be read."""

    payment_request_id: str
    why: str
    digest: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherKind:
    """A verified notification of a kind that is not about a payment's result."""

    kind: str
    payment_request_id: str = ""
    digest: str = field(default="", compare=False)


# Commands: what the merchant or an operator wants. They are message and news at once.


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """`payment.track`: follow this payment. `at` is when the merchant wrote the command."""

    id: str
    at: Ms
    client_id: str
    payment_request_id: str
    amount: Money
    closing_time: Ms | None = None  #: None: the account's contract decides
    payment_id: str = ""
    on_timeout: OnTimeout = OnTimeout.CANCEL
    reference: str = ""
    callback_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit(Track):
    """`payment.submit`: send `pay` for this payment, then follow it like any other."""

    form: str  #: the body of pay, as far as the merchant decides it
    digest: str  #: of the form: by it the same payment is known when it is submitted again


class Ask(StrEnum):
    CANCEL = "payment.cancel"
    RECHECK = "payment.recheck"
    FORGET = "payment.forget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`payment.cancel`, `.recheck` or `.forget`."""

    ask: Ask
    id: str
    at: Ms
    client_id: str
    payment_request_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """An operator's decision about a payment that needs a person."""

    id: str
    #: How an unresolved one ended: SUCCEEDED, FAILED or CANCELLED. None: a refund that was required
    #: is made.
    status: Status | None
    who: str
    why: str
    heard: str = ""  #: what the gateway said when it was asked just before


@dataclass(frozen=True, slots=True)
class Tick:
    """The clock: do what is due."""


# News: what it is worth.


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What evidence tells besides the news itself."""

    via: Via
    asked_at: Ms = 0  #: when the question left, for answers
    code: str = ""
    payment_id: str = ""
    created_at: Ms | None = None
    paid_at: Ms | None = None


@dataclass(frozen=True, slots=True)
class Paid:
    facts: Facts


@dataclass(frozen=True, slots=True)
class PaidBack:
    """Paid, and given back: all of it or a part."""

    facts: Facts
    whole: bool


@dataclass(frozen=True, slots=True)
class Failed:
    facts: Facts


@dataclass(frozen=True, slots=True)
class Closed:
    facts: Facts


@dataclass(frozen=True, slots=True)
class Confirming:
    """The buyer has paid, the bank is confirming."""

    facts: Facts


@dataclass(frozen=True, slots=True)
class NotYet:
    facts: Facts


@dataclass(frozen=True, slots=True)
class NotExist:
    facts: Facts


@dataclass(frozen=True, slots=True)
class OrderCreated:
    """The gateway has made the order that our pay asked for; the buyer can pay there now."""

    facts: Facts
    redirect_url: str
    redirect_method: str


@dataclass(frozen=True, slots=True)
class PayRefused:
    """The gateway makes no order for our pay; one of an earlier try may exist."""

    facts: Facts
    misconfigured: bool = False


@dataclass(frozen=True, slots=True)
class CancelConfirmed:
    facts: Facts


@dataclass(frozen=True, slots=True)
class CancelRefused:
    facts: Facts
    why: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Genuine, but not about this money: another amount, currency or paymentId."""

    kind: str  #: amount_mismatch or payment_id_mismatch
    value: str  #: what was heard
    asked_at: Ms = 0  #: 0: from a notification
    to_pay: bool = False  #: heard in the answer to our pay


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """Nothing that counts came back."""

    why: str
    asked_at: Ms
    to_cancel: bool = False
    to_pay: bool = False
    left: bool = True
    misconfigured: bool = False


@dataclass(frozen=True, slots=True)
class Hint:
    """Genuine, but not evidence: better ask now."""


@dataclass(frozen=True, slots=True)
class Known:
    """Genuine, and nothing new."""


Answer: TypeAlias = InquiryAnswer | CancelAnswer | PayAnswer | Silence
Command: TypeAlias = Track | Submit | Order | Resolve
Message: TypeAlias = Answer | Notification | Unusable | OtherKind | Command | Tick
Heard: TypeAlias = Paid | PaidBack | Failed | Closed | Confirming | NotYet | NotExist
Called: TypeAlias = CancelConfirmed | CancelRefused | OrderCreated | PayRefused
News: TypeAlias = Heard | Called | Mismatch | NoAnswer | Hint | Known | Command | Tick
