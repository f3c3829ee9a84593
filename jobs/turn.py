"""One turn of a payment's life: the verbs that `decide` speaks in.

A `Turn` holds a payment, a moment and the policy; each verb returns a new turn. No verb chooses a
status: that is done in `jobs.payment` alone.
"""

from dataclasses import dataclass, replace
from typing import Any

from jobs.evidence import evidence_from
from jobs.model import (
    Act,
    Aftercare,
    CancelState,
    Decision,
    Event,
    Ms,
    OnTimeout,
    Payment,
    Rejected,
    Status,
    SubmitState,
    Via,
)
from jobs.news import (
    CancelConfirmed,
    CancelRefused,
    Closed,
    Command,
    Confirming,
    Facts,
    Failed,
    Hint,
    Known,
    Mismatch,
    News,
    NoAnswer,
    NotExist,
    NotYet,
    Order,
    OrderCreated,
    Paid,
    PaidBack,
    PayRefused,
    Resolve,
    Submit,
    Track,
)
from jobs.outcome import rfc3339
from jobs.schedule import (
    HOUR,
    JUST_BEFORE,
    MINUTE,
    Policy,
    cancel_delay,
    delay_of,
    next_inquiry,
    retry_delay,
    spread,
)

ALARM_LAST_INQUIRY: Ms = MINUTE  #: a closing time passed this long without an answer
ALARM_CANCEL: Ms = 10 * MINUTE  #: a cancel unconfirmed for this long

#: An unconfirmed cancel alarms once at each of these that is left of its window, ever more often.
ALARM_WINDOW: tuple[Ms, ...] = (HOUR, 20 * MINUTE, 5 * MINUTE, MINUTE, 0)

#: Values of one kind of attention told per payment; a gateway that errs in ever new ways is
#: one story, and the record must stay small.
TOLD_VALUES = 10


