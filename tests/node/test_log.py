"""The log: rotated under its writer without losing a byte, bounded, and read from its end."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from dyno_node import log, proc
from tests.node.program import PYTHON, Program, kill_supervisor, process, until

# Writes numbered lines as fast as it can; each line is one write.
FLOOD = (
    "import os, sys\n"
    "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if len(sys.argv) > 2 else 1\n"
    "for number in range(int(sys.argv[-1])): os.write(fd, b'%09d %s\\n' % (number, b'x' * 90))\n"
    "print('', flush=True)\n"
    "import time; time.sleep(600)\n"
)


def parts(path: Path) -> list[Path]:
    """Oldest first."""
    old = sorted(path.parent.glob(f"{path.name}.*"), key=lambda each: -int(each.suffix[1:]))
    return [*old, path]


def numbers(text: str) -> list[int]:
    return [int(line.split()[0]) for line in text.splitlines() if line[:1].isdigit()]


def collapses(folder: Path) -> bool:
    path = folder / "probe"
    path.write_bytes(b"x" * 8192)
    with path.open("r+b") as file:
        done = log._collapse(file.fileno(), 4096)
    path.unlink()
    return done


def test_rotation_loses_no_byte_while_another_process_writes(tmp_path: Path) -> None:
    if not collapses(tmp_path):
        pytest.skip(f"the file system of {tmp_path} cannot collapse a range")
    path = tmp_path / "log"
    total = 200_000
    with subprocess.Popen([PYTHON, "-c", FLOOD, str(path), str(total)], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            until(path.exists, "the writer")
            rotations = 0
            while log.size_bytes(path) < 1_000_000 and writer.poll() is None:
                pass
            while numbers("\n".join(log.tail(path, 1)))[-1:] != [total - 1]:
                log.rotate(path, 1000)
                rotations += 1
        finally:
            writer.kill()
    assert rotations > 3
    text = "".join(part.read_text() for part in parts(path))
    assert numbers(text) == list(range(total))


def test_where_ranges_cannot_be_collapsed_a_resting_log_is_moved_whole() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "log"
        if collapses(path.parent):
            pytest.skip("/dev/shm can collapse a range")
        text = "".join(f"{number}\n" for number in range(5000))
        path.write_text(text)
        log.rotate(path, 3)
        assert [part.read_text() for part in parts(path)] == [text, ""]


def test_only_so_many_old_parts_stay(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(5):
        with path.open("a") as file:
            file.write("x" * 20_000 + "\n")
        log.rotate(path, 2)
    assert [part.name for part in parts(path)] == ["log.2", "log.1", "log"]
    log.rotate(path, 0)
    assert [part.name for part in parts(path)] == ["log.2", "log.1", "log"]
    assert log.size_bytes(path) <= 4096


def test_a_small_or_missing_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert log.tail(path) == []
    path.write_text("one\ntwo\n")
    log.rotate(path, 3)
    assert parts(path) == [path]
    assert log.tail(path) == ["one", "two"]


def test_the_tail_reaches_into_the_part_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{number} {'x' * 100}\n" for number in range(200)))
    log.rotate(path, 1)
    with path.open("a") as file:
        file.write("last\n")
    tail = log.tail(path, 20)
    assert [line.split()[0] for line in tail] == [*map(str, range(181, 200)), "last"]


def test_a_flood_stays_within_its_bounds_and_in_order(program: Program) -> None:
    folder = program.unit(argv=(PYTHON, "-c", FLOOD, "150000"), log={"max_bytes": 500_000, "keep": 2})
    program.start(folder)
    path = folder / "log"
    until(lambda: any(line.startswith("000149999") for line in log.tail(path, 5)), "the last line")
    until(lambda: log.size_bytes(path) <= 500_000, "the last rotation")
    assert [part.name for part in parts(path)] == ["log.2", "log.1", "log"]
    found = numbers("".join(part.read_text() for part in parts(path)))
    if collapses(folder):
        first = found[1]  # the very first line may have lost its beginning with the part before
        assert found[1:] == list(range(first, 150_000))


def test_a_service_goes_on_logging_when_its_supervisor_is_killed(program: Program) -> None:
    script = "import time\nfor n in range(100000): print(n, 'x' * 1000, flush=True); time.sleep(0.001)\n"
    folder = program.unit(argv=(PYTHON, "-c", script))
    program.start(folder)
    kill_supervisor(folder)
    size_bytes = log.size_bytes(folder / "log")
    # More than a pipe could hold: behind one, it would hang or die now.
    until(lambda: log.size_bytes(folder / "log") > size_bytes + 200_000, "200 kB")
    assert proc.alive(process(folder))
