"""Sends notifications until they are acknowledged, and an attacker's once."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TypeAlias
from urllib.parse import urlsplit

import aiohttp

from jobs.model import Ms
from worker.mock_gateway.order import Notice
from worker.mock_gateway.scenarios import Forgery
from worker.mock_gateway.server import Gateway
from worker.mock_gateway.wire import Signer, notification, to_bytes, to_request_time

Message: TypeAlias = tuple[Mapping[str, str], bytes]

#: Seconds between one try and the next: docs.antom.com/ac/ams_zh-cn/notify_subpayment.
RESEND_AFTER = (0, 120, 600, 600, 3_600, 7_200, 21_600, 54_000)
ACK_TIMEOUT = 10  #: s; the real one is not published
MAX_ACK_BYTES = 65_536  #: a real acknowledgement has about 80
OTHER_CLIENT = "SANDBOX_OTHER_MERCHANT"  #: another account of the same gateway


@dataclass(frozen=True, slots=True)
class Notifier:
    """Watches the ledger for notices that are due, and delivers each in a task of its own."""

    gateway: Gateway
    session: aiohttp.ClientSession
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until cancelled, which ends every delivery too."""
        ledger, clock = self.gateway.ledger, self.gateway.clock
        async with asyncio.TaskGroup() as deliveries:
            while True:
                self.changed.clear()
                for notice in ledger.take_notices(clock()):
                    deliveries.create_task(self._deliver(notice))
                await self._sleep_until(ledger.next_at())

    async def _sleep_until(self, at: Ms | None) -> None:
        """Until then, or until something has changed."""
        seconds = None if at is None else max(0, at - self.gateway.clock()) / 1000
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed.wait()

    async def _deliver(self, notice: Notice) -> None:
        order = notice.order
        if order.notify_url is None:
            return
        if notice.forgery is not None:
            order.forgeries_sent += 1
            acked = await self._send(order.notify_url, notice, self._now())
            order.forgeries_acked += acked  # not `+= await`, which would count from before it
        else:
            await self._resend_until_acked(order.notify_url, notice)

    async def _resend_until_acked(self, url: str, notice: Notice) -> None:
        config = self.gateway.config
        first = self._now()
        for pause in RESEND_AFTER:
            await asyncio.sleep(pause * config.time_scale)
            time = first if config.switches.resend_time == "kept" else self._now()
            notice.order.notifications_sent += 1
            if await self._send(url, notice, time):
                notice.order.notifications_acked += 1
                return

    async def _send(self, url: str, notice: Notice, time: str) -> bool:
        """Whether it was acknowledged: HTTP 200 and a body whose resultStatus is S."""
        try:
            headers, body = compose(self.gateway, notice, self._signed_path(url), time)
            async with self.session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                ack = await response.content.read(MAX_ACK_BYTES)
                acked = response.status == 200 and acknowledges(ack)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
        if acked:
            name, digest = notice.order.payment_request_id, sha256(body).hexdigest()
            self.gateway.ledger.note(self.gateway.clock(), name, "acknowledged", digest)
        return acked

    def _signed_path(self, url: str) -> str:
        """The documents say path and query, the sample beside them path alone."""
        parts = urlsplit(url)
        whole = self.gateway.config.switches.notify_signed == "path_and_query"
        query = f"?{parts.query}" if whole and parts.query else ""
        return (parts.path or "/") + query

    def _now(self) -> str:
        return to_request_time(self.gateway.clock())


def compose(gateway: Gateway, notice: Notice, path: str, time: str) -> Message:
    """The headers and the body of a notification, genuine or as an attacker would have it."""
    version = gateway.config.switches.notify_key_version
    signer = gateway.signer if version is None else replace(gateway.signer, key_version=version)
    body = to_bytes(notification(notice))

    def signed_by(somebody: Signer, content: bytes = body) -> Mapping[str, str]:
        return somebody.headers(path, "Request-Time", time, content)

    match notice.forgery:
        case None:
            return signed_by(signer), body
        case Forgery.ATTACKER_KEY:
            return signed_by(gateway.attacker), body
        case Forgery.OTHER_CLIENT:
            return signed_by(replace(signer, client_id=OTHER_CLIENT)), body
        case Forgery.UNSIGNED:
            return {name: signed_by(signer)[name] for name in _UNSIGNED_HEADERS}, body
        case Forgery.ALTERED_BODY:
            failed = replace(notice, status="F", code="USER_BALANCE_NOT_ENOUGH")
            return signed_by(signer, to_bytes(notification(failed))), body


_UNSIGNED_HEADERS = ("Content-Type", "Client-Id", "Request-Time")


def acknowledges(body: bytes) -> bool:
    try:
        return bool(json.loads(body)["result"]["resultStatus"] == "S")
    except (ValueError, LookupError, TypeError):
        return False
