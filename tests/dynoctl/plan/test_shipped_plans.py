"""Every topology that ships has the offline plan of tests/golden/plans, to the letter.

What depends on this machine is put in words: the sizes of what is sent. `DYNO_REWRITE=1 pytest` writes the .txt files
anew; read what changed before you commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dynoctl.__main__ import run

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "plans"
SHIPPED = sorted((ROOT / "topologies").glob("*.yaml"))


def shown(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["plan", "--offline", str(path)]) == 0
    captured = capsys.readouterr()
    lines = (captured.err + captured.out).splitlines()
    return "".join(f"{_aligned(line)}\n" for line in lines)


def _aligned(line: str) -> str:
    """Without sizes, and without the spaces that stand in a row because of them."""
    return re.sub(r" {2,}\(", "  (", re.sub(r"\(\d+(\.\d+)? [kMG]?B\)", "(SIZE)", line))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_plan(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DYNOCTL_HOME", str(tmp_path))
    expected = GOLDEN / f"{path.stem}.txt"
    found = shown(path, capsys)
    if os.environ.get("DYNO_REWRITE") == "1":
        expected.write_text(found)
    assert found == expected.read_text()
    assert list(tmp_path.iterdir()) == []  # a plan leaves nothing behind here either


def test_there_is_one_for_each_and_no_other() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {path.stem for path in SHIPPED}
