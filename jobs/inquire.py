"""Ask the gateway how a payment stands, and hear its answer.

Source: docs.antom.com/ac/ams/paymentri_online
"""

from jobs.step import take
from jobs.tools import Loaded, Tools


async def inquire(tools: Tools, loaded: Loaded) -> None:
    """Nothing is written before: an inquiry changes nothing, and a lost one is asked again."""
    gateway = tools.accounts[loaded.payment.client_id].gateway
    answer = await gateway.inquire(loaded.payment, tools.store.now())
    await take(tools, loaded, answer)
