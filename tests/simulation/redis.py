"""Redis for the simulation: its data types, a disk that can forget, and a twin of each Lua script.

A twin says line by line what its script in `worker/lua` says; `test_twins.py` holds both against
the same calls and compares every answer and every key. Each call is one atomic step.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from jobs.model import Ms

Args: TypeAlias = Sequence[Any]
Twin: TypeAlias = "Callable[[Server, Sequence[str], list[str]], list[Any]]"
T = TypeVar("T")


# Data types: each is a Python container of its own class, so that a key knows its type


class Hash(dict[str, str]):
    pass


class Zset(dict[str, float]):
    pass


class Members(dict[str, None]):
    """A set, in the order of adding."""


class Line(list[str]):
    """A list."""


class Group:
    """A consumer group: what it has been given, and what it has not acknowledged."""

    def __init__(self) -> None:
        self.last = (0, 0)
        self.pending: dict[str, tuple[Ms, int]] = {}  # delivered at, deliveries

    def copy(self) -> "Group":
        group = Group()
        group.last, group.pending = self.last, dict(self.pending)
        return group


class Stream:
    def __init__(self) -> None:
        self.entries: list[tuple[tuple[int, int], dict[str, str]]] = []
        self.last = (0, 0)
        self.groups: dict[str, Group] = {}

    def copy(self) -> "Stream":
        stream = Stream()
        stream.entries, stream.last = list(self.entries), self.last
        stream.groups = {name: group.copy() for name, group in self.groups.items()}
        return stream


Value: TypeAlias = Hash | Zset | Members | Line | Stream | str


def _copy(value: Value) -> Value:
    match value:
        case str():
            return value
        case Stream():
            return value.copy()
        case _:
            return type(value)(value)  # type: ignore[arg-type]


class Watch(Protocol):
    """Who looks on as scripts write; all of it happens inside the step that writes."""

    def claimed(self, key: str) -> None: ...
    def refused(self, write: Mapping[str, Any], why: str) -> None: ...
    def saved(
        self, before: Mapping[str, str] | None, write: Mapping[str, Any], version: int
    ) -> None: ...
    def heard(self, key: str, mail: Sequence[str]) -> None: ...
    def erased(self, key: str) -> None: ...
    def published(self, fields: Mapping[str, str]) -> None: ...


class Server:
    """The key space, live and as it is on the disk."""

    def __init__(self, clock: Callable[[], Ms]) -> None:
        self.clock = clock
        self.live: dict[str, Value] = {}
        self.expires: dict[str, Ms] = {}
        self.scripts: set[str] = set()  #: what SCRIPT LOAD has told it
        self.offset = 0  #: of the last write
        self.synced = 0  #: of the last write that is on the disk
        self.watch: Watch | None = None
        self.caller = ""  #: the process whose call is being executed
        self.bells: dict[str, list[Callable[[], None]]] = {}  #: rung when a key gets something new
        self._forgotten: dict[str, tuple[Value | None, Ms | None]] = {}  # as on the disk

    # The disk

    def sync(self) -> None:
        self.synced = self.offset
        self._forgotten.clear()

    def cut_power(self) -> int:
        """What is not on the disk is gone; how many keys that changed."""
        for key, (value, expires) in self._forgotten.items():
            self.live.pop(key, None)
            self.expires.pop(key, None)
            if value is not None:
                self.live[key] = value
            if expires is not None:
                self.expires[key] = expires
        lost = len(self._forgotten)
        self.sync()
        self.scripts.clear()
        return lost

    def on_disk(self, key: str) -> Value | None:
        return self._forgotten[key][0] if key in self._forgotten else self.live.get(key)

    def _touch(self, key: str) -> None:
        """Before a key changes: keep it as it is on the disk."""
        self.offset += 1
        if key not in self._forgotten:
            value = self._look(key)
            kept = None if value is None else _copy(value)
            self._forgotten[key] = (kept, self.expires.get(key))

    # Keys

    def _look(self, key: str) -> Value | None:
        expires = self.expires.get(key)
        if expires is not None and expires <= self.clock():
            self._forgotten.setdefault(key, (self.live.get(key), expires))
            del self.live[key], self.expires[key]
        return self.live.get(key)

    def _get(self, key: str, type_: type[T]) -> T | None:
        value = self._look(key)
        if value is None:
            return None
        assert isinstance(value, type_), f"WRONGTYPE {key}"
        return value

    def _make(self, key: str, type_: type[T]) -> T:
        self._touch(key)
        value = self._get(key, type_)
        if value is None:
            value = type_()
            self.live[key] = value  # type: ignore[assignment]
        return value

    def _drop_empty(self, key: str) -> None:
        if not self.live.get(key) and not isinstance(self.live.get(key), Stream):
            self.live.pop(key, None)
            self.expires.pop(key, None)

    def exists(self, key: str) -> bool:
        return self._look(key) is not None

    def delete(self, *keys: str) -> int:
        deleted = 0
        for key in keys:
            if self.exists(key):
                self._touch(key)
                del self.live[key]
                self.expires.pop(key, None)
                deleted += 1
        return deleted

    def pexpire(self, key: str, ttl: Ms) -> None:
        if self.exists(key):
            self._touch(key)
            self.expires[key] = self.clock() + ttl

    def persist(self, key: str) -> None:
        if key in self.expires:
            self._touch(key)
            self.expires.pop(key, None)

    def set(self, key: str, value: str, ttl: Ms | None = None) -> None:
        self._touch(key)
        self.live[key] = value
        self.expires.pop(key, None)
        if ttl is not None:
            self.expires[key] = self.clock() + ttl

    def _ring(self, key: str) -> None:
        for bell in self.bells.pop(key, ()):
            bell()

    def get(self, key: str) -> str | None:
        return self._get(key, str)

    # Hashes

    def hget(self, key: str, field: str) -> str | None:
        return (self._get(key, Hash) or Hash()).get(field)

    def hset(self, key: str, *flat: str) -> None:
        self._make(key, Hash).update(zip(flat[::2], flat[1::2], strict=True))

    def hdel(self, key: str, field: str) -> None:
        if self.hget(key, field) is not None:
            self._make(key, Hash).pop(field)
            self._drop_empty(key)

    def hincrby(self, key: str, field: str, by: int) -> int:
        value = int(self.hget(key, field) or 0) + by
        self.hset(key, field, str(value))
        return value

    def hgetall(self, key: str) -> list[str]:
        return [text for field in (self._get(key, Hash) or {}).items() for text in field]

    # Lists and sets

    def rpush(self, key: str, *values: str) -> None:
        self._make(key, Line).extend(values)

    def lrange(self, key: str) -> list[str]:
        return list(self._get(key, Line) or [])

    def lset_first(self, key: str, value: str) -> None:
        self._make(key, Line)[0] = value

    def lset_last(self, key: str, value: str) -> None:
        self._make(key, Line)[-1] = value

    def ltrim(self, key: str, start: int) -> None:
        """Keep what is from `start` on."""
        if self.exists(key):
            line = self._make(key, Line)
            line[:] = line[start:]
            self._drop_empty(key)

    def sadd(self, key: str, member: str) -> int:
        if member in (self._get(key, Members) or {}):
            return 0
        self._make(key, Members)[member] = None
        return 1

    # Sorted sets

    def zadd(self, key: str, score: float, member: str) -> None:
        self._make(key, Zset)[member] = score
        self._ring(key)

    def zscore(self, key: str, member: str) -> float | None:
        return (self._get(key, Zset) or Zset()).get(member)

    def zrem(self, key: str, member: str) -> None:
        if self.zscore(key, member) is not None:
            self._make(key, Zset).pop(member)
            self._drop_empty(key)

    def zrangebyscore(self, key: str, most: float, offset: int = 0, count: int = -1) -> list[str]:
        scores = self._get(key, Zset) or Zset()
        found = sorted((score, member) for member, score in scores.items() if score <= most)
        return [member for _, member in found][offset : None if count < 0 else offset + count]

    def zrange(self, key: str) -> list[str]:
        return self.zrangebyscore(key, float("inf"))

    def first_score(self, key: str) -> float:
        """For the harness alone: when a poll of this set would next find something."""
        return min((self._get(key, Zset) or {"": float("inf")}).values())

    def last_score(self, key: str) -> float:
        """For the harness alone: below 0 where nobody waits in this line."""
        return max((self._get(key, Zset) or {"": -1.0}).values())

    # Streams

    def xadd(self, key: str, *flat: str) -> str:
        stream = self._make(key, Stream)
        ms, seq = stream.last
        now = self.clock()
        stream.last = (now, 0) if now > ms else (ms, seq + 1)
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        stream.entries.append((stream.last, fields))
        self._ring(key)
        return stream_id(stream.last)

    def xrange(self, key: str) -> list[tuple[tuple[int, int], dict[str, str]]]:
        stream = self._get(key, Stream)
        return list(stream.entries) if stream else []

    def stream(self, key: str) -> Stream:
        return self._make(key, Stream)

    def peek(self, key: str) -> Stream:
        return self._get(key, Stream) or Stream()


def stream_id(number: tuple[int, int]) -> str:
    return f"{number[0]}-{number[1]}"


# The twins


def run_script(server: Server, name: str, keys: Sequence[str], args: Args) -> list[Any]:
    """What the script answers; every answer begins with the server's time."""
    texts = [arg.decode() if isinstance(arg, bytes) else str(arg) for arg in args]
    return [server.clock(), *TWINS[name](server, keys, texts)]


