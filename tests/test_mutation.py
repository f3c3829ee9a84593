"""The excuses for planted faults that no test sees: each has a reason, and a place in the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutation.__main__ import ROOT, TESTS, Fault, changed, explained

pytestmark = pytest.mark.once

EXCUSES = [(module, fault, why) for module in TESTS for fault, why in explained(module).items()]


def _functions(module: Path) -> Iterator[tuple[str, str]]:
    """Each function of a module, or method as `Class.method`, and its source."""
    text = module.read_text("utf-8")
    for node in ast.parse(text).body:
        parts = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for part in parts:
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + part.name, ast.get_source_segment(text, part) or ""


@pytest.mark.parametrize("module, fault, why", EXCUSES, ids=[str(e[1]) for e in EXCUSES])
def test_an_excuse_is_of_code_that_is_there(module: str, fault: Fault, why: str) -> None:
    name = fault.function.removeprefix(module.removesuffix(".py").replace("/", ".") + ".")
    source = [line.strip() for line in dict(_functions(ROOT / module))[name].splitlines()]
    taken = [line[2:] for line in fault.lines if line.startswith("-")]
    assert taken, "the fault changes nothing"
    assert set(taken) <= set(source)
    assert len(why) > 20
    assert "\n" not in why


def test_every_excuse_is_of_a_module_that_is_tried() -> None:
    text = (ROOT / "tests/mutation/explained.toml").read_text("utf-8")
    assert text.count("[[mutant]]") == len(EXCUSES), "two alike, or of another module"


def test_a_diff_is_compared_without_its_frame_and_indentation() -> None:
    diff = "--- a\n+++ b\n@@ -1,2 +1,2 @@\n def f():\n-    return 1\n+    return 2\n"
    assert changed(diff) == ("- return 1", "+ return 2")
