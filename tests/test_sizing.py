"""The figures of `make sizing`, made small: that it measures what it says, not how fast it is."""

import asyncio
from pathlib import Path

import pytest

from tests.servers import own_server
from tests.sizing import OPEN, followed, memory, received, taken

pytestmark = pytest.mark.once


def test_memory_is_counted_by_the_piece() -> None:
    assert 1000 < taken(lambda pipe, n: pipe.set(f"key-{n}", "x" * 1000), 2000) < 1500


def test_each_thing_that_stays_in_redis_has_its_size() -> None:
    sizes = memory(1000)
    assert OPEN and all(100 < size < 10_000 for size in sizes.values()), sizes


def test_what_receiver_and_worker_did_is_counted(tmp_path: Path) -> None:
    with own_server() as server:
        speed = asyncio.run(received(tmp_path, server.url, 50))
        assert (speed.count, speed.rss_mib > 10) == (50, True)
        speed = asyncio.run(followed(tmp_path, server.url, payments=5, seconds=1))
        assert speed.count >= 5 and speed.seconds >= 1
