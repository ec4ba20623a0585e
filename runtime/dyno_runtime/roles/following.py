"""A router follows each decode worker: one call to it that never ends by itself; if it does, the worker is lost.

In: the workers that are registered. Out: KV batches, snapshots and load reports to the worker's `Chooser`. A worker
whose connection breaks is forgotten at once, with all that it held, and is back when it answers again.
"""

from __future__ import annotations

import asyncio
import logging

from dyno_runtime.bus.base import Call, CallFailed
from dyno_runtime.bus.peers import Peers
from dyno_runtime.core.chooser import BlockSizeDiffers, Chooser, Worker
from dyno_runtime.wire.kv import KvAsk, KvBatch, KvSnapshot
from dyno_runtime.wire.messages import Body, Events, Failure, Follow, Held, Instance, Load, Replay

log = logging.getLogger("dyno.router")

AGAIN_S = 0.5
AGAIN_AT_MOST_S = 5.0
REPLAY_S = 5.0


class Following:
    """See the module; one for each worker. It is a `Sink` itself."""

    def __init__(self, peers: Peers, chooser: Chooser, instance: Instance) -> None:
        self.instance = instance
        self.chooser = chooser
        self.problem: str | None = None
        self._peers = peers
        self._call: Call | None = None
        self._joined = False  # its first answer came
        self._wait_s = AGAIN_S
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._over = False
        self._join()

    def changed(self, instance: Instance) -> None:
        """It says something new of itself."""
        self.instance = instance
        if self._call is not None:
            self._see()

    def close(self) -> None:
        """It is not registered any more."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        self.chooser.gone(self.instance.lease)

    def ask(self, ask: KvAsk) -> None:
        """Have something told again; one question at a time, the chooser repeats what stays open."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._replay(ask))

    # ---- Sink

    def item(self, body: Body) -> None:
        now_s = asyncio.get_running_loop().time()
        lease = self.instance.lease
        match body:
            case Events(batches) if not self._joined:
                self._answer(batches)
            case Held(snapshot):
                self._answer(snapshot)
            case Events(batches):
                for batch in batches:
                    asked = self.chooser.batch(lease, batch, now_s)
                    if asked is not None:
                        self.ask(asked)
            case Load(report):
                self.chooser.report(lease, report, now_s)
            case _:
                pass

    def end(self, failure: Failure | None) -> None:
        self._call = None
        if self._over:
            return
        if failure is not None:
            log.info("%s is not followed any more: %s", self.instance.place, failure.message)
        self.chooser.gone(self.instance.lease)
        self._timer = asyncio.get_running_loop().call_later(self._wait_s, self._join)
        self._wait_s = min(2 * self._wait_s, AGAIN_AT_MOST_S)

    # ---- within

    def _join(self) -> None:
        self._timer = None
        self._joined = False
        asked = self._see()
        if self.problem is None:
            after = asked.after if asked is not None else 0
            self._call = self._peers.open(self.instance.stream, Follow(after), self)

    def _see(self) -> KvAsk | None:
        one = self.instance
        worker = Worker(one.lease, frozenset([one.model]), one.block_size, one.state != "ready", one.place)
        try:
            asked = self.chooser.seen(worker, asyncio.get_running_loop().time())
        except BlockSizeDiffers as error:
            if self.problem is None:
                log.error("%s: %s", one.place, error)
            self.problem = f"{one.place}: {error}"
            return None
        self.problem = None
        return asked

    def _answer(self, answer: list[KvBatch] | KvSnapshot) -> None:
        self._joined = True
        self._wait_s = AGAIN_S
        self.chooser.answer(self.instance.lease, answer)

    async def _replay(self, ask: KvAsk) -> None:
        try:
            body = await self._peers.ask(self.instance.stream, Replay(ask.after), REPLAY_S)
        except CallFailed as error:
            log.info("%s did not tell again what it holds: %s", self.instance.place, error)
            return
        if isinstance(body, Events):
            self._answer(body.batches)
        elif isinstance(body, Held):
            self._answer(body.snapshot)