@dataclass(frozen=True, slots=True)
class Turn:
    """A payment on its way from what it was to what it becomes."""

    payment: Payment
    now: Ms
    policy: Policy
    act: Act = Act.WAIT
    events: tuple[Event | Rejected, ...] = ()
    alarms: tuple[str, ...] = ()

    def change(self, **fields: Any) -> "Turn":
        """The payment with these fields changed."""
        payment = self.payment.having(**fields)
        return Turn(payment, self.now, self.policy, self.act, self.events, self.alarms)

    def decision(self, before: Payment | None) -> Decision:
        """What this turn came to, stamped if anything changed."""
        payment = self.payment
        if payment.pay_request and not self.may_pay:
            payment = payment.having(pay_request="")  # it holds an order: not longer than needed
        if payment is not before and payment != before:
            payment = payment.having(updated_at=self.now)
        return Decision(payment=payment, act=self.act, events=self.events, alarms=self.alarms)

    # Reading

    @property
    def reporting(self) -> bool:
        """Report mode: this payment, or the whole deployment, sends no cancels."""
        return self.policy.report or self.payment.on_timeout is OnTimeout.REPORT

    @property
    def may_pay(self) -> bool:
        """Whether our pay may be sent, or sent again."""
        p = self.payment
        wanted = p.submit_state in (SubmitState.NONE, SubmitState.OPEN) and bool(p.pay_request)
        return wanted and p.status is Status.PENDING and p.confirming_since is None

    @property
    def cancel_limit_reached(self) -> bool:
        return self.payment.tried_for >= self.policy.cancel_limit

    @property
    def grace_spent(self) -> bool:
        return self.payment.tried_for >= self.policy.last_inquiry_grace

    @property
    def cancel_on_its_way(self) -> bool:
        """Whether a cancel that we sent may still arrive at the gateway."""
        sent_at = self.payment.last_cancel_at
        return sent_at is not None and self.now < sent_at + self.policy.cancel_quiet

    def last(self, asked_at: Ms) -> bool:
        """Whether a question was the last inquiry: sent at the closing time or after it."""
        return asked_at >= self.payment.closing_time

    def settled(self, asked_at: Ms) -> bool:
        """Whether an order that is not found by now will not appear any more."""
        return asked_at >= self.settles_at

    @property
    def settles_at(self) -> Ms:
        base = max(self.payment.closing_time, self.payment.last_cancel_at or 0)
        return base + self.policy.not_found_settle

    def never_made(self, asked_at: Ms) -> bool:
        """Whether no pay that got no answer could still make an order after this question."""
        return asked_at >= self.never_made_at

    @property
    def never_made_at(self) -> Ms:
        silent = self.payment.silent_pay_at
        return 0 if silent is None else silent + self.policy.cancel_quiet

    @property
    def window_left(self) -> Ms | None:
        """What is left of the cancel window; None if nothing is known of one."""
        end = self.payment.cancel_window_end
        return None if end is None else end - self.now

    @property
    def mismatch(self) -> str:
        """The kind of mismatch told of this payment, if any."""
        for kind in ("amount_mismatch", "payment_id_mismatch"):
            if self.payment.count_told(f"attention.{kind}"):
                return kind
        return ""

    # What comes next

    def ask_at(self, at: Ms) -> "Turn":
        """Inquire at `at`, or when an inquiry is evidence again, if that is later."""
        at = max(at, evidence_from(self.payment, self.policy))
        return self.change(next_act=Act.INQUIRE, next_at=at)

    def ask_now(self) -> "Turn":
        return self.ask_at(self.now)

    def _ask_in(self, delay: Ms) -> "Turn":
        return self.ask_at(self.now + spread(delay, self.payment.key, self.payment.attempts))

    def ask_on_schedule(self) -> "Turn":
        """The next inquiry of a pending payment; at once if the last one is due by now.

        While our pay has no answer, pays and inquiries take turns.
        """
        p, policy = self.payment, self.policy
        if self.now >= p.closing_time:
            return self.ask_now()
        if self._pays_again and self.next_pay_at < p.closing_time - JUST_BEFORE:
            return self.change(next_act=Act.PAY, next_at=self.next_pay_at)
        delays = policy.inquiry_delays if p.confirming_since is None else policy.confirming_delays
        return self.ask_at(next_inquiry(delays, p.tries, p.key, self.now, p.closing_time))

    @property
    def next_pay_at(self) -> Ms:
        """At once; the same again at the pace of inquiries."""
        p = self.payment
        if p.last_pay_at is None:
            return self.now
        return max(self.now, p.last_pay_at + spread(self._pay_delay, p.key, p.pay_attempts))

    @property
    def _pay_delay(self) -> Ms:
        """After a pay: until it is asked whether it was made, and until it is sent again."""
        return delay_of(self.policy.inquiry_delays, self.payment.pay_attempts - 1)

    def ask_again(self) -> "Turn":
        """Repeat a question that got no answer, ever more slowly."""
        return self._ask_in(retry_delay(self.payment.tried_for, self.payment.unanswered))

    def ask_slowly(self) -> "Turn":
        """The slow watch of a payment that needs a person; it ends after `unresolved_watch`."""
        p = self.payment
        if self.watch_is_over and p.aftercare is not Aftercare.REFUND_REQUIRED:
            return self.rest()
        return self._ask_in(delay_of(self.policy.unresolved_delays, p.tries))

    def ask_while_confirming(self) -> "Turn":
        """A bank decides after the end: ask at its pace until it has."""
        if self.watch_is_over:
            return self.alarm("a bank confirms for ever a payment that has ended").rest()
        return self._ask_in(delay_of(self.policy.confirming_delays, self.payment.tries))

    @property
    def watch_is_over(self) -> bool:
        return self.now - (self.payment.phase_since or self.now) > self.policy.unresolved_watch

    def ask_in_aftercare(self) -> "Turn":
        """The next of the few inquiries after an end, or a refund, counted from it; then none."""
        ended = self.payment.phase_since or self.now
        for delay in self.policy.aftercare_delays:
            if ended + delay > self.now:
                return self.change(aftercare=Aftercare.WATCHING).ask_at(ended + delay)
        return self.change(aftercare=Aftercare.NONE).rest()

    def cancel_now(self) -> "Turn":
        return self.change(next_act=Act.CANCEL, next_at=self.now)

    def cancel_again(self) -> "Turn":
        """The next cancel, by schedule; before one that is far off, one inquiry that counts."""
        p = self.payment
        delay = cancel_delay(self.policy.cancel_delays, max(p.tries - 1, 0), self.window_left)
        at = max(self.now, (p.last_cancel_at or self.now) + spread(delay, p.key, p.cancel_attempts))
        counts_from = evidence_from(p, self.policy)
        if p.cancel_state is CancelState.OPEN and (p.tried_at or 0) < counts_from < at:
            return self.ask_at(counts_from)
        return self.change(next_act=Act.CANCEL, next_at=at)

    def open_window(self) -> "Turn":
        """Write down when the gateway is expected to stop cancelling this payment."""
        window, p = self.policy.cancel_window, self.payment
        created_at = min(p.created_at or p.tracked_at, self.now)  # a date far ahead is no date
        end = None if window is None else window.end(created_at)
        return self.change(cancel_window_end=end)

    def rest(self) -> "Turn":
        """Nothing more to do unless something is heard."""
        return self.change(next_at=None)

    def new_phase(self, **fields: Any) -> "Turn":
        """A stretch of life with its own schedule and limits begins."""
        clean = {"tries": 0, "tried_for": 0, "unanswered": 0}
        return self.change(**clean, phase_since=self.now, tried_at=self.now, **fields)

    def wake(self) -> "Turn":
        """Do what is due. The right to pay or to cancel is written down before it is used."""
        p = self.payment
        if p.next_at is None or p.next_at > self.now:
            return self
        if p.next_act is Act.PAY and self._pays_again:
            return self._pay()
        if p.next_act is not Act.CANCEL or self.reporting:
            return replace(self, act=Act.INQUIRE)
        return self._cancel(p.next_at)

    @property
    def _pays_again(self) -> bool:
        """No order is made that could not be cancelled, nor one that is closed at once."""
        return self.may_pay and not self.policy.report and self.now < self.payment.closing_time

    def _pay(self) -> "Turn":
        p = self.payment
        silent = p.last_pay_at if p.submit_state is SubmitState.OPEN else p.silent_pay_at
        sent = self.change(
            submit_state=SubmitState.OPEN,
            pay_attempts=p.pay_attempts + 1,
            last_pay_at=self.now,
            silent_pay_at=silent,
        )
        return replace(sent._ask_in(sent._pay_delay), act=Act.PAY)

    def _cancel(self, due_at: Ms) -> "Turn":
        p = self.payment
        silent = p.last_cancel_at if p.cancel_state is CancelState.OPEN else p.silent_cancel_at
        late = self.now - due_at  # time in which no worker ran is no patience of ours
        sent = self.change(
            tried_at=None if p.tried_at is None else p.tried_at + late,
            cancel_state=CancelState.OPEN,
            cancel_refusal=None,
            cancel_attempts=p.cancel_attempts + 1,
            tries=p.tries + 1,
            first_cancel_at=p.first_cancel_at or self.now,
            last_cancel_at=self.now,
            silent_cancel_at=silent,
        )
        return replace(sent.cancel_again()._warn_of_window(p), act=Act.CANCEL)

    def _warn_of_window(self, before: Payment) -> "Turn":
        """A cancel that must be repeated is told of ever more often towards its window's end."""
        end = before.cancel_window_end
        if end is None or not before.tries:
            return self
        last = before.last_cancel_at or self.now
        told = _window_steps(end - last) if before.tries > 1 else 0
        if _window_steps(end - self.now) <= told:
            return self
        until = rfc3339(end)
        return self.alarm(
            f"the cancel is not confirmed, and its window ends at {until}: then refund"
        )

    def erase(self) -> "Turn":
        """Delete record and timeline, as the merchant asked."""
        return replace(self, act=Act.ERASE)

    # What is told

    def mark(self, *marks: str) -> "Turn":
        new = tuple(mark for mark in marks if mark not in self.payment.marks)
        return self.change(marks=self.payment.marks + new)

    def tell(self, type_: str, name: str, **details: Any) -> "Turn":
        """Publish an event; its `seq` rises even over a rebuild, being at least Redis time."""
        seq = max(self.payment.seq + 1, self.now)
        event = Event(type=f"payment.{type_}", name=name, seq=seq, **details)
        return replace(self.change(seq=seq), events=(*self.events, event))

    def tell_again(self, type_: str, **details: str) -> "Turn":
        """Publish an event that may come more than once: its name is numbered."""
        n = self.payment.count_told(type_) + 1
        told = self.change(told=(*self.payment.told, type_))
        return told.tell(type_, f"{type_}.{n}", **details)

    def attention(self, kind: str, advice: str, value: str = "", would: str = "") -> "Turn":
        """Publish `payment.attention`, once per kind and value."""
        prefix, n = f"attention.{kind}", self.payment.count_told(f"attention.{kind}") + 1
        told = f"{prefix}={value}"
        if told in self.payment.told or n > TOLD_VALUES:
            return self
        turn = self.change(told=(*self.payment.told, told))
        return turn.tell(
            "attention", f"{prefix}.{n}", kind=kind, value=value, advice=advice, would=would
        )

    def reject(self, command: Command, reason: str, message: str, advice: str = "none") -> "Turn":
        return self._reject(command.id, name_of(command), reason, message, advice)

    def reject_the_cancel(self, reason: str, message: str, advice: str = "none") -> "Turn":
        """Answer the command that asked for a cancel that is not to be had."""
        return self._reject(self.payment.cancel_command, "payment.cancel", reason, message, advice)

    def _reject(self, id_: str, command: str, reason: str, message: str, advice: str) -> "Turn":
        rejected = Rejected(
            command_id=id_,
            command=command,
            reason=reason,
            message=message,
            client_id=self.payment.client_id,
            payment_request_id=self.payment.payment_request_id,
            advice=advice,
        )
        return replace(self, events=(*self.events, rejected))

    def alarm(self, text: str) -> "Turn":
        return replace(self, alarms=(*self.alarms, text))


