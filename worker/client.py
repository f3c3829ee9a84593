"""For the merchant's own Python code: commands into the stream.

    redis = Redis.from_url("redis://localhost")
    await track(redis, "order-4711", "USD", 599, expires_in=600)

Each returns as soon as the command is in the stream, with the command's id: one that is not carried
out is answered by `command.rejected` with that `commandId`, see `worker.outcomes`. What Redis does
not take is raised as redis-py raises it; sent once more, every command is safe.

Any language does the same with one XADD; see docs/integrate.md.
"""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from worker.envelope import encode_data
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
    callback_url: str | None = None,
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
        "callbackUrl": callback_url,
    }
    return await send(redis, "payment.track", data, prefix)


async def submit(
    redis: Redis,
    payment_request_id: str,
    currency: str,
    value: int,
    order: Mapping[str, Any],
    *,
    notify_url: str | None = None,
    redirect_url: str | None = None,
    settlement_currency: str | None = None,
    client_id: str | None = None,
    expires_in: int | None = None,
    expiry_time: str | None = None,
    on_timeout: str | None = None,
    reference: str | None = None,
    callback_url: str | None = None,
    prefix: str = "reconciler",
) -> str:
    """Have the worker create an Entry Code payment at the gateway, and follow it; the command's id.

    `order` is the gateway's own, as its documents write it: `referenceOrderId`, `orderDescription`,
    `orderAmount`, `merchant`, `env`. `payment.submitted` brings the URL to send the buyer to.
    Submitting the same payment again is safe: the gateway is asked under the same id.
    """
    strategy = {"settlementCurrency": settlement_currency} if settlement_currency else None
    data = {
        "paymentRequestId": payment_request_id,
        "paymentAmount": {"currency": currency, "value": str(value)},
        "order": order,
        "paymentNotifyUrl": notify_url,
        "paymentRedirectUrl": redirect_url,
        "settlementStrategy": strategy,
        "clientId": client_id,
        "expiresIn": expires_in,
        "paymentExpiryTime": expiry_time,
        "onTimeout": on_timeout,
        "reference": reference,
        "callbackUrl": callback_url,
    }
    return await send(redis, "payment.submit", data, prefix)


async def cancel(
    redis: Redis,
    payment_request_id: str,
    *,
    client_id: str | None = None,
    reason: str | None = None,
    prefix: str = "reconciler",
) -> str:
    """Have a payment cancelled at the gateway; the id of the command."""
    return await _order(redis, "payment.cancel", payment_request_id, client_id, reason, prefix)


async def recheck(
    redis: Redis,
    payment_request_id: str,
    *,
    client_id: str | None = None,
    reason: str | None = None,
    prefix: str = "reconciler",
) -> str:
    """Have the gateway asked about a payment now; the id of the command."""
    return await _order(redis, "payment.recheck", payment_request_id, client_id, reason, prefix)


async def forget(
    redis: Redis,
    payment_request_id: str,
    *,
    client_id: str | None = None,
    reason: str | None = None,
    prefix: str = "reconciler",
) -> str:
    """Have a payment no longer followed, or the record of one that has ended erased; the id of the
    command."""
    return await _order(redis, "payment.forget", payment_request_id, client_id, reason, prefix)


async def _order(
    redis: Redis,
    type_: str,
    payment_request_id: str,
    client_id: str | None,
    reason: str | None,
    prefix: str,
) -> str:
    about = {"paymentRequestId": payment_request_id, "clientId": client_id, "reason": reason}
    return await send(redis, type_, about, prefix)


async def send(
    redis: Redis, type_: str, data: Mapping[str, Any], prefix: str = "reconciler"
) -> str:
    """Write any command; fields that are None are left out."""
    given = {name: value for name, value in data.items() if value is not None}
    entry_id = await redis.xadd(Keys(prefix).commands, {"type": type_, "data": encode_data(given)})
    return entry_id.decode() if isinstance(entry_id, bytes) else str(entry_id)
