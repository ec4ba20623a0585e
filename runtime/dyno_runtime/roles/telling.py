"""A worker tells routers what KV blocks it holds and how loaded it is, over the connections that they open.

In: the engine's KV events and its load; `Follow` and `Replay` from routers. Out: `Events`, `Held` and `Load`. It
needs no NATS, so routing stays as good without it; a router that was lost asks for everything again.
"""

from __future__ import annotations

import asyncio
import logging

from dyno_runtime.bus.base import Reply
from dyno_runtime.core.kv_ledger import Ledger
from dyno_runtime.engine.base import Engine, KvCleared, KvEvents, KvHolder, KvRemoved, KvStored
from dyno_runtime.roles.base import Surroundings
from dyno_runtime.wire.kv import KvSnapshot, LoadReport
from dyno_runtime.wire.messages import Events, Follow, Held, Load, Replay

log = logging.getLogger("dyno.kv")

REPORT_S = 0.1
REPORT_AT_LEAST_S = 1.0


class Telling:
    """See the module; one for each decode worker, made before its engine is loaded."""

    def __init__(self, around: Surroundings, engine: Engine) -> None:
        self.ledger = Ledger()
        self._around = around
        self._engine = engine
        self._engine_seq = 0
        self._followers: dict[Reply, None] = {}  # in the order in which they came
        self._reported: LoadReport | None = None
        self._reported_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        if isinstance(engine, KvHolder):
            engine.on_kv = self._on_kv

    def start(self) -> None:
        """Listen for routers."""
        self._around.peers.on(Follow, self._on_follow)
        self._around.peers.on(Replay, self._on_replay)

    def stop(self) -> None:
        """No more reports."""
        if self._timer is not None:
            self._timer.cancel()
        for follower in list(self._followers):
            follower.end()
        self._followers.clear()

    # ---- routers

    def _on_follow(self, follow: Follow, reply: Reply) -> None:
        reply.on_cancel = lambda: self._followers.pop(reply, None)
        reply.send(self._since(follow.after))
        reply.send(Load(self._report()))
        self._followers[reply] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(REPORT_S, self._tick)

    def _on_replay(self, replay: Replay, reply: Reply) -> None:
        reply.send(self._since(replay.after))
        reply.end()

    def _since(self, after: int) -> Events | Held:
        answer = self.ledger.since(after)
        return Held(answer) if isinstance(answer, KvSnapshot) else Events(answer)

    # ---- the engine's events

    def _on_kv(self, events: KvEvents) -> None:
        """The changes of one step."""
        expected, self._engine_seq = self._engine_seq + 1, events.seq
        if events.seq == expected:
            self._apply(events)
        else:
            self._recount(events.seq - expected)
        batch = self.ledger.flush()
        if batch is not None and self._followers:
            told = Events([batch])
            for follower in list(self._followers):
                follower.send(told)

    def _apply(self, events: KvEvents) -> None:
        for change in events.changes:
            match change:
                case KvStored():
                    self.ledger.stored(change.hashes)
                case KvRemoved():
                    self.ledger.removed(change.hashes)
                case KvCleared():
                    self.ledger.cleared()

    def _recount(self, lost: int) -> None:
        """The engine lost events: take stock of what it holds."""
        assert isinstance(self._engine, KvHolder)
        self._engine_seq, blocks = self._engine.held()
        held = set(blocks)
        log.warning("the engine lost %d KV events; %d blocks counted anew", lost, len(held))
        self.ledger.removed(self.ledger.held - held)
        self.ledger.stored(block for block in blocks if block not in self.ledger.held)

    # ---- load

    def _tick(self) -> None:
        self._timer = None
        if not self._followers:
            return
        loop = asyncio.get_running_loop()
        report = self._report()
        if report != self._reported or loop.time() - self._reported_s >= REPORT_AT_LEAST_S:
            self._reported, self._reported_s = report, loop.time()
            told = Load(report)
            for follower in list(self._followers):
                follower.send(told)
        self._timer = loop.call_later(REPORT_S, self._tick)

    def _report(self) -> LoadReport:
        stats = self._engine.stats()
        return LoadReport(
            running=stats.running,
            waiting=stats.waiting,
            queued_tokens=stats.queued_tokens,
            active_blocks=stats.active_blocks,
            total_blocks=stats.total_blocks,
            prefill_tokens_per_s=stats.prefill_tokens_per_s,
            kv_seq=self.ledger.seq,
        )
