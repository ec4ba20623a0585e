"""How the tokens of one answer are to be chosen: the part of a request that travels on to the engine.

In: what the API layer made of a request; `n` is not here, each of the n answers is a job with a seed of its own.
An engine takes the names in its `capabilities`; whoever asks for another one is refused at the door.
"""

from __future__ import annotations

from typing import Any

import msgspec

Token = int


class Sampling(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """None: not asked for. Lengths in tokens; those of an answer that is continued count only what is new."""

    max_tokens: int | None = None  # None: up to the model's length
    min_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    ignore_eos: bool = False
    stop_token_ids: tuple[Token, ...] = ()
    logprobs: int | None = None  # 0: of the chosen token alone; n: and of the n likeliest
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[Token, float] | None = None
    response_format: dict[str, Any] | None = None  # as OpenAI's field of that name
    priority: int = 0  # the lower, the sooner


class Logprob(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Of one token: its own, and those of the likeliest ones, best first."""

    logprob: float
    top: tuple[tuple[Token, float], ...] = ()
