"""What the merchant reads: CloudEvents 1.0 about a payment, and about commands not carried out.

Source: github.com/cloudevents/spec (JSON event format, structured mode)
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.model import SCHEMA, Event, Ms, Payment, Rejected


def rfc3339(at: Ms | None) -> str:
    """UTC with milliseconds; empty if there is no such time."""
    if at is None:
        return ""
    text = (_EPOCH + timedelta(milliseconds=at)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def outcome(payment: Payment, event: Event, now: Ms) -> dict[str, Any]:
    """One event as a CloudEvent; its `id` is the same however often it is published."""
    data = {
        "schema": SCHEMA,
        "seq": event.seq,
        "status": payment.status.value,
        "cause": payment.cause or "",
        "reason": payment.reason,
        "kind": event.kind,
        "value": event.value,
        "advice": event.advice,
        "would": event.would,
        "marks": list(payment.marks),
        "via": event.via or payment.via or "",
        "clientId": payment.client_id,
        "paymentRequestId": payment.payment_request_id,
        "paymentId": payment.payment_id,
        "paymentAmount": {
            "currency": payment.amount.currency,
            "value": str(payment.amount.value),
        },
        "resultCode": payment.result_code,
        "attempts": payment.attempts,
        "trackedAt": rfc3339(payment.tracked_at),
        "closingTime": rfc3339(payment.closing_time),
        "paymentTime": rfc3339(payment.paid_at),
        "finalAt": rfc3339(payment.final_at),
        "reference": payment.reference,
        "sandbox": payment.client_id.startswith("SANDBOX_"),
        **_of_this_kind(payment, event),
    }
    return _cloud_event(
        f"{payment.key}:{event.name}",
        event.type,
        payment.client_id,
        payment.payment_request_id,
        now,
        data,
    )


def _of_this_kind(payment: Payment, event: Event) -> dict[str, str]:
    """What only some events tell."""
    if event.type == "payment.submitted":
        return {
            "redirectUrl": payment.redirect_url,
            "redirectMethod": payment.redirect_method,
        }
    if event.type == "payment.unresolved" or event.kind == "refund_required":
        return {"cancelWindowEnd": rfc3339(payment.cancel_window_end)}
    return {}


def rejection(rejected: Rejected, now: Ms) -> dict[str, Any]:
    """`command.rejected`; a command that named no payment leaves the names empty."""
    data = {
        "schema": SCHEMA,
        "commandId": rejected.command_id,
        "command": rejected.command,
        "reason": rejected.reason,
        "message": rejected.message,
        "advice": rejected.advice,
        "clientId": rejected.client_id,
        "paymentRequestId": rejected.payment_request_id,
        "sandbox": rejected.client_id.startswith("SANDBOX_"),
    }
    return _cloud_event(
        f"command:{rejected.command_id}",
        "command.rejected",
        rejected.client_id,
        rejected.payment_request_id,
        now,
        data,
    )


def _cloud_event(
    id_: str, type_: str, client_id: str, subject: str, now: Ms, data: dict[str, Any]
) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": f"/reconciler/{client_id}",
        "type": type_,
        "subject": subject,
        "time": rfc3339(now),
        "datacontenttype": "application/json",
        "data": data,
    }