def name_of(command: Command) -> str:
    """The command's type as the merchant writes it."""
    match command:
        case Submit():
            return "payment.submit"
        case Track():
            return "payment.track"
        case Order():
            return command.ask.value
        case Resolve():
            return "payment.resolve"


def of_pay(news: News) -> bool:
    """Whether this was heard in answer to our pay."""
    match news:
        case OrderCreated() | PayRefused():
            return True
        case NoAnswer() | Mismatch():
            return news.to_pay
        case _:
            return False


# Listening: what every news leaves in the record, whatever the status


def listen(payment: Payment, news: News, now: Ms, policy: Policy) -> Turn:
    """The turn in which `payment` hears `news`: tries counted, facts learned."""
    turn = Turn(payment, now, policy)
    if of_pay(news):
        return _listen_to_pay(turn, news)
    match news:
        case NoAnswer():
            return _unanswered(turn, news)
        case Mismatch():
            return _tried(turn, news.asked_at, Via.INQUIRY) if news.asked_at else _notified(turn)
        case CancelRefused() | CancelConfirmed():
            turn = turn.change(result_code=news.facts.code)
            return _tried(turn, news.facts.asked_at, Via.CANCEL)
        case Paid() | PaidBack() | Failed() | Closed() | Confirming() | NotYet():
            return _learn(_answered(turn, news.facts), news.facts).change(not_found=0)
        case NotExist():
            turn = _answered(turn, news.facts)
            return turn.change(not_found=turn.payment.not_found + 1)
        case Hint() | Known():
            return _notified(turn)
        case _:  # commands and the clock
            return turn


