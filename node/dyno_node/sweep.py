"""Verb `sweep`: what of a cluster is still on this node, though no unit's files may tell of it.

In: `{"cluster": …, "node": …, "ports": [...], "under": folder, "stop": false, "grace_s": 10}`. Out: `{"ok": true,
"processes": [...], "ports": [...], "cgroups": [...], "services": [...]}`: processes that carry our marks or are in
our cgroups, those of the given ports that listen, cgroups and systemd units of our making. `under` keeps to units
below one folder, so that a cluster of the same name elsewhere is left alone. With `stop`, what was found
is ended first; `ok` is then true only if nothing of it is left.
"""

from __future__ import annotations

import shlex
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyno_node import cgroup, end, listening, members, proc, systemd
from dyno_node.request import Request, number, numbers, text
from dyno_node.unit import FOLDER_MARK, UnitDir


def sweep(request: Request) -> dict[str, Any]:
    """Look, or end and look."""
    under = text(request, "under", "")
    scope = Scope(
        mark=f"{text(request, 'cluster')}/{text(request, 'node')}/",
        folder=f"{UnitDir.at(under).path}/" if under else "",
    )
    ports, problem = numbers(request, "ports"), None
    if request.get("stop"):
        problem = _end(scope, number(request, "grace_s", 10.0))
    processes = scope.processes()
    if request.get("stop") and processes:
        problem = f"{len(processes)} processes do not end"
    return {
        "ok": problem is None,
        **({"error": problem} if problem else {}),
        "processes": [_line(process, mark) for process, mark in sorted(processes.items())],
        "ports": _ports(ports),
        "cgroups": scope.cgroups(),
        "services": scope.services(),
    }


@dataclass(frozen=True, slots=True)
class Scope:
    """What counts: marks that begin with `mark`, of units whose folder begins with `folder`."""

    mark: str
    folder: str

    def marked(self) -> list[members.Marked]:
        found = (each for each in members.marked() if each.mark.startswith(self.mark))
        return [each for each in found if each.folder.startswith(self.folder)]

    def cgroups(self) -> list[str]:
        """Ours by name, without those that hold a process of a unit outside `folder`."""
        prefix = cgroup.prefix_for(self.mark)
        paths = {str(path) for base in cgroup.bases() for path in base.glob(f"{cgroup.PREFIX}*")}
        others = {each.process.pid for each in members.marked() if not each.folder.startswith(self.folder)}
        named = (path for path in sorted(paths) if Path(path).name.startswith(prefix))
        return [path for path in named if not others.intersection(cgroup.pids(path))]

    def services(self) -> list[str]:
        """Loaded systemd units, those of folders outside left out."""
        named = systemd.units(cgroup.prefix_for(self.mark))
        return [name for name in named if _folder_of(name).startswith(self.folder)]

    def processes(self) -> dict[proc.Process, members.Marked | None]:
        """Living processes and their marks; None for one that only its cgroup gives away."""
        found: dict[proc.Process, members.Marked | None] = {each.process: each for each in self.marked()}
        for path in self.cgroups():
            for pid in cgroup.pids(path):
                stat = proc.stat_of(pid)
                if stat is not None and not stat.dead:
                    found.setdefault(stat.process, None)
        return found


def _folder_of(service: str) -> str:
    """The folder mark in a systemd unit's environment; empty, which is in no folder, where it has none."""
    pairs = (word.partition("=") for word in shlex.split(systemd.environment(service)))
    return next((value for name, _, value in pairs if name == FOLDER_MARK), "")


def _end(scope: Scope, grace_s: float) -> str | None:
    """Supervisors first: they stop their units in order, and would start again what we end."""
    problem = None
    longest_s = grace_s + end.LAST_GRACE_S + end.HARD_S
    supervisors = [each.process for each in scope.marked() if each.supervisor]
    for process in supervisors:
        proc.send(process, signal.SIGTERM)
    proc.wait_gone(supervisors, longest_s)
    for service in scope.services():
        try:
            systemd.stop(service, longest_s)
        except systemd.Refused as refusal:
            problem = f"systemd does not stop {service}: {refusal}"
    end.end(lambda: list(scope.processes()), None, grace_s=grace_s)
    for path in scope.cgroups():
        cgroup.remove(path)
    return problem


def _line(process: proc.Process, marked: members.Marked | None) -> dict[str, Any]:
    line: dict[str, Any] = {"pid": process.pid, "argv": proc.argv(process.pid)}
    if marked is None:
        return {**line, "unit": None, "dir": None, "supervisor": False}
    return {**line, "unit": marked.mark, "dir": marked.folder, "supervisor": marked.supervisor}


def _ports(wanted: list[int]) -> list[dict[str, Any]]:
    table = {port: inodes for port, inodes in listening.ports().items() if port in wanted}
    owners = {inode: pid for pid in proc.snapshot() for inode in listening.sockets(pid)} if table else {}
    return [
        _port(port, [owners[inode] for inode in inodes if inode in owners]) for port, inodes in table.items()
    ]


def _port(port: int, pids: list[int]) -> dict[str, Any]:
    pid = min(pids, default=None)
    return {"port": port, "pid": pid, "argv": proc.argv(pid) if pid is not None else None}
