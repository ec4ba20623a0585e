"""A node's state folder on this machine, looked at by the real script through one shell.

In: a home folder, a shell. Out: what the script printed, and what is made of it. States are written by the node
program's own code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from dyno_node import clock, proc
from dyno_node.state import State, write
from dynoctl.plan import facts
from dynoctl.plan.observed import NodeSeen, UnitSeen
from dynoctl.plan.script import NodePath

SHELLS = [path for shell in ("dash", "bash", "busybox") if (path := shutil.which(shell))]


class Node:
    """A state folder, looked at through one shell."""

    def __init__(self, home: Path, shell: str) -> None:
        self.home = home
        self.root = home / ".dynoctl"
        self.base = self.root / "clusters" / "c" / "n1"
        self._shell = [shell, "sh"] if shell.endswith("busybox") else [shell]

    def out(
        self,
        *,
        prepared: tuple[str, ...] = (),
        root: str = "~/.dynoctl",
        hardware: bool = False,
        models: tuple[str, ...] = (),
        **env: str,
    ) -> str:
        script = facts.observe_script(NodePath(root), "c", "n1", prepared, hardware=hardware, models=models)
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"], **env}
        done = subprocess.run(
            [*self._shell, "-c", script], env=environment, capture_output=True, timeout=20, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    def look(self, **more: Any) -> NodeSeen:
        return facts.parse("n1", self.out(**more))

    def unit(self, name: str = "decode-0") -> Path:
        folder = self.base / "units" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def state(self, process: proc.Process | None, name: str = "decode-0", **more: object) -> UnitSeen:
        """Write a state as a supervisor does, and look."""
        values = {
            "unit": name,
            "digest": "d1",
            "phase": "running",
            "boot_id": clock.boot_id(),
            "since_s": clock.uptime_s() - 60,
            "pid": process.pid if process else None,
            "starttime": process.starttime if process else None,
        }
        write(self.unit(name) / "state.json", State(**{**values, **more}))  # type: ignore[arg-type]
        return self.look().units[name]


def supervisor(process: proc.Process) -> dict[str, object]:
    return {"pid": process.pid, "starttime": process.starttime}
