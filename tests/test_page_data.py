"""What pages show is read once for all who look, in bounded time, and a failure is not kept."""

import asyncio

import pytest

from worker.page import data
from worker.page.data import Shared


class Made:
    """Counts how often it was made, and can be held up."""

    def __init__(self) -> None:
        self.times = 0
        self.go_on = asyncio.Event()
        self.fault: Exception | None = None

    async def make(self) -> int:
        self.times += 1
        await self.go_on.wait()
        if self.fault:
            raise self.fault
        return self.times


async def test_who_asks_at_once_gets_the_same() -> None:
    made = Made()
    shared = Shared(made.make)
    asking = [asyncio.create_task(shared.get()) for _ in range(50)]
    await asyncio.sleep(0)
    made.go_on.set()
    assert set(await asyncio.gather(*asking)) == {1}
    assert await shared.get() == 1


async def test_after_some_seconds_it_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "KEEP_SECONDS", 0)
    monkeypatch.setattr(data, "REST", 0)
    made = Made()
    made.go_on.set()
    shared = Shared(made.make)
    assert [await shared.get(), await shared.get()] == [1, 2]


async def test_what_took_long_to_make_is_kept_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "KEEP_SECONDS", 0)
    monkeypatch.setattr(data, "REST", 1000)
    made = Made()
    shared = Shared(made.make)
    asking = asyncio.create_task(shared.get())
    await asyncio.sleep(0.05)
    made.go_on.set()
    assert [await asking, await shared.get()] == [1, 1]


async def test_a_failure_is_told_to_all_who_wait_and_not_kept() -> None:
    made = Made()
    made.fault = ConnectionError("away")
    shared = Shared(made.make)
    asking = [asyncio.create_task(shared.get()) for _ in range(3)]
    await asyncio.sleep(0)
    made.go_on.set()
    said = await asyncio.gather(*asking, return_exceptions=True)
    assert [str(fault) for fault in said] == ["away"] * 3
    made.fault = None
    assert await shared.get() == 2


async def test_who_hangs_up_ends_it_for_nobody_else() -> None:
    made = Made()
    shared = Shared(made.make)
    first, second = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    made.go_on.set()
    assert await second == 1


async def test_what_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(TimeoutError):
        await Shared(Made().make).get()
