"""Every payment held against the gateway's ledger, what the merchant read, and the records."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.model import FINAL
from tests.chaos.endpoint import Call
from tests.chaos.merchant import Seen, Wish
from tests.chaos.world import CLIENT_ID, GRACE_SECONDS, World
from tests.log_events import check_facts
from worker import deliveries
from worker.commands import GROUP
from worker.mock_gateway import Truth, agrees
from worker.story import tell

ENDS = frozenset(status.value for status in FINAL)
SLACK = 50  #: ms between two clocks of one machine that count in whole ms
FULL_TIMELINE = 200  #: entries; older ones are gone
#: Errors that are logged when all is well: a person is to look, or a library was interrupted (redis
#: warns of a pipeline that was under way when its worker was told to end).
EXPECTED_ERRORS = frozenset({"payment.alarmed", "library.logged"})
EXPECTED_FAILURES = frozenset({"delivery.failed"})  #: the endpoint's or a wire's, and tried again


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must never be: lost, wrong, doubled, or broken (a process, not a payment)."""

    kind: str
    about: str
    what: str


@dataclass(slots=True)
class Kept:
    """What Redis holds of one payment."""

    record: Mapping[str, str]
    timeline: Sequence[Mapping[str, Any]]
    inbox: Sequence[str]
    heard: frozenset[str]
    to_call: frozenset[str] = frozenset()  #: ids of events that wait to be sent to the endpoint


@dataclass(slots=True)
class Facts:
    """All that is known at the end."""

    wishes: Mapping[str, Wish]
    seen: Mapping[str, Sequence[Seen]]  #: by payment, in the order they were first read
    kept: Mapping[str, Kept]
    truths: Mapping[str, Truth]
    journal: Mapping[str, Sequence[Mapping[str, Any]]]  #: by payment, from the gateway
    quarantined: Counter[str] = field(default_factory=Counter)
    parked: frozenset[str] = frozenset()
    called: Mapping[str, Sequence[Call]] = field(default_factory=dict)  #: as they came, by payment
    published: Counter[str] = field(default_factory=Counter)  #: entries in the stream, by event id
    elsewhere: list[Finding] = field(default_factory=list)

    def moments(self, id_: str, what: str) -> list[int]:
        return [m["at"] for m in self.journal.get(id_, ()) if m["what"] == what]


def judge(facts: Facts) -> list[Finding]:
    """Everything that is not as promised."""
    found = list(facts.elsewhere)
    for id_, wish in facts.wishes.items():
        for check in _CHECKS:
            found += [Finding(kind, id_, what) for kind, what in check(facts, wish)]
    return found


Findings = Iterator[tuple[str, str]]


def _ended(facts: Facts, wish: Wish) -> Findings:
    """tracked = final + unresolved + forgotten"""
    kept = facts.kept.get(wish.id)
    if kept is None or not kept.record:
        if wish.tracked and wish.forget_at is None:
            yield "lost", "tracked, and there is no record"
        return
    status, names = kept.record["status"], {seen.name for seen in facts.seen.get(wish.id, ())}
    if status in ENDS and status not in names:
        yield "lost", f"{status}, and the merchant was not told"
    if status == "unresolved" and not any(name.startswith("unresolved") for name in names):
        yield "lost", "unresolved, and the merchant was not told"
    if status not in ENDS and status != "unresolved":
        yield "lost", f"still {status}"


def _told_once(facts: Facts, wish: Wish) -> Findings:
    """One final outcome; `seq` rises."""
    seen = facts.seen.get(wish.id, ())
    finals = [event.name for event in seen if event.name in ENDS]
    if len(finals) > 1 and wish.forget_at is None:
        yield "doubled", f"told {' and '.join(finals)}"
    seqs = [event.seq for event in seen if event.type != "command.rejected"]
    if any(later <= earlier for earlier, later in zip(seqs, seqs[1:], strict=False)):
        yield "doubled", f"seq does not rise: {seqs}"
    for event in seen:
        if event.name in ENDS and event.status != event.name:
            yield "wrong", f"the event {event.name} says {event.status}"


