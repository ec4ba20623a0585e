"""The text of a topology file → a checked `Topology`, or all its problems at once.

In: the file's bytes or text, its name for messages, `--set` arguments. Out: a value that can be planned. The file
is read by `dynoctl.cli.files`; nothing here does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from dynoctl.topology.check import findings
from dynoctl.topology.compose import compose
from dynoctl.topology.document import Map, Mark, Node, Path, locate
from dynoctl.topology.finding import Finding
from dynoctl.topology.model import Topology
from dynoctl.topology.overrides import override
from dynoctl.topology.problem import InvalidTopology, Problem
from dynoctl.topology.reader import MAX_PROBLEMS, Reader, TooManyProblems


def parse(content: bytes | str, name: str, overrides: Sequence[str] = ()) -> Topology:
    """The topology that `content` describes, with `overrides` (`roles.decode.tp=4`) laid over it.

    Raises:
        InvalidTopology: with every problem of the file and of the overrides.
    """
    problems: list[Problem] = []
    text = _decoded(content, problems)
    root = _tree(text, problems) if text is not None else None
    if root is None:
        raise InvalidTopology(name, problems, text or "")
    for number, argument in enumerate(overrides, start=1):
        root = override(root, argument, number, problems)
    reader = Reader(root, problems)
    try:
        topology: Topology = reader.section(root, Topology)
    except TooManyProblems:
        raise InvalidTopology(name, problems, text or "") from None
    problems += islice(_located(topology, root, reader.faulty), MAX_PROBLEMS)
    if problems:
        raise InvalidTopology(name, problems, text or "")
    return topology


def _decoded(content: bytes | str, problems: list[Problem]) -> str | None:
    if isinstance(content, str):
        return content.removeprefix("\ufeff")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        mark = Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        problems.append(Problem(mark, "", f"not text: the byte 0x{content[error.start]:02x} is not UTF-8"))
        return None


def _tree(text: str, problems: list[Problem]) -> Map | None:
    root = compose(text, problems)
    if problems and root is None:
        return None
    if root is None:
        hint = "topologies/local.yaml is one to start from; docs/topology.md explains every key"
        problems.append(Problem(Mark(1, 1), "", "the file is empty", hint))
        return None
    if not isinstance(root, Map):
        problems.append(Problem(root.mark, "", "the file is not a map of keys such as `name:` and `roles:`"))
        return None
    return root


def _located(topology: Topology, root: Node, faulty: set[Path]) -> Iterator[Problem]:
    """What the rules find, without what only follows from a value that could not be read."""
    for finding in findings(topology):
        if any(_follows(finding, path) for path in faulty):
            continue
        place = locate(root, finding.path, key=finding.at_key)
        yield Problem(place.mark, place.path, finding.message, finding.hint)


def _follows(finding: Finding, faulty: Path) -> bool:
    """Whether a finding may only follow from the value at `faulty`, which is not the user's."""
    shorter = min(len(finding.path), len(faulty))
    if shorter and finding.path[:shorter] == faulty[:shorter]:
        return True
    return any(path[: len(faulty)] == faulty for path in finding.rests_on)
