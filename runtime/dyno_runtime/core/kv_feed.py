"""One worker's KV events in their order, as one router takes them.

In: batches as they come, load reports, answers to what was asked. Out: the batches or the snapshot to apply
now, and from time to time a `KvAsk`. A batch that came twice is ignored; one that came too early waits until
the gap is filled.
"""

from __future__ import annotations

from collections.abc import Iterable

from dyno_runtime.wire.kv import KvAsk, KvBatch, KvSnapshot

MAX_EARLY = 256  # batches that may wait for a gap to be filled; above, they are asked for again
PATIENCE_S = 0.25  # a report may overtake a batch on its way by this much
ASK_AGAIN_S = 1.0
ASK_AGAIN_AT_MOST_S = 30.0


class Feed:
    """See the module."""

    def __init__(self) -> None:
        self.seq = 0
        self.newest = 0  # the highest number that was heard of
        self._early: dict[int, KvBatch] = {}
        self._behind_since_s: float | None = None
        self._ask_at_s: float | None = None
        self._wait_s = ASK_AGAIN_S

    @property
    def behind(self) -> bool:
        """Something is missing."""
        return self.newest > self.seq

    def join(self, now_s: float) -> KvAsk:
        """The first question to a worker that has just appeared: it may have lived for long."""
        self._behind_since_s = now_s
        self._ask_at_s = now_s + self._wait_s
        return KvAsk(self.seq)

    def take(self, batch: KvBatch, now_s: float) -> tuple[list[KvBatch], KvAsk | None]:
        """A batch came: what to apply now, and what to ask."""
        self.newest = max(self.newest, batch.seq)
        if batch.seq > self.seq + 1:
            if len(self._early) < MAX_EARLY:
                self._early[batch.seq] = batch
            return [], self._gap(now_s)
        if batch.seq <= self.seq:
            return [], None
        return [batch, *self._follow(batch.seq)], None

    def replay(self, batches: Iterable[KvBatch]) -> list[KvBatch]:
        """The answer to an ask, oldest first: what to apply now."""
        ready = []
        for batch in batches:
            self.newest = max(self.newest, batch.seq)
            if batch.seq == self.seq + 1:
                ready += [batch, *self._follow(batch.seq)]
        if not self.behind:
            self._calm()
        return ready

    def snapshot(self, snapshot: KvSnapshot) -> list[KvBatch] | None:
        """The answer to an ask: None to ignore it as outdated, else start from it and then apply these."""
        if snapshot.seq < self.seq:
            return None
        return self._follow(snapshot.seq)

    def heard(self, newest: int, now_s: float) -> None:
        """A report says that this batch was sent: so a lost last batch is missed, too. See `due`."""
        self.newest = max(self.newest, newest)
        if self.behind and self._behind_since_s is None:
            self._behind_since_s = now_s
            self._ask_at_s = now_s + PATIENCE_S

    def due(self, now_s: float) -> KvAsk | None:
        """What to ask now, because it is missing for long or because an answer did not come."""
        if self._ask_at_s is None or now_s < self._ask_at_s:
            return None
        self._ask_at_s = now_s + self._wait_s
        self._wait_s = min(self._wait_s * 2, ASK_AGAIN_AT_MOST_S)
        return KvAsk(self.seq)

    def _gap(self, now_s: float) -> KvAsk | None:
        if self._behind_since_s is not None:
            return self.due(now_s)
        return self.join(now_s)

    def _follow(self, seq: int) -> list[KvBatch]:
        """Batch `seq` is in: so are the early ones that follow it."""
        ready = []
        while (batch := self._early.pop(seq + 1, None)) is not None:
            ready.append(batch)
            seq += 1
        self.seq = seq
        self.newest = max(self.newest, seq)
        if self._early:
            self._early = {number: batch for number, batch in self._early.items() if number > seq}
        if not self.behind:
            self._calm()
        return ready

    def _calm(self) -> None:
        self._behind_since_s = self._ask_at_s = None
        self._wait_s = ASK_AGAIN_S
