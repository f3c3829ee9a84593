"""HTML that is safe by default: what is not `Html` already is text from outside, and is escaped."""

import html
from collections.abc import Iterable
from typing import TypeAlias

from worker.display import visible
from worker.secrecy import mask

VOID = frozenset({"input", "link", "meta", "rect"})  #: elements without an end


class Html(str):
    """Text that is HTML already. `tag` makes it of anything; nothing else should."""

    __slots__ = ()


Child: TypeAlias = "str | int | None | Iterable[Child]"
Value: TypeAlias = "str | int | float | bool | None"


def text(said: str | int) -> Html:
    """Text as HTML; what would hide or reorder it is written out, what is secret is not told."""
    return Html(html.escape(mask(visible(str(said)))))


def join(*children: Child) -> Html:
    """These one after the other; None is nothing."""
    return Html("".join(_shown(child) for child in children))


def tag(name: str, /, *children: Child, **attributes: Value) -> Html:
    """An element. A `_` in an attribute's name stands for `-`, one at its end for nothing.

    True is an attribute without a value, None or False is none.
    """
    start = f"<{name}{''.join(_attribute(*pair) for pair in attributes.items())}"
    return Html(f"{start} />" if name in VOID else f"{start}>{join(*children)}</{name}>")


def _shown(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    return text(child) if isinstance(child, str | int) else join(*child)


def _attribute(name: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    wire = name.rstrip("_").replace("_", "-")
    return f" {wire}" if value is True else f' {wire}="{text(str(value))}"'
