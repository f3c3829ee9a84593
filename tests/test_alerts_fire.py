"""Each alert fires on its fault in real processes, as Prometheus judges it, and on nothing else."""

import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import pytest

from tests.alerting.promql import Selector, names
from tests.alerting.promtool import Phase, alerts, firing, log_events, needs_promtool
from tests.alerting.scenes import Played, play
from tests.test_dashboard import expressions

#: What of the ailing payments and of Redis stays until somebody acts.
LASTING = {
    "ReconcilerPaymentUnresolved",
    "ReconcilerRefundRequired",
    "ReconcilerPaymentsOverdue",
    "ReconcilerOpenTooLong",
    "ReconcilerCancelBrakeOn",
    "ReconcilerRedisMemory",
    "ReconcilerRecordUnreadable",
    "ReconcilerOutcomesNotRead",
    "ReconcilerDeliveriesBehind",
}
#: What of it must have lasted for five minutes.
SLOW = {
    "ReconcilerPaymentsOverdue",
    "ReconcilerOpenTooLong",
    "ReconcilerRedisMemory",
    "ReconcilerOutcomesNotRead",
    "ReconcilerDeliveriesBehind",
}
UNTOLD = {"ReconcilerNotificationsMissing"}
#: What was logged in the last quarter of an hour.
LOGGED = {
    "ReconcilerPaymentAlarmed",
    "ReconcilerAccountUnknown",
    "ReconcilerBreakerOpened",
    "ReconcilerNotificationsRejected",
    "ReconcilerNotificationsEncrypted",
    "ReconcilerNotificationsQuarantined",
    "ReconcilerAccountsRefused",
    "ReconcilerRedisUnsafe",
    "ReconcilerDataLost",
    "ReconcilerCommandsDead",
    "ReconcilerDeliveriesDead",
    "ReconcilerProcessStalled",
    "ReconcilerOutOfFiles",
    "ReconcilerReceiverCrowded",
}
SICK = {
    "ReconcilerNeverTracked",
    "ReconcilerStoreEmpty",
    "ReconcilerOutcomesNotRead",
    "ReconcilerOutcomeLag",
    "ReconcilerCommandsNotRead",
    "ReconcilerNoSweep",
    "ReconcilerSweepStalled",
    "ReconcilerBug",
    "ReconcilerNotReady",
}

#: What was scraped, for how many minutes, and exactly what fires at the end of it.
STORIES: Mapping[str, tuple[Sequence[tuple[str, int]], set[str]]] = {
    "all is well": ([("fresh", 40)], set()),
    "all is well but for small troubles just now": ([("fresh", 20), ("well", 5)], set()),
    "all is well but for small troubles": ([("fresh", 20), ("well", 9)], set()),
    "much has gone wrong": (
        [("well", 9), ("ill", 5)],
        (LASTING - SLOW) | LOGGED | {"ReconcilerGatewayNotAnswering", *UNTOLD},
    ),
    "a while ago much has gone wrong": (
        [("well", 9), ("ill", 9)],
        LASTING | LOGGED | {"ReconcilerJobsLate", *UNTOLD},
    ),
    "long ago much has gone wrong": ([("well", 9), ("ill", 90)], LASTING),
    "then Redis has gone": (
        [("ill", 40), ("cut off", 3)],
        LASTING | {"ReconcilerNotificationsNotKept", "ReconcilerRedisDown"},
    ),
    "Redis does not come back": (
        [("ill", 40), ("cut off", 9)],
        LASTING | {"ReconcilerRedisDown", "ReconcilerNotReady"},
    ),
    "then nothing runs": ([("fresh", 20), ("dead", 3)], {"ReconcilerDown"}),
    "nothing is started again": (
        [("fresh", 20), ("dead", 7)],
        {"ReconcilerDown", "ReconcilerProcessDown"},
    ),
    "bugs, from the first minute": ([("sick", 9)], SICK),
    "a process starts once more": ([("sick", 9), ("second start", 1)], SICK),
    "a process starts again and again": (
        [("sick", 9), ("second start", 1), ("third start", 1), ("fourth start", 1)],
        SICK | {"ReconcilerRestarting"},
    ),
}


#: What an alert tells of that has several causes: parts of its labels.
TELLS_OF: Mapping[str, Sequence[str]] = {
    "ReconcilerOpenTooLong": ('status="pending"', 'status="cancelling"'),
    "ReconcilerDataLost": ('event="store.lost"', 'event="record.missing"'),
    "ReconcilerRedisDown": ('job="reconciler-worker"', 'job="reconciler-receiver"'),
    "ReconcilerDown": ('job="reconciler-worker"', 'job="reconciler-receiver"'),
    "ReconcilerBug": (
        'event="job.failed"',
        'event="sweep.failed"',
        'event="commands.failed"',
        'event="library.logged"',
    ),
}
LOG_EVENTS = "reconciler_log_events_total"
#: Each of these alerts has two ways to see the same, and a story where either is enough.
EITHER: Mapping[str, tuple[str, Sequence[str]]] = {
    "ReconcilerRecordUnreadable": (
        "a while ago much has gone wrong",
        ("reconciler_payments_unreadable", LOG_EVENTS),
    ),
    "ReconcilerNoSweep": (
        "bugs, from the first minute",
        ("reconciler_last_sweep_age_seconds", LOG_EVENTS),
    ),
}


def test_there_is_a_story_for_every_alert() -> None:
    assert set(chain.from_iterable(fires for _, fires in STORIES.values())) == set(alerts())


@pytest.mark.once
@needs_promtool
@pytest.mark.skipif(sys.platform != "linux", reason="/proc and prlimit: Linux only")
async def test_each_alert_fires_on_its_fault_and_on_nothing_else(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """All in one: what takes long is to start the processes."""
    played = await play(tmp_path)
    for name, (_, expected) in STORIES.items():
        with subtests.test(name):
            fires = told(played, name)
            assert set(fires) == expected
            for alert, text in fires.items():
                assert "error expanding" not in text and '""' not in text
                assert all(part in text for part in TELLS_OF.get(alert, ()))
                assert played.events & set(log_events(alerts()[alert]))
    for alert, (name, metrics) in EITHER.items():
        for metric in metrics:
            with subtests.test(f"{alert} without {metric}"):
                assert alert in told(played, name, unseen=metric)
    for expr in (*expressions(), *(rule["expr"] for rule in alerts().values())):
        with subtests.test(expr):
            assert all(scraped(selector, played) for selector in names(expr).selectors)


def told(played: Played, name: str, unseen: str = "") -> Mapping[str, str]:
    """What fires at the end of a story."""
    course = [Phase(minutes, played.scenes[scene]) for scene, minutes in STORIES[name][0]]
    return firing(*course, unseen=unseen)


def scraped(selector: Selector, played: Played) -> bool:
    """Whether there is such a series in any scrape; Prometheus makes some itself."""
    if selector.metric in ("ALERTS", "instance:reconciler_log_events:increase15m"):
        return True
    scrapes = chain.from_iterable(played.scenes.values())
    return any(selector.selects(series) for scrape in scrapes for series in scrape.samples)
