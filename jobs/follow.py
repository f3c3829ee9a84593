"""The job that follows a payment: one wake-up, one thing done.

The arq job of a payment is only an alarm clock. What is due stands in the record; when a job is
lost, run twice, or killed between two lines, the next wake-up finds the truth there.
"""

from jobs.cancel import send_cancel
from jobs.inquire import inquire
from jobs.limits import CALLS
from jobs.model import Act
from jobs.news import Tick
from jobs.notification import apply_inbox
from jobs.pay import send_pay
from jobs.report import about
from jobs.step import judge, write
from jobs.tools import Loaded, Tools


async def follow(key: str, tools: Tools) -> None:
    """Hear what has come, then do what is due: inquire, pay, cancel, or nothing."""
    loaded = await tools.store.claim(key)
    if loaded is None:
        return  # not due, not tracked, or in another worker's hands
    tools.log.debug("payment.woken", late_ms=loaded.late, **about(loaded.payment))
    if loaded.payment.client_id not in tools.accounts:
        tools.log.error("account.unknown", **about(loaded.payment))
        return  # left as it is: the lease brings it back
    loaded = await apply_inbox(tools, loaded)
    if loaded is not None:
        await _do_what_is_due(tools, loaded)


async def _do_what_is_due(tools: Tools, loaded: Loaded) -> None:
    step = judge(tools, loaded, Tick())
    act = step.decision.act
    if act in CALLS and not await tools.limits.admit(loaded, act):
        return  # it waits in line, with nothing counted, and is woken when its turn comes
    if act is Act.INQUIRE:
        return await inquire(tools, loaded)
    written = await write(tools, step)  # if another was first, what it wrote decides what is due
    if written is None:
        return
    match act:
        case Act.CANCEL:
            await send_cancel(tools, written)
        case Act.PAY:
            await send_pay(tools, written)
        case _:
            pass
