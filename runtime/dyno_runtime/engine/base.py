"""What every engine can do: token ids in, new token ids out through a callback, no task and no await per token.

`load` comes first and once. `generate` returns at once; what it makes is told from the event loop, in order, and
exactly once with a `finish`. After `abort` nothing is told of that job any more.

All outputs of one step come in one call of `deliver`, so that all of them for one peer can travel in one frame. A
job with an `emit` of its own is left out there: that is for callers of a single job.

EngineError
├── BadJob         no engine like this could ever do it: too long, or the KV of another prompt
└── Overloaded     a bound is reached; another worker may have room
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import Token
from dyno_runtime.wire.sampling import Logprob as Logprob
from dyno_runtime.wire.sampling import Sampling

Finish = Literal["stop", "length", "error"]

# `core.blocks.block_hashes`: tokens, block size, parent or salt. Engines get it when they are made.
HashBlocks = Callable[[Sequence[Token], int, BlockHash], list[BlockHash]]


class EngineError(Exception):
    """The engine could not be loaded, or failed on a request; the message is a sentence."""


class BadJob(EngineError):
    """The job itself is wrong."""


class Overloaded(EngineError):
    """The engine does not take any more now."""


class Job(msgspec.Struct, frozen=True, eq=False):
    """One request for the engine. `id` is unique among the live jobs of the process.

    `kv` is what a remote prefill handed over, passed on untouched. `answered`: the last so many of `tokens` are the
    beginning of the answer, made elsewhere before; the engine goes on from there. `salt` is the parent of the first
    block, and `blocks` the hashes of the full blocks where the caller has them already. `owner` is the caller's
    own, never looked at.
    """

    id: str
    tokens: list[Token]
    sampling: Sampling = Sampling()
    kv: dict[str, Any] | None = None
    answered: int = 0
    salt: BlockHash = 0
    blocks: Sequence[BlockHash] | None = None
    owner: Any = None


class Output(msgspec.Struct, frozen=True, gc=False):
    """New tokens of one job. `error` is a sentence, set where `finish` is `error`; `bad`: the job itself is wrong.

    `cached_tokens` comes with the first output only: how many tokens of the prompt were not computed. `logprobs` has
    one entry a token where they were asked for.
    """

    tokens: list[Token]
    finish: Finish | None = None
    error: str | None = None
    job: Job | None = None
    cached_tokens: int | None = None
    logprobs: list[Logprob] | None = None
    bad: bool = False


Emit = Callable[[Output], None]
Deliver = Callable[[list[Output]], None]


@dataclass(frozen=True)
class Stats:
    """The load right now, in requests, prompt tokens that wait to be computed, and KV blocks.

    `active_blocks` are in use by requests; what is only cached is in `cached_blocks`. 0 where an engine has none.
    """

    running: int
    waiting: int = 0
    queued_tokens: int = 0
    active_blocks: int = 0
    cached_blocks: int = 0
    total_blocks: int = 0
    prefill_tokens_per_s: float = 0.0


class Engine(Protocol):
    """The seam to everything that makes tokens. `deliver` is set before `load`."""

    slots: int  # how many prefills it can work on at a time
    capabilities: frozenset[str]  # the fields of `Sampling` that it heeds
    deliver: Deliver | None

    async def load(self) -> None:
        """Get ready, however long that takes. Raises EngineError."""

    def generate(self, job: Job, emit: Emit | None = None) -> None:
        """Start making tokens for `job`. Raises EngineError, and then nothing is told of the job."""

    async def prefill(self, job: Job) -> dict[str, Any] | None:
        """Compute the KV of the job's tokens, bring it where `job.kv` says, and say how decode finds it.

        A `lease_s` in it says how long, from now on, it may be fetched.
        Cancelled, it forgets the job. Raises EngineError.
        """

    def abort(self, job_id: str) -> None:
        """Stop a job that `generate` or `reserve` took; its blocks are free at once; unknown ids are fine."""

    def stats(self) -> Stats:
        """What runs and waits."""

    async def close(self) -> None:
        """Abort everything and release what was loaded."""


# ---- engines whose KV others may see and write ---------------------------------------------------------


class KvStored(msgspec.Struct, frozen=True, gc=False):
    """These blocks, one after the other, can be reused now. `parent` comes before the first (a salt, or a block)."""

    hashes: list[BlockHash]
    parent: BlockHash
    tokens: list[Token]


class KvRemoved(msgspec.Struct, frozen=True, gc=False):
    """These cannot be reused any more."""

    hashes: list[BlockHash]


class KvCleared(msgspec.Struct, frozen=True, gc=False):
    """None can be reused any more."""


class KvEvents(msgspec.Struct, frozen=True, gc=False):
    """What changed in one step, in this order. `seq` counts from 1; a number left out was lost, ask `held`."""

    seq: int
    changes: list[KvStored | KvRemoved | KvCleared]


OnKv = Callable[[KvEvents], None]


@runtime_checkable
class KvHolder(Protocol):
    """What an engine has besides, if its KV can be seen and written from outside. `on_kv` is set before `load`."""

    on_kv: OnKv | None

    def held(self) -> tuple[int, list[BlockHash]]:
        """All blocks that can be reused, after the events with this number."""

    def reserve(self, job: Job) -> dict[str, Any] | None:
        """Set blocks aside for a job whose KV a prefill worker shall write, and say where; None: no room now.

        The next call for that id is `generate`, with the KV or, if that never came, without; or `abort`. Raises
        EngineError.
        """


# ---- engines that count what they do -------------------------------------------------------------------


@runtime_checkable
class Mortal(Protocol):
    """What an engine has besides, if parts of it are other processes."""

    async def ended(self) -> str:
        """Wait until one of them dies by itself; why, as a sentence. Nothing is told of its requests then."""


@runtime_checkable
class Transferring(Protocol):
    """What an engine has besides, if it exchanges KV with others only where both agree on some terms."""

    terms: dict[str, str]  # known once it is loaded


class Totals(msgspec.Struct, frozen=True):
    """What an engine did since `load`: each number only ever grows, and stays 0 where an engine never does that.

    A token of a prompt has its KV from one of three sources: it was computed here, found in this engine's own cache,
    or brought from another engine. A prompt that is computed again after a preemption counts again.
    """

    computed_tokens: int = 0
    local_cache_hit_tokens: int = 0
    external_kv_transfer_tokens: int = 0
    preemptions: int = 0
    kv_sent_bytes: int = 0
    kv_received_bytes: int = 0
    kv_transfers: int = 0  # that brought KV here
    failed_kv_transfers: int = 0


@runtime_checkable
class Counting(Protocol):
    """What an engine has besides, if it counts. Both are asked every few seconds, and are cheap."""

    def totals(self) -> Totals:
        """What it did so far; all 0 before `load`."""

    def take_waits(self) -> list[float]:
        """How long each request whose prefill began since the last call had waited for that, in seconds.

        Of at most the last few thousand; whoever never asks must not make it grow.
        """
