"""Prefill here or elsewhere? In: the request's length, what is cached, the queue. Out: `Local` or `Remote`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["off", "always", "conditional"]


@dataclass(frozen=True)
class Limits:
    """When a prefill is worth sending away; both bounds are strict."""

    mode: Mode
    max_local_prefill_length: int
    max_prefill_queue_size: int


@dataclass(frozen=True)
class Local:
    """Prefill at the decode worker; `why` is for the log."""

    why: str


@dataclass(frozen=True)
class Remote:
    """Push to the prefill queue."""


@dataclass(frozen=True)
class Outlook:
    """What the decode worker knows when it decides.

    `queue_depth` is the number of tasks that nobody has pulled yet, None where the queue cannot be asked.
    """

    prompt_tokens: int
    matched_tokens: int
    prefill_workers: int
    queue_depth: int | None
    forced: bool = False  # the request asks for a remote prefill whatever its length


def decide(limits: Limits, outlook: Outlook) -> Local | Remote:
    """Remote if the mode and the limits say so and somebody is there to do it."""
    if limits.mode == "off":
        return Local("disaggregation is off")
    if outlook.prefill_workers == 0:
        return Local("no prefill worker is registered")
    if outlook.queue_depth is None:
        return Local("the prefill queue does not answer")
    if limits.mode == "always" or outlook.forced:
        return Remote()
    if outlook.prompt_tokens - outlook.matched_tokens <= limits.max_local_prefill_length:
        return Local("the prompt is short")
    if outlook.queue_depth >= limits.max_prefill_queue_size:
        return Local("the prefill queue is full")
    return Remote()