def _listen_to_pay(turn: Turn, news: News) -> Turn:
    """An answer that comes when the payment has moved on is no try of its new phase."""
    pending = turn.payment.status is Status.PENDING
    match news:
        case OrderCreated():
            turn = _answered(turn, news.facts) if pending else turn
            return _learn(turn, news.facts).change(not_found=0)
        case PayRefused() if pending:
            if news.misconfigured:
                turn = turn.alarm(f"the gateway refuses our pay: {news.facts.code}")
            return _answered(turn, news.facts)
        case NoAnswer() if pending:
            return _unanswered(turn, news)
        case Mismatch() if pending:
            return _tried(turn, news.asked_at, Via.PAY)
        case _:
            return turn


def _answered(turn: Turn, facts: Facts) -> Turn:
    turn = turn.change(result_code=facts.code)
    if facts.via is Via.NOTIFICATION:
        return _notified(turn)
    asked = facts.via in (Via.INQUIRY, Via.PAY)
    return _tried(turn, facts.asked_at, facts.via) if asked else turn


def _notified(turn: Turn) -> Turn:
    return turn.change(notifications=turn.payment.notifications + 1)


def _unanswered(turn: Turn, news: NoAnswer) -> Turn:
    unanswered = turn.payment.unanswered
    if news.misconfigured and not unanswered:
        turn = turn.alarm(f"the gateway refuses us: {news.why}")
    if news.left:
        via = Via.CANCEL if news.to_cancel else Via.PAY if news.to_pay else Via.INQUIRY
        turn = _tried(turn, news.asked_at, via)
    else:
        turn = turn.change(tried_at=news.asked_at)  # the time since the last try was no patience
    return turn.change(unanswered=unanswered + 1)


