"""`hear`: what a message is worth for one payment.

A genuine signature proves who wrote a message, not that it answers our question, nor that it is
still true. The rules of evidence below decide that; whatever fails them can at most make us ask.
"""

from dataclasses import replace

from jobs.model import CancelState, Money, Ms, Payment, Refusal, Status, Via
from jobs.news import (
    Call,
    CancelAnswer,
    CancelConfirmed,
    CancelRefused,
    Closed,
    Confirming,
    Facts,
    Failed,
    GatewayStatus,
    Hint,
    InquiryAnswer,
    Known,
    Message,
    Mismatch,
    News,
    NoAnswer,
    NotExist,
    Notification,
    NotifyKind,
    NotYet,
    Order,
    OrderCreated,
    OtherKind,
    Paid,
    PaidBack,
    PayAnswer,
    PayRefused,
    Resolve,
    Return,
    Silence,
    Tick,
    Track,
    Unusable,
)
from jobs.schedule import SECOND, Policy


def hear(payment: Payment, message: Message, now: Ms, policy: Policy) -> News:
    """The news in `message`, judged at Redis time `now`."""
    match message:
        case Notification():
            return _notification(payment, message, policy)
        case InquiryAnswer():
            return _inquiry(payment, message, now, policy)
        case CancelAnswer():
            return _cancel(payment, message, now, policy)
        case PayAnswer():
            return _pay(payment, message, now, policy)
        case Silence():
            return NoAnswer(
                why=message.why,
                asked_at=message.asked_at,
                to_cancel=message.to_cancel,
                to_pay=message.to_pay,
                left=message.left,
            )
        case Unusable():
            return Hint()
        case OtherKind():
            return Known()
        case Track() | Order() | Resolve() | Tick():
            return message


def evidence_from(payment: Payment, policy: Policy) -> Ms:
    """Only inquiries sent from here on count: earlier ones tell what was before the cancel.

    A cancel that got no answer may still be on its way, hence the quiet time after it.
    """
    match payment.cancel_state:
        case CancelState.NONE:
            return 0
        case CancelState.OPEN:
            return (payment.last_cancel_at or 0) + policy.cancel_quiet
        case CancelState.REFUSED:
            silent = payment.silent_cancel_at
            quiet = 0 if silent is None else silent + policy.cancel_quiet
            return max(payment.cancel_answered_at or 0, quiet)
        case CancelState.CONFIRMED:
            return payment.cancel_answered_at or 0


# Notifications


def _notification(payment: Payment, said: Notification, policy: Policy) -> News:
    """A notification is evidence only while fresh and before any cancel; else ask now."""
    failed, succeeded = said.status == "F", said.status == "S"
    if said.kind is NotifyKind.PENDING or not (failed or succeeded):
        return Hint()  # PAYMENT_PENDING carries resultStatus S, and is no success
    if _says_what_we_know(payment, said):
        return Known()
    if not _notifications_count(payment) or not _fresh(said.sent_at, said.received_at, policy):
        return Hint()
    if mismatch := _mismatch(payment, said.payment_id, said.amount, needed=succeeded):
        return mismatch
    facts = Facts(
        via=Via.NOTIFICATION,
        code=said.code,
        payment_id=said.payment_id,
        created_at=said.created_at,
        paid_at=said.paid_at,
    )
    if failed:
        return Failed(facts)
    if payment.status is Status.CANCELLING or _after_closing(payment, said, policy):
        return Hint()  # a payment after closing may be refunded at once: only an inquiry can tell
    return Paid(facts)


def _says_what_we_know(payment: Payment, said: Notification) -> bool:
    if said.status == "F":
        return payment.status in (Status.FAILED, Status.CANCELLED)
    return payment.status is Status.SUCCEEDED and said.amount == payment.amount


def _notifications_count(payment: Payment) -> bool:
    open_ = (Status.PENDING, Status.CANCELLING, Status.UNRESOLVED)
    return payment.cancel_state is CancelState.NONE and payment.status in open_


def _after_closing(payment: Payment, said: Notification, policy: Policy) -> bool:
    """By the contract time runs from the creation at the gateway, which ours may lag behind; and a
    closing time was told to it in whole seconds, so its own may end up to one before ours."""
    closing_time = payment.closing_time
    created_at = payment.created_at or said.created_at
    if payment.closing_agreed and created_at is not None:
        closing_time = min(closing_time, created_at + policy.closing)
    return max(said.received_at, said.paid_at or 0) >= closing_time - closing_time % SECOND


# Answers


def _inquiry(payment: Payment, said: InquiryAnswer, now: Ms, policy: Policy) -> News:
    def no_answer(why: str, misconfigured: bool = False) -> NoAnswer:
        return NoAnswer(why=why, asked_at=said.asked_at, misconfigured=misconfigured)

    match said.call:
        case Call.MISCONFIGURED:
            return no_answer(said.code, misconfigured=True)
        case Call.UNKNOWN | Call.REFUSED | Call.WINDOW_EXCEEDED:
            return no_answer(said.code)
        case Call.OK | Call.NOT_EXIST:
            pass
    if not _fresh(said.answered_at, now, policy):
        return no_answer("stale")
    if said.asked_at < evidence_from(payment, policy):
        return no_answer("asked_before_cancel_settled")
    if said.asked_at < (payment.asked_at or 0):
        return no_answer("older_than_heard")  # two workers asked; the later one knows better
    if said.call is Call.NOT_EXIST:
        return NotExist(_facts(said))
    if why := _foreign(payment, said):
        return no_answer(why)
    return _payment_status(payment, said) or no_answer("unknown_payment_status")


