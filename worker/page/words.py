"""What statuses, reasons and plans mean, in the words of somebody who has never read the code."""

import shlex

from jobs.model import Act, Aftercare, CancelState, Ms, OnTimeout, Payment, Status, SubmitState
from worker import story

MEANING = {
    Status.PENDING: "The gateway has not said yet how it ends.",
    Status.CANCELLING: "Hope is given up: it is being cancelled. Do not deliver.",
    Status.SUCCEEDED: "It is paid, and the money was not given back.",
    Status.FAILED: "The gateway said that it failed; no money stays taken.",
    Status.CANCELLED: "It was closed or refunded; no money stays taken.",
    Status.FORGOTTEN: "You asked to follow it no longer.",
    Status.UNRESOLVED: "Nobody can tell yet how it ended: a person must look.",
}

REFUND = ("money stays taken, and no cancel gives it back", "refund it on the gateway's dashboard")
UNKNOWN_NEED = ("nobody can tell how it ended", "look for it on the gateway's dashboard")


def meaning(payment: Payment) -> str:
    """What its status means, as things are."""
    if payment.aftercare in (Aftercare.CANCELLING, Aftercare.REFUND_REQUIRED):
        return f"It was told as {payment.status}, without money taken. That does not hold."
    return MEANING[payment.status]


def need(payment: Payment) -> tuple[str, str]:
    """Why a person must look, and what helps; both begin small, and may hold `commands`."""
    if payment.aftercare is Aftercare.REFUND_REQUIRED:
        return REFUND
    return story.UNRESOLVED.get(payment.reason, UNKNOWN_NEED)


def needs_since(payment: Payment) -> Ms:
    """Since when a person must look."""
    return payment.phase_since or payment.final_at or payment.tracked_at


def resolve_command(payment: Payment) -> str:
    """What an operator types who has looked, and knows how it ended."""
    refund = payment.aftercare is Aftercare.REFUND_REQUIRED
    ends = "refunded" if refund else "succeeded|failed|cancelled"
    id_ = shlex.quote(payment.payment_request_id)
    return f"reconciler resolve {id_} --as {ends} --reason '...'"


def why(payment: Payment) -> str:
    """In a word or two, why it stands where it stands."""
    if payment.status is Status.PENDING and payment.confirming_since is not None:
        return "bank confirms"
    if payment.cause is not None:
        return payment.cause.value.replace("_", " ")
    if payment.status is Status.PENDING and payment.submit_state is SubmitState.REFUSED:
        return "pay refused"
    return "no answer" if payment.unanswered else ""


def action(payment: Payment) -> str:
    """What is done next, in a word or two."""
    if payment.next_at is None:
        return "nothing"
    return {Act.CANCEL: "cancel", Act.PAY: "pay"}.get(payment.next_act, "ask the gateway")


def what_then(payment: Payment) -> str:
    """What comes of the next action."""
    match payment.status:
        case Status.PENDING if payment.confirming_since is not None:
            return "The buyer has paid and a bank confirms; this may take days."
        case Status.PENDING if payment.on_timeout is OnTimeout.REPORT:
            return "If it is not paid by its closing time, it is reported and not cancelled."
        case Status.PENDING:
            return "If it is not paid by its closing time, it is cancelled."
        case Status.CANCELLING if payment.cancel_state is CancelState.REFUSED:
            return "The gateway refused the cancel: its answer to the next question decides."
        case Status.CANCELLING:
            return "The cancel is repeated until the gateway confirms or refuses it."
        case Status.UNRESOLVED:
            return "A final word of the gateway would still end it."
        case _:
            return _after_the_end(payment)


def _after_the_end(payment: Payment) -> str:
    match payment.aftercare:
        case Aftercare.CANCELLING:
            return "Money was taken after all: the cancel is repeated until it is given back."
        case Aftercare.REFUND_REQUIRED:
            return "Once the gateway says that the money is back, it needs nobody any more."
        case Aftercare.WATCHING:
            return "The gateway is asked a few times more whether that stays so."
        case Aftercare.NONE:
            return "It has ended."
