"""Run mutmut in the current directory, a copy, with more kinds of faults, and write what came out.

Run as a script, so that the copy's `tests` are not imported before they are mutated. mutmut's own
faults swap operators, constants and arguments and drop whole cases. The code here decides by
guards, alternatives and chains of calls, so five more kinds are planted; the first and the last two
are known from PIT as "remove conditionals", "naked receiver" and "void method calls".
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import libcst as cst
from mutmut.__main__ import cli
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.mutators import mutation_operators

YES, NO = cst.Name("True"), cst.Name("False")

#: mutmut's exit codes: 1 and 3 are failed tests, the others are signals and codes of a time limit.
KILLED, TIMEOUT = (1, 3), (-24, 24, 36, 152, 255)


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
        yield node.args[0].value


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


def verdicts(module: str) -> Iterator[dict[str, str]]:
    """Each mutant of a module: its name, what became of it, and the fault unless it was killed."""
    meta = json.loads(Path(f"mutants/{module}.meta").read_text("utf-8"))
    for name, code in meta["exit_code_by_key"].items():
        verdict = "killed" if code in KILLED else "timeout" if code in TIMEOUT else "survived"
        fault = "" if verdict == "killed" else get_diff_for_mutant(name, path=module)
        yield {"name": name, "verdict": verdict, "fault": fault}


if __name__ == "__main__":
    only = sys.argv[1]
    mutation_operators[:] = [*mutation_operators, *OURS]
    cli(["run", "--max-children", "1"], standalone_mode=False)
    Path("verdicts.json").write_text(json.dumps(list(verdicts(only))), "utf-8")
