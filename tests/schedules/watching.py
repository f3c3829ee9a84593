"""Following one payment: by what we ship, in virtual time, and by a list of times to ask at."""

import heapq
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from zlib import crc32

from jobs.model import Act, Money, Ms, Payment, Status
from jobs.news import (
    Call,
    CancelAnswer,
    GatewayStatus,
    InquiryAnswer,
    Message,
    Notification,
    NotifyKind,
    Tick,
    Track,
)
from jobs.payment import decide, hear, track
from jobs.schedule import Policy
from tests.schedules.workloads import CLOSING, Fate

ANSWER: Ms = 200  #: from a question to its answer, for everybody
PICK_UP: Ms = 250  #: our workers look for jobs that are due so often (`poll_delay`)
START: Ms = 1_800_000_000_000
CLIENT, PRICE = "SANDBOX_5X00000000000000", Money("USD", 599)


@dataclass(frozen=True, slots=True)
class Seen:
    """What following a payment came to."""

    known: Ms | None  #: when its end was known, from when it became pending; None: never
    inquiries: int  #: made until then
    later: int = 0  #: made after it, to make sure
    cut_off: bool = False  #: cancelled before its own end


def listed(fate: Fate, asks: Iterable[Ms], cuts_off: bool = False) -> Seen:
    """Ask at these times until an answer or a notification tells the end."""
    inquiries = 0
    for at in asks:
        if fate.notified is not None and fate.notified <= at:
            return Seen(fate.notified, inquiries)
        inquiries += 1
        if at >= fate.ends:
            return Seen(min(at + ANSWER, fate.notified or at + ANSWER), inquiries)
    return Seen(None if cuts_off else fate.notified, inquiries, cut_off=cuts_off)


def ours(fate: Fate, policy: Policy) -> Seen:
    """The same with `hear` and `decide`: the product itself, but for its network and Redis."""
    waits = unpaid(fate.key, policy)
    news = START + fate.ends  # a notification never comes before it
    last = bisect_left(waits, news, key=lambda waiting: waiting.wake + ANSWER)
    asked = [waiting.wake for waiting in waits[:last]]
    return _Life(fate, policy, waits[last].payment, asked).run()


def ours_in_full(fate: Fate, policy: Policy) -> Seen:
    """The same without the shortcut: from the first moment on."""
    return _Life(fate, policy, _tracked(fate.key, policy), []).run()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A payment that will be asked about at `wake`; nothing but "not yet" was ever heard."""

    wake: Ms
    payment: Payment


@lru_cache(maxsize=100_000)
def unpaid(key: str, policy: Policy) -> tuple[Waiting, ...]:
    """Every wait in the life of a payment that nobody pays, until its closing time.

    `decide` is a function of its arguments, so any other life of the same payment is equal to this
    one until something else is heard, and need not be gone through again.
    """
    payment, waits = _tracked(key, policy), []
    while payment.next_at is not None and payment.next_at < START + CLOSING:
        wake = _picked_up(payment)
        waits.append(Waiting(wake, payment))
        answer = _inquired(Fate(key, CLOSING, GatewayStatus.CANCELLED), wake)
        heard = hear(payment, answer, wake + ANSWER, policy)
        payment = decide(payment, heard, wake + ANSWER, policy).payment
    return (*waits, Waiting(_picked_up(payment), payment))


def _tracked(key: str, policy: Policy) -> Payment:
    command = Track(
        id="track",
        at=START,
        client_id=CLIENT,
        payment_request_id=key,
        amount=PRICE,
        closing_time=START + CLOSING,
    )
    return track(command, START, policy).payment


def _picked_up(payment: Payment) -> Ms:
    """When a worker looks at a payment that is due: a bit later, as chance will have it."""
    assert payment.next_at is not None
    chance = crc32(f"{payment.key}/wake/{payment.attempts}".encode()) / 2**32
    return payment.next_at + round(PICK_UP * chance)


@dataclass(slots=True)
class _Life:
    """One payment, the gateway, and the worker's wake-ups, on one clock."""

    fate: Fate
    policy: Policy
    payment: Payment
    asked: list[Ms]
    post: list[tuple[Ms, int, Message]] = field(default_factory=list)
    sent: int = 0
    busy: bool = False  #: a worker waits for an answer
    planned: Ms | None = None  #: the wake-up that is set
    known: Ms | None = None

    def run(self) -> Seen:
        if self.fate.notified is not None:
            self._send(START + self.fate.notified, _notification(self.fate))
        self._set_alarm()
        while self.post:
            now, _, message = heapq.heappop(self.post)
            if not (self.busy and isinstance(message, Tick)):
                self._turn(now, message)
                self._set_alarm()
        return self._seen()

    def _set_alarm(self) -> None:
        if not self.busy and self.payment.next_at not in (None, self.planned):
            self.planned = self.payment.next_at
            self._send(_picked_up(self.payment), Tick())

    def _turn(self, now: Ms, message: Message) -> None:
        self.busy = self.busy and isinstance(message, Notification)
        news = hear(self.payment, message, now, self.policy)
        decision = decide(self.payment, news, now, self.policy)
        self.payment = decision.payment
        if decision.act is Act.INQUIRE:
            self.asked.append(now)
            self._ask(now, _inquired(self.fate, now))
        if decision.act is Act.CANCEL:
            self._ask(now, _cancelled(self.fate, now))
        if self.known is None and self.payment.status is not Status.PENDING:
            self.known = now

    def _ask(self, now: Ms, answer: Message) -> None:
        self.busy = True
        self._send(now + ANSWER, answer)

    def _send(self, at: Ms, message: Message) -> None:
        self.sent += 1
        heapq.heappush(self.post, (at, self.sent, message))

    def _seen(self) -> Seen:
        assert self.known is not None, f"{self.fate} has not ended"
        until = sum(at < self.known for at in self.asked)
        return Seen(self.known - START, until, len(self.asked) - until)


def _notification(fate: Fate) -> Notification:
    at = START + (fate.notified or 0)
    return Notification(
        kind=NotifyKind.RESULT,
        client_id=CLIENT,
        payment_request_id=fate.key,
        status="S",
        code="SUCCESS",
        amount=PRICE,
        paid_at=START + fate.ends,
        sent_at=at,
        received_at=at,
    )


def _inquired(fate: Fate, now: Ms) -> InquiryAnswer:
    return InquiryAnswer(
        asked_at=now,
        answered_at=now + ANSWER,
        call=Call.OK,
        code="SUCCESS",
        payment_status=fate.how if now >= START + fate.ends else GatewayStatus.PROCESSING,
        payment_request_id=fate.key,
        amount=PRICE,
    )


def _cancelled(fate: Fate, now: Ms) -> CancelAnswer:
    return CancelAnswer(
        asked_at=now,
        answered_at=now + ANSWER,
        call=Call.OK,
        code="SUCCESS",
        payment_request_id=fate.key,
    )
