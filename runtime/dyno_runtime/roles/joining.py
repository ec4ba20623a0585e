"""A rank's side of the gathering: asks the head of its worker until it takes it, then learns of its end.

In: where the head is. Out: `join` returns once all ranks are there, `lost` when the head is gone. Who was taken and
then lost before the worker had formed asks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random

from dyno_runtime.bus.peers import Peers
from dyno_runtime.wire.messages import Address, Body, Failure, Formed, Join

log = logging.getLogger("dyno.joining")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0


class Joining:
    """See the module. `changed` is called when `problem` may be another one."""

    def __init__(
        self, rank: int, place: str, head: Address, peers: Peers, rng: Random, changed: Callable[[], None]
    ) -> None:
        self.problem: str | None = f"waits for the head at {head}"
        self._join = Join(rank, place)
        self._head = head
        self._peers = peers
        self._rng = rng
        self._changed = changed
        self._call: _Call | None = None

    @property
    def formed(self) -> bool:
        """Whether all ranks of the worker are there, and the head still is."""
        return self._call is not None and self._call.formed.is_set() and not self._call.over.done()

    async def join(self) -> None:
        """Until the worker has formed, however long that takes."""
        failures = 0
        while True:
            call = self._call = _Call()
            opened = self._peers.open(self._head, self._join, call)
            try:
                failure = await call.outcome()
            except asyncio.CancelledError:
                opened.cancel()
                raise
            if failure is None:
                log.info("the worker has formed")
                self._note(None)
                return
            failures += 1
            self._note(f"waits for the head at {self._head}: {failure.message}")
            longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failures, 10))
            await asyncio.sleep(longest_s * self._rng.uniform(0.5, 1.0))

    @property
    def engine_id(self) -> str:
        """How the head named the engine; once the worker has formed."""
        assert self._call is not None
        return self._call.engine_id

    async def lost(self) -> str:
        """Wait until the head is gone; why, as a sentence."""
        assert self._call is not None
        failure = await asyncio.shield(self._call.over)
        return f"the head at {self._head} is gone: {failure.message}"

    def _note(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self._changed()


class _Call:
    """The sink of one `Join`."""

    def __init__(self) -> None:
        self.formed = asyncio.Event()
        self.engine_id = ""
        self.over: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        self._told = asyncio.Event()

    def item(self, body: Body) -> None:
        if isinstance(body, Formed):
            self.engine_id = body.engine_id
            self.formed.set()
            self._told.set()

    def end(self, failure: Failure | None) -> None:
        if not self.over.done():
            self.over.set_result(failure or Failure("peer_lost", "it ended"))
        self._told.set()

    async def outcome(self) -> Failure | None:
        """None once it has formed, else why it ended."""
        await self._told.wait()
        return None if self.formed.is_set() else self.over.result()