def _true(facts: Facts, wish: Wish) -> Findings:
    """succeeded if and only if paid and not returned; failed and cancelled: no money taken."""
    kept, truth = facts.kept.get(wish.id), facts.truths.get(wish.id)
    if kept is None or not kept.record:
        return
    record, status = kept.record, kept.record["status"]
    truth = truth or Truth(payment_request_id=wish.id)
    open_attention = record.get("aftercare") in ("cancelling", "refund_required")
    if not agrees(status, truth) and status in ENDS and not open_attention:
        yield "wrong", f"{status}, the gateway has {truth.status}, {truth.kept} taken"
    expected = wish.report or wish.conflict or truth.expects == "unresolved"
    if status == "unresolved" and not expected:
        yield "wrong", f"unresolved ({record.get('reason')}), the gateway has {truth.status}"
    if truth.forgeries_acked:
        yield "wrong", "a forged notification was acknowledged"


def _acknowledged(facts: Facts, wish: Wish) -> Findings:
    """No ack without a durable event: each one was applied, or lies somewhere."""
    digests = {m["detail"] for m in facts.journal.get(wish.id, ()) if m["what"] == "acknowledged"}
    kept = facts.kept.get(wish.id)
    if not digests or kept is None:
        return
    if gone := digests - kept.heard:
        yield "lost", f"{len(gone)} acknowledged notifications are not there"
    applied = sum(
        line.get("count", 1) for line in kept.timeline if line["source"] == "notification"
    )
    lying = len(kept.inbox) + facts.quarantined[wish.id]
    full = len(kept.timeline) >= FULL_TIMELINE or wish.forget_at is not None
    if applied + lying < len(digests) and not full:
        yield "lost", f"{len(digests)} notifications acknowledged, {applied} applied, {lying} kept"
    if wish.tracked and wish.forget_at is None and (kept.inbox or wish.id in facts.parked):
        yield "lost", "acknowledged notifications are not applied"


def _carried_out(facts: Facts, wish: Wish) -> Findings:
    """Every command that was confirmed stands in the timeline, or was rejected."""
    kept = facts.kept.get(wish.id)
    if kept is None or wish.forget_at is not None or len(kept.timeline) >= FULL_TIMELINE:
        return
    done = Counter[str]()
    for line in kept.timeline:
        if line["source"] == "command":
            done[line["what"]] += line.get("count", 1)
    for type_, confirmed in wish.confirmed.items():
        if done[type_] < confirmed:
            yield "lost", f"{confirmed} {type_} confirmed, {done[type_]} carried out"


def _cancelled_rightly(facts: Facts, wish: Wish) -> Findings:
    """Seen from the gateway: when did which cancel arrive?"""
    cancels = facts.moments(wish.id, "cancel")
    if not cancels:
        return
    if wish.report:
        yield "wrong", "a cancel in report mode"
    told = [seen.at for seen in facts.seen.get(wish.id, ()) if seen.name == "succeeded"]
    if told and cancels[-1] > told[0]:
        yield "wrong", f"a cancel {cancels[-1] - told[0]} ms after succeeded was told"
    first, failed = cancels[0], facts.moments(wish.id, "failed")
    failed = failed or facts.moments(wish.id, "refused")
    if (wish.cancel_at and wish.cancel_at <= first) or (failed and failed[0] <= first):
        return
    if first < wish.closing - SLACK:
        yield "wrong", f"a cancel {wish.closing - first} ms before closing time, nobody asked for"
    asked = [at for at in facts.moments(wish.id, "inquiry") if wish.closing - SLACK <= at <= first]
    if not asked and first < wish.closing + 1000 * GRACE_SECONDS - SLACK:
        yield "wrong", "a cancel without a last inquiry"


