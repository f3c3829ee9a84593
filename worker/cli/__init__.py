"""The command line. Data goes to stdout, everything else to stderr.

Exit codes: 0 ok, 1 failure, 2 usage, 3 bad configuration, 4 Redis or gateway unavailable, 5 a check
failed. Heavy modules are imported by the commands that need them, so that `--help` is quick.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import format_exception
from types import TracebackType
from typing import NoReturn

from worker.cli import adopt, operate, payments, processes, tools, verify
from worker.cli import commands as orders
from worker.cli.base import BAD_SETTINGS, OK, Fault
from worker.display import visible
from worker.secrecy import mask

DOTENV = Path(".env")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    args = _parser().parse_args(argv)
    sys.excepthook = _broken
    try:
        _see_that_it_is_there(args.env_file)
        code: int = args.run(args)
        sys.stdout.flush()  # here, where a reader that has gone away is no surprise
    except Fault as fault:
        print(visible(mask(f"reconciler: {fault}")), file=sys.stderr)
        return fault.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `reconciler pending | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def _see_that_it_is_there(env_file: Path) -> None:
    """The file that is read where none is named may be absent; one that is named was meant."""
    if env_file != DOTENV and not env_file.exists():
        hint = "write the path of a file with NAME=value lines, or leave it out"
        raise Fault(BAD_SETTINGS, f"--env-file {env_file}: there is no such file; {hint}")


def _broken(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    """A bug's traceback, which may quote what a library was given."""
    print(mask("".join(format_exception(kind, fault, trace))), file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Repeats what was written wrongly, but not a password in it."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(mask(message)))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reconciler",
        description="Makes sure that every Alipay payment ends, and that the merchant learns how.",
    )
    parser.add_argument("--env-file", type=Path, default=DOTENV, metavar="FILE")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in (processes, payments, orders, adopt, operate, tools, verify):
        group.add_to(commands)
    return parser
