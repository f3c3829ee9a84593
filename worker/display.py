"""Text from outside, made fit to be shown."""

import json


def visible(text: str) -> str:
    """The text with all that moves a cursor, hides or reorders written out; lines stay lines.

    What replaces a character is also its escape in JSON.
    """
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
