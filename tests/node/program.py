"""The packed node program, as a node runs it: verbs as subprocesses, units in a folder of the test.

In: a folder. Out: units to write, verbs to call, and the end of everything that a test started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dyno_node import cgroup, members, proc

PROGRAMS = Path(__file__).parent / "programs"
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
FOREVER = (PYTHON, "-c", "import time; time.sleep(600)")
SOON_S = 30.0  # more than anything here takes on a loaded machine; nothing waits for it that works


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`; fails the test when none comes."""
    deadline = time.monotonic() + SOON_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return value


class Program:
    """One node: its program and the folder of its units."""

    def __init__(self, pyz: Path, root: Path, python: str = sys.executable, user: int | None = None) -> None:
        self.command = [python, "-I", str(pyz)]
        self.root = root
        self.user = user
        self.units: list[Path] = []

    def unit(
        self, name: str = "a-0", argv: Sequence[str] = FOREVER, *, digest: str = "d1", **more: Any
    ) -> Path:
        """Write a `unit.json`; the folder."""
        folder = self.root / "units" / name
        folder.mkdir(parents=True, exist_ok=True)
        words = {"unit": name, "cluster": "test", "node": "n1", "digest": digest, "argv": list(argv)}
        quick = {"max": 3, "within_s": 300.0, "first_wait_s": 0.01, "longest_wait_s": 0.05}
        document = {**words, "stop_grace_s": 1.0, "restart": quick, **more}
        (folder / "unit.json").write_text(json.dumps(document))
        if self.user is not None:
            for path in (self.root, folder.parent, folder, folder / "unit.json"):
                os.chown(path, self.user, self.user)
        if folder not in self.units:
            self.units.append(folder)
        return folder

    def popen(self, verb: str, request: dict[str, Any], **more: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self.command, verb],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=self.user,
            group=self.user,
            cwd="/",
            **more,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        process.stdin = None
        return process

    def lines(self, verb: str, request: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
        """Everything that a verb answers."""
        with self.popen(verb, request, **more) as process:
            try:
                out, err = process.communicate(timeout=SOON_S * 2)
            except BaseException:
                process.kill()
                raise
        assert (process.returncode, err) == (0, "")
        return [json.loads(line) for line in out.splitlines()]

    def ask(self, verb: str, request: dict[str, Any], **more: Any) -> dict[str, Any]:
        (answer,) = self.lines(verb, request, **more)
        return answer

    def start(self, folder: Path, **more: Any) -> dict[str, Any]:
        return self.ask("start", {"unit_dir": str(folder)}, **more)

    def stop(self, folder: Path, grace_s: float = 0.5) -> dict[str, Any]:
        return self.ask("stop", {"unit_dir": str(folder), "grace_s": grace_s})

    def view(self, folder: Path) -> dict[str, Any]:
        *_, end = self.lines("watch", {"units": [str(folder)], "deadline_s": 0})
        return dict(end["units"][folder.name])

    def end(self) -> None:
        """Stop every unit; then nothing may be left of them. Fails the test otherwise, after killing it."""
        for folder in self.units:
            if folder.is_dir():
                self.stop(folder, 0.1)
        left = [each for each in members.marked() if each.folder.startswith(str(self.root))]
        for each in left:
            proc.send(each.process, signal.SIGKILL)
        assert not left
        names = [cgroup.name_for(f"test/n1/{folder.name}", folder) for folder in self.units]
        assert [name for name in names if cgroup.find(name)] == []


def state(folder: Path) -> dict[str, Any]:
    """What the supervisor last wrote."""
    value = json.loads((folder / "state.json").read_text())
    assert isinstance(value, dict)
    return value


def process(folder: Path) -> proc.Process:
    """The unit's process, out of its state."""
    now = state(folder)
    return proc.Process(now["pid"], now["starttime"])


def supervisor(folder: Path) -> proc.Process:
    now = state(folder)["supervisor"]
    return proc.Process(now["pid"], now["starttime"])


def kill_supervisor(folder: Path) -> None:
    """SIGKILL, and its end."""
    its = supervisor(folder)
    assert proc.send(its, signal.SIGKILL)
    assert proc.wait_gone([its], SOON_S) == []


def evil(folder: Path) -> list[proc.Process]:
    """The processes of `programs/evil.py`, once all of them have said who they are."""
    lines = until(lambda: len(_pids(folder)) >= 4 and _pids(folder), "four evil processes")
    stats = [proc.stat_of(pid) for pid in lines]
    return [stat.process for stat in stats if stat is not None]


def _pids(folder: Path) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(line) for line in (folder / "pids").read_text().splitlines()]
    return []


@contextlib.contextmanager
def stranger(*argv: str) -> Iterator[proc.Process]:
    """A process that has nothing to do with any unit, and must still be alive at the end."""
    with subprocess.Popen(argv or FOREVER) as popen:
        try:
            stat = proc.stat_of(popen.pid)
            assert stat is not None
            yield stat.process
            assert popen.poll() is None, "a stranger was killed"
        finally:
            popen.kill()


def no_cgroup_left(folder: Path) -> bool:
    return cgroup.find(cgroup.name_for(f"test/n1/{folder.name}", folder)) is None
