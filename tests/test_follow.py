"""From wake-up to wake-up to the one end: whatever is lost, late, doubled, frozen or killed."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable

import pytest
from redis.asyncio import Redis

from jobs.commands import carry_out
from jobs.model import Aftercare, CancelState, Ms, Payment, Status
from jobs.news import Answer, Ask, Call
from jobs.schedule import HOUR, JUST_BEFORE, MINUTE, SECOND
from jobs.step import judge, take, write
from jobs.tools import LEASE
from tests.fakes import (
    CLIENT,
    CLOSED,
    CONFIRMED,
    KEY,
    NOT_YET,
    PAID,
    REQUEST,
    Bench,
    Killed,
    Reply,
    Worker,
    after,
    cancel_says,
    cancel_silent,
    dies,
    notification,
    open_bench,
    order,
    silent,
    track,
)

SOON: Ms = 2_000


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """A bench with one payment, tracked a moment ago."""
    async with open_bench(redis_url, prefix) as bench:
        await carry_out(track(await bench.now()), bench.worker.tools)
        yield bench


@pytest.fixture
async def late(bench: Bench) -> Bench:
    """Its closing time has passed, and the last inquiry says that it is not paid."""
    payment = await bench.payment()
    await bench.pass_time(payment.closing_time - await bench.now())
    bench.worker.gateway.will(NOT_YET)
    await bench.wake()
    assert (await bench.payment()).status is Status.CANCELLING
    bench.worker.gateway.calls.clear()
    return bench


async def until_nothing_is_due(bench: Bench, reply: Reply) -> None:
    while await bench.due() is not None:
        bench.worker.gateway.will(reply)
        await bench.wake()


# The ways a payment ends


async def test_paid_and_notified(bench: Bench) -> None:
    await bench.deliver(notification())
    await bench.worker.follow()
    assert await bench.told() == ["succeeded"]
    assert bench.worker.gateway.calls == []
    assert await bench.due() is None
    assert await bench.story() == [
        "command payment.track",
        "notification paid",
        "status succeeded",
    ]


async def test_the_log_tells_a_wake_up_with_how_late_it_was_and_what_it_brought(
    bench: Bench,
) -> None:
    body = notification()
    await bench.deliver(body)
    await bench.worker.follow()
    lines = bench.worker.log.lines
    assert [event for event, _ in lines][-5:] == [
        "payment.woken",
        "notification.applied",
        "payment.changed",
        "outcome.published",
        "payment.final",
    ]
    assert 0 <= lines[-5][1]["late_ms"] < SOON
    assert lines[-4][1]["body_sha256"] == hashlib.sha256(body).hexdigest()[:16]
    assert (lines[-1][1]["notifications"], lines[-1][1]["via"]) == (1, "notification")


async def test_paid_and_the_notification_lost(bench: Bench) -> None:
    bench.worker.gateway.will(NOT_YET, NOT_YET, PAID)
    for _ in range(3):
        await bench.wake()
    assert bench.worker.gateway.calls == ["inquire"] * 3
    assert await bench.told() == ["succeeded"]
    assert (await bench.payment()).attempts == 3


async def test_never_paid(bench: Bench) -> None:
    """Asked before the closing time and at it, then cancelled, then watched for a day."""
    asked = []
    while (payment := await bench.payment()).status is Status.PENDING:
        asked.append((payment.asked_at or 0) - payment.closing_time)
        bench.worker.gateway.will(NOT_YET)
        await bench.wake()
    assert -JUST_BEFORE <= asked[-1] <= -JUST_BEFORE + SOON
    assert payment.asked_at is not None
    assert 0 <= payment.asked_at - payment.closing_time <= SOON
    bench.worker.gateway.will(CONFIRMED)
    await bench.wake()
    assert await bench.told() == ["cancelling.1", "cancelled"]
    payment = await bench.payment()
    assert (payment.cancel_state, payment.cancel_attempts) == (CancelState.CONFIRMED, 1)
    await until_nothing_is_due(bench, CLOSED)
    assert bench.worker.gateway.calls[-5:] == ["cancel"] + ["inquire"] * 4
    assert await bench.told() == ["cancelling.1", "cancelled"]
    assert (await bench.payment()).aftercare is Aftercare.NONE


async def test_a_cancel_without_an_answer_is_repeated_until_there_is_one(late: Bench) -> None:
    late.worker.gateway.will(cancel_silent, cancel_silent, cancel_silent, CONFIRMED)
    for _ in range(4):
        await late.wake()
    assert late.worker.gateway.calls == ["cancel"] * 4
    assert await late.told() == ["cancelling.1", "cancelled"]


async def test_a_refused_cancel_leaves_the_last_word_to_an_inquiry(late: Bench) -> None:
    late.worker.gateway.will(cancel_says(Call.REFUSED, "ORDER_IS_CLOSED"), PAID)
    await late.wake()
    await late.wake()
    assert late.worker.gateway.calls == ["cancel", "inquire"]
    assert await late.told() == ["cancelling.1", "succeeded"]


async def test_money_taken_after_all_is_sent_back(late: Bench) -> None:
    late.worker.gateway.will(CONFIRMED, PAID, CONFIRMED)
    for _ in range(3):
        await late.wake()
    assert late.worker.gateway.calls == ["cancel", "inquire", "cancel"]
    assert await late.told() == [
        "cancelling.1",
        "cancelled",
        "attention.paid_after_cancel.1",
        "attention.refund_confirmed.1",
    ]


async def test_every_event_has_a_higher_seq_than_the_one_before(late: Bench) -> None:
    late.worker.gateway.will(CONFIRMED, PAID, CONFIRMED)
    for _ in range(3):
        await late.wake()
    seqs = [event["data"]["seq"] for event in await late.outcomes()]
    assert len(seqs) == 4
    assert seqs == sorted(set(seqs))
    assert (await late.payment()).seq == seqs[-1]


# Wake-ups


async def test_what_is_not_due_is_left_alone(bench: Bench) -> None:
    before = await bench.payment()
    await bench.worker.follow()
    assert bench.worker.gateway.calls == []
    assert await bench.payment() == before


async def test_what_is_not_tracked_is_nothing_to_do(bench: Bench) -> None:
    await bench.redis.delete(bench.keys.payment(KEY))
    await bench.redis.zadd(bench.keys.open, {KEY: 1})
    await bench.worker.follow()
    assert bench.worker.gateway.calls == []


async def test_a_wake_up_too_many_asks_nothing_twice(bench: Bench) -> None:
    bench.worker.gateway.will(NOT_YET)
    await bench.wake()
    await bench.worker.follow()
    await bench.worker.follow()
    assert bench.worker.gateway.calls == ["inquire"]


async def test_an_account_that_is_not_known_here_is_left_to_who_knows_it(bench: Bench) -> None:
    stranger = await bench.another()
    stranger.client_id = "5X_ANOTHER"
    await bench.deliver(notification())
    await stranger.follow()
    [woken, unknown] = stranger.log.lines
    assert woken[0] == "payment.woken"
    assert unknown == ("account.unknown", {"client_id": CLIENT, "payment_request_id": REQUEST})
    assert len(await bench.inbox()) == 1
    assert (await bench.payment()).status is Status.PENDING
    assert await bench.due() == pytest.approx(await bench.now() + LEASE, abs=SOON)
    await bench.wake()
    assert await bench.told() == ["succeeded"]


# Mail


async def test_mail_is_heard_in_the_order_in_which_it_came(bench: Bench) -> None:
    await bench.deliver(notification("U"))
    await bench.deliver(notification(paymentAmount={"currency": "EUR", "value": "1"}))
    await bench.deliver(notification())
    await bench.worker.follow()
    assert [line for line in await bench.story() if line.startswith("notification")] == [
        "notification hint",
        "notification amount_mismatch",
        "notification paid",
    ]
    assert await bench.inbox() == []


async def test_mail_that_nobody_understands_makes_us_ask(bench: Bench) -> None:
    await bench.deliver(notification(result="ok"))
    bench.worker.gateway.will(NOT_YET)
    await bench.worker.follow()
    assert bench.worker.gateway.calls == ["inquire"]


async def test_mail_that_comes_during_an_inquiry_is_heard_next(bench: Bench) -> None:
    bench.worker.gateway.will(after(lambda: bench.deliver(notification()), NOT_YET))
    await bench.wake()
    assert await bench.due() == pytest.approx(await bench.now(), abs=SOON)
    await bench.worker.follow()
    assert bench.worker.gateway.calls == ["inquire"]
    assert await bench.told() == ["succeeded"]


async def test_the_loser_of_a_race_never_drops_mail_that_it_did_not_hear(bench: Bench) -> None:
    """Another worker hears the first message, and a second comes, before the loser writes."""
    other = await bench.another()

    async def overtake() -> None:
        loaded = await other.load()
        assert await write(other.tools, judge(other.tools, loaded, loaded.inbox[0]), heard=1)
        await bench.deliver(notification())

    await bench.deliver(notification("U"))
    bench.worker.store.before_save = overtake
    await bench.worker.follow()
    assert [line for line in await bench.story() if line.startswith("notification")] == [
        "notification hint",
        "notification paid",
    ]
    assert await bench.told() == ["succeeded"]


async def test_mail_of_what_is_erased_meanwhile_is_kept(bench: Bench) -> None:
    bench.worker.gateway.will(PAID)
    await bench.wake()
    other = await bench.another()

    async def forget() -> None:
        erase = judge(other.tools, await other.load(), order(Ask.FORGET, 0))
        assert await write(other.tools, erase)

    await bench.deliver(notification("F"))
    bench.worker.store.before_save = forget
    await bench.worker.follow()
    assert await bench.worker.store.load(KEY) is None
    assert await bench.redis.zcard(bench.keys.parked) == len(await bench.inbox()) == 1


# A success between the last inquiry and the cancel


async def test_a_success_heard_before_the_cancel_is_looked_into_first(late: Bench) -> None:
    await late.deliver(notification())
    late.worker.gateway.will(PAID)
    await late.worker.follow()
    assert late.worker.gateway.calls == ["inquire"]
    assert await late.told() == ["cancelling.1", "succeeded"]


async def test_a_success_that_comes_as_the_right_to_cancel_is_taken_stops_the_cancel(
    late: Bench,
) -> None:
    """It lies in the inbox, heard by nobody: only the store can know."""
    late.worker.store.before_save = lambda: late.deliver(notification())
    await late.wake()
    assert late.worker.gateway.calls == []
    assert (await late.payment()).cancel_state is CancelState.NONE
    late.worker.gateway.will(PAID)
    await late.worker.follow()
    assert late.worker.gateway.calls == ["inquire"]
    assert await late.told() == ["cancelling.1", "succeeded"]


async def test_a_success_that_comes_when_the_right_is_taken_does_not_end_it(late: Bench) -> None:
    """The cancel may refund it: once it is sent, only later inquiries tell."""
    late.worker.store.after_save = lambda: late.deliver(notification())
    late.worker.gateway.will(CONFIRMED, CLOSED)
    await late.wake()
    await late.wake()
    assert late.worker.gateway.calls == ["cancel", "inquire"]
    assert await late.told() == ["cancelling.1", "cancelled"]


async def test_whoever_lost_the_payment_does_not_cancel_it(late: Bench) -> None:
    other = await late.another()

    async def overtake() -> None:
        recheck = order(Ask.RECHECK, await late.now())
        assert await take(other.tools, await other.load(), recheck)

    late.worker.store.before_save = overtake
    await late.wake()
    assert late.worker.gateway.calls == []
    assert (await late.payment()).cancel_attempts == 0


# Killed


async def test_a_cancel_that_never_left_is_sent_by_the_next_wake_up(late: Bench) -> None:
    late.worker.gateway.will(dies)
    with pytest.raises(Killed):
        await late.wake()
    payment = await late.payment()
    assert (payment.cancel_state, payment.cancel_attempts) == (CancelState.OPEN, 1)
    assert await late.due() == pytest.approx(await late.now() + LEASE, abs=SOON)
    heir = await late.another()
    heir.gateway.will(CONFIRMED)
    await late.wake(heir)
    assert heir.gateway.calls == ["cancel"]
    assert await late.told() == ["cancelling.1", "cancelled"]


async def test_an_inquiry_whose_worker_died_is_asked_again_after_the_lease(bench: Bench) -> None:
    bench.worker.gateway.will(dies)
    with pytest.raises(Killed):
        await bench.wake()
    assert await bench.due() == pytest.approx(await bench.now() + LEASE, abs=SOON)
    bench.worker.gateway.will(PAID)
    await bench.wake()
    assert await bench.told() == ["succeeded"]


def as_it_is(worker: Worker) -> Reply:
    """A gateway where nobody pays: what it says depends on whether the cancel came."""

    def reply(payment: Payment, asked_at: Ms) -> Answer | Awaitable[Answer]:
        if worker.gateway.calls[-1] == "cancel":
            return CONFIRMED(payment, asked_at)
        return (CLOSED if "cancel" in worker.gateway.calls else NOT_YET)(payment, asked_at)

    return reply


class Mortal:
    """Kills a worker at the n-th line that leaves a trace: around each write, after each call."""

    def __init__(self, worker: Worker, steps: int) -> None:
        self.worker, self.left = worker, steps
        worker.store.before_save = worker.store.after_save = self.step
        worker.gateway.script = [after(self.step, as_it_is(worker))] * 20

    async def step(self) -> None:
        store = self.worker.store
        store.before_save = store.after_save = self.step
        self.left -= 1
        if self.left == 0:
            raise Killed


LAST_STEPS = 19  #: of a payment that hears one hint, is asked about four times and cancelled


async def follow_to_the_end(bench: Bench, worker: Worker) -> None:
    while (await bench.payment()).final_at is None:
        await bench.wake(worker)


@pytest.fixture
async def closing(bench: Bench) -> Bench:
    """Its closing time is near, and a hint lies in its inbox."""
    payment = await bench.payment()
    await bench.pass_time(payment.closing_time - await bench.now() - 4 * SECOND)
    await bench.deliver(notification("U"))
    return bench


@pytest.mark.parametrize("last_step", range(1, LAST_STEPS + 1))
async def test_wherever_a_worker_dies_the_payment_ends_the_same(
    closing: Bench, last_step: int
) -> None:
    mortal, heir = Mortal(closing.worker, last_step), await closing.another()
    with pytest.raises(Killed):
        await follow_to_the_end(closing, mortal.worker)
    heir.gateway = mortal.worker.gateway
    heir.gateway.script = [as_it_is(heir)] * 20
    await follow_to_the_end(closing, heir)
    assert await closing.told() == ["cancelling.1", "cancelled"]
    assert (await closing.payment()).cancel_state is CancelState.CONFIRMED
    assert await closing.inbox() == []
    assert [line for line in await closing.story() if line.startswith("status")] == [
        "status cancelling",
        "status cancelled",
    ]


async def test_these_are_all_the_places_to_die(closing: Bench) -> None:
    mortal = Mortal(closing.worker, LAST_STEPS + 1)
    await follow_to_the_end(closing, mortal.worker)
    assert mortal.left == 1


# Two at once


@pytest.mark.parametrize("slow_says", [NOT_YET, PAID, silent])
async def test_two_workers_at_one_payment_tell_one_outcome(bench: Bench, slow_says: Reply) -> None:
    """The first one's lease runs out while the gateway takes its time."""
    fast = await bench.another()
    fast.gateway.will(PAID)
    bench.worker.gateway.will(after(lambda: bench.wake(fast), slow_says))
    await bench.wake()
    assert await bench.told() == ["succeeded"]
    assert (await bench.payment()).status is Status.SUCCEEDED
    assert (await bench.story()).count("status succeeded") == 1


