"""What belongs together is written together, over the version that was read, or not at all."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import (
    Act,
    Aftercare,
    Cause,
    Decision,
    Event,
    Money,
    Ms,
    Payment,
    Rejected,
    Status,
)
from jobs.news import Notification, NotifyKind, OtherKind, Unusable
from jobs.payment import track as tracked
from jobs.schedule import DAY, HOUR, MINUTE, Policy
from jobs.tools import LEASE, Entry, Loaded
from tests.fakes import CLIENT, KEY, REQUEST, USD, Bench, notification, open_bench, track
from worker import store
from worker.records import UnknownSchema
from worker.scripts import Confirm, NotDurable
from worker.store import HEARD_TTL, Store, read_mail, write_mail

RETENTION: Ms = 35 * DAY
SOON: Ms = 2_000  #: what a few round trips may take, and more


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


@pytest.fixture
async def payment(bench: Bench) -> Payment:
    """A payment tracked a moment ago."""
    decision = tracked(track(await bench.now()), await bench.now(), Policy())
    created = await bench.worker.store.create(decision, [line("payment.track", source="command")])
    assert created is not None
    return created


def line(what: str, detail: str = "", at: Ms = 1, source: str = "inquiry") -> Entry:
    return Entry(at=at, source=source, what=what, detail=detail)


def event(name: str = "succeeded", seq: Ms = 7) -> Event:
    return Event(type=f"payment.{name}", name=name, seq=seq)


async def everything(bench: Bench) -> dict[bytes, tuple[bytes, bool]]:
    """All there is under the bench's prefix, byte by byte, and whether it will expire."""
    keys = [key async for key in bench.redis.scan_iter(f"*{bench.keys.prefix}*")]
    return {k: (await bench.redis.dump(k), await bench.redis.pttl(k) > 0) for k in keys}


async def job_at(bench: Bench) -> Ms | None:
    score = await bench.redis.zscore(bench.keys.queue, bench.keys.job(KEY))
    return None if score is None else round(score)


async def goes_first(bench: Bench) -> bool:
    """Before every job that is merely due, however long it has been."""
    return 0 < (await job_at(bench) or 0) < 10**10


async def make_due(bench: Bench) -> None:
    await bench.redis.zadd(bench.keys.open, {KEY: await bench.now()})


# claim: one worker gets a payment, and only when there is something to do


async def test_a_payment_that_is_due_is_claimed_for_a_lease(bench: Bench, payment: Payment) -> None:
    await make_due(bench)
    before = await bench.now()
    loaded = await bench.worker.store.claim(KEY)
    assert loaded is not None
    assert loaded.payment == replace(payment, version=loaded.payment.version)
    assert loaded.payment.version > payment.version
    assert (loaded.inbox, loaded.misses) == ((), 0)
    assert before + LEASE <= (await bench.due() or 0) <= await bench.now() + LEASE


async def test_a_claim_tells_how_late_it_is(bench: Bench, payment: Payment) -> None:
    await bench.redis.zadd(bench.keys.open, {KEY: await bench.now() - 1234})
    loaded = await bench.worker.store.claim(KEY)
    assert loaded is not None
    assert 1234 <= loaded.late < 1234 + SOON
    again = await bench.worker.load()
    assert again.late == 0, "a look is no claim"


async def test_a_payment_that_is_not_due_stays_as_it_is(bench: Bench, payment: Payment) -> None:
    before = await everything(bench)
    assert await bench.worker.store.claim(KEY) is None
    assert await everything(bench) == before


async def test_mail_makes_a_payment_due(bench: Bench, payment: Payment) -> None:
    await bench.deliver(notification())
    loaded = await bench.worker.store.claim(KEY)
    assert loaded is not None
    assert [type(message) for message in loaded.inbox] == [Notification]


async def test_while_a_lease_runs_nobody_else_claims(bench: Bench, payment: Payment) -> None:
    await make_due(bench)
    assert await bench.worker.store.claim(KEY)
    assert await (await bench.another()).store.claim(KEY) is None


async def test_when_a_lease_has_run_out_another_worker_claims(
    bench: Bench, payment: Payment
) -> None:
    await make_due(bench)
    assert await bench.worker.store.claim(KEY)
    await bench.pass_time(LEASE)
    assert await (await bench.another()).store.claim(KEY)


async def test_of_two_that_claim_at_once_one_gets_it(bench: Bench, payment: Payment) -> None:
    stores = [bench.worker.store, (await bench.another()).store, (await bench.another()).store]
    for _ in range(10):
        await make_due(bench)
        claims = await asyncio.gather(*(each.claim(KEY) for each in stores))
        assert sum(claim is not None for claim in claims) == 1


async def test_whoever_held_a_payment_before_can_save_nothing_any_more(
    bench: Bench, payment: Payment
) -> None:
    await make_due(bench)
    frozen = await bench.worker.store.claim(KEY)
    assert frozen is not None
    await make_due(bench)
    holder = await (await bench.another()).store.claim(KEY)
    assert holder is not None
    before = await everything(bench)
    stale = Decision(payment=replace(frozen.payment, status=Status.FAILED), events=(event(),))
    assert await bench.worker.store.save(frozen, stale, [line("failed")]) is None
    assert await everything(bench) == before
    assert await bench.worker.store.save(holder, Decision(payment=holder.payment), []) is not None


