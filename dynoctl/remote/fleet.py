"""All nodes of a run: connected once, asked and told through one sliding window, closed at the end.

In: the run's connections. Out: for each node its result, or the error that names it. A node that fails delays nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from dynoctl.errors import DynoctlError, NodeError
from dynoctl.remote.connection import Connection
from dynoctl.remote.dial import Connections
from dynoctl.remote.window import WINDOW, over

T = TypeVar("T")


class Fleet:
    """The nodes of a run, dialled when they are first needed, on a thread of the window."""

    def __init__(self, connections: Connections, *, window: int = WINDOW) -> None:
        self._connections = connections
        self._window = window

    def each(
        self,
        nodes: Iterable[str],
        do: Callable[[Connection], T],
        *,
        all_at_once: bool = False,
    ) -> tuple[dict[str, T], dict[str, NodeError]]:
        """Call `do` with each node's connection, dialling where there is none yet.

        `all_at_once` is for calls that wait on the node for others to get somewhere. An error that is not one
        node's own is raised.
        """
        names = tuple(nodes)
        window = max(1, len(names)) if all_at_once else self._window
        results: dict[str, T] = {}
        errors: dict[str, NodeError] = {}
        for node, outcome in over(names, lambda node: do(self._connections.to(node)), window=window):
            if isinstance(outcome, NodeError):
                errors[node] = outcome
            elif isinstance(outcome, DynoctlError):
                raise outcome
            else:
                results[node] = outcome
        order = {node: number for number, node in enumerate(names)}
        return _sorted(results, order), _sorted(errors, order)

    def as_they_end(
        self, nodes: Iterable[str], do: Callable[[Connection], T]
    ) -> Iterator[tuple[str, T | DynoctlError]]:
        """Call `do` with all connections at once; yield each node when its call ends.

        Whoever stops listening is not kept waiting: calls that still go on end with the connections.
        """
        names = tuple(nodes)
        return over(names, lambda node: do(self._connections.to(node)), window=max(1, len(names)))

    def connection(self, node: str) -> Connection:
        """The node's connection. Raises NodeError: it cannot be reached, or does not let us in."""
        return self._connections.to(node)


def _sorted(found: dict[str, T], order: Mapping[str, int]) -> dict[str, T]:
    """In the order of the topology, whoever answered first."""
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))
