"""Send a cancel, and hear what became of it.

Source: docs.antom.com/ac/ams/paymentc_online
"""

from jobs.step import call
from jobs.tools import Loaded, Tools


async def send_cancel(tools: Tools, loaded: Loaded) -> None:
    """Only for a payment whose record says that this cancel is sent."""
    gateway = tools.accounts[loaded.payment.client_id].gateway
    await call(tools, loaded, loaded.payment.last_cancel_at, gateway.cancel)
