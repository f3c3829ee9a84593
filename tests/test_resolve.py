"""An operator's word ends what needs a person, unless the gateway knows better."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import FINAL, Act, Aftercare, CancelState, Decision, Money, Payment, Status
from jobs.news import Call, GatewayStatus, Hint, InquiryAnswer, Known, Resolve, Return, Silence
from jobs.payment import track as tracked
from jobs.resolve import Resolution, Verdict, contradicts, resolve
from jobs.schedule import Policy
from tests.fakes import (
    CLOSED,
    KEY,
    NOT_YET,
    PAID,
    USD,
    Bench,
    Killed,
    Reply,
    after,
    dies,
    open_bench,
    says,
    silent,
    track,
)

WORD = Resolve(id="resolve-1", status=Status.SUCCEEDED, who="ann", why="seen in the bank")
GATEWAY = GatewayStatus
FAIL = says(GATEWAY.FAIL)
CONFIRMING = says(GATEWAY.PENDING)


def other_amount(payment: Payment, asked_at: int) -> InquiryAnswer:
    return replace(_answer(PAID, payment, asked_at), amount=Money("USD", 600))


def refunded(payment: Payment, asked_at: int) -> InquiryAnswer:
    return replace(_answer(PAID, payment, asked_at), returns=(Return("REFUND", USD),))


def not_exist(payment: Payment, asked_at: int) -> InquiryAnswer:
    answer = _answer(NOT_YET, payment, asked_at)
    return replace(answer, call=Call.NOT_EXIST, code="ORDER_NOT_EXIST")


def _answer(reply: Reply, payment: Payment, asked_at: int) -> InquiryAnswer:
    answer = reply(payment, asked_at)
    assert isinstance(answer, InquiryAnswer)
    return answer


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


async def put(bench: Bench, **changed: Any) -> None:
    """A payment that stands so."""
    now = await bench.now()
    decision = tracked(track(now - 3_600_000), now - 3_600_000, Policy())
    then: dict[str, Any] = {"phase_since": now, "next_act": Act.INQUIRE, "next_at": now + 600_000}
    await bench.worker.store.wake_overdue()  # so that the store knows Redis' time
    payment = replace(decision.payment, **(then | changed))
    assert await bench.worker.store.create(Decision(payment=payment), [])


async def unresolved(bench: Bench, reason: str = "no_answer", **changed: Any) -> None:
    await put(bench, status=Status.UNRESOLVED, reason=reason, told=("unresolved",), **changed)


async def refund_required(bench: Bench) -> None:
    await put(
        bench,
        status=Status.CANCELLED,
        final_at=1,
        aftercare=Aftercare.REFUND_REQUIRED,
        cancel_state=CancelState.REFUSED,
        cancel_attempts=3,
        told=("attention.refund_required=3",),
    )


async def say(
    bench: Bench, word: Status | None, *replies: Reply, force: bool = False
) -> Resolution:
    bench.worker.gateway.will(*replies)
    return await resolve(KEY, replace(WORD, status=word), bench.worker.tools, force=force)


# What the operator says stands


@pytest.mark.parametrize(
    ("word", "reply"),
    [
        (Status.SUCCEEDED, other_amount),  # which amount counts is what nobody else can say
        (Status.FAILED, NOT_YET),
        (Status.FAILED, not_exist),
        (Status.CANCELLED, NOT_YET),
        (Status.CANCELLED, not_exist),
    ],
)
async def test_a_word_that_the_gateway_does_not_contradict_ends_the_payment(
    bench: Bench, word: Status, reply: Reply
) -> None:
    await unresolved(bench)
    resolution = await say(bench, word, reply)
    payment = await bench.payment()
    assert resolution.verdict is Verdict.DONE
    assert (payment.status, payment.via, payment.marks) == (word, "operator", ("resolved",))
    assert (await bench.told())[-1] == word.value


async def test_who_and_why_and_what_the_gateway_said_stand_wherever_one_may_look(
    bench: Bench,
) -> None:
    await unresolved(bench)
    await say(bench, Status.CANCELLED, NOT_YET)
    lines = [(line["source"], line["what"], line["detail"]) for line in await bench.timeline()]
    assert lines == [
        ("inquiry", "not_yet", "SUCCESS"),
        ("command", "payment.resolve", "ann: seen in the bank (gateway: not_yet SUCCESS)"),
        ("status", "cancelled", "resolved"),
    ]
    [event] = [e["data"] for e in await bench.outcomes() if e["type"] == "payment.cancelled"]
    assert (event["via"], event["reason"]) == ("operator", "ann: seen in the bank")
    assert (await bench.payment()).reason == "ann: seen in the bank"
    [line] = bench.worker.log.named("payment.resolved")
    assert line == {
        "client_id": bench.worker.client_id,
        "payment_request_id": "order-1",
        "status": "cancelled",
        "who": "ann",
        "statement": "seen in the bank",
        "heard": "not_yet SUCCESS",
        "forced": False,
    }


async def test_a_payment_closed_by_a_person_is_watched_like_any_other(bench: Bench) -> None:
    await unresolved(bench)
    await say(bench, Status.CANCELLED, NOT_YET)
    assert (await bench.payment()).aftercare is Aftercare.WATCHING
    assert await bench.redis.zcard(bench.keys.queue) == 1


async def test_a_refund_that_was_required_is_confirmed_and_the_status_stays(bench: Bench) -> None:
    await refund_required(bench)
    resolution = await say(bench, None, NOT_YET)
    payment = await bench.payment()
    assert resolution.verdict is Verdict.DONE
    assert (payment.status, payment.aftercare) == (Status.CANCELLED, Aftercare.NONE)
    assert (await bench.told())[-1] == "attention.refund_confirmed.1"
    assert await bench.due() is None


# The gateway knows better


@pytest.mark.parametrize(
    ("reply", "ends"),
    [
        (PAID, Status.SUCCEEDED),
        (CLOSED, Status.CANCELLED),
        (FAIL, Status.FAILED),
        (refunded, Status.CANCELLED),
    ],
)
@pytest.mark.parametrize("word", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
@pytest.mark.parametrize("force", [False, True])
async def test_a_final_word_of_the_gateway_stands_whatever_the_operator_says(
    bench: Bench, reply: Reply, ends: Status, word: Status, force: bool
) -> None:
    await unresolved(bench)
    resolution = await say(bench, word, reply, force=force)
    payment = await bench.payment()
    assert (resolution.verdict, payment.status) == (Verdict.ENDED, ends)
    assert (payment.via, payment.reason) == ("inquiry", "")
    assert bench.worker.log.named("payment.resolved") == []


async def test_a_refund_that_the_gateway_has_seen_needs_no_word(bench: Bench) -> None:
    await refund_required(bench)
    resolution = await say(bench, None, refunded)
    assert resolution.verdict is Verdict.ENDED
    assert (await bench.payment()).aftercare is Aftercare.WATCHING


CONTRADICTIONS: list[tuple[Callable[..., Any], Status | None, Reply]] = [
    (unresolved, Status.SUCCEEDED, NOT_YET),
    (unresolved, Status.SUCCEEDED, not_exist),
    (unresolved, Status.SUCCEEDED, CONFIRMING),
    (unresolved, Status.FAILED, CONFIRMING),
    (unresolved, Status.CANCELLED, CONFIRMING),
    (unresolved, Status.FAILED, other_amount),
    (unresolved, Status.CANCELLED, other_amount),
    (refund_required, None, PAID),
    (refund_required, None, CONFIRMING),
    (refund_required, None, other_amount),
]


@pytest.mark.parametrize(("stands", "word", "reply"), CONTRADICTIONS)
async def test_a_word_against_the_gateways_needs_to_be_insisted_on(
    bench: Bench, stands: Callable[..., Any], word: Status | None, reply: Reply
) -> None:
    await stands(bench)
    before = await bench.payment()
    refused = await say(bench, word, reply)
    payment = await bench.payment()
    assert refused.verdict is Verdict.CONTRADICTED
    assert (payment.status, payment.aftercare) == (before.status, before.aftercare)
    assert "command payment.resolve" not in await bench.story()
    insisted = await say(bench, word, reply, force=True)
    assert insisted.verdict is Verdict.DONE
    assert [line["forced"] for line in bench.worker.log.named("payment.resolved")] == [True]
    assert not (await bench.payment()).needs_a_person


async def test_a_mismatch_that_says_closed_contradicts_success_alone(bench: Bench) -> None:
    """An amount that differs in an answer that says CANCELLED: no money is taken."""

    def closed_with_other_amount(payment: Payment, asked_at: int) -> InquiryAnswer:
        return replace(_answer(CLOSED, payment, asked_at), amount=Money("USD", 600))

    await unresolved(bench)
    assert (await say(bench, Status.SUCCEEDED, closed_with_other_amount)).verdict is (
        Verdict.CONTRADICTED
    )
    assert (await say(bench, Status.FAILED, closed_with_other_amount)).verdict is Verdict.DONE


async def test_while_the_gateway_is_silent_only_an_operator_who_insists_is_heard(
    bench: Bench,
) -> None:
    await unresolved(bench)
    refused = await say(bench, Status.FAILED, silent)
    assert (refused.verdict, refused.heard) == (Verdict.UNANSWERED, "no_answer timeout")
    assert (await bench.payment()).status is Status.UNRESOLVED
    assert (await say(bench, Status.FAILED, silent, force=True)).verdict is Verdict.DONE
    assert (await bench.payment()).status is Status.FAILED


# Nothing to decide


async def test_of_a_payment_that_nobody_tracks_the_gateway_is_not_asked(bench: Bench) -> None:
    assert (await say(bench, Status.FAILED)).verdict is Verdict.NOT_TRACKED


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.UNRESOLVED])
async def test_what_needs_no_person_is_left_alone(bench: Bench, status: Status) -> None:
    await put(bench, status=status, final_at=1 if status in FINAL else None)
    assert (await say(bench, Status.FAILED, force=True)).verdict is Verdict.NO_NEED
    assert await bench.story() == []


async def test_an_end_is_no_answer_to_a_refund_nor_a_refund_to_an_end(bench: Bench) -> None:
    await unresolved(bench)
    assert (await say(bench, None, force=True)).verdict is Verdict.OTHER_QUESTION
    await bench.redis.flushdb()
    await refund_required(bench)
    assert (await say(bench, Status.FAILED, force=True)).verdict is Verdict.OTHER_QUESTION


# Races and deaths


async def test_a_worker_that_is_first_is_heard_first(bench: Bench) -> None:
    """While the operator waits for the answer, a worker hears that it is paid."""
    await unresolved(bench)
    other = await bench.another()
    await other.store.wake_overdue()
    other.gateway.will(PAID)

    async def ends() -> None:
        await bench.redis.zadd(bench.keys.open, {KEY: 1})
        await bench.redis.hset(bench.keys.payment(KEY), "nextInquiryAt", "1")  # type: ignore[misc]
        await other.follow()

    resolution = await say(bench, Status.FAILED, after(ends, NOT_YET))
    assert (resolution.verdict, (await bench.payment()).status) == (
        Verdict.ENDED,
        Status.SUCCEEDED,
    )


async def test_a_word_that_loses_a_race_is_weighed_again(bench: Bench) -> None:
    await unresolved(bench)

    async def touched() -> None:
        bench.worker.store.before_save = touched_again

    async def touched_again() -> None:
        await bench.redis.hset(bench.keys.payment(KEY), "version", "9999999999999")  # type: ignore[misc]

    bench.worker.store.before_save = touched
    assert (await say(bench, Status.FAILED, NOT_YET)).verdict is Verdict.DONE
    assert (await bench.told()).count("failed") == 1


async def test_a_payment_that_is_forgotten_meanwhile_is_not_tracked_any_more(bench: Bench) -> None:
    await unresolved(bench)

    async def forgotten() -> None:
        await bench.redis.delete(bench.keys.payment(KEY))

    assert (await say(bench, Status.FAILED, after(forgotten, NOT_YET))).verdict is (
        Verdict.NOT_TRACKED
    )


@pytest.mark.parametrize("word", [Status.SUCCEEDED, Status.FAILED, None])
def test_news_that_says_nothing_of_the_end_contradicts_nobody(word: Status | None) -> None:
    silence = Silence(asked_at=0, why="timeout")
    assert not any(contradicts(word, silence, news) for news in (Hint(), Known()))


async def test_killed_while_it_asks_it_has_changed_nothing(bench: Bench) -> None:
    await unresolved(bench)
    before = await bench.payment()
    with pytest.raises(Killed):
        await say(bench, Status.FAILED, dies)
    assert await bench.payment() == before
    assert json.dumps(await bench.timeline()) == "[]"
