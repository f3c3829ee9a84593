"""`python -m tests.stress black-hole`, `python -m tests.stress outage --payments 50000`."""

import argparse

from tests.stress import after_outage, black_hole


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("what", choices=["black-hole", "outage"])
    parser.add_argument("--payments", type=int, default=50_000)
    parser.add_argument("--rate", type=int, default=250, help="calls a second, in an outage")
    parser.add_argument("--outage", type=float, default=120, help="seconds")
    parser.add_argument("--mood", choices=["error", "hang"], default="error")
    parser.add_argument("--unpaid", type=float, default=0.0, help="a share of the payments")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=15, help="of each round")
    args = parser.parse_args()
    if args.what == "black-hole":
        latencies = black_hole.measure(black_hole.Sizes(rounds=args.rounds, seconds=args.seconds))
        print(black_hole.told(latencies))
        return 0 if black_hole.ratio(latencies) <= 2 else 1
    sizes = after_outage.Sizes(
        payments=args.payments,
        rate=args.rate,
        outage=round(args.outage * 1000),
        mood=args.mood,
        unpaid=args.unpaid,
    )
    found = after_outage.measure(sizes)
    print(after_outage.told(sizes, found))
    return 0 if found.last_asked <= found.allowed and not found.too_early else 1


if __name__ == "__main__":
    raise SystemExit(main())
