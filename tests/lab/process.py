"""Processes of a host, as seen from outside.

In: the host's cgroup and its init. Out: what runs there besides the host's own furniture (init, sshd,
systemd and the message buses), to prove that nothing was left behind.
"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from tests.lab.cgroup import Cgroup

FURNITURE = frozenset(
    {"sshd", "sshd-session", "sshd-auth", "systemd", "systemd-executor", "(sd-pam)", "dbus-daemon"}
)


@dataclasses.dataclass(frozen=True)
class Process:
    """One process: its id inside the host, the id of its user, its arguments."""

    pid: int
    uid: int
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.pid} (uid {self.uid}): {shlex.join(self.argv)}"


def processes(cgroup: Cgroup, init: int) -> list[Process]:
    """Every process of the host that is not its furniture, by process id. Zombies count, as `[name]`."""
    depth = len(_status(init).get("NSpid", "").split())
    found = []
    for below, pid in cgroup.pids():
        if below.startswith(("/system.slice", "/init.scope")) or pid == init:
            continue
        process = _read(pid, depth)
        if process is not None:
            found.append(process)
    return sorted(found, key=lambda process: process.pid)


def _read(pid: int, depth: int) -> Process | None:
    """None for furniture, for what has ended meanwhile, and for what is in the cgroup but not in the host."""
    status = _status(pid)
    numbers = status.get("NSpid", "").split()
    if len(numbers) < depth or not depth:
        return None
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        program = Path(f"/proc/{pid}/exe").readlink().name
    except OSError:  # a zombie has only its name any more
        words, program = [], status["Name"]
    if program in FURNITURE:
        return None
    argv = tuple(word.decode(errors="replace") for word in words) or (f"[{status['Name']}]",)
    return Process(pid=int(numbers[depth - 1]), uid=int(status["Uid"].split()[0]), argv=argv)


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # ended meanwhile
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs}
