"""FILE, NAME or nothing → the cluster that is meant.

In: what was typed. Out: a `Target`: the topology to work with, and where it came from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dynoctl.cli import known
from dynoctl.errors import UsageError
from dynoctl.topology.model import Topology


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster. `file` is the topology file's path as it can be typed again; `before` is the topology that was
    applied last from here. `overrides` are the `--set` arguments over the file, and `recalled` those of them that
    were typed in the last `up` and not now, when its name was."""

    topology: Topology
    file: str
    before: Topology | None = None
    overrides: tuple[str, ...] = ()
    recalled: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.topology.name


def resolve(typed: str | None, overrides: Sequence[str] = (), *, as_applied: bool = False) -> Target:
    """The cluster that `typed` means. `as_applied`: for verbs on what runs, a name means what was applied last.

    Raises:
        UsageError: there is no such file, no such name, or nothing was typed and it is not clear what is meant.
        TopologyError: the file has problems.
    """
    name = typed if typed is not None else _only_one()
    if typed is not None and _is_file(typed):
        return _from_file(typed, overrides)
    found = known.load(name)
    if found is None:
        raise UsageError(
            f"there is no file {name!r}, and no cluster of that name is known here",
            detail=[f"known: {', '.join(known.names()) or 'none'}"],
            next="dynoctl up FILE",
        )
    applied = _applied(found)
    if as_applied or not Path(found.file).exists():
        if overrides:
            raise UsageError("--set goes with a topology file, not with what runs already")
        return Target(applied, found.file, applied)
    target = _from_file(found.file, [*found.overrides, *overrides])
    if target.name != name:
        raise UsageError(
            f"{found.file} brought {name} up, and is the file of {target.name} now",
            next=f"dynoctl up {found.file}, or dynoctl down {name}",
        )
    return replace(target, recalled=found.overrides)


def _is_file(typed: str) -> bool:
    """A folder is none: it may well have the name of a cluster."""
    return "/" in typed or typed.endswith((".yaml", ".yml")) or Path(typed).is_file()


def _only_one() -> str:
    names = known.names()
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError(
            "no cluster is known here: name a topology file", next="dynoctl up topologies/local.yaml"
        )
    raise UsageError(
        f"several clusters are known here: {', '.join(names)}", next=f"the same, with one of them: {names[0]}"
    )


def _from_file(path: str, overrides: Sequence[str]) -> Target:
    from dynoctl.cli.files import read_topology

    topology = read_topology(path, overrides)
    found = known.load(topology.name)
    return Target(topology, path, _applied(found) if found else None, tuple(overrides))


def _applied(found: known.Known) -> Topology:
    from dynoctl.topology.load import parse

    return parse(json.dumps(found.topology), f"{found.name} (as applied)")
