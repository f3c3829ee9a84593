"""The life of one payment. Start reading here.

A payment is followed from `pending` to the one end that the merchant learns. `hear` judges what a
message is worth (`jobs.evidence`), `decide` moves: every change of status in the product is a case
in this file. Both are pure; whoever calls them writes the decision down before acting on it.

Money first: `cancelled` or `failed` is never told while the buyer's money stays taken, `succeeded`
never while it goes back, and where neither can be known a payment is `unresolved`, loudly.
"""

from dataclasses import replace

from jobs.evidence import hear
from jobs.model import (
    Act,
    Aftercare,
    CancelState,
    Cause,
    Decision,
    Ms,
    Payment,
    Refusal,
    Status,
    SubmitState,
    Via,
)
from jobs.news import (
    Ask,
    CancelConfirmed,
    CancelRefused,
    Closed,
    Confirming,
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
    Tick,
    Track,
)
from jobs.schedule import Policy
from jobs.turn import Turn, listen, of_pay

__all__ = ["Decision", "News", "Payment", "Status", "decide", "hear", "submit", "track"]

NOT_FOUND_INQUIRIES = 3  #: "does not exist", this often, before a payment is closed as never made
RECHECK_TRIES = 20  #: unanswered inquiries about a payment that succeeded, before we let it rest
_CANCELLED_IN_VAIN = ("cancel_limit", "cancel_refused")
NO_CANCELS = "report mode sends no cancels"


def decide(payment: Payment, news: News, now: Ms, policy: Policy) -> Decision:
    """What becomes of a payment that hears some news at Redis time `now`."""
    turn = listen(payment, news, now, policy)
    if isinstance(news, Track):
        return _track_again(turn, news).decision(payment)
    if of_pay(news) and payment.status is not Status.PENDING:
        return _answered_late(turn, news).decision(payment)
    match payment.status:
        case Status.PENDING:
            turn = _pending(turn, news)
        case Status.CANCELLING:
            turn = _cancelling(turn, news)
        case Status.UNRESOLVED:
            turn = _unresolved(turn, news)
        case Status.SUCCEEDED:
            turn = _succeeded(turn, news)
        case Status.FAILED | Status.CANCELLED:
            turn = _aftercare(turn, news)
        case Status.FORGOTTEN:
            turn = _forgotten(turn, news)
    return turn.decision(payment)


def track(command: Track, now: Ms, policy: Policy) -> Decision:
    """A payment is followed from now on. A closing time already past means: inquire at once."""
    return Turn(_tracked(command, now, policy), now, policy).ask_on_schedule().decision(None)


def submit(command: Submit, now: Ms, policy: Policy, request: str) -> Decision:
    """The same, once our own `pay` has made its order; `request` is its body, kept as it is.

    The closing time is sent along, so that the gateway's clock and ours end together. Past it no
    order is made any more, but one that a lost record knew of is found.
    """
    payment = replace(
        _tracked(command, now, policy),
        closing_agreed=False,
        pay_request=request,
        pay_digest=command.digest,
    )
    return Turn(payment, now, policy).ask_on_schedule().decision(None)


def _tracked(command: Track, now: Ms, policy: Policy) -> Payment:
    return Payment(
        client_id=command.client_id,
        payment_request_id=command.payment_request_id,
        amount=command.amount,
        payment_id=command.payment_id,
        tracked_at=now,
        closing_time=command.closing_time or command.at + policy.closing,
        closing_agreed=command.closing_time is None,
        on_timeout=command.on_timeout,
        reference=command.reference,
        callback_url=command.callback_url,
    )


# pending: the gateway has not said how it ends


