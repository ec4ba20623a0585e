"""One cgroup (version 2) of the lab: who is in it, freeze it, end everything in it.

In: a folder below the mount of cgroup version 2. Out: nothing; OSError as the kernel reports it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

EMPTY_WITHIN_S = 10.0
POLL_S = 0.002


class Cgroup:
    """A cgroup and all below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Make it; its parent exists."""
        self.folder.mkdir(exist_ok=True)

    def join(self) -> None:
        """Move the calling process into it."""
        self._write("cgroup.procs", "0")

    def freeze(self, frozen: bool) -> None:
        """Stop or go on with every process in it."""
        self._write("cgroup.freeze", "1" if frozen else "0")

    def frozen(self) -> bool:
        """Whether `freeze` is in force."""
        return "frozen 1" in (self.folder / "cgroup.events").read_text().splitlines()

    def pids(self) -> Iterator[tuple[str, int]]:
        """(path below this cgroup, process id) of every process in it and below it."""
        for folder, _, _ in os.walk(self.folder):
            below = "/" + os.path.relpath(folder, self.folder).removeprefix(".")
            try:
                members = Path(folder, "cgroup.procs").read_text().split()
            except OSError:  # removed while we walked
                continue
            for member in members:
                yield below, int(member)

    def kill(self) -> None:
        """End every process in it at once and remove it. Raises TimeoutError when some will not end."""
        if not self.folder.exists():
            return
        self._write("cgroup.kill", "1")
        deadline = time.monotonic() + EMPTY_WITHIN_S
        while not self._removed():
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes in {self.folder} did not end within {EMPTY_WITHIN_S:.0f} s")
            time.sleep(POLL_S)

    def _removed(self) -> bool:
        try:
            for folder, _, _ in os.walk(self.folder, topdown=False):
                Path(folder).rmdir()
        except FileNotFoundError:
            return True
        except OSError:  # busy: its last process is still ending
            return False
        return True

    def _write(self, name: str, text: str) -> None:
        # os.write and not a Python file: its close() would report the kernel's refusal too late or never.
        handle = os.open(self.folder / name, os.O_WRONLY)
        try:
            os.write(handle, text.encode())
        finally:
            os.close(handle)
