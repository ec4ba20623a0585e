"""One rank's part of an engine that is larger than a node: the engine's head is in another process, on another node.

In: the process's settings. Out: `RankEngine`. A rank takes no requests; its head has it work.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class RankEngine(Protocol):
    """The seam to what computes for a head elsewhere."""

    async def load(self, engine_id: str) -> None:
        """Get ready together with the head, which named the engine, however long that takes. Raises EngineError."""

    async def ended(self) -> str:
        """Wait until it dies by itself; why, as a sentence."""

    async def close(self) -> None:
        """Release what was loaded, also in the middle of loading."""


class NoRank:
    """The rank of an engine that does all its work at the head: the mock and hello."""

    async def load(self, engine_id: str) -> None:
        """Nothing to load."""

    async def ended(self) -> str:
        await asyncio.Event().wait()
        return "it never ends"

    async def close(self) -> None:
        """Nothing to release."""
