"""How much dynoctl adds to SSH: `up` with nothing to change and `status` on N lab hosts, beside a bare paramiko loop.

    sudo .venv/bin/python -m benchmarks.fleet [--hosts 64] [--rounds 5]

All three take turns in each round, as whole processes from start to exit; the figures are medians, and what counts
are the ratios. Needs root and the packages of docs/lab.md. The CPU time is the client's own.
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
from pathlib import Path

from benchmarks.report import Row, table
from tests.lab import Lab

HERE = Path(__file__).resolve().parent.parent
ENVIRONMENT = Path("/var/tmp/dynoctl-benchmark-env")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    python = environment()
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        hosts = lab.start(given.hosts)
        place = Path(folder)
        file = place / "fleet.yaml"
        file.write_text(topology(lab, python))
        listing = [{"address": h.address, "port": h.port, "user": h.user, "key": str(h.key)} for h in hosts]
        (place / "hosts.json").write_text(json.dumps(listing))
        os.environ["DYNOCTL_HOME"] = str(place / "home")
        dynoctl = [sys.executable, "-m", "dynoctl"]
        subprocess.run([*dynoctl, "up", str(file)], check=True, stderr=subprocess.DEVNULL)
        commands = {
            "bare paramiko loop": [sys.executable, "-m", "benchmarks.bare_loop", str(place / "hosts.json")],
            "dynoctl status": [*dynoctl, "status", "fleet"],
            "dynoctl up, nothing to change": [*dynoctl, "up", str(file)],
        }
        rows = measure(commands, given.rounds)
        subprocess.run([*dynoctl, "down", "fleet"], check=True, stderr=subprocess.DEVNULL)
    base = rows[0]
    print(f"{given.hosts} lab hosts, {given.rounds} rounds, medians")
    print(table(["", "wall s", "× bare", "CPU s", "× bare"], [row.cells(base) for row in rows]))
    return 0


def measure(commands: dict[str, list[str]], rounds: int) -> list[Row]:
    """Run all commands in turn, `rounds` times; the first round warms up and does not count."""
    walls: dict[str, list[float]] = {name: [] for name in commands}
    cpus: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, argv in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            started = time.monotonic()
            done = subprocess.run(argv, cwd=HERE, capture_output=True, text=True, check=False)
            wall = time.monotonic() - started
            if done.returncode != 0:
                sys.exit(f"{name} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if number:
                walls[name].append(wall)
                cpus[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return [Row(name, statistics.median(walls[name]), statistics.median(cpus[name])) for name in commands]


def environment() -> Path:
    """A Python environment that hosts can see, made once: what is measured is dynoctl, not pip."""
    needs = HERE / "runtime" / "dyno_runtime" / "requirements.txt"
    python, made_of = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "requirements.txt"
    if not made_of.exists() or made_of.read_bytes() != needs.read_bytes():
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", "-r", str(needs)], check=True)
        made_of.write_bytes(needs.read_bytes())
    return python


def topology(lab: Lab, python: Path) -> str:
    """One decode worker on every host, everything else on the first."""
    nodes = "".join(f"  {host.name}: {{host: {host.address}}}\n" for host in lab.hosts)
    names = ", ".join(host.name for host in lab.hosts)
    return (
        "name: fleet\nmodel: {id: hello}\nengine: {kind: hello}\n"
        f"python: {python}\nssh: {{user: {lab.hosts[0].user}, key: {lab.key}}}\n"
        f"nodes:\n{nodes}"
        "services: {etcd: h1, nats: h1}\n"
        "roles:\n  frontend: {node: h1}\n  processor: {node: h1}\n  router: {node: h1}\n"
        f"  decode: {{nodes: [{names}]}}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
