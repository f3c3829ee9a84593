"""The alert rules name only what exists, miss no logged error, and are what Prometheus takes."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerting.metric_names import TARGET_LABELS, labels_of, unknown_names
from tests.alerting.promql import Selector, alternatives, names
from tests.alerting.promtool import (
    ALERTS,
    alerts,
    log_events,
    needs_promtool,
    promtool,
    recorded,
    rules,
)
from worker.events import EVENTS
from worker.health import Health
from worker.metrics import Metrics
from worker.rights import Role
from worker.settings import SETTINGS
from worker.values import LogLevel

pytestmark = pytest.mark.once  # files, not Python

FOLDER = ALERTS.parent

#: Errors that a rule sees by what they do to something else.
SEEN_BY_THEIR_EFFECT = {
    "payment.stuck": "ReconcilerPaymentsOverdue",
    "redis.away": "ReconcilerRedisDown",
}


def events_in(expr: str) -> set[str]:
    """The log events that an expression counts."""
    return set().union(*map(events_in_one, names(expr).selectors))


def events_in_one(selector: Selector) -> list[str]:
    return [
        event
        for label, operator, text in selector.matchers
        if label == "event"
        for event in alternatives(operator, text)
    ]


@pytest.fixture(params=alerts(), ids=str)
def rule(request: pytest.FixtureRequest) -> Any:
    return alerts()[request.param]


# What exists


def test_a_rule_names_only_metrics_labels_and_values_that_exist(rule: Any) -> None:
    assert list(unknown_names(rule["expr"])) == []


def test_what_is_recorded_is_made_of_metrics_that_exist() -> None:
    for rule in recorded():
        assert list(unknown_names(rule["expr"])) == []


def test_a_rule_names_only_log_events_that_exist(rule: Any) -> None:
    assert set(log_events(rule)) <= set(EVENTS)


def test_a_rule_that_counts_log_events_names_them_for_whoever_looks(rule: Any) -> None:
    assert events_in(rule["expr"]) <= set(log_events(rule))


def test_a_text_names_only_labels_that_the_alert_has(rule: Any) -> None:
    texts = " ".join(rule["annotations"].values())
    said = set(re.findall(r"\$labels\.(\w+)", texts))
    found = names(rule["expr"])
    there = set().union(*(labels_of(selector.metric) for selector in found.selectors))
    assert said <= (there | TARGET_LABELS) - found.dropped


def test_every_error_in_the_log_is_counted_by_a_rule_or_seen_by_its_effect() -> None:
    errors = {name for name, entry in EVENTS.items() if entry.level is LogLevel.ERROR}
    counted = set().union(*(events_in(rule["expr"]) for rule in alerts().values()))
    assert errors - counted == set(SEEN_BY_THEIR_EFFECT)
    for event, alert in SEEN_BY_THEIR_EFFECT.items():
        assert event in log_events(alerts()[alert])


def test_a_log_event_that_a_rule_counts_is_a_series_before_it_first_happens(rule: Any) -> None:
    """`increase` sees nothing of a series that begins at 1."""
    fresh = Metrics(Role.WORKER, Health(), lambda: ({}, False)).render().decode().splitlines()
    there = [line.removesuffix(" 0.0") for line in fresh if line.endswith(" 0.0")]
    for counted in names(rule["expr"]).selectors:
        if counted.metric == recorded()[0]["record"]:
            scraped = replace(counted, metric="reconciler_log_events_total")
            found = [series for series in there if scraped.selects(series)]
            assert len(found) == len(events_in_one(counted))


@pytest.mark.parametrize(
    "expr",
    [
        "reconciler_payment_open > 0",
        'reconciler_payments_open{state="pending"} > 0',
        'reconciler_payments_open{status="pendign"} > 0',
        'reconciler_log_events_total{event="job.failled"} > 0',
        'reconciler_log_events_total{event=~"job.failed|swep.failed"} > 0',
        'up{job="reconciler-reciever"} == 0',
        "sum by (states) (reconciler_payments_open) > 0",
        "sum without (instance, kinds) (reconciler_attention_open) > 0",
        "rate(reconciler_job_lateness_second_bucket[5m]) > 0",
    ],
)
def test_a_slip_in_a_name_would_be_noticed(expr: str) -> None:
    assert list(unknown_names(expr))


# What a rule needs


def test_a_rule_says_how_urgent_it_is_and_what_it_means(rule: Any) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
    assert set(rule["annotations"]) == {"summary", "description", "log_event", "runbook_url"}
    assert re.fullmatch(r"[1-9]\d?m", rule.get("for", "1m"))
    assert len(rule["annotations"]["summary"]) <= 90


def test_a_name_is_given_once() -> None:
    given = re.findall(r"^ +- alert: (\w+)$", ALERTS.read_text("utf-8"), re.MULTILINE)
    assert given == list(alerts())
    assert len(set(given)) == len(given)


# What Prometheus says


@needs_promtool
def test_prometheus_takes_the_rules() -> None:
    checked = promtool("check", "rules", "--lint-fatal", str(ALERTS))
    assert checked.returncode == 0, checked.stderr


@needs_promtool
@pytest.mark.parametrize("name", ["prometheus.yaml", "kubernetes.yaml"])
def test_prometheus_takes_the_scrape_configuration(tmp_path: Path, name: str) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "admin-token").write_text("secret")
    pods = "kubernetes_sd_configs: [{role: pod}]"  # Debian's promtool is built without it
    text = (tmp_path / name).read_text("utf-8").replace(pods, "static_configs: []")
    (tmp_path / name).write_text(text)
    checked = promtool("check", "config", name, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules())} rules found" in checked.stdout


@pytest.mark.parametrize("name", ["prometheus.yaml", "kubernetes.yaml"])
def test_a_scrape_configuration_reads_the_rules_and_shows_the_token(name: str) -> None:
    config = yaml.safe_load((FOLDER / name).read_text("utf-8"))
    assert config["rule_files"] == [ALERTS.name]
    for scrape in config["scrape_configs"]:
        assert scrape["authorization"] == {"credentials_file": "admin-token"}


def test_the_processes_are_scraped_under_the_names_that_the_rules_know_at_their_ports() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text("utf-8"))
    ports = {
        scrape["job_name"]: {
            target.rpartition(":")[2]
            for static in scrape["static_configs"]
            for target in static["targets"]
        }
        for scrape in config["scrape_configs"]
    }
    default = {setting.name: setting.default for setting in SETTINGS}
    assert ports == {
        "reconciler-worker": {default["WORKER_ADMIN_PORT"]},
        "reconciler-receiver": {default["RECEIVER_ADMIN_PORT"]},
    }
