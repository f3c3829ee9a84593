"""Where a process of ours spends its CPU: `python -m tests.bench.sampler FILE MODULE WORDS...`.

The kernel's timer of CPU time interrupts it after each few milliseconds of work, so waiting is not
seen. What each thread has used since the last time counts for the stack that it is found with; what
C does counts for who called it. FILE gets a line for each stack, with its microseconds:
`outermost;..;innermost number`, as flame graph tools read it.

A sampler from outside stops the process at its system calls and finds far too many of them there.
"""

import atexit
import runpy
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

EVERY_SECONDS = 0.001  #: of CPU; the kernel takes its own time, 4 or 10 ms


class Sampler:
    def __init__(self) -> None:
        self.stacks: Counter[tuple[str, ...]] = Counter()
        self._before: dict[int, int] = {}

    def sample(self, _: int, interrupted: FrameType | None) -> None:
        frames: dict[int, FrameType | None] = dict(sys._current_frames())
        frames[threading.get_ident()] = interrupted  # Python runs this in the main thread
        for thread, frame in frames.items():
            used = time.clock_gettime_ns(time.pthread_getcpuclockid(thread)) // 1000
            spent = used - self._before.get(thread, 0)
            self._before[thread] = used
            if spent:
                self.stacks[_stack(frame)] += spent

    def write(self, file: Path) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        lines = (f"{';'.join(stack)} {spent}\n" for stack, spent in self.stacks.items())
        file.write_text("".join(lines))


def _stack(frame: FrameType | None) -> tuple[str, ...]:
    names = []
    while frame is not None:
        code = frame.f_code
        place = "/".join(code.co_filename.rsplit("/", 2)[-2:])
        names.append(f"{place}:{code.co_qualname}")
        frame = frame.f_back
    return tuple(reversed(names))


def main() -> None:
    file, module, sampler = Path(sys.argv[1]), sys.argv[2], Sampler()
    sys.argv[:] = sys.argv[2:]
    atexit.register(sampler.write, file)
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
