"""Sends what waits in `worker.deliveries`, one of each lane at a time, at least once.

Several workers may do so side by side: each takes a lane for the length of a lease. One that dies
between sending and writing that down sends again, with the same id.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs
from redis.exceptions import RedisError

from jobs.deliveries import Attempt, Fate, Next, next_try
from jobs.model import Ms
from jobs.schedule import DAY, MINUTE, SECOND
from worker import callbacks, deliveries
from worker.deliveries import Damaged, Delivery, Kind, OtherVersion
from worker.endpoints import AllowedHosts, RefusedAddress
from worker.logs import log
from worker.outage import Outage
from worker.settings import Account, Settings
from worker.store import Store

AT_ONCE = 64  #: deliveries in one worker's hands
OF_A_GROUP = 8  #: of these, to one endpoint: a slow one delays no other
LOOKED_AT = 500  #: lanes in one step of Redis
ATTEMPT_SECONDS = 15.0  #: for all of it: look-up, connection, TLS, answer
#: How long a lane is held: longer than an attempt and writing down what became of it.
HELD_FOR: Ms = 30 * SECOND
POLL_SECONDS = 0.5  #: how soon what was written meanwhile is seen
UNKNOWN_AGAIN: Ms = MINUTE  #: for what is another's: of an account without settings here, say
MAX_ANSWER_BYTES = 4096  #: read, so that the connection can be used again; nobody looks at them
USUAL_MS = 100.0  #: that an attempt takes, until it is known


@dataclass(frozen=True, slots=True)
class Taken:
    """The first delivery of a lane, in our hands."""

    lane: str
    group: str
    entry: bytes  #: as it stands in Redis

    @property
    def where(self) -> tuple[Kind, str, str]:
        return deliveries.parse_lane(self.lane)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A delivery made ready for one attempt."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class NotReady(Exception):
    """It cannot even be tried; the text is a fault in a word."""


class Courier:
    """One worker's deliveries."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._sessions = Sessions()
        self._hands: set[asyncio.Task[None]] = set()
        self._busy: Counter[str] = Counter()
        self._takes: dict[str, float] = {}  # ms, by group

    async def run(self) -> None:
        """For ever. What is in hand when this is cancelled is sent again after its lease."""
        outage = Outage("deliveries")
        try:
            while True:
                try:
                    pause = await self.collect()
                    outage.answers()
                except (RedisError, OSError) as fault:
                    outage.waits(fault)
                    pause = 1.0
                await self._rest(pause)
        finally:
            for task in self._hands:
                task.cancel()
            await asyncio.gather(*self._hands, return_exceptions=True)
            await self._sessions.close()

    async def _rest(self, pause: float) -> None:
        """Until the next one is due, or a hand is free again."""
        if len(self._hands) < AT_ONCE:
            await asyncio.sleep(pause)
        else:
            await asyncio.wait(self._hands, return_when=asyncio.FIRST_COMPLETED)

    async def collect(self) -> float:
        """Begin to deliver what is due; seconds until it makes sense to look again."""
        free = AT_ONCE - len(self._hands)
        groups = {
            group: [count, round(self._takes.get(group, USUAL_MS))]
            for group, count in self._busy.items()
        }
        due, wait = await self._store.collect(HELD_FOR, free, OF_A_GROUP, LOOKED_AT, groups)
        for lane, group, entry in due:
            self._begin(Taken(lane, group, entry))
        return POLL_SECONDS if wait is None else min(max(wait, 0) / SECOND, POLL_SECONDS)

    def _begin(self, taken: Taken) -> None:
        self._busy[taken.group] += 1
        task = asyncio.create_task(self._deliver(taken))
        self._hands.add(task)
        task.add_done_callback(lambda task: self._ended(task, taken))

    def _ended(self, task: "asyncio.Task[None]", taken: Taken) -> None:
        self._hands.discard(task)
        self._busy[taken.group] -= 1
        if self._busy[taken.group] <= 0:
            del self._busy[taken.group]
            self._takes.pop(taken.group, None)

    async def drain(self) -> None:
        """Wait for what is in hand."""
        if self._hands:
            await asyncio.wait(self._hands)

    async def _deliver(self, taken: Taken) -> None:
        try:
            await self._try(taken)
        except (RedisError, OSError):
            pass  # it is sent again when its lease has run out; that Redis is away others say
        except Exception:
            log.exception("deliveries.failed")

    async def _try(self, taken: Taken) -> None:
        try:
            kind, client_id, _ = taken.where
            delivery = deliveries.read(taken.entry.decode())
        except OtherVersion as fault:
            log.error("record.unreadable", client_id=client_id, fault=str(fault))
            await self._leave(taken)
            return
        except (Damaged, UnicodeDecodeError):
            await self._store.settle(taken.lane, taken.entry, Fate.DEAD, "unreadable", 0)
            word = taken.lane.partition(":")[0][:20]
            said = {"delivery": word, "lane": taken.lane[:200], "fault": "unreadable", "count": 1}
            log.error("delivery.dead", **said)
            return
        if client_id not in self._settings.accounts:
            log.error("account.unknown", client_id=client_id, payment_request_id=delivery.about)
            await self._leave(taken)
            return
        began = time.monotonic()
        attempt = await self._attempt(kind, client_id, delivery)
        took = (time.monotonic() - began) * 1000
        known = self._takes.get(taken.group, took)
        self._takes[taken.group] = (3 * known + took) / 4
        await self._settle(taken, delivery.tried(), attempt, round(took))

    async def _leave(self, taken: Taken) -> None:
        """For another worker, which may be able to send it."""
        wait = (UNKNOWN_AGAIN, taken.entry)
        await self._store.settle(taken.lane, taken.entry, Fate.AGAIN, "", 0, wait)

    async def _attempt(self, kind: Kind, client_id: str, delivery: Delivery) -> Attempt:
        account = self._settings.accounts[client_id]
        try:
            if kind is Kind.CALLBACK:
                parcel = callback(delivery, account, self._store.now())
            else:
                parcel = forward(delivery, self._settings.forward_urls.get(client_id, ""))
        except NotReady as fault:
            return Attempt(fault=str(fault))
        async with self._sessions.of(kind, account) as session:
            return await send(session, parcel)

    async def _settle(self, taken: Taken, delivery: Delivery, attempt: Attempt, ms: int) -> None:
        then = next_try(delivery.tries, attempt, f"{taken.lane}/{delivery.id}")
        again = (then.delay, deliveries.write(delivery)) if then.fate is Fate.AGAIN else None
        settled, buried = await self._store.settle(
            taken.lane, taken.entry, then.fate, attempt.why, delivery.tries, again
        )
        if settled:
            _report(taken, delivery, attempt, then, ms, buried)


