"""The event loop that all of them run on: the fastest that is installed, as ours takes it too."""

import asyncio
from collections.abc import Coroutine
from typing import Any

try:
    import uvloop
except ImportError:
    uvloop = None


def run(main: Coroutine[Any, Any, None]) -> None:
    (uvloop or asyncio).run(main)
