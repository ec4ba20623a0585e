"""Sixteen hosts at once."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import needs
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.real.clusters import generate, written
from tests.real.dynoctl_runs import Dynoctl
from tests.real.left import left

COUNT = 16


@pytest.fixture
def environment(wheelhouse: Path) -> Iterator[Path]:
    """A Python environment that hosts see below their own disks, so that it must be there before they start."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="dyno-real-") as folder:
        place = Path(folder, "env")
        subprocess.run(["/usr/bin/python3", "-m", "venv", place], check=True, timeout=60)
        wheels = [str(wheel) for wheel in wheelhouse.glob("*.whl")]
        install = ["install", "--quiet", "--no-index", "--no-deps", *wheels]
        subprocess.run([place / "bin" / "python", "-m", "pip", *install], check=True, timeout=60)
        Path(folder).chmod(0o755)
        yield place


@pytest.fixture
def many(environment: Path) -> Iterator[tuple[Host, ...]]:
    if reason := needs.missing():
        pytest.fail(f"DYNO_REQUIRE_LAB=1, but {reason}")
    with Lab() as lab:
        yield lab.start(COUNT)


@pytest.mark.timeout(240)
def test_sixteen_hosts(
    many: tuple[Host, ...], environment: Path, dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path
) -> None:
    """A worker on each; then one host dies, and the other fifteen are shown."""
    hosts = {f"node{number}": host for number, host in enumerate(many, start=1)}
    roles = {
        "frontend": {"node": "node1", "port": 8000},
        "processor": {"node": "node1"},
        "router": {"node": "node1", "policy": "round_robin"},
        "decode": {"nodes": list(hosts)},
    }
    python = str(environment / "bin" / "python")
    topology = written(tmp_path, "many", wheelhouse, hosts, roles=roles, python=python)
    done = dynoctl("up", topology, "--json").ok().json
    assert len(done["proofs"]) == COUNT
    workers = {generate(many[0], f"prompt {number}").worker for number in range(2 * COUNT)}
    assert workers == {f"{node}/decode-0" for node in hosts}
    assert (
        dynoctl("up", topology)
        .ok()
        .out.startswith("many: no changes; all 19 units run as the topology says.\n")
    )

    many[6].poweroff()
    shown = dynoctl("status", "--json")
    assert shown.code == 1
    assert list(shown.json["nodes"]["node7"]) == ["error", "detail", "next"]
    rungs = {role["node"]: role["rung"] for role in shown.json["roles"] if role["role"] == "decode"}
    assert rungs == {node: 0 if node == "node7" else 5 for node in hosts}
    many[6].poweron()
    dynoctl("down").ok()
    assert [line for host in many for line in left(host)] == []
