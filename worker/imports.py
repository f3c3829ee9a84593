"""A list of payments as commands: checked whole, then written batch by batch.

How far a list is written, and which lines were left out, stands in Redis and changes in the same
transaction as the commands, so an import that is killed at any moment goes on where it stood: no
payment is written twice or missing, and none that was left out is forgotten.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, BinaryIO

from redis.asyncio import Redis
from redis.exceptions import WatchError

from jobs.model import Money, Ms
from jobs.news import Track
from worker import probes
from worker.adoption import Event, told
from worker.commands import GROUP, BadCommand, judged_later, read_command
from worker.keys import Keys
from worker.payment_list import Line, as_data
from worker.replies import now_of, text_of
from worker.scripts import Confirm, NotDurable

TYPE = "payment.track"
BATCH = 500  #: commands in one transaction: some ms of Redis' time
BYTES_EACH = 3000  #: of Redis' memory that a payment takes until its record expires; see operate.md
ROOM = 2000  #: commands and jobs that may wait: the shop's own stand in the same line
TRIES = 20  #: of one batch, when other lists are quicker or answers of Redis are lost
STALL_SECONDS = 60  #: nothing was taken up for so long: there is no worker, or it is held up
LOOK_SECONDS = 0.2
PAGE = 500


# Checking


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that cannot be written, and what to write instead."""

    line: int
    paymentRequestId: str
    message: str


