"""`dynoctl validate`: is this file a topology that can be brought up?

In: a file and `--set` arguments. Out: one line, or every problem; exit code 0 or 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dynoctl.cli.files import read_topology
from dynoctl.errors import Exit

if TYPE_CHECKING:
    from dynoctl.topology.model import Topology


def validate(file: str, overrides: Sequence[str], *, json: bool = False) -> int:
    """Print the verdict. With `json` problems are printed as values, and nothing is raised for them.

    Raises:
        UsageError: the file cannot be read.
        TopologyError: the file is wrong, and `json` is not asked for.
    """
    from dynoctl.topology.problem import InvalidTopology

    try:
        topology = read_topology(file, overrides)
    except InvalidTopology as error:
        if not json:
            raise
        _print_json(False, [problem.document(file) for problem in error.problems])
        return Exit.USAGE
    if json:
        _print_json(True, [])
    else:
        print(f"{file} is valid: {summary(topology)}")
    return Exit.DONE


def _print_json(valid: bool, problems: list[dict[str, object]]) -> None:
    from json import dumps

    print(dumps({"valid": valid, "problems": problems}, indent=2, ensure_ascii=False))


def summary(topology: Topology) -> str:
    """`1 node, 6 units: etcd, nats, 1 frontend, 1 processor, 1 router, 2 decode`."""
    services = [name for name in ("etcd", "nats") if getattr(topology, name).node is not None]
    roles = Counter(placement.role for placement in topology.placements)
    nodes = len(topology.machines)
    units = len(services) + len(topology.processes)
    parts = [*services, *(f"{count} {role}" for role, count in roles.items())]
    return f"{nodes} node{'s' * (nodes != 1)}, {units} units: {', '.join(parts)}"
