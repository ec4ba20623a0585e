"""Who does the work: the roles, where each one stands and in how many units.

In: nothing. Out: frozen models, one a section of the file; `Role.sites` is the one
shape of `node`, `nodes` and `span`.
"""

from typing import Annotated, Literal, get_args

from msgspec import Meta

from dynoctl.topology.engine import EngineOverride, Model
from dynoctl.topology.part import ONE_OR_MORE, Part
from dynoctl.topology.scalars import Count, Label, Port, Positive, Seconds, Share
from dynoctl.topology.secret import Env

RoleName = Literal["frontend", "processor", "router", "decode", "prefill", "planner"]
Policy = Literal["similar", "random", "round_robin", "least_loaded", "prefix", "kv", "kv_classic"]
Executor = Literal["mp", "ray"]
ROLES: tuple[RoleName, ...] = get_args(RoleName)

Replicas = Annotated[int, Meta(ge=1, le=1024)]
Workers = Annotated[int, Meta(ge=1, le=64)]


class Role(Part, frozen=True):
    """Where a role stands."""

    node: Annotated[
        Label | None, Meta(description="The node it runs on; with one node in the file, that one.")
    ] = None
    nodes: Annotated[tuple[Label, ...], Meta(description="Several nodes: the same on each of them.")] = ()
    replicas: Annotated[Replicas, Meta(description="How many on each of these nodes.")] = 1
    env: Annotated[Env, Meta(description="Environment of these processes, over that of their node.")] = Env()
    stream_port: Annotated[
        Port | None, Meta(description="First TCP port for requests, one for each unit; else dynoctl chooses.")
    ] = None

    @property
    def sites(self) -> tuple[tuple[str, ...], ...]:
        """The places that are named, each a tuple of nodes: one node, or all of a span. May be empty."""
        if self.node is not None:
            return ((self.node,),)
        return tuple((node,) for node in self.nodes)


class Frontend(Role, frozen=True):
    """Speaks HTTP with clients."""

    port: Annotated[
        Port, Meta(description="TCP port for HTTP; replicas on a node take the ports after it.")
    ] = 8000
    workers: Annotated[
        Workers,
        Meta(description="How many processes share the port; each has its own processor and router."),
    ] = 1


class Processor(Role, frozen=True):
    """Turns requests into tokens, and tokens into answers."""


class Router(Role, frozen=True):
    """Chooses the decode worker for a request."""

    policy: Annotated[
        Policy | None,
        Meta(
            description="How it chooses; where absent, `kv`: the least expected time to the first token "
            "(engine hello: `similar`, prompts that look alike go to the same worker)."
        ),
    ] = None
    max_waiting: Annotated[
        Positive | None,
        Meta(description="A worker with so many waiting requests takes no more; where all have, 503."),
    ] = None
    max_usage: Annotated[
        Share | None,
        Meta(description="The same with this part of its KV blocks in use, such as 0.9."),
    ] = None


class Worker(Role, frozen=True):
    """Runs an engine: decode or prefill."""

    span: Annotated[
        tuple[Label, ...],
        Meta(description="All nodes of one worker that is larger than a node; the first is its head."),
    ] = ()
    role: Annotated[
        Literal["both"] | None,
        Meta(description="`both`, of decode: these workers take prompts of the prefill queue, too."),
    ] = None
    tp: Annotated[Positive, Meta(description="Tensor parallel size.")] = 1
    pp: Annotated[Positive, Meta(description="Pipeline parallel size.")] = 1
    dp: Annotated[Positive, Meta(description="Data parallel size.")] = 1
    executor: Annotated[
        Executor, Meta(description="What holds a worker together: processes, or Ray over a span.")
    ] = "mp"
    gpu_ids: Annotated[
        tuple[Count, ...], Meta(description="The GPUs of each node to use, by index; else dynoctl chooses.")
    ] = ()
    model: Annotated[Model | None, Meta(description="The model of these workers, where it differs.")] = None
    engine: Annotated[EngineOverride, Meta(description="The engine of these workers, where it differs.")] = (
        EngineOverride()
    )

    @property
    def sites(self) -> tuple[tuple[str, ...], ...]:
        return (self.span,) if self.span else super().sites

    @property
    def gpus(self) -> int:
        """How many GPUs one worker computes on, on all its nodes together."""
        return self.tp * self.pp * self.dp


class Planner(Role, frozen=True):
    """Watches whether there are enough workers, and says what it would change; it changes nothing."""

    interval_s: Annotated[Seconds, Meta(description="It decides once in so many seconds.")] = 30.0
    pull_s: Annotated[Seconds, Meta(description="It looks once in so many seconds.")] = 1.0
    max_gpus: Annotated[
        Positive | None,
        Meta(description="Workers may take so many GPUs; where absent, any number."),
    ] = None
    min_workers: Annotated[Positive, Meta(description="It never wishes for fewer workers of a role.")] = 1
    kv_up: Annotated[Share, Meta(description="Above this KV load it wishes for a decode worker more.")] = 0.9
    kv_down: Annotated[Share, Meta(description="Below this KV load, for one fewer.")] = 0.5
    queue_up: Annotated[
        Share, Meta(description="With more tasks in the prefill queue it wishes for a prefill worker more.")
    ] = 0.5
    queue_down: Annotated[Share, Meta(description="With fewer tasks, for one fewer.")] = 0.2


class Roles(Part, frozen=True):
    """The roles. Each is a map, or a list of maps where its units differ."""

    frontend: Annotated[tuple[Frontend, ...], ONE_OR_MORE, Meta(description="Speaks HTTP with clients.")] = ()
    processor: Annotated[
        tuple[Processor, ...],
        ONE_OR_MORE,
        Meta(description="Turns requests into tokens and back; where absent, the frontend does."),
    ] = ()
    router: Annotated[
        tuple[Router, ...],
        ONE_OR_MORE,
        Meta(description="Chooses the worker; where absent, workers take turns."),
    ] = ()
    decode: Annotated[
        tuple[Worker, ...],
        ONE_OR_MORE,
        Meta(description="Makes the tokens, and prefills what it does not send away."),
    ] = ()
    prefill: Annotated[
        tuple[Worker, ...], ONE_OR_MORE, Meta(description="Prefills for decode, where `disagg` says so.")
    ] = ()
    planner: Annotated[
        tuple[Planner, ...],
        ONE_OR_MORE,
        Meta(description="Says whether there are enough workers; it only watches."),
    ] = ()
    fused: Annotated[
        bool,
        Meta(description="Whether frontend, processor, router and planner of a node share one process."),
    ] = True

    def of(self, role: RoleName) -> tuple[Role, ...]:
        """The maps of one role, in file order."""
        specs: tuple[Role, ...] = getattr(self, role)
        return specs
