"""What metrics cost: CPU time of the frontend's process for each token, with them and without.

Two clusters of mock engines run side by side, one of them with `measured: false`, and are loaded in turns, so that
both see the same machine:

    .venv/bin/python -m benchmarks.metrics [--rounds 6] [--seconds 3]

The one that begins changes with each round. A ratio is the median over rounds; goal: at most 1.03.
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
HEADINGS = ["load", "µs/token without", "with", "ratio of rounds", "median"]


def cost_us(target: Mocks, scenario: Scenario, seconds: float) -> float:
    """CPU time of the frontend's process for a token, in microseconds."""
    one: dict[str, Any] = measured(target, MODEL, scenario, seconds)
    assert not one["failed"], one
    return float(one["cpu_us_per_token"]["frontend-0"])


def compared(with_us: list[float], without_us: list[float]) -> tuple[list[float], float]:
    """The ratio of each round, and the median of them."""
    ratios = [one / other for one, other in zip(with_us, without_us, strict=True)]
    return ratios, statistics.median(ratios)


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
        ratios, median = compared(with_us, without_us)
        rows.append(
            [
                name,
                f"{statistics.median(without_us):.2f}",
                f"{statistics.median(with_us):.2f}",
                " ".join(f"{ratio:.3f}" for ratio in ratios),
                f"{median:.3f}",
            ]
        )
    print(table(HEADINGS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
