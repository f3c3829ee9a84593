"""What happens to two deployments, and what Prometheus scrapes meanwhile.

The first is well; then it is given every kind of payment that ails and every kind of message that
is wrong; then it loses Redis; then it ends. The second is sick from the start: bugs are planted.
What would take hours is written into Redis as if it had begun hours ago.
"""

import asyncio
import json
import resource
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from jobs.model import Aftercare, CancelState, Cause, Money, OnTimeout, Payment, Status
from jobs.schedule import DAY, HOUR, MINUTE, SECOND
from tests.alerting.deployment import KEYS, SHOP, UP, Deployment, deployed
from tests.alerting.promtool import Scrape
from tests.keys import CLIENT_ID
from tests.servers import (
    Asked,
    Process,
    inquired,
    notification,
    now_ms,
    paid,
    put,
    scripted_gateway,
    signed_answer,
    wait_until,
)
from worker.commands import GROUP
from worker.deliveries import Delivery, callback_lane, write
from worker.http_server import MAX_CONNECTIONS
from worker.store import write_mail

Scenes = Mapping[str, Sequence[Scrape]]
LAG = f'reconciler_outcome_lag_seconds{{group="{SHOP}"}}'
MEMORY = "reconciler_redis_memory_used_ratio"
CANARY = "2026-01-01T00:00:00+00:00"
MISSES = 20  #: by default CANCEL_BRAKE is on from here


@dataclass(frozen=True, slots=True)
class Played:
    scenes: Scenes  #: what was scraped, by the name of the scene
    events: frozenset[str]  #: the names of all that was logged


async def play(folder: Path) -> Played:
    """Both, at the same time."""
    async with scripted_gateway() as gateway:
        gateway.answer = answer
        with (
            deployed("well", folder, gateway.url) as first,
            deployed("sick", folder, gateway.url) as second,
        ):
            scenes, more = await asyncio.gather(
                asyncio.to_thread(play_first, first), asyncio.to_thread(play_second, second)
            )
            return Played({**scenes, **more}, first.events | second.events)


def play_first(at: Deployment) -> Scenes:
    at.redis.set(KEYS.canary, CANARY)
    at.redis.xadd(KEYS.outcomes, {"id": "a while ago"}, id=f"{now_ms() - 20 * MINUTE}-0")
    at.start("worker")
    at.start("receiver")
    hear_all(at)
    at.wait_until_shown("worker", LAG, lambda seconds: seconds == 0)
    scenes = {"fresh": at.scrape()}
    be_well(at)
    have_small_troubles(at)
    scenes["well"] = at.scrape()
    track(at, "hangs-unheard")
    at.redis.xgroup_setid(KEYS.outcomes, SHOP, "0")
    misuse(at)
    spoil_keys(at)
    have_ailing_payments(at)
    lose_redis(at)
    run_out_of_files(at)
    be_crowded(at)
    freeze(at.processes["receiver"])
    at.wait_for("process.stalled", "payment.stuck", "account.unknown", "command.dead")
    at.wait_for("record.missing", "record.unreadable", "delivery.failed", "delivery.dead")
    fill_redis(at)
    scenes["ill"] = at.scrape()
    at.server.stop()
    at.post(*[notification(paid(f"told-{n}")).wire() for n in range(6)])
    at.wait_for("worker.redis_waiting", "receiver.store_down")
    for kind in at.admin:
        at.wait_until_shown(kind, UP, lambda up: up == 0)
    scenes["cut off"] = at.scrape()
    at.processes["receiver"].signal(signal.SIGTERM)
    at.processes["receiver"].ended()
    at.processes["worker"].close()
    scenes["dead"] = at.scrape()
    return scenes


def play_second(at: Deployment) -> Scenes:
    redis, now, key = at.redis, now_ms(), f"{CLIENT_ID}:never-1"
    redis.zadd(KEYS.parked, {key: now - 73 * HOUR})
    redis.rpush(KEYS.inbox(key), write_mail(now - 73 * HOUR, str(now), b"{}"))
    redis.set(KEYS.swept, now - 10 * MINUTE)
    redis.xadd(KEYS.outcomes, {"id": "of yesterday"}, id=f"{now - 25 * HOUR}-0")
    redis.xgroup_create(KEYS.commands, GROUP, "0", mkstream=True)
    redis.xadd(KEYS.commands, {"type": "payment.track", "data": "{}"})
    give(at, payment("told-1", next_at=now + HOUR))
    at.start("worker")
    at.start("receiver")
    at.post(notification(paid("told-1")).wire())
    at.wait_for("store.empty", "notification.never_tracked", "job.failed", "commands.failed")
    at.wait_for("sweep.failed", "sweep.stalled", "sweep.missing")
    scenes = {"sick": at.scrape()}
    for start in ("second start", "third start", "fourth start"):
        at.processes["receiver"].close()
        at.start("receiver")
        scenes[start] = at.scrape()
    return scenes


