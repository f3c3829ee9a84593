"""`make chaos SECONDS=120`, or `python -m tests.chaos --help`."""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.plan import KILLS, SPOILS, WIRES, Kind
from tests.chaos.plant import PLANTED
from tests.chaos.server import compile_shim
from tests.chaos.verdict import Facts, Finding, faults_in_logs, gather, judge, told
from tests.chaos.world import Setup, World, running
from worker.views import table

SETTLE_SECONDS = 120  #: after the last fault everything has ended: a lease, a grace, a limit
SHOWN = 10  #: payments of a failed run whose story is printed


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found."""

    world: World
    facts: Facts
    findings: Sequence[Finding]
    settled_in: float

    def count(self, kind: str) -> int:
        return sum(finding.kind == kind for finding in self.findings)

    @property
    def kills(self) -> int:
        return sum(n for (kind, _), n in self.world.injected.items() if kind in KILLS)


async def run(setup: Setup, seconds: float, settle: float = SETTLE_SECONDS) -> Result:
    """Break things for so long, let them settle, judge."""
    async with running(setup) as world:
        await world.break_things(seconds)
        quiet = time.monotonic()
        async with asyncio.timeout(settle):
            await world.merchant.done()
        while True:
            facts = await gather(world)
            findings = judge(facts)
            if not findings or time.monotonic() > quiet + settle:
                break
            await asyncio.sleep(1)
        settled_in = time.monotonic() - quiet
    ends = [end for service in world.services.values() for end in service.unasked]
    broken = [Finding("broken", "", end) for end in ends] + faults_in_logs(setup.folder)
    return Result(world, facts, [*findings, *broken], settled_in)


def main() -> int:
    args = _parser().parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # short: a socket lies in it
    shim = compile_shim(folder)
    if shim is None:
        print("NO POWER CUTS: there is no C compiler here. Install gcc.", file=sys.stderr)
    everysec = args.plant == "everysec"
    setup = Setup(
        folder=folder,
        shim=shim,
        seed=args.seed if args.seed is not None else random.randrange(1_000_000),
        binary=args.server,
        fsync="everysec" if everysec else "always",
        durability="memory" if everysec else "fsync",
        planted=args.plant,
        per_second=args.rate,
        pace=args.pace,
        outage=args.outage,
    )
    print(f"seed {setup.seed}, {args.seconds:.0f} s, logs in {folder}", flush=True)
    try:
        result = asyncio.run(_interruptible(run(setup, args.seconds, args.settle)))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    show(result, args.seconds)
    if result.findings:
        return 1
    shutil.rmtree(folder)
    return 0


async def _interruptible(work: Coroutine[Any, Any, Result]) -> Result:
    """Ended by a signal it ends its processes, also as a shell's child in the background."""
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    return await task


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--settle", type=float, default=SETTLE_SECONDS, help="at most, afterwards")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rate", type=float, default=4, help="new payments per second")
    parser.add_argument("--pace", type=float, default=1, help="of the faults; 0.5: half as many")
    parser.add_argument("--server", type=Path, help="another server than the wheel's")
    parser.add_argument("--outage", type=float, default=0, help="one outage of the server, seconds")
    parser.add_argument("--plant", choices=PLANTED, default="", help="a fault to be found")
    return parser


# What is shown


def show(result: Result, seconds: float) -> None:
    world, facts = result.world, result.facts
    injected = world.injected
    targets = [name for name in (*world.services, "server")]
    kinds = (Kind.KILL, Kind.TERMINATE, Kind.POWER_CUT, Kind.FREEZE)
    print(table([{"": k.value} | {t: injected[k, t] for t in targets} for k in kinds]))
    print("\n" + table([{"": k.value} | {w: injected[k, w] for w in WIRES} for k in SPOILS]))
    others = [k for k in Kind if k not in kinds and k not in SPOILS]
    print("\n" + ", ".join(f"{kind.value} {injected[kind, 'server']}" for kind in others))
    print(f"unsynced bytes forgotten {world.forgotten}")
    print(f"connections cut {sum(wire.cuts for wire in world.wires.values())}")
    statuses = Counter(
        kept.record.get("status", "erased") if kept.record else "erased"
        for kept in facts.kept.values()
    )
    acked = sum(truth.notifications_acked for truth in facts.truths.values())
    ended = ", ".join(f"{status} {n}" for status, n in sorted(statuses.items()))
    print(f"payments {len(facts.wishes)}: {ended}")
    print(f"commands confirmed {len(world.merchant.commands)}, tries {world.merchant.tries}")
    _show_pays_and_callbacks(facts)
    print(f"settled {result.settled_in:.0f} s after the last fault\n")
    summary = {
        "seconds": round(seconds),
        "seed": world.setup.seed,
        "kills": result.kills,
        "power cuts": sum(n for (kind, _), n in injected.items() if kind is Kind.POWER_CUT),
        "freezes": sum(n for (kind, _), n in injected.items() if kind is Kind.FREEZE),
        "payments": len(facts.wishes),
        "acked": acked,
    }
    summary |= {kind: result.count(kind) for kind in ("lost", "wrong", "doubled", "broken")}
    print(table([summary]))
    _show_findings(result)


def _show_pays_and_callbacks(facts: Facts) -> None:
    pays = [len(facts.moments(id_, "pay")) for id_ in facts.wishes]
    submitted = sum(wish.submitted for wish in facts.wishes.values())
    orders = sum(
        wish.submitted and wish.id in facts.truths and facts.truths[wish.id].amount > 0
        for wish in facts.wishes.values()
    )
    again = sum(n > 1 for n in pays)
    print(f"submitted {submitted}: {sum(pays)} pays, {again} asked for again, {orders} orders")
    ids = {call.id for calls in facts.called.values() for call in calls}
    calls, waits = (
        sum(map(len, facts.called.values())),
        sum(len(k.to_call) for k in facts.kept.values()),
    )
    print(f"callbacks {calls} of {len(ids)} events, {waits} wait for their next try")


def _show_findings(result: Result) -> None:
    for finding in result.findings[:100]:
        print(f"{finding.kind.upper()}: {finding.about}: {finding.what}")
    named = list(dict.fromkeys(finding.about for finding in result.findings))
    for id_ in [name for name in named if name in result.facts.wishes][:SHOWN]:
        print(told(result.facts, id_))
    if result.findings:
        print(f"logs: {result.world.setup.folder}")


if __name__ == "__main__":
    raise SystemExit(main())
