"""The models → a JSON Schema, from which editors complete, explain and check topology files.

In: nothing. Out: plain JSON values. The schema knows types, names and ranges; what needs the whole file is known to
`dynoctl validate` alone.
"""

from __future__ import annotations

import inspect
from typing import Any

from msgspec import Struct
from msgspec import inspect as types

from dynoctl.topology.kinds import Key, Kind, bare, keys_of, section_of
from dynoctl.topology.model import Topology
from dynoctl.topology.secret import Env

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ENV = {"type": "object", "additionalProperties": {"type": ["string", "integer"]}}


def schema() -> dict[str, Any]:
    """The schema of a topology file."""
    sections: dict[str, type[Struct]] = {}
    _collect(Topology, sections)
    root = _section(Topology)
    sections.pop(Topology.__name__)
    head = {"$schema": DIALECT, "title": "A dynoctl topology"}
    return {**head, **root, "$defs": {name: _section(cls) for name, cls in sorted(sections.items())}}


def _collect(section: type[Struct], into: dict[str, type[Struct]]) -> None:
    into[section.__name__] = section
    for key in keys_of(section).values():
        inner = section_of(key.kind)
        if inner is not None and inner.__name__ not in into:
            _collect(inner, into)


def _section(section: type[Struct]) -> dict[str, Any]:
    keys = keys_of(section)
    required = [key.name for key in keys.values() if key.required]
    return {
        "type": "object",
        "description": inspect.getdoc(section),
        "properties": {key.name: _key(key) for key in keys.values()},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _key(key: Key) -> dict[str, Any]:
    default = (
        {}
        if key.required or not isinstance(key.default, bool | int | float | str)
        else {"default": key.default}
    )
    return {"description": key.kind.description, **_value(key.kind), **default}


def _value(kind: Kind) -> dict[str, Any]:
    value = _long_form(kind)
    match kind.short, kind.type:
        case "one", types.VarTupleType(item_type=item):
            return {"anyOf": [_value(bare(item)), value]}
        case "node", types.StructType(cls=cls):
            return {"anyOf": [_value(keys_of(cls)["node"].kind), value]}
    return value


def _long_form(kind: Kind) -> dict[str, Any]:
    match kind.type:
        case types.BoolType():
            return {"type": "boolean"}
        case types.IntType(ge=least, le=most):
            return {"type": "integer", **_limits(minimum=least, maximum=most)}
        case types.FloatType(gt=above):
            return {"type": "number", **_limits(exclusiveMinimum=above)}
        case types.StrType(pattern=pattern, min_length=length):
            return {"type": "string", **_limits(pattern=pattern, minLength=length)}
        case types.LiteralType(values=values):
            return {"enum": list(values)}
        case types.VarTupleType(item_type=item):
            return {"type": "array", "items": _value(bare(item))}
        case types.DictType(value_type=types.AnyType()):
            return {"type": "object"}
        case types.DictType(key_type=name, value_type=item):
            names = _value(bare(name))
            return {"type": "object", "propertyNames": names, "additionalProperties": _value(bare(item))}
        case types.StructType(cls=cls):
            return {"$ref": f"#/$defs/{cls.__name__}"}
        case types.CustomType(cls=cls) if cls is Env:
            return _ENV
    return {"type": "string"}


def _limits(**limits: object) -> dict[str, object]:
    return {name: limit for name, limit in limits.items() if limit is not None}
