"""A tree of YAML → a topology, with everything that does not fit.

In: the root of a tree. Out: a value for every key, from the file where it fits, else the default, so that one run
finds all; the problems; and `faulty`, the paths whose value is not the user's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec import inspect as types

from dynoctl.topology import hints
from dynoctl.topology.document import List, Map, Mark, Node, Path, Scalar, locate
from dynoctl.topology.kinds import Key, Kind, bare, expected, keys_of
from dynoctl.topology.problem import Problem
from dynoctl.topology.secret import Env, Url

_URL = re.compile(r"[a-z]+://[^\s/?#]+[^\s]*\Z")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


MAX_PROBLEMS = 100


class TooManyProblems(Exception):
    """So much is wrong that reading on helps nobody."""


class _Unread:
    """Stands for a value that could not be read."""


UNREAD: Final = _Unread()


@dataclass(slots=True)
class Reader:
    """Reads one tree. `problems` and `faulty` fill while it reads.

    Raises:
        TooManyProblems: at the hundredth problem.
    """

    root: Node
    problems: list[Problem]
    faulty: set[Path] = field(default_factory=set)

    def section(self, node: Map, section: type[msgspec.Struct], path: Path = ()) -> Any:
        """The value of a map as a model; never fails: what cannot be read has its default or an example."""
        keys = keys_of(section)
        self._unknown(node, keys, path)
        values = {}
        for key in keys.values():
            value = self._key(node, key, path)
            if not isinstance(value, _Unread):
                values[key.name] = value
        return section(**values)

    def _key(self, node: Map, key: Key, path: Path) -> Any:
        here = (*path, key.name)
        entry = node.entries.get(key.name)
        if entry is not None:
            value = self.value(entry.node, key.kind, here)
        elif key.required:
            value = self._fault(node.mark, here, "is missing", hints.example(key))
        else:
            return UNREAD
        if not isinstance(value, _Unread):
            return value
        if isinstance(key.kind.type, types.StructType):
            return self._stand_in(key.kind.type.cls)
        return key.kind.examples[0] if key.required else UNREAD

    def _stand_in(self, section: type[msgspec.Struct]) -> Any:
        """A section that could not be read: defaults, and examples of what is required."""
        required = {key.name: key for key in keys_of(section).values() if key.required}
        examples = {name: key.kind.examples[0] for name, key in required.items()}
        return msgspec.convert(examples, section)

    def value(self, node: Node, kind: Kind, path: Path) -> Any:
        """The value of a node as `kind`, or `UNREAD`."""
        match kind.type:
            case types.StructType(cls=section):
                return self._map(node, section, kind, path)
            case types.VarTupleType(item_type=item):
                return self._list(node, bare(item), kind, path)
            case types.DictType(value_type=types.AnyType()):
                return self._verbatim_map(node, path)
            case types.DictType(key_type=name, value_type=item):
                return self._named(node, bare(name), bare(item), path)
            case types.CustomType(cls=cls) if cls is Env:
                return self._env(node, path)
        return self._scalar(node, kind, path)

    def _map(self, node: Node, section: type[msgspec.Struct], kind: Kind, path: Path) -> Any:
        if kind.short == "node" and isinstance(node, Scalar) and isinstance(node.value, str):
            name = self._scalar(node, keys_of(section)["node"].kind, path)
            return section() if isinstance(name, _Unread) else section(node=name)
        if not isinstance(node, Map):
            return self._wrong(node, path, expected(kind))
        return self.section(node, section, path)

    def _list(self, node: Node, item: Kind, kind: Kind, path: Path) -> Any:
        single = kind.short == "one" and not isinstance(node, List)
        if not single and not isinstance(node, List):
            return self._wrong(node, path, expected(kind))
        nodes = node.items if isinstance(node, List) else [node]
        values = []
        for index, one in enumerate(nodes):
            value = self.value(one, item, (*path, index))
            values.append(self._blank(item) if isinstance(value, _Unread) else value)
        return tuple(values)

    def _blank(self, item: Kind) -> Any:
        """Stands for an item that could not be read, so that those after it keep their places."""
        if isinstance(item.type, types.StructType):
            return self._stand_in(item.type.cls)
        if isinstance(item.type, types.IntType):
            return 0
        return Url("") if isinstance(item.type, types.CustomType) else ""

    def _named(self, node: Node, name: Kind, item: Kind, path: Path) -> Any:
        if not isinstance(node, Map):
            return self._wrong(node, path, "a map from names to maps")
        assert isinstance(item.type, types.StructType)
        values = {}
        for key, entry in node.entries.items():
            here = (*path, key)
            if self._text(key, name) is None:
                self._fault(entry.mark, here, f"expected {expected(name)}, found {key!r}")
            value = self._map(entry.node, item.type.cls, item, here)
            values[key] = self._blank(item) if isinstance(value, _Unread) else value
        return values

    def _env(self, node: Node, path: Path) -> Any:
        if not isinstance(node, Map):
            return self._wrong(node, path, "a map from names to texts")
        values = {}
        for name, entry in node.entries.items():
            here = (*path, name)
            if not _ENV_NAME.match(name):
                self._fault(
                    entry.mark, here, "the name of a variable is letters, digits and _, no digit first"
                )
                continue
            if hints.reserved_variable(name):
                self._fault(entry.mark, here, "dynoctl itself sets this variable")
                continue
            text = self._variable(entry.node)
            if text is None:
                self._wrong(entry.node, here, "text", hint=hints.quoted(entry.node))
            else:
                values[name] = text
        return Env(values)

    def _variable(self, node: Node) -> str | None:
        """Text, or a whole number, whose digits are taken."""
        if not isinstance(node, Scalar) or isinstance(node.value, bool | float):
            return None
        return node.text if node.value is not None else None

    def _verbatim_map(self, node: Node, path: Path) -> Any:
        return self._verbatim(node, path) if isinstance(node, Map) else self._wrong(node, path, "a map")

    def _verbatim(self, node: Node, path: Path) -> Any:
        if isinstance(node, Map):
            return {key: self._verbatim(entry.node, (*path, key)) for key, entry in node.entries.items()}
        if isinstance(node, List):
            return [self._verbatim(item, (*path, index)) for index, item in enumerate(node.items)]
        if message := hints.ambiguous(node):
            self._fault(node.mark, path, message, hints.unambiguous(node))
        return node.value

    def _scalar(self, node: Node, kind: Kind, path: Path) -> Any:
        if isinstance(node, Scalar):
            value = self._fitting(node.value, kind)
            if value is not None:
                return value
        return self._wrong(node, path, expected(kind), hint=hints.for_value(node, kind))

    def _fitting(self, value: Any, kind: Kind) -> Any:
        """`value` where it fits `kind`, else None."""
        match kind.type:
            case types.BoolType():
                return value if isinstance(value, bool) else None
            case types.IntType(ge=least, le=most):
                whole = isinstance(value, int) and not isinstance(value, bool)
                return value if whole and _between(value, least, most) else None
            case types.FloatType(gt=above):
                number = isinstance(value, int | float) and not isinstance(value, bool)
                return value if number and _between(value, above, None) and value != above else None
            case types.LiteralType(values=values):
                return value if isinstance(value, str) and value in values else None
            case types.CustomType(cls=cls) if cls is Url:
                return Url(value) if isinstance(value, str) and _URL.match(value) else None
        return self._text(value, kind)

    def _text(self, value: object, kind: Kind) -> str | None:
        assert isinstance(kind.type, types.StrType)
        if not isinstance(value, str) or len(value) < (kind.type.min_length or 0) or "\0" in value:
            return None
        return value if kind.type.pattern is None or re.search(kind.type.pattern, value) else None

    def _unknown(self, node: Map, keys: Any, path: Path) -> None:
        """Report keys that no section has; where one is clearly meant, go on as if it stood there."""
        for written in [key for key in node.entries if key not in keys]:
            entry = node.entries[written]
            free = [key for key in keys if key not in node.entries]
            meant = hints.close(written, free)
            message, hint = hints.unknown_key(written, meant or hints.close(written, keys), tuple(keys), path)
            self._fault(entry.mark, (*path, written), message, hint)
            if meant:
                node.entries[meant] = node.entries.pop(written)

    def _wrong(self, node: Node, path: Path, words: str, *, hint: str | None = None) -> _Unread:
        if isinstance(node, Scalar) and node.value is None and node.plain:
            hint = "give it a value, or remove the key"
        return self._fault(node.mark, path, f"expected {words}, found {hints.found(node)}", hint)

    def _fault(self, mark: Mark, path: Path, message: str, hint: str | None = None) -> _Unread:
        self.faulty.add(path)
        self.problems.append(Problem(mark, locate(self.root, path).path, message, hint))
        if len(self.problems) >= MAX_PROBLEMS:
            raise TooManyProblems
        return UNREAD


def _between(value: Any, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)
