"""`--set roles.decode.tp=4` → the tree with one leaf replaced.

In: the root of a tree and one argument. Out: a new root; what was shared through aliases stays as it was. Keys that
no section has are found later by the reader, at the argument.
"""

from __future__ import annotations

from dynoctl.topology.compose import MAX_DEPTH, compose
from dynoctl.topology.document import Entry, List, Map, Mark, Node, Scalar
from dynoctl.topology.problem import Problem

_NODE_FOR_SHORT = (("services", "etcd"), ("services", "nats"))


def override(root: Map, argument: str, number: int, problems: list[Problem]) -> Map:
    """`root` with the leaf that `argument`, the `number`-th, names replaced; unchanged where it makes no sense."""
    mark = Mark(number, 0, origin=f"--set {argument}")
    path, equals, text = argument.partition("=")
    steps = tuple(step.strip() for step in path.split("."))
    if not equals or not all(steps) or len(steps) > MAX_DEPTH:
        problems.append(Problem(mark, "", "expected KEY=VALUE, such as roles.decode.tp=4"))
        return root
    before = len(problems)
    value = compose(text, problems, mark)
    if len(problems) > before:
        return root
    try:
        changed = _put(root, steps, value or Scalar(mark, None, "", True), mark, ())
    except LookupError as error:
        problems.append(Problem(mark, path, str(error.args[0])))
        return root
    assert isinstance(changed, Map)
    return changed


def _put(node: Node, steps: tuple[str, ...], value: Node, mark: Mark, above: tuple[str, ...]) -> Node:
    if not steps:
        return value
    if isinstance(node, Scalar) and above in _NODE_FOR_SHORT and node.value is not None:
        node = Map(node.mark, {"node": Entry(node.mark, "node", node)})
    step, *rest = steps
    if isinstance(node, List):
        return _put_item(node, steps, value, mark, above)
    if not isinstance(node, Map):
        raise LookupError(f"{'.'.join(above)} is a single value, so nothing in it can be set")
    if step == "0" and step not in node.entries and len(above) == 2 and above[0] == "roles":
        return _put(node, tuple(rest), value, mark, above)
    entry = node.entries.get(step)
    below = _put(entry.node if entry else Map(mark), tuple(rest), value, mark, (*above, step))
    key_mark = entry.mark if entry and rest else mark
    return Map(node.mark, {**node.entries, step: Entry(key_mark, step, below)})


def _put_item(node: List, steps: tuple[str, ...], value: Node, mark: Mark, above: tuple[str, ...]) -> Node:
    step, *rest = steps
    where, last = ".".join(above), len(node.items) - 1
    if not step.isdecimal() or int(step) > last:
        raise LookupError(f"{where} is a list; say which of its items, {where}.0 to {where}.{last}")
    items = list(node.items)
    items[int(step)] = _put(items[int(step)], tuple(rest), value, mark, (*above, step))
    return List(node.mark, items)
