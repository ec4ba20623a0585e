"""What makes the tokens: the model, the engine, and the split of prefill from decode.

In: nothing. Out: frozen models, one a section of the file; `Engine.overridden` lays a
role's values over the defaults.
"""

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from dynoctl.topology.part import Part
from dynoctl.topology.scalars import Count, Label, Positive, Seconds, Text

EngineKind = Literal["hello", "mock", "vllm"]
Device = Literal["cuda", "cpu"]
DisaggMode = Literal["off", "always", "conditional"]
Connector = Literal["nixl", "nixl-push"]
ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)


class Model(Part, frozen=True):
    """The model that is served."""

    id: Annotated[Text, Meta(description="A hub id, or a folder on the nodes.", examples=["hello"])]
    served_name: Annotated[Text | None, Meta(description="What clients ask for; else the id.")] = None
    stage_from: Annotated[
        Label | None,
        Meta(
            description="The node that has the model's folder; nodes that lack files of it get them from there."
        ),
    ] = None

    @property
    def name(self) -> str:
        """What clients ask for."""
        return self.served_name or self.id


class EngineOverride(Part, frozen=True):
    """What differs for one role from `engine` at the top. `args` are laid over those, key by key."""

    kind: Annotated[EngineKind | None, Meta(description="Which engine.")] = None
    device: Annotated[Device | None, Meta(description="What vLLM computes on.")] = None
    block_size: Annotated[Positive | None, Meta(description="Tokens in one block of the KV cache.")] = None
    max_model_len: Annotated[Positive | None, Meta(description="Longest sequence, in tokens.")] = None
    args: Annotated[dict[str, Any], Meta(description="Arguments of the engine, given to it verbatim.")] = {}  # noqa: RUF012 - copied for each instance


class Engine(Part, frozen=True):
    """The engine of every worker; a role may override any key."""

    kind: Annotated[
        EngineKind,
        Meta(
            description="Which engine; `vllm` is a real one, `mock` behaves like one, and `hello` echoes prompts: "
            "the last two need neither model nor GPU.",
            examples=["mock"],
        ),
    ]
    device: Annotated[
        Device,
        Meta(description="What vLLM computes on: GPUs, or with `cpu` the processor, which takes no GPU."),
    ] = "cuda"
    block_size: Annotated[Positive, Meta(description="Tokens in one block of the KV cache.")] = 64
    max_model_len: Annotated[Positive, Meta(description="Longest sequence, in tokens.")] = 8192
    args: Annotated[dict[str, Any], Meta(description="Arguments of the engine, given to it verbatim.")] = {}  # noqa: RUF012 - copied for each instance

    @property
    def on_gpus(self) -> bool:
        """Whether its workers take GPUs."""
        return self.kind == "vllm" and self.device == "cuda"

    def overridden(self, by: EngineOverride) -> "Engine":
        """This engine with the values that a role gives. Arguments are of one kind: another kind begins without."""
        if by.kind not in (None, self.kind):
            return Engine(
                kind=by.kind,
                device=by.device or "cuda",
                block_size=by.block_size or self.block_size,
                max_model_len=by.max_model_len or self.max_model_len,
                args=by.args,
            )
        replaced = {argument_name(key) for key in by.args}
        kept = {key: value for key, value in self.args.items() if argument_name(key) not in replaced}
        return msgspec.structs.replace(
            self,
            kind=by.kind or self.kind,
            device=by.device or self.device,
            block_size=by.block_size or self.block_size,
            max_model_len=by.max_model_len or self.max_model_len,
            args={**kept, **by.args},
        )


def argument_name(key: str) -> str:
    """What two spellings of one argument have in common: `max-num-seqs` is `max_num_seqs`."""
    return key.lstrip("-").replace("-", "_")


class Disagg(Part, frozen=True):
    """Where prefill runs."""

    mode: Annotated[
        DisaggMode,
        Meta(
            description="`off`: each worker prefills for itself; `always`: prefill workers do; "
            "`conditional`: they do where the prompt is long and their queue short."
        ),
    ] = "off"
    max_local_prefill_length: Annotated[
        Count,
        Meta(description="Up to so many tokens that no cache holds, decode prefills itself (conditional)."),
    ] = 10
    max_prefill_queue_size: Annotated[
        Positive, Meta(description="With so many waiting in the queue, decode prefills itself (conditional).")
    ] = 2
    connector: Annotated[
        Connector,
        Meta(
            description="How KV travels between vLLM workers: `nixl`, decode reads it from the prefill worker; "
            "`nixl-push`, the prefill worker writes it into decode's blocks."
        ),
    ] = "nixl"
    prefill_timeout_s: Annotated[
        Seconds, Meta(description="After so many seconds without an answer, decode prefills itself.")
    ] = 30.0
