"""Carry out what the merchant wants: one code path, however a command came in."""

from jobs.model import Ms, Rejected
from jobs.news import Order, Track
from jobs.payment import track
from jobs.report import report_command, report_rejected, report_tracked
from jobs.schedule import MINUTE
from jobs.step import take
from jobs.tools import Entry, Tools

#: A command may overtake the `payment.track` it belongs to: it is retried this long.
NOT_TRACKED_GRACE: Ms = MINUTE


async def carry_out(command: Track | Order, tools: Tools) -> bool:
    """Write down what the command changes; False if it should be tried again later."""
    key = f"{command.client_id}:{command.payment_request_id}"
    loaded = await tools.store.load(key)
    if loaded is not None:
        return await take(tools, loaded, command, wake=True)
    if isinstance(command, Track):
        return await _track(command, tools)
    if tools.store.now() - command.at < NOT_TRACKED_GRACE:
        return False
    rejected = _not_tracked(command)
    await tools.store.reject(rejected)
    report_rejected(tools.log, rejected)
    return True


async def _track(command: Track, tools: Tools) -> bool:
    now = tools.store.now()
    decision = track(command, now, tools.accounts[command.client_id].policy)
    entry = Entry(at=now, source="command", what="payment.track", detail=str(command.amount))
    created = await tools.store.create(decision, [entry])
    if created is None:
        return await carry_out(command, tools)  # another worker tracked it between our two lines
    report_tracked(tools.log, command, created)
    report_command(tools.log, command, created, decision)
    return True


def _not_tracked(command: Order) -> Rejected:
    return Rejected(
        command_id=command.id,
        command=command.ask.value,
        reason="not_tracked",
        message="no such payment is tracked; track it first, with the same clientId",
        client_id=command.client_id,
        payment_request_id=command.payment_request_id,
    )
