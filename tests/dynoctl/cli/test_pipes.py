"""Readers that leave early: a result ends quietly, and nobody is shown a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[3] / "topologies" / "local.yaml"
VERBS = {
    "plan": ["plan", "--offline", str(FILE)],
    "plan --json": ["plan", "--offline", "--json", str(FILE)],
    "schema": ["schema"],
    "help": ["--help"],
}


def piped(argv: list[str], tmp_path: Path, *, keep: str = "err") -> tuple[int, str]:
    """Run with one stream into a pipe whose reader has gone already."""
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait()
        assert reader.stdin is not None
        done = subprocess.run(
            [sys.executable, "-m", "dynoctl", *argv],
            env={"DYNOCTL_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=reader.stdin if keep == "err" else subprocess.PIPE,
            stderr=reader.stdin if keep == "out" else subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    return done.returncode, done.stderr if keep == "err" else done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_a_result_that_nobody_reads(verb: str, tmp_path: Path) -> None:
    assert piped(VERBS[verb], tmp_path) == (0, "")


def test_progress_that_nobody_reads_does_not_change_the_result(tmp_path: Path) -> None:
    code, out = piped(["status", "nobody", "--json"], tmp_path, keep="out")
    assert code == 2
    assert "no cluster of that name is known here" in out
