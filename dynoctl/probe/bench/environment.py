"""The environments that tools of others run in: each a venv of its own, made on first use, named by what is in it.

In: a root, a name, requirements. Out: the folder, whole. Who comes second waits for the first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dynoctl.errors import DynoctlError
from dynoctl.plan.digest import digest_of
from dynoctl.probe.bench.store import writing

PACKAGES_A_LINE = 20
OnLine = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Environment:
    """One of them."""

    root: Path
    name: str
    requirements: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        made_of = [self.requirements, sys.version_info[:2]]
        return self.root / f"{self.name}-{digest_of(made_of)}"

    @property
    def whole(self) -> bool:
        """Whether it can be used."""
        return (self.folder / ".complete").exists()

    def program(self, name: str) -> str:
        """The path of one of its programs."""
        return str(self.folder / "bin" / name)

    def ensure(self, on_line: OnLine) -> None:
        """Make it, unless it is there. Raises DynoctlError with pip's last words."""
        if self.whole:
            return
        with writing(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(self.root / f".{self.folder.name}.lock"):
            if (self.folder / ".complete").exists():  # somebody else made it meanwhile
                return
            shutil.rmtree(self.folder, ignore_errors=True)
            what = ", ".join(self.requirements)
            on_line(f"installing {what} into {self.folder} (once)")
            self._run([sys.executable, "-m", "venv", str(self.folder)], on_line)
            pip = [
                self.program("python"),
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--no-input",
            ]
            self._run([*pip, *self.requirements], on_line)
            with writing(self.folder):
                (self.folder / ".complete").touch()

    def _run(self, command: Sequence[str], on_line: OnLine) -> None:
        last: deque[str] = deque(maxlen=5)
        packages = 0
        environment = {**os.environ, "PIP_PROGRESS_BAR": "off"}
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said = line.strip()
                if said and not said.startswith("WARNING: "):
                    last.append(said)
                if said.startswith("Collecting "):
                    packages += 1
                    if packages % PACKAGES_A_LINE == 0:
                        on_line(f"  {packages} packages so far")
        if process.returncode:
            raise DynoctlError(
                f"{self.name} could not be installed: {Path(command[0]).name} ended with "
                f"exit code {process.returncode}",
                detail=tuple(last),
                next="the same once the package index answers, or with --tool builtin, which needs nothing",
            )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else is in here who comes by the same file."""
    with writing(path.parent), path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
