"""The life of a payment, cell by cell, then all of it at once under a hostile gateway."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from heapq import heappop, heappush
from itertools import count, product
from random import Random
from typing import get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import news as news_module
from jobs.model import (
    FINAL,
    Act,
    Aftercare,
    CancelState,
    Cause,
    Decision,
    Event,
    Money,
    Ms,
    OnTimeout,
    Payment,
    Refusal,
    Rejected,
    Status,
    SubmitState,
    Via,
)
from jobs.news import (
    Answer,
    Ask,
    Call,
    Message,
    News,
    NotifyKind,
    Order,
    Paid,
    PaidBack,
    Return,
    Silence,
    Tick,
    Unusable,
)
from jobs.payment import decide, hear
from jobs.schedule import DAY, HOUR, MINUTE, SECOND, Policy
from jobs.turn import of_pay
from tests.cells import (
    CLOSING,
    FRESH,
    NEVER,
    POLICY,
    SUBMITTED,
    T0,
    Cell,
    Life,
    Scene,
    cancel_said,
    cells,
    command,
    inquired,
    notified,
    pay_said,
    place,
    said,
    word,
)

MODES = ("cancel", "report", "deployment")
OPEN = (Status.PENDING, Status.CANCELLING, Status.UNRESOLVED)


# The table


@pytest.mark.parametrize("cell", list(cells()), ids=lambda cell: cell.name)
def test_the_table(cell: Cell) -> None:
    """Each cell of the table in `tests/cells.py` comes out as it stands there."""
    scene = place(cell.start, cell.mode)
    decision = decide(scene.payment, word(cell.heard, scene), scene.now, scene.policy)
    assert said(scene.payment, decision, scene.now) == cell.then


def test_no_cell_stands_in_the_table_twice() -> None:
    names = [cell.name for cell in cells()]
    assert len(names) == len(set(names))


NEWS = (
    "Paid", "PaidBack", "Failed", "Closed", "Confirming", "NotYet", "NotExist", "CancelConfirmed",
    "CancelRefused", "OrderCreated", "PayRefused", "Mismatch", "NoAnswer", "Hint", "Known", "Tick",
)  # fmt: skip
COMMANDS = ("track", "submit", "cancel", "recheck", "forget", "resolve")


def test_the_table_knows_every_kind_of_news() -> None:
    """A kind that is added to `jobs.news` needs its rows here."""
    kinds = {kind.__name__ for kind in get_args(news_module.News)}
    assert kinds == {*NEWS, "Track", "Submit", "Order", "Resolve"}
    assert {f"payment.{name}" for name in COMMANDS} >= set(Ask)


def test_the_table_has_a_cell_for_every_state_and_news_and_command() -> None:
    """For each state of our pay and of our cancel; or `NEVER` says why there is none."""
    states = ["pending", *(f"pending {s}" for s in SUBMITTED)]
    states += [*(f"cancelling {s}" for s in ("none", "open", "refused")), "unresolved"]
    states += ["succeeded", "cancelled"]
    have = {(_state(cell.start), cell.heard.split()[0]) for cell in cells()}
    assert set(product(states, NEWS)) - have == set(NEVER)
    all_statuses = {(status.value, command) for status, command in product(Status, COMMANDS)}
    have |= {(state.split()[0], heard) for state, heard in have}
    assert all_statuses - have == set()


def _state(start: str) -> str:
    status, *words = start.replace("just sent", "open").split()
    of_ours = {"cancelling": ("none", "open", "refused"), "pending": SUBMITTED}
    state = [word for word in words if word in of_ours.get(status, ())]
    return " ".join([status, *state[:1]])


# What the table leaves unsaid: the words of each event, and what the record keeps

ADVICE = {
    "unresolved": "look",
    "contradiction": "look",
    "reversed_after_success": "look",
    "partly_refunded": "look",
    "amount_mismatch": "look",
    "paid_after_cancel": "look",
    "paid_after_failure": "look",
    "refund_required": "refund",
}


def decided() -> Iterator[tuple[Cell, Scene, News, Decision]]:
    for cell in cells():
        scene = place(cell.start, cell.mode)
        news = word(cell.heard, scene)
        yield cell, scene, news, decide(scene.payment, news, scene.now, scene.policy)


def told(decision: Decision) -> Iterator[tuple[Event, str]]:
    """The events of a decision, each with its kind of attention, or else its own name."""
    for event in decision.events:
        if isinstance(event, Event):
            yield event, event.kind or event.name.partition(".")[0]


def test_each_event_gives_the_advice_of_its_kind() -> None:
    """Where the cancel window is over, or report mode sends no cancel, only a refund is left."""
    for cell, _, _, decision in decided():
        for event, kind in told(decision):
            refund = decision.payment.reason == "cancel_window"
            refund = refund or (kind.startswith("paid_after") and event.would == "cancel")
            advice = "refund" if refund else ADVICE.get(kind, "none")
            assert event.advice == advice, cell.name


def test_an_attention_carries_what_was_seen_or_how_many_cancels_came_before() -> None:
    for cell, scene, _, decision in decided():
        attempts = str(scene.payment.cancel_attempts)
        by = f"operator {attempts}" if cell.heard == "resolve" else attempts
        values = dict.fromkeys(("paid_after_cancel", "paid_after_failure"), attempts)
        values |= {"refund_required": attempts, "refund_confirmed": by, "amount_mismatch": "USD 5"}
        for event, kind in told(decision):
            assert event.value == values.get(kind, ""), cell.name


def test_each_event_has_the_type_and_the_name_of_its_kind() -> None:
    once = {status.value for status in FINAL} | {"submitted"}
    for cell, _, _, decision in decided():
        for event, kind in told(decision):
            prefix = "attention." if event.kind else ""
            assert event.type == f"payment.{prefix.rstrip('.') or kind}", cell.name
            assert event.name == (kind if kind in once else f"{prefix}{kind}.1"), cell.name


SAID = "ops: seen in the bank"  #: who resolved it, and why


def test_an_end_keeps_when_it_came_and_how_it_was_learned() -> None:
    for cell, scene, news, decision in decided():
        p = decision.payment
        if p.status is scene.payment.status or p.status not in FINAL:
            continue
        via = {"resolve": Via.OPERATOR, "forget": None}.get(cell.heard, Via.INQUIRY)
        via = news.facts.via if hasattr(news, "facts") else via
        via = Via.CANCEL if "cancel_unconfirmed" in p.marks else via
        refused = p.submit_state is SubmitState.REFUSED and p.status is Status.FAILED
        via = Via.PAY if refused else via
        reason = SAID if cell.heard == "resolve" else ""
        assert (p.via, p.final_at, p.reason) == (via, scene.now, reason), cell.name


def test_what_is_known_already_changes_nothing_but_its_count_anywhere() -> None:
    for start in dict.fromkeys(cell.start for cell in cells()):
        scene = place(start)
        decision = decide(scene.payment, word("Known", scene), scene.now, POLICY)
        heard = scene.payment.notifications + 1
        same = replace(scene.payment, notifications=heard, updated_at=scene.now)
        assert decision == Decision(payment=same), start


@pytest.mark.parametrize("heard", ["CancelConfirmed", "CancelRefused window"])
@pytest.mark.parametrize("start", ["cancelled", "cancelled rested", "cancelled refund required"])
def test_a_late_answer_to_a_cancel_leaves_the_plan_as_it_was(start: str, heard: str) -> None:
    scene = place(start)
    p, decision = scene.payment, decide(scene.payment, word(heard, scene), scene.now, POLICY)
    assert (decision.payment.next_at, decision.payment.next_act) == (p.next_at, p.next_act)
    assert (decision.payment.aftercare, decision.payment.told) == (p.aftercare, p.told)


def test_only_report_mode_says_what_would_have_been_done_and_only_where_it_was_not() -> None:
    for cell, _, _, decision in decided():
        p = decision.payment
        for event, kind in told(decision):
            left_undone = (
                (kind == "failed" and "not_cancelled" in p.marks)
                or (kind == "unresolved" and p.reason in ("report", "no_answer"))
                or (kind.startswith("paid_after") and cell.mode != "cancel")
            )
            assert event.would == ("cancel" if left_undone else ""), cell.name


def test_a_payment_has_a_cause_or_a_reason_only_where_they_say_something() -> None:
    for cell, scene, _, decision in decided():
        p = decision.payment
        if cell.heard == "resolve" and scene.payment.needs_a_person:
            assert p.reason == SAID, cell.name
        else:
            assert (p.reason != "") is (p.status is Status.UNRESOLVED), cell.name
        assert p.cause is None or p.status is not Status.PENDING, cell.name


def test_an_answer_leaves_its_code_and_a_definite_one_to_a_cancel_its_time() -> None:
    for cell, scene, news, decision in decided():
        p = decision.payment
        late = of_pay(news) and scene.payment.status is not Status.PENDING
        if p.via is Via.PAY:
            assert p.result_code == "RISK_REJECT", "why it failed, not how that was confirmed"
        elif hasattr(news, "facts") and not late:
            assert p.result_code == "SUCCESS", cell.name
        if p.cancel_state not in (scene.payment.cancel_state, CancelState.OPEN):
            assert p.cancel_answered_at == scene.now, cell.name


def test_whatever_is_decided_has_the_types_that_it_is_written_down_by() -> None:
    def check(values: object, name: str) -> None:
        for field, kind in get_type_hints(type(values)).items():
            kind = tuple if get_origin(kind) is tuple else kind
            assert isinstance(getattr(values, field), kind), (name, field)

    for cell, _, _, decision in decided():
        assert type(decision) is Decision, cell.name
        for values in (decision, decision.payment, *decision.events):
            check(values, cell.name)


OVER = "the payment is no longer followed"
REJECTED = [
    ("pending", "report", "cancel", "report_mode", "report mode sends no cancels"),
    ("forgotten", "cancel", "cancel", "already_final", OVER),
    ("forgotten", "cancel", "recheck", "already_final", OVER),
    ("cancelling t open", "cancel", "forget", "conflict", "the payment is being cancelled"),
    (
        *("cancelled taking back sent", "cancel", "forget", "conflict"),
        "money is still to be given back",
    ),
    (
        *("failed just cancelled", "cancel", "forget", "conflict"),
        "a cancel may still be on its way; try later",
    ),
    (
        *("pending", "cancel", "resolve", "conflict"),
        "only what is unresolved or to be refunded is resolved",
    ),
    (
        *("pending created", "cancel", "submit other order", "conflict"),
        "this payment is known with another order: submit yours under a new id",
    ),
    (
        *("pending", "cancel", "track other amount", "conflict"),
        "this payment is tracked with USD 599; USD 600 is another payment",
    ),
]


@pytest.mark.parametrize(("start", "mode", "heard", "reason", "message"), REJECTED)
def test_a_command_that_is_not_carried_out_is_answered_with_the_reason(
    start: str, mode: str, heard: str, reason: str, message: str
) -> None:
    scene = place(start, mode)
    decision = decide(scene.payment, word(heard, scene), scene.now, scene.policy)
    assert decision.payment is scene.payment
    assert decision.events == (
        Rejected(
            command_id="order_2",
            command=f"payment.{heard.split()[0]}",
            reason=reason,
            message=message,
            client_id=FRESH.client_id,
            payment_request_id=FRESH.payment_request_id,
        ),
    )


def test_a_cancel_that_comes_to_nothing_is_answered_to_who_asked_for_it() -> None:
    """The payment was paid before the cancel could leave, or report mode was switched on."""
    for mode, heard, reason, message, advice in (
        (
            *("cancel", "Paid", "already_final"),
            "the payment succeeded before it could be cancelled; refund it instead",
            "refund",
        ),
        ("deployment", "Tick", "report_mode", "report mode sends no cancels", "none"),
    ):
        scene = place("pending")
        cancelling = decide(scene.payment, command("cancel", scene.now), scene.now, POLICY).payment
        policy = replace(POLICY, report=mode == "deployment")
        decision = decide(cancelling, word(heard, scene), scene.now, policy)
        assert decision.payment.cause is (Cause.REQUESTED if heard == "Paid" else None)
        assert decision.events[-1] == Rejected(
            command_id="order_2",
            command="payment.cancel",
            reason=reason,
            message=message,
            client_id=FRESH.client_id,
            payment_request_id=FRESH.payment_request_id,
            advice=advice,
        )


# Completeness: every combination can be decided, in every mode, and keeps the plain promises


def every_payment() -> Iterator[tuple[Payment, Ms]]:
    """Statuses x causes x cancel states x refusals x paidSeen x aftercare, as far as they meet."""
    now = CLOSING + 3 * HOUR
    for status in Status:
        causes = {Status.CANCELLING: tuple(Cause), Status.UNRESOLVED: (None, *Cause)}
        cares = tuple(Aftercare) if status in (Status.FAILED, Status.CANCELLED) else ("none",)
        for cause, care in product(causes.get(status, (None,)), cares):
            p = replace(FRESH, status=status, cause=cause, aftercare=Aftercare(care))
            p = replace(p, final_at=now - HOUR if status in FINAL else None, tried_at=now - MINUTE)
            yield from ((sent, now) for sent in _each_cancel(p, now))


def _each_cancel(p: Payment, now: Ms) -> Iterator[Payment]:
    yield replace(p, next_at=now)
    if p.status is Status.PENDING:
        yield from _each_pay(replace(p, next_at=now), now)
    if p.status in (Status.PENDING, Status.SUCCEEDED, Status.FORGOTTEN):
        return
    sent = replace(p, last_cancel_at=now - HOUR, first_cancel_at=T0, cancel_attempts=3, tries=3)
    for state, seen, act in product(CancelState, (False, True), (Act.INQUIRE, Act.CANCEL)):
        q = replace(sent, cancel_state=state, paid_seen=seen, next_act=act, next_at=now)
        refusals = tuple(Refusal) if state is CancelState.REFUSED else (None,)
        for refusal, limit in product(refusals, (0, POLICY.cancel_limit)):
            answered = now - HOUR if state in (CancelState.REFUSED, CancelState.CONFIRMED) else None
            q = replace(q, cancel_refusal=refusal, cancel_answered_at=answered, tried_for=limit)
            yield replace(q, not_found=2)


def _each_pay(p: Payment, now: Ms) -> Iterator[Payment]:
    """On both sides of the closing time, planned and sent, with and without an earlier one."""
    p = replace(p, pay_digest="digest_1")
    for state, closing, act in product(
        SubmitState, (now + MINUTE, p.closing_time), (Act.INQUIRE, Act.PAY)
    ):
        asked = state in (SubmitState.NONE, SubmitState.OPEN)
        q = replace(p, submit_state=state, closing_time=closing, next_act=act)
        q = replace(q, pay_request="{}" if asked else "", tried_at=None)
        yield q
        yield replace(q, pay_attempts=2, last_pay_at=now - SECOND, silent_pay_at=now - MINUTE)


ALL_WORDS = [
    *("Paid", "Paid by notification", "PaidBack all", "PaidBack part", "Failed", "Closed"),
    *("Confirming", "NotYet", "NotExist", "NoAnswer", "NoAnswer to cancel"),
    *("NoAnswer misconfigured", "CancelConfirmed", "CancelRefused window"),
    *("CancelRefused not_exist", "CancelRefused other", "Mismatch", "Mismatch by notification"),
    *("OrderCreated", "PayRefused", "PayRefused misconfigured", "NoAnswer to pay"),
    *("Mismatch to pay", "submit again", "submit other order"),
    *("Hint", "Known", "Tick", "track again", "track other amount", *COMMANDS[2:]),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("heard", ALL_WORDS)
def test_every_combination_can_be_decided_and_keeps_the_plain_promises(
    heard: str, mode: str
) -> None:
    for payment, now in every_payment():
        if mode == "report":
            payment = replace(payment, on_timeout=OnTimeout.REPORT)
        policy = replace(POLICY, report=mode == "deployment")
        news = word(heard, Scene(payment, now))
        check_plain_promises(payment, decide(payment, news, now, policy), now, mode != "cancel")


def check_plain_promises(before: Payment, decision: Decision, now: Ms, reporting: bool) -> None:
    """What holds for every single decision, whatever led to it."""
    after = decision.payment
    if before.status in FINAL:
        assert after.status is before.status, "a final status stays"
    seqs = [event.seq for event in decision.events if isinstance(event, Event)]
    assert seqs == sorted(set(seqs))
    assert all(seq > before.seq for seq in seqs)
    assert after.seq == max([before.seq, *seqs])
    if decision.act is Act.CANCEL:
        assert not reporting, "report mode sends no cancels"
        assert after.cancel_state is CancelState.OPEN
        assert after.last_cancel_at == now
        assert before.status is not Status.SUCCEEDED
    if decision.act is Act.PAY:
        assert (before.status, after.submit_state) == (Status.PENDING, SubmitState.OPEN)
        assert (after.last_pay_at, after.pay_request) == (now, before.pay_request)
        assert now < before.closing_time, "no order is made that is closed at once"
    assert after.pay_request in (before.pay_request, "")
    if after.status is not Status.PENDING:
        assert not after.pay_request, "an order is not kept longer than it is needed"
    if after.status in (Status.PENDING, Status.CANCELLING):
        assert after.next_at is not None, "an open payment has a next action"
    if after.status is not before.status and after.status in FINAL:
        names = [event.name for event in decision.events if isinstance(event, Event)]
        assert [name for name in names if name in set(FINAL)] == [after.status]


# The same messages in any order, any number of times


ANSWERS = ["PROCESSING", "PENDING", "SUCCESS", "FAIL", "CANCELLED", "NOT_EXIST", "?"]
GOOD: list[Money | None] = [FRESH.amount]


@st.composite
def messages(draw: st.DrawFn) -> Message | str:
    """Anything that may be heard, timed from the moment it is heard; or a word for the clock."""
    kind = draw(
        st.sampled_from(["clock", "late", "inquiry", "pay", "cancel", "notify", "silence", "order"])
    )
    old = draw(st.sampled_from([0, 0, 0, SECOND, 90 * SECOND, 10 * MINUTE]))
    amount = draw(st.sampled_from([*GOOD * 6, None, Money("USD", 1), Money("EUR", 599)]))
    payment_id = draw(st.sampled_from(["gw_1"] * 8 + ["gw_2", ""]))
    match kind:
        case "inquiry":
            status = draw(st.sampled_from(ANSWERS))
            more = {"amount": amount, "payment_id": payment_id} if status != "NOT_EXIST" else {}
            parts = draw(st.lists(st.sampled_from([Money("USD", 300), Money("USD", 599), None])))
            returns = tuple(Return("REFUND", part) for part in parts) if status == "SUCCESS" else ()
            return inquired(FRESH, status, -old, returns=returns, **more)
        case "pay":
            return pay_said(FRESH, draw(st.sampled_from(Call)), -old)
        case "cancel":
            return cancel_said(FRESH, draw(st.sampled_from(Call)), -old)
        case "notify":
            status = draw(st.sampled_from("SSFFU"))
            which = draw(st.sampled_from(NotifyKind))
            return notified(FRESH, status, -old, amount=amount, payment_id=payment_id, kind=which)
        case "silence":
            flags = draw(st.tuples(st.booleans(), st.booleans()))
            return Silence(asked_at=-old, why="timeout", to_cancel=flags[0], left=flags[1])
        case "order":
            return draw(
                st.sampled_from([*_orders(), Unusable(payment_request_id="pay_1", why="x")])
            )
        case _:
            return kind


def _orders() -> Iterator[Message]:
    who = {"client_id": FRESH.client_id, "payment_request_id": FRESH.payment_request_id}
    for ask in (Ask.CANCEL, Ask.RECHECK):
        yield Order(ask=ask, id="order_1", at=T0, **who)


def timed(message: Message, now: Ms) -> Message:
    """A message drawn at time 0, moved to now."""
    names = {f.name for f in fields(message)} & {
        "asked_at",
        "answered_at",
        "sent_at",
        "received_at",
    }
    moved = {name: value + now for name in names if (value := getattr(message, name)) is not None}
    return replace(message, **moved)


class Witness(Life):
    """A life that checks, at each step, what must never happen."""

    def __init__(self, payment: Payment, now: Ms = T0, policy: Policy = POLICY) -> None:
        super().__init__(payment, now, policy)
        self.finals: list[str] = []
        self.paid = False

    def hear(self, message: Message) -> Decision:
        news = hear(self.payment, message, self.now, self.policy)
        before = self.payment
        if isinstance(news, Paid | PaidBack) and before.status in OPEN:
            self.paid = self.paid or before.cancel_state is CancelState.NONE
        reporting = self.policy.report or before.on_timeout is OnTimeout.REPORT
        decision = self.decide(news)
        check_plain_promises(before, decision, self.now, reporting)
        self._check_finals(decision)
        if decision.act is Act.CANCEL:
            self._check_cancel(before)
        return decision

    def wake(self, late: Ms = 0) -> Act:
        self.wind(late)
        return self.hear(Tick()).act

    def _check_finals(self, decision: Decision) -> None:
        names = [event.name for event in decision.events if isinstance(event, Event)]
        self.finals += [name for name in names if name in set(FINAL)]
        assert len(self.finals) <= 1, "exactly one final event"

    def _check_cancel(self, before: Payment) -> None:
        if before.status in OPEN:
            assert not self.paid, "no cancel after a success was taken as evidence"
        if before.status is Status.CANCELLING and before.cause is Cause.TIMED_OUT:
            assert self.now >= FRESH.closing_time, "no cancel before the closing time"


def play(life: Life, message: Message | str) -> None:
    if message == "clock" or message == "late":
        if life.payment.next_at is not None:
            life.wake(late=HOUR if message == "late" else 0)
    elif not isinstance(message, str):
        life.now += SECOND
        life.hear(timed(message, life.now))


#: Tracked, or with a pay of our own that is about to leave.
BEGINNINGS = (
    replace(FRESH, next_at=T0),
    replace(FRESH, next_at=T0, next_act=Act.PAY, pay_request="{}", pay_digest="digest_1"),
)
beginnings = st.sampled_from(BEGINNINGS)
modes = st.sampled_from(
    [(False, OnTimeout.CANCEL), (True, OnTimeout.CANCEL), (False, OnTimeout.REPORT)]
)


@pytest.mark.once
@settings(deadline=None, max_examples=300)
@given(st.lists(messages(), max_size=40), modes, st.booleans(), beginnings)
def test_whatever_is_heard_in_whatever_order_the_promises_hold(
    heard: list[Message | str], mode: tuple[bool, OnTimeout], agreed: bool, start: Payment
) -> None:
    """Ends absorb, `seq` rises, one end is told, no cancel follows a success or leaves early."""
    payment = replace(start, on_timeout=mode[1], closing_agreed=agreed)
    life = Witness(payment, policy=replace(POLICY, report=mode[0]))
    for message in heard:
        play(life, message)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(messages(), max_size=25),
    st.sampled_from(["SUCCESS", "FAIL", "CANCELLED"]),
    modes,
    beginnings,
)
def test_once_the_gateway_says_one_thing_every_payment_ends_or_a_person_is_called(
    heard: list[Message | str], truth: str, mode: tuple[bool, OnTimeout], start: Payment
) -> None:
    """However it began: within a bounded number of questions."""
    payment = replace(start, on_timeout=mode[1])
    life = Witness(payment, policy=replace(POLICY, report=mode[0]))
    for message in heard:
        play(life, message)
    for _ in range(400):
        if life.payment.status not in (Status.PENDING, Status.CANCELLING):
            break
        answer(life, life.wake(), truth)
    assert life.payment.status not in (Status.PENDING, Status.CANCELLING)


def answer(life: Life, act: Act, truth: str) -> None:
    life.now += 100
    told = {"payment_id": life.payment.payment_id or "gw_1"}
    if act is Act.INQUIRE:
        life.inquiry(truth, **told)
    elif act is Act.CANCEL:
        life.cancel_answer(Call.REFUSED if truth == "SUCCESS" else Call.OK, **told)
    elif act is Act.PAY:
        life.hear(pay_said(life.payment, Call.OK, life.now, **told))


@pytest.mark.once
@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["PROCESSING", "PENDING", "NOT_EXIST", "?", "silence"]),
    modes,
    beginnings,
    st.data(),
)
def test_a_gateway_that_never_says_a_final_word_does_not_keep_a_payment_for_ever(
    always: str, mode: tuple[bool, OnTimeout], start: Payment, data: st.DataObject
) -> None:
    """It ends cancelled, or a person is called; cancels may be answered in any way, or never."""
    payment = replace(start, on_timeout=mode[1])
    life = Witness(payment, policy=replace(POLICY, report=mode[0]))
    calls = [Call.UNKNOWN, Call.REFUSED, Call.NOT_EXIST, Call.WINDOW_EXCEEDED, Call.MISCONFIGURED]
    refused = data.draw(st.sampled_from([None, *calls]))
    for _ in range(2000):  # an inquiry a minute for a day, at most
        if life.payment.status not in (Status.PENDING, Status.CANCELLING):
            return
        act = life.wake()
        if act is Act.CANCEL:
            life.silence(to_cancel=True) if refused is None else life.cancel_answer(refused)
        elif act is Act.INQUIRE:
            life.silence() if always == "silence" else life.inquiry(always)
        elif act is Act.PAY:
            said = pay_said(life.payment, refused, life.now) if refused else None
            life.hear(said or Silence(asked_at=life.now, why="timeout", to_pay=True))
    pytest.fail(f"still {life.payment.status}")


@settings(deadline=None, max_examples=100)
@given(st.permutations(["S", "S", "F", "pending", "S", "F"]), st.integers(1, 5))
def test_notifications_in_any_order_and_number_end_as_the_inquiry_says(
    order: list[str], times: int
) -> None:
    """The first evidence ends it; the rest is known already, or makes us ask."""
    life = Witness(replace(FRESH, next_at=T0), T0 + SECOND)
    for status in order * times:
        kind = NotifyKind.PENDING if status == "pending" else NotifyKind.RESULT
        life.hear(notified(FRESH, "S" if status == "pending" else status, life.now, kind=kind))
    first = next(status for status in order if status != "pending")
    for _ in range(20):
        if life.payment.next_at is not None and life.payment.status is not Status.SUCCEEDED:
            answer(life, life.wake(), "CANCELLED")
    assert life.payment.status is (Status.SUCCEEDED if first == "S" else Status.FAILED)


@pytest.mark.parametrize("start", ["succeeded", "failed", "cancelled", "forgotten"])
@pytest.mark.parametrize("status", ["S", "F"])
def test_a_notification_heard_again_after_the_end_changes_no_outcome(
    start: str, status: str
) -> None:
    scene = place(start)
    life = Witness(scene.payment, scene.now)
    for _ in range(10):
        life.notification(status)
    assert life.events == []
    assert life.payment.status is scene.payment.status


# The money: an honest gateway on a bad line, and what the merchant believes in the end


class World:
    """A payment, its buyer, and a gateway that is honest; the line between us is not.

    Everything is drawn from one seed: when the order is made and paid, what is lost, late or
    doubled, and which workers freeze with an answer in their hands. `money` is the ledger's truth.
    """

    def __init__(self, seed: int, on_timeout: OnTimeout) -> None:
        self.dice = dice = Random(seed)
        self.life = Witness(replace(FRESH, next_at=T0 + 2 * SECOND, on_timeout=on_timeout))
        self.state, self.returned, self.paid_at = "unborn", False, T0
        self.shows_refunds, self.confirms_failed = dice.random() < 0.5, dice.random() < 0.5
        self.window = dice.choice([HOUR, DAY, 30 * DAY])
        self.loss = dice.choice([0, 0.1, 0.5, 0.95])
        self.order = count()
        self.todo: list[tuple[Ms, int, Callable[[], object]]] = []
        born = T0 + dice.choice([-SECOND, SECOND, 100 * SECOND, CLOSING - T0 - SECOND])
        self.later(born - T0, lambda: self.turns("open", "unborn"))
        buys = dice.choice([dice.randrange(CLOSING - T0), CLOSING - T0 + dice.randrange(MINUTE)])
        self.later(buys, dice.choice([self.pay, self.pay, self.fail, self.confirm]))
        self.later(CLOSING - T0 + dice.choice([0, 5000, DAY]), lambda: self.turns("closed", "open"))
        if dice.random() < 0.1:
            self.later(buys, lambda: self.life.hear(command("cancel", self.life.now)))
        if dice.random() < 0.2:
            self.later(CLOSING - T0 + dice.randrange(HOUR), self.pay_although_cancelled)

    @property
    def money(self) -> bool:
        return self.state == "paid" and not self.returned

    def later(self, delay: Ms, do: Callable[[], object]) -> None:
        heappush(self.todo, (self.life.now + delay, next(self.order), do))

    # The buyer and the gateway

    def turns(self, state: str, *before: str) -> bool:
        if self.state not in before:
            return False
        self.state = state
        return True

    def pay(self, *before: str) -> None:
        if self.turns("paid", *(before or ("open",))):
            self.paid_at, self.returned = self.life.now, False
            self.notify("S")

    def fail(self, *before: str) -> None:
        if self.turns("failed", *(before or ("open",))):
            self.notify("F")

    def confirm(self) -> None:
        if self.turns("confirming", "open"):
            end = self.dice.choice([self.pay, self.fail])
            self.later(self.dice.choice([SECOND, DAY, 8 * DAY]), lambda: end("confirming"))

    def pay_although_cancelled(self) -> None:
        """Some wallets let a buyer pay what was cancelled a moment ago."""
        if self.life.cancels:
            self.pay("closed")

    def notify(self, status: str) -> None:
        """Lost, late, doubled; a later one with its old time or a new one."""
        sent_at, old = self.life.now, self.dice.random() < 0.5
        for delay in self.dice.sample([0, 500, 3000, MINUTE, 10 * MINUTE, HOUR, DAY], 2):
            self.later(delay, lambda: self.deliver(status, sent_at if old else self.life.now))

    def deliver(self, status: str, sent_at: Ms) -> None:
        if self.dice.random() >= self.loss:
            self.life.notification(status, sent_at=sent_at)

    def shown(self) -> str:
        if self.state == "paid" and self.returned and not self.shows_refunds:
            return "CANCELLED"
        names = {"unborn": "NOT_EXIST", "open": "PROCESSING", "confirming": "PENDING"}
        return {**names, "paid": "SUCCESS", "failed": "FAIL", "closed": "CANCELLED"}[self.state]

    def cancel(self) -> Call:
        if self.state == "unborn":
            return Call.NOT_EXIST
        if self.state == "failed" and not self.confirms_failed or self.returned:
            return Call.REFUSED
        if self.state == "paid" and self.life.now > self.paid_at + self.window:
            return Call.WINDOW_EXCEEDED
        self.returned = self.state == "paid"
        self.turns("closed", "open", "confirming")
        return Call.OK

    # The worker, and the line

    def run(self) -> None:
        """Until nothing is due any more, or sixty days are over."""
        while self.life.now < T0 + 60 * DAY:
            due = self.life.payment.next_at
            if self.todo and (due is None or self.todo[0][0] <= max(due, self.life.now)):
                at, _, do = heappop(self.todo)
                self.life.now = max(self.life.now, at)
                do()
            elif due is None:
                return
            else:
                self.work(self.life.wake(late=self.dice.choice([0] * 20 + [MINUTE])))

    def work(self, act: Act) -> None:
        asked, payment = self.life.now, self.life.payment
        if act is Act.INQUIRE and self.dice.random() >= self.loss:
            status, back = self.shown(), (Return("CANCEL", None),) if self.returned else ()
            returns = {"returns": back} if status == "SUCCESS" else {}
            self.answered(inquired(payment, status, asked, **returns))
        elif act is Act.INQUIRE:
            self.answered(Silence(asked_at=asked, why="timeout"))
        elif act is Act.CANCEL:
            self.answered(self.cancelled(payment, asked))

    def cancelled(self, payment: Payment, asked: Ms) -> Answer:
        """Answered; or its answer is lost, or the request, or it arrives within the quiet time."""
        bad = ["answer lost", "lost", "late"] if self.loss else []
        fate = self.dice.choice(["answered"] * 5 + bad)
        if fate == "answered":
            return cancel_said(payment, self.cancel(), asked)
        if fate == "answer lost":
            self.cancel()
        if fate == "late":
            self.later(self.dice.randrange(POLICY.cancel_quiet), self.cancel)
        return Silence(asked_at=asked, why="timeout", to_cancel=True)

    def answered(self, message: Answer) -> None:
        """Heard at once; or written down minutes later, by a worker that was frozen meanwhile."""
        if self.dice.random() < 0.05:
            self.later(self.dice.randrange(20_000, 290_000), lambda: self.life.hear(message))
            self.life.now += 15 * SECOND
        else:
            self.life.now += 100
            self.life.hear(message)


@pytest.mark.once
@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from(OnTimeout))
def test_what_the_merchant_is_told_is_true_of_the_money(seed: int, on_timeout: OnTimeout) -> None:
    """`succeeded`: it is there. `failed`, `cancelled`: it is not, or a refund is asked for."""
    world = World(seed, on_timeout)
    world.run()
    told = world.life.told
    match world.life.payment.status:
        case Status.SUCCEEDED:
            assert world.money or "reversed_after_success" in told
        case Status.FAILED | Status.CANCELLED:
            refunds = [kind for kind in told if kind.startswith("refund")]
            assert not world.money or refunds[-1:] == ["refund_required"]
        case status:
            assert status is Status.UNRESOLVED


def test_a_payment_takes_no_field_that_it_has_not() -> None:
    with pytest.raises(TypeError, match="a payment has no colour"):
        FRESH.having(colour="red")
