"""A payment that we submit: one request whatever is lost, killed or frozen, and then one end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from jobs import payment as lives
from jobs.commands import carry_out
from jobs.model import Act, Decision, Money, Ms, OnTimeout, Status, SubmitState
from jobs.news import Ask, Call
from jobs.schedule import MINUTE, SECOND, Policy
from jobs.tools import LEASE
from tests.cells import CASHIER, FRESH, POLICY, T0, Life, pay_said
from tests.fakes import (
    CONFIRMED,
    CREATED,
    KEY,
    NOT_YET,
    PAID,
    REFUSED,
    Bench,
    Killed,
    after,
    cancel_says,
    dies,
    notification,
    open_bench,
    order,
    pay_says,
    pay_silent,
    says_not_exist,
    silent,
    submit,
    track,
)


@pytest.fixture
async def empty(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


@pytest.fixture
async def bench(empty: Bench) -> Bench:
    """A bench with one payment, submitted a moment ago; its pay is about to leave."""
    assert await carry_out(submit(await empty.now()), empty.worker.tools)
    return empty


async def again(bench: Bench, **changes: object) -> None:
    command = submit(await bench.now(), id="2-0", **changes)
    assert await carry_out(command, bench.worker.tools)


async def rejections(bench: Bench) -> list[tuple[str, str, str]]:
    told = [e["data"] for e in await bench.outcomes() if e["type"] == "command.rejected"]
    return [(e["command"], e["reason"], e["message"]) for e in told]


# The order is made


async def test_the_order_is_made_and_the_merchant_hears_where_the_buyer_pays(bench: Bench) -> None:
    bench.worker.gateway.will(CREATED, PAID)
    await bench.wake()
    [event] = await bench.outcomes()
    assert event["type"] == "payment.submitted"
    assert event["id"] == f"{KEY}:submitted"
    data = event["data"]
    assert (data["status"], data["via"], data["finalAt"]) == ("pending", "pay", "")
    assert (data["redirectUrl"], data["redirectMethod"]) == ("https://cashier.example/1", "GET")
    await bench.wake()
    assert await bench.told() == ["submitted", "succeeded"]
    assert bench.worker.gateway.calls == ["pay", "inquire"]
    assert await bench.story() == [
        "command payment.submit",
        "pay sent",
        "pay order_created",
        "inquiry paid",
        "status succeeded",
    ]


async def test_each_call_has_its_line_in_the_log(bench: Bench) -> None:
    bench.worker.gateway.will(pay_silent, NOT_YET, CREATED)
    for _ in range(3):
        await bench.wake()
    log = bench.worker.log
    assert [line["attempt"] for line in log.named("pay.sent")] == [1, 2]
    [unanswered] = log.named("pay.unanswered")
    assert (unanswered["endpoint"], unanswered["why"]) == ("pay", "timeout")
    [completed] = log.named("pay.completed")
    assert (completed["endpoint"], completed["heard"]) == ("pay", "order_created")
    assert log.named("command.accepted")[0]["command"] == "payment.submit"


async def test_an_order_that_is_made_is_no_success(bench: Bench) -> None:
    """Nobody pays it, so it is cancelled when its time is up."""
    bench.worker.gateway.will(CREATED, NOT_YET, CONFIRMED)
    await bench.wake()
    closing_time = (await bench.payment()).closing_time
    await bench.pass_time(closing_time - await bench.now())
    await bench.wake()
    await bench.wake()
    assert bench.worker.gateway.calls == ["pay", "inquire", "cancel"]
    assert await bench.told() == ["submitted", "cancelling.1", "cancelled"]


async def test_the_closing_time_is_ours_to_say_and_the_gateways_clock_does_not_move_it(
    bench: Bench,
) -> None:
    """It was sent along; a contract's would run from the creation at the gateway."""
    before = (await bench.payment()).closing_time
    made_later = await bench.now() + MINUTE
    bench.worker.gateway.will(pay_says(Call.OK, created_at=made_later))
    await bench.wake()
    payment = await bench.payment()
    assert (payment.created_at is not None, payment.closing_time <= before) == (True, True)


# The same request, always