def _paid_once(facts: Facts, wish: Wish) -> Findings:
    """One request to pay for one id, however often it is sent; the buyer's address told once."""
    pays = [m["detail"] for m in facts.journal.get(wish.id, ()) if m["what"] == "pay"]
    if pays and not wish.submitted:
        yield "wrong", "it was only to be followed, and was paid for"
    if len(set(pays)) > 1:
        yield "doubled", f"{len(set(pays))} different requests to pay"
    for event in facts.seen.get(wish.id, ()):
        if event.type == "payment.submitted":
            if not pays:
                yield "wrong", "told as submitted, and the gateway was never asked"
            if event.data["paymentId"] not in event.data["redirectUrl"]:
                yield "wrong", "the buyer is sent to the cashier of another order"
            if (times := facts.published[event.id]) > wish.tries:
                yield "doubled", f"{event.id} is told {times} times after {wish.tries} commands"


def _called_back(facts: Facts, wish: Wish) -> Findings:
    """Every event reaches the endpoint or waits to, and they come in order."""
    calls, kept = facts.called.get(wish.id, ()), facts.kept.get(wish.id)
    if not wish.callback and calls:
        yield "wrong", "a callback that nobody asked for"
    first = {call.id: call for call in reversed(calls)}  # as it first came
    seqs = [call.seq for call in calls if first[call.id] is call]
    if seqs != sorted(seqs):
        yield "wrong", f"callbacks came in the order {seqs}"
    for call in calls:
        if call.status != first[call.id].status:
            yield "wrong", f"{call.id} was called back as {first[call.id].status} and {call.status}"
    told = {e.id for e in facts.seen.get(wish.id, ()) if e.type != "command.rejected"}
    if unknown := first.keys() - facts.published.keys() - told:
        yield "wrong", f"called back and not in the stream: {sorted(unknown)}"
    waits = kept.to_call if kept else frozenset()
    if wish.callback and (gone := told - first.keys() - waits):
        yield "lost", f"neither called back nor waiting: {sorted(gone)}"


_CHECKS: Sequence[Callable[[Facts, Wish], Findings]] = (
    _ended,
    _told_once,
    _true,
    _acknowledged,
    _carried_out,
    _cancelled_rightly,
    _paid_once,
    _called_back,
)


# What there is to know


async def gather(world: World) -> Facts:
    """Read everything, past all wires."""
    redis, keys, merchant = world.admin, world.merchant.keys, world.merchant
    # The gateway first: what it got acknowledged by now must be in Redis later.
    journal, ledger = await _get(world, "journal"), await _get(world, "ledger")
    facts = Facts(
        wishes=merchant.wishes,
        seen=_by(merchant.seen.values(), lambda seen: seen.payment),
        kept=await _kept(world),
        truths={row["paymentRequestId"]: Truth.from_json(row) for row in ledger},
        journal=_by(journal, lambda moment: moment["paymentRequestId"]),
        parked=frozenset(key.partition(":")[2] for key in await redis.zrange(keys.parked, 0, -1)),
    )
    for _, fields in await redis.xrange(keys.quarantine):
        facts.quarantined[fields["paymentRequestId"]] += 1
    # After the records with what waits: what is in neither was never sent.
    facts.called = _by(world.endpoint.calls, lambda call: call.payment)
    for _, fields in await redis.xrange(keys.outcomes):
        facts.published[fields["id"]] += 1
    facts.elsewhere += [Finding("wrong", "", f"callback {w}") for w in world.endpoint.disbelieved]
    facts.elsewhere += await _left_in_streams(world)
    facts.elsewhere += [Finding("doubled", "", what) for what in merchant.contradicted]
    return facts


