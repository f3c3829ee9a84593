"""Say in the log what was written of a payment, after it was written."""

from collections.abc import Sequence

from jobs.model import Decision, Event, Payment, Rejected
from jobs.news import (
    CancelAnswer,
    Command,
    InquiryAnswer,
    Message,
    Notification,
    Order,
    OtherKind,
    PayAnswer,
    Resolve,
    Silence,
    Track,
    Unusable,
)
from jobs.outcome import rfc3339
from jobs.tools import Entry, Log
from jobs.turn import name_of


def about(payment: Payment) -> dict[str, str]:
    """By what every line about a payment can be found."""
    return {"client_id": payment.client_id, "payment_request_id": payment.payment_request_id}


def report(
    log: Log,
    message: Message,
    before: Payment,
    after: Payment,
    decision: Decision,
    entries: Sequence[Entry],
) -> None:
    """All that one message has changed."""
    for entry in entries:
        _report_entry(log, entry, message, after)
    for alarm in decision.alarms:
        log.error("payment.alarmed", alarm=alarm, status=after.status.value, **about(after))
    for event in decision.events:
        _report_event(log, event, about(after))
    if isinstance(message, Track | Order | Resolve):
        report_command(log, message, after, decision)
    if after.final_at is not None and before.final_at is None:
        _report_final(log, after)


def report_tracked(log: Log, command: Track, payment: Payment) -> None:
    log.info(
        "payment.tracked",
        amount=str(payment.amount),
        closing_time=rfc3339(payment.closing_time),
        closes_in_ms=payment.closing_time - payment.tracked_at,
        command_id=command.id,
        **about(payment),
    )


def report_command(log: Log, command: Command, payment: Payment, decision: Decision) -> None:
    """A rejection among the events has told its own line."""
    if not any(isinstance(event, Rejected) for event in decision.events):
        log.info(
            "command.accepted",
            command=name_of(command),
            command_id=command.id,
            **about(payment),
        )


def _report_entry(log: Log, entry: Entry, message: Message, after: Payment) -> None:
    match entry.source, entry.what:
        case "inquiry" | "pay" | "cancel", "no_answer":
            _report_silence(log, entry, message, after)
        case "pay" | "cancel", "sent":
            _report_sent(log, entry, after)
        case "inquiry" | "pay" | "cancel", _:
            _report_answer(log, entry, message, after)
        case "notification", _:
            heard = {"heard": entry.what, "code": entry.detail}
            log.info("notification.applied", body_sha256=_digest(message), **heard, **about(after))
        case "status", _:
            log.info("payment.changed", status=entry.what, why=entry.detail, **about(after))
        case _:
            pass  # commands have their own line


def _report_sent(log: Log, entry: Entry, after: Payment) -> None:
    if entry.source == "pay":
        log.info("pay.sent", attempt=after.pay_attempts, **about(after))
        return
    command_id = after.cancel_command
    log.info("cancel.sent", attempt=after.cancel_attempts, command_id=command_id, **about(after))


def _report_answer(log: Log, entry: Entry, message: Message, after: Payment) -> None:
    said = {"heard": entry.what, "code": entry.detail, "ms": _took(message), **about(after)}
    match entry.source:
        case "cancel":
            log.info("cancel.completed", endpoint="cancel", **said)
        case "pay":
            log.info("pay.completed", endpoint="pay", **said)
        case _:
            log.info("inquiry.completed", endpoint="inquiryPayment", **said)


def _report_silence(log: Log, entry: Entry, message: Message, after: Payment) -> None:
    said = {"why": entry.detail, "in_a_row": after.unanswered, "ms": _took(message), **about(after)}
    match entry.source:
        case "cancel":
            log.warning("cancel.unanswered", endpoint="cancel", **said)
        case "pay":
            log.warning("pay.unanswered", endpoint="pay", **said)
        case _:
            log.warning("inquiry.unanswered", endpoint="inquiryPayment", **said)


def _took(message: Message) -> int | None:
    answers = InquiryAnswer, CancelAnswer, PayAnswer, Silence
    return message.took if isinstance(message, answers) else None


def _digest(message: Message) -> str:
    return message.digest if isinstance(message, Notification | Unusable | OtherKind) else ""


def _report_event(log: Log, event: Event | Rejected, about: dict[str, str]) -> None:
    if isinstance(event, Rejected):
        report_rejected(log, event)
        return
    log.info("outcome.published", type=event.type, name=event.name, seq=event.seq, **about)


def report_rejected(log: Log, rejected: Rejected) -> None:
    """A command that is not carried out; the merchant reads the same in the stream of outcomes."""
    log.warning(
        "command.rejected",
        command=rejected.command,
        command_id=rejected.command_id,
        reason=rejected.reason,
        message=rejected.message,
        client_id=rejected.client_id,
        payment_request_id=rejected.payment_request_id,
    )


def _report_final(log: Log, payment: Payment) -> None:
    """The canonical line of a payment: its whole story in one."""
    ended = payment.final_at or 0
    log.info(
        "payment.final",
        status=payment.status.value,
        via=payment.via,
        cause=payment.cause,
        marks=list(payment.marks),
        payment_id=payment.payment_id,
        amount=str(payment.amount),
        result_code=payment.result_code,
        notifications=payment.notifications,
        inquiries=payment.attempts,
        unanswered=payment.unanswered,
        cancels=payment.cancel_attempts,
        cancel_state=payment.cancel_state.value,
        tracked_at=rfc3339(payment.tracked_at),
        closing_time=rfc3339(payment.closing_time),
        followed_ms=ended - payment.tracked_at,
        past_closing_ms=max(0, ended - payment.closing_time),
        **about(payment),
    )
