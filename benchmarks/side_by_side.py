"""This runtime beside other serving routers, in turns, so that ratios can be trusted. Each is up alone, as one that
only waits may take much of a small machine from the others.

In: a folder with the peers' virtual environments (see `benchmarks.peers`). Out: tables of medians over the rounds,
and how the runtime compares. Prompts, load generator, machine and the 129,000-entry tokenizer are the same for all:

    .venv/bin/python -m benchmarks.side_by_side ~/.cache/peers [--rounds 3] [--seconds 2] [--json FILE]
        [--only PEERS] [--loads LOADS]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.mocks import MODEL, Mocks, mocks
from benchmarks.peers import Peer, direct, peer, present
from benchmarks.report import table
from benchmarks.serve import Scenario, front_us, measured
from tests.models import make_model

OURS, TWO, DIRECT = "dyno_runtime", "dyno_runtime, 2 frontends", "direct"
WORKERS = 2
ONE_TOKEN = Scenario("1 token", 32, 32, 1, False)
LONG = Scenario("1 token, 1,024 words", 32, 1024, 1, False)
FEW = Scenario("128 tokens streamed", 8, 32, 128, True)
MANY = Scenario("128 tokens streamed", 32, 32, 128, True)
FIRST = Scenario("first token, 32 words", 1, 32, 8, True)
FIRST_LONG = Scenario("first token, 2,000 words", 1, 2000, 8, True)
SCENARIOS = (ONE_TOKEN, LONG, FEW, MANY, FIRST, FIRST_LONG)

KINDS = ("dynamo", "vllm-router", "sglang-router")

Got = dict[tuple[str, Scenario], list[dict[str, Any]]]
Start = Callable[[Path], AbstractContextManager[Mocks]]  # its files go into that folder


def median(runs: Sequence[dict[str, Any]], what: str) -> float:
    """Of one figure, over the rounds."""
    return float(statistics.median(one[what] for one in runs))


def cpu_us(runs: Sequence[dict[str, Any]], unit: str) -> tuple[float, float]:
    """Medians of the CPU of frontends, processors and routers, and of all with the workers."""
    each = [one[f"cpu_us_per_{unit}"] for one in runs]
    return statistics.median(map(front_us, each)), statistics.median(sum(one.values()) for one in each)


def rates(got: Got, names: Sequence[str], scenario: Scenario) -> str:
    """Requests of one token, or streams of many."""
    streams = scenario.tokens > 1
    unit, short, digits = ("token", "tok", 2) if streams else ("request", "req", 0)
    headings = ["", f"{short}/s", "TTFT p50 ms", "p99", f"CPU µs/{short}", "with workers"]
    rows = []
    for name in names:
        runs = got[name, scenario]
        firsts = [f"{median(runs, what):.2f}" for what in ("first_p50_ms", "first_p99_ms")]
        cpu = [f"{used:.{digits}f}" for used in cpu_us(runs, unit)]
        row = [name, f"{median(runs, f'{unit}s_per_s'):,.0f}", *firsts, *cpu]
        rows.append([*row, f"{median(runs, 'tokens_per_event'):.1f}"] if streams else row)
    return table([*headings, "tokens/event"] if streams else headings, rows)


def first(got: Got, names: Sequence[str], scenario: Scenario) -> str:
    """The time to the first token, and how much of it is not the engine's and the client's own."""
    rows = []
    for name in names:
        runs = got[name, scenario]
        pairs = zip(runs, got[DIRECT, scenario], strict=True)
        above = statistics.median(one["first_p50_ms"] - base["first_p50_ms"] for one, base in pairs)
        p50, p99 = median(runs, "first_p50_ms"), median(runs, "first_p99_ms")
        rows.append([name, f"{p50:.2f}", f"{above:.2f}", f"{p99:.2f}", f"{p99 / p50:.1f}"])
    return table(["", "TTFT p50 ms", "above direct", "p99", "p99 / p50"], rows)


def ratios(got: Got, names: Sequence[str]) -> str:
    """The runtime against the best of each kind."""
    rows = []
    for scenario, what, unit in (
        (ONE_TOKEN, "requests_per_s", "req/s"),
        (LONG, "requests_per_s", "req/s"),
        (FEW, "tokens_per_s", "tok/s"),
        (MANY, "tokens_per_s", "tok/s"),
    ):
        for own in (OURS, TWO) if (OURS, scenario) in got else ():
            ours = median(got[own, scenario], what)
            row = [own, f"{scenario.name}, {scenario.clients} clients, {unit}"]
            for kind in KINDS:
                rates = [median(got[name, scenario], what) for name in names if name.startswith(kind)]
                row.append(f"{ours / max(rates):.1f}" if rates else "–")
            rows.append(row)
    return table(["", "", *(f"× {kind}'s best" for kind in KINDS)], rows)


def report(got: Got, names: Sequence[str]) -> str:
    """All tables."""
    parts = []
    for scenario in dict.fromkeys(scenario for _, scenario in got):
        kind = first if scenario.tokens > 1 and scenario.clients == 1 else rates
        parts += [f"{scenario.name}, {scenario.clients} clients:", kind(got, names, scenario)]
    parts += ["This runtime, in multiples:", ratios(got, names)]
    return "\n\n".join(parts)


def rounds(targets: dict[str, Start], folder: Path, given: argparse.Namespace) -> Got:
    """Everybody, in turns."""
    got: Got = {}
    scenarios = [one for one in SCENARIOS if re.search(given.loads, one.name)]
    for number in range(given.rounds):
        for name, start in targets.items():
            with start(folder / f"{name}-{number}") as target:
                for scenario in scenarios:
                    one = measured(target, MODEL, scenario, given.seconds)
                    got.setdefault((name, scenario), []).append(one)
                    if given.json:
                        line = {"at": int(time.time()), "round": number, "target": name, **one}
                        with given.json.open("a") as out:
                            out.write(json.dumps(line) + "\n")
    return got


def ours(model: Path, frontends: int, folder: Path) -> AbstractContextManager[Mocks]:
    """A cluster of ours; it has a folder of its own."""
    return mocks(WORKERS, {"speedup": "inf", "kv_blocks": 65536}, str(model), frontends=frontends)


def theirs(one: Peer, venvs: Path, model: Path, folder: Path) -> AbstractContextManager[Mocks]:
    """A peer, with as many workers."""
    return peer(one, venvs, folder, model, WORKERS)


def main() -> int:
    """Start, measure and stop each in turn, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peers", type=Path, help="the folder with their virtual environments")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each scenario of each")
    parser.add_argument("--only", default="", help="peers whose name matches; the others are not started")
    parser.add_argument("--loads", default="", help="loads whose name matches; the others are left out")
    parser.add_argument("--json", type=Path, help="append a line here for each measurement")
    given = parser.parse_args()
    venvs = given.peers.expanduser()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # Dynamo reads the token's name, and not the object that others write.
        model = make_model(folder / "model", "large", eos_token="<｜end▁of▁sentence｜>")
        targets: dict[str, Start] = {
            OURS: partial(ours, model, 1),
            TWO: partial(ours, model, 2),
            DIRECT: direct,
        }
        for one in present(venvs):
            if re.search(given.only, one.name):
                targets[one.name] = partial(theirs, one, venvs, model)
        print(report(rounds(targets, folder, given), list(targets)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
