"""How much `up` adds to the slowest role's own start: the 3-node hello cluster on prepared lab hosts.

    sudo .venv/bin/python -m benchmarks.hello_up [--rounds 5]

A role's own start is the same process with the same settings, started by hand on its host while etcd and NATS of the
cluster run, until its health file says that its engine is ready. `up` is the whole command, from a cluster that is
down to the proof by a token; the nodes keep their environments. The issue's goal: no more than 2 s above.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.fleet import HERE, environment
from benchmarks.report import table
from tests.lab import Host, Lab

DEADLINE_S = 60.0

# Start it, wait until its health file says that it is registered with its engine ready, end it.
ALONE = """
rm -f /tmp/alone.json
"$@" > /tmp/alone.log 2>&1 &
until grep -q '"registered":true,"engine":"\\(ready\\|none\\)"' /tmp/alone.json 2>/dev/null; do
    kill -0 $! || { cat /tmp/alone.log; exit 1; }
    sleep 0.01
done
kill $!
wait $!
"""
PORTS_ASIDE = 12_000  # so far that no port of one process becomes another port of the next


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    python = environment()
    with tempfile.TemporaryDirectory() as folder, Lab() as lab:
        lab.start(3)
        file = Path(folder) / "hello.yaml"
        file.write_text(topology(lab, python))
        os.environ["DYNOCTL_HOME"] = f"{folder}/home"
        dynoctl = [sys.executable, "-m", "dynoctl"]
        ups: list[float] = []
        for number in range(given.rounds + 1):
            started = time.monotonic()
            run([*dynoctl, "up", str(file)])
            if number:
                ups.append(time.monotonic() - started)
            if number < given.rounds:
                run([*dynoctl, "down", "hello"])
        alone = {
            f"{host.name}/{unit.rpartition('/')[2]}": statistics.median(
                own_start(host, unit) for _ in range(given.rounds)
            )
            for host in lab.hosts
            for unit in units(host)
        }
        run([*dynoctl, "down", "hello"])
    slowest = max(alone, key=lambda name: alone[name])
    up = statistics.median(ups)
    print(f"{given.rounds} rounds, medians")
    print(
        table(
            ["", "s"],
            [
                ["dynoctl up", f"{up:.2f}"],
                [f"slowest role alone ({slowest})", f"{alone[slowest]:.2f}"],
                ["above it", f"{up - alone[slowest]:.2f}"],
            ],
        )
    )
    return 0


def run(argv: list[str]) -> None:
    """Run to the end; on failure end with what it printed."""
    done = subprocess.run(argv, cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{argv[3]} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")


def topology(lab: Lab, python: Path) -> str:
    """The seed's disaggregated deployment."""
    text = (HERE / "topologies" / "hello-disagg-3node.yaml").read_text()
    for number, host in enumerate(lab.hosts, start=1):
        text = re.sub(rf"(node{number}: *{{ *host: )[^,}} ]+", rf"\g<1>{host.address}", text)
    text = re.sub(r"(?m)^name: .*$", "name: hello", text)
    text = re.sub(r"(?m)^ssh: .*$", f"ssh: {{user: {lab.hosts[0].user}, key: {lab.key}}}", text)
    return text + f"\npython: {python}\n"


def units(host: Host) -> list[str]:
    """The units of a host that run roles."""
    found = host.exec(["sh", "-c", "ls -d ~dyn/.dynoctl/clusters/hello/*/units/*-*"]).stdout.split()
    return [path for path in found if path]


def own_start(host: Host, folder: str) -> float:
    """Seconds from exec to `engine ready` of one role process, on ports of its own."""
    unit = json.loads(host.exec(["cat", f"{folder}/unit.json"]).stdout)
    settings = json.loads(host.exec(["cat", f"{folder}/settings.json"]).stdout)
    settings["unit"] += "-alone"  # of the same name it would take the other for its dead predecessor
    settings["health_path"] = "/tmp/alone.json"
    for use in ("stream", "http", "metrics"):
        if settings.get(use):
            settings[use]["port"] += PORTS_ASIDE
    host.exec(
        ["sh", "-c", "cat > /tmp/alone-settings.json; chown dyn /tmp/alone-settings.json"],
        input=json.dumps(settings),
    )
    argv = ["env", f"PYTHONPATH={unit['env']['PYTHONPATH']}", *unit["argv"][:-1], "/tmp/alone-settings.json"]
    started = time.monotonic()
    host.exec(["sh", "-c", ALONE, "sh", *argv], user="dyn", timeout_s=DEADLINE_S)
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