async def test_an_answer_that_was_read_late_does_not_make_it_earlier_than_it_may_be(
    bench: Bench, payment: Payment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a worker was frozen between asking and reading: its lease has gone on."""
    store = bench.worker.store
    ask = store._scripts.run

    async def read_late(*asked: Any) -> list[Any]:
        answer = await ask(*asked)
        await asyncio.sleep(0.2)
        return answer

    monkeypatch.setattr(store._scripts, "run", read_late)
    await store.load(KEY)
    assert store.latest() - store.now() >= 199


async def test_whoever_held_a_payment_in_an_earlier_life_can_save_nothing_over_the_new_one(
    bench: Bench, payment: Payment
) -> None:
    frozen = await bench.worker.load()
    assert await bench.worker.store.erase(frozen)
    reborn = tracked(track(await bench.now()), await bench.now(), Policy())
    assert await bench.worker.store.create(reborn, [])
    before = await everything(bench)
    ended = Decision(payment=replace(frozen.payment, status=Status.FAILED), events=(event(),))
    assert await bench.worker.store.save(frozen, ended, []) is None
    assert not await bench.worker.store.erase(frozen)
    assert await everything(bench) == before


async def test_whoever_saved_what_a_power_cut_took_back_can_save_nothing_over_what_came_since(
    bench: Bench, payment: Payment
) -> None:
    old = await bench.redis.dump(bench.keys.payment(KEY))
    await save(bench, attempts=1)
    frozen = await bench.worker.load()
    await bench.redis.restore(bench.keys.payment(KEY), 0, old, replace=True)
    await asyncio.sleep(0.005)
    await save(bench, attempts=1)
    assert (await bench.payment()).version > frozen.payment.version
    assert await bench.worker.store.save(frozen, Decision(payment=payment), []) is None


async def test_a_payment_that_is_not_tracked_cannot_be_claimed(bench: Bench) -> None:
    assert await bench.worker.store.claim(KEY) is None
    assert await everything(bench) == {}


async def test_an_open_payment_without_a_record_is_not_woken_for_ever(
    bench: Bench, payment: Payment
) -> None:
    await make_due(bench)
    await bench.redis.delete(bench.keys.payment(KEY))  # as when a record has expired
    assert await bench.worker.store.claim(KEY) is None
    assert await bench.redis.zscore(bench.keys.open, KEY) is None


async def test_to_load_is_to_look(bench: Bench, payment: Payment) -> None:
    await bench.deliver(notification())
    before = await everything(bench)
    loaded = await bench.worker.store.load(KEY)
    assert loaded is not None
    assert loaded.payment == payment
    assert len(loaded.inbox) == 1
    assert await everything(bench) == before


async def test_what_is_not_tracked_cannot_be_loaded(bench: Bench) -> None:
    assert await bench.worker.store.load(KEY) is None


async def test_a_record_of_another_version_is_an_error_not_a_guess(
    bench: Bench, payment: Payment
) -> None:
    await hset(bench, "schema", "2")
    with pytest.raises(UnknownSchema):
        await bench.worker.store.load(KEY)


async def hset(bench: Bench, name: str, value: str) -> None:
    fields: dict[Any, Any] = {name: value}
    await bench.redis.hset(bench.keys.payment(KEY), mapping=fields)  # type: ignore[misc]


# save: compare and set


async def test_all_of_a_decision_is_written(bench: Bench, payment: Payment) -> None:
    await bench.deliver(notification())
    await bench.deliver(notification(extra=2))
    loaded = await bench.worker.load()
    soon = await bench.now() + MINUTE
    decision = Decision(payment=replace(payment, attempts=3, next_at=soon), events=(event(),))
    saved = await bench.worker.store.save(loaded, decision, [line("not_yet")], heard=2)
    assert saved is not None
    assert saved == replace(payment, attempts=3, next_at=soon, version=saved.version)
    assert saved.version > payment.version
    assert await bench.payment() == saved
    assert await bench.due() == soon
    assert await bench.story() == ["command payment.track", "inquiry not_yet"]
    assert await bench.told() == ["succeeded"]
    assert await bench.inbox() == []


async def test_of_two_writers_one_wins_and_the_other_changes_nothing(
    bench: Bench, payment: Payment
) -> None:
    await bench.deliver(notification())
    loaded = await bench.worker.load()
    winner = Decision(payment=replace(payment, attempts=1))
    assert await bench.worker.store.save(loaded, winner, [line("not_yet")])
    before = await everything(bench)
    loser = Decision(
        payment=replace(payment, status=Status.CANCELLING, cause=Cause.TIMED_OUT, next_at=1),
        events=(event("cancelling.1"),),
    )
    assert not await bench.worker.store.save(loaded, loser, [line("lost")], heard=1)
    assert await everything(bench) == before


async def test_two_that_save_at_once_cannot_both_win(bench: Bench, payment: Payment) -> None:
    workers = [bench.worker, await bench.another(), await bench.another()]
    for round_ in range(10):
        loaded = await bench.worker.load()
        changed = Decision(payment=replace(loaded.payment, attempts=round_), events=(event(),))
        saves = [worker.store.save(loaded, changed, [line("x")]) for worker in workers]
        assert sum(saved is not None for saved in await asyncio.gather(*saves)) == 1
    assert len(await bench.outcomes()) == 10


async def test_a_record_holds_nothing_of_the_one_before(bench: Bench, payment: Payment) -> None:
    await save(bench, reason="brake", marks=("blind",))
    await save(bench, reason="", marks=())
    assert (await bench.payment()).reason == ""
    assert (await bench.payment()).marks == ()


async def test_any_text_survives(bench: Bench, payment: Payment) -> None:
    odd = '支付 🙂 \x00\x1f\x7f \\ " / </script> \u2028'
    loaded = await bench.worker.load()
    decision = Decision(payment=replace(payment, reference=odd), events=(event(),))
    await bench.worker.store.save(loaded, decision, [line("x", odd)])
    await bench.worker.store.save(await bench.worker.load(), decision, [line("x", odd)])
    assert (await bench.payment()).reference == odd
    assert (await bench.timeline())[-1]["detail"] == odd
    assert (await bench.outcomes())[0]["data"]["reference"] == odd


async def save(
    bench: Bench, *, events: tuple[Event | Rejected, ...] = (), act: Act = Act.WAIT, **changes: Any
) -> None:
    loaded = await bench.worker.load()
    changed = replace(loaded.payment, **changes)
    decision = Decision(payment=changed, act=act, events=events)
    assert await bench.worker.store.save(loaded, decision, []), "lost a race against nobody"


# The right to cancel


async def test_the_right_to_cancel_is_refused_while_anything_lies_in_the_inbox(
    bench: Bench, payment: Payment
) -> None:
    loaded = await bench.worker.load()
    await bench.deliver(notification())  # heard by nobody: it may say that the money came
    before = await everything(bench)
    right = Decision(payment=replace(payment, cancel_attempts=1), act=Act.CANCEL)
    assert await bench.worker.store.save(loaded, right, [line("sent", source="cancel")]) is None
    assert await everything(bench) == before


async def test_the_right_to_cancel_is_given_over_an_empty_inbox(
    bench: Bench, payment: Payment
) -> None:
    await save(bench, act=Act.CANCEL, cancel_attempts=1)
    assert (await bench.payment()).cancel_attempts == 1


async def test_all_but_a_cancel_may_be_decided_over_unheard_mail(
    bench: Bench, payment: Payment
) -> None:
    await bench.deliver(notification())
    await save(bench, attempts=1)
    assert len(await bench.inbox()) == 1


# The inbox


async def test_only_what_was_heard_leaves_the_inbox(bench: Bench, payment: Payment) -> None:
    for number in range(3):
        await bench.deliver(notification(number=number))
    loaded = await bench.worker.load()
    await bench.deliver(notification(number=3))
    await bench.worker.store.save(loaded, Decision(payment=payment), [], heard=2)
    left = [json.loads(json.loads(mail)["body"])["number"] for mail in await bench.inbox()]
    assert left == [2, 3]


# The open set


@pytest.mark.parametrize(
    ("changes", "act", "due"),
    [
        ({"next_at": 5_000}, Act.WAIT, 5_000),
        ({"next_at": None}, Act.WAIT, None),
        ({"next_at": None, "status": Status.SUCCEEDED}, Act.WAIT, None),
        ({"next_at": None, "status": Status.UNRESOLVED}, Act.WAIT, "never"),
        ({"next_at": 5_000, "status": Status.UNRESOLVED}, Act.WAIT, 5_000),
        ({"next_at": 5_000, "status": Status.CANCELLED}, Act.WAIT, 5_000),
        ({"next_at": None, "status": Status.CANCELLED}, Act.WAIT, None),
        (
            {
                "next_at": None,
                "status": Status.CANCELLED,
                "aftercare": Aftercare.REFUND_REQUIRED,
            },
            Act.WAIT,
            "never",
        ),
        ({"next_at": 5_000}, Act.CANCEL, "lease"),
    ],
)
async def test_open_lists_what_has_a_next_action_or_needs_a_person(
    bench: Bench, payment: Payment, changes: dict[str, Any], act: Act, due: Ms | str | None
) -> None:
    await save(bench, act=act, **changes)
    score = await bench.redis.zscore(bench.keys.open, KEY)
    match due:
        case "never":
            assert score == float("inf")
        case "lease":
            assert score == pytest.approx(await bench.now() + LEASE, abs=SOON)
        case _:
            assert score == due


async def test_a_cancel_far_ahead_is_not_pulled_to_the_end_of_the_lease(
    bench: Bench, payment: Payment
) -> None:
    far = await bench.now() + HOUR
    await save(bench, act=Act.CANCEL, next_at=far)
    assert await bench.due() == far


@pytest.mark.parametrize("status", [Status.PENDING, Status.SUCCEEDED, Status.UNRESOLVED])
async def test_whatever_its_status_a_payment_with_mail_is_due_now(
    bench: Bench, payment: Payment, status: Status
) -> None:
    await bench.deliver(notification())
    await save(bench, status=status, next_at=None)
    assert await bench.due() == pytest.approx(await bench.now(), abs=SOON)


async def test_to_save_moves_the_job_to_the_next_action(bench: Bench, payment: Payment) -> None:
    soon = await bench.now() + MINUTE
    await save(bench, next_at=soon)
    assert await job_at(bench) == await bench.due() == soon
    await bench.redis.delete(bench.keys.queue, f"arq:job:{bench.keys.job(KEY)}")
    await save(bench, next_at=soon)
    assert await job_at(bench) == soon
    assert await bench.redis.exists(f"arq:job:{bench.keys.job(KEY)}")


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.UNRESOLVED])
async def test_there_is_nothing_to_wake_for_without_a_next_action(
    bench: Bench, payment: Payment, status: Status
) -> None:
    await save(bench, next_at=None, status=status)
    assert await job_at(bench) is None
    assert not await bench.redis.exists(f"arq:job:{bench.keys.job(KEY)}")


async def test_who_has_heard_mail_holds_the_payment_while_he_does_what_is_due(
    bench: Bench, payment: Payment
) -> None:
    """Woken at once, another would ask the gateway the same at the same time."""
    await bench.deliver(notification())
    await bench.deliver(notification("F"))
    loaded = await bench.worker.load()
    now = await bench.now()
    for heard in range(2):
        asks = Decision(payment=replace(loaded.payment, next_at=now))
        saved = await bench.worker.store.save(loaded, asks, [], heard=1)
        assert saved, heard
        loaded = replace(loaded, payment=saved, inbox=loaded.inbox[1:])
        assert await bench.due() == pytest.approx(now + LEASE, abs=SOON)
        assert await job_at(bench) == await bench.due()


async def test_mail_that_who_holds_a_payment_knows_nothing_of_wakes_it_now(
    bench: Bench, payment: Payment
) -> None:
    await bench.deliver(notification())
    loaded = await bench.worker.load()
    await bench.deliver(notification("F"))
    rests = Decision(payment=replace(payment, next_at=await bench.now() + MINUTE))
    assert await bench.worker.store.save(loaded, rests, [], heard=1)
    assert await bench.due() == pytest.approx(await bench.now(), abs=SOON)
    assert await goes_first(bench)


# How long it is kept


@pytest.mark.parametrize(
    ("status", "aftercare", "kept"),
    [
        (Status.PENDING, Aftercare.NONE, "always"),
        (Status.CANCELLING, Aftercare.NONE, "always"),
        (Status.UNRESOLVED, Aftercare.NONE, "always"),
        (Status.SUCCEEDED, Aftercare.NONE, RETENTION),
        (Status.FAILED, Aftercare.WATCHING, RETENTION),
        (Status.CANCELLED, Aftercare.NONE, RETENTION),
        (Status.CANCELLED, Aftercare.CANCELLING, "always"),
        (Status.CANCELLED, Aftercare.REFUND_REQUIRED, "always"),
        (Status.FORGOTTEN, Aftercare.NONE, RETENTION),
    ],
)
async def test_record_and_timeline_expire_after_the_end_and_only_then(
    bench: Bench, payment: Payment, status: Status, aftercare: Aftercare, kept: Ms | str
) -> None:
    await save(bench, status=status, aftercare=aftercare)
    for name in (bench.keys.payment(KEY), bench.keys.timeline(KEY)):
        ttl = await bench.redis.pttl(name)
        assert ttl == (-1 if kept == "always" else pytest.approx(kept, abs=SOON))


async def test_money_found_after_the_end_is_not_forgotten_by_expiry(
    bench: Bench, payment: Payment
) -> None:
    await save(bench, status=Status.CANCELLED, aftercare=Aftercare.WATCHING)
    await save(bench, aftercare=Aftercare.REFUND_REQUIRED)
    assert await bench.redis.pttl(bench.keys.payment(KEY)) == -1
    assert await bench.redis.pttl(bench.keys.timeline(KEY)) == -1


async def test_the_retention_is_the_operators(bench: Bench, payment: Payment) -> None:
    brief = Store(bench.redis, bench.keys, retention=HOUR)
    ended = Decision(payment=replace(payment, status=Status.SUCCEEDED))
    await brief.save(await bench.worker.load(), ended, [])
    assert await bench.redis.pttl(bench.keys.payment(KEY)) == pytest.approx(HOUR, abs=SOON)


# The timeline


async def note(bench: Bench, *entries: Entry) -> None:
    loaded = await bench.worker.load()
    assert await bench.worker.store.save(loaded, Decision(payment=loaded.payment), entries)


async def test_equal_neighbours_are_one_line_with_a_count(bench: Bench, payment: Payment) -> None:
    now = 1_790_000_000_000  # thirteen digits must come out whole
    await note(bench, line("not_yet", "SUCCESS", at=now))
    await note(bench, line("not_yet", "SUCCESS", at=now + 1), line("not_yet", "SUCCESS", now + 2))
    await note(bench, line("not_yet", "SUCCESS", at=now + 3))
    assert (await bench.timeline())[1:] == [
        {
            "at": now,
            "source": "inquiry",
            "what": "not_yet",
            "detail": "SUCCESS",
            "count": 4,
            "until": now + 3,
        }
    ]


@pytest.mark.parametrize(
    "other",
    [line("paid"), line("not_yet", "OTHER"), line("not_yet", source="notification")],
)
async def test_what_differs_is_a_line_of_its_own(
    bench: Bench, payment: Payment, other: Entry
) -> None:
    await note(bench, line("not_yet"), other, line("not_yet"))
    assert len(await bench.timeline()) == 1 + 3


async def test_a_timeline_keeps_its_newest_200_lines(bench: Bench, payment: Payment) -> None:
    await note(bench, *(line(f"news {n}") for n in range(150)))
    await note(bench, *(line(f"news {n}") for n in range(150, 300)))
    kept = [entry["what"] for entry in await bench.timeline()]
    assert kept == [f"news {n}" for n in range(100, 300)]


# Events


async def test_an_event_is_a_stream_entry_with_the_fields_of_the_contract(
    bench: Bench, payment: Payment
) -> None:
    await save(bench, events=(event("succeeded", seq=1_790_000_000_000),))
    [(_, fields)] = await bench.redis.xrange(bench.keys.outcomes)
    data = json.loads(fields.pop(b"data"))
    assert fields == {
        b"id": f"{KEY}:succeeded".encode(),
        b"type": b"payment.succeeded",
        b"clientId": CLIENT.encode(),
        b"paymentRequestId": REQUEST.encode(),
    }
    assert (data["id"], data["type"]) == (f"{KEY}:succeeded", "payment.succeeded")
    assert (data["specversion"], data["subject"]) == ("1.0", REQUEST)
    assert data["data"]["seq"] == 1_790_000_000_000


async def test_events_are_published_in_the_order_of_the_decision(
    bench: Bench, payment: Payment
) -> None:
    await save(bench, events=(event("succeeded", 1), event("attention.partly_refunded.1", 2)))
    assert await bench.told() == ["succeeded", "attention.partly_refunded.1"]


REFUSED = Rejected(
    command_id="9-0",
    command="payment.cancel",
    reason="already_final",
    message="refund it instead",
    client_id=CLIENT,
    payment_request_id=REQUEST,
)


async def test_a_command_is_rejected_with_the_record_or_without_one(
    bench: Bench, payment: Payment
) -> None:
    await save(bench, events=(REFUSED,))
    await bench.worker.store.reject(REFUSED)
    with_record, without = [f for _, f in await bench.redis.xrange(bench.keys.outcomes)]
    for fields in (with_record, without):
        data = json.loads(fields.pop(b"data"))
        assert data.pop("time")
        assert data["data"]["reason"] == "already_final"
        assert "seq" not in data["data"]
    assert with_record == without
    assert with_record[b"id"] == b"command:9-0"


# The brake: payments in a row that were never found


async def test_payments_never_found_are_counted_by_account(bench: Bench, payment: Payment) -> None:
    await save(bench, status=Status.CANCELLING, cause=Cause.TIMED_OUT)
    assert (await bench.worker.load()).misses == 1
    assert await counted(bench) == {CLIENT.encode(): b"1"}


async def counted(bench: Bench) -> dict[bytes, bytes]:
    return await bench.redis.hgetall(bench.keys.brake)  # type: ignore[no-any-return, misc]


@pytest.mark.parametrize(
    ("before", "then", "missed"),
    [
        ({}, {"status": Status.CANCELLING, "cause": Cause.TIMED_OUT}, 4),
        ({}, {"status": Status.UNRESOLVED, "reason": "brake"}, 4),
        ({}, {"status": Status.UNRESOLVED, "reason": "no_answer"}, 3),
        ({}, {"status": Status.CANCELLING, "cause": Cause.REQUESTED}, 3),
        ({}, {"attempts": 1}, 3),
        ({}, {"found": True}, 0),
        ({}, {"found": True, "status": Status.CANCELLING, "cause": Cause.TIMED_OUT}, 0),
        ({"found": True}, {"status": Status.CANCELLING, "cause": Cause.TIMED_OUT}, 3),
        (
            {"status": Status.CANCELLING, "cause": Cause.TIMED_OUT},
            {"status": Status.CANCELLED},
            3,
        ),
    ],
)
async def test_only_a_closing_time_reached_unfound_counts_and_one_found_starts_afresh(
    bench: Bench,
    payment: Payment,
    before: dict[str, Any],
    then: dict[str, Any],
    missed: int,
) -> None:
    await save(bench, **before)
    other = {CLIENT: 3, "another": 5}
    await bench.redis.hset(bench.keys.brake, mapping=other)  # type: ignore[misc]
    await save(bench, **then)
    assert (await bench.worker.load()).misses == missed
    assert (await counted(bench))[b"another"] == b"5"


@pytest.mark.parametrize(("limit", "given_up"), [(0, 3), (2, 2)])
async def test_of_many_who_give_up_at_the_same_time_no_more_do_than_the_brake_lets_through(
    bench: Bench, limit: int, given_up: int
) -> None:
    """Each had read the count before any of them wrote."""
    now, saved = await bench.now(), 0
    for n in range(3):
        decision = tracked(replace(track(now), payment_request_id=f"order-{n}"), now, Policy())
        created = await bench.worker.store.create(decision, [])
        assert created is not None
        gives_up = replace(created, status=Status.CANCELLING, cause=Cause.TIMED_OUT)
        loaded = Loaded(payment=created, inbox=(), misses=0)
        answer = await bench.worker.store.save(loaded, Decision(payment=gives_up), [], brake=limit)
        saved += answer is not None
        if answer is None:
            rests = replace(created, status=Status.UNRESOLVED, reason="brake", next_at=None)
            held = Decision(payment=rests)
            assert await bench.worker.store.save(loaded, held, [], brake=limit)
    assert saved == given_up
    assert await counted(bench) == {CLIENT.encode(): b"3"}


# create and erase


async def test_a_payment_is_tracked_once(bench: Bench, payment: Payment) -> None:
    before = await everything(bench)
    now = await bench.now()
    other = tracked(track(now, amount=Money("EUR", 1)), now, Policy())
    assert await bench.worker.store.create(other, [line("payment.track")]) is None
    assert await everything(bench) == before


async def test_of_two_that_track_at_once_one_does(bench: Bench) -> None:
    decision = tracked(track(await bench.now()), await bench.now(), Policy())
    workers = [bench.worker, await bench.another()]
    created = await asyncio.gather(*(w.store.create(decision, []) for w in workers))
    assert sum(each is not None for each in created) == 1


async def test_a_tracked_payment_has_a_job_at_its_first_inquiry(
    bench: Bench, payment: Payment
) -> None:
    assert await job_at(bench) == await bench.due() == payment.next_at


async def test_what_was_parked_is_due_as_soon_as_it_is_tracked(bench: Bench) -> None:
    assert await bench.deliver(notification()) == "parked"
    decision = tracked(track(await bench.now()), await bench.now(), Policy())
    assert await bench.worker.store.create(decision, [])
    assert await bench.redis.zcard(bench.keys.parked) == 0
    assert await goes_first(bench)
    loaded = await bench.worker.store.claim(KEY)
    assert loaded is not None
    assert len(loaded.inbox) == 1


async def test_to_erase_leaves_neither_record_nor_timeline(bench: Bench, payment: Payment) -> None:
    await save(bench, status=Status.CANCELLED, aftercare=Aftercare.WATCHING)
    assert await bench.worker.store.erase(await bench.worker.load())
    assert await bench.redis.exists(bench.keys.payment(KEY), bench.keys.timeline(KEY)) == 0
    assert await bench.redis.zscore(bench.keys.open, KEY) is None


async def test_what_another_has_changed_is_not_erased(bench: Bench, payment: Payment) -> None:
    loaded = await bench.worker.load()
    await save(bench, attempts=1)
    before = await everything(bench)
    assert not await bench.worker.store.erase(loaded)
    assert await everything(bench) == before


async def test_mail_that_nobody_heard_is_not_erased_with_its_payment(
    bench: Bench, payment: Payment
) -> None:
    loaded = await bench.worker.load()
    await bench.deliver(notification())
    assert await bench.worker.store.erase(loaded)
    assert len(await bench.inbox()) == 1
    parked = await bench.redis.zscore(bench.keys.parked, KEY)
    assert parked == pytest.approx(await bench.now(), abs=SOON)


# receive


async def test_a_notification_of_a_tracked_payment_is_accepted_and_wakes_it(
    bench: Bench, payment: Payment
) -> None:
    assert await bench.deliver(notification()) == "accepted"
    assert len(await bench.inbox()) == 1
    assert await goes_first(bench)
    assert await bench.due() == pytest.approx(await bench.now(), abs=SOON)


async def test_one_that_is_due_already_is_not_put_off(bench: Bench, payment: Payment) -> None:
    await bench.redis.zadd(bench.keys.open, {KEY: 5_000})
    await bench.deliver(notification())
    assert await bench.due() == 5_000


async def test_a_final_payment_hears_on(bench: Bench, payment: Payment) -> None:
    await save(bench, status=Status.SUCCEEDED, next_at=None)
    assert await bench.deliver(notification("F")) == "accepted"
    assert await bench.worker.store.claim(KEY)


async def test_one_that_comes_before_its_payment_is_parked(bench: Bench) -> None:
    assert await bench.deliver(notification()) == "parked"
    first = await bench.redis.zscore(bench.keys.parked, KEY)
    assert first == pytest.approx(await bench.now(), abs=SOON)
    await bench.redis.zadd(bench.keys.parked, {KEY: 5_000})
    assert await bench.deliver(notification("F")) == "parked"
    assert await bench.redis.zscore(bench.keys.parked, KEY) == 5_000  # the first one counts
    assert len(await bench.inbox()) == 2
    assert await bench.due() is await job_at(bench) is None


@pytest.mark.parametrize("is_tracked", [True, False])
async def test_the_same_message_again_is_a_duplicate_and_changes_nothing(
    bench: Bench, is_tracked: bool
) -> None:
    if is_tracked:
        decision = tracked(track(await bench.now()), await bench.now(), Policy())
        await bench.worker.store.create(decision, [])
    await bench.deliver(notification())
    before = await everything(bench)
    assert await bench.deliver(notification()) == "duplicate"
    assert await everything(bench) == before


async def test_the_same_words_about_another_payment_are_no_duplicate(
    bench: Bench, payment: Payment
) -> None:
    await bench.deliver(notification())
    assert await bench.deliver(notification(), key=f"{CLIENT}:order-2") == "parked"


async def test_a_message_is_known_again_for_longer_than_the_gateway_resends(
    bench: Bench, payment: Payment
) -> None:
    await bench.deliver(notification())
    ttl = await bench.redis.pttl(bench.keys.heard(KEY))
    assert ttl == pytest.approx(HEARD_TTL, abs=SOON)
    assert ttl > 24 * HOUR + 22 * MINUTE


async def test_a_kind_that_is_not_ours_is_not_parked(bench: Bench) -> None:
    result = await bench.worker.store.receive(KEY, "{}", "digest", parks=False, quarantine=None)
    assert result == "untracked"
    assert await bench.inbox() == []
    assert await bench.redis.zcard(bench.keys.parked) == 0


ODD = b'{"a":"\xff\x00\r\n"} \xf0\x9f\x99\x82'


async def test_one_that_cannot_be_understood_is_kept_byte_by_byte_and_makes_us_ask(
    bench: Bench, payment: Payment
) -> None:
    args = (KEY, write_mail(1, "1", b"{}"), "digest")
    result = await bench.worker.store.receive(*args, parks=True, quarantine=("amount", ODD))
    assert result == "accepted"
    [(_, fields)] = await bench.redis.xrange(bench.keys.quarantine)
    assert fields == {
        b"clientId": CLIENT.encode(),
        b"paymentRequestId": REQUEST.encode(),
        b"reason": b"amount",
        b"body": ODD,
    }
    assert len(await bench.inbox()) == 1
    again = await bench.worker.store.receive(*args, parks=True, quarantine=("amount", ODD))
    assert again == "duplicate"
    assert await bench.redis.xlen(bench.keys.quarantine) == 1


async def test_one_that_names_no_payment_is_kept_byte_by_byte(bench: Bench) -> None:
    await bench.worker.store.quarantine(CLIENT, "utf8", ODD)
    [(_, fields)] = await bench.redis.xrange(bench.keys.quarantine)
    assert fields == {
        b"clientId": CLIENT.encode(),
        b"paymentRequestId": b"",
        b"reason": b"utf8",
        b"body": ODD,
    }


# unpark


async def test_what_nobody_ever_tracked_goes_to_quarantine(bench: Bench) -> None:
    await bench.deliver(notification())
    await bench.deliver(notification("F"))
    mail = await bench.inbox()
    assert await bench.worker.store.unpark(KEY, await bench.now() - HOUR) == 0
    assert await bench.inbox() == mail
    assert await bench.worker.store.unpark(KEY, await bench.now()) == 2
    assert await bench.inbox() == []
    assert await bench.redis.zcard(bench.keys.parked) == 0
    kept = [fields for _, fields in await bench.redis.xrange(bench.keys.quarantine)]
    assert [fields[b"message"] for fields in kept] == mail
    assert {fields[b"reason"] for fields in kept} == {b"never_tracked"}
    assert {fields[b"paymentRequestId"] for fields in kept} == {REQUEST.encode()}


async def test_what_is_tracked_by_now_stays_in_its_inbox(bench: Bench, payment: Payment) -> None:
    await bench.deliver(notification())
    await bench.redis.zadd(bench.keys.parked, {KEY: 1})
    assert await bench.worker.store.unpark(KEY, await bench.now()) == 0
    assert len(await bench.inbox()) == 1


# Mail


def test_a_notification_is_read_back_from_an_inbox_as_it_came() -> None:
    mail = write_mail(1_790_000_000_500, "2026-09-21T22:13:20+08:00", notification())
    assert read_mail(CLIENT, REQUEST, mail.encode()) == Notification(
        kind=NotifyKind.RESULT,
        client_id=CLIENT,
        payment_request_id=REQUEST,
        status="S",
        code="SUCCESS",
        payment_id="gw-1",
        amount=USD,
        sent_at=1_790_000_000_000,
        received_at=1_790_000_000_500,
    )


def test_an_unreadable_time_leaves_a_hint_of_a_notification() -> None:
    message = read_mail(CLIENT, REQUEST, write_mail(1, "yesterday", notification()))
    assert isinstance(message, Notification)
    assert message.sent_at is None


def test_another_kind_is_told_apart() -> None:
    mail = write_mail(1, "1", notification(notifyType="REFUND_RESULT"))
    assert read_mail(CLIENT, REQUEST, mail) == OtherKind(
        kind="REFUND_RESULT", payment_request_id=REQUEST
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"v":1,"at":1,"time":"1"}',
        b'{"v":1,"at":1,"time":"1","body":7}',
        b'{"v":1,"at":"soon","time":"1","body":"{}"}',
        b'{"v":1,"at":1,"time":1,"body":"{}"}',
        write_mail(1, "1", b"no json").encode(),
        write_mail(1, "1", notification(paymentAmount="5")).encode(),
    ],
)
def test_what_cannot_be_read_still_makes_us_ask(raw: bytes) -> None:
    message = read_mail(CLIENT, REQUEST, raw)
    assert isinstance(message, Unusable)
    assert message.payment_request_id == REQUEST


# Time


async def test_the_time_is_that_of_redis_whatever_our_clock_says(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = SimpleNamespace(time=lambda: 0.0, monotonic=time.monotonic)
    monkeypatch.setattr(store, "time", wrong)
    late = Store(bench.redis, bench.keys)
    assert late.now() < HOUR
    await late.load(KEY)
    assert late.now() == pytest.approx(await bench.now(), abs=SOON)


async def test_between_two_answers_time_goes_on(bench: Bench) -> None:
    await bench.worker.store.load(KEY)
    before = bench.worker.store.now()
    await asyncio.sleep(0.02)
    assert bench.worker.store.now() - before >= 19


# Which writes wait until they are safe

SHORT = Confirm(("WAIT", 9, 1), 9)  #: nine replicas within a millisecond: there are none


async def claim(bench: Bench) -> object:
    await make_due(bench)
    return await bench.worker.store.claim(KEY)


async def erase(bench: Bench) -> object:
    return await bench.worker.store.erase(await bench.worker.load())


async def unpark(bench: Bench) -> object:
    await bench.redis.zadd(bench.keys.parked, {KEY: 1})
    return await bench.worker.store.unpark(KEY, 2)


async def hear_one(bench: Bench) -> object:
    loaded = await bench.worker.load()
    return await bench.worker.store.save(loaded, Decision(payment=loaded.payment), [], heard=1)


async def create(bench: Bench) -> object:
    now = await bench.now()
    command = track(now, payment_request_id="order-2")
    return await bench.worker.store.create(tracked(command, now, Policy()), [])


Work = Callable[[Bench], Awaitable[object]]
SAFE: dict[str, Work] = {
    "receive": lambda bench: bench.deliver(notification()),
    "receive a duplicate": lambda bench: bench.deliver(notification("F")),
    "quarantine": lambda bench: bench.worker.store.quarantine(CLIENT, "utf8", ODD),
    "reject": lambda bench: bench.worker.store.reject(REFUSED),
    "create": create,
    "save an event": lambda bench: save(bench, events=(event(),)),
    "save what mail has changed": hear_one,
    "save the right to cancel": lambda bench: save(bench, act=Act.CANCEL),
    "erase": erase,
    "unpark": unpark,
}
REPEATABLE: dict[str, Work] = {
    "claim": claim,
    "load": lambda bench: bench.worker.store.load(KEY),
    "save what will be asked again": lambda bench: save(bench, attempts=1),
    "told": lambda bench: bench.worker.store.told(KEY),
    "wake_overdue": lambda bench: bench.worker.store.wake_overdue(),
}


@pytest.fixture
async def unsafe(bench: Bench, payment: Payment) -> Bench:
    """The bench on a server that takes every write and can confirm none."""
    await bench.deliver(notification("F"))
    await hear_one(bench)
    bench.worker.store.confirm = SHORT
    return bench


@pytest.mark.parametrize("work", SAFE.values(), ids=SAFE)
async def test_what_others_rely_on_is_not_done_before_it_is_safe(unsafe: Bench, work: Work) -> None:
    with pytest.raises(NotDurable, match="WAIT answered 0"):
        await work(unsafe)


@pytest.mark.parametrize("work", REPEATABLE.values(), ids=REPEATABLE)
async def test_what_is_simply_done_again_does_not_wait(unsafe: Bench, work: Work) -> None:
    await work(unsafe)


async def test_one_not_confirmed_is_kept_and_its_resend_can_be_confirmed(
    unsafe: Bench,
) -> None:
    with pytest.raises(NotDurable):
        await unsafe.deliver(notification())
    assert len(await unsafe.inbox()) == 1
    unsafe.worker.store.confirm = Confirm(("WAIT", 0, 1), 0)
    assert await unsafe.deliver(notification()) == "duplicate"
    assert len(await unsafe.inbox()) == 1
