"""Where a process of ours spends its CPU: `python -m tests.bench.sampler FILE MODULE WORDS...`.

The kernel's timer of CPU time interrupts it every millisecond of work, so waiting is not seen and
what C does counts for who called it. FILE gets a line for each stack, with how often it was met:
`outermost;..;innermost count`, as flame graph tools read it.

A sampler from outside stops the process at its system calls and finds far too many of them there.
"""

import atexit
import runpy
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

EVERY_SECONDS = 0.001
#: A thread that is here waits, and has used nothing.
WAITING = {"select", "wait", "_worker", "get", "accept", "poll"}

stacks: Counter[tuple[str, ...]] = Counter()


def _name(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.name}:{frame.f_code.co_qualname}"


def _stack(frame: FrameType | None) -> tuple[str, ...]:
    names = []
    while frame is not None:
        names.append(_name(frame))
        frame = frame.f_back
    return tuple(reversed(names))


def _sample(_: int, interrupted: FrameType | None) -> None:
    """Who works: the main thread where it was interrupted, unless another one does and it waits."""
    main = threading.main_thread().ident
    frames = {id_: frame for id_, frame in sys._current_frames().items() if id_ != main}
    busy = [f for f in (interrupted, *frames.values()) if f and f.f_code.co_name not in WAITING]
    stacks[_stack(busy[0] if busy else interrupted)] += 1


def _write(file: Path) -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    file.write_text("".join(f"{';'.join(stack)} {count}\n" for stack, count in stacks.items()))


def main() -> None:
    file, module = Path(sys.argv[1]), sys.argv[2]
    sys.argv[:] = sys.argv[2:]
    atexit.register(_write, file)
    signal.signal(signal.SIGPROF, _sample)
    signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