# The gateway


async def answer(asked: Asked) -> web.StreamResponse:
    """By the first word of the payment's name."""
    name = json.loads(asked.body)["paymentRequestId"]
    match name.partition("-")[0]:
        case "paid":
            return signed_answer(asked.path, inquired(name, "SUCCESS"))
        case "open":
            return signed_answer(asked.path, inquired(name, "PROCESSING"))
        case "gone" if asked.path.endswith("/inquiryPayment"):
            result = {"resultCode": "ORDER_NOT_EXIST", "resultStatus": "F", "resultMessage": ""}
            return signed_answer(asked.path, {"result": result})
        case _:
            await asyncio.sleep(60)
            raise AssertionError("nobody waits so long")


# What goes well


def track(at: Deployment, *names: str) -> None:
    for name in names:
        data = {"paymentRequestId": name, "paymentAmount": {"currency": "USD", "value": "599"}}
        at.redis.xadd(KEYS.commands, {"type": "payment.track", "data": json.dumps(data)})
    wait_until(lambda: at.redis.exists(*[KEYS.payment(f"{CLIENT_ID}:{n}") for n in names]))


def be_well(at: Deployment) -> None:
    """One payment is told of by a notification, others are found by asking; the shop hears it."""
    track(at, "told-1", *(f"paid-{n}" for n in range(12)))
    at.post(notification(paid("told-1")).wire())
    wait_until(lambda: len(at.processes["worker"].find("payment.final")) == 13)
    hear_all(at)


def hear_all(at: Deployment) -> None:
    for entry, _ in at.redis.xreadgroup(SHOP, "one", {KEYS.outcomes: ">"})[0][1]:
        at.redis.xack(KEYS.outcomes, SHOP, entry)


def have_small_troubles(at: Deployment) -> None:
    """Of what alerts: too little. An inquiry is not answered, strangers knock, Redis is full for a
    moment and then not nearly, and a command waits for the payment that it is about."""
    track(at, "hangs-once")
    at.wait_for("inquiry.unanswered")
    give(at, payment("hangs-once", next_at=now_ms() + HOUR))
    at.post(*[notification(paid("told-1"), key="attacker").wire()] * 25)
    at.post(*[notification(paid("told-1")).wire()] * 40)
    at.redis.config_set("maxmemory", 1)
    at.post(*[notification(paid("told-2")).wire()] * 2)
    at.redis.config_set("maxmemory", 20_000_000 + at.redis.info("memory")["used_memory"])
    early = {"type": "payment.recheck", "data": json.dumps({"paymentRequestId": "hangs-unheard"})}
    at.redis.xadd(KEYS.commands, early)
    at.wait_for("receiver.store_down")
    at.wait_until_shown("worker", "reconciler_commands_waiting", lambda count: count == 1)


# What goes wrong


def misuse(at: Deployment) -> None:
    """Messages that are forged, encrypted, or not understood; a command that is none."""
    unusable = {"notifyType": "PAYMENT_RESULT", "paymentRequestId": "told-1"}
    at.post(
        *[notification(paid("told-1"), key="attacker").wire()] * 50,
        notification(paid("told-1")).also("Encrypt", "symmetricKey=abc").wire(),
        notification(unusable).wire(),
    )
    at.redis.xadd(KEYS.commands, {"type": "payment.track", "data": "no JSON"})
    be_owed(at, "refused", write(callback("refused", tries=6)))
    be_owed(at, "damaged", "no JSON")


def callback(name: str, tries: int) -> Delivery:
    """Of two hours ago; nobody allows its host any more."""
    at, url = now_ms() - 2 * HOUR, "https://shop.example/paid"
    return Delivery(id=name, at=at, about=name, body=b"{}", tries=tries, url=url)


def be_owed(at: Deployment, name: str, entry: str) -> None:
    lane = callback_lane(f"{CLIENT_ID}:{name}")
    at.redis.rpush(KEYS.delivery(lane), entry)
    at.redis.zadd(KEYS.deliveries, {lane: 0})


def spoil_keys(at: Deployment) -> None:
    at.keys.write_text("no key")
    at.wait_for("accounts.refused")


