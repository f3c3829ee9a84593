"""Send our pay, and hear what became of it.

Source: docs.antom.com/ac/ams/ec
"""

from jobs.step import call
from jobs.tools import Loaded, Tools


async def send_pay(tools: Tools, loaded: Loaded) -> None:
    """Only for a payment whose record says that this pay is sent: the same bytes every time."""
    gateway = tools.accounts[loaded.payment.client_id].gateway
    await call(tools, loaded, loaded.payment.last_pay_at, gateway.pay)
