"""Plant faults in the current directory, a copy, and write down which of them tests saw.

Run as a script, so that the copy's `tests` are not imported before they are mutated. The faults are
mutmut's, and they stand side by side in one file, switched by name; only the trying is ours: tests
are collected once, and each fault is tried in a fork of that process, by the tests that reach it:
first those that saw others in the same function, then the quickest.

mutmut's faults swap operators, constants and arguments and drop whole cases. The code here decides
by guards, alternatives and chains of calls, so five kinds are added; the first and the last two are
known from PIT as "remove conditionals", "naked receiver" and "void method calls".
"""

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import libcst as cst
import pytest
from mutmut.__main__ import create_mutants
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir, setup_source_paths

YES, NO = cst.Name("True"), cst.Name("False")

#: A fault may make a loop endless. Its tests get thrice the time that they took without it, and
#: 20 s: other work may slow the machine down.
TIMES, MORE_SECONDS = 3, 20.0
AT_ONCE = 2  #: faults that are tried side by side


def always_or_never(node: cst.If) -> Iterator[cst.If]:
    """`if x:` becomes `if True:` and `if False:`."""
    yield from (node.with_changes(test=test) for test in (YES, NO))


def unguarded(node: cst.MatchCase) -> Iterator[cst.MatchCase]:
    """`case X() if y:` becomes `case X() if True:`."""
    if node.guard is not None:
        yield node.with_changes(guard=YES)


def fewer_alternatives(node: cst.MatchOr) -> Iterator[cst.MatchPattern]:
    """`case X() | Y():` becomes `case Y():` and `case X():`."""
    for gone in range(len(node.patterns)):
        kept = [*node.patterns[:gone], *node.patterns[gone + 1 :]]
        kept[-1] = kept[-1].with_changes(separator=cst.MaybeSentinel.DEFAULT)
        yield kept[0].pattern if len(kept) == 1 else node.with_changes(patterns=kept)


def not_called(node: cst.Call) -> Iterator[cst.BaseExpression]:
    """`turn.rest()` becomes `turn`, and `look(turn, why)` becomes `turn`."""
    if isinstance(node.func, cst.Attribute) and isinstance(node.func.value, cst.Name | cst.Call):
        yield node.func.value
    elif isinstance(node.func, cst.Name) and node.args and not node.args[0].star:
        value = node.args[0].value
        bare = isinstance(value, cst.ConcatenatedString | cst.GeneratorExp) and not value.lpar
        yield _in_brackets(value) if bare else value  # the call's own held it together


def _in_brackets(value: cst.BaseExpression) -> cst.BaseExpression:
    return value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def not_done(node: cst.Expr) -> Iterator[cst.Pass]:
    """A statement that is a call alone becomes `pass`."""
    if isinstance(node.value, cst.Call | cst.Await):
        yield cst.Pass()


OURS = [
    (cst.If, always_or_never),
    (cst.MatchCase, unguarded),
    (cst.MatchOr, fewer_alternatives),
    (cst.Call, not_called),
    (cst.Expr, not_done),
]


class Trial:
    """Takes over after pytest has collected: a run without faults, then each fault."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.verdicts: dict[str, str] = {}
        self.reach: dict[str, list[tuple[float, pytest.Item]]] = {}  #: by function, with seconds
        self.saw: dict[
            str, list[pytest.Item]
        ] = {}  #: by function: what saw faults of it, last first
        self.tried: dict[int, tuple[str, list[pytest.Item], int]] = {}  #: under way, by process
        self.pipe = 0  #: in a fork: where to write which test failed
        self.running = 0  #: the number of that test

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        set_mutant_under_test("stats")
        for item, after in zip(session.items, [*session.items[1:], None], strict=True):
            self._measure(item, after)
        if session.testsfailed:
            sys.exit("the tests fail without any fault")
        set_mutant_under_test("")
        gc.freeze()  # no fork need copy what all of them share
        for count, name in enumerate(self.names):
            if count >= AT_ONCE:
                self._end_one()
            print(f"\n{count} of {len(self.names)}: {name}", flush=True)
            self._begin(name)
        while self.tried:
            self._end_one()
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.pipe and report.failed:  # of a test, or of one of its subtests
            os.write(self.pipe, str(self.running).encode())
            os._exit(1)

    def _measure(self, item: pytest.Item, after: pytest.Item | None) -> None:
        """Run a test, and note which functions it calls."""
        state()._stats.clear()
        began = time.monotonic()
        item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
        took = time.monotonic() - began
        for function in state()._stats:
            self.reach.setdefault(function, []).append((took, item))

    def _begin(self, name: str) -> None:
        """Try one fault in a process of its own."""
        function = name.partition("__mutmut_")[0]
        reach = sorted(self.reach.get(function, []), key=lambda test: test[0])
        saw = self.saw.get(function, [])
        tests = [*saw, *(item for _, item in reach if item not in saw)]
        seconds = TIMES * sum(took for took, _ in reach) + MORE_SECONDS
        read, write = os.pipe()
        child = os.fork()
        if not child:
            self.pipe = write
            self._run(name, tests, seconds)
        os.close(write)
        self.tried[child] = name, tests, read

    def _run(self, name: str, tests: list[pytest.Item], seconds: float) -> NoReturn:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        set_mutant_under_test(name)
        for self.running, item in enumerate(tests):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        os._exit(0)

    def _end_one(self) -> None:
        """Wait for one of those under way."""
        child, status = os.wait()
        name, tests, pipe = self.tried.pop(child)
        with os.fdopen(pipe) as written:
            number = written.read()
        if number:
            saw = self.saw.setdefault(name.partition("__mutmut_")[0], [])
            item = tests[int(number)]
            saw[:] = [item, *(other for other in saw if other is not item)]
        ended = os.waitstatus_to_exitcode(status)
        self.verdicts[name] = {0: "survived", -signal.SIGALRM: "timeout"}.get(ended, "killed")
        if not number:
            print(f"\n{name}: {self.verdicts[name]}", flush=True)


def main(module: str, only: str, *tests: str) -> None:
    """Try those whose name contains `only`; all of them if it is empty."""
    mutation_operators[:] = [*mutation_operators, *OURS]
    Path("mutants").mkdir()
    copy_src_dir()
    copy_also_copy_files()
    setup_source_paths()
    create_mutants(1)
    meta = json.loads(Path(f"mutants/{module}.meta").read_text("utf-8"))
    trial = Trial([name for name in meta["exit_code_by_key"] if only in name])
    os.chdir("mutants")
    quiet = ["-q", "-s", "--tb=native", "-p", "no:cacheprovider"]  # native: reads no source
    pytest.main(["--rootdir=.", *quiet, *tests], plugins=[trial])
    os.chdir("..")
    found = [
        {
            "name": name,
            "verdict": verdict,
            "fault": get_diff_for_mutant(name, path=module) if verdict != "killed" else "",
        }
        for name, verdict in trial.verdicts.items()
    ]
    Path("verdicts.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
