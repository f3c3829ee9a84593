"""Our command line with less patience and, if asked for, with bugs: a process of the alerts' tests.

python -m tests.alerting.staged well|sick COMMAND
"""

import logging
import sys
from typing import Any

from worker import arq_jobs, cli, main, readings, receiving, watch
from worker.commands import CommandStream

SHORT = 300  #: ms


async def _broken(*_: Any) -> None:
    logging.getLogger("planted").error("a library is in trouble")
    raise RuntimeError("planted")


def hurry() -> None:
    """What is looked at every so many seconds or minutes is looked at all the time."""
    _set(readings, "READ_EVERY", SHORT)
    _set(readings, "PING_EVERY", SHORT)
    _set(readings, "REST", 0)
    _set(main, "WATCH_EVERY", SHORT)
    _set(receiving, "WATCH_EVERY", SHORT)
    _set(main, "HOUSEKEEPING_EVERY", SHORT)


def plant_bugs() -> None:
    """No job, no sweep, and no reading of commands works; a sweep is missed at once."""
    _set(arq_jobs, "follow", _broken)
    _set(main, "sweep", _broken)
    _set(CommandStream, "run", _broken)
    _set(watch, "STALLED_AFTER", SHORT)
    _set(watch, "ABANDONED_AFTER", SHORT)


def _set(where: Any, name: str, value: Any) -> None:
    assert hasattr(where, name)
    setattr(where, name, value)


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    hurry()
    if kind == "sick":
        plant_bugs()
    sys.exit(cli.main(words))
