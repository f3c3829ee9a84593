"""The registry of log events, held against the code, against real lines, and printed as a page.

`python -m tests.log_events --write` writes docs/log-events.md.
"""

import ast
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker import logs
from worker.condense import WINDOW_SECONDS
from worker.events import CONTEXT, EVENTS, FEW, FIELDS, Entry

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/log-events.md"
METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


def check_written(text: str) -> None:
    """Raise if a line of a process is not as the registry says; what is no JSON is passed by."""
    for line in text.splitlines():
        if line.startswith("{") and line.endswith("}"):
            check_facts(json.loads(line))


def check_facts(line: dict[str, Any]) -> None:
    facts = {name: value for name, value in line.items() if name not in ("timestamp", "level")}
    logs.check_line(None, line.get("level", ""), facts)


# The code


def sources() -> Iterator[ast.AST]:
    """Every module of the product but the registry itself."""
    for file in [*ROOT.glob("jobs/**/*.py"), *ROOT.glob("worker/**/*.py")]:
        if file.name != "events.py":
            yield ast.parse(file.read_text("utf-8"))


def calls() -> Iterator[tuple[str, str, list[str]]]:
    """Name, level and fields of each line that is written out at a call of the log."""
    for tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                fields = [keyword.arg for keyword in node.keywords if keyword.arg]
                named = node.args and isinstance(node.args[0], ast.Constant)
                of_log = ast.unparse(node.func.value).split(".")[-1] == "log"
                if named and of_log and node.func.attr in METHODS:
                    yield ast.literal_eval(node.args[0]), node.func.attr, fields


def words() -> set[str]:
    """Every text that stands in the code."""
    nodes = (node for tree in sources() for node in ast.walk(tree))
    return {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


# The page

INTRO = f"""# Log events

Every line that the reconciler can log. This page is printed from
[`worker/events.py`](../worker/events.py); a test holds the two together.

A line is one JSON object on stderr (on a terminal: one line that is easy to read), with `timestamp`
(UTC), `level`, `event` and the fields of the event. Fields that are explained at one event belong
to it alone; the others are explained [below](#fields).

**Lines that repeat**, per attempt or per stranger's request, are marked with ⟳. Of each kind {FEW}
pass in {WINDOW_SECONDS:.0f} seconds; the others are counted, and
[`log.condensed`](#logcondensed) tells how many there were, for which reasons, and whom the last one
was about. Metrics count all of them. What happens once is never left out. `LOG_CONDENSED=false`
writes every line.
"""

SUBJECTS = {
    "worker": "The worker and its Redis",
    "payment": "Payments",
    "inquiry": "Calls of the gateway",
    "notification": "Notifications",
    "outcome": "Outcomes and commands",
    "receiver": "The receiver",
    "breaker": "Breaker and pace",
    "sweep": "Sweep, jobs and watches",
    "record": "What is stored",
    "probes": "What is checked",
    "process": "The process",
    "log": "The log itself",
}


def page() -> str:
    shared = {name for name, times in _uses().items() if times > 1}
    return "\n".join([INTRO, *_sections(shared), *_glossary(shared)])


def _uses() -> Counter[str]:
    return Counter(name for entry in EVENTS.values() for name in entry.fields.split())


def _sections(shared: set[str]) -> Iterator[str]:
    for name, entry in EVENTS.items():
        if (subject := name.partition(".")[0]) in SUBJECTS and _is_first(name, subject):
            yield f"## {SUBJECTS[subject]}\n"
        yield f"### {name}\n"
        yield f"{_level(entry)}{_repeats(entry)} {entry.meaning}\n"
        if entry.remedy:
            yield f"**What to do:** {entry.remedy}\n"
        fields = entry.fields.split()
        if common := [f"`{field}`" for field in fields if field in shared]:
            yield f"Fields: {', '.join(common)}\n"
        if own := [f"- `{field}`: {FIELDS[field]}" for field in fields if field not in shared]:
            yield "\n".join(own) + "\n"


def _is_first(name: str, subject: str) -> bool:
    return name == next(each for each in EVENTS if each.startswith(f"{subject}."))


def _level(entry: Entry) -> str:
    return f"`{entry.level}`" if entry.level else "at the level of what it tells of:"


def _repeats(entry: Entry) -> str:
    """The sign of what repeats, with the field that tells its kinds apart."""
    if not entry.burst:
        return ""
    which = " only `{}` {}".format(*entry.only) if entry.only else ""
    return f" ⟳{which}{f' by `{entry.reason}`' if entry.reason else ''}:"


def _glossary(shared: set[str]) -> Iterator[str]:
    yield "## Fields\n"
    yield "On any line, where it applies: " + ", ".join(f"`{n}`" for n in CONTEXT.split()) + ".\n"
    yield "| field | what it is |\n|---|---|"
    for name, meaning in FIELDS.items():
        if name in shared or name in CONTEXT.split():
            yield f"| `{name}` | {meaning} |"
    yield ""


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page(), "utf-8")
    else:
        print(page())
