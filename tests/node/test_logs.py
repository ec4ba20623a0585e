"""Verb `logs`: last lines, and every line from now on, rotations or not."""

from __future__ import annotations

import json
from pathlib import Path

from dyno_node import log
from dyno_node.logs import Followed
from dyno_node.unit import UnitDir
from tests.node.program import PYTHON, Program


def write(path: Path, start: int, stop: int) -> None:
    with path.open("a") as file:
        file.writelines(f"{number} {'x' * 60}\n" for number in range(start, stop))


def numbers(lines: list[str]) -> list[int]:
    return [int(line.split()[0]) for line in lines]


def test_the_last_lines_of_each_unit_come_unit_by_unit(tmp_path: Path, program: Program) -> None:
    for name in ("a-0", "b-0"):
        folder = program.unit(name)
        write(folder / "log", 0, 50)
    request = {"units": [str(folder) for folder in program.units], "lines": 2}
    lines = program.lines("logs", request)
    assert [(line["unit"], line["line"][:2]) for line in lines] == [
        ("a-0", "48"),
        ("a-0", "49"),
        ("b-0", "48"),
        ("b-0", "49"),
    ]


def test_following_passes_through_rotations_without_loss_or_repetition(tmp_path: Path) -> None:
    place = UnitDir.at(str(tmp_path))
    write(place.log, 0, 200)
    followed = Followed(place)
    seen: list[str] = []
    for start in range(200, 1000, 200):
        write(place.log, start, start + 100)
        seen += followed.more()
        write(place.log, start + 100, start + 200)  # unread when it is rotated away
        log.rotate(place.log, 3)
        seen += followed.more()
        seen += followed.more()
    assert numbers(seen) == list(range(200, 1000))


def test_a_log_that_is_read_is_not_rotated_and_the_other_way_round(tmp_path: Path) -> None:
    place = UnitDir.at(str(tmp_path))
    write(place.log, 0, 200)
    with place.log.open("rb") as file:
        assert log.hold_still(file.fileno())
        log.rotate(place.log, 3)
        assert not log.old(place.log, 1).exists()
    log.rotate(place.log, 3)
    assert log.old(place.log, 1).exists()


def test_a_line_comes_when_it_is_whole_and_a_missing_log_is_waited_for(tmp_path: Path) -> None:
    place = UnitDir.at(str(tmp_path))
    followed = Followed(place)
    assert list(followed.more()) == []
    place.log.write_text("one\ntw")
    assert list(followed.more()) == ["one"]
    with place.log.open("a") as file:
        file.write("o\n")
    assert list(followed.more()) == ["two"]


def test_a_follower_gets_lines_of_a_flood_and_ends_when_nobody_reads(program: Program) -> None:
    script = "import itertools, time\nfor n in itertools.count(): print(n, 'x' * 90, flush=True); time.sleep(0.0002)"
    folder = program.unit(argv=(PYTHON, "-c", script), log={"max_bytes": 50_000, "keep": 2})
    program.start(folder)
    with program.popen("logs", {"units": [str(folder)], "lines": 0, "follow": True}) as follower:
        assert follower.stdout is not None
        lines = [json.loads(follower.stdout.readline())["line"] for _ in range(2000)]
        follower.stdout.close()
        assert follower.wait(20) == 0
    found = numbers([line for line in lines if line[:1].isdigit()])
    assert found == list(range(found[0], found[0] + len(found)))
