"""What makes the tokens: the model, the engine, and the split of prefill from decode.

In: plain values. Out: frozen models; `Engine.overridden` lays a role's values over the defaults.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dynoctl.topology.part import Part
from dynoctl.topology.scalars import Count, Positive, Seconds, Text

EngineKind = Literal["hello", "mock", "vllm"]
DisaggMode = Literal["off", "always", "conditional"]


class Model(Part):
    """The model that is served."""

    id: Text = Field(description="A hub id, or a folder on the nodes.", examples=["model"])
    served_name: Text | None = Field(default=None, description="What clients ask for; else the id.")

    @property
    def name(self) -> str:
        """What clients ask for."""
        return self.served_name or self.id


class EngineOverride(Part):
    """What differs for one role from `engine` at the top. Its `args` are laid over those, key by key."""

    kind: EngineKind | None = Field(default=None, description="Which engine.")
    block_size: Positive | None = Field(default=None, description="Tokens in one block of the KV cache.")
    max_model_len: Positive | None = Field(default=None, description="The longest sequence, in tokens.")
    args: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the engine, given to it verbatim."
    )


class Engine(Part):
    """The engine of every worker; a role may override any key."""

    kind: EngineKind = Field(
        description="Which engine: 'hello' echoes prompts and needs no model, no GPU.", examples=["hello"]
    )
    block_size: Positive = Field(default=64, description="Tokens in one block of the KV cache.")
    max_model_len: Positive = Field(default=8192, description="The longest sequence, in tokens.")
    args: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the engine, given to it verbatim."
    )

    def overridden(self, by: EngineOverride) -> Engine:
        """This engine with the values that a role gives."""
        keys = {argument_key(key) for key in by.args}
        kept = {key: value for key, value in self.args.items() if argument_key(key) not in keys}
        given = {key: value for key in ("kind", "block_size", "max_model_len") if (value := getattr(by, key))}
        return self.model_copy(update={**given, "args": {**kept, **by.args}})


def argument_key(key: str) -> str:
    """What two spellings of one argument have in common: `max-num-seqs` is `max_num_seqs`."""
    return key.lstrip("-").replace("-", "_")


class Disagg(Part):
    """Where prefill runs."""

    mode: DisaggMode = Field(
        default="off",
        description="'off': each worker does its own; 'always': on prefill workers; 'conditional': there when the prompt is long and the queue short.",
    )
    max_local_prefill_length: Count = Field(
        default=10,
        description="Longest prompt, in tokens that no cache holds, that decode prefills itself (conditional).",
    )
    max_prefill_queue_size: Positive = Field(
        default=2, description="Queue length from which decode prefills itself (conditional)."
    )
    prefill_timeout_s: Seconds = Field(
        default=30.0,
        description="How long decode waits for a prefill worker before it prefills itself, in seconds.",
    )