def _pending(turn: Turn, news: News) -> Turn:
    match news:
        case Tick():
            return turn.wake()
        case OrderCreated():
            return _order_created(turn, news)
        case PayRefused():
            return _pay_refused(turn, news)
        case Paid() | PaidBack():
            return _paid(turn, news)
        case Failed() if turn.reporting:
            return _end(turn, Status.FAILED, news.facts.via, "not_cancelled", would="cancel")
        case Failed():
            return _give_up(turn, Cause.FAILED)
        case Closed():
            return _end(turn, Status.CANCELLED, news.facts.via)
        case Confirming():
            return _confirming(turn, news)
        case NotExist() if turn.payment.submit_state is SubmitState.REFUSED:
            return _never_made(turn, news)
        case NotYet() | NotExist() if turn.last(news.facts.asked_at):
            return _timed_out(turn, found=isinstance(news, NotYet))
        case NotYet() if turn.payment.submit_state is SubmitState.REFUSED:
            return turn.change(submit_state=SubmitState.CREATED).ask_on_schedule()
        case NotYet() | NotExist():
            return turn.ask_on_schedule()
        case NoAnswer() if news.to_pay:
            return turn  # an inquiry is planned, and the same pay after it
        case NoAnswer():
            return _unanswered(turn, news)
        case Mismatch():
            return _mismatched(turn, news)
        case Hint():
            return turn.ask_now()
        case Known() | CancelConfirmed() | CancelRefused() | Track():
            return turn
        case Order() | Resolve():
            return _ordered(turn, news)


def _order_created(turn: Turn, news: OrderCreated) -> Turn:
    """The buyer can pay now, and nobody has paid: the merchant is told where, once."""
    if turn.payment.submit_state is SubmitState.CREATED:
        return turn
    turn = turn.new_phase(
        submit_state=SubmitState.CREATED,
        redirect_url=news.redirect_url,
        redirect_method=news.redirect_method,
    )
    return turn.tell("submitted", "submitted", via=Via.PAY).ask_on_schedule()


def _pay_refused(turn: Turn, news: PayRefused) -> Turn:
    """No order by this try. Only an inquiry can tell whether an earlier one made it."""
    p = turn.payment
    if p.submit_state is not SubmitState.OPEN:
        return turn
    if news.facts.asked_at < (p.last_pay_at or 0):
        turn = turn.change(silent_pay_at=p.last_pay_at)
    return turn.change(submit_state=SubmitState.REFUSED, pay_code=news.facts.code).ask_now()


def _answered_late(turn: Turn, news: News) -> Turn:
    """Hope was given up before our pay was answered. An order that nobody expected is looked at."""
    p = turn.payment
    ended = p.status in (Status.FAILED, Status.CANCELLED)
    if isinstance(news, OrderCreated) and ended and p.aftercare is not Aftercare.CANCELLING:
        return turn.ask_now()
    return turn


def _never_made(turn: Turn, news: NotExist) -> Turn:
    """Refused, and not there: it failed, once no earlier try can make it any more."""
    if not turn.never_made(news.facts.asked_at):
        return turn.ask_at(turn.never_made_at)
    if turn.reporting:
        return _end(turn, Status.FAILED, Via.PAY, "not_cancelled", would="cancel")
    return _give_up(turn, Cause.FAILED)


def _paid(turn: Turn, news: Paid | PaidBack, late: bool = False) -> Turn:
    """Paid for good, paid and given back, or something between that a person should see."""
    if isinstance(news, PaidBack) and news.whole:
        return _end(turn, Status.CANCELLED, news.facts.via, "refunded")
    late = late or turn.now >= turn.payment.closing_time
    turn = turn.mark("late") if late else turn
    if isinstance(news, Paid):
        return _end(turn, Status.SUCCEEDED, news.facts.via)
    turn = _end(turn, Status.SUCCEEDED, news.facts.via, "partly_refunded")
    return turn.attention("partly_refunded", "look")


def _confirming(turn: Turn, news: Confirming) -> Turn:
    """The bank is confirming: the closing time moves, once, and inquiries become rare."""
    if turn.payment.confirming_since is None:
        closing_time = max(turn.payment.closing_time, turn.now + turn.policy.confirming)
        moved = turn.new_phase(confirming_since=turn.now, closing_time=closing_time)
        return moved.ask_on_schedule()
    if turn.last(news.facts.asked_at):
        return _look(turn, "pending_expired")
    return turn.ask_on_schedule()