@dataclass(frozen=True, slots=True)
class Double:
    """A line about a payment that another line has named already, with the same amount."""

    line: int
    paymentRequestId: str
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for every line."""

    accounts: Collection[str]
    client_id: str | None = None  #: of lines that name none
    on_timeout: str | None = None  #: of lines that say none
    now: Ms
    done: int = 0  #: up to this line it is written: time has passed since, and changes nothing
    left: Set[int] = frozenset()  #: but for these lines, which were left out as faulty


@dataclass(slots=True)
class Checked:
    """What a list came to. `commands` are those to be written, a number and data each."""

    commands: "Spool"
    payments: int = 0  #: lines that hold one, good or bad
    last: int = 0  #: the number of the last of them
    past: int = 0  #: good ones whose closing time has passed
    timeless: int = 0  #: good ones that name no closing time: the contract's counts from now
    faulty: list[Bad] = field(default_factory=list)  #: of the lines still to be written
    left_out: list[Bad] = field(default_factory=list)  #: before them: nothing followed these
    doubles: list[Double] = field(default_factory=list)
    lines: dict[str, tuple[int, Money]] = field(default_factory=dict)  #: by account and payment


class Spool:
    """Commands on their way from the check to Redis, on disk: a list may be long."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def add(self, number: int, data: str) -> None:
        self._file.write(b"%d %b\n" % (number, data.encode()))
        self.count += 1

    def read(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        for line in self._file:
            number, _, data = line.partition(b" ")
            yield int(number), data.rstrip(b"\n")


def check(lines: Iterable[Line], terms: Terms, scratch: BinaryIO) -> Checked:
    """Every line, read as the worker will read its command; the good ones lie in `scratch`."""
    checked = Checked(Spool(scratch))
    for line in lines:
        checked.payments += 1
        checked.last = line.number
        try:
            _check(line, terms, checked)
        except BadCommand as bad:
            found = Bad(line.number, bad.payment_request_id, line.worded(bad.message))
            if line.number > terms.done:
                checked.faulty.append(found)
            elif line.number in terms.left:
                checked.left_out.append(found)
    return checked


def _check(line: Line, terms: Terms, checked: Checked) -> None:
    if line.fault:
        raise BadCommand("malformed", line.fault)
    defaults = {"clientId": terms.client_id, "onTimeout": terms.on_timeout}
    said = {name: value for name, value in defaults.items() if value is not None} | line.said
    data = as_data(said)
    track = read_command(TYPE, data, f"line {line.number}", terms.now, terms.accounts, judged_later)
    assert isinstance(track, Track)  # the type says so
    if _is_double(line.number, track, terms, checked):
        return
    to_write, left = line.number > terms.done, line.number in terms.left
    past = track.closing_time is not None and track.closing_time <= terms.now
    if past and "onTimeout" not in said and (to_write or left):
        raise BadCommand("malformed", _PAST, payment_request_id=track.payment_request_id)
    if left:
        raise BadCommand("malformed", _WELL_NOW, payment_request_id=track.payment_request_id)
    checked.lines[_key(track)] = line.number, track.amount
    if to_write:
        checked.past += past
        checked.timeless += track.closing_time is None
        checked.commands.add(line.number, data)


_PAST = (
    "its closing time is past: not paid, it would be cancelled at once. Say what you want by"
    ' --on-timeout report (only tell) or --on-timeout cancel, or by "onTimeout" in the line'
)
_WELL_NOW = (
    "it was left out, and is well as you say it now: write it by --restart (to track the others"
    " again is safe), or in a list of its own"
)


def _is_double(number: int, track: Track, terms: Terms, checked: Checked) -> bool:
    """Whether an earlier line, which is not left out itself, names this payment; with another
    amount, one of them is wrong."""
    if _key(track) not in checked.lines:
        return False
    first, amount = checked.lines[_key(track)]
    if amount != track.amount:
        raise BadCommand(
            "malformed",
            f"line {first} names this payment with {amount}, this one with {track.amount}:"
            " leave one of them",
            payment_request_id=track.payment_request_id,
        )
    if number > terms.done:
        checked.doubles.append(Double(number, track.payment_request_id, first))
    return True


def _key(track: Track) -> str:
    return f"{track.client_id}:{track.payment_request_id}"


def digest_of(file: BinaryIO) -> str:
    """By which a list is known again."""
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    file.seek(0)
    return digest.hexdigest()


# Writing


class Stalled(Exception):
    """Nothing of what is written is taken up; the text says whether a worker runs at all."""


class Full(Exception):
    """Redis has no room for so many payments; the text says how much is missing."""


class Overtaken(Exception):
    """Another process wrote, or began anew, the same list meanwhile."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for a worker, and what changes whenever one takes something up."""

    commands: int
    wake_ups: int
    place: tuple[Any, ...]

    @property
    def waiting(self) -> int:
        return self.commands + self.wake_ups

    def __str__(self) -> str:
        counts = {"commands": self.commands, "wake-ups": self.wake_ups}
        return " and ".join(f"{n} {what}" for what, n in counts.items() if n) + " wait"


def _unheard(_: str) -> None:
    """Nobody watches."""


@dataclass(slots=True, kw_only=True)
class Import:
    """One list on its way into the command stream."""

    redis: Redis
    keys: Keys
    name: str  #: of its progress: the account of lines that name none, and the list's digest
    room: int = ROOM  #: 0: however much waits
    batch: int = BATCH
    stall_seconds: float = STALL_SECONDS
    note: Callable[[str], None] = _unheard  #: hears why it takes so long
    done: int = 0  #: up to this line it is written
    left: list[int] = field(default_factory=list)  #: but for these: they were faulty
    leaving: list[int] = field(default_factory=list)  #: lines after `done` that are to be left out
    began: Ms = 0  #: when the first command was
    last_id: str = ""  #: of the last command written, where Redis' answer reached us

    async def load(self) -> None:
        """How far it came before."""
        self.done = int(await self._field(self.name) or 0)
        self.left = [int(n) for n in text_of(await self._field(self._left) or "").split()]
        self.began = int(await self._field(self._began) or await now_of(self.redis))

    async def _field(self, name: str) -> Any:
        return await self.redis.hget(self.keys.imports, name)  # type: ignore[misc]

    @property
    def _began(self) -> str:
        return f"{self.name}:began"

    @property
    def _left(self) -> str:
        return f"{self.name}:left"

    async def restart(self) -> None:
        """Forget how far it came."""
        self.done, self.left, self.began = 0, [], await now_of(self.redis)
        await self.redis.hset(self.keys.imports, mapping=self._progress(0))  # type: ignore[misc]

    def _progress(self, done: int) -> dict[str | bytes, str | int]:
        left = " ".join(map(str, self._left_up_to(done)))
        return {self.name: done, self._began: self.began, self._left: left}

    def _left_up_to(self, done: int) -> list[int]:
        return [*self.left, *(number for number in self.leaving if self.done < number <= done)]

    async def write(
        self, commands: Iterable[tuple[int, bytes]], wrote: Callable[[int], None]
    ) -> None:
        """Every command; `wrote` hears how many more there are after each batch."""
        rest = iter(commands)
        while batch := list(islice(rest, self.batch)):
            await self._wait_for_room()
            await self.check_memory(len(batch))
            await self._write(batch)
            wrote(len(batch))

    async def _write(self, batch: Sequence[tuple[int, bytes]]) -> None:
        """All of it and the progress, or nothing; once, also where an answer of Redis is lost."""
        for tries in range(TRIES):
            await asyncio.sleep(0.01 * tries)
            with contextlib.suppress(WatchError):  # another list went on, or the connection broke
                await self._write_if_first(batch)
                self._stands_at(batch[-1][0])
                return
        raise WatchError("Redis did not answer, or other lists were quicker each time")

    async def _write_if_first(self, batch: Sequence[tuple[int, bytes]]) -> None:
        """Nothing, if it is written already."""
        after = batch[-1][0]
        async with self.redis.pipeline(transaction=True) as pipe:
            await pipe.watch(self.keys.imports)
            stands = int(await pipe.hget(self.keys.imports, self.name) or 0)  # type: ignore[misc]
            if stands == after:
                return
            if stands != self.done:
                raise Overtaken
            pipe.multi()  # type: ignore[no-untyped-call]
            for _, data in batch:
                pipe.xadd(self.keys.commands, {"type": TYPE, "data": data})
            pipe.hset(self.keys.imports, mapping=self._progress(after))
            answers = await pipe.execute()
            self.last_id = text_of(answers[-2])

    async def finish(self, last: int, confirm: Confirm | None) -> None:
        """The rest of the list holds nothing to write; wait until all of it is safe."""
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.hset(self.keys.imports, mapping=self._progress(last))
            if confirm is not None:
                pipe.execute_command(*confirm.command)
            answers = await pipe.execute()
        if confirm is not None and not confirm.holds(answers[1]):
            raise NotDurable(f"{confirm.command[0]} answered {answers[1]}")
        self._stands_at(last)

    def _stands_at(self, done: int) -> None:
        self.left, self.done = self._left_up_to(done), done

    async def check_memory(self, payments: int) -> None:
        """Raise `Full` if so many payments would fill Redis beyond what is safe."""
        info = await self.redis.info("memory")
        limit = int(info.get("maxmemory", 0))
        share = probes.memory_share(info)
        needed = payments * BYTES_EACH
        if limit and share + needed / limit >= probes.FULL:
            raise Full(
                f"{payments} payments take about {needed >> 20} MiB, and Redis uses"
                f" {share:.0%} of its {limit >> 20} MiB; beyond {probes.FULL:.0%} it is nearly full"
            )

    # Not faster than the worker

    async def _wait_for_room(self) -> None:
        """The shop's own commands and wake-ups stand in the same line: it is kept short."""
        if self.room:
            await self._until_fewer(self._backlog, self.room)

    async def _until_fewer(self, look: Callable[[], Awaitable[Backlog]], most: int) -> None:
        """Wait as long as it gets less, or as anything is taken up; `Stalled` when nothing is."""
        fewest, place = None, None
        less = moved = time.monotonic()
        while (seen := await look()).waiting > most:
            now = time.monotonic()
            if fewest is None or seen.waiting < fewest:
                fewest, less = seen.waiting, now
            if seen.place != place:
                place, moved = seen.place, now
            if now > max(less, moved) + self.stall_seconds:
                raise Stalled(await self._why_stalled(seen))
            if now > less + self.stall_seconds:
                self.note(f"{seen}: the worker is busy, and this goes on when fewer do")
                less = now
            await asyncio.sleep(LOOK_SECONDS)

    async def _why_stalled(self, seen: Backlog) -> str:
        text = f"{seen}, and for {self.stall_seconds:.0f} s none was taken up"
        if await self._worker_runs():
            return f"{text}, though a worker runs: its log says what holds it up"
        return f"{text}: no worker seems to run; start one (`reconciler worker`)"

    async def _worker_runs(self) -> bool:
        """Whether one has swept, or has asked for commands, since nothing is taken up any more."""
        since = await now_of(self.redis) - self.stall_seconds * 1000
        if int(await self.redis.get(self.keys.swept) or 0) >= since:
            return True
        if await self._group() is None:
            return False
        consumers = await self.redis.xinfo_consumers(self.keys.commands, GROUP)
        return any(each["idle"] <= self.stall_seconds * 1000 for each in consumers)

    async def _backlog(self) -> Backlog:
        """Commands that no worker has carried out, and wake-ups that are due."""
        commands, now = await self._commands(), await now_of(self.redis)
        due = int(await self.redis.zcount(self.keys.queue, "-inf", now))
        if commands.waiting > self.room:  # then wake-ups that are answered make no room
            return replace(commands, wake_ups=due)
        first = await self.redis.zrangebyscore(self.keys.queue, "-inf", now, start=0, num=1)
        return Backlog(commands.commands, due, (*commands.place, *first))

    async def _commands(self) -> Backlog:
        group = await self._group()
        if group is None:
            return Backlog(int(await self.redis.xlen(self.keys.commands)), 0, ())
        pending, given = int(group["pending"]), group["last-delivered-id"]
        return Backlog(pending + int(group.get("lag") or 0), 0, (given, pending))

    async def _group(self) -> Mapping[str, Any] | None:
        """The workers' group; None where none has ever been."""
        if not await self.redis.exists(self.keys.commands):
            return None
        groups = await self.redis.xinfo_groups(self.keys.commands)
        return next((each for each in groups if text_of(each["name"], "replace") == GROUP), None)

    async def carried_out(self) -> None:
        """Return when a worker has carried out every command; `Stalled` if none does."""
        await self._until_fewer(self._still_ours, 0)

    async def _still_ours(self) -> Backlog:
        """Commands that wait, as long as one of ours is among them."""
        backlog = await self._commands()
        if not backlog.place or not backlog.waiting or not self.last_id:
            return backlog
        given, _ = backlog.place
        if _order(given) < _order(self.last_id):
            return backlog
        pending = await self.redis.xpending(self.keys.commands, GROUP)
        in_hand = pending["pending"] and _order(pending["min"]) <= _order(self.last_id)
        return backlog if in_hand else replace(backlog, commands=0)

    async def rejected(self, checked: Checked) -> list[Bad]:
        """The payments of the list that the worker did not track, by what it told since then."""
        found: dict[int, Bad] = {}
        async for event in told(self.redis, self.keys, self.began):
            if bad := _rejection(event, checked):
                found[bad.line] = bad
        return [found[line] for line in sorted(found)]


def _order(entry_id: Any) -> tuple[int, int]:
    """By which entries of a stream follow each other."""
    ms, _, number = text_of(entry_id).partition("-")
    return int(ms), int(number)


def _rejection(event: Event, checked: Checked) -> Bad | None:
    said = event["data"]
    key = f"{said['clientId']}:{said['paymentRequestId']}"
    if event["type"] != "command.rejected" or said["command"] != TYPE or key not in checked.lines:
        return None
    why = f"{said['reason']}: {said['message']}"
    return Bad(checked.lines[key][0], said["paymentRequestId"], why)
