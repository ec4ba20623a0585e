"""YAML text → a tree with marks, and what is wrong with the text as YAML.

In: the text of a file, or of one `--set` value. Out: the root, None where the text cannot be read on. Depth, size
and what aliases unfold to are bounded. Scalars follow YAML 1.2; numbers that 1.1 reads otherwise stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dynoctl.topology.document import Entry, List, Map, Mark, Node, Scalar
from dynoctl.topology.problem import Problem
from dynoctl.topology.syntax import syntax_problem

MAX_CHARS = 500_000
MAX_DEPTH = 32
MAX_VALUES = 100_000

_CONSTANTS: dict[str, bool | None] = dict.fromkeys(("", "~", "null", "Null", "NULL"), None)
_CONSTANTS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(
    ("false", "False", "FALSE"), False
)
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_REAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]*(?:[eE][-+]?[0-9]{1,3})?|[eE][-+]?[0-9]{1,3})\Z")
_MERGE = "<<"


class Unreadable(Exception):
    """The text cannot be read on; carries the problem."""

    def __init__(self, mark: Mark, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(mark, "", message, hint)


@dataclass(slots=True)
class _Built:
    """A node with what it unfolds to: how many values, and how many levels."""

    node: Node
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class _Open:
    """A map or list that has not ended yet. `key` waits for its value."""

    built: _Built
    anchor: str | None
    key: Entry | None = None
    merged: list[_Built] = field(default_factory=list)


def compose(text: str, problems: list[Problem], origin: Mark | None = None) -> Node | None:
    """The tree of `text`. Appends to `problems`; None where there is no tree.

    Where `origin` is given, it is the mark of everything.
    """
    try:
        if len(text) > MAX_CHARS:
            raise Unreadable(
                origin or Mark(1, 1),
                f"{len(text):,} characters are too many for a topology (at most {MAX_CHARS:,})",
            )
        return _Composer(problems, origin).tree(YAML(typ="safe", pure=True).parse(text))
    except Unreadable as unreadable:
        problems.append(unreadable.problem)
    except (YAMLError, ValueError, OverflowError) as error:
        problems.append(syntax_problem(error, text, origin))
    return None


def scalar_value(text: str) -> bool | int | float | str | None:
    """What a scalar without quotes stands for."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.match(text):
        return int(text)
    return float(text) if _REAL.match(text) else text


