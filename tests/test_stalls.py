"""That the process stood still is a line in the log."""

import asyncio
import time

import pytest
from structlog.typing import EventDict

from tests.servers import end
from worker import stalls


@pytest.mark.parametrize(("blocked", "told"), [(0.3, 1), (0.0, 0)])
async def test_a_loop_that_was_blocked_is_told_once(
    blocked: float, told: int, log_lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(stalls, "STALLED_SECONDS", 0.2 if blocked else 5)
    watching = asyncio.create_task(stalls.watch())
    await asyncio.sleep(0.05)
    time.sleep(blocked)  # noqa: ASYNC251  # the fault
    await asyncio.sleep(0.05)
    await end(watching)
    assert [line["event"] for line in log_lines] == ["process.stalled"] * told
    assert all(line["seconds"] >= 0.2 for line in log_lines)
