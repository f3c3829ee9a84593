"""Which metrics, labels and values the code has: what rules and dashboard may name."""

from collections.abc import Collection, Iterator, Mapping

from jobs.model import Aftercare, Status, Via
from tests.alerting.promql import alternatives, names
from worker.events import EVENTS
from worker.metrics import COUNTED, GAUGES, PREFIX, Metric
from worker.values import LogLevel

#: What Prometheus adds to each sample, and what Kubernetes' discovery may.
TARGET_LABELS = {"job", "instance"}
ADDED_BY_DISCOVERY = {"pod"}

#: Of labels whose values the table of metrics leaves open.
OPEN_VALUES: Mapping[str, Collection[str]] = {
    "event": EVENTS,
    "level": tuple(LogLevel),
    "status": tuple(Status),
    "state": tuple(Aftercare),
    "kind": (Status.UNRESOLVED, Aftercare.REFUND_REQUIRED),
    "via": tuple(Via),
    "job": ("reconciler-worker", "reconciler-receiver"),
}


def _series() -> Iterator[tuple[str, Metric]]:
    for metric in (*COUNTED, *GAUGES):
        ends = ("_bucket", "_sum", "_count") if metric.buckets else ("",)
        yield from ((f"{PREFIX}{metric.name}{end}", metric) for end in ends)


METRICS: Mapping[str, Metric] = dict(_series())
#: Prometheus's own, prometheus-client's, and what our rules record.
OTHERS: Mapping[str, set[str]] = {
    "up": set(),
    "ALERTS": {"alertname", "alertstate"},
    "process_start_time_seconds": set(),
    "instance:reconciler_log_events:increase15m": {"event", "level"},
}


def labels_of(metric: str) -> set[str]:
    """The labels of a series that exists, but for those of its target."""
    if metric in OTHERS:
        return OTHERS[metric]
    return set(METRICS[metric].labels) | ({"le"} if metric.endswith("_bucket") else set())


def unknown_names(expr: str) -> Iterator[str]:
    """Every name in an expression that the code does not know."""
    found = names(expr)
    selectors = [s for s in found.selectors if s.metric in METRICS or s.metric in OTHERS]
    yield from (s.metric for s in found.selectors if s not in selectors)
    there = set().union(*(labels_of(s.metric) for s in selectors))
    yield from found.kept - there - TARGET_LABELS
    yield from found.dropped - there - TARGET_LABELS - ADDED_BY_DISCOVERY
    for selector in selectors:
        for label, operator, text in selector.matchers:
            if label not in labels_of(selector.metric) | TARGET_LABELS:
                yield label
            elif known := _values(selector.metric, label):
                yield from (v for v in alternatives(operator, text) if v not in known)


def _values(metric: str, label: str) -> Collection[str]:
    """The values that a label can have; nothing where any is possible."""
    given = METRICS[metric].labels.get(label) if metric in METRICS else None
    return given or OPEN_VALUES.get(label, ())
