"""`python -m tests.mutation [MODULE ...]`: does a test see every fault that is planted?

Faults are planted in a copy, never in the work tree. `explained.toml` says of each change that no
test can see why it is no fault; of all others at least `LEAST` percent must be seen, and each one
that is not seen fails the run by name.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from worker.embedded import embedded_server

ROOT = Path(__file__).parent.parent.parent
EXPLAINED = Path(__file__).with_name("explained.toml")
LEAST = 95.0

#: The modules that decide, let in, believe and keep, each with the tests that pin it down.
TESTS = {
    "worker/signature.py": ["tests/test_signature.py"],
    "jobs/payment.py": [
        "tests/test_payment.py",
        "tests/test_turn.py",
        "tests/test_evidence.py",
        "tests/test_submit.py",
    ],
    "worker/receiver.py": ["tests/test_receiver.py", "tests/test_hostile.py"],
    "worker/http_server.py": [
        "tests/test_http_server.py",
        "tests/test_receiver.py",
        "tests/test_hostile.py",
    ],
}

NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", ".hypothesis")

#: What is drawn by chance, tries every combination there is, or brings the machine to its limits
#: would take most of the time, and kill by luck: the table and the stories must do without.
LEFT_OUT = [
    "tests/test_payment.py::test_every_combination_can_be_decided_and_keeps_the_plain_promises",
    "tests/test_hostile.py::test_many_at_once_are_all_answered",
]

CONFIG = """
[tool.mutmut]
source_paths = ["jobs", "worker"]
only_mutate = [{module}]
also_copy = ["Makefile", "README.md", "docs", "deploy", ".env.example"]
"""


@dataclass(frozen=True)
class Fault:
    """A planted fault: the function (`jobs.payment._paid`), the lines it takes and gives."""

    function: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.function, *(f"    {line}" for line in self.lines)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTS))
    parser.add_argument("--only", default="", help="only functions whose name contains this")
    args = parser.parse_args()
    modules = args.modules or list(TESTS)
    if unknown := set(modules) - set(TESTS):
        parser.error(f"no tests are named for {', '.join(sorted(unknown))}")
    good = [_good(module, args.only) for module in modules]  # all of them, also after a bad one
    return 0 if all(good) else 1


def _good(module: str, only: str) -> bool:
    """Plant the faults of one module, print what came out, and say whether it is enough."""
    print(f"--- {module}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutation-") as made:
        verdicts = _run(module, only, Path(made) / "copy")
    took = time.monotonic() - started
    counts = {v: sum(one["verdict"] == v for one in verdicts) for v in ("killed", "timeout")}
    left = [_fault(one["name"], one["fault"]) for one in verdicts if one["verdict"] == "survived"]
    excuses = explained(module)
    open_ = [fault for fault in left if fault not in excuses]
    faults = sum(counts.values()) + len(open_)
    seen = 100 * sum(counts.values()) / faults
    if not only:
        _show("no longer needed in explained.toml", [f for f in excuses if f not in left])
    _show("survived, unexplained", open_)
    print(
        f"{module}: {len(verdicts)} mutants, {counts['killed']} killed, {counts['timeout']} timed"
        f" out, {len(left)} survived ({len(left) - len(open_)} explained):"
        f" {seen:.1f} % of {faults} faults seen in {took:.0f} s",
        flush=True,
    )
    return seen >= LEAST and not open_


def _run(module: str, only: str, copy: Path) -> list[dict[str, str]]:
    shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
    with (copy / "pyproject.toml").open("a", encoding="utf-8") as pyproject:
        pyproject.write(CONFIG.format(module=json.dumps(module)))
    log = copy / "mutation.log"
    run = [sys.executable, "tests/mutation/mutants.py", module, only, *TESTS[module]]
    run += ["-m", "not hypothesis and not once", *(f"--deselect={test}" for test in LEFT_OUT)]
    with log.open("wb") as out, embedded_server() as url:  # one for all, not one for each fault
        env = os.environ | {"TEST_REDIS_URL": url}
        ended = subprocess.run(run, cwd=copy, env=env, stdout=out, stderr=out, check=False)
    if ended.returncode:
        sys.exit("\n".join(log.read_text("utf-8", "replace").splitlines()[-30:]))
    verdicts: list[dict[str, str]] = json.loads((copy / "verdicts.json").read_text("utf-8"))
    return verdicts


def _fault(name: str, diff: str) -> Fault:
    """A mutant by mutmut's name (`jobs.payment.x__paid__mutmut_3`) and its unified diff."""
    module, _, mangled = name.partition("__mutmut_")[0].rpartition(".")
    function = mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
    return Fault(f"{module}.{function}", changed(diff))


def changed(diff: str) -> tuple[str, ...]:
    """The lines that a unified diff takes away and puts in, without their indentation."""
    lines = [line for line in diff.splitlines() if line[:3] not in ("---", "+++")]
    return tuple(f"{ln[0]} {ln[1:].strip()}" for ln in lines if ln[:1] in ("-", "+"))


def explained(module: str) -> dict[Fault, str]:
    """The faults of a module that no test can see, and why."""
    entries = tomllib.loads(EXPLAINED.read_text("utf-8")).get("mutant", [])
    name = module.removesuffix(".py").replace("/", ".")
    return {
        Fault(one["function"], changed(one["diff"])): one["reason"]
        for one in entries
        if one["function"].startswith(name + ".")
    }


def _show(title: str, faults: list[Fault]) -> None:
    for fault in faults:
        print(f"{title}: {fault}")


if __name__ == "__main__":
    sys.exit(main())
