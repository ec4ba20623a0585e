"""What the mock engine can be told: how fast it is, how large, and how it misbehaves.

In: `engine.args` of the topology; a dash in a name is as good as an underscore. Out: `MockArgs`, checked.
"""

from __future__ import annotations

from math import inf
from typing import Annotated, Any, Literal

import msgspec

from dyno_runtime.engine.base import EngineError

Count = Annotated[int, msgspec.Meta(ge=1)]
Every = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Rate = Annotated[float, msgspec.Meta(gt=0)]


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong. `..._every`: each n-th of them, 1 is all, 0 is none. They can be changed at any time."""

    die: bool = False  # before the next step
    die_after_tokens: Count | None = None  # counted from the start, or from when this was set
    hang: bool = False  # no steps and no transfers, but it still answers
    slow: Rate = 1.0  # steps and transfers take this many times as long
    fail_every: Every = 0  # requests end in an error instead of a first token
    silent_every: Every = 0  # answers that end without a token
    reject_every: Every = 0  # requests are refused as if the queue were full
    fail_transfer_every: Every = 0
    drop_kv_every: Every = 0  # batches of KV events that nobody hears of
    repeat_kv_every: Every = 0  # batches of KV events that are told twice


class MockArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step takes `step_base_s`, `step_seq_s` for each request in decode, `step_context_token_s` for each token
    that these have behind them, and the time of its prefill tokens; everything divided by `speedup`.
    """

    kv_blocks: Count = 8192
    max_num_seqs: Count = 256
    max_num_batched_tokens: Count = 2048
    max_waiting: Count = 4096  # requests; above, they are refused
    prefill_slots: Count = 8
    enable_prefix_caching: bool = True
    prefill_tokens_per_s: Rate = 8000.0
    step_base_s: Seconds = 0.006
    step_seq_s: Seconds = 0.00035
    step_context_token_s: Seconds = 1e-8
    transfer_bytes_per_s: Rate = 10e9
    bytes_per_token: Count = 131_072
    reserve_s: Seconds = 120.0  # blocks set aside for a remote prefill are given up after this
    speedup: Rate | Literal["inf"] = 1.0
    turn_tokens: Count = 256  # at speedup inf, made in one turn of the event loop
    load_s: Seconds = 0.0
    fail: str | None = None  # a sentence: loading fails with it
    seed: int = 0
    shortest_answer: Count = 32  # tokens until the end of the answer, unless a request says otherwise
    longest_answer: Count = 256
    faults: Faults = Faults()

    def __post_init__(self) -> None:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError("max_num_batched_tokens must not be less than max_num_seqs")
        if self.longest_answer < self.shortest_answer:
            raise ValueError("longest_answer must not be less than shortest_answer")

    @property
    def factor(self) -> float:
        """The speedup as a number."""
        return inf if self.speedup == "inf" else self.speedup

    def step_s(self, decoding: int, context_tokens: int, prefill_tokens: int) -> float:
        """How long a step takes, before `speedup`."""
        return (
            self.step_base_s
            + self.step_seq_s * decoding
            + self.step_context_token_s * context_tokens
            + prefill_tokens / self.prefill_tokens_per_s
        )


def read_args(args: dict[str, Any]) -> MockArgs:
    """The args of a topology. Raises EngineError with the name of what is wrong."""
    try:
        return msgspec.convert({name.replace("-", "_"): value for name, value in args.items()}, MockArgs)
    except msgspec.ValidationError as error:
        raise EngineError(f"engine.args of the mock engine: {error}") from error