def payment(name: str, **known: Any) -> Payment:
    """One that nobody has taken up for a hundred seconds."""
    now = now_ms()
    facts: dict[str, Any] = {
        "client_id": CLIENT_ID,
        "payment_request_id": name,
        "amount": Money("USD", 599),
        "tracked_at": now - HOUR,
        "closing_time": now + HOUR,
        "next_at": now - 100 * SECOND,
    }
    return Payment(**facts | known)


def give(at: Deployment, *payments: Payment) -> None:
    with at.redis.pipeline() as pipe:
        for each in payments:
            put(pipe, KEYS, each)
        pipe.execute()


def have_ailing_payments(at: Deployment) -> None:
    """Those that are found come first, as any that is found lets go of the cancel brake."""
    give(at, *found_by_asking())
    wait_until(lambda: len(at.processes["worker"].find("payment.alarmed")) == 2)
    wait_until(lambda: len(at.processes["worker"].find("payment.final")) == 25)
    give(at, *never_found(), *never_answered())
    wait_until(lambda: int(at.redis.hget(KEYS.brake, CLIENT_ID) or 0) == MISSES)
    give(at, payment("other-1", client_id="SOMEBODY_ELSE"), payment("newer-1"))
    at.redis.hset(KEYS.payment(f"{CLIENT_ID}:newer-1"), "schema", "99")
    at.redis.zadd(KEYS.open, {f"{CLIENT_ID}:deleted-1": now_ms()})


def found_by_asking() -> list[Payment]:
    """Twelve are paid; one may not be cancelled at its end; one is paid after its end."""
    now = now_ms()
    report = {"on_timeout": OnTimeout.REPORT, "found": True}
    ended = {"status": Status.CANCELLED, "final_at": now - MINUTE, "aftercare": Aftercare.WATCHING}
    return [
        *(payment(f"paid-{n}") for n in range(20, 32)),
        payment("open-1", closing_time=now - MINUTE, **report),
        payment("paid-late", **ended, **report),
    ]


def never_found() -> list[Payment]:
    return [payment(f"gone-{n}", closing_time=now_ms() - MINUTE) for n in range(MISSES)]


def never_answered() -> list[Payment]:
    """Before the cancel, in the middle of it, and one that a bank confirms for nine days."""
    now = now_ms()
    cancelling = {
        "status": Status.CANCELLING,
        "cause": Cause.TIMED_OUT,
        "cancel_state": CancelState.OPEN,
        "first_cancel_at": now - 3 * HOUR,
        "last_cancel_at": now - MINUTE,
    }
    bank = {"confirming_since": now - 9 * DAY, "next_at": now + HOUR}
    return [
        *(payment(f"hangs-{n}", closing_time=now - 11 * MINUTE) for n in range(30)),
        payment("hangs-cancelling", tracked_at=now - 3 * HOUR, **cancelling),
        payment("hangs-bank", tracked_at=now - 9 * DAY, **bank),
    ]


def lose_redis(at: Deployment) -> None:
    at.redis.config_set("maxmemory-policy", "allkeys-lru")
    at.redis.delete(KEYS.canary)
    at.wait_for("probe.alarmed", "store.lost")
    at.redis.config_set("maxmemory-policy", "noeviction")
    at.redis.set(KEYS.canary, CANARY)  # or it is told again when a worker connects anew


def fill_redis(at: Deployment) -> None:
    """Mostly with ballast: what connections and buffers take, 2 to 5 MB, comes and goes."""
    at.redis.config_set("maxmemory", 0)
    at.redis.set("ballast", b"x" * 20_000_000)
    at.redis.config_set("maxmemory", 27_000_000)
    for kind in at.admin:
        at.wait_until_shown(kind, MEMORY, lambda share: 0.8 < share < 1)
    at.wait_for("redis.nearly_full")


def run_out_of_files(at: Deployment) -> None:
    running = at.processes["receiver"]
    allowed = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
    open_now = len(list(Path(f"/proc/{running.pid}/fd").iterdir()))
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (open_now + 10, allowed[1]))
    with at.connections(40):
        running.wait_for("process.out_of_files")
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, allowed)


def be_crowded(at: Deployment) -> None:
    with at.connections(MAX_CONNECTIONS + 5):
        at.processes["receiver"].wait_for("receiver.crowded")


def freeze(running: Process) -> None:
    running.signal(signal.SIGSTOP)
    time.sleep(4.5)
    running.signal(signal.SIGCONT)