# Making ready


def callback(delivery: Delivery, account: Account, now: Ms) -> Parcel:
    """Signed now, with the secrets of now; `NotReady` where the settings do not allow it."""
    if not account.callback_secrets:
        raise NotReady("no_secrets")
    if account.callback_allowed_hosts.why_not(delivery.url):
        raise NotReady("not_allowed")
    signed = callbacks.headers(delivery.id, now // SECOND, delivery.body, account.callback_secrets)
    return Parcel(url=delivery.url, headers=signed, body=delivery.body)


def forward(delivery: Delivery, url: str) -> Parcel:
    """As it came from the gateway."""
    if not url:
        raise NotReady("no_url")
    return Parcel(url=url, headers=dict(delivery.headers), body=delivery.body)


# Sending


@dataclass(eq=False, slots=True)
class Line:
    """A session, and the addresses that it was made for; None: any."""

    allowed: AllowedHosts | None
    session: aiohttp.ClientSession
    hands: int = 0  #: attempts that use it just now


class Sessions:
    """Each account's callbacks have a session of their own: what one may reach is not the other's.

    It ends with the list of allowed hosts that it was made for: its open connections may lead to
    where a changed list forbids to go. What is in hand by then still ends as it began.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[Kind, str], Line] = {}

    @asynccontextmanager
    async def of(self, kind: Kind, account: Account) -> AsyncIterator[aiohttp.ClientSession]:
        which = (kind, account.client_id)
        allowed = account.callback_allowed_hosts if kind is Kind.CALLBACK else None
        before = self._open.get(which)
        if before is None or before.allowed != allowed:
            self._open[which] = Line(allowed, open_session(allowed))
        line = self._open[which]
        line.hands += 1
        try:
            if before is not None:
                await self._end(before)
            yield line.session
        finally:
            line.hands -= 1
            await self._end(line)

    async def _end(self, line: Line) -> None:
        """Close it once it is neither in hand nor for anybody to come."""
        if not line.hands and line not in self._open.values():
            await line.session.close()

    async def close(self) -> None:
        for line in self._open.values():
            await line.session.close()


def open_session(allowed: AllowedHosts | None) -> aiohttp.ClientSession:
    """No cookies, no proxies from the environment, no compression, no redirects."""
    check = allowed.open_socket if allowed is not None else None
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=AT_ONCE, socket_factory=check),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": "payment-reconciler"},
        skip_auto_headers=[hdrs.CONTENT_TYPE],
        auto_decompress=False,
    )


async def send(session: aiohttp.ClientSession, parcel: Parcel) -> Attempt:
    """One attempt. Never raises: no answer is an answer, too."""
    try:
        async with (
            asyncio.timeout(ATTEMPT_SECONDS),
            session.post(
                parcel.url, data=parcel.body, headers=parcel.headers, allow_redirects=False
            ) as reply,
        ):
            await _skim(reply)
            return Attempt(status=reply.status, retry_after=retry_after(reply.headers))
    except TimeoutError:
        return Attempt(fault="timeout")
    except aiohttp.ClientConnectorDNSError:
        return Attempt(fault="no_such_host")
    except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError):
        return Attempt(fault="tls")
    except aiohttp.ClientConnectorError as fault:
        refused = isinstance(fault.os_error, RefusedAddress)
        return Attempt(fault="refused_address" if refused else "not_connected")
    except (aiohttp.ClientError, OSError):
        return Attempt(fault="connection_lost")
    except ValueError:  # of a header or URL that HTTP cannot carry
        return Attempt(fault="not_http")


async def _skim(reply: aiohttp.ClientResponse) -> None:
    """What is longer than an answer needs to be is cut off with its connection."""
    read = 0
    async for chunk in reply.content.iter_any():
        read += len(chunk)
        if read > MAX_ANSWER_BYTES:
            reply.close()
            return


def retry_after(headers: Mapping[str, str]) -> Ms | None:
    """How long the answer asks us to wait: seconds, or a date (RFC 9110, 10.2.3)."""
    text = headers.get(hdrs.RETRY_AFTER, "")
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) * SECOND, 365 * DAY)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0, round((at.timestamp() - time.time()) * 1000))


# Telling


def _report(
    taken: Taken, delivery: Delivery, attempt: Attempt, then: Next, ms: int, buried: list[str]
) -> None:
    kind, client_id, _ = taken.where
    facts: dict[str, Any] = {
        "delivery": kind.value,
        "client_id": client_id,
        "payment_request_id": delivery.about,
        "delivery_id": delivery.id,
        "attempt": delivery.tries,
        "ms": ms,
    }
    if kind is Kind.CALLBACK:
        facts["host"] = urlsplit(delivery.url).netloc
    match then.fate:
        case Fate.DELIVERED:
            log.info("delivery.completed", **facts, http_status=attempt.status)
        case Fate.AGAIN:
            log.warning("delivery.failed", **facts, fault=attempt.why, again_ms=then.delay)
        case Fate.DEAD | Fate.GONE:
            log.error("delivery.dead", **facts, fault=attempt.why, count=len(buried))
