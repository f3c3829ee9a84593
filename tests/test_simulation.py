"""The short version of the simulation: some hundred seeds, every planted bug, and the harness."""

import asyncio

import pytest

from tests.simulation import mutants
from tests.simulation.loop import Process, SimLoop
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.redis import Server
from tests.simulation.runner import many, one, shrunk
from tests.simulation.tape import Tape, shrink
from tests.simulation.world import World

BATCHES, BATCH = 4, 60
SHAPES = sorted({mutant.shape.__name__ for mutant in MUTANTS if mutant.shape is not None})


# The product


@pytest.mark.once
@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_seed_breaks_a_promise(batch: int) -> None:
    report = many(range(batch * BATCH, (batch + 1) * BATCH))
    assert report.violations == []
    assert sum(report.injected.values()) > 10 * BATCH


@pytest.mark.once
@pytest.mark.parametrize("name", SHAPES)
def test_no_world_shaped_towards_a_bug_sees_one_that_is_not_there(name: str) -> None:
    shape = getattr(mutants, name)
    seeds = 4 if name == "long_outages" else 15  # hours pass in each of those
    assert [str(one(seed, shape).oracle.violation) for seed in range(seeds)] == ["None"] * seeds


@pytest.mark.once
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_seen(mutant: Mutant) -> None:
    """From the seed that is known to see it; after changes of the product another one may."""
    assert mutants.hunt(mutant, limit=3000, first=mutants.SEEDS.get(mutant.name, 0)) is not None


def test_there_are_at_least_25_planted_bugs_each_with_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25


# The harness: one seed, one history


@pytest.mark.parametrize("seed", [3, 11])
def test_a_run_is_the_same_again_from_its_seed_and_from_its_recording(seed: int) -> None:
    first, again = one(seed), one(seed)
    replay = World(Tape(recording=first.tape.drawn))
    replay.run()
    assert first.digest == again.digest == replay.digest


def test_different_seeds_are_different_histories() -> None:
    assert len({one(seed).digest for seed in range(10)}) == 10


def test_a_failing_run_shrinks_to_fewer_choices_that_fail_alike() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "ack_before_write")
    with mutant.plant():
        found = mutants.hunt(mutant, limit=50)
        assert found is not None
        before = one(found.seed)
        after = shrunk(found.seed, runs=40)
    assert after is not None
    assert str(after.oracle.violation).startswith(found.rule)
    assert sum(map(bool, after.tape.drawn)) < sum(map(bool, before.tape.drawn)) / 2
    assert after.trace


def test_a_tape_that_is_shrunk_keeps_what_matters() -> None:
    assert shrink([5, 7, 3, 9, 0, 2], lambda tape: tape[2:3] == [3], 100) == [0, 0, 3]


def test_beyond_a_recording_everything_is_boring() -> None:
    tape = Tape(recording=[9])
    assert [tape.draw(4), tape.draw(4), tape.draw(1)] == [3, 0, 0]
    assert not tape.chance(999)


# The harness: processes


def test_a_crashed_process_takes_no_further_step_not_even_a_finally() -> None:
    loop, steps = SimLoop(Tape(1)), list[str]()  # type: ignore[abstract]
    process = Process("worker")

    async def work() -> None:
        try:
            steps.append("begun")
            await asyncio.sleep(1)
        finally:
            steps.append("cleaned up")

    loop.spawn(process, work())
    loop.after(500, loop.crash, process)
    loop.after(5000, lambda: steps.append("later"))
    loop.after(6000, loop.stop)
    loop.run()
    assert steps[:2] == ["begun", "later"]


def test_a_frozen_process_goes_on_where_it_was() -> None:
    loop, seen = SimLoop(Tape(1)), list[int]()  # type: ignore[abstract]
    process, start = Process("worker"), loop.now

    async def work() -> None:
        for _ in range(2):
            await asyncio.sleep(1)
            seen.append(loop.now - start)

    loop.spawn(process, work())
    loop.after(500, loop.freeze, process, 60_000)
    loop.run()
    assert seen == [60_500, 61_500]


def test_what_is_ready_at_once_runs_in_any_order() -> None:
    orders = set()
    for seed in range(20):
        loop, order = SimLoop(Tape(seed)), list[int]()  # type: ignore[abstract]
        for number in range(3):
            loop.after(1, order.append, number)
        loop.run()
        orders.add(tuple(order))
    assert len(orders) == 6


def test_a_power_cut_forgets_what_is_not_on_the_disk_and_nothing_else() -> None:
    server = Server(lambda: 1000)
    server.hset("kept", "a", "1")
    server.sync()
    server.hset("kept", "a", "2")
    server.rpush("new", "x")
    server.zadd("gone", 1, "m")
    server.delete("gone")
    assert server.cut_power() == 3
    assert (server.hgetall("kept"), server.exists("new")) == (["a", "1"], False)
