"""Each twin does what its script does: the same calls, the same answers, the same keys."""

import asyncio
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from jobs.limits import FIRST_REPEAT
from tests.simulation.redis import (
    TWINS,
    Hash,
    Line,
    Members,
    Server,
    Stream,
    Zset,
    run_script,
    stream_id,
)
from worker import connect
from worker.deliveries import Delivery, callback_lane, forward_lane, write
from worker.keys import Keys
from worker.scripts import Scripts

IDS = ("c:1", "d:1")  #: few, so that calls meet each other
Call = tuple[str, dict[str, Any]]


# Calls, as the store makes them. Times are relative: they are fixed when the call is made.

ids = st.sampled_from((IDS[0], IDS[0], IDS[0], IDS[1]))
moments = st.sampled_from([-100_000, -600, -400, 0, 5_000, 100_000])
texts = st.sampled_from(["a", "b", '"quoted" \\ and é'])
lines = st.fixed_dictionaries({"source": texts, "what": texts, "detail": texts})
receives = st.tuples(
    st.just("receive"),
    st.fixed_dictionaries(
        {
            "id": ids,
            "entry": texts,
            "digest": st.sampled_from("abcdefgh"),
            "parks": st.booleans(),
            "odd": st.booleans(),
            "forward": st.booleans(),
        }
    ),
)
urls = st.sampled_from(["https://a.example/x", "https://a.example/y?z", "https://b.example"])
saves = st.tuples(
    st.just("save"),
    st.fixed_dictionaries(
        {
            "id": ids,
            "expect": st.sampled_from(["new", "right", "right", "right", "stale"]),
            "schema": st.sampled_from([1, 1, 1, 2]),
            "at": st.one_of(moments, st.sampled_from(["", "never"])),
            "status": st.sampled_from(["pending", "pending", "cancelling", "succeeded"]),
            "closing": moments,
            "ttl": st.sampled_from([0, 0, 3_000_000]),
            "heard": st.sampled_from([0, 0, 1, 2]),
            "left": st.sampled_from([0, 0, 1]),
            "alone": st.booleans(),
            "entries": st.lists(lines, max_size=3),
            "events": st.lists(texts, max_size=2),
            "callbacks": st.lists(urls, max_size=2),
            "found": st.booleans(),
            "missed": st.booleans(),
            "brake": st.sampled_from([0, 0, 1, 2]),
        }
    ),
)
settles = st.tuples(
    st.just("settle"),
    st.fixed_dictionaries(
        {
            "lane": st.integers(0, 3),
            "fate": st.sampled_from(["delivered", "again", "dead", "gone"]),
            "stale": st.sampled_from([False, False, False, True]),
            "delay": moments,
        }
    ),
)
rates = st.sampled_from([0, 500, 100_000])
calls = st.one_of(
    receives,
    receives,
    saves,
    saves,
    saves,
    st.tuples(
        st.just("claim"),
        st.fixed_dictionaries({"id": ids, "lease": st.sampled_from(["", "15000"])}),
    ),
    st.tuples(st.just("load"), st.fixed_dictionaries({"id": ids})),
    st.tuples(st.just("append"), st.fixed_dictionaries({"text": texts})),
    st.tuples(st.just("erase"), st.fixed_dictionaries({"id": ids, "stale": st.booleans()})),
    st.tuples(
        st.just("overdue"),
        st.fixed_dictionaries({"offset": st.sampled_from([0, 0, 1]), "count": st.integers(1, 3)}),
    ),
    st.tuples(
        st.just("stuck"),
        st.fixed_dictionaries(
            {
                "after": st.sampled_from([0, 0, 50_000, 200_000]),
                "offset": st.sampled_from([0, 0, 1]),
                "count": st.integers(1, 3),
                "most": st.integers(0, 2),
            }
        ),
    ),
    st.tuples(st.just("told"), st.fixed_dictionaries({"id": ids})),
    st.tuples(
        st.just("census"),
        st.fixed_dictionaries(
            {"after": st.sampled_from([0, 50_000, 200_000]), "most": st.integers(0, 2)}
        ),
    ),
    st.tuples(
        st.just("hours"),
        st.fixed_dictionaries({"after": st.integers(0, 3), "count": st.integers(1, 3)}),
    ),
    st.tuples(st.just("take"), st.fixed_dictionaries({"most": st.integers(1, 3)})),
    st.tuples(
        st.just("finish"),
        st.fixed_dictionaries(
            {
                "id": ids,
                "stale": st.sampled_from([0, 0, 1]),
                "delay": st.sampled_from(["", "", "5000"]),
                "dies": st.booleans(),
            }
        ),
    ),
    st.tuples(
        st.just("collect"),
        st.fixed_dictionaries(
            {
                "most": st.integers(0, 3),
                "each": st.integers(1, 2),
                "look": st.integers(1, 3),
                "busy": st.sampled_from([0, 0, 1, 2]),
                "takes": st.sampled_from([0, 200, 15_000]),
            }
        ),
    ),
    settles,
    settles,
    st.tuples(st.just("waiting"), st.fixed_dictionaries({"most": st.integers(1, 2)})),
    st.tuples(
        st.just("pass"),
        st.fixed_dictionaries(
            {
                "id": ids,
                "stale": st.sampled_from([False, False, False, True]),
                "rank": st.sampled_from([1_000, 2_000, FIRST_REPEAT + 1_000]),
                "rate": rates,
                "free": st.booleans(),
            }
        ),
    ),
    st.tuples(
        st.just("release"),
        st.fixed_dictionaries(
            {
                "rate": rates,
                "most": st.integers(0, 2),
                "repeats": st.integers(0, 1),
                "free": st.booleans(),
                "look": st.integers(1, 3),
            }
        ),
    ),
    st.tuples(
        st.just("gate"),
        st.fixed_dictionaries(
            {
                "calls": st.integers(0, 3),
                "new": st.sampled_from(["", "a", "b"]),
                "stale": st.sampled_from([False, False, True]),
                "length": st.sampled_from([1, 10, 10_000]),
            }
        ),
    ),
    st.tuples(st.just("unpark"), st.fixed_dictionaries({"id": ids, "before": moments})),
    st.tuples(
        st.just("meddle"),
        st.fixed_dictionaries(
            {
                "id": ids,
                "what": st.sampled_from(
                    [
                        *("finish", "start", "begin", "retry", "lose payload", "expire", "due"),
                        *("ripe", "called", "called long ago"),
                    ]
                ),
            }
        ),
    ),
)


