"""The runbook has a section for each alert, with what to look for and what to do."""

import re
import shlex
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from tests.alerting.promtool import ROOT, alerts, log_events
from worker import cli
from worker.events import CONTEXT, EVENTS
from worker.settings import SETTINGS

pytestmark = pytest.mark.once  # files, not Python

TEXT = (ROOT / "docs/runbook.md").read_text("utf-8")


@cache
def sections() -> Mapping[str, str]:
    """The text of each section about an alert, by its heading."""
    _, *parts = re.split(r"^#+ ", TEXT, flags=re.MULTILINE)
    found = [part.partition("\n")[::2] for part in parts]
    return {title: text for title, text in found if title.startswith("Reconciler")}


def anchor(heading: str) -> str:
    """As the sites that show Markdown make them."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.fixture(params=sections(), ids=str)
def section(request: pytest.FixtureRequest) -> Any:
    return request.param, sections()[request.param]


def test_each_alert_has_its_section_and_each_section_its_alert_in_the_same_order() -> None:
    assert list(sections()) == list(alerts())


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_links_to_its_section(alert: str) -> None:
    path, _, target = alerts()[alert]["annotations"]["runbook_url"].partition("#")
    assert (ROOT / path).read_text("utf-8") == TEXT
    assert target == anchor(alert) == alert.lower()


def test_a_section_says_what_it_means_for_money_where_to_look_what_to_do_and_when_it_is_nothing(
    section: tuple[str, str],
) -> None:
    bold = re.findall(r"^\*\*(.+?)\*\*", section[1], re.MULTILINE)
    assert bold == ["Money.", "See.", "Do.", "No problem when"]


def test_a_section_shows_how_to_find_a_log_event_of_its_alert(section: tuple[str, str]) -> None:
    alert, text = section
    looked_for = [line for line in text.splitlines() if "| jq" in line]
    assert looked_for, "there is no line for jq"
    assert any(selects(line, event) for line in looked_for for event in log_events(alerts()[alert]))


def selects(line: str, event: str) -> bool:
    """Whether a jq line would find the event."""
    first = re.search(r'\.event ?\| ?startswith\("(.+?)"\)', line)
    last = re.search(r'\.event ?\| ?endswith\("(.+?)"\)', line)
    some = re.search(r'\.event ?\| ?test\("(.+?)"\)', line)
    return (
        f'.event=="{event}"' in line
        or bool(first and event.startswith(first[1]))
        or bool(last and event.endswith(last[1]))
        or bool(some and re.search(some[1], event))
    )


def test_only_log_events_that_exist_are_looked_for() -> None:
    asked = re.findall(r'\.event=="(.+?)"', TEXT)
    for words in re.findall(r'\.event \| test\("(.+?)"\)', TEXT):
        asked += [word for word in words.split("|") if "." in word]
    assert asked
    assert set(asked) <= set(EVENTS)


def test_only_fields_that_the_events_have_are_shown() -> None:
    lines = [line for line in re.findall(r"\| jq (.+)$", TEXT, re.MULTILINE) if ") | " in line]
    for line in lines:
        events = [event for event in EVENTS if selects(line, event)]
        shown = re.findall(r"\b[a-z]\w+", line.partition(") | ")[2].partition("'")[0])
        known = {"timestamp", "level", "event", *CONTEXT.split()}
        known |= {name for event in events for name in EVENTS[event].fields.split()}
        assert shown and set(shown) <= known, line


def test_only_commands_that_exist_are_named_with_words_that_they_take() -> None:
    lines = re.findall(r"^\$ reconciler (.+?)(?: +#.*)?$", TEXT, re.MULTILINE)
    assert lines
    for line in lines:
        assert cli._parser().parse_args(shlex.split(line)).run


def test_only_settings_that_exist_are_named() -> None:
    known = {setting.name for setting in SETTINGS}
    named = set(re.findall(r"`([A-Z][A-Z]+_[A-Z_]+)(?:=\w+)?`", TEXT))
    assert named
    assert named <= known


def test_every_link_leads_somewhere() -> None:
    headings = {anchor(heading) for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
    for target in re.findall(r"\]\(#(.+?)\)", TEXT):
        assert target in headings
    for path in re.findall(r"\]\(([^#)]+)\)", TEXT):
        assert (ROOT / "docs" / path).exists()


def test_each_way_to_get_the_lines_gives_json_alone_and_takes_each_age_that_is_asked_for() -> None:
    """jq stops at a line that is none; Docker and Kubernetes know no days."""
    ways = re.findall(r"^[$#] logs\(\) \{.*$", TEXT, re.MULTILINE)
    assert len(ways) == 3
    assert all(way.endswith("| grep '^{'; }") for way in ways)
    ages = re.findall(r"logs (-\S+) \|", TEXT)
    assert ages and all(re.fullmatch(r"-\d+[hm]", age) for age in ages)
