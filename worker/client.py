"""For the merchant's own Python code: commands into the stream.

    redis = Redis.from_url("redis://localhost")
    await track(redis, "order-4711", "USD", 599, expires_in=600)

Any language does the same with one XADD; see docs/integrate.md.
"""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from worker.commands import encode_data
from worker.keys import Keys


async def track(
    redis: Redis,
    payment_request_id: str,
    currency: str,
    value: int,
    *,
    client_id: str | None = None,
    expires_in: int | None = None,
    expiry_time: str | None = None,
    payment_id: str | None = None,
    on_timeout: str | None = None,
    reference: str | None = None,
    prefix: str = "reconciler",
) -> str:
    """Have a payment followed; the id of the command, as the stream's outcomes name it.

    `value` is in the smallest unit of the currency. `expires_in` are seconds from now,
    `expiry_time` is ISO 8601 with an offset; without either the account's contract decides.
    Tracking the same payment again is safe: it is followed once.
    """
    data = {
        "paymentRequestId": payment_request_id,
        "paymentAmount": {"currency": currency, "value": str(value)},
        "clientId": client_id,
        "expiresIn": expires_in,
        "paymentExpiryTime": expiry_time,
        "paymentId": payment_id,
        "onTimeout": on_timeout,
        "reference": reference,
    }
    return await send(redis, "payment.track", data, prefix)


async def send(
    redis: Redis, type_: str, data: Mapping[str, Any], prefix: str = "reconciler"
) -> str:
    """Write any command; fields that are None are left out."""
    given = {name: value for name, value in data.items() if value is not None}
    entry_id = await redis.xadd(Keys(prefix).commands, {"type": type_, "data": encode_data(given)})
    return entry_id.decode() if isinstance(entry_id, bytes) else str(entry_id)
