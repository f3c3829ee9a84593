"""Apply what the receiver has put into a payment's inbox."""

from jobs.step import judge, write
from jobs.tools import Loaded, Tools


async def apply_inbox(tools: Tools, loaded: Loaded) -> Loaded | None:
    """Hear each message in the order of arrival; it leaves the inbox with what it changed.

    Whoever loses a race loads again: the winner may have taken the message out already.
    """
    current: Loaded | None = loaded
    while current is not None and current.inbox:
        written = await write(tools, judge(tools, current, current.inbox[0]), heard=1)
        current = written or await tools.store.load(loaded.payment.key)
    return current