async def test_a_slow_answer_from_before_the_cancel_proves_nothing(bench: Bench) -> None:
    """PAID was true when it was asked; meanwhile another worker has sent the cancel."""
    payment = await bench.payment()
    await bench.pass_time(payment.closing_time - await bench.now())
    fast = await bench.another()
    fast.gateway.will(NOT_YET, cancel_silent, CLOSED)

    async def cancel_meanwhile() -> None:
        await bench.wake(fast)
        await bench.wake(fast)

    bench.worker.gateway.will(after(cancel_meanwhile, PAID))
    await bench.wake()
    assert await bench.told() == ["cancelling.1"]
    assert "inquiry no_answer" in await bench.story()


async def test_many_workers_woken_again_and_again_tell_one_outcome(bench: Bench) -> None:
    workers = [bench.worker] + [await bench.another() for _ in range(3)]
    for worker in workers:
        worker.gateway.script = [after(lambda: asyncio.sleep(0.001), PAID)] * 50

    async def wake_anyway(worker: Worker) -> None:
        for number in range(5):
            await bench.redis.zadd(bench.keys.open, {KEY: 1})
            await bench.deliver(notification(number=number, worker=id(worker)))
            await worker.follow()

    await bench.pass_time(MINUTE)
    await asyncio.gather(*(wake_anyway(worker) for worker in workers))
    await bench.worker.follow()
    assert await bench.told() == ["succeeded"]
    assert (await bench.story()).count("status succeeded") == 1
    assert await bench.inbox() == []


