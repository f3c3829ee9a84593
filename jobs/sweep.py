"""Wake what sleeps too long.

Whatever happens to the arq keys (expired, dropped, deleted, flushed), the open set knows which
payments are overdue. Once in a while each of them that has no job gets one again.
"""

from jobs.tools import Tools


async def sweep(tools: Tools) -> int:
    """Queue every overdue payment whose job is lost; how many there were."""
    woken = await tools.store.wake_overdue()
    if woken:
        tools.log.warning("sweep.completed", woken=woken)
    return woken
