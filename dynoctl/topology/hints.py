"""What a person probably meant: close keys, quotes that are missing, values that YAML reads in two ways.

In: names and nodes. Out: sentences and hints for problems.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence

from msgspec import inspect as types

from dynoctl.topology.document import List, Map, Node, Path, Scalar
from dynoctl.topology.kinds import Key, Kind
from dynoctl.topology.secret import masked

MAX_SHOWN = 40

# Keys that a later version knows; better than "unknown".
_NOT_YET = {
    ("disagg", "connector"): "the choice of a connector is not in this version yet",
}
_RESERVED_VARIABLES = ("DYNO_", "PYTHONPATH")
_NUMBERS = re.compile(
    r"[-+]?0[0-9_]+|[-+]?0[xob][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*_[0-9_]*|[0-9]+(:[0-5]?[0-9])+"
)
_DIGITS = re.compile(r"[0-9]+")
_FLAGS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def close(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `name` is probably a misspelling of."""
    spellings = {one.replace("-", "_").lower(): one for one in known}
    found = difflib.get_close_matches(name.replace("-", "_").lower(), spellings, n=1, cutoff=0.7)
    return spellings[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A question, where something is close."""
    meant = close(name, known)
    return f"did you mean '{meant}'?" if meant else None


def close_name(name: str, known: Sequence[str]) -> str:
    """The name that was probably meant, else all there are. Names that differ in their numbers are all as close."""
    meant = close(name, known)
    if meant and _DIGITS.sub("", meant) != _DIGITS.sub("", name):
        return f"did you mean '{meant}'?"
    return f"there is {', '.join(known)}" if len(known) == 1 else f"there are {', '.join(known)}"


def one_of(known: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join(part for part in (", ".join(known[:-1]), known[-1]) if part) if known else "none"


def unknown_key(name: str, meant: str | None, known: Sequence[str], path: Path) -> tuple[str, str | None]:
    """Message and hint for a key that the section does not have."""
    names = tuple(step for step in (*path, name) if isinstance(step, str))
    if names in _NOT_YET:
        return _NOT_YET[names], None
    if meant:
        return "unknown key", f"did you mean '{meant}'?"
    return "unknown key", f"known here: {', '.join(known)}"


def example(key: Key) -> str:
    """How a key that is missing may look, as `model: {id: hello}`."""
    return f"such as `{key.name}: {json.dumps(key.kind.examples[0])}`".replace('"', "")


def reserved_variable(name: str) -> bool:
    """Whether dynoctl itself gives this variable to its processes."""
    return name.startswith(_RESERVED_VARIABLES)


def found(node: Node) -> str:
    """What stands there, in words, short and without secrets."""
    if isinstance(node, Map):
        return "a map"
    if isinstance(node, List):
        return "a list"
    match node.value:
        case None:
            return "nothing"
        case bool():
            return node.text
        case int() | float():
            return f"the number {node.text}"
    shown = masked(node.text if len(node.text) <= MAX_SHOWN else f"{node.text[:MAX_SHOWN]}…")
    return repr(shown)


def quoted(node: Node) -> str | None:
    """How to say that a number or a flag is meant as text."""
    if isinstance(node, Scalar) and node.value is not None and not isinstance(node.value, str):
        return f"write it in quotes: '{node.text}'"
    return None


def for_value(node: Node, kind: Kind) -> str | None:
    """A hint for a single value that does not fit."""
    if not isinstance(node, Scalar):
        return None
    text = node.text.strip().lower()
    match kind.type:
        case types.BoolType() if text in _FLAGS:
            return f"write {_FLAGS[text]}"
        case types.BoolType() if text in ("true", "false"):
            return f"write it without quotes: {text}"
        case types.IntType() | types.FloatType() if ambiguous(node):
            return unambiguous(node)
        case types.IntType() | types.FloatType() if re.fullmatch(r"[0-9]+", text) and not node.plain:
            return f"write it without quotes: {text}"
        case types.IntType() if isinstance(node.value, float) and node.value == int(node.value):
            return f"write {int(node.value)}"
        case types.LiteralType(values=values):
            return did_you_mean(node.text, [str(value) for value in values])
        case types.StrType():
            return quoted(node)
    return None


def ambiguous(node: Scalar) -> str | None:
    """What is wrong with a scalar that two YAML readers take for different things, None where nothing is."""
    if not node.plain or not isinstance(node.value, str):
        return None
    if node.text.lower() in _FLAGS:
        return f"'{node.text}' is text to some readers of YAML and {_FLAGS[node.text.lower()]} to others"
    if _NUMBERS.fullmatch(node.text):
        return f"'{node.text}' is not the same number to all readers of YAML"
    return None


def unambiguous(node: Scalar) -> str:
    """How to write such a scalar."""
    if node.text.lower() in _FLAGS:
        return f"write {_FLAGS[node.text.lower()]}, or '{node.text}' in quotes"
    return "write a plain decimal number, or put it in quotes where text is meant"
