"""What a job is given: the shells in `worker/` fulfil these, and jobs know nothing else."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from jobs.model import Act, Decision, Ms, Payment, Rejected
from jobs.news import Answer, Message, Submit
from jobs.schedule import Policy

#: How long a worker holds a payment: longer than any call it makes, short enough that another
#: worker asks again soon after a crash.
LEASE: Ms = 15_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of a payment's timeline: when, from whom, what. Equal neighbours are counted."""

    at: Ms
    source: str  #: notification, inquiry, pay, cancel, command, status
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A payment as it stood at one moment. Saving it again works only if nobody saved meanwhile."""

    payment: Payment
    inbox: tuple[Message, ...]  #: what was received for it and not yet applied
    misses: int  #: payments of its account in a row that reached closing time and were never found
    late: Ms = 0  #: how long after its time it was claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """A payment that should have ended long ago, as it stands: also one that cannot be read."""

    key: str
    facts: Mapping[str, Any]  #: status, times, counts
    history: Sequence[str]  #: the last lines of its timeline, one sentence each


class Store(Protocol):
    """The truth. Every method is atomic; each may raise the shell's own connection errors."""

    def now(self) -> Ms:
        """Redis time; by as much too early as its last answer was late."""

    def latest(self) -> Ms:
        """Redis time, if its last answer was made as soon as it was asked: never too early."""

    async def claim(self, key: str) -> Loaded | None:
        """A payment that is due or has mail, held for the length of a lease; else None."""

    async def load(self, key: str) -> Loaded | None:
        """A payment as it stands; None if it is not tracked."""

    async def save(
        self,
        loaded: Loaded,
        decision: Decision,
        entries: Sequence[Entry],
        *,
        heard: int = 0,
        brake: int = 0,
    ) -> Payment | None:
        """Write record, open set, timeline, events and wake-up in one step; None if another was
        first.

        `heard` messages leave the inbox in the same step; who has heard some goes on with what is
        due, so the payment is held. The right to cancel is given only if nothing else lies in the
        inbox, and hope for a payment never found is given up only below `brake` misses in a row:
        many may be decided about at the same time.
        """

    async def create(self, decision: Decision, entries: Sequence[Entry]) -> Payment | None:
        """Write a new record and wake its job; None if it exists."""

    async def erase(self, loaded: Loaded) -> bool:
        """Delete record and timeline; False if another saved meanwhile."""

    async def reject(self, rejected: Rejected) -> None:
        """Publish `command.rejected` about a payment that has no record."""

    async def wake_overdue(self) -> int:
        """Queue every overdue payment whose job is lost; how many there were."""

    def stuck(self, after: Ms) -> AsyncIterator[Stuck]:
        """Payments open longer than `after` beyond their closing time, until they are `told`."""

    async def told(self, key: str) -> None:
        """Somebody knows of this stuck payment."""


class Gateway(Protocol):
    """One account's line to the gateway. Never raises: no answer is an answer, too."""

    async def inquire(self, payment: Payment, asked_at: Ms) -> Answer: ...

    async def cancel(self, payment: Payment, asked_at: Ms) -> Answer: ...

    async def pay(self, payment: Payment, asked_at: Ms) -> Answer:
        """Sends the record's `pay_request` as it is."""

    def pay_request(self, submit: Submit, closing_time: Ms) -> str:
        """The body of pay, whole; empty if nobody has said where the gateway should notify."""


class Limits(Protocol):
    """Whether a call of the gateway may leave now, by its account's breaker, pace and place."""

    async def admit(self, loaded: Loaded, act: Act) -> bool:
        """If not, the payment waits in line, its record as it is, and is woken in its turn."""


class NoLimits:
    """For one-shot commands, which ask about one payment after the other."""

    async def admit(self, _loaded: Loaded, _act: Act) -> bool:
        return True


class Log(Protocol):
    """structlog's bound logger, as far as jobs use it."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a job needs of one merchant account."""

    gateway: Gateway
    policy: Policy
    brake: int  #: misses in a row from which timeouts are not cancelled; 0: never


def no_callbacks(_client_id: str, _url: str) -> str:
    return "no callback hosts are allowed here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    store: Store
    accounts: Mapping[str, Account]
    log: Log
    #: By client id and URL, why outcomes are not called back there; empty if they may be.
    callbacks: Callable[[str, str], str] = no_callbacks
    limits: Limits = NoLimits()

    def policy(self, loaded: Loaded) -> Policy:
        """The account's policy, with its brake as it stands."""
        account = self.accounts[loaded.payment.client_id]
        braked = 0 < account.brake <= loaded.misses
        return replace(account.policy, braked=True) if braked else account.policy
