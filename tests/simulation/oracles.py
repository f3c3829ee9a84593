"""What must be true, looked at from outside: in each step that writes, at each cancel, at the end.

The oracle knows the gateway's ledger, the simulated disk and what the merchant asked for; the
product knows none of them.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from jobs.model import Ms
from jobs.stuck import STUCK_AFTER
from tests.simulation.gateway import Order
from tests.simulation.redis import Hash, Line, Members, Stream

if TYPE_CHECKING:
    from tests.simulation.world import World

FINAL = ("succeeded", "failed", "cancelled", "forgotten")
#: Redis' clock may be wrong by this much in a run; a start-up probe refuses more than a minute.
CLOCK_SLACK: Ms = 30_000
#: How long a request may be on its way (`wire.LATEST`), and the call that sends it.
UNDER_WAY: Ms = 60_000
#: At most so much of a grace is spent by one try: the longest wait before it, and that for its
#: answer (`jobs.schedule.RETRY_MOST`, moved by jitter).
ONE_TRY: Ms = 92_000
#: A round of the watch, and what it takes to say it.
STUCK_SLACK: Ms = 180_000

#: Rare states that a campaign must have seen.
RARE = (
    "orphan_parked_then_tracked",
    "cancel_stopped_by_mail",
    "lease_stolen",
    "save_fenced",
    "blind_cancel",
    "paid_after_cancel",
    "paid_after_failure",
    "refund_required",
    "refund_confirmed",
    "brake",
    "late_success",
    "unresolved_that_ended",
    "duplicate_wake_up",
    "power_cut_between_write_and_ack",
    "power_cut_forgot_writes",
    "not_durable",
    "script_reloaded",
    "frozen_longer_than_lease",
    "crash_with_a_claim",
    "crash_with_a_cancel_open",
    "sweep_woke_a_payment",
    "duplicate_notification",
    "late_request_executed",
    "cancel_refused",
    "cancel_repeated",
    "refunded_to_the_buyer",
    "contradiction",
    "confirming",
    "amount_mismatch",
    "not_found_closed",
    "command_rejected",
    "erased_and_tracked_again",
    "forged_refused",
    "stale_answer",
    "command_redelivered",
    "odd_acknowledged",
    "reversed_after_success",
    "report_mode_switched_on_with_a_cancel_open",
    "told_of_as_stuck",
    "unparked",
    "submitted",
    "pay_repeated",
    "pay_refused",
    "failed_by_pay",
    "order_found_after_a_refusal",
    "crash_with_a_pay_open",
    "breaker_opened",
    "breaker_closed",
    "gateway_slowed",
)


class Violation(AssertionError):
    """Something that must never be."""


@dataclass(slots=True)
class Wish:
    """What the merchant durably asked for, of one payment."""

    amount: int
    closing: Ms
    report: bool
    tracked: bool = False
    cancel: bool = False  #: asked for, whether or not carried out
    forget: bool = False
    submit: bool = False  #: the worker is to make the order itself
    conflict: bool = False  #: tracked with two amounts: whichever came first stands


@dataclass(slots=True)
class Told:
    """One event of a payment, as the merchant reads it."""

    key: str
    type: str
    name: str
    seq: int
    generation: int
    data: Mapping[str, Any] = field(default_factory=dict)


class Oracle:
    """Looks on; `fail` ends the run."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.reached: Counter[str] = Counter()
        self.told: list[Told] = []
        self.wishes: dict[str, Wish] = {}
        self.acked: dict[str, str] = {}  #: mail by digest: its payment
        self.erasures: list[str] = []
        self.stuck: set[str] = set()  #: payments that the log told of as stuck
        self.holders: dict[str, str] = {}
        self.pays: dict[str, bytes] = {}  #: by payment: the one request that pays for it
        self.last_inquiries: Counter[str] = Counter()  #: that left, answered or not
        self.violation: Violation | None = None

    def fail(self, rule: str, about: str) -> None:
        if self.violation is None:
            self.violation = Violation(f"{rule}: {about}")
            self.world.say("VIOLATION", rule, about)
            self.world.loop.stop()

    def require(self, true: bool, rule: str, about: str) -> None:
        if not true:
            self.fail(rule, about)

    # Inside a step that writes

    def claimed(self, key: str) -> None:
        caller = self.world.server.caller
        if self.holders.get(key, caller) != caller:
            self.reached["lease_stolen"] += 1
        self.holders[key] = caller

    def refused(self, write: Mapping[str, Any], why: str) -> None:
        self.world.say("refused", write["id"], why)
        if why == "mail":
            self.reached["cancel_stopped_by_mail"] += 1
        elif why == "version":
            self.reached["save_fenced"] += 1

    def saved(
        self, before: Mapping[str, str] | None, write: Mapping[str, Any], version: int
    ) -> None:
        key = write["id"]
        after = dict(zip(write["fields"][::2], write["fields"][1::2], strict=True))
        after["version"] = str(version)
        status = after["status"]
        self.world.say("saved", key, status, after.get("cancelState", "none"), after["version"])
        if before is None:
            self._created(key)
            return
        self._only_forward(key, before, after)
        self._told_of_if_stuck(key, before)
        if int(after.get("cancelAttempts", 0)) > int(before.get("cancelAttempts", 0)):
            self._right_to_cancel(key, after, write["heard"])
        if int(after.get("payAttempts", 0)) > int(before.get("payAttempts", 0)):
            self._right_to_pay(key, after)
        self._count(before, after)

    def _created(self, key: str) -> None:
        server, keys = self.world.server, self.world.keys
        if server.zscore(keys.parked, key) is not None:
            self.reached["orphan_parked_then_tracked"] += 1
        if key in self.erasures:
            self.reached["erased_and_tracked_again"] += 1

    def _only_forward(self, key: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """A record never goes back: whoever writes has seen what was written before."""
        old, new = before["status"], after["status"]
        if old in FINAL:
            self.require(new == old, "a final status stays", f"{key}: {old} became {new}")
        self.require(
            int(after["version"]) > int(before["version"]),
            "versions rise",
            f"{key}: {before['version']} became {after['version']}",
        )
        for name in ("seq", "cancelAttempts", "attempts"):
            was, is_ = int(before.get(name, 0)), int(after.get(name, 0))
            self.require(is_ >= was, "nothing written is lost", f"{key}: {name} {was} became {is_}")
        was_told, is_told = _list(before.get("told")), _list(after.get("told"))
        self.require(
            is_told[: len(was_told)] == was_told,
            "nothing written is lost",
            f"{key}: told {was_told} became {is_told}",
        )

    def _told_of_if_stuck(self, key: str, before: Mapping[str, str]) -> None:
        """With all processes well, nothing is open long after its time without a line about it."""
        world, long_ago = self.world, self.world.loop.now - STUCK_AFTER - STUCK_SLACK
        if before["status"] not in ("pending", "cancelling") or world.loop.now < world.calm_at:
            return
        if max(int(before["closingTime"]), world.calm_at) < long_ago:
            self.require(key in self.stuck, "what is stuck is told of", key)

    def told_of_stuck(self, key: str) -> None:
        self.reached["told_of_as_stuck"] += key not in self.stuck
        self.stuck.add(key)

    def _right_to_cancel(self, key: str, after: Mapping[str, str], heard: int) -> None:
        """I4: never with a verified success recorded first."""
        status = after["status"]
        allowed = status == "cancelling" or (
            status in ("failed", "cancelled") and after.get("aftercare") == "cancelling"
        )
        self.require(allowed, "a cancel only when hope is given up", f"{key} is {status}")
        mail = self.world.server.lrange(self.world.keys.inbox(key))[heard:]
        self.require(
            not any("PAYMENT_RESULT" in entry for entry in mail),
            "no cancel with a result in the inbox",
            key,
        )
        if int(after["cancelAttempts"]) > 1:
            self.reached["cancel_repeated"] += 1

    def _right_to_pay(self, key: str, after: Mapping[str, str]) -> None:
        """A pay is written down, with its request, before it leaves; and only while it may help."""
        whole = after.get("submitState") == "open" and bool(after.get("payRequest"))
        about = f"{key} is {after['status']}"
        self.require(after["status"] == "pending" and whole, "a pay only while pending", about)
        self.reached["pay_repeated"] += int(after["payAttempts"]) > 1

    def _count(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Rare states that this save is an instance of."""
        marks, old, new = _list(after.get("marks")), before["status"], after["status"]
        changed = old != new
        states = {
            f"became_{new}": changed,
            "blind_cancel": "blind" in marks and "blind" not in _list(before.get("marks")),
            "unresolved_that_ended": changed and old == "unresolved" and new in FINAL,
            "late_success": changed and new == "succeeded" and "late" in marks,
            "refunded_to_the_buyer": changed and new == "cancelled" and "refunded" in marks,
            "not_found_closed": changed and new == "cancelled" and "not_found" in marks,
            "brake": changed and after.get("reason") == "brake",
            "cancel_refused": after.get("cancelState") == "refused" != before.get("cancelState"),
            "confirming": "confirmingSince" in after and "confirmingSince" not in before,
            "failed_by_pay": changed and (new, after.get("via")) == ("failed", "pay"),
            "pay_refused": after.get("submitState") == "refused" != before.get("submitState"),
            "order_found_after_a_refusal": (before.get("submitState"), after.get("submitState"))
            == ("refused", "created"),
        }
        self.reached.update(name for name, true in states.items() if true)

    def heard(self, key: str, mail: Sequence[str]) -> None:
        """A message was applied: noted in Redis itself, so that a power cut forgets that, too."""
        if mail:
            self.world.server.rpush(f"ghost:heard:{key}", *mail)

    def erased(self, key: str) -> None:
        self.erasures.append(key)
        self.world.server.rpush("ghost:erased", key)

    def published(self, fields: Mapping[str, str]) -> None:
        if fields.get("type") == "command.rejected":
            self.reached["command_rejected"] += 1
        if not fields.get("id") or "data" not in fields:
            return
        key = f"{fields['clientId']}:{fields['paymentRequestId']}"
        name = fields["id"].removeprefix(f"{key}:")
        data = json.loads(fields["data"])["data"]
        generation = self.world.server.lrange("ghost:erased").count(key)
        told = Told(key, fields["type"], name, data.get("seq", 0), generation, data)
        self.world.say("told", key, name)
        if told.type != "command.rejected":
            self._check_event(told)
        self.told.append(told)
        if told.type == "payment.attention":
            self.reached[data["kind"]] += 1

    def _check_event(self, told: Told) -> None:
        mine = [t for t in self.told if t.key == told.key and t.type != "command.rejected"]
        seqs = [t.seq for t in mine if t.generation == told.generation]
        self.require(not seqs or told.seq > seqs[-1], "seq rises", f"{told.key} {told.name}")
        if told.type == "payment.submitted":
            order = self.world.order(told.key)
            link = "" if order is None else f"https://cashier/{order.payment_id}"
            self.require(
                told.data["redirectUrl"] == link, "the buyer is sent to the order", told.key
            )
            self.reached["submitted"] += 1
        if told.name not in FINAL:
            return
        finals = {t.name for t in mine if t.name in FINAL and t.generation == told.generation}
        self.require(
            finals <= {told.name}, "one final outcome", f"{told.key}: {finals}, {told.name}"
        )
        order = self.world.order(told.key)
        if told.name == "succeeded":
            self.require(
                order is not None
                and order.taken > 0
                and str(order.amount) == told.data["paymentAmount"]["value"],
                "succeeded only if paid, the right amount",
                told.key,
            )
        if told.name in ("failed", "cancelled") and order is not None:
            marks = set(told.data["marks"]) & {"not_found", "cancel_unconfirmed"}
            self.require(order.ended or bool(marks), "what is told as ended has ended", told.key)

    # Power

    def power_cut(self) -> None:
        """What was not on the disk was never told."""
        stream = self.world.server.peek(self.world.keys.outcomes)
        del self.told[len(stream.entries) :]

    # Acknowledgements

    def ack(self, key: str, body: bytes, kept: str) -> None:
        """I3: at the moment of the ack the message is on the disk, whole."""
        server, keys, digest = self.world.server, self.world.keys, digest_of(body)
        if kept == "notification.quarantined":
            stream = server.on_disk(keys.quarantine)
            entries = stream.entries if isinstance(stream, Stream) else []
            bodies = [fields.get("body") for _, fields in entries]
            whole = body.decode() in bodies
            return self.require(whole, "no ack before the message is on the disk", f"{key} {kept}")
        heard = server.on_disk(keys.heard(key))
        known = isinstance(heard, Members) and digest in heard
        lying = server.on_disk(keys.inbox(key)), server.on_disk(f"ghost:heard:{key}")
        whole = any(isinstance(line, Line) and _holds(line, digest) for line in lying)
        whole = whole or _holds(_unparked(server.on_disk(keys.quarantine)), digest)
        self.require(known and whole, "no ack before the message is on the disk", f"{key} {kept}")
        self.acked[digest] = key
        return None

    # Cancels, seen from the gateway

    def cancel_arrives(self, client_id: str, request_id: str) -> None:
        key = f"{client_id}:{request_id}"
        wish, order, now = self.wishes.get(key), self.world.order(key), self.world.loop.now
        self.world.say("cancel arrives", key)
        if wish is None:
            return self.fail("no cancel for a stranger", key)
        generation = self.world.server.lrange("ghost:erased").count(key)
        told = [t.name for t in self.told if t.key == key and t.generation == generation]
        self.require("succeeded" not in told, "no cancel of what was told as succeeded", key)
        self.require(not wish.report, "no cancel in report mode", key)
        since = self.world.reporting_since
        under_way = since is None or now - since <= UNDER_WAY
        self.require(under_way, "no cancel after report mode was switched on", key)
        failed = order is not None and order.said_fail
        failed = failed or (client_id, request_id) in self.world.gateway.refused
        late = now >= wish.closing - CLOCK_SLACK
        self.require(wish.cancel or failed or late, "no cancel before closing time", key)
        if wish.cancel or failed or order is None:
            return None
        grace = self.world.policy.last_inquiry_grace
        last = self.world.gateway.asked_at.get((client_id, request_id), 0)
        asked = last >= wish.closing - (CLOCK_SLACK if self.world.injected["clock step"] else 0)
        spent = now >= wish.closing + grace - CLOCK_SLACK
        self.require(asked or spent, "one last inquiry before a timeout cancel", key)
        tried = self.last_inquiries[key] * ONE_TRY >= grace - CLOCK_SLACK
        self.require(asked or tried, "a grace is spent by tries that left", key)
        return None

    def inquiry_leaves(self, client_id: str, request_id: str) -> None:
        """Whatever becomes of it on its way."""
        key = f"{client_id}:{request_id}"
        wish = self.wishes.get(key)
        if wish is not None and self.world.loop.now >= wish.closing - CLOCK_SLACK:
            self.last_inquiries[key] += 1

    # Pays, seen from the gateway

    def pay_arrives(self, client_id: str, request_id: str, body: bytes) -> None:
        key = f"{client_id}:{request_id}"
        wish, now = self.wishes.get(key), self.world.loop.now
        self.world.say("pay arrives", key)
        if wish is None or not wish.submit:
            return self.fail("no pay for a stranger", key)
        first = self.pays.setdefault(key, body)
        self.require(body == first, "one payment is one request, byte for byte", key)
        since = self.world.reporting_since
        under_way = since is None or now - since <= UNDER_WAY
        self.require(under_way, "no pay after report mode was switched on", key)
        in_time = now < wish.closing + UNDER_WAY + CLOCK_SLACK
        self.require(in_time, "no pay after the closing time", key)
        return None

    def order_made(self, key: str) -> None:
        """Whoever was told that it ended without money would never look for this one."""
        if key in self.erasures or self.wishes[key].forget:
            return
        told = {t.name for t in self.told if t.key == key} & {"failed", "cancelled"}
        self.require(not told, "no order is made after its end was told", f"{key}: {told}")

    # The end

    def all_ended(self) -> None:
        """Liveness: some time after the last fault nothing is left open without a word."""
        server, keys = self.world.server, self.world.keys
        for key, wish in self.wishes.items():
            if not wish.tracked:
                continue
            record = server.live.get(keys.payment(key))
            if record is None:
                answered = wish.submit and self._rejected_in_report_mode(key)
                self.require(wish.forget or answered, "nothing tracked is lost", key)
                continue
            assert isinstance(record, Hash)
            status = record["status"]
            self.require(status in (*FINAL, "unresolved"), "everything ends", f"{key} is {status}")

    def _rejected_in_report_mode(self, key: str) -> bool:
        told = [t for t in self.told if t.key == key and t.type == "command.rejected"]
        return any(t.data["reason"] == "report_mode" for t in told)

    def at_the_end(self) -> None:
        self.all_ended()
        server, keys = self.world.server, self.world.keys
        for key, wish in self.wishes.items():
            record = server.live.get(keys.payment(key))
            if not wish.tracked or not isinstance(record, Hash):
                continue
            self._listed(key, record)
            self._agrees(key, record)
            self._told(key, record)
        self._mail_kept()

    def _listed(self, key: str, record: Mapping[str, str]) -> None:
        open_ = record["status"] not in FINAL or "nextInquiryAt" in record
        score = self.world.server.zscore(self.world.keys.open, key)
        self.require(
            not open_ or score is not None, "what has a next action is in the open set", key
        )

    def _agrees(self, key: str, record: Mapping[str, str]) -> None:
        order, status = self.world.order(key), record["status"]
        kept = order.kept if order else 0
        about = f"{key} is {status}, the gateway has {order.standing if order else 'no order'}"
        if status == "succeeded":
            attention = self._attention(key) & {"reversed_after_success", "partly_refunded"}
            known = bool(attention) or (order is not None and order.by_shop)
            self.require(kept > 0 or known, "succeeded is paid", about)
        if status in ("failed", "cancelled") and kept > 0:
            owed = record.get("aftercare") in ("cancelling", "refund_required", "watching")
            told = self._attention(key) & {"paid_after_cancel", "paid_after_failure"}
            other = "amount_mismatch" in self._attention(key)
            self.require(owed and bool(told) or other, "no money stays taken in silence", about)
        if status == "unresolved":
            self.reached["unresolved_at_the_end"] += 1
            definite = order is not None and order.standing in ("paid", "failed", "closed")
            amounts = order is not None and str(order.amount) == record["amount"]
            watched = self.world.loop.now - int(record.get("phaseSince", 0)) < 10 * 3_600_000
            self.require(
                not (definite and amounts) or watched or record.get("paidSeen") == "1",
                "what the gateway knows ends what is unresolved",
                f"{about}, {record.get('reason')}",
            )

    def _attention(self, key: str) -> set[str]:
        return {t.data["kind"] for t in self.told if t.key == key and "kind" in t.data}

    def _told(self, key: str, record: Mapping[str, str]) -> None:
        generation = self.world.server.lrange("ghost:erased").count(key)
        names = {
            t.name
            for t in self.told
            if t.key == key and t.name in FINAL and t.generation == generation
        }
        expected = {record["status"]} if record["status"] in FINAL else set()
        self.require(names == expected, "told what is written", f"{key}: {names}, {expected}")

    def _mail_kept(self) -> None:
        """I3, at the end: whatever was acknowledged was applied, or still lies there."""
        server, keys = self.world.server, self.world.keys
        for digest, key in self.acked.items():
            lying = server.lrange(keys.inbox(key)), server.lrange(f"ghost:heard:{key}")
            unparked = _unparked(server.live.get(keys.quarantine))
            kept = any(_holds(line, digest) for line in (*lying, unparked))
            self.require(kept, "no acknowledged message is lost", f"{key} {digest[:8]}")


def _unparked(quarantine: object) -> list[str]:
    """Mail of payments that were never tracked, as it lies in quarantine."""
    entries = quarantine.entries if isinstance(quarantine, Stream) else []
    return [fields["message"] for _, fields in entries if "message" in fields]


def _holds(line: Sequence[str], digest: str) -> bool:
    return any(digest_of(json.loads(entry)["body"].encode()) == digest for entry in line)


def digest_of(body: bytes) -> str:
    return sha256(body).hexdigest()


def _list(text: str | None) -> list[str]:
    value: list[str] = json.loads(text) if text else []
    return value


def order_of(orders: Mapping[tuple[str, str], Order], key: str) -> Order | None:
    client_id, _, request_id = key.partition(":")
    return orders.get((client_id, request_id))
