"""Times on the wire, in every format known from the gateway and its official clients."""

import re
from datetime import UTC, datetime, timedelta

from jobs.model import Ms

#: 9999-12-31T23:59:59.999Z. Times from 1970 to here can be printed, and are exact in a double.
MAX_TIME: Ms = 253_402_300_799_999

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH_MS = re.compile(r"[1-9][0-9]{12}")
_HOUR, _MINUTE = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_ISO_8601 = re.compile(
    f"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_HOUR}:{_MINUTE}:{_MINUTE})"
    rf"(?:\.([0-9]{{1,9}}))?(?:Z|([+-])({_HOUR}):?({_MINUTE}))"
)


def parse_time(text: str) -> Ms | None:
    """A time in any format known from the gateway and its official clients, or None.

    Epoch milliseconds, or ISO 8601 with an offset, with or without colon, and up to nine decimals
    (cut, not rounded). A time without an offset could be anywhere in a day: it is no time.
    """
    if _EPOCH_MS.fullmatch(text):
        return int(text)
    iso = _ISO_8601.fullmatch(text)
    if iso is None:
        return None
    date_and_time, fraction, sign, hours, minutes = iso.groups()
    try:
        local = datetime.fromisoformat(date_and_time).replace(tzinfo=UTC)
    except ValueError:  # no such day
        return None
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) // _MILLISECOND
    time = (local - _EPOCH) // _MILLISECOND + int(f"{fraction or '':0<3}"[:3])
    time += offset if sign == "-" else -offset
    return time if 0 <= time <= MAX_TIME else None


def format_time(ms: Ms) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-01-02T03:04:05.678Z`. From 1970 to 9999."""
    return f"{_EPOCH + ms * _MILLISECOND:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"


def format_seconds(ms: Ms) -> str:
    """As the gateway's documents write a time: ISO 8601 in seconds, never later than `ms`."""
    return f"{_EPOCH + ms * _MILLISECOND:%Y-%m-%dT%H:%M:%S}+00:00"
