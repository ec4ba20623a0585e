"""The head of a worker that is larger than a node: waits for its ranks, and learns of the end of each.

In: `Join` calls of the ranks. Out: `formed` once all are here, `lost` with a sentence when one that had formed the
worker is gone. A rank that leaves before that is waited for again. A worker forms once: whoever comes later belongs
to the next one, and is told to try again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dyno_runtime.bus.base import Reply
from dyno_runtime.bus.peers import Peers
from dyno_runtime.roles.base import DRAINING
from dyno_runtime.wire.messages import Failure, Formed, Join

log = logging.getLogger("dyno.gathering")


class Gathering:
    """See the module. `changed` is called when `problem` may be another one."""

    def __init__(
        self,
        nodes: int,
        peers: Peers,
        engine_id: str,
        *,
        lost: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self.formed = asyncio.Event()
        self._nodes = nodes
        self._engine_id = engine_id
        self._lost = lost
        self._changed = changed
        self._here: dict[int, tuple[str, Reply]] = {}
        self._over = False
        peers.on(Join, self._on_join)

    @property
    def problem(self) -> str | None:
        """Whom it waits for; None once all are here."""
        missing = [str(rank) for rank in range(1, self._nodes) if rank not in self._here]
        return None if self._over or not missing else f"waits for rank {', '.join(missing)} of {self._nodes}"

    def end(self) -> None:
        """This process goes away; who joins from now on is told to try again."""
        self._over = True

    def _on_join(self, join: Join, reply: Reply) -> None:
        if not 0 < join.rank < self._nodes:
            reply.end(
                Failure("bad_request", f"this worker has no rank {join.rank}, but 1 to {self._nodes - 1}")
            )
        elif self._over:
            reply.end(DRAINING)
        elif join.rank in self._here:
            reply.end(DRAINING)
            self._left(join.rank, self._here[join.rank][1], "its successor came")
        else:
            self._here[join.rank] = (join.place, reply)
            reply.on_cancel = lambda: self._left(join.rank, reply, "its process ended, or its node")
            log.info("rank %d is here, %s", join.rank, join.place)
            self._form()
            self._changed()

    def _form(self) -> None:
        if len(self._here) == self._nodes - 1:
            log.info("all %d ranks are here", self._nodes)
            for _, reply in self._here.values():
                reply.send(Formed(self._engine_id))
            self.formed.set()

    def _left(self, rank: int, reply: Reply, why: str) -> None:
        """A rank is gone: without it a worker that has formed is none."""
        place, known = self._here.get(rank, ("", None))
        if known is not reply or self._over:
            return
        del self._here[rank]
        if self.formed.is_set():
            self._over = True
            self._lost(f"rank {rank} is lost, {place}: {why}; the worker starts anew as one")
        else:
            log.warning("rank %d left, %s: %s", rank, place, why)
        self._changed()
