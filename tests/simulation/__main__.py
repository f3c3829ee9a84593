"""`python -m tests.simulation --seeds 20000`: a campaign. `--seed N --trace`: one run, told.
`--mutants`: every planted bug, and what caught it.
"""

import argparse
import os
import sys

from tests.simulation import mutants, runner
from tests.simulation.loop import START
from tests.simulation.oracles import RARE
from tests.simulation.tape import Tape
from tests.simulation.world import World

ENOUGH = 20_000  #: so many seeds must reach every rare state


def main() -> int:
    args = _arguments()
    if args.mutants:
        return _mutants(args.limit, args.only)
    if args.seed is not None:
        return _replay(args.seed, args.trace, args.shrink)
    return _campaign(args.first, args.seeds, args.processes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="replay this seed")
    parser.add_argument("--trace", action="store_true", help="print every event of the run")
    parser.add_argument(
        "--shrink", action="store_true", help="print the simplest run that fails so"
    )
    parser.add_argument("--mutants", action="store_true", help="run every planted bug")
    parser.add_argument("--only", default="", help="only the mutants whose name contains this")
    parser.add_argument("--limit", type=int, default=50_000, help="seeds tried for each mutant")
    return parser.parse_args()


# A campaign


def _campaign(first: int, count: int, processes: int) -> int:
    tty = sys.stderr.isatty()

    def progress(report: runner.Report) -> None:
        if tty:
            print(f"\r{_figures(report)}", end="", file=sys.stderr, flush=True)

    report = runner.campaign(first, count, processes, progress)
    if tty:
        print(file=sys.stderr)
    print(_figures(report))
    print(f"virtual time    {report.virtual_ms / 3_600_000:,.0f} h, {report.steps:,} steps")
    print("faults injected")
    for name, times in sorted(report.injected.items()):
        print(f"  {name:<24}{times:>12,}")
    print("rare states reached")
    for name in RARE:
        print(f"  {name:<36}{report.reached[name]:>12,}{'' if report.reached[name] else '  NEVER'}")
    for seed, rule in sorted(report.violations)[:20]:
        print(f"VIOLATION seed {seed}: {rule}")
        print(f"  replay: python -m tests.simulation --seed {seed} --trace  (or --shrink)")
    never = count >= ENOUGH and bool(report.missing)  # a test that cannot see proves nothing
    return 1 if report.violations or never else 0


def _figures(report: runner.Report) -> str:
    rate = report.seeds / report.seconds * 60 if report.seconds else 0
    return (
        f"{report.seeds:,} seeds, {rate:,.0f} seeds/min,"
        f" {sum(report.injected.values()):,} faults, {len(report.violations)} violations,"
        f" {len(RARE) - len(report.missing)} of {len(RARE)} rare states"
    )


# One run


def _replay(seed: int, trace: bool, shrink: bool) -> int:
    world: World | None
    if shrink:
        world = runner.shrunk(seed, runner.shape_of(seed))
        if world is None:
            print(f"seed {seed} fails nowhere")
            return 0
        print(f"{sum(map(bool, world.tape.drawn))} surprising choices are left")
    else:
        world = World(Tape(seed), trace=trace, shape=runner.shape_of(seed))
        world.run()
    print(world.mix, world.switches, sep="\n")
    for line in world.trace or ():
        print(line)
    print(f"digest {world.digest}, {world.loop.steps} steps, began at {START}")
    print(f"violation: {world.oracle.violation}")
    return 0 if world.oracle.violation is None else 1


# Planted bugs


def _mutants(limit: int, only: str) -> int:
    print(f"{'planted bug':<40}{'caught as':<48}{'seeds':>7}  scenario")
    escaped = 0
    for mutant in mutants.MUTANTS:
        if only not in mutant.name:
            continue
        found = mutants.hunt(mutant, limit)
        escaped += found is None
        rule, seeds = (found.rule, f"{found.seeds}") if found else ("NOT CAUGHT", f">{limit}")
        print(f"{mutant.name:<40}{rule:<48}{seeds:>7}  {mutant.scenario}", flush=True)
    print(f"{escaped} escaped")
    return 1 if escaped else 0


if __name__ == "__main__":
    raise SystemExit(main())
