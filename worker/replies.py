"""What Redis answers: bytes or text, depending on how the client was made."""

from typing import Any


def text_of(raw: Any, errors: str = "strict") -> str:
    """The text of one answer; `errors` as in `bytes.decode`."""
    return raw.decode(errors=errors) if isinstance(raw, bytes) else str(raw)