def _payment_status(payment: Payment, said: InquiryAnswer) -> News | None:
    """A verified, fresh answer about this payment: what does it say of the money?"""
    definite = said.payment_status in (
        GatewayStatus.SUCCESS,
        GatewayStatus.FAIL,
        GatewayStatus.CANCELLED,
    )
    amount = said.amount if definite else None
    paid = said.payment_status is GatewayStatus.SUCCESS
    if mismatch := _mismatch(payment, said.payment_id, amount, paid, said.asked_at):
        return mismatch
    facts = _facts(said)
    match said.payment_status:
        case GatewayStatus.SUCCESS:
            return _paid(payment.amount, said.returns, facts)
        case GatewayStatus.FAIL:
            return Failed(facts)
        case GatewayStatus.CANCELLED:
            return Closed(facts)
        case GatewayStatus.PENDING:
            return Confirming(facts)
        case GatewayStatus.PROCESSING:
            return NotYet(facts)
        case GatewayStatus.UNKNOWN:
            return None


def _paid(amount: Money, returns: tuple[Return, ...], facts: Facts) -> Paid | PaidBack:
    """Paid, less what was given back. A CANCEL or VOID without an amount gives back everything."""
    if not returns:
        return Paid(facts)
    whole = any(back.amount is None and back.kind != "REFUND" for back in returns)
    given = sum(
        back.amount.value
        for back in returns
        if back.amount is not None and back.amount.currency == amount.currency
    )
    return PaidBack(facts, whole=whole or given >= amount.value)


def _cancel(payment: Payment, said: CancelAnswer, now: Ms, policy: Policy) -> News:
    def no_answer(why: str, misconfigured: bool = False) -> NoAnswer:
        return NoAnswer(
            why=why, asked_at=said.asked_at, to_cancel=True, misconfigured=misconfigured
        )

    match said.call:
        case Call.UNKNOWN:
            return no_answer(said.code)
        case Call.MISCONFIGURED:
            return no_answer(said.code, misconfigured=True)
        case _ if not _fresh(said.answered_at, now, policy):
            return no_answer("stale")
        case Call.OK:
            why = _foreign(payment, said)
            return no_answer(why) if why else CancelConfirmed(_facts(said))
        case Call.WINDOW_EXCEEDED:
            return CancelRefused(_facts(said), Refusal.WINDOW)
        case Call.NOT_EXIST:
            return CancelRefused(_facts(said), Refusal.NOT_EXIST)
        case Call.REFUSED:
            return CancelRefused(_facts(said), Refusal.OTHER)


def _pay(payment: Payment, said: PayAnswer, now: Ms, policy: Policy) -> News:
    """S, or U with somewhere to pay: the order exists. F: not by this try."""

    def no_answer(why: str) -> NoAnswer:
        return NoAnswer(why=why, asked_at=said.asked_at, to_pay=True)

    if not _fresh(said.answered_at, now, policy):
        return no_answer("stale")
    match said.call:
        case Call.OK | Call.UNKNOWN if not said.redirect_url:
            return no_answer(said.code if said.call is Call.UNKNOWN else "no_redirect")
        case Call.OK | Call.UNKNOWN:
            return _order_created(payment, said) or no_answer("answer_of_another_payment")
        case _:
            return PayRefused(_facts(said), misconfigured=said.call is Call.MISCONFIGURED)


def _order_created(payment: Payment, said: PayAnswer) -> OrderCreated | Mismatch | None:
    """None if the answer may be another payment's: whose link a buyer gets must be certain."""
    known_id = payment.payment_id != "" and said.payment_id == payment.payment_id
    if said.payment_request_id != payment.payment_request_id and not (
        known_id and not said.payment_request_id
    ):
        return None
    mismatch = _mismatch(payment, said.payment_id, said.amount, False, said.asked_at)
    if mismatch:
        return replace(mismatch, to_pay=True)
    return OrderCreated(_facts(said), said.redirect_url, said.redirect_method)


def _facts(said: InquiryAnswer | CancelAnswer | PayAnswer) -> Facts:
    if isinstance(said, CancelAnswer):
        return Facts(via=Via.CANCEL, asked_at=said.asked_at, code=said.code)
    if isinstance(said, PayAnswer):
        return Facts(
            via=Via.PAY,
            asked_at=said.asked_at,
            code=said.code,
            payment_id=said.payment_id,
            created_at=said.created_at,
        )
    return Facts(
        via=Via.INQUIRY,
        asked_at=said.asked_at,
        code=said.code,
        payment_id=said.payment_id,
        created_at=said.created_at,
        paid_at=said.paid_at,
    )


# The rules themselves


def _fresh(said_at: Ms | None, now: Ms, policy: Policy) -> bool:
    """The signature covers the time, so an old message replayed shows its age."""
    return said_at is not None and abs(now - said_at) <= policy.freshness


def _foreign(payment: Payment, said: InquiryAnswer | CancelAnswer) -> str:
    """Why an answer is not about this payment; the signature does not cover the question."""
    if said.payment_request_id != payment.payment_request_id:
        return "answer_of_another_payment"
    if payment.payment_id and not said.payment_id:
        return "payment_id_missing"
    if isinstance(said, CancelAnswer) and payment.payment_id not in ("", said.payment_id):
        return "answer_of_another_payment"
    return ""


def _mismatch(
    payment: Payment, payment_id: str, amount: Money | None, needed: bool, asked_at: Ms = 0
) -> Mismatch | None:
    """Another paymentId, another amount, or no amount where one is needed."""
    if payment.payment_id and payment_id and payment_id != payment.payment_id:
        return Mismatch(kind="payment_id_mismatch", value=payment_id, asked_at=asked_at)
    if amount != payment.amount and (needed or amount is not None):
        value = "none" if amount is None else str(amount)
        return Mismatch(kind="amount_mismatch", value=value, asked_at=asked_at)
    return None
