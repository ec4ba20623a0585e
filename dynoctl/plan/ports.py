"""Which TCP port each unit takes on its node.

In: what the file says, what an earlier `up` recorded, what listens there now. Out: port numbers. A port that a unit
had is kept, so that adding one unit never restarts another; a port that the file names is taken as it is, and
`plan.build` refuses the plan where a stranger holds it. Only ports that nobody named step aside for strangers.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from dynoctl.errors import Blocked

# All below 32768, where Linux begins to hand out ports of its own accord. One hundred for each role.
STREAM_BASE = {
    "frontend": 7000,
    "processor": 7100,
    "router": 7200,
    "decode": 7300,
    "prefill": 7400,
    "planner": 6900,
}
METRICS_BASE = {
    "frontend": 7500,
    "processor": 7600,
    "router": 7700,
    "decode": 7800,
    "prefill": 7900,
    "planner": 6800,
}
SIDE_CHANNEL_BASE = 5600  # where vLLM workers are asked about their KV; NIXL's usual port
# Of workers that are larger than a node, on the node of their head; and of Ray, on each node.
GATHER_BASE, DP_BASE = 8300, 8350
RAY_BASE = {"gcs": 8400, "node": 8500, "object": 8600, "agent": 8700, "client": 8800}
STAGE_BASE = 8800  # where a model is offered to other nodes while it is copied
RANGE = 100


@dataclass
class PortBook:
    """The ports of one node, while its units are being planned.

    `recorded`: what an earlier plan gave, by use (`decode-0.stream`). `busy`: where strangers listen now.
    """

    node: str
    recorded: Mapping[str, int] = field(default_factory=dict)
    busy: Set[int] = frozenset()
    given: dict[str, int] = field(default_factory=dict)

    def named(self, use: str, port: int) -> int:
        """A port that the file names: given as it is."""
        self.given[use] = port
        return port

    def chosen(self, use: str, first: int) -> int:
        """The recorded port of this use, else the lowest free one from `first` on.

        Raises:
            Blocked: a hundred ports in a row are taken.
        """
        had = self.recorded.get(use)
        if had is not None and had not in self.given.values() and had not in self.busy:
            return self.named(use, had)
        taken = {*self.given.values(), *self.recorded.values(), *self.busy}
        for port in range(first, first + RANGE):
            if port not in taken:
                return self.named(use, port)
        raise self._full(f"no free TCP port for {use}", first)

    def row(self, use: str, first: int, count: int) -> list[int]:
        """`count` ports one behind the other, for `use.0`, `use.1`, …: the recorded ones, else the lowest free row.

        Raises:
            Blocked: there is no such row within a hundred ports.
        """
        uses = [f"{use}.{number}" for number in range(count)]
        others = {port for name, port in self.recorded.items() if name not in uses}
        taken = {*self.given.values(), *self.busy}
        had = self.recorded.get(uses[0])
        starts = [*([] if had is None else [had]), *range(first, first + RANGE - count + 1)]
        for start in starts:
            ports = range(start, start + count)
            if taken.isdisjoint(ports) and others.isdisjoint(ports):
                return [self.named(name, port) for name, port in zip(uses, ports, strict=True)]
        several = f"no {count} free TCP ports in a row" if count > 1 else "no free TCP port"
        raise self._full(f"{several} for {use}", first)

    def _full(self, what: str, first: int) -> Blocked:
        return Blocked(
            f"{self.node}: {what} from {first} to {first + RANGE - 1}",
            next=f"ssh {self.node} ss -ltn",
        )
