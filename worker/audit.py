"""Ask the gateway about many payments and hold its answers against our records; change nothing."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field

from redis.asyncio import Redis

from jobs.audit import Asked, Comparison, Verdict, compare, stand_in
from jobs.model import Ms
from jobs.tools import Tools
from worker.adoption import told
from worker.commands import BadCommand, read_command
from worker.imports import Bad
from worker.keys import Keys
from worker.messages import parse_amount
from worker.payment_list import Line, as_data
from worker.records import UnknownSchema
from worker.replies import text_of
from worker.strict_json import Unreadable

AT_ONCE = 32  #: questions on their way
TRIES = 3  #: a question that got no answer is repeated, at the same rate
GIVE_UP = 10  #: so many payments in a row without an answer: the gateway is away
PAGE = 500


@dataclass(slots=True, kw_only=True)
class Audit:
    """One run. `rate` is in questions a second."""

    tools: Tools
    rate: float
    counts: Counter[Verdict] = field(default_factory=Counter)
    disagreements: list[Comparison] = field(default_factory=list)
    elsewhere: int = 0  #: payments of accounts that this process has no keys of
    silent: int = 0  #: payments in a row that the gateway did not answer about
    _next: float = 0.0

    @property
    def gave_up(self) -> bool:
        return self.silent >= GIVE_UP

    async def run(self, asked: AsyncIterator[Asked]) -> None:
        """Compare each; stop early where the gateway answers nothing."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(each: Asked) -> None:
            try:
                self._note(await self._compare(each))
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:
            async for each in asked:
                if each.client_id not in self.tools.accounts:
                    self.elsewhere += 1
                    continue
                await room.acquire()
                await self._pace()
                if self.gave_up:
                    return
                group.create_task(one(each))

    def _note(self, comparison: Comparison) -> None:
        self.counts[comparison.verdict] += 1
        unanswered = comparison.verdict is Verdict.UNANSWERED
        self.silent = self.silent + 1 if unanswered else 0
        if comparison.disagrees:
            self.disagreements.append(comparison)

    async def _pace(self) -> None:
        now = time.monotonic()
        at = max(self._next, now)
        self._next = at + 1 / self.rate
        await asyncio.sleep(at - now)

    async def _compare(self, asked: Asked) -> Comparison:
        for tries in range(TRIES):
            if tries:
                await self._pace()
            comparison = await self._ask(asked)
            if comparison.verdict is not Verdict.UNANSWERED or self.gave_up:
                break
        return comparison

    async def _ask(self, asked: Asked) -> Comparison:
        """Our record first: what has ended here must have ended there by the time we ask."""
        store, account = self.tools.store, self.tools.accounts[asked.client_id]
        try:
            loaded = await store.load(f"{asked.client_id}:{asked.payment_request_id}")
        except UnknownSchema:
            return _unreadable(asked)
        ours = loaded.payment if loaded else None
        question = ours or stand_in(asked, None, store.now())
        answer = await account.gateway.inquire(question, store.now())
        return compare(asked, ours, answer, store.now(), account.policy)


def _unreadable(asked: Asked) -> Comparison:
    return Comparison(
        client_id=asked.client_id,
        payment_request_id=asked.payment_request_id,
        verdict=Verdict.UNKNOWN_HERE,
        ours="unreadable",
        theirs="not asked",
    )


# Whom to ask about


async def recent(redis: Redis, keys: Keys, since: Ms) -> AsyncIterator[Asked]:
    """Every open payment, and every one about which something was told since then, once."""
    seen: set[str] = set()
    async for key in _recent_keys(redis, keys, since):
        if key not in seen:
            seen.add(key)
            client_id, _, request_id = key.partition(":")
            yield Asked(client_id=client_id, payment_request_id=request_id)


async def _recent_keys(redis: Redis, keys: Keys, since: Ms) -> AsyncIterator[str]:
    offset = 0
    while page := await redis.zrange(keys.open, offset, offset + PAGE - 1):
        for raw in page:
            yield text_of(raw, "replace")
        offset += PAGE
    async for event in told(redis, keys, since):
        if event["type"] != "command.rejected":
            yield f"{event['data']['clientId']}:{event['data']['paymentRequestId']}"


def read_asked(
    lines: Iterable[Line], accounts: Collection[str], client_id: str | None
) -> tuple[list[Asked], list[Bad]]:
    """The payments of a merchant's list, and the lines that name none."""
    asked, faulty = [], []
    for line in lines:
        try:
            asked.append(_asked(line, accounts, client_id))
        except BadCommand as bad:
            faulty.append(Bad(line.number, bad.payment_request_id, line.worded(bad.message)))
    return asked, faulty


_NAMES = ("paymentRequestId", "clientId")


def _asked(line: Line, accounts: Collection[str], client_id: str | None) -> Asked:
    """Only the names, and the amount if there is one: what a list says besides is for `track`."""
    if line.fault:
        raise BadCommand("malformed", line.fault)
    names = {name: line.said[name] for name in _NAMES if name in line.said}
    if client_id is not None:
        names.setdefault("clientId", client_id)
    order = read_command("payment.recheck", as_data(names), "", 0, accounts)
    try:
        given = line.said.get("paymentAmount")
        amount = None if given is None else parse_amount(given)
    except Unreadable:
        message = 'paymentAmount: write {"currency": "USD", "value": "599"}, or nothing'
        raise BadCommand("malformed", message, order.client_id, order.payment_request_id) from None
    return Asked(
        client_id=order.client_id, payment_request_id=order.payment_request_id, amount=amount
    )
