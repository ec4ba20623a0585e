"""The engine of the hello-world cluster: it answers `<prompt>_GeneratedBy_<HOSTNAME>`, one token per byte.

Its `args` can make it misbehave, for trials and tests: `load_s` (seconds until it is loaded), `fail` (a
sentence: loading fails with it), `hang` (true: it never answers), `generate_s` and `prefill_s` (seconds that one
request takes), `hostname` (another name than this machine's).
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgspec

from dyno_runtime.engine.base import Deliver, Emit, EngineError, Job, Output, Stats


class HelloArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `args` that this engine knows."""

    load_s: float = 0.0
    fail: str | None = None
    hang: bool = False
    generate_s: float = 0.0
    prefill_s: float = 0.0
    hostname: str | None = None


class HelloEngine:
    """Says who it is. It keeps no state but the requests that it delays."""

    slots = 8
    capabilities: frozenset[str] = frozenset()
    deliver: Deliver | None = None

    def __init__(self, args: dict[str, Any]) -> None:
        try:
            self._args = msgspec.convert(args, HelloArgs)
        except msgspec.ValidationError as error:
            raise EngineError(f"engine.args of the hello engine: {error}") from error
        name = self._args.hostname or socket.gethostname()
        self._suffix = list(f"_GeneratedBy_{name}".encode())
        self._timers: dict[str, asyncio.TimerHandle | asyncio.Handle | None] = {}

    async def load(self) -> None:
        if self._args.load_s:
            await asyncio.sleep(self._args.load_s)
        if self._args.fail is not None:
            raise EngineError(self._args.fail)

    def generate(self, job: Job, emit: Emit | None = None) -> None:
        loop = asyncio.get_running_loop()
        if self._args.hang:
            self._timers[job.id] = None
        elif self._args.generate_s:
            self._timers[job.id] = loop.call_later(self._args.generate_s, self._finish, job, emit)
        else:
            self._timers[job.id] = loop.call_soon(self._finish, job, emit)

    def _finish(self, job: Job, emit: Emit | None) -> None:
        del self._timers[job.id]
        tokens = job.tokens + self._suffix
        if emit is not None:
            emit(Output(tokens, "stop"))
        elif self.deliver is not None:
            self.deliver([Output(tokens, "stop", job=job)])

    async def prefill(self, job: Job) -> dict[str, Any] | None:
        await asyncio.sleep(self._args.prefill_s)
        return None

    def abort(self, job_id: str) -> None:
        timer = self._timers.pop(job_id, None)
        if timer is not None:
            timer.cancel()

    def stats(self) -> Stats:
        return Stats(running=len(self._timers))

    async def close(self) -> None:
        for job_id in list(self._timers):
            self.abort(job_id)
