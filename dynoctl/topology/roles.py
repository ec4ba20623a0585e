"""Who does the work: the roles, where each one stands and in how many units.

In: plain values; a role is a map or a list of maps. Out: frozen models; `Role.sites` is the one shape of
`node`, `nodes` and `span`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from dynoctl.topology.engine import EngineOverride, Model
from dynoctl.topology.part import Part, listed
from dynoctl.topology.scalars import Count, Flag, Label, Port, Positive
from dynoctl.topology.secret import Env

RoleName = Literal["frontend", "processor", "router", "decode", "prefill"]
Policy = Literal["similar", "random", "round_robin", "least_loaded", "prefix", "kv", "kv_classic"]


class Role(Part):
    """Where a role stands."""

    node: Label | None = Field(
        default=None, description="The node it runs on; with one node in the file, that one."
    )
    nodes: tuple[Label, ...] = Field(default=(), description="Several nodes: the same on each of them.")
    replicas: Positive = Field(default=1, le=1024, description="How many on each of these nodes.")
    env: Env = Field(
        default_factory=dict,
        description="Environment of these processes, over that of the node and of the file.",
    )
    stream_port: Port | None = Field(
        default=None,
        description="First TCP port that its units take for requests, one each; else dynoctl chooses.",
    )

    @property
    def sites(self) -> tuple[tuple[str, ...], ...]:
        """The places that were named, each a tuple of nodes: one node, or all of a span. May be empty."""
        if self.node is not None:
            return ((self.node,),)
        return tuple((node,) for node in self.nodes)


class Frontend(Role):
    """Speaks HTTP with clients."""

    port: Port = Field(
        default=8000, description="TCP port for HTTP; replicas on one node take the ports after it."
    )


class Processor(Role):
    """Turns requests into tokens, and tokens into answers."""


class Router(Role):
    """Chooses the decode worker for a request."""

    policy: Policy = Field(
        default="similar",
        description="How it chooses; 'similar' sends prompts that look alike to the same worker.",
    )


class Worker(Role):
    """Runs an engine: decode or prefill."""

    span: tuple[Label, ...] = Field(
        default=(), description="The nodes of one worker that is larger than a node; the first is its head."
    )
    tp: Positive = Field(default=1, description="Tensor parallel size.")
    pp: Positive = Field(default=1, description="Pipeline parallel size.")
    dp: Positive = Field(default=1, description="Data parallel size.")
    executor: Literal["mp", "ray"] = Field(
        default="mp", description="What holds a worker together that spans nodes."
    )
    gpu_ids: tuple[Count, ...] = Field(
        default=(), description="Which GPUs of each node to use, by index; else dynoctl chooses."
    )
    model: Model | None = Field(default=None, description="The model of these workers, where it differs.")
    engine: EngineOverride = Field(
        default_factory=EngineOverride.model_construct,
        description="The engine of these workers, where it differs.",
    )

    @property
    def sites(self) -> tuple[tuple[str, ...], ...]:
        return (self.span,) if self.span else super().sites

    @property
    def ranks(self) -> int:
        """How many GPUs one worker uses, on all its nodes together."""
        return self.tp * self.pp * self.dp


class Roles(Part):
    """The roles. Each is a map, or a list of maps where its units differ."""

    frontend: Annotated[
        tuple[Frontend, ...],
        BeforeValidator(listed, json_schema_input_type=Frontend | tuple[Frontend, ...]),
    ] = Field(default=(), description="Speaks HTTP with clients.")
    processor: Annotated[
        tuple[Processor, ...],
        BeforeValidator(listed, json_schema_input_type=Processor | tuple[Processor, ...]),
    ] = Field(default=(), description="Tokenises and detokenises; where absent, one beside each frontend.")
    router: Annotated[
        tuple[Router, ...],
        BeforeValidator(listed, json_schema_input_type=Router | tuple[Router, ...]),
    ] = Field(default=(), description="Chooses workers; where absent, one beside each frontend.")
    decode: Annotated[
        tuple[Worker, ...],
        BeforeValidator(listed, json_schema_input_type=Worker | tuple[Worker, ...]),
    ] = Field(default=(), description="Makes the tokens, and prefills what it does not send away.")
    prefill: Annotated[
        tuple[Worker, ...],
        BeforeValidator(listed, json_schema_input_type=Worker | tuple[Worker, ...]),
    ] = Field(default=(), description="Prefills for decode workers, where `disagg` says so.")
    fused: Flag = Field(
        default=True, description="Whether frontend, processor and router on the same node share one process."
    )

    def of(self, role: RoleName) -> tuple[Role, ...]:
        """The maps of one role, in file order."""
        specs: tuple[Role, ...] = getattr(self, role)
        return specs
