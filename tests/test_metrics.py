"""Every metric is declared, made of lines that the log has, and counts what they say."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.contextvars import bound_contextvars

from tests.servers import ROOT
from worker import logs
from worker.events import CONTEXT, EVENTS
from worker.health import Health
from worker.logs import log
from worker.metrics import COUNTED, GAUGES, MAX_SERIES, PREFIX, RULES, Field, Metrics, Rule
from worker.readings import Reading
from worker.rights import Role

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

#: What alerts and dashboards count on, with their labels.
PROMISED = {
    "payments_open": ("status",),
    "payments_aftercare": ("state",),
    "oldest_open_age_seconds": ("status",),
    "payments_overdue": (),
    "attention_open": ("kind",),
    "outcome_lag_entries": ("group",),
    "outcome_lag_seconds": ("group",),
    "commands_waiting": (),
    "commands_dead": (),
    "quarantined": (),
    "parked": (),
    "cancel_brake_misses": ("client_id",),
    "redis_memory_used_ratio": (),
    "redis_up": (),
    "last_sweep_age_seconds": (),
    "ready": (),
    "notifications_total": ("result",),
    "notification_seconds": (),
    "gateway_calls_total": ("endpoint", "result"),
    "gateway_call_seconds": ("endpoint",),
    "cancels_total": ("result",),
    "job_lateness_seconds": (),
    "time_to_final_seconds": ("status", "via"),
    "outcomes_total": ("type",),
    "commands_total": ("result",),
    "log_events_total": ("event", "level"),
    "build_info": ("version",),
}
METRICS = {one.name: one for one in (*COUNTED, *GAUGES)}


def nothing() -> tuple[Reading, bool]:
    return {}, False


@pytest.fixture
def made() -> Iterator[Callable[..., Metrics]]:
    """Metrics that count the lines of the test."""
    heard = []

    def make(role: Role = Role.WORKER, reading: Any = nothing) -> Metrics:
        one = Metrics(role, Health(), reading)
        logs.watchers.append(one.count)
        heard.append(one.count)
        return one

    yield make
    for count in heard:
        logs.watchers.remove(count)


def samples(rendered: bytes) -> Samples:
    found = {}
    for family in text_string_to_metric_families(rendered.decode()):
        for sample in family.samples:
            found[sample.name.removeprefix(PREFIX), tuple(sample.labels.items())] = sample.value
    return found


def value(of: Metrics, name: str, **labels: str) -> float | None:
    wanted = set(labels.items())
    found = [v for (n, given), v in samples(of.render()).items() if n == name]
    if labels:
        named = samples(of.render()).items()
        found = [v for (n, given), v in named if n == name and set(given) == wanted]
    assert len(found) <= 1
    return found[0] if found else None


# The tables


def test_every_metric_that_others_count_on_is_there_with_its_labels() -> None:
    labels = {name: tuple(one.labels) for name, one in METRICS.items()}
    assert labels.items() >= PROMISED.items()


def test_every_metric_has_a_name_of_its_own_and_says_what_it_is() -> None:
    assert len(METRICS) == len(COUNTED) + len(GAUGES)
    assert all(one.help.endswith(".") and len(one.help) > 20 for one in METRICS.values())


def test_units_are_named_as_prometheus_wants_it() -> None:
    for one in COUNTED:
        assert one.name.endswith("_seconds" if one.buckets else "_total"), one.name
        assert sorted(set(one.buckets)) == list(one.buckets)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.event} {rule.metric}")
def test_a_rule_names_lines_fields_and_labels_that_there_are(rule: Rule) -> None:
    entry, metric = EVENTS[rule.event], METRICS[rule.metric]
    assert rule.fields <= {*entry.fields.split(), *CONTEXT.split()}
    assert set(rule.labels) == set(metric.labels)
    assert bool(rule.ms) == bool(metric.buckets)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.event} {rule.metric}")
def test_a_value_that_a_rule_gives_is_there_from_the_start(rule: Rule) -> None:
    """A counter that begins at 1 shows no increase: its first event would alarm nobody."""
    for label, given in rule.labels.items():
        if isinstance(given, str):
            assert given in METRICS[rule.metric].labels[label]
        else:
            assert {*given.renamed.values()} <= {*METRICS[rule.metric].labels[label]}


def test_every_counter_but_that_of_all_lines_has_a_rule() -> None:
    fed = {rule.metric for rule in RULES}
    assert fed == {one.name for one in COUNTED} - {"log_events_total"}


def test_every_line_about_a_request_to_the_receiver_counts_as_one() -> None:
    """Whatever is new among them has a rule."""
    lines = {event for event, entry in EVENTS.items() if {"peer", "ms"} <= {*entry.fields.split()}}
    assert lines == {rule.event for rule in RULES if rule.metric == "notifications_total"}


def test_every_line_about_a_call_of_the_gateway_counts_as_one() -> None:
    lines = {event for event, entry in EVENTS.items() if "endpoint" in entry.fields.split()}
    for metric in ("gateway_calls_total", "gateway_call_seconds"):
        assert lines == {rule.event for rule in RULES if rule.metric == metric}


# Counting


def test_lines_are_counted_by_event_and_level(made: Callable[..., Metrics]) -> None:
    one = made()
    assert value(one, "log_events_total", event="payment.tracked", level="info") == 0
    for _ in range(3):
        log.info("payment.tracked", payment_request_id="x")
    log.warning("sweep.completed", woken=1)
    assert value(one, "log_events_total", event="payment.tracked", level="info") == 3
    assert value(one, "log_events_total", event="sweep.completed", level="warning") == 1


def test_lines_below_the_level_that_is_written_are_counted(made: Callable[..., Metrics]) -> None:
    one = made()
    logging.getLogger().setLevel("ERROR")
    try:
        log.debug("payment.woken", late_ms=1500)
    finally:
        logging.getLogger().setLevel("DEBUG")
    assert value(one, "log_events_total", event="payment.woken", level="debug") == 1
    assert value(one, "job_lateness_seconds_sum") == 1.5


def test_an_exception_is_an_error(made: Callable[..., Metrics]) -> None:
    one = made()
    log.exception("sweep.failed")
    assert value(one, "log_events_total", event="sweep.failed", level="error") == 1


def test_what_a_library_says_is_counted(made: Callable[..., Metrics]) -> None:
    one = made()
    logging.getLogger("asyncio").error("something broke")
    assert value(one, "log_events_total", event="library.logged", level="error") == 1


@pytest.mark.parametrize(
    ("event", "facts", "metric", "labels"),
    [
        ("inquiry.completed", {}, "gateway_calls_total", ("inquiryPayment", "answered")),
        (
            "inquiry.unanswered",
            {"why": "timeout"},
            "gateway_calls_total",
            ("inquiryPayment", "timeout"),
        ),
        ("cancel.completed", {}, "gateway_calls_total", ("cancel", "answered")),
        ("cancel.unanswered", {"why": "http_503"}, "gateway_calls_total", ("cancel", "http_503")),
        ("cancel.completed", {"heard": "cancel_refused"}, "cancels_total", ("refused",)),
        ("cancel.completed", {"heard": "cancel_confirmed"}, "cancels_total", ("confirmed",)),
        ("cancel.unanswered", {"why": "timeout"}, "cancels_total", ("no_answer",)),
        (
            "outcome.published",
            {"type": "payment.failed"},
            "outcomes_total",
            ("payment.failed",),
        ),
        ("command.accepted", {}, "commands_total", ("accepted",)),
        ("command.rejected", {}, "commands_total", ("rejected",)),
        ("command.dead", {}, "commands_total", ("dead",)),
    ],
)
def test_a_line_of_the_worker_is_one_more(
    made: Callable[..., Metrics],
    event: str,
    facts: dict[str, Any],
    metric: str,
    labels: tuple[str, ...],
) -> None:
    one = made()
    before = value(one, metric, **dict(zip(METRICS[metric].labels, labels, strict=True))) or 0
    getattr(log, EVENTS[event].level or "")(event, **facts)
    after = value(one, metric, **dict(zip(METRICS[metric].labels, labels, strict=True)))
    assert (before, after) == (0, 1)
    if METRICS[metric].labels:
        total = sum(v for (name, _), v in samples(one.render()).items() if name == metric)
        assert total == 1


@pytest.mark.parametrize(
    ("event", "facts", "result"),
    [
        ("notification.accepted", {"result": "accepted"}, "accepted"),
        ("notification.accepted", {"result": "parked"}, "accepted"),
        ("notification.accepted", {"result": "duplicate"}, "duplicate"),
        ("notification.rejected", {"reason": "sig_mismatch"}, "rejected"),
        ("notification.encrypted", {}, "encrypted"),
        ("notification.quarantined", {"result": "parked"}, "quarantined"),
        ("notification.ignored", {"result": "untracked"}, "ignored"),
        ("receiver.store_down", {}, "store_down"),
    ],
)
def test_a_request_to_the_receiver_is_counted_and_timed(
    made: Callable[..., Metrics], event: str, facts: dict[str, Any], result: str
) -> None:
    one = made(Role.RECEIVER)
    getattr(log, EVENTS[event].level or "")(event, ms=20.0, **facts)
    assert value(one, "notifications_total", result=result) == 1
    total = sum(
        v for (name, _), v in samples(one.render()).items() if name == "notifications_total"
    )
    assert total == 1
    assert value(one, "notification_seconds_count") == 1
    assert value(one, "notification_seconds_sum") == pytest.approx(0.02)
    assert value(one, "notification_seconds_bucket", le="0.01") == 0
    assert value(one, "notification_seconds_bucket", le="0.025") == 1


def test_the_time_to_an_end_is_told_by_how_it_was_learned(made: Callable[..., Metrics]) -> None:
    one = made()
    log.info("payment.final", status="succeeded", via="inquiry", followed_ms=61_000)
    log.info("payment.final", status="forgotten", via=None, followed_ms=100)
    learned = {"status": "succeeded", "via": "inquiry"}
    assert value(one, "time_to_final_seconds_sum", **learned) == 61
    assert value(one, "time_to_final_seconds_bucket", le="60.0", **learned) == 0
    assert value(one, "time_to_final_seconds_bucket", le="120.0", **learned) == 1
    assert value(one, "time_to_final_seconds_count", status="forgotten", via="none") == 1


def test_calls_are_timed_whether_answered_or_not(made: Callable[..., Metrics]) -> None:
    one = made()
    log.info("inquiry.completed", ms=100)
    log.warning("inquiry.unanswered", why="timeout", ms=10_000)
    assert value(one, "gateway_call_seconds_count", endpoint="inquiryPayment") == 2
    assert value(one, "gateway_call_seconds_sum", endpoint="inquiryPayment") == pytest.approx(10.1)
    assert value(one, "gateway_call_seconds_count", endpoint="cancel") == 0


@pytest.mark.parametrize("late", [None, "soon", "1500"])
def test_a_time_that_is_no_number_is_not_observed_and_breaks_nothing(
    made: Callable[..., Metrics], late: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    one = made()
    log.debug("payment.woken", late_ms=late)
    assert value(one, "job_lateness_seconds_count") == 0
    assert value(one, "log_events_total", event="payment.woken", level="debug") == 1
    assert "log.failed" not in capsys.readouterr().err


def test_codes_that_nobody_foresaw_cannot_fill_the_memory(made: Callable[..., Metrics]) -> None:
    one = made()
    for number in range(3 * MAX_SERIES):
        log.warning("inquiry.unanswered", why=f"CODE_{number}")
    found = [
        labels
        for (name, labels), _ in samples(one.render()).items()
        if name == "gateway_calls_total"
    ]
    assert len(found) == MAX_SERIES + 1
    total = sum(
        v for (name, _), v in samples(one.render()).items() if name == "gateway_calls_total"
    )
    assert total == 3 * MAX_SERIES
    assert (value(one, "gateway_calls_total", endpoint="other", result="other") or 0) > MAX_SERIES


def test_all_events_there_are_fit_in() -> None:
    assert 2 * len(EVENTS) <= MAX_SERIES


@pytest.mark.parametrize("text", ['a"b\\c', "line\nbreak", "\x1b[2J", "é", "x" * 5000])
def test_whatever_a_label_says_what_is_rendered_can_be_parsed(
    made: Callable[..., Metrics], text: str
) -> None:
    one = made()
    log.warning("inquiry.unanswered", why=text)
    assert value(one, "gateway_calls_total", endpoint="inquiryPayment", result=text) == 1


# Roles


def test_a_process_shows_only_what_it_can_know(made: Callable[..., Metrics]) -> None:
    receiver, worker = (made(role) for role in (Role.RECEIVER, Role.WORKER))
    families = [
        {f.name.removeprefix(PREFIX) for f in text_string_to_metric_families(m.render().decode())}
        for m in (receiver, worker)
    ]
    common = {"log_events", "redis_up", "ready", "build_info", "last_sweep_age_seconds"}
    assert families[0] & families[1] >= common
    assert "notifications" in families[0] - families[1]
    assert {"payments_open", "outcomes", "cancels"} <= families[1] - families[0]


def test_in_one_process_receiver_and_worker_count_their_own_lines(
    made: Callable[..., Metrics],
) -> None:
    both = [made(role) for role in (Role.RECEIVER, Role.WORKER)]
    for role, times in (("receiver", 2), ("worker", 3)):
        with bound_contextvars(role=role):
            for _ in range(times):
                log.warning("worker.redis_waiting", task="probes")
    told = {"event": "worker.redis_waiting", "level": "warning"}
    assert [value(one, "log_events_total", **told) for one in both] == [2, 3]


# Gauges


def test_gauges_show_the_last_reading_and_whether_it_is_old(made: Callable[..., Metrics]) -> None:
    reading: Reading = {"payments_open": {("pending",): 7}, "commands_dead": {(): 2}}
    up = True
    one = made(reading=lambda: (reading, up))
    assert value(one, "payments_open", status="pending") == 7
    assert (value(one, "commands_dead"), value(one, "redis_up")) == (2, 1)
    up = False
    assert value(one, "payments_open", status="pending") == 7
    assert value(one, "redis_up") == 0


def test_ready_is_what_readyz_says() -> None:
    health = Health(admitted=True, redis_up=True)
    one = Metrics(Role.RECEIVER, health, nothing)
    assert value(one, "ready") == 1
    health.redis_up = False
    assert value(one, "ready") == 0


def test_the_version_that_runs_is_told() -> None:
    one = Metrics(Role.WORKER, Health(), nothing)
    version = metadata.version("payment-reconciler")
    assert value(one, "build_info", version=version) == 1


def test_what_the_process_itself_uses_is_told() -> None:
    assert (value(Metrics(Role.WORKER, Health(), nothing), "process_open_fds") or 0) > 0


def test_there_are_no_times_of_creation() -> None:
    assert b"_created" not in Metrics(Role.WORKER, Health(), nothing).render()


# Fields and the extra


def test_a_field_that_says_nothing_is_none() -> None:
    assert Field("via").of({"via": None}) == Field("via").of({}) == "none"
    assert replace(Field("via"), renamed={"none": "nobody"}).of({}) == "nobody"


def test_nothing_imports_the_extra_before_it_is_needed() -> None:
    code = "import worker.main, worker.cli, sys; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT)
    assert done.stdout == b"False\n", done.stderr
