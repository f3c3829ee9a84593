"""The commands that run until they are told to stop: receiver, worker, or both."""

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from worker.cli.base import CHECK_FAILED, FAILURE, OK, Commands, Fault, add, read_settings

if TYPE_CHECKING:
    from worker.settings import Settings

STOPS = (signal.SIGTERM, signal.SIGINT)


def add_to(commands: Commands) -> None:
    add(commands, "run", _run, "Run receiver and worker in one process.")
    add(commands, "receiver", _receiver, "Receive the gateway's notifications.")
    add(commands, "worker", _worker, "Follow payments.")


def _run(args: argparse.Namespace) -> int:
    from worker.environment import Need
    from worker.main import run_worker
    from worker.receiving import run_receiver

    settings = read_settings(args, Need.GATEWAY | Need.NOTIFICATIONS)

    async def both(stopping: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_receiver(settings, stopping))
            group.create_task(run_worker(settings, stopping))

    return _serve(settings, both)


def _receiver(args: argparse.Namespace) -> int:
    from worker.environment import Need
    from worker.receiving import run_receiver

    settings = read_settings(args, Need.NOTIFICATIONS)
    return _serve(settings, lambda stopping: run_receiver(settings, stopping))


def _worker(args: argparse.Namespace) -> int:
    from worker.environment import Need
    from worker.main import run_worker

    settings = read_settings(args, Need.GATEWAY)
    return _serve(settings, lambda stopping: run_worker(settings, stopping))


def _serve(settings: "Settings", work: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run until SIGTERM or SIGINT asks to stop; a second one does not wait."""
    from worker.connect import Unsafe
    from worker.logs import configure, take_over

    configure(settings.log_format, settings.log_level, condensed=settings.log_condensed)
    take_over()

    async def until_stopped() -> None:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()

        def stop() -> None:
            stopping.set()
            for number in STOPS:
                loop.remove_signal_handler(number)

        for number in STOPS:
            loop.add_signal_handler(number, stop)
        await work(stopping)

    try:
        asyncio.run(until_stopped())
    except Exception as fault:
        first = _first(fault)
        if isinstance(first, Unsafe):
            raise Fault(CHECK_FAILED, str(first)) from None
        if isinstance(first, OSError):
            raise Fault(FAILURE, str(first)) from None
        raise
    return OK


def _first(fault: BaseException) -> BaseException:
    """The first fault of a group: processes that run together end together."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault
