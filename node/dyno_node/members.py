"""Which processes belong to a unit: by cgroup, by descent, and by the marks in their environment. Never by name.

In: a unit's folder, its cgroup, and a process whose descendants count. Out: living processes. The three ways
cover each other: a cgroup cannot be left, a descendant may have cleared its environment, and a marked process
may have lost its parent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dyno_node import cgroup, proc
from dyno_node.unit import FOLDER_MARK, MARK, SUPERVISOR_MARK


@dataclass(frozen=True, slots=True)
class Marked:
    """One process that carries a mark."""

    process: proc.Process
    mark: str
    folder: str
    supervisor: bool


def marked() -> Iterator[Marked]:
    """Every living process that carries a mark and may be read by us, without ourselves."""
    for pid, stat in proc.snapshot().items():
        if stat.dead or pid == os.getpid():
            continue
        env = proc.environ(pid)
        if MARK in env:
            yield Marked(stat.process, env[MARK], env.get(FOLDER_MARK, ""), SUPERVISOR_MARK in env)


def of_unit(folder: str, *, below: Iterable[int], group: str | None) -> list[proc.Process]:
    """The living processes of the unit in `folder`, without its supervisor and without ourselves.

    `below`: pids whose descendants are the unit's. `group`: its cgroup's folder.
    """
    stats = proc.snapshot()
    pids = set(cgroup.pids(group))
    for top in below:
        pids |= {stat.process.pid for stat in proc.descendants(top, stats)}
    mine = os.getpid()
    found = {stats[pid].process for pid in pids if pid in stats and not stats[pid].dead and pid != mine}
    found |= {each.process for each in marked() if each.folder == folder and not each.supervisor}
    return sorted(found)
