"""TCP ports that listen, and whose they are, out of /proc/net.

In: nothing, or ports and pids. Out: sockets by port. A port counts for a unit only if one of its processes holds
the socket: a stranger on the same port is not our service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from dyno_node import proc

_LISTEN = "0A"


def ports() -> dict[int, set[str]]:
    """Socket inodes by listening port, both address families."""
    found: dict[int, set[str]] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with Path(table).open(encoding="ascii") as file:
                next(file)
                for line in file:
                    words = line.split()
                    if words[3] == _LISTEN:
                        found.setdefault(int(words[1].rpartition(":")[2], 16), set()).add(words[9])
        except OSError:
            continue  # a kernel without IPv6
    return found


def sockets(pid: int) -> set[str]:
    """The inodes of all sockets that `pid` holds; empty where we may not look."""
    found: set[str] = set()
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def held(
    wanted: Iterable[int], main: int | None, table: Mapping[int, set[str]], known: dict[int, str]
) -> list[int]:
    """Those of the wanted ports that listen in `main` or in a process below it.

    `known` keeps the socket found for each port, so that a second look at the same sockets reads no process.
    """
    open_ports = {port: table[port] for port in wanted if port in table and main is not None}
    for port in [port for port, inode in known.items() if inode not in open_ports.get(port, ())]:
        del known[port]
    if main is not None and open_ports.keys() - known.keys():
        _find(open_ports, [main], known)
    if main is not None and open_ports.keys() - known.keys():
        _find(open_ports, [stat.process.pid for stat in proc.descendants(main, proc.snapshot())], known)
    return [port for port in wanted if port in known]


def _find(open_ports: Mapping[int, set[str]], pids: Iterable[int], known: dict[int, str]) -> None:
    mine: set[str] = set().union(*(sockets(pid) for pid in pids))
    for port, inodes in open_ports.items():
        if port not in known and inodes & mine:
            known[port] = min(inodes & mine)
