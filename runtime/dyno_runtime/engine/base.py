"""What every engine can do: token ids in, new token ids out through a callback, no task and no await per token.

`load` comes first and once. `generate` returns at once; its callback is called from the event loop, in order,
and exactly once with a `finish`. After `abort` it is not called again for that job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from dyno_runtime.wire.messages import Token

Finish = Literal["stop", "length", "error"]


class EngineError(Exception):
    """The engine could not be loaded, or failed on a request; the message is a sentence."""


@dataclass(frozen=True)
class Job:
    """One request for the engine. `id` is unique among the live jobs of the process.

    `sampling` are the engine's own names; `kv` is what a remote prefill handed over, passed on untouched.
    """

    id: str
    tokens: list[Token]
    sampling: dict[str, Any] = field(default_factory=dict)
    kv: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """New tokens of one job. `error` is a sentence, set where `finish` is `error`."""

    tokens: list[Token]
    finish: Finish | None = None
    error: str | None = None


@dataclass(frozen=True)
class Stats:
    """The load right now, in requests."""

    running: int
    waiting: int = 0


class Engine(Protocol):
    """The seam to everything that makes tokens."""

    slots: int  # how many prefills it can work on at a time

    async def load(self) -> None:
        """Get ready, however long that takes. Raises EngineError."""

    def generate(self, job: Job, emit: Callable[[Output], None]) -> None:
        """Start making tokens for `job`."""

    async def prefill(self, job: Job) -> dict[str, Any] | None:
        """Compute the KV of the job's tokens and say how decode gets it. Raises EngineError."""

    def abort(self, job_id: str) -> None:
        """Stop a job that `generate` started; unknown ids are fine."""

    def stats(self) -> Stats:
        """What runs and waits."""

    async def close(self) -> None:
        """Abort everything and release what was loaded."""
