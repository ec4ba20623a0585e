"""A few keys of the store, watched for as long as the process lives.

In: a prefix. Out: `put` and `gone` to a `KeyListener`, first for all that is there. While the store is away nothing
is told, so everybody goes on with what was there last; what changed meanwhile is told when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random
from typing import Protocol

from dyno_runtime.bus.base import Down, Refused, Store

log = logging.getLogger("dyno.keys")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0


class KeyListener(Protocol):
    """Who wants to know."""

    def put(self, key: str, value: bytes) -> None:
        """The key is there, with this value."""

    def gone(self, key: str) -> None:
        """The key is not there any more."""


class Keys:
    """See the module."""

    def __init__(self, store: Store, prefix: str, rng: Random, listener: KeyListener) -> None:
        self._store = store
        self._prefix = prefix
        self._rng = rng
        self._listener = listener
        self._known: dict[str, bytes] = {}

    async def watch(self) -> None:
        """Tell of everything, until cancelled."""
        failures = 0
        while True:
            try:
                snapshot = await self._store.read(self._prefix)
                failures = 0
                for key in self._known.keys() - snapshot.entries.keys():
                    self._take(key, None)
                for key, value in snapshot.entries.items():
                    self._take(key, value)
                async for change in self._store.watch(self._prefix, snapshot.revision + 1):
                    self._take(change.key, change.value)
            except (Down, Refused) as error:
                failures += 1
                log.debug("watching %s again: %s", self._prefix, error)
                longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failures, 10))
                await asyncio.sleep(longest * self._rng.uniform(0.5, 1.0))

    def _take(self, key: str, value: bytes | None) -> None:
        before = self._known.get(key)
        if value == before:
            return
        if value is None:
            del self._known[key]
            self._listener.gone(key)
        else:
            self._known[key] = value
            self._listener.put(key, value)
