"""The README's drawing of a payment's life, drawn from what `decide` does, not from what we think.

`python -m tests.drawing` prints it; `python -m tests.drawing --write` puts it into the README.
"""

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from jobs.model import Aftercare, Payment, Status
from jobs.payment import decide
from tests.cells import Scene, cells, place, word

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- drawing -->\n", "<!-- /drawing -->"

#: An edge is named by where it leads: the cause, the reason or the mark that the payment got there,
#: and, where it got none, by what was heard.
NAMES = {
    "failed": "failed",
    "timed_out": "timed out",
    "requested": "cancel ordered",
    "not_found": "never made",
    "refunded": "paid back",
    "cancel_unconfirmed": "cancel unanswered",
    "not_cancelled": "failed",
    "resolved": "resolved by an operator",
    "report": "report mode",
    "no_answer": "report mode",
    "gateway_refuses_us": "we are refused",
    "amount_mismatch": "other money",
    "pending_expired": "never confirmed",
    "brake": "brake",
    "cancel_limit": "cancel unanswered",
    "cancel_refused": "cancel refused",
    "cancel_window": "cancel refused",
    "Paid": "paid",
    "PaidBack": "paid",
    "paid_after_all": "paid after all",
    "Failed": "failed",
    "Closed": "closed",
    "CancelConfirmed": "closed",
    "CancelRefused": "cancel refused",
    "NotExist": "never made",
    "NotYet": "cancel refused",
    "Confirming": "the bank confirms",
    "forget": "forget",
}
WATCHED = (Status.CANCELLED, Status.FAILED)


def state(p: Payment) -> str:
    """A node of the drawing: the status, or what goes on after it."""
    if p.aftercare is Aftercare.CANCELLING:
        return "taking_back"
    return "refund_required" if p.aftercare is Aftercare.REFUND_REQUIRED else p.status.value


@cache
def edges() -> dict[tuple[str, str], list[str]]:
    """Every change that any news makes in any cell of the table, in any mode, and its names."""
    found: dict[tuple[str, str], set[str]] = {}
    for before, heard, after in _changes():
        way = (_watched(before, after), _watched(after, before))
        found.setdefault(way, set()).add(_name(before, heard, after))
    order = list(dict.fromkeys(NAMES.values()))
    return {way: sorted(names, key=order.index) for way, names in sorted(found.items(), key=_place)}


def _changes() -> Iterator[tuple[Payment, str, Payment]]:
    starts = dict.fromkeys((cell.start, cell.mode) for cell in cells())
    words = dict.fromkeys(cell.heard for cell in cells())
    for start, mode in starts:
        scene = place(start, mode)
        for heard in words:
            after = _after(scene, heard)
            if state(after) != state(scene.payment):
                yield scene.payment, heard, after


def _after(scene: Scene, heard: str) -> Payment:
    return decide(scene.payment, word(heard, scene), scene.now, scene.policy).payment


def _watched(p: Payment, other: Payment) -> str:
    """`cancelled` and `failed` are watched alike: what follows leaves from both, and comes back."""
    aftercare = {state(p), state(other)} & {"taking_back", "refund_required"}
    return "no_money_taken" if aftercare and state(p) in WATCHED else state(p)


def _name(before: Payment, heard: str, after: Payment) -> str:
    if before.status is after.status:
        return _aftercare_name(before, heard, after)
    if after.status is Status.PENDING:
        return NAMES["Confirming"] if heard == "Confirming" else NAMES["report"]
    new = [mark for mark in after.marks if mark not in (*before.marks, "late", "partly_refunded")]
    if after.status is Status.CANCELLING and after.cause:
        new = [after.cause.value]
    if after.status is Status.UNRESOLVED:
        new = [after.reason]
    return NAMES[new[-1] if new else heard.split()[0]]


def _aftercare_name(before: Payment, heard: str, after: Payment) -> str:
    if after.aftercare in (Aftercare.WATCHING, Aftercare.NONE):
        return NAMES["resolved"] if heard == "resolve" else NAMES["refunded"]
    if before.aftercare in (Aftercare.WATCHING, Aftercare.NONE):
        taking_back = after.aftercare is Aftercare.CANCELLING
        return NAMES["paid_after_all" if taking_back else "report"]
    return NAMES["CancelRefused"] if heard.startswith("CancelRefused") else NAMES["cancel_limit"]


def _place(edge: tuple[tuple[str, str], set[str]]) -> tuple[int, int]:
    order = [*(status.value for status in Status), "no_money_taken", "taking_back"]
    order.append("refund_required")
    return order.index(edge[0][0]), order.index(edge[0][1])


def drawing() -> str:
    """The drawing as the README holds it, between its two markers."""
    lines = ["stateDiagram-v2", "    direction LR", "    [*] --> pending: track"]
    lines += ["    state no_money_taken {", "        cancelled", "        failed", "    }"]
    lines += [f"    {a} --> {b}: {', '.join(names)}" for (a, b), names in edges().items()]
    return "\n".join(["```mermaid", *lines, "```", ""])


def drawn(readme: str) -> str:
    """What stands between the markers of a README; ValueError if they are not there."""
    begin, end = readme.find(BEGIN), readme.find(END)
    if begin < 0 or end < begin:
        raise ValueError(f"README.md has no place for the drawing: {BEGIN.strip()} and {END}")
    return readme[begin + len(BEGIN) : end]


def with_drawing(readme: str) -> str:
    """A README with the drawing put in its place."""
    before, after = readme.split(BEGIN + drawn(readme) + END)
    return before + BEGIN + drawing() + END + after


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        README.write_text(with_drawing(README.read_text("utf-8")), "utf-8")
    else:
        print(drawing(), end="")
