"""`Queue` in one process, with redelivery, and a fault.

In: a `Broker` that all processes of a simulation share, a model. Out: a `MemoryQueue` for each of them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass

from dyno_runtime.bus.base import Down


@dataclass
class _Entry:
    number: int
    model: str
    data: bytes
    deliveries: int = 0
    claim: asyncio.TimerHandle | None = None


class Broker:
    """The state that all queues share."""

    def __init__(self, ack_wait_s: float = 5.0, max_deliveries: int = 3) -> None:
        self.down = False
        self.ack_wait_s = ack_wait_s
        self.max_deliveries = max_deliveries
        self.newest = 0
        self.waiting: defaultdict[str, deque[_Entry]] = defaultdict(deque)  # by model
        self.pulled: dict[int, _Entry] = {}
        self.came = asyncio.Condition()
        self._ids: set[str] = set()

    def check(self) -> None:
        """Raise what the fault says."""
        if self.down:
            raise Down("NATS in memory does not answer")

    async def add(self, item_id: str, model: str, data: bytes) -> None:
        """A new item, unless its id is known."""
        if item_id not in self._ids:
            self._ids.add(item_id)
            self.newest += 1
            await self.offer(_Entry(self.newest, model, data))

    async def offer(self, entry: _Entry) -> None:
        """Somebody may pull it."""
        self.waiting[entry.model].append(entry)
        async with self.came:
            self.came.notify_all()  # one of those who wait may be of another model

    def claim(self, entry: _Entry) -> None:
        """It belongs to the one who pulled it, for a while."""
        if entry.claim is not None:
            entry.claim.cancel()
        loop = asyncio.get_running_loop()
        entry.claim = loop.call_later(self.ack_wait_s, lambda: loop.create_task(self.reclaim(entry)))

    async def reclaim(self, entry: _Entry) -> None:
        """Give it out again, if it was not given out too often."""
        if self.pulled.pop(entry.number, None) is not None:
            self.settle(entry)
            if entry.deliveries < self.max_deliveries:
                await self.offer(entry)

    def settle(self, entry: _Entry) -> None:
        """Nobody claims it any more."""
        self.pulled.pop(entry.number, None)
        if entry.claim is not None:
            entry.claim.cancel()
            entry.claim = None

    def close(self) -> None:
        """Stop the timers."""
        for entry in list(self.pulled.values()):
            self.settle(entry)


@dataclass
class MemoryWork:
    """`Work` of a `MemoryQueue`."""

    data: bytes
    _entry: _Entry
    _broker: Broker

    async def ack(self) -> None:
        self._broker.check()
        self._broker.settle(self._entry)

    async def give_back(self) -> None:
        self._broker.check()
        await self._broker.reclaim(self._entry)

    async def still_working(self) -> None:
        self._broker.check()
        self._broker.claim(self._entry)


class MemoryQueue:
    """`Queue` over a `Broker`."""

    def __init__(self, broker: Broker, model: str) -> None:
        self._broker = broker
        self._model = model

    @property
    def up(self) -> bool:
        """It can be asked."""
        return not self._broker.down

    async def push(self, item_id: str, data: bytes) -> None:
        self._broker.check()
        await self._broker.add(item_id, self._model, data)

    async def pull(self, wait_s: float) -> MemoryWork | None:
        broker = self._broker
        broker.check()
        try:
            async with asyncio.timeout(wait_s), broker.came:
                await broker.came.wait_for(lambda: bool(broker.waiting[self._model]))
        except TimeoutError:
            return None
        broker.check()
        entry = broker.waiting[self._model].popleft()
        entry.deliveries += 1
        broker.pulled[entry.number] = entry
        broker.claim(entry)
        return MemoryWork(entry.data, entry, broker)

    async def depth(self) -> int:
        self._broker.check()
        return len(self._broker.waiting[self._model])

    async def last(self) -> int:
        self._broker.check()
        return self._broker.newest

    async def purge(self, up_to: int) -> None:
        self._broker.check()
        kept = [one for one in self._broker.waiting[self._model] if one.number > up_to]
        self._broker.waiting[self._model] = deque(kept)

    async def close(self) -> None:
        pass
