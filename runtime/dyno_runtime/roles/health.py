"""What a process says of itself: `health.json`, replaced by rename, at every change and every two seconds.

In: a way to ask the process what is true now. Out: the file of docs/architecture.md. A disk that is full is
logged once and does not stop the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from dyno_runtime.clock import uptime_s

log = logging.getLogger("dyno.health")

BEAT_S = 2.0

EngineState = Literal["none", "loading", "ready", "failed"]


class RoleHealth(msgspec.Struct):
    """One role of the process. `problem` is a sentence for people."""

    port: bool
    registered: bool
    engine: EngineState
    lease: str
    problem: str | None


class Health(msgspec.Struct):
    """The file. `sees` counts registered instances by role; `beat_s` is uptime at writing."""

    unit: str
    pid: int
    beat_s: float
    roles: dict[str, RoleHealth]
    sees: dict[str, int]
    bus: dict[str, Literal["up", "down"]]


class HealthFile:
    """Writes what `look` returns."""

    def __init__(self, path: Path, look: Callable[[], Health]) -> None:
        self._path = path
        self._look = look
        self._beat: asyncio.TimerHandle | None = None
        self._soon = False
        self._failed = False

    def start(self) -> None:
        """Write now, and from now on every BEAT_S."""
        self.write()
        self._beat = asyncio.get_running_loop().call_later(BEAT_S, self.start)

    def changed(self) -> None:
        """Something changed; all changes of one turn of the loop are one write."""
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self.write)

    def write(self) -> None:
        """Replace the file."""
        self._soon = False
        health = self._look()
        health.beat_s = round(uptime_s(), 3)
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            part.write_bytes(msgspec.json.encode(health))
            part.replace(self._path)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("cannot write %s: %s", self._path, error.strerror)
            self._failed = True

    def stop(self) -> None:
        """Write a last time."""
        if self._beat is not None:
            self._beat.cancel()
        self.write()
