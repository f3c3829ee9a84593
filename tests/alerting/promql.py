"""The names in a PromQL expression. Whether it is one at all, `promtool` says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABEL_LIST = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*(\"\d+\")")
_SELECTOR = re.compile(r"(?<![\w:$.])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\}|\(|)")
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "by", "without", "on"}
#: What Grafana puts in by itself.
_INTERVAL = re.compile(r"\$__\w+")


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric, and what its labels are asked for: label, operator, text."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...] = ()

    def selects(self, series: str) -> bool:
        """Whether it selects this series, written as in the exposition format."""
        metric, _, rest = series.partition("{")
        labels = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        return metric == self.metric and all(
            _fits(labels.get(label, ""), operator, text) for label, operator, text in self.matchers
        )


def _fits(value: str, operator: str, text: str) -> bool:
    found = re.fullmatch(text, value) is not None if "~" in operator else text == value
    return found is not operator.startswith("!")


@dataclass(slots=True)
class Names:
    selectors: list[Selector] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)  #: labels joined or grouped by
    dropped: set[str] = field(default_factory=set)  #: labels aggregated away


def names(expr: str) -> Names:
    """All metrics and labels that an expression names."""
    texts: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        texts.append(match[0][1:-1])
        return f'"{len(texts) - 1}"'

    found = Names()
    left = _STRING.sub(put_aside, _INTERVAL.sub("5m", expr))
    for word, labels in _LABEL_LIST.findall(left):
        listed = {label.strip() for label in labels.split(",") if label.strip()}
        (found.dropped if word == "without" else found.kept).update(listed)
    left = _LABEL_LIST.sub(" ", left)
    for metric, rest in _SELECTOR.findall(left):
        if rest != "(" and metric not in _WORDS:
            found.selectors.append(Selector(metric, tuple(_matchers(rest, texts))))
    return found


def _matchers(braces: str, texts: list[str]) -> Iterator[tuple[str, str, str]]:
    for label, operator, number in _MATCHER.findall(braces):
        yield label, operator, texts[int(number.strip('"'))]


def alternatives(operator: str, text: str) -> list[str]:
    """The values that a matcher names: our patterns are plain lists."""
    return text.split("|") if "~" in operator else [text]
