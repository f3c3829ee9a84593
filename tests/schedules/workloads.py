"""Buyers and notifications: how long a payment takes, how it ends, and whether we are told.

Payment `n` draws the same numbers in every workload and for every schedule, so that a difference
between two figures is a difference between schedules.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from jobs.model import Ms
from jobs.news import GatewayStatus
from jobs.schedule import SECOND

SEED = 1
CLOSING: Ms = 840 * SECOND  #: who has not paid by then is closed by the gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Buyers:
    """Payment times are lognormal: half of all are shorter than the median."""

    name: str
    what: str
    median: float  #: seconds
    sigma: float
    abandoned: float = 0.0  #: share that never pays
    failed: float = 0.0  #: share that the gateway refuses, at the time when it would be paid


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """Only a success is notified: in store the gateway documents no other notification."""

    name: str
    lost: float
    median: float = 1.0  #: seconds from the end to the notification's arrival; lognormal
    sigma: float = 0.7


@dataclass(frozen=True, slots=True)
class Fate:
    """How one payment goes, in milliseconds from when it became pending."""

    key: str
    ends: Ms
    how: GatewayStatus
    notified: Ms | None = None  #: when the notification arrives


BUYERS = (
    Buyers(name="in store", what="shows a code at the till", median=12, sigma=0.5),
    Buyers(name="phone", what="pays online, on the phone", median=45, sigma=0.7),
    Buyers(name="slow", what="thinks, or logs in to a bank", median=240, sigma=0.8),
    Buyers(name="abandoned", what="phone; 30 % leave", median=45, sigma=0.7, abandoned=0.3),
    Buyers(name="failing", what="phone; 20 % refused", median=45, sigma=0.7, failed=0.2),
)
NOTICES = (
    Notices(name="0 % lost", lost=0),
    Notices(name="1 % lost", lost=0.01),
    Notices(name="10 % lost", lost=0.1),
    Notices(name="10 % lost, late", lost=0.1, median=60),
    Notices(name="100 % lost", lost=1),
)


def fates(buyers: Buyers, notices: Notices, count: int, seed: int = SEED) -> list[Fate]:
    """The first `count` payments of these buyers."""
    return [_fate(buyers, notices, f"{seed}-{number}") for number in range(count)]


def _fate(buyers: Buyers, notices: Notices, key: str) -> Fate:
    draw = Random(key)
    took, chance = draw.gauss(0, 1), draw.random()
    lost, delay = draw.random() < notices.lost, draw.gauss(0, 1)
    ends = _lognormal(buyers.median, buyers.sigma, took)
    if chance < buyers.abandoned or ends >= CLOSING:
        return Fate(key, CLOSING, GatewayStatus.CANCELLED)
    if chance < buyers.abandoned + buyers.failed:
        return Fate(key, ends, GatewayStatus.FAIL)
    told = None if lost else ends + _lognormal(notices.median, notices.sigma, delay)
    return Fate(key, ends, GatewayStatus.SUCCESS, told)


def _lognormal(median: float, sigma: float, normal: float) -> Ms:
    return round(median * math.exp(sigma * normal) * SECOND)


def workloads() -> Iterator[tuple[Buyers, Notices]]:
    """Every kind of buyers with every kind of notifications."""
    return ((buyers, notices) for buyers in BUYERS for notices in NOTICES)
