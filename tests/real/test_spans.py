"""Workers larger than a node on lab hosts: Ray clusters that are real, with GPUs that are only declared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.host import Host
from tests.lab.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
ENGINES = "/opt/engines"  # where the hosts see the environment with vLLM and Ray
PYTHON = f"{ENGINES}/bin/python"


def environment() -> Path:
    given = os.environ.get("DYNO_TEST_ENGINES")
    return Path(given)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Host, ...]]:
    """Two hosts that have the environment of the real engines."""
    with Lab() as lab:
        yield lab.start(2, shown={ENGINES: environment()})
