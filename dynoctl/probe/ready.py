"""The readiness ladder, climbed: every unit is watched on its own node until its engine is loaded.

In: the units of a cluster, a way to watch. Out: the state of every role, told at every change; or `NotReady` with
the first unit that failed or got stuck, and the tail of its log. Waiting is done on the nodes, not over SSH.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from dynoctl.errors import DynoctlError, NotReady
from dynoctl.plan.results import SERVICES, WATCHERS, RoleState, expected_counts, role_states
from dynoctl.plan.steps import UnitSpec
from dynoctl.plan.unit_seen import read_view

STUCK_S = 60.0
DEADLINE_S = 3600.0
SLACK_S = 30.0

View = dict[str, Any]


class Watch(Protocol):
    """How a node is watched: `remote` gives it. Calls `on_answer` on another thread; returns the last answer."""

    def __call__(
        self, node: str, request: View, on_answer: Callable[[View], None], timeout_s: float
    ) -> View: ...


class Fan(Protocol):
    """How several nodes are watched at once: each node when its watch ends, with its last answer or its error."""

    def __call__(
        self, nodes: tuple[str, ...], do: Callable[[str], View]
    ) -> Iterator[tuple[str, View | DynoctlError]]: ...


class Board:
    """The state of every role, as the watches tell of it."""

    def __init__(
        self, specs: tuple[UnitSpec, ...], on_change: Callable[[tuple[RoleState, ...], RoleState], None]
    ) -> None:
        self._specs = {(spec.node, spec.name): spec for spec in specs}
        self._expects = expected_counts(specs)
        self._on_change = on_change
        self._guard = threading.Lock()
        self._states = {
            state.key: state for spec in specs for state in role_states(spec, None, False, self._expects)
        }

    @property
    def states(self) -> tuple[RoleState, ...]:
        """All roles, in the order of the units."""
        return tuple(self._states.values())

    def tell(self, node: str, view: View) -> None:
        """One unit as its node sees it now."""
        spec = self._specs.get((node, str(view.get("unit"))))
        if spec is None:
            return
        listening = all(view.get("listening", {}).values())
        with self._guard:
            for state in role_states(spec, read_view(view), listening, self._expects):
                before, self._states[state.key] = self._states[state.key], state
                if (before.rung, before.note, before.failed) != (state.rung, state.note, state.failed):
                    self._on_change(self.states, state)


def climb(
    specs: tuple[UnitSpec, ...],
    board: Board,
    watch: Watch,
    fan: Fan,
    ends: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> tuple[RoleState, ...]:
    """Wait until every role is at the top of its own ladder. The first bad news ends it: the other nodes may well be
    waiting for the very role that has failed. `ends`: how often (node, unit) had ended before this run, of units that
    it did not start; what was known before is no news.

    Raises:
        NotReady: a unit failed, or nothing moved in it for a minute.
        NodeError: a node was lost on the way.
    """
    by_node: dict[str, list[UnitSpec]] = {}
    for spec in specs:
        if spec.name not in SERVICES:
            by_node.setdefault(spec.node, []).append(spec)
    over = threading.Event()

    def one(node: str) -> View:
        def on_answer(view: View) -> None:
            if "unit" in view and not over.is_set():
                board.tell(node, view)

        request = _request(by_node[node], expected_counts(specs))
        request["ends"] = {unit: count for (at, unit), count in ends.items() if at == node}
        end = watch(node, request, on_answer, DEADLINE_S + SLACK_S)
        for view in end.get("units", {}).values():
            on_answer(view)
        return end

    try:
        for node, end in fan(tuple(by_node), one):
            if isinstance(end, DynoctlError):
                raise end
            if end.get("reason") != "ready":
                raise _not_ready(specs[0].document["cluster"], node, end)
    finally:
        over.set()  # watches that still go on have nobody to tell
    return board.states


def _request(specs: list[UnitSpec], expects: Mapping[str, int]) -> View:
    return {
        "units": [spec.folder for spec in specs],
        "until": "engine_ready",
        "expects": {"by": list(WATCHERS), "counts": dict(expects)},
        "stuck_s": STUCK_S,
        "deadline_s": DEADLINE_S,
    }


def _not_ready(cluster: str, node: str, end: View) -> NotReady:
    """The first unit that is short of its goal: why, and its last lines."""
    whys: Mapping[str, str] = end.get("why") or {}
    unit, why = next(iter(whys.items()), ("?", "the watch ended without a reason"))
    tail = list((end.get("tail") or {}).get(unit, ()))[-12:]
    how = {"failed": "failed", "stuck": "is stuck", "deadline": "took too long"}.get(
        str(end.get("reason")), "ended"
    )
    return NotReady(
        f"{node}/{unit} {how}: {why}",
        detail=[f"| {line}" for line in tail],
        next=f"dynoctl logs {cluster} --role {node}/{unit}",
    )
