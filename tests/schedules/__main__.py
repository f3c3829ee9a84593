"""`python -m tests.schedules`, or `make bench-schedule`: our schedule beside all others.

Exits with 5 if another schedule is better on a workload.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jobs.schedule import SECOND
from tests.schedules import knobs, text
from tests.schedules.figures import Result, measure
from tests.schedules.workloads import BUYERS, NOTICES, Buyers

DOCS = Path(__file__).parent.parent.parent / "docs"
KNOBS = 4  #: knobs are shown on a fourth of the payments: short delays make long lives
BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->"


@dataclass(frozen=True, slots=True)
class Bench:
    """All that was measured."""

    payments: int  #: a workload
    results: Sequence[Result]
    scaled: knobs.Table
    by_age: knobs.Table

    @property
    def silent(self) -> list[Result]:
        """The workloads in which no notification arrives: inquiries alone tell."""
        return [result for result in self.results if result.notices == NOTICES[-1]]


def main() -> int:
    args = _arguments()
    bench = _bench(args.payments, args.processes)
    print("\n".join(report(bench, every=args.all)))
    if args.json:
        args.json.write_text(json.dumps(as_json(bench), indent=1) + "\n")
    if args.write:
        _write("\n".join(report(bench)))
    for file in [args.png] * bool(args.png) + [DOCS / "schedule.png"] * args.write:
        from tests.schedules.plot import draw  # matplotlib is only needed for it

        draw(bench.silent[:3], bench.scaled, file)
    return 5 if any(result.dominated_by for result in bench.results) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.schedules", description=__doc__)
    parser.add_argument("--payments", type=int, default=1000, help="a workload")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="print the table of every workload")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--png", type=Path, help="write the picture to this file (matplotlib)")
    parser.add_argument("--write", action="store_true", help="renew docs/schedule.md and .png")
    return parser.parse_args()


def _bench(payments: int, processes: int) -> Bench:
    with ProcessPoolExecutor(processes) as pool:
        fewer = max(payments // KNOBS, 1)
        scaled = pool.submit(knobs.scaled, fewer)
        by_age = pool.submit(knobs.by_age, fewer)
        results = [one for many in pool.map(partial(_of, payments), BUYERS) for one in many]
        return Bench(payments, results, scaled.result(), by_age.result())


def _of(payments: int, buyers: Buyers) -> list[Result]:
    return [measure(buyers, notices, payments) for notices in NOTICES]


def report(bench: Bench, every: bool = False) -> Iterator[str]:
    """The tables and plots, for a terminal and for docs/schedule.md."""
    delays = ",".join(f"{delay / SECOND:g}" for delay in knobs.DEFAULT)
    yield f"{bench.payments:,} payments a workload. Ours: RECONCILER_SCHEDULE={delays}"
    yield ""
    yield from text.summary(bench.results)
    for result in bench.results if every else bench.silent[:3]:
        yield ""
        yield from text.table(result)
    for result in bench.silent[:3]:
        yield ""
        yield from text.scatter(result)
    for name, table in (("multiplied", bench.scaled), ("by age", bench.by_age)):
        yield ""
        yield f"Delays {name}: {max(bench.payments // KNOBS, 1):,} payments each"
        yield from text.knobs(table)


def as_json(bench: Bench) -> dict[str, Any]:
    """All figures, for machines."""
    return {
        "payments": bench.payments,
        "schedule": [delay / SECOND for delay in knobs.DEFAULT],
        "workloads": [_workload(result) for result in bench.results],
        "scaled": _plain(bench.scaled),
        "by_age": _plain(bench.by_age),
    }


def _workload(result: Result) -> dict[str, Any]:
    return asdict(result) | {
        "dominated_by": result.dominated_by,
        "dominated_by_p95": result.dominated_by_p95,
        "front": sorted(result.front),
        "margins": {name: duel.margin for name, duel in result.own_ground.items()},
    }


def _plain(table: knobs.Table) -> dict[str, Any]:
    return {name: {key: asdict(one) for key, one in row.items()} for name, row in table.items()}


def _write(figures: str) -> None:
    page = DOCS / "schedule.md"
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}```\n{figures}\n```\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
