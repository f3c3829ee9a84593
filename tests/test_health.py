"""Readiness says for each thing that a process needs whether it has it."""

import pytest

from worker import watch
from worker.health import Health
from worker.watch import Pulse


def well(**changes: object) -> Health:
    health = Health(admitted=True, redis_up=True, sweeps=True, pulse=Pulse(1000))
    for name, value in changes.items():
        setattr(health, name, value)
    return health


def test_a_worker_that_has_all_it_needs_is_ready() -> None:
    assert well().ready
    assert set(well().checks().values()) == {"ok"}
    assert list(well().checks()) == ["redis", "probes", "process", "sweep"]


def test_a_receiver_needs_no_sweep() -> None:
    receiver = Health(admitted=True, redis_up=True)
    assert receiver.ready
    assert list(receiver.checks()) == ["redis", "probes", "process"]


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        ({"redis_up": False}, "redis", "does not answer"),
        ({"admitted": False}, "probes", "have not passed: the log says why"),
        ({"stopping": True}, "process", "is stopping"),
        ({"pulse": None}, "sweep", "has not begun"),
    ],
)
def test_what_is_not_ready_is_named(change: dict[str, object], check: str, said: str) -> None:
    health = well(**change)
    assert not health.ready
    assert {name: found for name, found in health.checks().items() if found != "ok"} == {
        check: said
    }


def test_a_sweep_that_does_not_come_round_is_not_ready_until_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "STALLED_AFTER", -2000)
    health = well()
    assert health.checks()["sweep"] == "has not come round for 0 s"
    monkeypatch.undo()
    assert health.ready


def test_at_first_nothing_is_ready() -> None:
    assert not Health().ready
    assert not Health(sweeps=True).ready
