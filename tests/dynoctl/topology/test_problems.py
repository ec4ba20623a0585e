"""Every file of tests/golden/problems has the problems of the .txt beside it, to the letter.

`DYNO_REWRITE=1 pytest` writes the .txt files anew; read what changed before you commit it. The first line of a case
tells its story; lines `# --set KEY=VALUE` after it are given to the parser as overrides.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynoctl.topology.load import parse
from dynoctl.topology.problem import InvalidTopology

FOLDER = Path(__file__).parents[2] / "golden" / "problems"
CASES = sorted(FOLDER.glob("*.yaml"))


def shown(case: Path) -> str:
    text = case.read_text()
    overrides = [line[8:] for line in text.splitlines() if line.startswith("# --set ")]
    with pytest.raises(InvalidTopology) as caught:
        parse(text, case.name, overrides)
    return "\n".join([str(caught.value), *caught.value.detail]) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_problems(case: Path) -> None:
    expected = case.with_suffix(".txt")
    if os.environ.get("DYNO_REWRITE") == "1":
        expected.write_text(shown(case))
    assert shown(case) == expected.read_text()


def test_there_are_cases_and_nothing_else() -> None:
    assert len(CASES) >= 40
    assert {path.stem for path in FOLDER.glob("*.txt")} == {case.stem for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_case_tells_its_story(case: Path) -> None:
    first = case.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")