# Frozen


@pytest.mark.parametrize(
    ("frozen_for", "calls"),
    [(0, ["cancel"]), (LEASE - 1_000, ["cancel"]), (LEASE, []), (HOUR, [])],
)
async def test_a_worker_that_was_frozen_for_a_lease_does_not_send_its_cancel(
    late: Bench, frozen_for: Ms, calls: list[str]
) -> None:
    """It wrote that it would; who holds the payment now repeats it, or knows better."""

    async def freeze() -> None:
        late.worker.store.frozen_for = frozen_for

    late.worker.store.after_save = freeze
    late.worker.gateway.will(cancel_silent)
    await late.wake()
    assert late.worker.gateway.calls == calls
    heir = await late.another()
    heir.gateway.will(CONFIRMED)
    await late.wake(heir)
    assert await late.told() == ["cancelling.1", "cancelled"]


async def test_a_worker_frozen_before_it_took_the_right_gets_it_no_more(late: Bench) -> None:
    """Meanwhile its lease ran out, and another worker asked once more: the money came."""
    heir = await late.another()

    async def freeze() -> None:
        await late.deliver(notification())
        heir.gateway.will(PAID)
        await late.wake(heir)

    late.worker.store.before_save = freeze
    await late.wake()
    assert late.worker.gateway.calls == []
    assert await late.told() == ["cancelling.1", "succeeded"]
