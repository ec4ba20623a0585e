"""What serving costs: requests/s, tokens/s, times to the first token and between tokens, CPU time per unit of work.

Starts a cluster of mock engines that make tokens as fast as they can, and loads it; or loads any OpenAI server:

    .venv/bin/python -m benchmarks.serve [--model FOLDER] [--workers 2] [--rounds 1] [--json FILE]
    .venv/bin/python -m benchmarks.serve --url http://127.0.0.1:8000 --name MODEL --pids frontend=812,worker=815

CPU time is that of the named processes with all their children, per request, and per token where streamed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.load import Figures, Load
from benchmarks.mocks import MODEL, Mocks, mocks
from benchmarks.report import table

WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "state")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Scenario:
    """One kind of load. `words` of prompt, `tokens` of answer."""

    name: str
    clients: int
    words: int
    tokens: int
    stream: bool


SCENARIOS = [
    Scenario("1 token", 1, 32, 1, False),
    Scenario("1 token", 32, 32, 1, False),
    Scenario("1 token, 1,024 words", 32, 1024, 1, False),
    Scenario("128 tokens streamed", 8, 32, 128, True),
    Scenario("128 tokens streamed", 32, 32, 128, True),
    Scenario("128 tokens streamed", 128, 32, 128, True),
    Scenario("first token", 1, 32, 2, True),
    Scenario("first token, 2,000 words", 1, 2000, 2, True),
]
HEADINGS = [
    "load", "clients", "req/s", "tok/s", "TTFT p50 ms", "p99", "ITL p50 ms", "p99",
    "CPU µs/req", "CPU µs/tok", "tokens/event", "client CPU", "failed",
]  # fmt: skip


def request_maker(host: str, name: str, scenario: Scenario) -> Callable[[], bytes]:
    """Makes requests, each with a prompt of its own."""
    rng = random.Random(1)
    body: dict[str, Any] = {"model": name, "max_tokens": scenario.tokens, "temperature": 0}
    if scenario.tokens > 1:
        body["ignore_eos"] = True
    if scenario.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}

    def make() -> bytes:
        said = " ".join(rng.choices(WORDS, k=scenario.words))
        data = json.dumps({**body, "messages": [{"role": "user", "content": said}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        return head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data

    ready = [make() for _ in range(512)]
    turn = iter(range(sys.maxsize))
    return lambda: ready[next(turn) % len(ready)]


def cpu_s(pid: int) -> float:
    """CPU time of a process and of all that it started, in seconds."""
    total = 0.0
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) * _TICK_S
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += cpu_s(int(child))
    return total


def measured(target: Mocks, name: str, scenario: Scenario, seconds: float) -> dict[str, Any]:
    """One scenario, once."""
    make = request_maker(target.url.removeprefix("http://"), name, scenario)
    before: dict[str, float] = {}

    async def load() -> tuple[Figures, bytes, dict[str, float]]:
        one = Load(make, scenario.clients)
        loop = asyncio.get_running_loop()
        warm_s = min(1.0, seconds / 3)
        loop.call_later(warm_s, lambda: before.update({who: cpu_s(pid) for who, pid in target.pids.items()}))
        running = asyncio.ensure_future(one.run(target.url, seconds, warm_s))
        await asyncio.sleep(warm_s + seconds)
        used = {who: cpu_s(pid) - before[who] for who, pid in target.pids.items()}
        return await running, one.problem, used

    figures, problem, used = uvloop.run(load())
    if problem:
        print(f"{scenario.name}: {problem.decode(errors='replace')}", file=sys.stderr)
    return summary(scenario, figures, used)


def summary(scenario: Scenario, figures: Figures, used: dict[str, float]) -> dict[str, Any]:
    """Figures as they go into the JSON; times in the unit of the name."""
    requests, tokens = max(figures.requests, 1), max(figures.tokens, 1)
    first = figures.first_s if scenario.stream else figures.whole_s
    gaps = figures.gaps_s or [0.0]
    return {
        "load": scenario.name,
        "clients": scenario.clients,
        "requests_per_s": figures.requests / figures.wall_s,
        "tokens_per_s": figures.tokens / figures.wall_s,
        "first_p50_ms": _percentile(first, 50) * 1e3,
        "first_p99_ms": _percentile(first, 99) * 1e3,
        "gap_p50_ms": _percentile(gaps, 50) * 1e3,
        "gap_p99_ms": _percentile(gaps, 99) * 1e3,
        "cpu_us_per_request": {who: one / requests * 1e6 for who, one in used.items()},
        "cpu_us_per_token": {who: one / tokens * 1e6 for who, one in used.items()},
        # The first event of a stream says who speaks, and the last two have no token.
        "tokens_per_event": figures.tokens / max(figures.events - 3 * figures.requests, figures.requests, 1),
        "client_cpu": figures.client_cpu_s / figures.wall_s,
        "failed": figures.failed,
    }


def _percentile(values: Any, percent: float) -> float:
    ordered = sorted(values) or [0.0]
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))])


def cells(one: dict[str, Any]) -> list[str]:
    """A row of the table. CPU is that of frontends, processors and routers, and after the slash of all."""
    request, token = one["cpu_us_per_request"], one["cpu_us_per_token"]
    return [
        one["load"],
        str(one["clients"]),
        f"{one['requests_per_s']:,.0f}",
        f"{one['tokens_per_s']:,.0f}",
        f"{one['first_p50_ms']:.2f}",
        f"{one['first_p99_ms']:.2f}",
        f"{one['gap_p50_ms']:.2f}",
        f"{one['gap_p99_ms']:.2f}",
        f"{front_us(request):.0f} / {sum(request.values()):.0f}",
        f"{front_us(token):.2f} / {sum(token.values()):.2f}",
        f"{one['tokens_per_event']:.1f}",
        f"{one['client_cpu']:.0%}",
        str(one["failed"]),
    ]


def front_us(used: dict[str, float]) -> float:
    """The part of frontends, processors and routers."""
    return sum(value for who, value in used.items() if not who.startswith(("decode", "prefill", "worker")))


@contextlib.contextmanager
def target_of(given: argparse.Namespace) -> Iterator[Mocks]:
    """What is measured."""
    if given.url:
        pids = dict(one.split("=") for one in given.pids.split(",") if one)
        yield Mocks(given.url, {who: int(pid) for who, pid in pids.items()})
        return
    args = {"speedup": "inf", "kv_blocks": 65536}
    more = {"frontends": given.frontends, "merge_deltas": not given.no_merge}
    with mocks(given.workers, args, given.model, **more) as one:
        yield one


def main() -> int:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="an OpenAI server that runs already")
    parser.add_argument("--name", default=MODEL, help="the model to ask for")
    parser.add_argument("--pids", default="", help="who=pid,…: processes to account for")
    parser.add_argument("--model", help="a model folder for tokenizer and template; bytes without one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--frontends", type=int, default=1, help="processes that share the port")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each scenario")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    parser.add_argument("--clients", type=int, help="only scenarios with so many clients")
    parser.add_argument("--no-merge", action="store_true", help="an event for each token")
    parser.add_argument("--json", type=Path, help="append a line here for each scenario")
    given = parser.parse_args()
    chosen = [one for one in SCENARIOS if given.only in one.name and given.clients in (None, one.clients)]
    rows = []
    with target_of(given) as target:
        for number in range(given.rounds):
            for scenario in chosen:
                one = measured(target, given.name, scenario, given.seconds)
                rows.append(cells(one))
                if given.json:
                    line = {"at": int(time.time()), "round": number, "merge": not given.no_merge, **one}
                    with given.json.open("a") as out:
                        out.write(json.dumps(line) + "\n")
    print(table(HEADINGS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