async def _kept(world: World) -> dict[str, Kept]:
    keys, ids = world.merchant.keys, list(world.merchant.wishes)
    async with world.admin.pipeline(transaction=False) as pipe:
        for id_ in ids:
            key = f"{CLIENT_ID}:{id_}"
            pipe.hgetall(keys.payment(key))
            pipe.lrange(keys.timeline(key), 0, -1)
            pipe.lrange(keys.inbox(key), 0, -1)
            pipe.smembers(keys.heard(key))
            pipe.lrange(keys.delivery(deliveries.callback_lane(key)), 0, -1)
        found = iter(await pipe.execute())
    return {
        id_: Kept(
            record=next(found),
            timeline=[json.loads(line) for line in next(found)],
            inbox=next(found),
            heard=frozenset(next(found)),
            to_call=frozenset(deliveries.read(entry).id for entry in next(found)),
        )
        for id_ in ids
    }


async def _get(world: World, what: str) -> list[dict[str, Any]]:
    async with world.gateway.get(f"/mock/{what}") as reply:
        rows: list[dict[str, Any]] = await reply.json()
        return rows


def _by(rows: Any, name: Callable[[Any], str]) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for row in rows:
        found[name(row)].append(row)
    return dict(found)


async def _left_in_streams(world: World) -> list[Finding]:
    """Commands that nobody took up, outcomes that the merchant never read."""
    redis, keys = world.admin, world.merchant.keys
    found = []
    (group,) = [g for g in await redis.xinfo_groups(keys.commands) if g["name"] == GROUP]
    last = _number(group["last-delivered-id"])
    beyond = [entry for entry, _ in world.merchant.commands if _number(entry) > last]
    if group["pending"] or beyond:
        what = f"{group['pending']} commands not acknowledged, {len(beyond)} not delivered"
        found.append(Finding("lost", "", what))
    unread = {f["id"] for _, f in await redis.xrange(keys.outcomes)} - set(world.merchant.seen)
    if unread:
        found.append(Finding("lost", "", f"{len(unread)} outcomes not read"))
    if dead := await redis.xlen(keys.dead):
        found.append(Finding("wrong", "", f"{dead} commands in the dead stream"))
    return found


def _number(entry_id: str) -> tuple[int, int]:
    ms, _, n = entry_id.partition("-")
    return int(ms), int(n)


# What the processes said


def faults_in_logs(folder: Path) -> list[Finding]:
    """Lines that no run may bring forth, of the receiver and the workers."""
    found = []
    for log in sorted([*folder.glob("receiver.*.log"), *folder.glob("worker-*.log")]):
        whole = log.read_text(errors="replace").rpartition("\n")[0]  # the last may be torn
        for line in whole.splitlines():
            if what := _fault_in(line):
                found.append(Finding("broken", log.name, what))
    return found


def _fault_in(line: str) -> str:
    try:
        said = json.loads(line)
        check_facts(said)
    except ValueError as fault:
        return f"{fault}: {line[:200]}"
    event = said.get("event", "")
    failed = event.endswith(".failed") and event not in EXPECTED_FAILURES
    odd = failed or event in ("log.unregistered", "record.unreadable")
    bad = said.get("level") in ("error", "critical") and event not in EXPECTED_ERRORS
    return line[:2000] if odd or bad or "Traceback" in line else ""


def told(facts: Facts, id_: str) -> str:
    """A payment's whole story, for a person."""
    kept, truth = facts.kept.get(id_), facts.truths.get(id_)
    lines = [f"--- {id_}", f"gateway: {truth.to_json() if truth else 'no order'}"]
    lines += [f"gateway: {m['at']} {m['what']}" for m in facts.journal.get(id_, ())]
    lines += [f"told: {s.at} {s.id} seq {s.seq} {s.status}" for s in facts.seen.get(id_, ())]
    lines.append(f"wish: {facts.wishes.get(id_)}")
    if kept:
        lines.append(
            tell({"payment": kept.record, "timeline": kept.timeline}, round(time.time() * 1000))
        )
    return "\n".join(lines)