def _timed_out(turn: Turn, found: bool) -> Turn:
    """The last inquiry is answered, and the payment is not paid."""
    if turn.mismatch:
        return _look(turn, turn.mismatch)
    if turn.reporting:
        return _look(turn, "report", would="cancel")
    if turn.policy.braked and not found:
        return _look(turn, "brake")
    return _give_up(turn, Cause.TIMED_OUT)


def _unanswered(turn: Turn, news: NoAnswer) -> Turn:
    """Before the closing time, ask on. After it, ask until answered, but not for ever."""
    if not turn.last(news.asked_at):
        return turn.ask_on_schedule()
    if not turn.grace_spent:
        return turn.ask_again()
    if turn.mismatch:
        return _look(turn, turn.mismatch)
    if turn.payment.confirming_since is not None:
        return _look(turn, "pending_expired")  # the buyer has paid: no cancel without an answer
    if turn.reporting:
        return _look(turn, "no_answer", would="cancel")
    if news.misconfigured:
        return _look(turn, "gateway_refuses_us")
    if turn.policy.braked and not turn.payment.found:
        return _look(turn, "brake")
    return _give_up(turn.mark("blind"), Cause.TIMED_OUT)


def _mismatched(turn: Turn, news: Mismatch) -> Turn:
    """It ends nothing: the merchant is told, and at closing time a person must look."""
    turn = turn.attention(news.kind, "look", news.value)
    if news.to_pay:  # an order is there, but not ours to hand to a buyer
        return turn.change(submit_state=SubmitState.CREATED).ask_now()
    if not news.asked_at:
        return turn.ask_now()
    if turn.last(news.asked_at):
        return _look(turn, news.kind)
    return turn.ask_on_schedule()


# cancelling: hope is given up


def _cancelling(turn: Turn, news: News) -> Turn:
    match news:
        case Order() | Resolve():
            return _ordered(turn, news)
        case CancelConfirmed():
            return _cancel_confirmed(turn, news)
        case CancelRefused():
            return _cancel_refused(turn, news)
        case Known() | Track() | OrderCreated() | PayRefused():
            return turn
        case _:
            pass
    match turn.payment.cancel_state:
        case CancelState.NONE:
            return _not_cancelled_yet(turn, news)
        case CancelState.OPEN:
            return _cancel_open(turn, news)
        case CancelState.REFUSED | CancelState.CONFIRMED:
            return _cancel_was_refused(turn, news)


def _not_cancelled_yet(turn: Turn, news: News) -> Turn:
    """The cancel is decided, but nobody has taken the right to send it."""
    p = turn.payment
    match news:
        case Paid() | PaidBack():
            return _paid_after_all(turn, news)
        case Closed():
            return _closed(turn, news.facts.via)
        case Failed():
            turn = turn.change(cause=Cause.FAILED)
        case Mismatch() if p.cause is not Cause.REQUESTED:
            return _look(_note_mismatch(turn, news), news.kind)
        case _:
            turn = _note_mismatch(turn, news)
    if turn.reporting:
        return _report_switched_on(turn)
    match news:
        case Tick():
            return turn.wake()
        case Hint():
            return turn.ask_now()  # it may be a success: no cancel before we know
        case NoAnswer() if p.next_act is Act.INQUIRE and not turn.grace_spent:
            return turn.ask_again()
        case Confirming() if p.cause is Cause.TIMED_OUT:
            return _confirming(turn.change(status=Status.PENDING, cause=None), news)
        case _:
            return turn.cancel_now()


def _cancel_open(turn: Turn, news: News) -> Turn:
    """A cancel may be on its way: repeat it until the gateway says what became of it."""
    p = turn.payment
    match news:
        case PaidBack() if news.whole:
            return _closed(turn, news.facts.via)
        case Paid() | PaidBack():
            turn = turn.change(paid_seen=True)
        case Failed() if not p.paid_seen:
            return _end(turn, Status.FAILED, news.facts.via)
        case Closed():
            return _closed(turn, news.facts.via)
        case Mismatch():
            turn = turn.attention(news.kind, "look", news.value)
        case Tick() if not turn.cancel_limit_reached:
            return turn.wake()
        case Hint():
            return turn
        case _:
            pass
    if turn.cancel_limit_reached:
        doubt = turn.payment.paid_seen or turn.mismatch or turn.reporting
        if p.cause is Cause.FAILED and not doubt:
            return _end(turn, Status.FAILED, Via.CANCEL, "cancel_unconfirmed")
        return _look(turn, "cancel_limit")
    return _cancel_again(turn)


