"""`python -m tests.fuzz --count 100000 --seed 1`: a campaign. `--seed N --number K`: one input."""

import argparse
import asyncio
import sys
import time

from tests.fuzz import parsers, runner
from worker.embedded import embedded_server


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="how many inputs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--number", type=int, help="replay this input")
    args = parser.parse_args()
    if args.number is not None:
        return _replay(args.seed, args.number)
    broken = _parsers(args.seed, args.count)
    return _receiver(args.seed, args.count) or broken


def _parsers(seed: int, count: int) -> int:
    started = time.monotonic()
    fates, violations = parsers.fuzz(seed, count)
    took = time.monotonic() - started
    print(f"parsers         {count:,} inputs in {took:.0f} s, seed {seed}")
    for fate, times in sorted(fates.items()):
        print(f"  {fate:<34}{times:>10,}")
    for number, what in violations[:20]:
        print(f"VIOLATION       input {number}: {what}")
    print(f"violations      {len(violations)}")
    return bool(violations)


def _receiver(seed: int, count: int) -> int:
    report = runner.run(seed, count)
    speed = f"{report.seconds:.0f} s, {report.count / report.seconds:,.0f} a second"
    print(f"receiver        {report.count:,} inputs in {speed}, seed {seed}")
    print("mutations")
    for kind, times in report.kinds.most_common():
        print(f"  {kind:<34}{times:>10,}")
    print("answers")
    for (status, reason), times in sorted(report.answers.items()):
        print(f"  {status} {reason:<30}{times:>10,}")
    print(f"log lines       {report.lines:,}")
    if report.rss:
        settled, now = report.rss[len(report.rss) // 5], report.rss[-1]
        print(f"memory          {settled >> 20} MiB after a fifth, {now >> 20} MiB at the end")
    for number, what in report.violations[:20]:
        print(f"VIOLATION       {what}")
        print(
            f"                to see it again: python -m tests.fuzz --seed {seed} --number {number}"
        )
    print(f"violations      {len(report.violations)}")
    return bool(report.violations)


def _replay(seed: int, number: int) -> int:
    with embedded_server() as url:
        sent, answers, report = asyncio.run(runner.replay(url, seed, number))
    print(f"{sent.kind}:\n{sent.wire!r}\nanswered:")
    for answer in answers:
        print(answer)
    for _, what in report.violations:
        print(f"VIOLATION       {what}")
    return bool(report.violations)


if __name__ == "__main__":
    sys.exit(main())
