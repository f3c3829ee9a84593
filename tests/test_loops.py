"""A process runs on uvloop where that is installed, and says so; nothing else changes."""

import asyncio
import sys
from types import ModuleType

import pytest
from structlog.typing import EventDict

from worker import loops


@pytest.fixture
def uvloop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """As it looks from outside, whether it is installed here or not."""
    module = ModuleType("uvloop")
    module.__dict__.update(new_event_loop=asyncio.new_event_loop, __version__="1.2")
    monkeypatch.setitem(sys.modules, "uvloop", module)
    return module


def test_uvloop_is_used_where_it_is_installed_and_told(
    uvloop: ModuleType, log_lines: list[EventDict]
) -> None:
    assert loops.fastest() is uvloop.new_event_loop
    [line] = log_lines
    assert (line["event"], line["version"]) == ("process.on_uvloop", "1.2")


def test_without_it_asyncio_chooses(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)  # as if it could not be found
    assert loops.fastest() is None
    assert log_lines == []
