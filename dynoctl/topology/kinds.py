"""The types of the models, as the reader walks them, and what each one is called in a sentence.

In: model classes. Out: `Kind`, a type with its description and its marks; `expected`, words for messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from msgspec import NODEFAULT, Struct
from msgspec import inspect as types

from dynoctl.topology.secret import Env, Url


@dataclass(frozen=True, slots=True)
class Kind:
    """One type. `type` is bare: marks and None are taken off. `short` is "one", "node" or None."""

    type: types.Type
    description: str = ""
    examples: tuple[Any, ...] = ()
    means: str | None = None
    short: str | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section. `default` is NODEFAULT where the key is required."""

    name: str
    kind: Kind
    default: Any = field(repr=False)

    @property
    def required(self) -> bool:
        """Whether the section cannot do without it."""
        return self.default is NODEFAULT


@cache
def keys_of(section: type[Struct]) -> Mapping[str, Key]:
    """The keys of a section, in the order of the reference."""
    info = types.type_info(section)
    assert isinstance(info, types.StructType)
    return {part.name: Key(part.name, bare(part.type), _default(part)) for part in info.fields}


def _default(part: types.Field) -> Any:
    return part.default_factory() if part.default_factory is not NODEFAULT else part.default


def bare(kind: types.Type) -> Kind:
    """A type without its wrappings, which become the fields of `Kind`."""
    extra: dict[str, Any] = {}
    schema: dict[str, Any] = {}
    while isinstance(kind, types.Metadata | types.UnionType):
        if isinstance(kind, types.Metadata):
            extra |= kind.extra or {}
            schema = {**(kind.extra_json_schema or {}), **schema}
            kind = kind.type
        else:
            (kind,) = (one for one in kind.types if not isinstance(one, types.NoneType))
    return Kind(
        kind,
        str(schema.get("description", "")),
        tuple(schema.get("examples", ())),
        extra.get("means"),
        extra.get("short"),
    )


def section_of(kind: Kind) -> type[Struct] | None:
    """The model behind a kind that is a section: of a map, of a list's items, of a map's values."""
    match kind.type:
        case types.StructType(cls=cls):
            return cls
        case types.VarTupleType(item_type=inner) | types.DictType(value_type=inner):
            return section_of(bare(inner))
    return None


def expected(kind: Kind) -> str:
    """What must stand here, in words: `a whole number from 1 to 65535`."""
    match kind.type:
        case types.StrType():
            return kind.means or "text"
        case types.IntType():
            return _range("a whole number", kind.type)
        case types.FloatType():
            return _range("a number", kind.type)
        case types.BoolType():
            return "true or false"
        case types.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case types.VarTupleType(item_type=item):
            one = expected(bare(item))
            return f"{one}, or a list" if kind.short else f"a list (each item {one})"
        case types.CustomType(cls=cls) if cls is Env:
            return "a map from names to texts"
        case types.CustomType(cls=cls) if cls is Url:
            return "an address, scheme://host:port"
    return "a node's name or a map" if kind.short == "node" else "a map"


def _range(noun: str, number: types.IntType | types.FloatType) -> str:
    if number.ge is not None and number.le is not None:
        return f"{noun} from {number.ge} to {number.le}"
    if number.ge is not None:
        return f"{noun}, {number.ge} or more"
    return f"{noun} above {number.gt:g}" if number.gt is not None else noun
