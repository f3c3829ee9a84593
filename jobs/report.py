"""Say in the log what was written of a payment, after it was written."""

from collections.abc import Sequence
from typing import Any

from jobs.model import Decision, Event, Payment, Rejected
from jobs.news import (
    CancelAnswer,
    Command,
    InquiryAnswer,
    Message,
    Notification,
    Order,
    OtherKind,
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
    said: dict[str, Any] = {"heard": entry.what, "code": entry.detail, **about(after)}
    match entry.source, entry.what:
        case "inquiry" | "cancel", "no_answer":
            _report_silence(log, entry, message, after)
        case "inquiry", _:
            log.info("inquiry.completed", endpoint="inquiryPayment", ms=_took(message), **said)
        case "cancel", "sent":
            log.info(
                "cancel.sent",
                attempt=after.cancel_attempts,
                command_id=after.cancel_command,
                **about(after),
            )
        case "cancel", _:
            log.info("cancel.completed", endpoint="cancel", ms=_took(message), **said)
        case "notification", _:
            log.info("notification.applied", body_sha256=_digest(message), **said)
        case "status", _:
            log.info("payment.changed", status=entry.what, why=entry.detail, **about(after))
        case _:
            pass  # commands have their own line


def _report_silence(log: Log, entry: Entry, message: Message, after: Payment) -> None:
    said = {"why": entry.detail, "in_a_row": after.unanswered, "ms": _took(message), **about(after)}
    if entry.source == "cancel":
        log.warning("cancel.unanswered", endpoint="cancel", **said)
    else:
        log.warning("inquiry.unanswered", endpoint="inquiryPayment", **said)


def _took(message: Message) -> int | None:
    return message.took if isinstance(message, InquiryAnswer | CancelAnswer | Silence) else None


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