def _tried(turn: Turn, asked_at: Ms, via: Via) -> Turn:
    """Count a try that left, and how long the tries of this phase have gone on.

    Time counts from the last try to this one, but no longer than was planned between them: when
    no worker ran for a day, a day of patience was not spent.
    """
    p = turn.payment
    since = max(p.tried_at or asked_at, p.closing_time if p.status is Status.PENDING else 0)
    spent = max(0, min(asked_at, p.next_at or asked_at) - since)
    turn = turn.change(tried_for=p.tried_for + spent, tried_at=asked_at, unanswered=0)
    turn = _alarm_if_long(turn, p.tried_for)
    if via is not Via.INQUIRY:
        return turn
    tries = p.tries if is_cancelling(p) else p.tries + 1
    latest = max(asked_at, p.asked_at or 0)
    return turn.change(attempts=p.attempts + 1, tries=tries, asked_at=latest)


def is_cancelling(payment: Payment) -> bool:
    """Whether cancels are what is tried, before the end or after it."""
    return payment.status is Status.CANCELLING or payment.aftercare is Aftercare.CANCELLING


def _alarm_if_long(turn: Turn, before: Ms) -> Turn:
    after = turn.payment.tried_for
    if turn.payment.status is Status.PENDING and before < ALARM_LAST_INQUIRY <= after:
        return turn.alarm("closing time has passed and the last inquiry is not answered")
    if is_cancelling(turn.payment) and before < ALARM_CANCEL <= after:
        return turn.alarm("the cancel is still not confirmed")
    return turn


def _window_steps(left: Ms) -> int:
    return sum(left <= step for step in ALARM_WINDOW)


def _learn(turn: Turn, facts: Facts) -> Turn:
    p = turn.payment
    turn = turn.change(
        found=True,
        payment_id=p.payment_id or facts.payment_id,
        created_at=p.created_at or facts.created_at,
        paid_at=facts.paid_at or p.paid_at,
    )
    if p.closing_agreed and p.created_at is None and facts.created_at is not None:
        # The contract's time runs from the creation at the gateway; a date far off must not
        # keep a payment open, so it moves by no more than that time again.
        later = min(facts.created_at + turn.policy.closing, p.closing_time + turn.policy.closing)
        return turn.change(closing_time=max(p.closing_time, later))
    return turn
