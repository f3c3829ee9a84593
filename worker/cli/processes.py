"""The commands that run until they are told to stop: receiver, worker, or both."""

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from worker.cli.base import (
    CHECK_FAILED,
    FAILURE,
    OK,
    Commands,
    Fault,
    add,
    read_settings,
    source_of,
)

if TYPE_CHECKING:
    from worker.environment import Need
    from worker.settings import Settings

STOPS = (signal.SIGTERM, signal.SIGINT)


def add_to(commands: Commands) -> None:
    add(commands, "run", _run, "Run receiver and worker in one process.")
    add(commands, "receiver", _receiver, "Receive the gateway's notifications.")
    add(commands, "worker", _worker, "Follow payments.")


def _run(args: argparse.Namespace) -> int:
    from worker.environment import Need

    async def both(settings: "Settings", stopping: asyncio.Event) -> None:
        from worker.main import run_worker
        from worker.receiving import run_receiver

        async with asyncio.TaskGroup() as group:
            group.create_task(run_receiver(settings, stopping))
            group.create_task(run_worker(settings, stopping))

    return _serve(args, Need.GATEWAY | Need.NOTIFICATIONS, both)


def _receiver(args: argparse.Namespace) -> int:
    from worker.environment import Need

    async def receiver(settings: "Settings", stopping: asyncio.Event) -> None:
        from worker.receiving import run_receiver

        await run_receiver(settings, stopping)

    return _serve(args, Need.NOTIFICATIONS, receiver)


def _worker(args: argparse.Namespace) -> int:
    from worker.environment import Need

    async def worker(settings: "Settings", stopping: asyncio.Event) -> None:
        from worker.main import run_worker

        await run_worker(settings, stopping)

    return _serve(args, Need.GATEWAY, worker)


Work = Callable[["Settings", asyncio.Event], Awaitable[None]]


def _serve(args: argparse.Namespace, need: "Need", work: Work) -> int:
    """Run until SIGTERM or SIGINT asks to stop; a second one does not wait.

    SIGHUP has the accounts read again.
    """
    from worker.reload import ignore_hangups, reloading

    ignore_hangups()
    from worker.connect import Unsafe
    from worker.logs import configure, take_over
    from worker.loops import fastest

    settings, source = read_settings(args, need), source_of(args, need)
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
        async with reloading(source, settings):
            await work(settings, stopping)

    try:
        with asyncio.Runner(loop_factory=fastest()) as runner:
            runner.run(until_stopped())
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
