"""A cgroup of its own for a unit, where the system lets us: nothing can leave it, and one write ends all in it.

In: a name and a process. Out: the folder of its cgroup, or None. An unprivileged user may move a process only
below a folder whose cgroup.procs he may write and that holds both ends of the move, so we try the cgroup that we
are in ourselves, then those above it.
"""

from __future__ import annotations

import binascii
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "dyno-"


def name_for(mark: str, folder: Path) -> str:
    """The name of a unit's cgroup, and of its systemd unit: `dyno-<cluster>:<node>:<unit>-<8 hex digits>`.

    The digits are of its folder, so that two clusters of one name on one machine do not share a cgroup, and
    the end of one is not the end of the other.
    """
    return f"{prefix_for(mark)}-{binascii.crc32(os.fsencode(folder)):08x}"


def prefix_for(mark: str) -> str:
    """The name of everything below a mark, which may end with a slash; what is odd is written as \\xNN."""
    parts = (re.sub(r"[^A-Za-z0-9_.-]", lambda m: f"\\x{ord(m[0]):02x}", part) for part in mark.split("/"))
    return PREFIX + ":".join(parts)


def place(name: str, pid: int) -> str | None:
    """Put `pid` into a cgroup called `name`; the folder, or None where no cgroup is ours to divide."""
    for base in bases():
        folder = base / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            continue
        if _write(folder / "cgroup.procs", str(pid)):
            return str(folder)
        _rmdir(folder)
    return None


def find(name: str) -> str | None:
    """The cgroup of this name where `place` would have made it, if there is one."""
    return next((str(base / name) for base in bases() if (base / name).is_dir()), None)


def pids(folder: str | None) -> list[int]:
    """Every process in the cgroup and in those below it."""
    if folder is None:
        return []
    found: list[int] = []
    for each in _tree(Path(folder)):
        try:
            found += [int(line) for line in (each / "cgroup.procs").read_text(encoding="ascii").split()]
        except OSError:
            continue  # Removed meanwhile, or of a threaded kind that lists no processes.
    return found


def kill(folder: str | None) -> None:
    """SIGKILL for everything inside at once (kernel 5.14 and later; before that the caller's loop has to do)."""
    if folder is not None:
        _write(Path(folder) / "cgroup.kill", "1")


def remove(folder: str | None, timeout_s: float = 1.0) -> bool:
    """Take the empty cgroup away; the kernel may need a moment after the last process. True when it is gone."""
    if folder is None:
        return True
    deadline = time.monotonic() + timeout_s
    while not _remove_once(Path(folder)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)  # no event tells when an emptied cgroup may be removed
    return True


def _remove_once(folder: Path) -> bool:
    return all(_rmdir(each) for each in reversed(_tree(folder)))


def bases() -> Iterator[Path]:
    """Where a cgroup could be made: our own cgroup, then every one above it."""
    top = _mount()
    own = _own()
    if top is None or own is None:
        return
    folder = top / own.lstrip("/")
    yield folder
    while folder != top:
        folder = folder.parent
        yield folder


def _mount() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


def _own() -> str | None:
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        if line.startswith("0::/") and "/.." not in line:
            return line.removeprefix("0::")
    return None


def _tree(folder: Path) -> list[Path]:
    return [Path(path) for path, _, _ in os.walk(folder)]


def _write(path: Path, text: str) -> bool:
    # With os.write, because a buffered file reports the kernel's refusal only when it is closed, if at all.
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _rmdir(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