def _cancel_was_refused(turn: Turn, news: News) -> Turn:
    """The gateway will not cancel: its answers to later inquiries decide."""
    p = turn.payment
    match news:
        case Paid() | PaidBack():
            return _paid_after_all(turn, news, late=True)
        case Failed():
            return _end(turn, Status.FAILED, news.facts.via)
        case Closed():
            return _closed(turn, news.facts.via)
        case _ if turn.cancel_limit_reached:
            return _look(turn, "cancel_refused")
        case Tick():
            return turn.wake()
        case Hint():
            return turn.ask_now()
        case Mismatch():
            return _look(_note_mismatch(turn, news), news.kind)
        case NotExist():
            return _refused_and_not_found(turn, news)
        case NotYet() if p.cancel_refusal is Refusal.WINDOW and p.cause is Cause.FAILED:
            return _end(turn, Status.FAILED, news.facts.via)
        case NotYet() | Confirming() if p.cancel_refusal is Refusal.WINDOW:
            return _look(turn, "cancel_window", advice="refund")
        case NotYet() | Confirming():
            return _cancel_again(turn)
        case _:
            return turn.ask_again()


def _refused_and_not_found(turn: Turn, news: NotExist) -> Turn:
    """The order may be on its way still: only time tells that it never was made."""
    p = turn.payment
    if p.cause is Cause.FAILED:
        return _end(turn, Status.FAILED, news.facts.via)
    if p.cancel_refusal is not Refusal.NOT_EXIST:
        return _cancel_again(turn)
    if p.not_found < NOT_FOUND_INQUIRIES - 1:
        return turn.ask_at(turn.now + turn.policy.not_found_settle // 4)
    if p.not_found < NOT_FOUND_INQUIRIES or not turn.settled(news.facts.asked_at):
        at = max(turn.now, turn.settles_at)
        return turn.change(tried_at=None).ask_at(at)  # waiting is not trying: no limit nears
    if turn.policy.braked:
        return _look(turn, "brake")
    return _end(turn, Status.CANCELLED, news.facts.via, "not_found")


def _cancel_again(turn: Turn) -> Turn:
    """By the cancel schedule; report mode, switched on meanwhile, leaves only questions."""
    return turn.ask_again() if turn.reporting else turn.cancel_again()


def _paid_after_all(turn: Turn, news: Paid | PaidBack, late: bool = False) -> Turn:
    """The money came before a cancel could do anything. Whoever was told otherwise hears of it."""
    cause = turn.payment.cause
    turn = _paid(turn, news, late)
    if turn.payment.status is not Status.SUCCEEDED:
        return turn
    if cause is Cause.FAILED:
        return turn.attention("contradiction", "look")
    if cause is Cause.REQUESTED:
        message = "the payment succeeded before it could be cancelled; refund it instead"
        return turn.reject_the_cancel("already_final", message, "refund")
    return turn


def _closed(turn: Turn, via: Via) -> Turn:
    """The order is closed: `failed` if the gateway said so before, else `cancelled`."""
    if turn.payment.paid_seen:
        return _end(turn, Status.CANCELLED, via, "refunded")
    if turn.payment.cause is Cause.FAILED:
        return _end(turn, Status.FAILED, via)
    return _end(turn, Status.CANCELLED, via)


def _cancel_confirmed(turn: Turn, news: CancelConfirmed) -> Turn:
    turn = turn.change(cancel_state=CancelState.CONFIRMED, cancel_answered_at=turn.now)
    return _closed(turn, news.facts.via)


def _cancel_refused(turn: Turn, news: CancelRefused) -> Turn:
    """A refusal says nothing of the money; an inquiry sent from now on does."""
    return _note_refusal(turn, news).ask_now()


def _note_refusal(turn: Turn, news: CancelRefused) -> Turn:
    p = turn.payment
    later_one_open = news.facts.asked_at < (p.last_cancel_at or 0)
    return turn.change(
        silent_cancel_at=p.last_cancel_at if later_one_open else p.silent_cancel_at,
        cancel_state=CancelState.REFUSED,
        cancel_refusal=news.why,
        cancel_answered_at=turn.now,
        not_found=0,
    )


def _report_switched_on(turn: Turn) -> Turn:
    """The emergency brake was pulled between the decision to cancel and the cancel."""
    match turn.payment.cause:
        case Cause.FAILED:
            return _end(turn, Status.FAILED, Via.INQUIRY, "not_cancelled", would="cancel")
        case Cause.REQUESTED:
            back = turn.new_phase(status=Status.PENDING, cause=None)
            return back.reject_the_cancel("report_mode", NO_CANCELS).ask_now()
        case _:
            return _look(turn, "report", would="cancel")


# unresolved: a person must look; a final word still ends it


def _unresolved(turn: Turn, news: News) -> Turn:
    p = turn.payment
    match news:
        case Tick():
            return turn.wake()
        case Paid() | PaidBack():
            return _paid_after_all(turn.mark("late"), news)
        case Failed() if not p.paid_seen:
            return _end(turn, Status.FAILED, news.facts.via, "late")
        case Closed():
            return _closed(turn.mark("late"), news.facts.via)
        case CancelConfirmed():
            return _cancel_confirmed(turn.mark("late"), news)
        case CancelRefused():
            return _note_refusal(turn, news)
        case Hint():
            return turn.ask_now()
        case Mismatch():
            return turn.attention(news.kind, "look", news.value).ask_slowly()
        case Order() | Resolve():
            return _ordered(turn, news)
        case Known() | Track() | OrderCreated() | PayRefused():
            return turn
        case Failed() | Confirming() | NotYet() | NotExist() | NoAnswer():
            return turn.ask_slowly()


# After the end: the status stays, whatever is heard


def _succeeded(turn: Turn, news: News) -> Turn:
    match news:
        case Tick():
            return turn.wake()
        case Failed() | Closed():
            return turn.attention("reversed_after_success", "look").rest()
        case PaidBack() if news.whole:
            return turn.attention("reversed_after_success", "look").rest()
        case PaidBack():
            return _watch_if_late(turn.attention("partly_refunded", "look"))
        case Mismatch():
            return _watch_if_late(turn.attention(news.kind, "look", news.value))
        case Hint():
            return turn.ask_now()
        case NoAnswer() if turn.payment.unanswered < RECHECK_TRIES:
            return turn.ask_again()
        case Order() | Resolve():
            return _ordered(turn, news)
        case CancelConfirmed():  # of a cancel long sent
            return turn.attention("reversed_after_success", "look")
        case Known() | Track() | CancelRefused() | OrderCreated() | PayRefused():
            return turn
        case Paid() | Confirming() | NotYet() | NotExist() | NoAnswer():
            return _watch_if_late(turn)


def _watch_if_late(turn: Turn) -> Turn:
    """The gateway may give a late payment back at once: look a few times whether it did."""
    return turn.ask_in_aftercare() if "late" in turn.payment.marks else turn.rest()


def _aftercare(turn: Turn, news: News) -> Turn:
    """Closed, or failed. Should money be taken after all, it is sent back or a person called."""
    care = turn.payment.aftercare
    match news:
        case Tick() if care is Aftercare.CANCELLING and turn.cancel_limit_reached:
            return _refund_required(turn)
        case Tick():
            return turn.wake()
        case Order() | Resolve():
            return _ordered(turn, news)
        case CancelConfirmed() if care is Aftercare.CANCELLING:
            return _refund_confirmed(turn)
        case CancelRefused() if care is Aftercare.CANCELLING:
            return _refund_required(_note_refusal(turn, news))
        case Hint() if care is not Aftercare.CANCELLING:
            return turn.ask_now()
        case Known() | Track() | CancelConfirmed() | CancelRefused() | Hint():
            return turn
        case _:
            pass
    turn = _note_mismatch(turn, news)
    match care:
        case Aftercare.NONE | Aftercare.WATCHING:
            return _watch(turn, news)
        case Aftercare.CANCELLING:
            return _take_back(turn, news)
        case Aftercare.REFUND_REQUIRED:
            return _wait_for_refund(turn, news)


def _watch(turn: Turn, news: News) -> Turn:
    match news:
        case PaidBack() if news.whole:
            return turn.ask_in_aftercare()
        case Paid() | PaidBack():
            return _money_taken(turn)
        case NoAnswer():
            return turn.ask_again()
        case Confirming():
            return turn.ask_while_confirming()
        case _:
            return turn.ask_in_aftercare()


def _money_taken(turn: Turn) -> Turn:
    """Told that it ended without money, and it did not."""
    failed = turn.payment.status is Status.FAILED
    kind = "paid_after_failure" if failed else "paid_after_cancel"
    again = str(turn.payment.cancel_attempts)
    if turn.reporting:
        return _refund_required(turn.attention(kind, "refund", again, would="cancel"))
    turn = turn.attention(kind, "look", again)
    return turn.new_phase(aftercare=Aftercare.CANCELLING).open_window().cancel_now()


def _take_back(turn: Turn, news: News) -> Turn:
    match news:
        case PaidBack() if news.whole:
            return _refund_confirmed(turn)
        case Closed() | Failed():
            return _refund_confirmed(turn)
        case _ if turn.cancel_limit_reached or turn.reporting:
            return _refund_required(turn)
        case _:
            return turn.cancel_again()


def _wait_for_refund(turn: Turn, news: News) -> Turn:
    match news:
        case PaidBack() if news.whole:
            return _refund_confirmed(turn)
        case Closed() | Failed():
            return _refund_confirmed(turn)
        case _:
            return turn.ask_slowly()


def _note_mismatch(turn: Turn, news: News) -> Turn:
    if isinstance(news, Mismatch):
        return turn.attention(news.kind, "look", news.value)
    return turn


def _refund_confirmed(turn: Turn) -> Turn:
    p = turn.payment
    turn = turn.attention("refund_confirmed", "none", str(p.cancel_attempts))
    if p.cancel_state is CancelState.OPEN:
        turn = turn.change(cancel_state=CancelState.CONFIRMED, cancel_answered_at=turn.now)
    return turn.new_phase().ask_in_aftercare()


def _refund_required(turn: Turn) -> Turn:
    """Listed and alarmed until the money is back or an operator resolves it."""
    again = str(turn.payment.cancel_attempts)
    turn = turn.new_phase(aftercare=Aftercare.REFUND_REQUIRED).open_window()
    turn = turn.attention("refund_required", "refund", again)
    return turn.alarm("money stays taken after the end: refund it").ask_slowly()


def _forgotten(turn: Turn, news: News) -> Turn:
    return _ordered(turn, news) if isinstance(news, Order | Resolve) else turn


# Commands


def _track_again(turn: Turn, command: Track) -> Turn:
    """The same again tells how it stands once more; another amount is another payment."""
    p = turn.payment
    if command.amount != p.amount:
        message = f"this payment is tracked with {p.amount}; {command.amount} is another payment"
        return turn.reject(command, "conflict", message)
    if isinstance(command, Submit) and command.digest != p.pay_digest:
        message = "this payment is known with another order: submit yours under a new id"
        return turn.reject(command, "conflict", message)
    if p.final_at is not None:
        return turn.tell(p.status.value, p.status.value)
    if isinstance(command, Submit) and p.status is Status.PENDING and p.redirect_url:
        return turn.tell("submitted", "submitted", via=Via.PAY)
    return turn


def _ordered(turn: Turn, order: Order | Resolve) -> Turn:
    if isinstance(order, Resolve):
        return _resolve(turn, order)
    match order.ask:
        case Ask.CANCEL:
            return _order_cancel(turn, order)
        case Ask.RECHECK:
            return _order_recheck(turn, order)
        case Ask.FORGET:
            return _order_forget(turn, order)


def _order_cancel(turn: Turn, order: Order) -> Turn:
    match turn.payment.status:
        case Status.PENDING | Status.UNRESOLVED if turn.reporting:
            return turn.reject(order, "report_mode", NO_CANCELS)
        case Status.PENDING | Status.UNRESOLVED:
            return _give_up(turn.change(cancel_command=order.id), Cause.REQUESTED)
        case Status.SUCCEEDED:
            message = "the payment has succeeded; refund it instead"
            return turn.reject(order, "already_final", message, advice="refund")
        case Status.FORGOTTEN:
            return turn.reject(order, "already_final", "the payment is no longer followed")
        case Status.CANCELLING | Status.FAILED | Status.CANCELLED:
            return turn


def _order_recheck(turn: Turn, order: Order) -> Turn:
    match turn.payment.status:
        case Status.CANCELLING:
            return turn.change(next_at=turn.now)
        case Status.FORGOTTEN:
            return turn.reject(order, "already_final", "the payment is no longer followed")
        case Status.FAILED | Status.CANCELLED if turn.payment.aftercare is Aftercare.CANCELLING:
            return turn.change(next_at=turn.now)
        case _:
            return turn.ask_now()


def _order_forget(turn: Turn, order: Order) -> Turn:
    p = turn.payment
    match p.status:
        case Status.PENDING | Status.UNRESOLVED:
            return _end(turn, Status.FORGOTTEN, None)
        case Status.CANCELLING:
            return turn.reject(order, "conflict", "the payment is being cancelled")
        case _ if p.aftercare in (Aftercare.CANCELLING, Aftercare.REFUND_REQUIRED):
            return turn.reject(order, "conflict", "money is still to be given back")
        case _ if turn.cancel_on_its_way:  # tracked again, it would not know of it
            return turn.reject(order, "conflict", "a cancel may still be on its way; try later")
        case _:
            return turn.erase()


def _resolve(turn: Turn, order: Resolve) -> Turn:
    """An operator's word, with name and reason; the caller has asked the gateway before."""
    p, said = turn.payment, f"{order.who}: {order.why}"
    if p.status is Status.UNRESOLVED and order.status is not None:
        return _end(turn, order.status, Via.OPERATOR, "resolved").change(reason=said)
    if p.aftercare is Aftercare.REFUND_REQUIRED:
        turn = turn.attention("refund_confirmed", "none", f"operator {p.cancel_attempts}")
        return turn.change(aftercare=Aftercare.NONE, reason=said).rest()
    return turn.reject(order, "conflict", "only what is unresolved or to be refunded is resolved")


# The moves. Every new status is written here or in a case above.


def _give_up(turn: Turn, cause: Cause) -> Turn:
    """Cancel at once. The merchant hears `payment.cancelling`: do not deliver."""
    turn = turn.new_phase(status=Status.CANCELLING, cause=cause, reason="").open_window()
    return turn.tell_again("cancelling").cancel_now()


def _look(turn: Turn, reason: str, advice: str = "look", would: str = "") -> Turn:
    """No end can be told that is sure to be true: a person must look.

    Where cancels were tried in vain until their window ended, only a refund is left.
    """
    turn = turn.new_phase(status=Status.UNRESOLVED, reason=reason).open_window()
    left = turn.window_left
    if reason in _CANCELLED_IN_VAIN and left is not None and left <= 0:
        advice = "refund"
    turn = turn.tell_again("unresolved", advice=advice, would=would)
    return turn.alarm(f"unresolved: {reason}").ask_slowly()


def _end(turn: Turn, status: Status, via: Via | None, *marks: str, would: str = "") -> Turn:
    """The one end of a payment."""
    refused = turn.payment.submit_state is SubmitState.REFUSED
    if status is Status.FAILED and refused and via is not Via.OPERATOR:
        # Whatever was asked afterwards only confirmed it, and says nothing of why.
        via, turn = Via.PAY, turn.change(result_code=turn.payment.pay_code)
    turn = turn.mark(*marks).new_phase(status=status, via=via, final_at=turn.now, reason="")
    turn = turn.change(redirect_url="", redirect_method="")
    turn = turn.tell(status.value, status.value, would=would)
    match status:
        case Status.FAILED | Status.CANCELLED:
            return turn.ask_in_aftercare()
        case Status.SUCCEEDED:
            return _watch_if_late(turn)
        case _:
            return turn.rest()
