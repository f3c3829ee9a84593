"""The words that the merchant can meet, as the code has them: what documents are held against.

Most are the members of an enum. The rest are found in what `decide` makes of the whole table of
cells, and as literals in the calls that speak them: a word that a cell never reaches is told, too.
"""

import ast
from collections.abc import Iterator, Sequence
from functools import cache

from jobs.model import Decision, Event, Rejected
from jobs.payment import decide
from tests import cells
from tests.servers import ROOT

#: Where a word stands in a call: by the function's name, the position or keyword of the argument.
_KINDS = (("attention", 0), ("Mismatch", "kind"))
_LOOKS = (("_look", 1),)
_REJECTS = (
    *(("reject", 1), ("reject_the_cancel", 0), ("_reject", 2)),
    *(("BadCommand", 0), ("Refusal", 0), ("Rejected", "reason")),
)
_TOLD = (("tell", 0), ("tell_again", 0))
_WOULD = (("attention", "would"), ("_look", "would"), ("_end", "would"))


@cache
def decisions() -> list[tuple[cells.Scene, Decision]]:
    """What becomes of every cell of the table."""
    scenes = [(cells.place(cell.start, cell.mode), cell.heard) for cell in cells.cells()]
    return [
        (scene, decide(scene.payment, cells.word(heard, scene), scene.now, scene.policy))
        for scene, heard in scenes
    ]


def told() -> Iterator[Event | Rejected]:
    for _, decision in decisions():
        yield from decision.events


def events() -> set[str]:
    """Every type of event of a payment."""
    found = {event.type for event in told() if isinstance(event, Event)}
    return found | {f"payment.{word}" for word in spoken(_TOLD, ["jobs"])}


def kinds() -> set[str]:
    """Every kind of attention."""
    return {e.kind for e in told() if isinstance(e, Event) and e.kind} | spoken(_KINDS)


def reasons() -> set[str]:
    """Why a payment is unresolved."""
    ends = (decision.payment for _, decision in decisions())
    found = {p.reason for p in ends if p.status == "unresolved"}
    return found | spoken(_LOOKS) | spoken((("Mismatch", "kind"),))


def rejections() -> set[str]:
    """Why a command is not carried out."""
    return {e.reason for e in told() if isinstance(e, Rejected)} | spoken(_REJECTS)


def marks() -> set[str]:
    """What was special about an end."""
    return {mark for _, decision in decisions() for mark in decision.payment.marks}


def advice() -> set[str]:
    return {event.advice for event in told()}


def would() -> set[str]:
    return spoken(_WOULD) | {e.would for e in told() if isinstance(e, Event)}


def spoken(
    calls: tuple[tuple[str, int | str], ...], folders: Sequence[str] = ("jobs", "worker")
) -> set[str]:
    """The literals at these places of calls, in all code of ours in these folders."""
    return {
        word
        for folder in folders
        for name, node in _calls(folder)
        for call, at in calls
        if call == name
        for word in _said(node, at)
    }


@cache
def _calls(folder: str) -> list[tuple[str, ast.Call]]:
    """Every call in the code of a folder, by the name of what is called."""
    trees = [ast.parse(file.read_text()) for file in (ROOT / folder).rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(getattr(n.func, "attr", getattr(n.func, "id", "")), n) for n in nodes]


def _said(node: ast.Call, at: int | str) -> Iterator[str]:
    if isinstance(at, int):
        given = node.args[at : at + 1]
    else:
        given = [keyword.value for keyword in node.keywords if keyword.arg == at]
    for value in given:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value
