"""`python -m tests.bench`, or `make bench`: what the reconciler costs, beside what it could cost.

Everything is a ratio within one run: the machine, and who else uses it, must not matter.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import growth, inquiry, latency, profile, receiver, recovery, scaling, text
from tests.bench.frame import QUICK, Part, Sizes

PARTS: Mapping[str, Callable[[Sizes, Callable[[str], None]], Part]] = {
    "a": inquiry.measure,
    "b": receiver.measure,
    "c": growth.measure,
    "d": latency.measure,
    "e": recovery.measure,
    "f": scaling.measure,
    "p": profile.measure,
}
FILE = Path("build/bench.json")


def machine() -> dict[str, Any]:
    model = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    return {
        "cpus": os.cpu_count(),
        "model": model[0].partition(": ")[2] if model else platform.machine(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def run(parts: str, sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """All that was measured, as `build/bench.json` has it."""
    told: dict[str, Any] = {"machine": machine(), "sizes": asdict(sizes), "parts": {}}
    for name in parts:
        began = time.monotonic()
        part = PARTS[name](sizes, partial(_say_of, name, say))
        promises = [asdict(each) | {"holds": each.holds} for each in part.promises]
        told["parts"][name] = asdict(part) | {"promises": promises}
        told["parts"][name]["seconds"] = time.monotonic() - began
    return told


def _say_of(part: str, say: Callable[[str], None], what: str) -> None:
    say(f"({part}) {what}")


def main() -> int:
    args = _arguments()
    if args.write and not args.parts:
        text.write(json.loads(args.json.read_text()))
        return 0

    def say(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    told = run("".join(args.parts) or "".join(PARTS), QUICK if args.quick else Sizes(), say)
    print("\n".join(text.report(told)))
    args.json.parent.mkdir(exist_ok=True)
    args.json.write_text(json.dumps(_merged(args.json, told), indent=1) + "\n")
    if args.write:
        text.write(told)
    return 0


def _merged(file: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Parts that were measured before stay, as long as they were measured alike."""
    before = json.loads(file.read_text()) if file.exists() else {}
    if before.get("sizes") != json.loads(json.dumps(told["sizes"])):
        return told
    return told | {"parts": dict(sorted((before["parts"] | told["parts"]).items()))}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS], help="which; all if none is named")
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it works")
    parser.add_argument("--json", type=Path, default=FILE, help="where the figures are written")
    parser.add_argument(
        "--write",
        action="store_true",
        help="renew the tables of docs/performance.md, without parts: from the figures as they are",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
