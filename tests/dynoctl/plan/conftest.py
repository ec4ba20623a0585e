"""Fixtures of the plan's tests: a node's folder behind each shell, and a process that is really there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyno_node import proc
from tests.dynoctl.plan.looked import SHELLS, Node


@pytest.fixture(params=SHELLS, ids=lambda shell: Path(shell).name)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    return Node(tmp_path / "a home with 'quotes' and $HOME", request.param)


@pytest.fixture
def process() -> Iterator[proc.Process]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as popen:
        try:
            stat = proc.stat_of(popen.pid)
            assert stat is not None
            yield stat.process
        finally:
            popen.kill()