async def test_a_pay_without_an_answer_is_the_same_request_again_with_inquiries_between(
    bench: Bench,
) -> None:
    bench.worker.gateway.will(pay_silent, says_not_exist, pay_silent, silent, pay_silent, NOT_YET)
    bench.worker.gateway.will(CREATED)
    for _ in range(7):
        await bench.wake()
    assert bench.worker.gateway.calls == [*["pay", "inquire"] * 3, "pay"]
    assert len(set(bench.worker.gateway.paid_with)) == 1
    assert await bench.told() == ["submitted"]


async def test_killed_while_it_pays_a_worker_leaves_the_same_request_to_the_next(
    bench: Bench,
) -> None:
    bench.worker.gateway.will(dies)
    with pytest.raises(Killed):
        await bench.wake()
    payment = await bench.payment()
    assert (payment.submit_state, payment.pay_attempts) == (SubmitState.OPEN, 1)
    assert payment.pay_request == bench.worker.gateway.paid_with[0]
    other = await bench.another()
    other.gateway.will(says_not_exist, CREATED)
    await bench.wake(other)
    await bench.wake(other)
    assert other.gateway.paid_with == bench.worker.gateway.paid_with
    assert await bench.told() == ["submitted"]


async def test_the_right_to_pay_is_written_down_before_the_request_leaves(bench: Bench) -> None:
    async def look() -> None:
        payment = await bench.payment()
        assert (payment.submit_state, payment.pay_attempts) == (SubmitState.OPEN, 1)
        assert payment.last_pay_at is not None

    bench.worker.gateway.will(after(look, CREATED))
    await bench.wake()
    assert await bench.told() == ["submitted"]


async def test_a_worker_that_loses_the_right_sends_nothing(bench: Bench) -> None:
    other = await bench.another()
    other.gateway.will(CREATED)

    async def the_other_is_first() -> None:
        await bench.redis.zadd(bench.keys.open, {KEY: 1})
        await other.follow()

    bench.worker.store.before_save = the_other_is_first
    await bench.wake()
    assert (bench.worker.gateway.calls, other.gateway.calls) == ([], ["pay"])


async def test_a_worker_that_was_frozen_over_its_lease_sends_nothing(bench: Bench) -> None:
    async def freeze() -> None:
        bench.worker.store.frozen_for = LEASE

    bench.worker.store.after_save = freeze
    await bench.wake()
    assert bench.worker.gateway.calls == []
    assert (await bench.payment()).submit_state is SubmitState.OPEN


async def test_a_success_that_arrives_before_the_pay_is_sent_again_stops_it(bench: Bench) -> None:
    bench.worker.gateway.will(pay_silent)
    await bench.wake()
    await bench.deliver(notification())
    await bench.worker.follow()
    assert await bench.told() == ["succeeded"]
    assert bench.worker.gateway.calls == ["pay"]


async def test_an_order_is_kept_no_longer_than_it_is_needed(bench: Bench) -> None:
    assert (await bench.payment()).pay_request
    bench.worker.gateway.will(CREATED, PAID)
    await bench.wake()
    payment = await bench.payment()
    assert (payment.pay_request, payment.redirect_url) == ("", "https://cashier.example/1")
    await bench.wake()
    assert (await bench.payment()).redirect_url == ""


# Refused


async def test_a_pay_that_is_refused_and_made_no_order_is_cancelled_once_and_failed(
    bench: Bench,
) -> None:
    not_there = cancel_says(Call.NOT_EXIST, "ORDER_NOT_EXIST")
    bench.worker.gateway.will(REFUSED, says_not_exist, not_there, says_not_exist)
    for _ in range(4):
        await bench.wake()
    assert bench.worker.gateway.calls == ["pay", "inquire", "cancel", "inquire"]
    assert await bench.told() == ["cancelling.1", "failed"]
    data = (await bench.outcomes())[-1]["data"]
    assert (data["via"], data["cause"], data["resultCode"]) == ("pay", "failed", "RISK_REJECT")


async def test_a_pay_refused_after_one_without_an_answer_waits_until_that_has_arrived(
    bench: Bench,
) -> None:
    """It may still be on its way, and make the order after we have said that it failed."""
    bench.worker.gateway.will(pay_silent, says_not_exist, REFUSED, says_not_exist)
    for _ in range(4):
        await bench.wake()
    payment = await bench.payment()
    assert payment.status is Status.PENDING
    assert await bench.due() == (payment.silent_pay_at or 0) + POLICY.cancel_quiet
    bench.worker.gateway.will(says_not_exist)
    await bench.wake()
    assert await bench.told() == ["cancelling.1"]


