"""Every metric there is, and the log lines that it is made of.

Counters and histograms count log lines, through `logs.watchers`: no metric can say anything else
than the log. Gauges show what Redis said last (`worker.readings`) and how this process is.
prometheus-client, which this needs, comes with the extra `metrics`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from itertools import product
from typing import TYPE_CHECKING, Any

from worker.events import EVENTS
from worker.health import Health
from worker.readings import Reading
from worker.rights import Role
from worker.values import LogLevel

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily

PREFIX = "reconciler_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Of one metric: some labels hold codes of the gateway, and it may make up ever more of them.
MAX_SERIES = 200
OTHER = "other"  #: a label's value beyond that


# What there is


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    name: str  #: without our prefix
    help: str
    #: By label, the values that are known before anything has happened: a counter that begins with
    #: its first event shows no increase then, and nobody is alarmed.
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    buckets: Sequence[float] = ()  #: of a histogram, in seconds
    role: Role | None = None  #: the process that has it; None: every one


_ENDS = ("succeeded", "failed", "cancelled", "forgotten")
_VIAS = ("notification", "inquiry", "cancel", "pay", "operator")
_REDIS_WIDE = "The same for all workers: take the largest, do not add them up."

COUNTED: Sequence[Metric] = (
    Metric(
        name="log_events_total",
        help="Log lines by event, also those below the level that is written.",
        labels={"event": (), "level": ()},
    ),
    Metric(
        name="notifications_total",
        help="Requests to the receiver, by what became of them.",
        labels={
            "result": (
                "accepted",
                "duplicate",
                "rejected",
                "encrypted",
                "quarantined",
                "ignored",
                "store_down",
            )
        },
        role=Role.RECEIVER,
    ),
    Metric(
        name="notification_seconds",
        help="From a request to the receiver to its answer.",
        buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
        role=Role.RECEIVER,
    ),
    Metric(
        name="gateway_calls_total",
        help="Calls of the gateway: answered, or why there was no answer that counts.",
        labels={
            "endpoint": ("inquiryPayment", "pay", "cancel"),
            "result": ("answered", "timeout", "not_connected", "connection_lost"),
        },
        role=Role.WORKER,
    ),
    Metric(
        name="gateway_call_seconds",
        help="From a call of the gateway to its answer, or to our giving up.",
        labels={"endpoint": ("inquiryPayment", "pay", "cancel")},
        buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 4, 6, 8, 10, 12),
        role=Role.WORKER,
    ),
    Metric(
        name="cancels_total",
        help="Cancels, by what the gateway said to them.",
        labels={"result": ("confirmed", "refused", "no_answer")},
        role=Role.WORKER,
    ),
    Metric(
        name="job_lateness_seconds",
        help="How much later than planned payments were taken up.",
        buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
        role=Role.WORKER,
    ),
    Metric(
        name="time_to_final_seconds",
        help="From the tracking of a payment to its end, by how it ended and how that was learned.",
        labels={"status": _ENDS, "via": ()},
        buckets=(1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 21600, 86400, 604800),
        role=Role.WORKER,
    ),
    Metric(
        name="outcomes_total",
        help="Events published for the merchant, by type.",
        labels={
            "type": (
                *(f"payment.{end}" for end in _ENDS),
                "payment.submitted",
                "payment.cancelling",
                "payment.unresolved",
                "payment.attention",
            )
        },
        role=Role.WORKER,
    ),
    Metric(
        name="commands_total",
        help="Commands of the merchant: accepted, rejected, or dead (not to be understood).",
        labels={"result": ("accepted", "rejected", "dead")},
        role=Role.WORKER,
    ),
    Metric(
        name="deliveries_total",
        help="Tries to deliver callbacks, and notifications that are passed on. dead: given up.",
        labels={"delivery": ("callback", "forward"), "result": ("delivered", "failed", "dead")},
        role=Role.WORKER,
    ),
)


def _of_redis(name: str, help_: str, *labels: str) -> Metric:
    known: dict[str, Sequence[str]] = {label: () for label in labels}
    return Metric(name=name, help=f"{help_} {_REDIS_WIDE}", labels=known, role=Role.WORKER)


GAUGES: Sequence[Metric] = (
    _of_redis("payments_open", "Payments that have not ended, by status.", "status"),
    _of_redis("payments_aftercare", "Payments that ended and are still watched.", "state"),
    _of_redis("payments_overdue", "Payments open for ten minutes after their closing time."),
    _of_redis("payments_unreadable", "Open payments without a record that this version reads."),
    _of_redis("oldest_open_age_seconds", "Since the oldest was tracked; 0 if none.", "status"),
    _of_redis("attention_open", "Payments that wait for a person.", "kind"),
    _of_redis("outcome_lag_entries", "Events that a group has not acknowledged.", "group"),
    _of_redis("outcome_lag_seconds", "Age of the oldest of these; 0 if none.", "group"),
    _of_redis("commands_waiting", "Commands that are not carried out yet."),
    _of_redis("commands_dead", "Commands that could not be understood."),
    _of_redis("deliveries_waiting", "Payments with callbacks, and notifications, to be sent."),
    _of_redis("delivery_oldest_age_seconds", "Since the oldest of these was written; 0 if none."),
    _of_redis("deliveries_dead", "Callbacks and notifications that nobody took."),
    _of_redis("quarantined", "Genuine notifications that could not be understood."),
    _of_redis("parked", "Payments not tracked, of which notifications came."),
    _of_redis("cancel_brake_misses", "Payments in a row that were never found.", "client_id"),
    Metric(
        name="redis_memory_used_ratio",
        help="Part of Redis' maxmemory that is used; 0 where there is no limit.",
    ),
    Metric(
        name="last_sweep_age_seconds",
        help="Since any worker last looked for payments whose job was lost. " + _REDIS_WIDE,
    ),
    Metric(
        name="redis_up",
        help="1 if Redis answered when last asked; at 0 the gauges about it are old.",
    ),
    Metric(name="ready", help="1 if this process can do its work, as /readyz says."),
    Metric(name="build_info", help="1, with the version that runs.", labels={"version": ()}),
)


# What is made of a log line


@dataclass(frozen=True, slots=True)
class Field:
    """The value of a label stands in this field of the line; some are given another name."""

    name: str
    renamed: Mapping[str, str] = field(default_factory=dict)

    def of(self, line: Mapping[str, Any]) -> str:
        value = line.get(self.name)
        text = "none" if value is None else str(value)
        return self.renamed.get(text, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A line of `event` is one more in `metric`; a histogram takes the milliseconds in a field."""

    event: str
    metric: str
    labels: Mapping[str, str | Field] = field(default_factory=dict)
    ms: str = ""

    @property
    def fields(self) -> set[str]:
        """Every field of the line that it reads."""
        named = {label.name for label in self.labels.values() if isinstance(label, Field)}
        return named | ({self.ms} if self.ms else set())


