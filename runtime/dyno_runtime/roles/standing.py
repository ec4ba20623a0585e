"""What an engine needs before it is loaded, where it is larger than a node: its ranks, or its Ray cluster.

In: how the worker is spread. Out: `there` returns once all of it is; a worker of one node needs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from dyno_runtime.bus.peers import Peers
from dyno_runtime.roles.gathering import Gathering
from dyno_runtime.roles.ray_view import whole
from dyno_runtime.settings import Parallel


class Standing:
    """See the module. `lost` is told when it is no longer so; `changed`, when `problem` may be another one."""

    def __init__(
        self,
        parallel: Parallel,
        peers: Peers,
        engine_id: str,
        *,
        lost: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._parallel = parallel
        self._changed = changed
        self._waits: str | None = None
        self._gathering: Gathering | None = None
        if parallel.executor == "mp" and parallel.nodes > 1:
            self._gathering = Gathering(parallel.nodes, peers, engine_id, lost=lost, changed=changed)

    @property
    def problem(self) -> str | None:
        """What is missing."""
        return self._waits or (self._gathering.problem if self._gathering is not None else None)

    async def there(self) -> None:
        """Wait until nothing is missing, however long that takes. Raises EngineError."""
        parallel = self._parallel
        if self._gathering is not None:
            await self._gathering.formed.wait()
        elif parallel.executor == "ray" and parallel.head is not None:
            gpus = parallel.tp * parallel.pp * parallel.dp
            await whole(f"{parallel.head.host}:{parallel.head.port}", parallel.nodes, gpus, self._note)

    def end(self) -> None:
        """This process goes away."""
        if self._gathering is not None:
            self._gathering.end()

    def _note(self, problem: str | None) -> None:
        self._waits = problem
        self._changed()