#: What a worker leaves that dies with a job in hand.
NEW_AND_OVERDUE: dict[str, Any] = {
    "id": "c:1",
    "expect": "new",
    "schema": 1,
    "at": -600,
    "status": "pending",
    "closing": -100_000,
    "ttl": 0,
    "heard": 0,
    "alone": False,
    "entries": [],
    "events": [],
    "callbacks": [],
    "found": False,
    "missed": False,
    "left": 0,
    "brake": 0,
}


class Pair:
    """The real server and the twin, given the same calls."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self.redis, self.keys = redis, Keys(prefix)
        self.scripts = Scripts(redis)
        self.now = 0
        self.twin = Server(lambda: self.now)
        self.written = 0

    async def call(self, name: str, said: dict[str, Any]) -> None:
        if name == "meddle":
            return await self._meddle(said)
        seconds, micros = await self.redis.time()
        keys, args = getattr(self, f"_{name}")(said, seconds * 1000 + micros // 1000)
        name = "claim" if name == "load" else name
        answer = _text(await self.scripts.run(name, keys, args))
        self.now = answer[0]
        twins = run_script(self.twin, name, keys, args)
        if name == "stuck":  # a folded line is the same in any order of its names
            answer, twins = (_with_parsed_history(each) for each in (answer, twins))
        if name == "census":  # a table has no order
            answer, twins = (_in_order(each) for each in (answer, twins))
        assert twins == answer
        return None

    async def _meddle(self, said: dict[str, Any]) -> None:
        """As arq does, or as nobody should: to both alike."""
        k, key = self.keys, said["id"]
        job = k.job(key)
        match said["what"]:
            case "finish":
                await self.redis.delete(f"arq:job:{job}", f"arq:in-progress:{job}")
                await self.redis.zrem(k.queue, job)
                self.twin.delete(f"arq:job:{job}", f"arq:in-progress:{job}")
                self.twin.zrem(k.queue, job)
            case "start":  # by a worker that died long ago
                await self.redis.set(f"arq:in-progress:{job}", "1")
                await self.redis.zadd(k.open, {key: 1000})
                self.twin.set(f"arq:in-progress:{job}", "1")
                self.twin.zadd(k.open, 1000, key)
            case "begin":
                await self.redis.set(f"arq:in-progress:{job}", "1")
                self.twin.set(f"arq:in-progress:{job}", "1")
            case "retry":
                await self.redis.set(f"arq:retry:{job}", "1")
                self.twin.set(f"arq:retry:{job}", "1")
            case "lose payload":
                await self.redis.delete(f"arq:job:{job}")
                self.twin.delete(f"arq:job:{job}")
            case "expire":
                await self.redis.delete(k.payment(key), k.timeline(key))
                self.twin.delete(k.payment(key), k.timeline(key))
            case "called" | "called long ago":
                at = -self.now if said["what"] == "called" else 40_000 - self.now
                await self.redis.zadd(k.waiting("c"), {key: at})
                self.twin.zadd(k.waiting("c"), at, key)
            case _:  # "due" in the open set, or "ripe" in the queue
                name, member = (k.open, key) if said["what"] == "due" else (k.queue, job)
                await self.redis.zadd(name, {member: 1000})
                self.twin.zadd(name, 1000, member)

    def _version(self, key: str) -> int:
        return int(self.twin.hget(self.keys.payment(key), "version") or 0)

    def _claim(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        k, key = self.keys, said["id"]
        names = [k.payment(key), k.inbox(key), k.open, k.brake, k.queue]
        return names, [key, key[0], said.get("lease", ""), 1, k.prefix]

    _load = _claim

    def _append(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        return [self.keys.outcomes], ["id", said["text"], "type", "t"]

    def _erase(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        k, key = self.keys, said["id"]
        names = [k.payment(key), k.timeline(key), k.open, k.inbox(key), k.parked]
        return names, [key, self._version(key) - said["stale"]]

    def _overdue(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        names = [self.keys.open, self.keys.queue, self.keys.swept]
        return names, [self.keys.prefix, 500, said["offset"], said["count"]]

    def _stuck(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        stems = [self.keys.payment(""), self.keys.timeline("")]
        pages = [said["offset"], said["count"], said["most"], 2]
        return [self.keys.open, self.keys.stuck], [*stems, said["after"], *pages]

    def _census(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        args = [self.keys.payment(""), "0", 500, said["after"], said["most"], 50_000, 150_000]
        return [self.keys.open], args

    def _hours(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        """From one of the first entries on, or from the very start."""
        entries = self.twin.xrange(self.keys.outcomes)
        ids = ["0-0", *(stream_id(number) for number, _ in entries)]
        after = ids[min(said["after"], len(ids) - 1)]
        return [self.keys.outcomes], [after, said["count"], "a", "t"]

    def _told(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        return [self.keys.stuck], [said["id"]]

    def _take(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        return [self.keys.queue, self.keys.open], [self.keys.prefix, 15_000, said["most"]]

    def _pass(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        k, key = self.keys, said["id"]
        names = [k.limits("c"), k.waiting("c"), k.payment(key), k.inbox(key), k.open, k.queue]
        args = [key, k.prefix, self._version(key) + said["stale"], said["rank"], 5_000]
        return names, [*args, said["rate"], 2, 2, "01"[said["free"]]]

    def _release(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        k = self.keys
        names = [k.limits("c"), k.waiting("c"), k.open, k.queue]
        args = [k.prefix, said["rate"], 2, said["most"], FIRST_REPEAT, said["repeats"]]
        return names, [*args, "01"[said["free"]], said["look"]]

    def _gate(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        k = self.keys
        was = self.twin.hget(k.limits("c"), "gate") or ""
        args = [said["length"], said["calls"], was + "!" * said["stale"], said["new"]]
        return [k.limits("c"), k.waiting("c")], args

    def _finish(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        k, job = self.keys, self.keys.job(said["id"])
        score = round(self.twin.zscore(k.queue, job) or 0) + said["stale"]
        dead = ["type", "t", "data", "d"] if said["dies"] else []
        return [k.queue, k.dead], [job, score, said["delay"], *dead]

    def _unpark(self, said: dict[str, Any], now: int) -> tuple[list[str], list[Any]]:
        k, key = self.keys, said["id"]
        names = [k.parked, k.inbox(key), k.payment(key), k.quarantine]
        return names, [key, now + said["before"], *key.split(":")]

    def _receive(self, said: dict[str, Any], now: int) -> tuple[list[str], list[Any]]:
        k, key = self.keys, said["id"]
        names = [
            k.payment(key),
            k.inbox(key),
            k.open,
            k.parked,
            k.heard(key),
            k.queue,
            k.quarantine,
        ]
        lane = forward_lane(key[0], said["digest"])
        names += [k.deliveries, k.delivery(lane)]
        args = [key, k.prefix, said["entry"], said["digest"], 93_600_000, "01"[said["parks"]]]
        args += [lane, self._entry(said["entry"], now)] if said["forward"] else ["", ""]
        return names, [*args, *key.split(":"), "odd", b"\xc3\xa9"] if said["odd"] else args

    def _save(self, said: dict[str, Any], now: int) -> tuple[list[str], list[Any]]:
        k, key = self.keys, said["id"]
        expect = {"new": None, "right": self._version(key), "stale": self._version(key) + 1}
        at, version = said["at"], str((expect[said["expect"]] or 0) + 1)
        write = said | {
            "client": key[0],
            "prefix": k.prefix,
            "expect": expect[said["expect"]],
            "fields": ["status", said["status"], "closingTime", str(now + said["closing"])]
            + ["version", version, "schema", str(said["schema"])]
            + ["trackedAt", str(now + said["closing"] // 4)]
            + (["nextInquiryAt", str(now + at)] if isinstance(at, int) else []),
            "at": str(now + at) if isinstance(at, int) else at,
            "entries": [json.dumps(entry | {"at": now}) for entry in said["entries"]],
            "events": [["id", text, "type", text, "data", "{}"] for text in said["events"]],
            "lane": callback_lane(key),
            "callbacks": [self._entry("b", now, url) for url in said["callbacks"]],
        }
        names = [k.payment(key), k.timeline(key), k.inbox(key), k.open]
        names += [k.outcomes, k.brake, k.parked, k.queue]
        names += [k.deliveries, k.delivery(callback_lane(key))]
        return names, [json.dumps(write)]

    def _entry(self, body: str, at: int, url: str = "") -> str:
        """Each is another one, or one that comes twice would be settled for the other."""
        self.written += 1
        id_ = str(self.written)
        return write(Delivery(id=id_, at=at, about="1", body=body.encode(), seq=at, url=url))

    def _lanes(self) -> list[str]:
        return self.twin.zrange(self.keys.deliveries) or [callback_lane(IDS[0])]

    def _collect(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        k, busy = self.keys, [said["busy"], said["takes"]]
        groups = {"https://a.example": busy, "forward:c": busy} if said["busy"] else {}
        args = [k.delivery(""), 30_000, said["most"], said["each"], said["look"]]
        return [k.deliveries], [*args, json.dumps(groups)]

    def _settle(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        k, lanes = self.keys, self._lanes()
        lane = lanes[said["lane"] % len(lanes)]
        entry = (self.twin.lrange(k.delivery(lane)) or ["none"])[0]
        names = [k.deliveries, k.delivery(lane), k.dead_deliveries]
        args = [lane, entry + "!" * said["stale"], said["fate"], "http_500", 3]
        return names, [*args, abs(said["delay"]), entry.replace('"tries":0', '"tries":1')]

    def _waiting(self, said: dict[str, Any], _: int) -> tuple[list[str], list[Any]]:
        return [self.keys.deliveries], [self.keys.delivery(""), said["most"]]

    async def compare(self) -> None:
        names = sorted(_text(await self.redis.keys(f"*{self.keys.prefix}*")))
        assert names == sorted(key for key in self.twin.live if self.twin.exists(key))
        for name in names:
            real, twin = await self._real(name), _plain(self.twin.live[name])
            if name.startswith(self.keys.timeline("")):
                real, twin = (
                    [json.loads(line) for line in real],
                    [json.loads(line) for line in twin],
                )
            assert real == twin, name
            expires = await self.redis.pexpiretime(name)  # type: ignore[misc]
            assert expires == self.twin.expires.get(name, -1), name

    async def _real(self, name: str) -> Any:
        match _text(await self.redis.type(name)):
            case "hash":
                return _text(await self.redis.hgetall(name))  # type: ignore[misc]
            case "zset":
                return dict(_text(await self.redis.zrange(name, 0, -1, withscores=True)))
            case "set":
                return sorted(_text(list(await self.redis.smembers(name))))  # type: ignore[misc]
            case "list":
                return _text(await self.redis.lrange(name, 0, -1))  # type: ignore[misc]
            case "stream":
                return [tuple(entry) for entry in _text(await self.redis.xrange(name))]
            case _:
                return _text(await self.redis.get(name))


def _plain(value: Any) -> Any:
    match value:
        case Hash() | Zset():
            return dict(value)
        case Members():
            return sorted(value)
        case Line():
            return list(value)
        case Stream():
            return [(stream_id(number), fields) for number, fields in value.entries]
        case _:
            return value


def _with_parsed_history(answer: list[Any]) -> list[Any]:
    now, looked, found = answer
    return [now, looked, [[*rest, [*map(json.loads, lines)]] for *rest, lines in found]]


def _in_order(answer: list[Any]) -> list[Any]:
    now, cursor, overdue, counts, old, ages = answer
    return [now, cursor, overdue, sorted(counts), sorted(old), ages]


def _text(answer: Any) -> Any:
    match answer:
        case bytes():
            return answer.decode()
        case list() | tuple():
            return type(answer)(map(_text, answer))
        case Mapping():
            return {_text(name): _text(value) for name, value in answer.items()}
        case _:
            return answer


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def check(runner: asyncio.Runner, url: str, history: Sequence[Call]) -> None:
    async def run() -> None:
        redis = connect.client(url)
        try:
            pair = Pair(redis, f"twin-{secrets.token_hex(4)}")
            for name, said in history:
                await pair.call(name, said)
            await pair.compare()
        finally:
            await redis.aclose()

    runner.run(run())


@pytest.mark.once
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(
    history=[
        ("save", NEW_AND_OVERDUE),
        ("meddle", {"id": "c:1", "what": "start"}),
        ("overdue", {"offset": 0, "count": 3}),
    ]
)
@example(
    history=[
        ("save", NEW_AND_OVERDUE | {"entries": [{"source": "a", "what": "b", "detail": "a"}] * 3}),
        ("stuck", {"after": 50_000, "offset": 0, "count": 3, "most": 2}),
        ("stuck", {"after": 0, "offset": 0, "count": 3, "most": 2}),
        ("told", {"id": "c:1"}),
        ("stuck", {"after": 0, "offset": 0, "count": 3, "most": 2}),
        ("save", NEW_AND_OVERDUE | {"expect": "right", "closing": 0}),
        ("stuck", {"after": 0, "offset": 0, "count": 3, "most": 2}),
    ]
)
@example(
    history=[
        ("save", NEW_AND_OVERDUE),
        ("save", NEW_AND_OVERDUE | {"id": "d:1", "closing": 100_000, "at": "never"}),
        ("meddle", {"id": "d:1", "what": "expire"}),
        ("census", {"after": 0, "most": 1}),
        ("census", {"after": 50_000, "most": 1}),
    ]
)
@example(
    history=[
        ("save", NEW_AND_OVERDUE | {"schema": 2}),
        ("claim", {"id": "c:1", "lease": "15000"}),
    ]
)
@given(history=st.lists(calls, min_size=15, max_size=40))
def test_a_twin_does_what_its_script_does(
    runner: asyncio.Runner, redis_url: str, history: list[Call]
) -> None:
    check(runner, redis_url, history)


#: An operator's, run by hand: in the simulated world there are processes alone.
BY_HAND = {"redeliver", "replay", "requeue"}


def test_there_is_a_twin_of_every_script_that_a_process_runs() -> None:
    assert set(TWINS) == set(Scripts(Redis())._scripts) - BY_HAND
