"""What metrics cost: CPU time of the frontend's process for each token, with them and without.

Two clusters of mock engines run side by side, one of them with `measured: false`, and are loaded in turns, so that
both see the same machine:

    .venv/bin/python -m benchmarks.metrics [--rounds 6] [--seconds 3]

The one that begins changes with each round. On a machine with other work the best rounds say most: what disturbs only
ever adds. Goal: their ratio is at most 1.03.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from typing import Any

from benchmarks.mocks import MODEL, Mocks, mocks
from benchmarks.report import table
from benchmarks.serve import Scenario, measured

ARGS = {"speedup": "inf", "kv_blocks": 65536}
LOADS = [
    ("an event for each token", False, Scenario("128 tokens streamed", 32, 32, 128, True)),
    ("tokens that come together are one event", True, Scenario("128 tokens streamed", 32, 32, 128, True)),
    ("1 token, not streamed", True, Scenario("1 token", 32, 32, 1, False)),
]
HEADINGS = ["load", "µs/token without", "with", "ratio", "quarters of all rounds"]


def cost_us(target: Mocks, scenario: Scenario, seconds: float) -> float:
    """CPU time of the frontend's process for a token, in microseconds."""
    one: dict[str, Any] = measured(target, MODEL, scenario, seconds)
    assert not one["failed"], one
    return float(one["cpu_us_per_token"]["frontend-0"])


def row(name: str, with_us: list[float], without_us: list[float]) -> list[str]:
    """The best round of each, and how the ratios of all rounds lie."""
    best, best_without = min(with_us), min(without_us)
    ratios = [one / other for one, other in zip(with_us, without_us, strict=True)]
    spread = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios
    shown = " ".join(f"{ratio:.3f}" for ratio in spread)
    return [name, f"{best_without:.2f}", f"{best:.2f}", f"{best / best_without:.3f}", shown]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    given = parser.parse_args()
    rows = []
    for name, merge, scenario in LOADS:
        with ExitStack() as stack:
            on = stack.enter_context(mocks(1, ARGS, None, merge_deltas=merge))
            off = stack.enter_context(mocks(1, ARGS, None, merge_deltas=merge, measured=False))
            with_us: list[float] = []
            without_us: list[float] = []
            for number in range(given.rounds):
                turns = [(on, with_us), (off, without_us)]
                for target, costs in turns if number % 2 else reversed(turns):
                    costs.append(cost_us(target, scenario, given.seconds))
        rows.append(row(name, with_us, without_us))
    print(table(HEADINGS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