def next_version(version: str | None, now: Ms) -> int:
    return max(int(version or 0) + 1, now)


def arm(server: Server, queue: str, prefix: str, key: str, at: Ms) -> None:
    now = server.clock()
    job = f"{prefix}:{key}"
    payload: dict[str, Any] = {
        "v": 1,
        "t": None,
        "f": "follow_payment",
        "a": [key],
        "k": {},
        "et": now,
    }
    ttl = max(0, at - now) + 2592000000
    server.set(f"arq:job:{job}", json.dumps(payload, separators=(",", ":")), ttl)
    server.zadd(queue, at, job)
    server.delete(f"arq:retry:{job}")


def arm_for_mail(server: Server, queue: str, prefix: str, key: str) -> None:
    arm(server, queue, prefix, key, server.clock())
    server.zadd(queue, server.clock() / 1000, f"{prefix}:{key}")


def disarm(server: Server, queue: str, job: str) -> None:
    server.delete(f"arq:job:{job}", f"arq:retry:{job}")
    server.zrem(queue, job)


def append(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    _publish(server, keys[0], args)
    return []


def _publish(server: Server, stream: str, flat: Sequence[str]) -> None:
    server.xadd(stream, *flat)
    if server.watch is not None:
        server.watch.published(dict(zip(flat[::2], flat[1::2], strict=True)))


def claim(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    payment, inbox, open_, brake, queue = keys
    id_, client, lease, schema, prefix = args
    now, late, job = server.clock(), 0, f"{prefix}:{id_}"
    if lease != "":
        due = server.zscore(open_, id_)
        if due is None or due == float("inf"):
            disarm(server, queue, job)
            return [[], [], 0, 0]
        if due > now:
            server.zadd(queue, due, job)
            return [[], [], 0, 0]
        if not server.exists(payment):
            server.zrem(open_, id_)
            disarm(server, queue, job)
            return [[], [], -1, 0]
        if server.hget(payment, "schema") != schema:
            disarm(server, queue, job)
            return [server.hgetall(payment), [], 0, 0]
        late = now - int(due)
        server.zadd(open_, now + int(lease), id_)
        server.zadd(queue, now + int(lease), job)
        version = next_version(server.hget(payment, "version"), now)
        server.hset(payment, "version", str(version))
        if server.watch is not None:
            server.watch.claimed(id_)
    misses = int(server.hget(brake, client) or 0)
    return [server.hgetall(payment), server.lrange(inbox), misses, late]


def take(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    queue, open_ = keys
    prefix, lease, most = args[0] + ":", int(args[1]), int(args[2])
    now = server.clock()
    free = [
        job
        for job in server.zrangebyscore(queue, now)
        if not server.exists(f"arq:in-progress:{job}")
    ][:most]
    payments: list[str] = []
    others: list[list[str]] = []
    for job in free:
        server.zadd(queue, now + lease, job)
        id_ = job.removeprefix(prefix)
        if id_ != job and server.zscore(open_, id_) is not None:
            payments.append(id_)
            continue
        tries = str(int(server.get(f"arq:retry:{job}") or 0) + 1)
        server.set(f"arq:retry:{job}", tries, 88_400_000)
        others.append([job, server.get(f"arq:job:{job}") or "", tries])
    return [str(now + lease), payments, others]


def finish(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    queue, dead = keys
    job, score, delay = args[:3]
    if server.zscore(queue, job) != float(score):
        return [0]
    if args[3:]:
        server.xadd(dead, *args[3:])
    if delay:
        server.zadd(queue, server.clock() + int(delay), job)
    else:
        disarm(server, queue, job)
    return [1]


def erase(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    payment, timeline, open_, inbox, parked = keys
    id_, version = args
    if server.hget(payment, "version") != version:
        return [0]
    server.delete(payment, timeline)
    server.zrem(open_, id_)
    if server.exists(inbox):
        server.zadd(parked, server.clock(), id_)
    if server.watch is not None:
        server.watch.erased(id_)
    return [1]


def overdue(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    open_, queue, swept = keys
    prefix, grace, offset, count = args[0], int(args[1]), int(args[2]), int(args[3])
    now = server.clock()
    server.set(swept, str(now))
    ids = server.zrangebyscore(open_, now - grace, offset, count)
    woken, gone = 0, []
    for id_ in ids:
        if not server.exists(f"{prefix}:v1:payment:{id_}"):
            server.zrem(open_, id_)
            gone.append(id_)
            continue
        job = f"{prefix}:{id_}"
        queued = server.zscore(queue, job)
        dead = server.delete(f"arq:in-progress:{job}") == 1
        if dead or queued is None or queued > now or not server.exists(f"arq:job:{job}"):
            arm(server, queue, prefix, id_, now)
            woken += 1
    return [len(ids), woken, gone]


def stuck(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    open_, told = keys
    payment, timeline = args[:2]
    after, offset, count, most, lines = map(int, args[2:])
    now = server.clock()

    def overdue(id_: str) -> int:
        waits = server.hget(payment + id_, "status") in ("pending", "cancelling")
        closing = int(server.hget(payment + id_, "closingTime") or 0)
        since = max(closing, int(server.hget(payment + id_, "trackedAt") or 0))
        return now - closing if waits and now - since > after else 0

    if offset == 0:
        for id_ in server.zrange(told):
            if not overdue(id_):
                server.zrem(told, id_)
    ids = server.zrange(open_)[offset : offset + count]
    found: list[Any] = []
    for id_ in ids:
        if len(found) < most and (server.zscore(told, id_) or 0) <= now and overdue(id_):
            server.zadd(told, now + 60_000, id_)
            history = server.lrange(timeline + id_)[-lines:]
            found.append([id_, overdue(id_), server.hgetall(payment + id_), history])
    return [len(ids), found]


def census(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    """A set so small is one page."""
    stem, _, _, after, most, *limits = args
    now, overdue, ages = server.clock(), 0, [0] * (len(limits) + 1)
    groups: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    for id_ in server.zrange(keys[0]):
        names = ("status", "aftercare", "schema", "trackedAt", "closingTime")
        *group, tracked, closing = (server.hget(stem + id_, name) or "" for name in names)
        groups.setdefault(tuple(group), []).append((int(tracked or -1), id_))
        waits = group[0] in ("pending", "cancelling") and closing
        overdue += bool(waits and now - max(int(closing), int(tracked or 0)) > int(after))
        if waits and tracked:
            ages[sum(now - int(tracked) > int(limit) for limit in limits)] += 1
    counts = [[*group, len(ids)] for group, ids in groups.items()]
    old = [
        [*group, id_, at]
        for group, ids in groups.items()
        for at, id_ in sorted(one for one in ids if one[0] >= 0)[: int(most)]
    ]
    return ["0", overdue, counts, old, ages]


def hours(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    after, count, *known = args
    entries, counts = server.xrange(keys[0]), Counter[tuple[Ms, str]]()
    page = [entry for entry in entries if entry[0] > _number_of(after)][: int(count)]
    for (ms, _), fields in page:
        type_ = fields.get("type", "")
        counts[ms - ms % 3_600_000, type_ if type_ in known else "other"] += 1
    there = any(number == _number_of(after) for number, _ in entries)
    last = stream_id(page[-1][0]) if page else ""
    groups = ((str(hour), type_, n) for (hour, type_), n in counts.items())
    return [int(there), last, [part for group in groups for part in group]]


def _number_of(id_: str) -> tuple[int, int]:
    ms, number = id_.split("-")
    return int(ms), int(number)


def told(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    if server.zscore(keys[0], args[0]) is not None:
        server.zadd(keys[0], float("inf"), args[0])
    return []


def receive(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    payment, inbox, open_, parked, heard, queue, quarantine, deliveries, lane = keys
    id_, prefix, entry, digest, ttl, parks, lane_name, forward = args[:8]
    now = server.clock()
    new = server.sadd(heard, digest)
    server.pexpire(heard, int(ttl))
    if not new:
        return ["duplicate"]
    if forward:
        _lane_up(server, deliveries, lane_name)
        server.rpush(lane, forward)
    if len(args) > 8:
        names = ("clientId", "paymentRequestId", "reason", "body")
        said = [text for pair in zip(names, args[8:12], strict=True) for text in pair]
        server.xadd(quarantine, *said)
    if server.exists(payment):
        server.rpush(inbox, entry)
        due = server.zscore(open_, id_)
        if due is None or due > now:
            server.zadd(open_, now, id_)
        arm_for_mail(server, queue, prefix, id_)
        return ["accepted"]
    if parks != "1":
        return ["untracked"]
    server.rpush(inbox, entry)
    if server.zscore(parked, id_) is None:
        server.zadd(parked, now, id_)
    return ["parked"]


def save(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:  # noqa: C901  (as long as its script)
    payment, timeline, inbox, open_, outcomes, brake, parked, queue, deliveries, lane = keys
    d = json.loads(args[0])
    now = server.clock()
    version = server.hget(payment, "version")
    if d["expect"] is None:
        if version is not None:
            return _refused(server, d, "exists")
    elif int(version or -1) != d["expect"]:
        return _refused(server, d, "version")
    mail = len(server.lrange(inbox)) - d["heard"]
    if d["alone"] and mail > 0:
        return _refused(server, d, "mail")
    if 0 < d["brake"] <= int(server.hget(brake, d["client"]) or 0):
        return _refused(server, d, "brake")
    if server.watch is not None:
        before = dict(zip(*[iter(server.hgetall(payment))] * 2, strict=True)) or None
        server.watch.saved(before, d, next_version(version, now))
        server.watch.heard(d["id"], server.lrange(inbox)[: d["heard"]])

    server.delete(payment)
    server.hset(payment, *d["fields"])
    new_version = next_version(version, now)
    server.hset(payment, "version", str(new_version))
    if d["heard"] > 0:
        server.ltrim(inbox, d["heard"])
    if d["expect"] is None:
        server.zrem(parked, d["id"])

    for entry in d["entries"]:
        _fold(server, timeline, entry)
    if len(server.lrange(timeline)) > 200:
        server.ltrim(timeline, len(server.lrange(timeline)) - 200)

    for fields in d["events"]:
        _publish(server, outcomes, fields)
    if d["callbacks"]:
        server.rpush(lane, *d["callbacks"])
        _lane_up(server, deliveries, d["lane"])

    at, job = d["at"], f"{d['prefix']}:{d['id']}"
    if mail > d["left"]:
        server.zadd(open_, now, d["id"])
        arm_for_mail(server, queue, d["prefix"], d["id"])
    elif at == "":
        server.zrem(open_, d["id"])
        disarm(server, queue, job)
    elif at == "never":
        server.zadd(open_, float("inf"), d["id"])
        disarm(server, queue, job)
    else:
        server.zadd(open_, int(at), d["id"])
        arm(server, queue, d["prefix"], d["id"], int(at))

    if d["ttl"] > 0:
        server.pexpire(payment, d["ttl"])
        server.pexpire(timeline, d["ttl"])
    else:
        server.persist(timeline)

    if d["found"]:
        server.hdel(brake, d["client"])
    if d["missed"]:
        server.hincrby(brake, d["client"], 1)
    return [new_version]


def _lane_up(server: Server, deliveries: str, name: str) -> None:
    if server.zscore(deliveries, name) is None:
        server.zadd(deliveries, server.clock(), name)


def _group_of(lane: str, entry: str) -> str:
    if lane.startswith("forward:"):
        return ":".join(lane.split(":")[:2])
    url = re.search(r'"url":"(https?://[^/?"]*)', entry)
    return url[1] if url else ""


def collect(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    [deliveries] = keys
    stem, (lease, most, each, look) = args[0], map(int, args[1:5])
    groups = json.loads(args[5])
    now, taken = server.clock(), list[list[str]]()
    for lane in server.zrangebyscore(deliveries, now, 0, look):
        if len(taken) == most:
            break
        entries = server.lrange(stem + lane)
        if not entries:
            server.zrem(deliveries, lane)
            continue
        name = _group_of(lane, entries[0])
        group = groups.setdefault(name, [0, 0])
        group[0] += 1
        wait = lease
        if group[0] <= each:
            taken.append([lane, name, entries[0]])
        else:
            wait = min(group[0] // each * max(group[1], 10), 10_000)
        server.zadd(deliveries, now + wait, lane)
    first = server.zrange(deliveries)[:1]
    return [taken, str(round(server.zscore(deliveries, first[0]) or 0)) if first else ""]


def settle(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    deliveries, lane, dead = keys
    name, entry, fate, fault, tries = args[:5]
    buried: list[str] = []
    entries = server.lrange(lane)
    if entries[:1] != [entry]:
        return [0, buried]
    if fate == "again":
        server.lset_first(lane, args[6])
        server.zadd(deliveries, server.clock() + int(args[5]), name)
        return [1, buried]

    if fate == "gone":
        for place, text in enumerate(entries):
            buried.append(_bury(server, dead, name, text, fault, "0" if place else tries))
        server.delete(lane)
    else:
        if fate == "dead":
            buried.append(_bury(server, dead, name, entry, fault, tries))
        server.ltrim(lane, 1)
    if server.exists(lane):
        server.zadd(deliveries, server.clock(), name)
    else:
        server.zrem(deliveries, name)
    return [1, buried]


def _bury(server: Server, dead: str, lane: str, entry: str, fault: str, tries: str) -> str:
    try:
        said = json.loads(entry)
    except ValueError:
        said = {}
    facts = {"lane": lane, "id": said.get("id", ""), "paymentRequestId": said.get("about", "")}
    facts |= {"url": said.get("url", ""), "fault": fault, "attempts": tries, "entry": entry}
    server.xadd(dead, *(str(part) for field in facts.items() for part in field))
    return str(facts["id"])


def waiting(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    [deliveries] = keys
    stem, most = args[0], int(args[1])
    lanes, oldest = server.zrange(deliveries), -1
    for lane in [*lanes[:most], *lanes[-most:]]:
        written = re.match(r'{"v":1,"at":(\d+)', (server.lrange(stem + lane) or [""])[0])
        if written:
            oldest = max(oldest, server.clock() - int(written[1]))
    return [len(lanes), oldest]


def _refused(server: Server, write: Mapping[str, Any], why: str) -> list[Any]:
    if server.watch is not None:
        server.watch.refused(write, why)
    return [0]


def _fold(server: Server, timeline: str, entry: str) -> None:
    """Equal neighbours in the timeline are one entry with a count."""
    line, lines = json.loads(entry), server.lrange(timeline)
    last = json.loads(lines[-1]) if lines else None
    if last and all(last[name] == line[name] for name in ("source", "what", "detail")):
        last |= {"count": last.get("count", 1) + 1, "until": line["at"]}
        server.lset_last(timeline, json.dumps(last))
    else:
        server.rpush(timeline, entry)


def unpark(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    parked, inbox, payment, quarantine = keys
    id_, before, client_id, request_id = args
    since = server.zscore(parked, id_)
    if since is None or since > int(before) or server.exists(payment):
        return [0]
    mail = server.lrange(inbox)
    for entry in mail:
        about = ("clientId", client_id, "paymentRequestId", request_id)
        server.xadd(quarantine, *about, "reason", "never_tracked", "message", entry)
    server.delete(inbox)
    server.zrem(parked, id_)
    return [len(mail)]


# Limits


def _take_tokens(server: Server, limits: str, rate: int, burst: int, most: int) -> int:
    if rate == 0:
        return most
    now, full = server.clock(), burst * 1_000_000
    past = max(now - int(server.hget(limits, "at") or 0), 0)
    tokens = min(full, int(server.hget(limits, "tokens") or full) + past * rate)
    taken = max(min(tokens // 1_000_000, most), 0)
    server.hset(limits, "tokens", str(tokens - taken * 1_000_000), "at", str(now))
    return taken


def _in_line(server: Server, waiting: str, low: float, below: float) -> list[str]:
    """Those of a rank from `low` to below `below`, in order."""
    line = server.zrangebyscore(waiting, float("inf"))
    return [id_ for id_ in line if low <= (server.zscore(waiting, id_) or 0) < below]


def pass_(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    limits, waiting, payment, inbox, open_, queue = keys
    id_, prefix, version, place = args[:4]
    back, rate, burst, chunk = map(int, args[4:8])
    wait = len(_in_line(server, waiting, 0, float("inf")))
    was = server.zscore(waiting, id_)
    if was is not None and was < 0:
        server.zrem(waiting, id_)
        if server.clock() + was <= 30_000:
            return [-1, wait]
        was = None
    if args[8] == "1" and wait == 0:
        tokens = _take_tokens(server, limits, rate, burst, chunk)
        if tokens > 0:
            return [tokens, 0]
    if server.hget(payment, "version") != version:
        return [0, wait]
    for line, member in ((open_, id_), (queue, f"{prefix}:{id_}")):
        if not server.lrange(inbox) and server.zscore(line, member) is not None:
            server.zadd(line, server.clock() + back, member)
    server.zadd(waiting, float(place), id_)
    return [0, wait if was is not None else wait + 1]


def release(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:  # noqa: C901  (as long as its script)
    limits, waiting, open_, queue = keys
    prefix, (rate, burst, most, first_repeat, repeats) = args[0], map(int, args[1:6])
    free, look, now = args[6] == "1", int(args[7]), server.clock()
    for id_ in server.zrangebyscore(waiting, -1):
        if (server.zscore(waiting, id_) or 0) > 30_000 - now:
            server.zrem(waiting, id_)

    def waits(id_: str) -> bool:
        at = server.hget(f"{prefix}:v1:payment:{id_}", "nextInquiryAt")
        return at is not None and int(at) <= now and server.zscore(open_, id_) is not None

    def call(low: float, below: float, most: int) -> int:
        nonlocal look
        called = 0
        while called < most and look > 0:
            ids = _in_line(server, waiting, low, below)[: min(most - called, look)]
            if not ids:
                break
            look -= len(ids)
            for id_ in ids:
                if waits(id_):
                    server.zadd(waiting, -now, id_)
                    server.zadd(open_, now, id_)
                    arm(server, queue, prefix, id_, now)
                    called += 1
                else:
                    server.zrem(waiting, id_)
        return called

    tokens = most if free else _take_tokens(server, limits, rate, burst, most)
    called = call(0, first_repeat, tokens)
    called += call(first_repeat, float("inf"), min(tokens - called, repeats))
    if not free and rate and tokens > called:
        server.hincrby(limits, "tokens", (tokens - called) * 1_000_000)
    return [called, len(_in_line(server, waiting, 0, float("inf")))]


def gate(server: Server, keys: Sequence[str], args: list[str]) -> list[Any]:
    limits, waiting = keys
    length, calls, was, new = int(args[0]), int(args[1]), args[2], args[3]
    now, text = server.clock(), server.hget(limits, "gate") or ""
    if new != "" and text == was:
        server.hset(limits, "gate", new)
        text = new
    window = now - now % length
    behind = window - int(server.hget(limits, "window") or 0)
    count = int(server.hget(limits, "calls") or 0)
    before = int(server.hget(limits, "before") or 0)
    if behind > 0:
        count, before = 0, count if behind == length else 0
    count += calls
    if calls > 0:
        fields = {"window": window, "calls": count, "before": before}
        server.hset(limits, *(str(part) for field in fields.items() for part in field))
    return [text, len(_in_line(server, waiting, 0, float("inf"))), count + before]


TWINS: dict[str, Twin] = {
    twin.__name__.rstrip("_"): twin
    for twin in (
        append,
        census,
        claim,
        collect,
        finish,
        erase,
        gate,
        hours,
        overdue,
        pass_,
        receive,
        release,
        save,
        settle,
        stuck,
        take,
        told,
        unpark,
        waiting,
    )
}
