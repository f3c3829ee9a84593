"""Say aloud which payments should have ended long ago.

This asks nothing of what it watches. It reads the records as they stand, so a payment is found
whether its job is lost, breaks again and again, or asks in vain.
"""

from jobs.schedule import MINUTE
from jobs.tools import Tools

#: The patience of the last inquiry may take longer, and then this is the first that is heard of it.
STUCK_AFTER = 10 * MINUTE


async def report_stuck(tools: Tools) -> int:
    """One line for each payment that is open so long after its closing time; how many were new."""
    reported = 0
    async for stuck in tools.store.stuck(STUCK_AFTER):
        client_id, _, payment_request_id = stuck.key.partition(":")
        tools.log.error(
            "payment.stuck",
            client_id=client_id,
            payment_request_id=payment_request_id,
            **stuck.facts,
            history=list(stuck.history),
        )
        await tools.store.told(stuck.key)  # after the line: rather twice than never
        reported += 1
    return reported
