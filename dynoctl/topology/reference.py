"""The models → the reference part of docs/topology.md: one table a section, one row a key.

In: nothing. Out: Markdown. A test keeps the page equal to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from msgspec import Struct
from msgspec import inspect as types

from dynoctl.topology.kinds import Key, bare, expected, keys_of, section_of
from dynoctl.topology.model import Topology


def reference() -> str:
    """All sections, the file itself first; a section that several keys share stands once, under all of them."""
    paths: dict[type[Struct], list[str]] = {}
    _collect(Topology, "", paths)
    return "\n".join(line for section, names in paths.items() for line in _table(names, section))


def _collect(section: type[Struct], path: str, into: dict[type[Struct], list[str]]) -> None:
    into.setdefault(section, []).append(path)
    for key in keys_of(section).values():
        inner = section_of(key.kind)
        if inner is not None:
            name = ".NAME" if isinstance(key.kind.type, types.DictType) else ""
            _collect(inner, f"{path}.{key.name}{name}".lstrip("."), into)


def _table(paths: list[str], section: type[Struct]) -> Iterator[str]:
    yield "### " + (", ".join(f"`{path}`" for path in paths if path) or "The file")
    yield ""
    yield f"{(inspect.getdoc(section) or '').splitlines()[0]}"
    yield ""
    yield "| key | is | default | what it says |"
    yield "| --- | --- | --- | --- |"
    for key in keys_of(section).values():
        yield f"| `{key.name}` | {_is(key)} | {_default(key)} | {key.kind.description} |"
    yield ""


def _is(key: Key) -> str:
    inner = section_of(key.kind)
    if inner is not None and isinstance(key.kind.type, types.DictType):
        return "a map from names to maps"
    if isinstance(key.kind.type, types.VarTupleType) and not key.kind.short:
        return f"a list, each {expected(bare(key.kind.type.item_type))}"
    return expected(key.kind)


def _default(key: Key) -> str:
    if key.required:
        return "**required**"
    if isinstance(key.default, bool):
        return f"`{str(key.default).lower()}`"
    if isinstance(key.default, int | float | str):
        return f"`{key.default:g}`" if isinstance(key.default, float) else f"`{key.default}`"
    return ""