async def test_an_order_made_by_an_earlier_try_is_followed_though_a_later_one_is_refused(
    bench: Bench,
) -> None:
    bench.worker.gateway.will(pay_silent, says_not_exist, REFUSED, NOT_YET, PAID)
    for _ in range(5):
        await bench.wake()
    assert bench.worker.gateway.calls == ["pay", "inquire", "pay", "inquire", "inquire"]
    assert await bench.told() == ["succeeded"]


# The command again, and commands that do not fit


async def test_the_same_again_before_the_answer_changes_nothing(bench: Bench) -> None:
    before = await bench.payment()
    await again(bench)
    after_ = await bench.payment()
    assert replace(after_, version=before.version) == before
    assert await bench.told() == []


async def test_the_same_again_tells_once_more_where_the_buyer_pays(bench: Bench) -> None:
    bench.worker.gateway.will(CREATED)
    await bench.wake()
    await again(bench, closing_time=await bench.now() + MINUTE)
    first, second = await bench.outcomes()
    assert first["id"] == second["id"]
    assert first["data"]["seq"] < second["data"]["seq"]
    assert second["data"]["redirectUrl"] == "https://cashier.example/1"
    assert bench.worker.gateway.calls == ["pay"]


async def test_another_order_or_amount_under_the_same_id_is_rejected(bench: Bench) -> None:
    await again(bench, digest="d2")
    await again(bench, amount=Money("USD", 600))
    reasons = [(command, reason) for command, reason, _ in await rejections(bench)]
    assert reasons == [("payment.submit", "conflict")] * 2
    assert (await bench.payment()).amount == Money("USD", 599)


async def test_what_is_only_tracked_is_not_submitted_under_the_same_id(empty: Bench) -> None:
    """Its order may exist already: the merchant has made it, or somebody else."""
    assert await carry_out(track(await empty.now()), empty.worker.tools)
    await again(empty)
    [(command, reason, message)] = await rejections(empty)
    assert (command, reason) == ("payment.submit", "conflict")
    assert "under a new id" in message
    empty.worker.gateway.will(NOT_YET)
    await empty.wake()
    assert empty.worker.gateway.calls == ["inquire"]


async def test_without_an_address_to_notify_nothing_is_submitted(empty: Bench) -> None:
    empty.worker.gateway.notify_url = ""
    await again(empty)
    assert await rejections(empty) == [
        (
            "payment.submit",
            "malformed",
            "paymentNotifyUrl: give one, or set ALIPAY_NOTIFY_URL",
        )
    ]
    assert not await empty.redis.exists(empty.keys.payment(KEY))


async def test_where_nothing_is_cancelled_nothing_is_submitted(empty: Bench) -> None:
    empty.worker.policy = Policy(report=True)
    await again(empty)
    [(_, reason, message)] = await rejections(empty)
    assert reason == "report_mode"
    assert message == ("report mode sends no cancels, so it makes no order that may need one")


async def test_one_payment_may_be_submitted_that_is_only_reported(empty: Bench) -> None:
    await again(empty, on_timeout=OnTimeout.REPORT)
    empty.worker.gateway.will(CREATED)
    await empty.wake()
    assert await empty.told() == ["submitted"]


async def test_report_mode_switched_on_meanwhile_keeps_the_pay_from_leaving(bench: Bench) -> None:
    bench.worker.policy = Policy(report=True)
    bench.worker.gateway.will(says_not_exist, says_not_exist)
    await bench.wake()
    await bench.wake()
    assert bench.worker.gateway.calls == ["inquire", "inquire"]
    bench.worker.policy = Policy()
    bench.worker.gateway.will(says_not_exist, CREATED)
    await bench.wake()
    await bench.wake()
    assert bench.worker.gateway.calls[-1] == "pay", "switched off again, it goes on"


async def test_no_order_is_made_after_its_closing_time_but_one_that_is_there_is_found(
    empty: Bench,
) -> None:
    """So a merchant's list can be submitted again after all of Redis was lost."""
    await again(empty, closing_time=await empty.now() - SECOND)
    empty.worker.gateway.will(PAID)
    await empty.wake()
    assert empty.worker.gateway.calls == ["inquire"]
    assert await empty.told() == ["succeeded"]


async def test_two_workers_with_the_same_command_make_one_payment(empty: Bench) -> None:
    other, at = await empty.another(), await empty.now()
    await asyncio.gather(
        carry_out(submit(at), empty.worker.tools), carry_out(submit(at), other.tools)
    )
    empty.worker.gateway.will(CREATED)
    await empty.wake()
    assert await empty.told() == ["submitted"]


