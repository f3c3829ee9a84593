"""The hostile corpus: cases as data, by theme. `tests/test_hostile.py` plays them."""

from tests.hostile import boundaries, forged, framing, genuine, headers, odd, replay
from tests.hostile.cases import Case

THEMES: dict[str, list[Case]] = {
    "genuine": genuine.CASES,
    "signature": forged.CASES,
    "headers": headers.CASES,
    "framing": framing.CASES,
    "odd": odd.CASES,
    "boundaries": boundaries.CASES,
    "replay": replay.CASES,
}
CASES = [(f"{theme}: {case.name}", case) for theme, cases in THEMES.items() for case in cases]