class _Composer:
    def __init__(self, problems: list[Problem], origin: Mark | None) -> None:
        self.problems = problems
        self.origin = origin
        self.anchors: dict[str, _Built] = {}
        self.stack: list[_Open] = []
        self.root: Node | None = None

    def tree(self, events: Iterable[Any]) -> Node | None:
        for event in events:
            handler = getattr(self, f"_on_{type(event).__name__}", None)
            if handler:
                handler(event)
        return self.root

    def _on_DocumentStartEvent(self, event: Any) -> None:
        if self.root is not None:
            raise Unreadable(self._mark(event), "a second document begins; a file holds one topology")

    def _on_ScalarEvent(self, event: Any) -> None:
        self._no_tag(event)
        plain = bool(event.implicit[0])
        value = scalar_value(event.value) if plain else event.value
        self._add(_Built(Scalar(self._mark(event), value, event.value, plain)), event.anchor)

    def _on_AliasEvent(self, event: Any) -> None:
        target = self.anchors.get(event.anchor)
        if target is None:
            inside = any(above.anchor == event.anchor for above in self.stack)
            why = (
                f"stands inside '&{event.anchor}' itself"
                if inside
                else f"stands for '&{event.anchor}', which is not above"
            )
            raise Unreadable(self._mark(event), f"'*{event.anchor}' {why}")
        self._add(target, None)

    def _on_MappingStartEvent(self, event: Any) -> None:
        self._open(event, Map(self._mark(event)))

    def _on_SequenceStartEvent(self, event: Any) -> None:
        self._open(event, List(self._mark(event)))

    def _on_MappingEndEvent(self, event: Any) -> None:
        ended = self.stack.pop()
        for source in ended.merged:
            self._merge(ended.built, source.node)
        self._add(ended.built, ended.anchor)

    def _on_SequenceEndEvent(self, event: Any) -> None:
        ended = self.stack.pop()
        self._add(ended.built, ended.anchor)

    def _mark(self, event: Any) -> Mark:
        if self.origin is not None:
            return self.origin
        start, end = event.start_mark, event.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return Mark(start.line + 1, start.column + 1, max(1, width))

    def _no_tag(self, event: Any) -> None:
        if event.ctag is not None:
            raise Unreadable(self._mark(event), f"the tag '{event.tag}' means nothing here", "remove it")

    def _open(self, event: Any, node: Node) -> None:
        self._no_tag(event)
        if self.stack and isinstance(self.stack[-1].built.node, Map) and self.stack[-1].key is None:
            raise Unreadable(self._mark(event), "a key is text, never a map or a list")
        self.stack.append(_Open(_Built(node), event.anchor))
        self._check_depth(node.mark, 0)

    def _check_depth(self, mark: Mark, height: int) -> None:
        if len(self.stack) + height > MAX_DEPTH:
            raise Unreadable(mark, f"this is nested more than {MAX_DEPTH} levels deep")

    def _add(self, built: _Built, anchor: str | None) -> None:
        """Put a node that has ended into what it belongs to."""
        if anchor is not None:
            self.anchors[anchor] = built
        if not self.stack:
            self.root = built.node
            return
        parent = self.stack[-1]
        if isinstance(parent.built.node, Map) and parent.key is None:
            parent.key = self._key(built.node)
            return
        self._count(parent.built, built)
        if isinstance(parent.built.node, List):
            parent.built.node.items.append(built.node)
        elif isinstance(parent.built.node, Map):
            self._put(parent, built)

    def _count(self, parent: _Built, child: _Built) -> None:
        parent.size += child.size
        parent.height = max(parent.height, child.height + 1)
        self._check_depth(child.node.mark, child.height - 1)
        if parent.size > MAX_VALUES:
            raise Unreadable(child.node.mark, f"the file unfolds to more than {MAX_VALUES:,} values")

    def _key(self, node: Node) -> Entry:
        if not isinstance(node, Scalar) or node.text == "":
            raise Unreadable(node.mark, "a key is text, never a map, a list or nothing")
        return Entry(node.mark, node.text, node)

    def _put(self, parent: _Open, built: _Built) -> None:
        entry, parent.key = parent.key, None
        assert entry is not None
        assert isinstance(parent.built.node, Map)
        key = entry.node
        if entry.key == _MERGE and isinstance(key, Scalar) and key.plain:
            parent.merged.append(built)
            return
        first = parent.built.node.entries.setdefault(entry.key, entry)
        if first is not entry:
            here = f"; first in line {first.mark.line}" if self.origin is None else ""
            self.problems.append(
                Problem(entry.mark, self._path(entry.key), f"the key stands here again{here}")
            )
        entry.node = built.node
        if isinstance(built.node, Scalar) and built.node.plain and not built.node.text:
            built.node.mark = entry.mark  # nothing stands there, so the key is what can be pointed at

    def _path(self, key: str) -> str:
        """The path of a key of the innermost map."""
        steps = []
        for above in self.stack[:-1]:
            node = above.built.node
            steps.append(
                str(len(node.items)) if isinstance(node, List) else above.key.key if above.key else "?"
            )
        return ".".join([*steps, key])

    def _merge(self, into: _Built, source: Node) -> None:
        """`<<`: entries of other maps, where the map has none of its own."""
        assert isinstance(into.node, Map)
        for other in source.items if isinstance(source, List) else [source]:
            if not isinstance(other, Map):
                raise Unreadable(other.mark, "'<<' takes a map, or a list of maps")
            for key, entry in other.entries.items():
                into.size += 1
                into.node.entries.setdefault(key, entry)
        if into.size > MAX_VALUES:
            raise Unreadable(source.mark, f"the file unfolds to more than {MAX_VALUES:,} values")
