"""Carry out what the merchant wants: one code path, however a command came in."""

from dataclasses import dataclass

from jobs.model import Decision, Ms, Rejected
from jobs.news import Order, Submit, Track
from jobs.payment import NO_CANCELS, submit, track
from jobs.report import report_command, report_rejected, report_tracked
from jobs.schedule import MINUTE
from jobs.step import take
from jobs.tools import Entry, Tools
from jobs.turn import name_of

#: A command may overtake the `payment.track` it belongs to: it is retried this long.
NOT_TRACKED_GRACE: Ms = MINUTE


async def carry_out(command: Track | Order, tools: Tools) -> bool:
    """Write down what the command changes; False if it should be tried again later."""
    key = f"{command.client_id}:{command.payment_request_id}"
    loaded = await tools.store.load(key)
    if loaded is not None:
        return await take(tools, loaded, command)
    if isinstance(command, Track):
        return await _track(command, tools)
    if tools.store.now() - command.at < NOT_TRACKED_GRACE:
        return False
    message = "no such payment is tracked; track it first, with the same clientId"
    return await _reject(command, tools, "not_tracked", message)


async def _track(command: Track, tools: Tools) -> bool:
    now = tools.store.now()
    decision = _begin(command, now, tools)
    if isinstance(decision, Refusal):
        return await _reject(command, tools, decision.reason, decision.message)
    entry = Entry(at=now, source="command", what=name_of(command), detail=str(command.amount))
    created = await tools.store.create(decision, [entry])
    if created is None:
        return await carry_out(command, tools)  # another worker tracked it between our two lines
    report_tracked(tools.log, command, created)
    report_command(tools.log, command, created, decision)
    return True


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a new payment is not followed."""

    reason: str
    message: str


def _begin(command: Track, now: Ms, tools: Tools) -> Decision | Refusal:
    account = tools.accounts[command.client_id]
    if not isinstance(command, Submit):
        return track(command, now, account.policy)
    if account.policy.report:
        return Refusal("report_mode", f"{NO_CANCELS}, so it makes no order that may need one")
    closing_time = command.closing_time or command.at + account.policy.closing
    request = account.gateway.pay_request(command, closing_time)
    if not request:
        return Refusal("malformed", "paymentNotifyUrl: give one, or set ALIPAY_NOTIFY_URL")
    return submit(command, now, account.policy, request)


async def _reject(command: Track | Order, tools: Tools, reason: str, message: str) -> bool:
    rejected = Rejected(
        command_id=command.id,
        command=name_of(command),
        reason=reason,
        message=message,
        client_id=command.client_id,
        payment_request_id=command.payment_request_id,
    )
    await tools.store.reject(rejected)
    report_rejected(tools.log, rejected)
    return True
