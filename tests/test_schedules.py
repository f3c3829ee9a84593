"""The measure of schedules, made small: it counts right, and nobody's is better than ours."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from jobs.model import Ms
from jobs.news import GatewayStatus
from jobs.schedule import JUST_BEFORE, SECOND, SPREAD, Policy, seconds
from tests.schedules import __main__ as bench
from tests.schedules import knobs, text
from tests.schedules.figures import OURS, Duel, Figures, Result, duel, figures, measure, own_ground
from tests.schedules.peers import FILE, peers
from tests.schedules.watching import (
    ANSWER,
    PICK_UP,
    START,
    Seen,
    listed,
    ours,
    ours_in_full,
    unpaid,
)
from tests.schedules.workloads import (
    BUYERS,
    CLOSING,
    NOTICES,
    Fate,
    fates,
    workloads,
)
from worker import values
from worker.settings import SETTINGS

pytestmark = pytest.mark.once

IN_STORE, PHONE = BUYERS[0], BUYERS[1]
SILENT = NOTICES[-1]
SOME_LOST = NOTICES[2]
FORMER = Policy(inquiry_delays=seconds(2, *[3] * 7, *[5] * 3, 10, 10, 15, 20, 30))
PAID = Fate("1-0", 10 * SECOND, GatewayStatus.SUCCESS)


def at(*moments: float) -> Sequence[Ms]:
    return seconds(*moments)


def told(moment: float) -> Fate:
    """The same payment, and its notification arrives then."""
    return Fate("1-0", 10 * SECOND, GatewayStatus.SUCCESS, round(moment * SECOND))


# Asking by a list


@pytest.mark.parametrize(
    ("fate", "asks", "known", "inquiries"),
    [
        (PAID, at(5, 9, 12, 15), 12_200, 3),  # the third is the first after the end
        (PAID, at(10), 10_200, 1),  # at the very moment
        (PAID, at(5, 9), None, 2),  # gave up too soon
        (PAID, at(), None, 0),
        (told(11), at(5, 9, 12), 11_000, 2),  # the notification saves an inquiry
        (told(12.1), at(5, 9, 12), 12_100, 3),  # it overtakes the answer
        (told(12.3), at(5, 9, 12), 12_200, 3),
        (told(99), at(5, 9), 99_000, 2),  # whoever gives up still listens
    ],
)
def test_an_end_is_known_by_the_first_question_after_it_or_by_notification(
    fate: Fate, asks: Sequence[Ms], known: Ms | None, inquiries: int
) -> None:
    assert listed(fate, asks) == Seen(known, inquiries)


def test_who_cancels_after_the_last_question_cuts_off_what_has_not_ended() -> None:
    assert listed(told(12), at(5, 9), cuts_off=True) == Seen(None, 2, cut_off=True)
    assert listed(told(12), at(5, 11), cuts_off=True) == Seen(11_200, 2)


# Other schedules


def test_every_schedule_of_the_file_is_measured() -> None:
    assert set(peers()) == set(json.loads(FILE.read_text())["schedules"])
    assert len(peers()) >= 23
    assert {name for name, peer in peers().items() if peer.cuts_off} == {
        "VENDOR_alipayplus_doc",
        "VENDOR_antom_upm_doc",
        "VENDOR_wechat_doc",
    }


def asked(name: str, count: int = 10_000) -> list[float]:
    return [moment / SECOND for moment in islice(peers()[name].asks("1-0"), count)]


def test_a_schedule_is_its_list_or_repeats_for_a_time_a_count_or_ever() -> None:
    assert asked("naive_fzlee_loop") == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    assert asked("VENDOR_wechat_doc") == [5, 10, 15, 20, 25, 30, 35, 40, 45]
    assert len(asked("govuk_capture_retry")) == 26
    assert asked("temporal_sample_infrequent", 3) == [60, 120, 180]
    assert len(asked("temporal_sample_frequent")) == 10_000


def test_a_schedule_hands_over_to_the_one_that_comes_after_it() -> None:
    moments = asked("jeepay_barcode_mq")
    assert len(moments) == 6 + 111
    assert all(plan <= m <= plan + 1 for plan, m in zip(range(5, 31, 5), moments, strict=False))
    assert 600 <= moments[6] <= 660 and 7200 <= moments[-1] <= 7260


# Workloads


def test_payment_times_are_as_the_workload_says() -> None:
    payments = fates(PHONE, SOME_LOST, 2000)
    ends = sorted(fate.ends for fate in payments)
    assert 42 * SECOND < ends[1000] < 48 * SECOND
    silent = sum(fate.notified is None for fate in payments) / 2000
    assert 0.08 < silent < 0.13


def test_who_leaves_is_closed_at_the_closing_time_and_not_notified() -> None:
    left = [fate for fate in fates(BUYERS[3], NOTICES[0], 1000) if fate.ends == CLOSING]
    assert 0.25 < len(left) / 1000 < 0.35
    assert {(fate.how, fate.notified) for fate in left} == {(GatewayStatus.CANCELLED, None)}


def test_a_refused_payment_is_not_notified() -> None:
    refused = [f for f in fates(BUYERS[4], NOTICES[0], 1000) if f.how is GatewayStatus.FAIL]
    assert 0.15 < len(refused) / 1000 < 0.25
    assert {fate.notified for fate in refused} == {None}


def test_a_payment_draws_the_same_in_every_workload() -> None:
    one, other = (fates(PHONE, notices, 50) for notices in (NOTICES[0], SILENT))
    assert [fate.ends for fate in one] == [fate.ends for fate in other]


# Ours


def test_what_is_measured_is_the_whole_life_from_the_first_moment_on() -> None:
    for buyers, notices in workloads():
        for fate in fates(buyers, notices, 4):
            assert ours(fate, Policy()) == ours_in_full(fate, Policy()), fate


def test_a_payment_that_nobody_pays_is_asked_about_by_the_schedule_then_at_its_closing_time() -> (
    None
):
    waits = [waiting.wake - START for waiting in unpaid("1-0", Policy())]
    gaps = [b - a for a, b in zip([-ANSWER, *waits], waits, strict=False)]
    for gap, delay in list(zip(gaps, Policy().inquiry_delays, strict=False)):
        late = gap - ANSWER
        assert delay * (1 - SPREAD) - PICK_UP <= late <= delay * (1 + SPREAD) + PICK_UP
    assert CLOSING - JUST_BEFORE <= waits[-2] <= CLOSING - JUST_BEFORE + PICK_UP
    assert CLOSING <= waits[-1] <= CLOSING + PICK_UP


def test_a_closed_payment_is_known_at_once_and_asked_about_a_few_times_more() -> None:
    seen = ours(Fate("1-0", CLOSING, GatewayStatus.CANCELLED), Policy())
    assert seen.known is not None
    assert ANSWER <= seen.known - CLOSING <= ANSWER + PICK_UP
    assert seen.later == len(Policy().aftercare_delays)


def test_a_notification_ends_the_inquiries() -> None:
    silent, notified = ours(PAID, Policy()), ours(told(10.001), Policy())
    assert (notified.known, notified.inquiries) == (10_001, silent.inquiries - 1)


# Figures

FATES = [Fate(f"1-{n}", 10 * SECOND, GatewayStatus.SUCCESS) for n in range(4)]


def test_figures_are_averages_and_what_is_never_known_is_known_a_day_later() -> None:
    seen = [Seen(11_000, 2), Seen(12_000, 4, later=4), Seen(None, 1), Seen(None, 1, cut_off=True)]
    assert figures(FATES, seen) == Figures(
        inquiries=2,
        later=1,
        mean=(1 + 2 + 86_400 + 86_400) / 4,
        p95=86_400,
        never=0.25,
        cut_off=0.25,
    )


def test_on_its_own_ground_a_peer_is_compared_on_what_it_has_seen_to_the_end() -> None:
    mine = [Seen(11_000, 4), Seen(13_000, 4), Seen(12_000, 9), Seen(12_000, 9)]
    theirs = [Seen(12_000, 1), Seen(13_000, 1), Seen(None, 1), Seen(None, 1, cut_off=True)]
    near = duel(FATES, mine, theirs, own_ground(theirs))
    assert (near.share, near.ours.inquiries, near.ours.mean) == (0.5, 4, 2)
    assert (near.theirs.inquiries, near.theirs.mean) == (1, 2.5)
    assert near.margin == 1.25  # a fourth of the inquiries, but a quarter slower
    assert not near.dominated


@pytest.mark.parametrize(
    ("theirs", "dominated"),
    [
        ((3.0, 2.0), True),  # fewer inquiries, as soon
        ((4.0, 1.0), True),  # as many, sooner
        ((4.0, 2.0), True),  # the same: then why ours?
        ((4.1, 1.0), False),
        ((3.0, 2.1), False),
    ],
)
def test_dominated_is_no_better_on_either(theirs: tuple[float, float], dominated: bool) -> None:
    assert Duel(1, plain(4, 2), plain(*theirs)).dominated is dominated


def test_who_cuts_buyers_off_is_not_better_on_the_whole() -> None:
    rude = Figures(inquiries=1, later=0, mean=1, p95=1, never=0, cut_off=0.01)
    assert not Duel(1, plain(4, 2), rude).dominated


def plain(inquiries: float, mean: float) -> Figures:
    return Figures(inquiries=inquiries, later=0, mean=mean, p95=mean, never=0, cut_off=0)


# The claim


@pytest.fixture(scope="module", params=[(b, n) for b, n in workloads() if n in (SOME_LOST, SILENT)])
def reduced(request: pytest.FixtureRequest) -> Result:
    buyers, notices = request.param
    return measure(buyers, notices, 150)


def test_nobodys_schedule_is_better_than_ours(reduced: Result) -> None:
    assert reduced.dominated_by == [], reduced.nearest
    assert OURS in reduced.front
    assert len(reduced.own_ground) >= 15


def test_asking_every_second_is_sooner_at_a_far_higher_price(reduced: Result) -> None:
    often = reduced.whole["temporal_sample_frequent"]
    assert often.theirs.mean < often.ours.mean
    assert often.theirs.inquiries > 2 * often.ours.inquiries


def test_a_worse_schedule_is_found_out() -> None:
    """What was the default: too early, then too rare."""
    former = measure(IN_STORE, SILENT, 150, FORMER)
    assert "VENDOR_antom_upm_doc" in former.dominated_by
    assert OURS not in former.front
    assert "VENDOR_wechat_doc" in measure(PHONE, SILENT, 150, FORMER).dominated_by


def test_the_schedule_that_is_measured_is_the_default_of_the_settings() -> None:
    setting = next(one for one in SETTINGS if one.name == "RECONCILER_SCHEDULE")
    assert setting.default is not None
    assert values.schedule(setting.default) == tuple(Policy().inquiry_delays)


# Knobs


def test_halved_delays_cost_inquiries_and_bring_time() -> None:
    table = knobs.scaled(15)
    for row in table.values():
        costs = [one.inquiries for one in row.values()]
        assert costs == sorted(costs, reverse=True)
        assert row["delays x 0.25"].mean < row["delays x 4"].mean


def test_delays_by_age_grow_from_the_least_to_the_most() -> None:
    delays = knobs.growing(5, 0.5)
    assert delays == seconds(5, 3, 4, 6, 9, 14, 20, 30, 45, 60)


# What is shown


def test_a_table_marks_the_front_and_shows_what_is_lost() -> None:
    rows = {OURS: plain(4, 2), "cheap": plain(1, 9), "worse": plain(5, 3)}
    result = Result(IN_STORE, SILENT, rows, {}, {})
    lines = list(text.table(result))
    assert [line[:8].strip() for line in lines[2:]] == ["* cheap", "* ours", "worse"]


def test_a_plot_has_the_cheap_left_and_the_soon_below() -> None:
    rows = {OURS: plain(10, 10), "cheap": plain(1, 100), "soon": plain(100, 1)}
    drawn = list(text.scatter(Result(IN_STORE, SILENT, rows, {}, {})))[1 : 1 + text.HEIGHT]
    assert drawn[0] == "|a"
    assert drawn[-1] == "|" + " " * (text.WIDTH - 1) + "b"
    assert sum("#" in line for line in drawn) == 1


@pytest.fixture(scope="module")
def small() -> bench.Bench:
    results = [measure(buyers, SILENT, 20) for buyers in BUYERS]
    return bench.Bench(20, results, knobs.scaled(10), knobs.by_age(10))


def test_the_report_names_the_schedule_and_everybody(small: bench.Bench) -> None:
    report = "\n".join(bench.report(small))
    assert report.startswith("20 payments a workload. Ours: RECONCILER_SCHEDULE=5,3,3,3,")
    assert all(name in report for name in (OURS, *peers()))
    assert report.count("mean lag (up)") == 3


def test_the_figures_can_be_read_by_machines(small: bench.Bench) -> None:
    read = json.loads(json.dumps(bench.as_json(small)))
    assert len(read["workloads"]) == len(BUYERS)
    one = read["workloads"][0]
    assert set(one["figures"]) == {OURS, *peers()} >= set(one["front"])
    assert one["margins"]["VENDOR_antom_upm_doc"] > 0


def test_the_page_shows_the_schedule_that_is_the_default() -> None:
    page = (Path(bench.DOCS) / "schedule.md").read_text()
    default = ",".join(f"{delay / SECOND:g}" for delay in Policy().inquiry_delays)
    assert f"Ours: RECONCILER_SCHEDULE={default}\n" in page
    assert all(name in page for name in peers())
