"""The tree of a YAML text: maps, lists and scalars, each with the place where it stands.

In: nothing (`dynoctl.topology.compose` makes trees). Out: the kinds of nodes, and how to find one by its path.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place: line and column from 1 and a width in characters, or the argument that a value came from."""

    line: int
    column: int
    width: int = 1
    origin: str | None = None


@dataclass(slots=True)
class Scalar:
    """A single value: what it is read as, how it was written, and whether that was without quotes."""

    mark: Mark
    value: bool | int | float | str | None
    text: str
    plain: bool


@dataclass(slots=True)
class Entry:
    """One key of a map, as written, with its value."""

    mark: Mark
    key: str
    node: Node


@dataclass(slots=True)
class Map:
    """Entries in file order; those that `<<` merged in come last."""

    mark: Mark
    entries: dict[str, Entry] = field(default_factory=dict)


@dataclass(slots=True)
class List:
    """Items in file order."""

    mark: Mark
    items: list[Node] = field(default_factory=list)


Node = Scalar | Map | List


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: the path as the file writes it, and the mark of the nearest thing that is there."""

    path: str
    mark: Mark


def locate(root: Node, path: Path, *, key: bool = False) -> Place:
    """The place of the value at `path`, or with `key` of its key.

    A single value stands for a list of one, so an index that leads into no list is left out.
    """
    shown: list[str] = []
    mark = root.mark
    node: Node | None = root
    for step in path:
        if isinstance(step, int):
            if isinstance(node, List) and step < len(node.items):
                node = node.items[step]
                mark = node.mark
                shown.append(str(step))
            continue
        entry = node.entries.get(step) if isinstance(node, Map) else None
        shown.append(entry.key if entry else step)
        node = entry.node if entry else None
        if entry:
            mark = entry.mark if key or isinstance(entry.node, Map | List) else entry.node.mark
    return Place(".".join(shown), mark)