def _notification(event: str, result: str | Field) -> list[Rule]:
    return [
        Rule(event=event, metric="notifications_total", labels={"result": result}),
        Rule(event=event, metric="notification_seconds", ms="ms"),
    ]


def _call(event: str, endpoint: str, result: str | Field) -> Rule:
    labels = {"endpoint": endpoint, "result": result}
    return Rule(event=event, metric="gateway_calls_total", labels=labels)


def _took(event: str, endpoint: str) -> Rule:
    labels = {"endpoint": endpoint}
    return Rule(event=event, metric="gateway_call_seconds", labels=labels, ms="ms")


def _delivery(event: str, result: str) -> Rule:
    labels: dict[str, str | Field] = {"delivery": Field("delivery"), "result": result}
    return Rule(event=event, metric="deliveries_total", labels=labels)


_WORDS = {"cancel_confirmed": "confirmed", "cancel_refused": "refused"}

RULES: Sequence[Rule] = (
    *_notification("notification.accepted", Field("result", {"parked": "accepted"})),
    *_notification("notification.rejected", "rejected"),
    *_notification("notification.encrypted", "encrypted"),
    *_notification("notification.quarantined", "quarantined"),
    *_notification("notification.ignored", "ignored"),
    *_notification("receiver.store_down", "store_down"),
    _call("inquiry.completed", "inquiryPayment", "answered"),
    _call("inquiry.unanswered", "inquiryPayment", Field("why")),
    _call("pay.completed", "pay", "answered"),
    _call("pay.unanswered", "pay", Field("why")),
    _call("cancel.completed", "cancel", "answered"),
    _call("cancel.unanswered", "cancel", Field("why")),
    _took("inquiry.completed", "inquiryPayment"),
    _took("inquiry.unanswered", "inquiryPayment"),
    _took("pay.completed", "pay"),
    _took("pay.unanswered", "pay"),
    _took("cancel.completed", "cancel"),
    _took("cancel.unanswered", "cancel"),
    Rule(
        event="cancel.completed",
        metric="cancels_total",
        labels={"result": Field("heard", _WORDS)},
    ),
    Rule(event="cancel.unanswered", metric="cancels_total", labels={"result": "no_answer"}),
    Rule(event="payment.woken", metric="job_lateness_seconds", ms="late_ms"),
    Rule(
        event="payment.final",
        metric="time_to_final_seconds",
        labels={"status": Field("status"), "via": Field("via")},
        ms="followed_ms",
    ),
    Rule(event="outcome.published", metric="outcomes_total", labels={"type": Field("type")}),
    Rule(event="command.accepted", metric="commands_total", labels={"result": "accepted"}),
    Rule(event="command.rejected", metric="commands_total", labels={"result": "rejected"}),
    Rule(event="command.dead", metric="commands_total", labels={"result": "dead"}),
    _delivery("delivery.completed", "delivered"),
    _delivery("delivery.failed", "failed"),
    _delivery("delivery.dead", "dead"),
)


