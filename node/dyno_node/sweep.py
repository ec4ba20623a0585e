"""Verb `sweep`: what of a cluster is still on this node, though no unit's files may tell of it.

In: `{"cluster": …, "node": …, "ports": [...], "under": folder or "", "stop": false}`. Out: `{"ok": true,
"processes": [...], "ports": [...], "cgroups": [...], "services": [...]}`: processes that carry our marks, given ports
that listen, cgroups and systemd units of our making. `under` keeps to units below one folder. With `stop`, what the
marks find is ended first; `ok` is then true only if nothing is left of it.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from dyno_node import cgroup, end, listening, members, proc, systemd
from dyno_node.request import Request, number, numbers, text


def sweep(request: Request) -> dict[str, Any]:
    """Look, or end and look."""
    mark = f"{text(request, 'cluster')}/{text(request, 'node')}/"
    under, ports = text(request, "under", ""), numbers(request, "ports")
    service_prefix = cgroup.name_for(mark)
    ok = True
    if request.get("stop"):
        for service in systemd.units(service_prefix):
            try:
                systemd.stop(service, systemd.CALL_S)
            except systemd.Refused:
                ok = False
        ok = _end(mark, under, number(request, "grace_s", 10.0)) and ok
        for folder in _cgroups(service_prefix):
            cgroup.remove(folder)
    processes = [_line(each) for each in _marked(mark, under)]
    return {
        "ok": ok and not (request.get("stop") and processes),
        "processes": processes,
        "ports": _ports(ports),
        "cgroups": _cgroups(service_prefix),
        "services": systemd.units(service_prefix),
    }


def _marked(mark: str, under: str) -> list[members.Marked]:
    folder = str(Path(under).expanduser().resolve()) + "/" if under else ""
    return [
        each for each in members.marked() if each.mark.startswith(mark) and each.folder.startswith(folder)
    ]


def _end(mark: str, under: str, grace_s: float) -> bool:
    """Supervisors first: they stop their units in order, and would start again what we end."""
    supervisors = [each.process for each in _marked(mark, under) if each.supervisor]
    for process in supervisors:
        proc.send(process, signal.SIGTERM)
    proc.wait_gone(supervisors, grace_s + end.LAST_GRACE_S + end.HARD_S)
    return not end.end(lambda: [each.process for each in _marked(mark, under)], None, grace_s=grace_s)


def _line(each: members.Marked) -> dict[str, Any]:
    pid = each.process.pid
    return {
        "pid": pid,
        "argv": proc.argv(pid),
        "unit": each.mark,
        "dir": each.folder,
        "supervisor": each.supervisor,
    }


def _ports(wanted: list[int]) -> list[dict[str, Any]]:
    table = {port: inodes for port, inodes in listening.ports().items() if port in wanted}
    owners = {inode: pid for pid in proc.snapshot() for inode in listening.sockets(pid)} if table else {}
    return [
        _port(port, [owners[inode] for inode in inodes if inode in owners]) for port, inodes in table.items()
    ]


def _port(port: int, pids: list[int]) -> dict[str, Any]:
    pid = min(pids, default=None)
    return {"port": port, "pid": pid, "argv": proc.argv(pid) if pid is not None else None}


def _cgroups(prefix: str) -> list[str]:
    found = (folder for base in cgroup.bases() for folder in base.glob(f"{cgroup.PREFIX}*"))
    return sorted({str(folder) for folder in found if folder.name.startswith(prefix)})
