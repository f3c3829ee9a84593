"""The dashboard shows only what exists, fits a screen, and is what Grafana 10 reads."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerting.metric_names import unknown_names
from tests.alerting.promql import names
from tests.alerting.promtool import ROOT, needs_promtool, promtool

pytestmark = pytest.mark.once  # files, not Python

FILE = ROOT / "deploy/grafana/reconciler.json"
BOARD: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
PANELS: list[dict[str, Any]] = BOARD["panels"]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCREEN = 26  #: rows of Grafana's grid, 38 pixels each: a screen of 1080 lines


def expressions() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.fixture(params=PANELS, ids=lambda panel: panel["title"])
def panel(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_panel_shows_only_metrics_labels_and_values_that_exist(panel: Any) -> None:
    for target in panel["targets"]:
        assert list(unknown_names(target["expr"])) == []


def test_a_legend_names_only_labels_that_are_left(panel: Any) -> None:
    for target in panel["targets"]:
        legend = target["legendFormat"]
        said = {part.partition("}}")[0].strip() for part in legend.split("{{")[1:]}
        assert said <= names(target["expr"]).kept


@needs_promtool
def test_prometheus_can_parse_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, expr in enumerate(expressions())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stderr


def test_rates_are_over_the_interval_that_grafana_chooses() -> None:
    for expr in expressions():
        assert "rate(" not in expr or "[$__rate_interval]" in expr


# Grafana


def test_grafana_reads_the_board() -> None:
    assert BOARD["schemaVersion"] >= 38  # Grafana 10
    assert BOARD.keys() >= {"uid", "title", "tags", "time", "timezone", "refresh", "version"}
    assert BOARD["annotations"] == {"list": []}
    assert "__inputs" not in BOARD  # for the web site's import; provisioning knows none
    assert BOARD.get("id") is None  # Grafana gives its own


def test_the_source_of_data_is_chosen_on_the_board() -> None:
    (variable,) = BOARD["templating"]["list"]
    assert variable["type"] == "datasource"
    assert variable["query"] == "prometheus"
    assert SOURCE["uid"] == f"${{{variable['name']}}}"


def test_a_panel_is_what_grafana_reads(panel: Any) -> None:
    assert panel["type"] in {"stat", "timeseries", "bargauge"}
    assert panel["datasource"] == SOURCE
    assert panel["title"] and panel["description"]
    assert panel["fieldConfig"].keys() == {"defaults", "overrides"}
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps[0]["value"] is None
    assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert target["instant"] is not target["range"]


def test_panels_have_numbers_of_their_own() -> None:
    numbers = [panel["id"] for panel in PANELS]
    assert len(set(numbers)) == len(numbers)


def test_the_board_fits_a_screen_and_no_panel_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in PANELS):
        columns = range(place["x"], place["x"] + place["w"])
        rows = range(place["y"], place["y"] + place["h"])
        cells = set(itertools.product(columns, rows))
        assert not cells & taken
        taken |= cells
    assert max(column for column, _ in taken) < 24
    assert max(row for _, row in taken) < SCREEN
    assert len(taken) == 24 * (max(row for _, row in taken) + 1), "there is a hole"


def test_it_answers_in_the_order_in_which_an_operator_asks() -> None:
    places = {panel["title"]: (panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in PANELS}
    asked = [
        "Alerts firing",
        "Need a person",
        "Gateway: calls a second",
        "Notifications a minute",
        "Payments taken up late",
        "Warnings and errors a minute",
    ]
    assert sorted(asked, key=lambda title: places[title]) == asked
