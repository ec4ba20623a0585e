"""Where the real engine is: the environment and the models that `scripts/test-vllm` makes.

In: tests in this folder. Out: marked `vllm`; skipped with the reason where there is no such environment, and failed
instead with DYNO_REQUIRE_VLLM=1. One thread for each engine, and one test at a time: they compute.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Real:
    """The interpreter of the environment, and the folder of the models."""

    python: Path
    models: Path


def _said(word: str) -> Path:
    argv = [str(ROOT / "scripts" / "test-vllm"), word]
    return Path(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())


def _missing() -> str | None:
    models = _said("models")
    return None if models.is_dir() else f"there is no {models}; make it with: scripts/test-vllm"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them, and skip them with the reason where they cannot run."""
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    reason = _missing() if mine else None
    for item in mine:
        item.add_marker("vllm")
        if reason and os.environ.get("DYNO_REQUIRE_VLLM") != "1":
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def real() -> Real:
    """vLLM for CPUs, and something to run on it."""
    if reason := _missing():
        pytest.fail(f"DYNO_REQUIRE_VLLM=1, but {reason}")
    return Real(_said("path") / "bin" / "python", _said("models"))
