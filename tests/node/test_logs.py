"""Logs: the last lines, and from then on every line once, across rotations."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dyno_node import log
from dyno_node.logs import Followed, logs
from dyno_node.request import BadRequest
from dyno_node.unit import UnitDir
from tests.node.program import SOON_S, Program

Follow = Callable[[Path], Followed]


@pytest.fixture(params=["/tmp", "/dev/shm"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A unit's folder, on a file system that can cut a file's front off in one step, and on one that cannot."""
    with tempfile.TemporaryDirectory(prefix="dyno-logs-", dir=request.param) as root:
        made = Path(root) / "units" / "decode-0"
        made.mkdir(parents=True)
        yield made


def write(folder: Path, *lines: str, end: str = "\n") -> None:
    with (folder / "log").open("a") as file:
        file.write("\n".join(lines) + end)


def found(*folders: Path, lines: int = 100) -> list[str]:
    answers = logs({"units": [str(each) for each in folders], "lines": lines})
    return [f"{each['unit']}: {each['line']}" for each in answers]


def test_the_last_lines_unit_by_unit(folder: Path) -> None:
    other = folder.with_name("etcd")
    other.mkdir()
    write(folder, "1", "2", "3")
    write(other, "a")
    assert found(folder, other, lines=2) == ["decode-0: 2", "decode-0: 3", "etcd: a"]
    assert found(folder, lines=0) == []


def test_no_log_no_lines(folder: Path) -> None:
    assert found(folder, folder.with_name("never")) == []


def test_many_long_lines_are_all_there(folder: Path) -> None:
    write(folder, *("x" * 900 for _ in range(500)))
    assert len(found(folder, lines=500)) == 500


def test_bytes_that_are_no_text_do_not_stop_it(folder: Path) -> None:
    (folder / "log").write_bytes(b"\xff\xfe\n")
    assert found(folder) == ["decode-0: \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize("bad", [{}, {"units": "x"}, {"units": [], "lines": -1}])
def test_bad_requests(bad: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        list(logs(bad))


@pytest.fixture
def follow() -> Iterator[Callable[[Path], Followed]]:
    """Follows the log of a folder; all that were followed are let go of."""
    with contextlib.ExitStack() as stack:
        yield lambda folder: stack.enter_context(contextlib.closing(Followed(UnitDir.at(str(folder)))))


def test_following_begins_at_the_end(folder: Path, follow: Follow) -> None:
    write(folder, "before")
    one = follow(folder)
    assert list(one.more()) == []
    write(folder, "a", "b")
    assert list(one.more()) == ["a", "b"]
    assert list(one.more()) == []


def test_a_line_is_told_when_it_is_whole(folder: Path, follow: Follow) -> None:
    one = follow(folder)
    write(folder, "half", end="")
    assert list(one.more()) == []
    write(folder, " and half")
    assert list(one.more()) == ["half and half"]


def test_a_half_line_at_the_start_is_told_once_and_whole(folder: Path, follow: Follow) -> None:
    write(folder, "whole", "ha", end="")
    one = follow(folder)
    assert one.last(10, 1000) == ["whole"]
    write(folder, "lf")
    assert list(one.more()) == ["half"]


def test_the_last_lines_before_following_reach_into_the_part_before(folder: Path, follow: Follow) -> None:
    write(folder, *(f"line {number:06}" for number in range(1000)))
    log.rotate(folder / "log", keep=2)
    here = len((folder / "log").read_text().splitlines())
    assert follow(folder).last(here + 20, 1 << 20)[-1] == "line 000999"
    assert len(follow(folder).last(here + 20, 1 << 20)) == here + 20
    assert follow(folder).last(0, 1 << 20) == []


def test_a_log_that_comes_later(folder: Path, follow: Follow) -> None:
    one = follow(folder)
    assert one.last(10, 1000) == []
    assert list(one.more()) == []
    write(folder, "first")
    assert list(one.more()) == ["first"]


def test_a_log_that_was_replaced(folder: Path, follow: Follow) -> None:
    write(folder, "old")
    one = follow(folder)
    (folder / "log").unlink()
    assert list(one.more()) == []
    write(folder, "new")
    assert list(one.more()) == ["new"]


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"line {number:06} {'x' * (number % 50)}" for number in range(start, start + count)]


@pytest.mark.parametrize("read_before", [0, 150, 300], ids=lambda count: f"read {count}")
@pytest.mark.parametrize("after", [0, 1, 400], ids=lambda count: f"then {count}")
def test_a_rotation_loses_and_repeats_nothing(
    folder: Path, follow: Follow, read_before: int, after: int
) -> None:
    one = follow(folder)
    told: list[str] = []
    write(folder, *numbered(read_before) or ["-"])
    told += list(one.more())
    write(folder, *numbered(300 - read_before, read_before) or ["-"])
    log.rotate(folder / "log", keep=3)
    if after:
        write(folder, *numbered(after, 300))
    told += [line for _ in range(2) for line in one.more()]
    assert [line for line in told if line != "-"] == numbered(300 + after)


def test_rotations_one_after_the_other(folder: Path, follow: Follow) -> None:
    one = follow(folder)
    told: list[str] = []
    for part in range(6):
        write(folder, *numbered(200, part * 200))
        log.rotate(folder / "log", keep=2)
        told += [line for _ in range(2) for line in one.more()]
    assert told == numbered(1200)


def test_a_writer_that_never_rests_while_its_log_is_rotated(folder: Path, follow: Follow) -> None:
    one = follow(folder)
    done = threading.Event()

    def writing() -> None:
        fd = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for line in numbered(20_000):
            os.write(fd, f"{line}\n".encode())
        os.close(fd)
        done.set()

    thread = threading.Thread(target=writing)
    thread.start()
    told: list[str] = []
    while not done.is_set():
        told += one.more()
        if log.size_bytes(folder / "log") > 100_000:
            log.rotate(folder / "log", keep=2)
            told += [line for _ in range(2) for line in one.more()]
    thread.join()
    told += [line for _ in range(3) for line in one.more()]
    assert told == sorted(set(told))  # in order, nothing twice
    if cuts_in_one_step(folder):  # elsewhere the rotation itself loses what is written between copy and cut
        assert told == numbered(20_000)


def cuts_in_one_step(folder: Path) -> bool:
    with (folder / "try").open("wb+") as file:
        file.write(b"x" * 8192)
        file.flush()
        return log._collapse(file.fileno(), 4096)


def lines_of(reader: subprocess.Popen[str]) -> Iterator[str]:
    assert reader.stdout is not None
    for line in reader.stdout:
        yield json.loads(line)["line"]


def test_followed_over_a_pipe_until_nobody_reads(program: Program, folder: Path) -> None:
    write(folder, "a", "b")
    with program.popen("logs", {"units": [str(folder)], "lines": 1, "follow": True}) as reader:
        try:
            told = lines_of(reader)
            assert next(told) == "b"
            write(folder, "c")
            assert next(told) == "c"
            assert reader.stdout is not None
            reader.stdout.close()
            assert reader.wait(timeout=SOON_S) == 0
        finally:
            reader.kill()