async def test_a_cancel_that_is_ordered_keeps_the_pay_from_leaving(bench: Bench) -> None:
    assert await carry_out(order(Ask.CANCEL, await bench.now()), bench.worker.tools)
    bench.worker.gateway.will(CONFIRMED)
    await bench.wake()
    assert bench.worker.gateway.calls == ["cancel"]
    assert await bench.told() == ["cancelling.1", "cancelled"]
    assert (await bench.payment()).pay_request == ""


def test_what_is_submitted_is_to_be_paid_first_and_its_closing_time_is_ours() -> None:
    command = submit(T0)
    decision = lives.submit(command, T0, POLICY, "{}")
    assert isinstance(decision, Decision)
    payment = decision.payment
    assert (payment.pay_request, payment.pay_digest) == ("{}", command.digest)
    assert payment.closing_agreed is False


# Longer stories, on a clock wound by hand

SUBMITTED = replace(FRESH, pay_request="{}", pay_digest="d", next_act=Act.PAY, next_at=T0)


def test_pays_stretch_out_and_stop_before_the_closing_time() -> None:
    life = Life(SUBMITTED)
    pays: list[Ms] = []
    while life.payment.status is Status.PENDING:
        if life.wake() is Act.PAY:
            pays.append(life.now)
            life.silence(to_pay=True)
        else:
            life.inquiry("NOT_EXIST")
    assert len(pays) > 20
    assert max(pays) < FRESH.closing_time <= life.now
    gaps = [b - a for a, b in zip(pays, pays[1:], strict=False)]
    assert max(gaps[:5]) < 10 * SECOND < max(gaps) < 2 * MINUTE
    assert life.told == ["cancelling"]


def test_an_answer_that_comes_after_the_end_makes_us_look_whether_money_was_taken() -> None:
    life = Life(SUBMITTED)
    life.wake()
    asked = life.payment
    life.hear(pay_said(life.payment, Call.REFUSED, life.now))
    life.inquiry("NOT_EXIST")
    given_up, life.now = life.payment, life.now + 1
    life.hear(pay_said(asked, Call.REFUSED, life.now))
    assert life.payment == given_up, "nothing is new, not even its time"
    life.wake()
    life.cancel_answer(Call.NOT_EXIST)
    life.inquiry("NOT_EXIST")
    assert life.told == ["cancelling", "failed"]
    life.now += 40 * SECOND
    life.hear(pay_said(asked, Call.OK, life.now))
    assert life.payment.next_at == life.now
    life.inquiry("SUCCESS")
    assert life.told[2:] == ["paid_after_failure"]


def test_who_refuses_us_is_told_to_an_operator() -> None:
    life = Life(SUBMITTED)
    life.wake()
    life.hear(pay_said(life.payment, Call.MISCONFIGURED, life.now, code="ACCESS_DENIED"))
    assert life.alarms == ["the gateway refuses our pay: ACCESS_DENIED"]
    assert life.payment.submit_state is SubmitState.REFUSED


def test_of_two_pays_the_refusal_of_the_first_leaves_the_second_open() -> None:
    """Two workers: the later request may still make the order, so nothing is over before it."""
    life = Life(SUBMITTED)
    life.wake()
    first = life.now
    life.inquiry("NOT_EXIST")
    life.wake()
    life.hear(pay_said(life.payment, Call.REFUSED, life.now, asked_at=first))
    assert life.payment.silent_pay_at == life.payment.last_pay_at
    life.inquiry("NOT_EXIST")
    assert life.payment.status is Status.PENDING
    life.now = life.payment.next_at or 0
    assert life.now == (life.payment.last_pay_at or 0) + POLICY.cancel_quiet
    life.inquiry("NOT_EXIST")
    assert life.told == ["cancelling"]


def test_the_cashiers_address_is_never_taken_from_another_payments_answer() -> None:
    life = Life(SUBMITTED)
    life.wake()
    life.hear(pay_said(life.payment, Call.OK, life.now, payment_request_id="pay_2"))
    assert (life.told, life.payment.redirect_url) == ([], "")
    life.hear(pay_said(life.payment, Call.OK, life.now))
    assert (life.told, life.payment.redirect_url) == (["submitted"], CASHIER)