class Metrics:
    """The metrics of one process, or of its part in one role."""

    def __init__(
        self, role: Role, health: Health, reading: Callable[[], tuple[Reading, bool]]
    ) -> None:
        """`reading` is what Redis said last, and whether it still says so.

        ModuleNotFoundError without prometheus-client.
        """
        import prometheus_client

        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._registry.register(_Gauges(role, health, reading))
        self._role = role.value
        ours = [one for one in COUNTED if one.role in (role, None)]
        self._series = {one.name: _Series(one, self._registry) for one in ours}
        self._rules: dict[str, list[Rule]] = {}
        for rule in RULES:
            if rule.metric in self._series:
                self._rules.setdefault(rule.event, []).append(rule)
        self._lines = self._series["log_events_total"]
        for event, entry in EVENTS.items():
            for level in [entry.level] if entry.level else LogLevel:
                self._lines.at((event, level.value))

    def count(self, event: str, line: Mapping[str, Any]) -> None:
        """One of `logs.watchers`. Where receiver and worker are one process, each has its lines."""
        if line.get("role", self._role) != self._role:
            return
        self._lines.add((event, str(line.get("level"))), 1)
        for rule in self._rules.get(event, ()):
            self._apply(rule, line)

    def _apply(self, rule: Rule, line: Mapping[str, Any]) -> None:
        by_label = rule.labels
        series = self._series[rule.metric]
        values = tuple(
            label if isinstance(label := by_label[name], str) else label.of(line)
            for name in series.labels
        )
        if not rule.ms:
            series.add(values, 1)
        elif isinstance(ms := line.get(rule.ms), int | float):
            series.add(values, ms / 1000)

    def render(self) -> bytes:
        """All of it, in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)


class _Series:
    """One counter or histogram with its labels, of which there are never too many."""

    def __init__(self, metric: Metric, registry: "CollectorRegistry") -> None:
        from prometheus_client import Counter, Histogram

        self.labels, self._seen = tuple(metric.labels), dict[tuple[str, ...], _Add]()
        self._metric: Counter | Histogram
        given: dict[str, Any] = {"labelnames": self.labels, "registry": registry}
        name = PREFIX + metric.name
        if metric.buckets:
            self._metric = Histogram(name, metric.help, buckets=metric.buckets, **given)
        else:
            self._metric = Counter(name, metric.help, **given)
        for values in _products(tuple(metric.labels.values())):
            self.at(values)

    def add(self, values: tuple[str, ...], amount: float) -> None:
        self.at(values)(amount)

    def at(self, values: tuple[str, ...]) -> "_Add":
        """The one with these labels; it is there from now on."""
        if (found := self._seen.get(values)) is not None:
            return found
        if len(self._seen) >= MAX_SERIES and values != (others := (OTHER,) * len(values)):
            return self.at(others)
        one = self._metric.labels(*values) if values else self._metric
        self._seen[values] = one.observe if hasattr(one, "observe") else one.inc
        return self._seen[values]


_Add = Callable[[float], None]


def _products(known: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    if all(known):
        yield from product(*known)


class _Gauges:
    """What prometheus-client asks when somebody looks; nobody else is asked then."""

    def __init__(
        self, role: Role, health: Health, reading: Callable[[], tuple[Reading, bool]]
    ) -> None:
        self._ours = [one for one in GAUGES if one.role in (role, None)]
        self._health, self._reading = health, reading
        self._version = metadata.version("payment-reconciler")

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> "Iterator[GaugeMetricFamily]":
        from prometheus_client.core import GaugeMetricFamily

        reading, up = self._reading()
        found: Reading = {
            **reading,
            "redis_up": {(): up},
            "ready": {(): self._health.ready},
            "build_info": {(self._version,): 1},
        }
        for one in self._ours:
            family = GaugeMetricFamily(PREFIX + one.name, one.help, labels=tuple(one.labels))
            for values, value in found.get(one.name, {}).items():
                family.add_metric(values, value)
            yield family
