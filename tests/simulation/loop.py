"""An event loop of our own: virtual time, no threads, no sockets, and a tape that decides.

Whatever is ready at one moment runs in an order that the tape draws; when nothing is ready, time
jumps to the next timer. Tasks belong to processes. A process that crashes is never stepped again:
no `finally` runs, and its tasks are kept, so that no destructor runs either. A frozen process finds
its steps, the same handles, where it left them.
"""

import asyncio
import contextlib
import gc
import heapq
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

from jobs.model import Ms
from tests.simulation.tape import Tape

T = TypeVar("T")

START: Ms = 1_800_000_000_000  #: when every run begins


class Process:
    """One process of the product, as far as the loop knows it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.parked: list[asyncio.Handle] = []
        self.crash_in = 0  #: steps until it crashes; 0: not planned
        self.freeze_in = 0
        self.on_crash: Callable[[], None] = lambda: None
        self.on_freeze: Callable[[], None] = lambda: None


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class SimLoop(asyncio.AbstractEventLoop):
    """One run's loop. `run` returns when `stop` was called, or nothing is left to happen."""

    def __init__(self, tape: Tape, reorder: bool = True) -> None:
        self.now: Ms = START
        self.steps = 0
        self.faults: list[BaseException | str] = []  #: what no task handled
        self.host = copy_context()  #: for what belongs to no process: the network, the servers
        self.host.run(PROCESS.set, None)
        self._tape = tape
        self._reorder = reorder
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[Ms, int, asyncio.TimerHandle]] = []
        self._numbers = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._works: list[tuple[asyncio.Task[Any], Coroutine[Any, Any, Any]]] = []
        self._stopping = False
        self._dead: list[asyncio.Handle] = []

    # What asyncio asks of a loop

    def time(self) -> float:
        return self.now / 1000

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._numbers += 1
        at = max(self.now, round(when * 1000))
        heapq.heappush(self._timers, (at, self._numbers, handle))
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # it is passed over when its time comes

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.append(task)
        if len(self._tasks) > 500:
            self._tasks = [task for task in self._tasks if not task.done()]
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.faults.append(context.get("exception") or str(context.get("message")))

    # What the simulation asks of it

    def after(self, delay: Ms, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Something that happens by itself, whatever befalls the processes."""
        return self.call_at((self.now + delay) / 1000, callback, *args, context=self.host)

    def spawn(self, process: Process | None, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of a process, or of the world."""
        context = copy_context()
        context.run(PROCESS.set, process)
        task = self.create_task(_guarded(self, work), context=context)
        self._works.append((task, work))
        if len(self._works) > 500:
            self._works = [each for each in self._works if not each[0].done()]
        return task

    def crash(self, process: Process) -> None:
        process.alive = False
        self._dead += process.parked
        process.parked = []
        process.on_crash()

    def freeze(self, process: Process, length: Ms) -> None:
        process.frozen = True
        self.after(length, self._thaw, process)

    def _thaw(self, process: Process) -> None:
        process.frozen = False
        self._ready += process.parked
        process.parked = []

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Run, without the garbage collector, whose destructors would be steps of no tape."""
        collecting = gc.isenabled()
        gc.disable()
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            while not self._stopping and (self._ready or self._timers):
                self._step()
        finally:
            self._close_tasks()
            asyncio._set_running_loop(before)
            if collecting:
                gc.enable()

    def _step(self) -> None:
        timers, ready = self._timers, self._ready
        if not ready:
            self.now = timers[0][0]
        while timers and timers[0][0] <= self.now:
            ready.append(heapq.heappop(timers)[2])
        which = self._tape.draw(len(ready)) if self._reorder and len(ready) > 1 else 0
        handle = ready.pop(which)
        if handle._cancelled:
            return
        process: Process | None = handle._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is None or self._may_step(process, handle):
            self.steps += 1
            handle._run()

    def _may_step(self, process: Process, handle: asyncio.Handle) -> bool:
        if process.alive and not process.frozen and process.crash_in:
            process.crash_in -= 1
            if not process.crash_in:
                self.crash(process)
        if process.alive and not process.frozen and process.freeze_in:
            process.freeze_in -= 1
            if not process.freeze_in:
                process.on_freeze()
        if not process.alive:
            self._dead.append(handle)
        elif process.frozen:
            process.parked.append(handle)
        return process.alive and not process.frozen

    def _close_tasks(self) -> None:
        """What did not end is closed here: left to the collector it would complain."""
        coros = [task.get_coro() for task in self._tasks if not task.done()]
        for coro in [*coros, *(work for task, work in self._works if not task.done())]:
            if coro is not None:
                with contextlib.suppress(RuntimeError, StopIteration):
                    coro.close()


async def _guarded(loop: SimLoop, work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception as fault:
        loop.faults.append(fault)
