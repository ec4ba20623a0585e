"""What one process of the runtime is told: a single JSON file, parsed once, unknown keys refused.

`dynoctl.plan.settings` makes these values and renders them with `encode`; `python -m dyno_runtime FILE`
reads them with `decode`. Nothing else in the runtime reads a file or the environment for its settings.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

T = TypeVar("T")
RoleName = Literal["frontend", "processor", "router", "decode", "prefill", "planner"]
DisaggMode = Literal["off", "always", "conditional"]
PolicyName = Literal["kv", "kv_classic", "prefix", "least_loaded", "round_robin", "random", "similar"]


class SettingsError(ValueError):
    """The settings file is not what this version of the runtime reads; the message names the key."""


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An address and a TCP port; `host` is what peers dial, and what the process binds."""

    host: str
    port: int


class Services(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where etcd and NATS are. URLs may carry a user and password, so this file is 0600."""

    etcd: tuple[str, ...]
    nats: str


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What clients ask for (`name`) and where its files are (`path`: hub id or folder; None: no files)."""

    name: str
    path: str | None = None


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The engine of a worker. `args` go to it verbatim. `device` counts for vLLM alone."""

    kind: Literal["hello", "mock", "vllm"]
    device: Literal["cuda", "cpu"] = "cuda"
    block_size: int = 64
    max_model_len: int = 8192
    args: dict[str, Any] = {}


class Routing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the router chooses; docs/routing.md. A worker with so many waiting requests, or with such a part of its KV
    blocks in use, takes nothing while another is below that; None: no limit."""

    policy: PolicyName = "similar"
    max_waiting: int | None = None
    max_usage: float | None = None


class Disagg(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where prefill runs. Lengths in tokens; `prefill_timeout_s` ends in a prefill at the decode worker."""

    mode: DisaggMode = "off"
    max_local_prefill_length: int = 10
    max_prefill_queue_size: int = 2
    prefill_timeout_s: float = 30.0


class Planner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the planner wishes for more or fewer workers; docs/planner.md has the rules and where the defaults come
    from. KV loads are parts of 1, queue lengths are tasks, GPUs those of one worker;
    without `max_gpus` nothing bounds what all of them take."""

    interval_s: float = 30.0
    pull_s: float = 1.0
    max_gpus: int | None = None
    min_workers: int = 1
    decode_gpus: int = 1
    prefill_gpus: int = 1
    kv_up: float = 0.9
    kv_down: float = 0.5
    queue_up: float = 0.5
    queue_down: float = 0.2


class Parallel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one worker is spread over GPUs and nodes: `tp` × `pp` × `dp` GPUs on `nodes` nodes, the head first.

    `rank` is this process's node among them, 0 the head. With more than one node, and always on Ray, `head` is where
    the engines of the nodes gather: with mp a port of the head's that they agree over, with Ray the Ray cluster.
    `lead` is the head process itself, as the other ranks dial it. `dp_port` is where the head hands data parallel
    replicas on other nodes their part.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    executor: Literal["mp", "ray"] = "mp"
    nodes: int = 1
    rank: int = 0
    head: Endpoint | None = None
    lead: Endpoint | None = None
    dp_port: int | None = None


# Of a lease, this part is left when the decode engine is told to fetch: it may have to wait for room, and its first
# sign to the prefill engine that it still means to come takes a few seconds.
LEASE_MARGIN = 1 / 3
SHORTEST_LEASE_S = 30.0


class Transfer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How KV travels between engines. `side_channel` is where this worker is asked about its KV; prefilled KV that is
    not fetched within `lease_s` is given up."""

    connector: str
    side_channel: Endpoint
    lease_s: float = SHORTEST_LEASE_S


def lease_for(prefill_timeout_s: float) -> float:
    """The lease with which no KV is fetched too late: who waits for a prefill is told to fetch within that time of
    having asked, and the lease begins after that, so the margin is left of it whatever the network does between."""
    return max(SHORTEST_LEASE_S, round(prefill_timeout_s / (1 - LEASE_MARGIN), 3))


class ProcessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One process: who it is, which roles it plays, whom it talks to."""

    cluster: str
    node: str
    unit: str
    roles: tuple[RoleName, ...]
    services: Services
    stream: Endpoint
    model: Model
    engine: Engine
    health_path: str
    http: Endpoint | None = None  # set where `roles` has "frontend"
    http_workers: int = 1  # so many processes of this node listen on that port together (SO_REUSEPORT)
    max_requests: int = 8192  # in flight at one frontend process; above, clients are told to come again
    ping_s: float = 10.0  # a stream that has nothing to say says at least this often that it lives
    merge_deltas: bool = True  # tokens that arrive together are one event
    routing: Routing = Routing()
    disagg: Disagg = Disagg()
    parallel: Parallel = Parallel()
    transfer: Transfer | None = None  # set where a vLLM worker takes part in disaggregation
    planner: Planner = Planner()
    metrics: Endpoint | None = None  # where /metrics is, besides at `http`
    measured: bool = True  # False: no figures of requests and tokens, to see what taking them costs
    lease_ttl_s: float = 10.0
    lease_grace_s: float = 60.0
    drain_s: float = 10.0
    start_budget_s: float = 120.0  # how long etcd may stay away at start before the process gives up
    request_timeout_s: float = 120.0  # from the last byte of a request to the last byte of its answer

    def __post_init__(self) -> None:
        if len(set(self.roles)) != len(self.roles) or not self.roles:
            raise ValueError("roles: at least one, and each at most once")
        if ("frontend" in self.roles) != (self.http is not None):
            raise ValueError("http: set if, and only if, frontend is among the roles")


class RayNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node's part in the Ray cluster of one worker: `python -m dyno_runtime ray FILE`.

    `head` is where Ray's head answers, on the first of `nodes` nodes; every node brings `gpus`. `folder` is where Ray
    keeps its session here. The ports are Ray's own of this node.
    """

    cluster: str
    node: str
    unit: str
    is_head: bool
    head: Endpoint
    address: str
    nodes: int
    gpus: int
    folder: str
    node_port: int
    object_port: int
    agent_port: int
    health_path: str
    client_port: int | None = None  # of the head, for what Ray calls its client, where Ray insists on it


def encode(settings: ProcessSettings | RayNode) -> bytes:
    """The file's bytes: JSON, keys in declaration order, one line a key, so that a diff of two reads well."""
    return msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n"


def decode(content: bytes) -> ProcessSettings:
    """The file's value.

    Raises:
        SettingsError: not JSON, an unknown key, a missing one, or a wrong type.
    """
    return _decoded(content, ProcessSettings)


def decode_ray(content: bytes) -> RayNode:
    """The same of the file of a Ray node. Raises SettingsError."""
    return _decoded(content, RayNode)


def _decoded(content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise SettingsError(str(error)) from error
