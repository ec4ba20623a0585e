"""One request on its way: to one instance after another, until one answers or nothing is left to try.

In: a way to pick an instance, the message, the caller's sink. Out: the items of the instance that answers, then one
end. A failed attempt is retried only before its first item (`core.session` decides).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Set

from dyno_runtime.bus.base import Call, CallFailed, Sink
from dyno_runtime.bus.peers import Peers
from dyno_runtime.core.session import GiveUp, Session, answered, failed, sent
from dyno_runtime.wire.messages import Body, Failure, Instance, LeaseId

log = logging.getLogger("dyno.journey")

Pick = Callable[[Session], Awaitable[Instance]]

SUSPECT_S = 5.0
NOBODY: frozenset[LeaseId] = frozenset()


class Suspects:
    """Instances that were lost a moment ago and may still be registered: asked last, for SUSPECT_S."""

    def __init__(self) -> None:
        self._until_s: dict[LeaseId, float] = {}

    def add(self, instance: Instance) -> None:
        """It did not answer."""
        self._until_s[instance.lease] = asyncio.get_running_loop().time() + SUSPECT_S

    def leases(self) -> Set[LeaseId]:
        """Who is suspected now."""
        if not self._until_s:
            return NOBODY
        now_s = asyncio.get_running_loop().time()
        self._until_s = {lease: until_s for lease, until_s in self._until_s.items() if until_s > now_s}
        return set(self._until_s)

    def without(self, instances: list[Instance]) -> list[Instance]:
        """Those that are not suspected, or all where that leaves none."""
        suspected = self.leases()
        return [one for one in instances if one.lease not in suspected] or instances


class Journey:
    """See the module. `instance` is where the current attempt went; it is a `Call` and a `Sink` itself."""

    def __init__(
        self, peers: Peers, pick: Pick, body: Body, sink: Sink, suspects: Suspects, *, pinned: bool = False
    ) -> None:
        self.instance: Instance | None = None
        self._peers = peers
        self._pick = pick
        self._body = body
        self._sink: Sink | None = sink
        self._suspects = suspects
        self._session = Session(pinned=pinned)
        self._call: Call | None = None
        self._task = asyncio.get_running_loop().create_task(self._advance())

    async def _advance(self) -> None:
        try:
            self.instance = await self._pick(self._session)
        except CallFailed as error:
            self._finish(error.failure)
            return
        self._session = sent(self._session)
        self._call = self._peers.open(self.instance.stream, self._body, self)

    def item(self, body: Body) -> None:
        if not self._session.begun:
            self._session = answered(self._session)
        if self._sink is not None:
            self._sink.item(body)

    def end(self, failure: Failure | None) -> None:
        self._call = None
        if failure is None or self.instance is None:
            self._finish(failure)
            return
        if failure.code == "peer_lost":
            self._suspects.add(self.instance)
        verdict = failed(self._session, self.instance.lease, failure)
        if isinstance(verdict, GiveUp):
            self._finish(verdict.failure)
        elif self._sink is not None:
            log.info("%s failed before its first byte (%s); retrying", self.instance.place, failure.message)
            self._session = verdict.session
            self._task = asyncio.get_running_loop().create_task(self._advance())

    def cancel(self) -> None:
        self._sink = None
        self._task.cancel()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _finish(self, failure: Failure | None) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.end(failure)
