"""Which policy routes best, by simulation: `python -m benchmarks.routing_study [--write]`.

In: seeds, a number of requests. Out: tables of the time to the first token (TTFT), hit rate and time between
tokens (ITL) for each policy; with `--write` they replace those in docs/routing.md. The same seeds give the same
tables on any machine.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmarks.report import table
from benchmarks.trace import AGENT, CONVERSATION, Row, Shape, generate
from dyno_runtime.core.policies import PolicyName
from tests.sim.cluster import Cluster
from tests.sim.worker import Machine

POLICIES: tuple[PolicyName, ...] = ("random", "round_robin", "least_loaded", "prefix", "kv_classic", "kv")
WORKERS = 8
PAGE = Path(__file__).parents[1] / "docs" / "routing.md"
BEGIN, END = "<!-- routing study: begin -->", "<!-- routing study: end -->"
HEADINGS = ("TTFT mean s", "p50", "p90", "p99", "hit rate", "ITL mean ms", "p99 ms", "whole request mean s")


@dataclass
class Figures:
    """What became of the requests of one or several runs."""

    ttft_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    gaps_ms: Counter[int] = field(default_factory=Counter)
    hit_tokens: int = 0
    tokens: int = 0

    def add(self, cluster: Cluster) -> None:
        """Count a cluster that has answered everything."""
        for passage in cluster.passages:
            assert passage.first_s is not None, "a request was not answered"
            assert passage.end_s is not None
            self.ttft_s.append(passage.first_s - passage.at_s)
            self.whole_s.append(passage.end_s - passage.at_s)
            self.hit_tokens += passage.hit_tokens
            self.tokens += passage.request.tokens
        for worker in cluster.workers.values():
            self.gaps_ms.update(worker.gaps_ms)

    @property
    def mean_s(self) -> float:
        """The mean time to the first token."""
        return sum(self.ttft_s) / len(self.ttft_s)

    @property
    def hit_rate(self) -> float:
        """The part of all prompt tokens that was not computed again."""
        return self.hit_tokens / self.tokens

    def cells(self) -> list[str]:
        """One row under `HEADINGS`."""
        ordered = sorted(self.ttft_s)
        parts = [ordered[int(len(ordered) * part)] for part in (0.5, 0.9, 0.99)]
        gaps = self.gaps_ms.total()
        mean_ms = sum(gap_ms * count for gap_ms, count in self.gaps_ms.items()) / gaps
        return [
            f"{self.mean_s:.2f}",
            *(f"{part:.2f}" for part in parts),
            f"{self.hit_rate:.3f}",
            f"{mean_ms:.1f}",
            str(_quantile(self.gaps_ms, 0.99 * gaps)),
            f"{sum(self.whole_s) / len(self.whole_s):.2f}",
        ]


def _quantile(counts: Counter[int], rank: float) -> int:
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return value
    return 0


@cache
def trace(shape: Shape, requests: int, seed: int) -> list[Row]:
    """One trace."""
    return list(generate(shape, requests, seed))


def name_of(number: int) -> int:
    """A block's 64-bit name for its number in the trace."""
    return (number + 1) * 0x9E3779B97F4A7C15 % (1 << 64)


def study(
    policy: PolicyName,
    traces: Iterable[Sequence[Row]],
    machine: Machine | None = None,
    routers: int = 1,
) -> Figures:
    """Replay the traces through 8 workers."""
    figures = Figures()
    for seed, rows in enumerate(traces):
        cluster = Cluster(seed, policy, WORKERS, routers, machine or Machine())
        cluster.arrive(rows, name_of)
        cluster.run(until_s=rows[-1].timestamp / 1000 + 100_000)
        figures.add(cluster)
    return figures


def page(requests: int, seeds: int) -> str:
    """The tables, in Markdown."""
    conversation = [trace(CONVERSATION, requests, seed) for seed in range(1, seeds + 1)]
    agent = [trace(AGENT, requests, seed) for seed in range(1, seeds + 1)]
    command = "python -m benchmarks.routing_study --write"
    parts = [f"{seeds} traces of {requests:,} requests each; made by `{command}`."]
    for title, traces in (("A conversation-like", conversation), ("An agent-like", agent)):
        rows = [[f"`{policy}`", *study(policy, traces).cells()] for policy in POLICIES]
        parts += [f"{title} trace, one router:", table(["policy", *HEADINGS], rows)]
    parts.append("Several routers side by side, each with a part of the requests (conversation-like):")
    several: list[list[str]] = []
    for routers in (1, 2, 4, 8):
        several.append([f"`kv`, {routers}", *study("kv", conversation, routers=routers).cells()])
    parts.append(table(["policy, routers", *HEADINGS], several))
    parts.append("Mean TTFT in s where workers are slower or faster, or can cache less (conversation-like):")
    machines = {
        "5,000 tok/s": Machine(prefill_tokens_per_s=5000.0),
        "6,500 tok/s": Machine(),
        "9,000 tok/s": Machine(prefill_tokens_per_s=9000.0),
        "6,500 tok/s, 400 blocks": Machine(blocks=400),
    }
    rows = [
        [f"`{policy}`", *(f"{study(policy, conversation, one).mean_s:.2f}" for one in machines.values())]
        for policy in POLICIES[2:]
    ]
    parts.append(table(["policy", *machines], rows))
    return "\n\n".join(parts)


def write(text: str) -> None:
    """Put the tables where those of the last run are."""
    old = PAGE.read_text()
    head, tail = old[: old.index(BEGIN) + len(BEGIN)], old[old.index(END) :]
    PAGE.write_text(f"{head}\n\n{text}\n\n{tail}")


def main() -> int:
    """Simulate, and print or write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing_study", description=__doc__)
    parser.add_argument("--requests", type=int, default=12_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into docs/routing.md")
    asked = parser.parse_args()
    text = page(asked.requests, asked.seeds)
    if asked.write:
        write(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
