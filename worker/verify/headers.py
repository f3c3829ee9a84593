"""Which client id and which time may have been signed in the place of the captured ones."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

from worker.times import parse_time
from worker.verify.message import Case

SANDBOX = "SANDBOX_"
#: How far apart two looks at a clock are sought: in milliseconds, and in seconds.
NEAR_MS, NEAR_SECONDS = 3000, 300
#: 1971 to 2096: the times that are written in other ways. No other one is a message's.
OLDEST, NEWEST = 31_536_000_000, 4_000_000_000_000
SECONDS_DIGITS = 10  #: of epoch seconds, from 2001 to 2286
TIME_HEADERS = ("request-time", "response-time", "date", "x-request-time", "timestamp")


def client_ids(case: Case, client_id: str) -> Iterator[tuple[str, str]]:
    """The mistake, and the client id under which it would verify."""
    if client_id:
        yield "client.trimmed", _trimmed(client_id)
    yield "client.case", client_id.lower()
    yield "client.case", client_id.upper()
    bare = client_id.removeprefix(SANDBOX)
    yield "client.sandbox", bare if bare != client_id else SANDBOX + client_id
    yield "client.configured", case.client_id
    yield "client.empty", ""


def times(case: Case, time: str) -> Iterator[tuple[str, str]]:
    """The mistake, and the time under which it would verify."""
    for name in TIME_HEADERS:
        for value in case.capture.values(name):
            yield "time.other_header", value
    if " " in time.strip():
        yield "time.plus", time.strip().replace(" ", "+")
    yield "time.trimmed", _trimmed(time)
    if time.isdigit() and time.isascii():
        yield "time.seconds", time[:-3]
        yield "time.seconds", time[:-3] + "000"
        yield "time.seconds", f"{time}000"
    moment = parse_time(time if len(time) != SECONDS_DIGITS else f"{time}000")
    if moment is not None and OLDEST < moment < NEWEST:
        yield from (("time.format", text) for text in _written(moment))
    yield "time.empty", ""


def _trimmed(value: str) -> str:
    return value.strip().strip("\"'").strip()


def _written(moment: int) -> Iterator[str]:
    """One moment in every format known from the gateway and its clients."""
    yield str(moment)
    yield str(moment // 1000)
    for hours in (0, 8, 9, 7, 5.5, 1, 2, -5, -8, -7):
        zone = timezone(timedelta(hours=hours)) if hours else UTC
        at = datetime.fromtimestamp(moment // 1000, zone) + timedelta(milliseconds=moment % 1000)
        for digits in ("seconds", "milliseconds", "microseconds"):
            text = at.isoformat(timespec=digits)
            yield text
            yield text[:-3] + text[-2:]  # an offset without its colon
            yield text[:-6]
            yield text[:-6] + "Z"
            yield text[:-6].replace("T", " ")
    yield datetime.fromtimestamp(moment // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + (
        f"{moment % 1000:03d}0000Z"  # .NET's "o"
    )


def moments(time: str) -> Iterator[tuple[str, str]]:
    """Times shortly before and after, in the captured format: a clock that was read twice."""
    if len(time) == SECONDS_DIGITS and time.isdigit() and time.isascii():
        yield from (("time.seconds", f"{time}{ms:03d}") for ms in range(1000))
    moment = parse_time(time)
    if moment is None or not OLDEST < moment < NEWEST:
        return
    if time.isdigit():
        for step in range(1, NEAR_MS + 1):
            yield "time.made_twice", str(moment - step)
            yield "time.made_twice", str(moment + step)
        return
    rest = time[19:]
    at = datetime.fromisoformat(time[:19]).replace(tzinfo=UTC)
    for step in range(1, NEAR_SECONDS + 1):
        for moved in (at - timedelta(seconds=step), at + timedelta(seconds=step)):
            yield "time.made_twice", moved.isoformat()[:19] + rest
