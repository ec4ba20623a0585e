"""What `dynoctl bench` adds to the tool that it runs: its whole time, report and all, beside the tool's by hand.

    .venv/bin/python -m benchmarks.bench_overhead [--tools builtin,aiperf,genai-perf] [--rounds 3]

Brings up topologies/local.yaml in a folder of its own and takes turns. By hand is the very command that the record
names, or, for builtin, the generator alone in a process; genai-perf warms up by itself there. The tools are those of
`scripts/test-tools`. The issue's goal: no more than 2 s above.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import table

HERE = Path(__file__).parent.parent
TOOLS = ("builtin", "aiperf", "genai-perf")
DYNOCTL = [sys.executable, "-m", "dynoctl"]
LIGHT = ["--input-tokens", "300", "--output-tokens", "20"]  # what is added does not depend on it
ALONE = """
import sys
from pathlib import Path
from dynoctl.bench.load import Load
from dynoctl.probe.bench.builtin import Builtin
from dynoctl.probe.bench.tool import Job
url, model, seed = sys.argv[1:]
load = Load(seed=int(seed), input_tokens=300, output_tokens=20)
measured = Builtin().measure(Job(url, model, load, Path("/nowhere")), lambda *_: None)
assert measured.metrics.requests == 40, measured.metrics
"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder), given.port) as libc:
        for tool in given.tools.split(","):
            rows.append(cells(tool, measured(Path(folder), tool, given.rounds, libc)))
    print(f"{given.rounds} rounds, medians")
    print(table(["", "dynoctl bench, s", "by hand, s", "above it, s"], rows))
    return 0


@contextmanager
def cluster(folder: Path, port: int) -> Iterator[list[str]]:
    """It is up, and the tools are where dynoctl looks for them; gives the options that genai-perf needs here."""
    subprocess.run([HERE / "scripts" / "test-tools"], check=True)
    made = subprocess.run(
        [HERE / "scripts" / "test-tools", "path"], capture_output=True, text=True, check=True
    )
    tools = Path(made.stdout.strip())
    os.environ["DYNOCTL_HOME"] = f"{folder}/home"
    (folder / "home" / "bench").mkdir(parents=True)
    (folder / "home" / "bench" / "envs").symlink_to(tools / "home" / "bench" / "envs")
    sets = [f"nodes.local.state_dir={folder}/state", f"roles.frontend.port={port}"]
    run([*DYNOCTL, "up", "topologies/local.yaml", "--yes", *(f"--set={one}" for one in sets)])
    try:
        yield ["--libc", str(tools / "libc")]
    finally:
        run([*DYNOCTL, "down", "local", "--yes"])


def measured(folder: Path, tool: str, rounds: int, libc: list[str]) -> tuple[list[float], list[float]]:
    """Seconds of `dynoctl bench` and of the tool by hand, with new prompts each time; the first does not count."""
    ours, theirs = [], []
    seeds = iter(range(50_000 + 1000 * TOOLS.index(tool), 10**6))
    more = libc if tool == "genai-perf" else []
    for number in range(rounds + 1):
        took = run([*DYNOCTL, "bench", "local", "--tool", tool, "--seed", str(next(seeds)), *LIGHT, *more])
        record = last_record(folder)
        argv, variables = by_hand(record, tool, str(next(seeds)), folder / f"hand-{tool}-{number}")
        alone = run(argv, variables)
        if number:
            ours.append(took)
            theirs.append(alone)
    return ours, theirs


def cells(tool: str, seconds: tuple[list[float], list[float]]) -> list[str]:
    """A row of the table."""
    ours, theirs = map(statistics.median, seconds)
    return [tool, f"{ours:.2f}", f"{theirs:.2f}", f"{ours - theirs:.2f}"]


def last_record(folder: Path) -> dict[str, Any]:
    """Of the run that ended last."""
    found: dict[str, Any] = json.loads(
        max((folder / "home").glob("bench/results/*/record.json")).read_bytes()
    )
    return found


def by_hand(record: dict[str, Any], tool: str, seed: str, out: Path) -> tuple[list[str], dict[str, str]]:
    """The same once more, without dynoctl: argv and environment."""
    if tool == "builtin":
        target = record["target"]
        return [sys.executable, "-c", ALONE, target["url"], target["model"], seed], dict(os.environ)
    argv: list[str] = record["points"][0]["command"]
    for option, value in (
        ("--random-seed", seed),
        ("--artifact-dir", str(out)),
        ("--warmup-request-count", "10"),
    ):
        argv[argv.index(option) + 1] = value
    environment = Path(argv[0]).parent.parent
    if tool == "aiperf":
        return argv, dict(os.environ)
    launchers = sorted(environment.glob("libc-*"))
    path = ":".join([*map(str, launchers), str(environment / "bin"), os.environ["PATH"]])
    return argv, {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def run(argv: list[str], variables: dict[str, str] | None = None) -> float:
    """Run to the end and say how long it took; on failure end with what it printed."""
    started = time.monotonic()
    done = subprocess.run(argv, cwd=HERE, capture_output=True, text=True, check=False, env=variables)
    took_s = time.monotonic() - started
    if done.returncode != 0:
        sys.exit(
            f"{' '.join(argv[:6])} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        )
    return took_s


if __name__ == "__main__":
    sys.exit(main())
