"""Send our pay, and hear what became of it.

Source: docs.antom.com/ac/ams/ec
"""

from jobs.step import take
from jobs.tools import LEASE, Loaded, Tools


async def send_pay(tools: Tools, loaded: Loaded) -> None:
    """Only for a payment whose record says that this pay is sent.

    Killed before it leaves, it counts as unanswered, and is repeated: the same bytes again, which
    the gateway takes as the same order.
    """
    sent_at = loaded.payment.last_pay_at or 0
    if tools.store.latest() - sent_at >= LEASE:
        return  # we were frozen: another worker holds the payment now, and may know better
    gateway = tools.accounts[loaded.payment.client_id].gateway
    answer = await gateway.pay(loaded.payment, sent_at)
    await take(tools, loaded, answer)
