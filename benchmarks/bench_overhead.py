"""What `dynoctl bench` adds to the tool that it runs: its whole time, report and all, beside the tool's.

    .venv/bin/python -m benchmarks.bench_overhead [--tools builtin,aiperf,genai-perf] [--rounds 3]

Brings up topologies/local.yaml in a folder of its own. Of aiperf and genai-perf (those of `scripts/test-tools`) the
time is that of the tool's process in the same run, as a program in its place notes it, since two runs of them differ
by seconds on a machine that others use. builtin has no process: it takes turns with the generator alone.
CPU time is the same on a machine that is busy, so on a quiet one what is added takes about as long as its CPU time.
Goal: no more than 2 s above.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import table

HERE = Path(__file__).parent.parent
TOOLS = ("builtin", "aiperf", "genai-perf")
DYNOCTL = [sys.executable, "-m", "dynoctl"]
# What is added does not depend on it. genai-perf's warm-up is done by builtin, so one request of it counts as added.
LIGHT = ["--input-tokens", "300", "--output-tokens", "20", "--warmup", "1"]
ALONE = """
import sys
from pathlib import Path
from dynoctl.bench.load import Load
from dynoctl.probe.bench.builtin import Builtin
from dynoctl.probe.bench.tool import Job
url, model, seed = sys.argv[1:]
load = Load(seed=int(seed), input_tokens=300, output_tokens=20, warmup=1)
measured = Builtin().measure(Job(url, model, load, Path("/nowhere")), lambda *_: None)
assert measured.metrics.requests == 40, measured.metrics
"""
IN_ITS_PLACE = """#!/bin/sh
began=$(date +%s.%N)
{program} "$@"
code=$?
echo $began $(date +%s.%N) > {notes}
times >> {notes}
exit $code
"""


class Took(NamedTuple):
    """A program, from its start to its end, with all that it started."""

    wall_s: float
    cpu_s: float


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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["DYNOCTL_HOME"] = f"{folder}/home"
        libc = tools(folder) if given.tools != "builtin" else []
        with cluster(folder, given.port):
            for tool in given.tools.split(","):
                more = libc if tool == "genai-perf" else []
                rows.append(cells(tool, [measured(folder, tool, more) for _ in range(given.rounds + 1)]))
    print(f"{given.rounds} rounds, medians")
    print(table(["", "dynoctl bench, s", "the tool, s", "above it, s", "CPU above it, s"], rows))
    return 0


def tools(folder: Path) -> list[str]:
    """Environments as dynoctl looks for them, with programs that note their time; gives genai-perf's options."""
    subprocess.run([HERE / "scripts" / "test-tools"], check=True)
    said = subprocess.run(
        [HERE / "scripts" / "test-tools", "path"], capture_output=True, text=True, check=True
    )
    made = Path(said.stdout.strip())
    for environment in made.glob("home/bench/envs/[ag]*-*"):
        place = folder / "home" / "bench" / "envs" / environment.name
        (place / "bin").mkdir(parents=True)
        for path in [*environment.iterdir(), *(environment / "bin").iterdir()]:
            mine = place / path.relative_to(environment)
            if path.name in TOOLS:
                mine.write_text(IN_ITS_PLACE.format(program=path, notes=folder / "notes"))
                mine.chmod(0o755)
            elif path.name != "bin" and not path.name.startswith("libc-"):
                mine.symlink_to(path)
    return ["--libc", str(made / "libc")]


@contextmanager
def cluster(folder: Path, port: int) -> Iterator[None]:
    """It is up meanwhile."""
    sets = [f"nodes.local.state_dir={folder}/state", f"roles.frontend.port={port}"]
    run([*DYNOCTL, "up", "topologies/local.yaml", "--yes", *(f"--set={one}" for one in sets)])
    try:
        yield
    finally:
        run([*DYNOCTL, "down", "local", "--yes"])


def measured(folder: Path, tool: str, more: list[str]) -> tuple[Took, Took]:
    """`dynoctl bench`, and the tool."""
    both = run([*DYNOCTL, "bench", "local", "--tool", tool, *LIGHT, *more])
    if tool != "builtin":
        walls, _, children = (folder / "notes").read_text().splitlines()
        began, ended = map(float, walls.split())
        minutes = [part.rstrip("s").split("m") for part in children.split()]  # `1m2.5s`
        return both, Took(ended - began, sum(60 * float(whole) + float(rest) for whole, rest in minutes))
    target = json.loads(max((folder / "home").glob("bench/results/*/record.json")).read_bytes())["target"]
    seed = str(time.time_ns() // 10**6)  # no prompt of an earlier run
    return both, run([sys.executable, "-c", ALONE, target["url"], target["model"], seed])


def cells(tool: str, rounds: list[tuple[Took, Took]]) -> list[str]:
    """A row of the table; the first round warms up and does not count."""
    columns = [
        (both.wall_s, alone.wall_s, both.wall_s - alone.wall_s, both.cpu_s - alone.cpu_s)
        for both, alone in rounds[1:]
    ]
    return [tool, *(f"{statistics.median(column):.2f}" for column in zip(*columns, strict=True))]


def run(argv: list[str]) -> Took:
    """Run to the end and say how long it took; on failure end with what it printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(argv, cwd=HERE, capture_output=True, text=True, check=False)
    wall_s, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{argv[3]} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    return Took(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


if __name__ == "__main__":
    sys.exit(main())
