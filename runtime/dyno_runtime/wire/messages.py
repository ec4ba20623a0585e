"""Every message that one process sends to another, and what may be said about an instance.

How they travel is in `wire.envelopes`. Arrays with a number as tag: field order is the format, so new fields go last
and have a default. `LeaseId` is the lease as 16 hex digits; it names the process that holds it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dyno_runtime.wire.kv import BlockHash, KvBatch, KvSnapshot, LoadReport
from dyno_runtime.wire.sampling import Logprob, Sampling

Role = Literal["frontend", "processor", "router", "decode", "prefill", "planner"]
LeaseId = str
Token = int

FailureCode = Literal[
    "bad_request",  # the request itself is wrong: no worker would take it
    "not_found",  # a target or a model that is not there
    "no_worker",  # nobody could take it
    "overloaded",  # a bound was reached
    "draining",  # the process stops admitting
    "not_here",  # the process does not play that role (any more)
    "not_ready",  # the engine is not loaded
    "peer_lost",  # the connection was refused, broke, or went silent
    "engine",  # the engine failed on this request
    "timeout",  # a deadline passed
    "too_large",  # a message over the frame limit
]


class Address(msgspec.Struct, frozen=True):
    """Where a process listens for its peers."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """Why a call ended without its answer. `message` is a sentence for people."""

    code: FailureCode
    message: str


class Instance(msgspec.Struct, frozen=True):
    """One role in one running process, as registered in etcd (JSON). Only a `ready` one is sent requests.

    A worker says what it runs: `model` is the name that was given to it (further names of the same model are in
    `/{cluster}/models`), `path` where the model's files are, and the engine's kind and measures, in tokens.
    `terms` are what both ends have to agree on before KV travels (`core.terms`).
    """

    role: Role
    lease: LeaseId
    node: str
    unit: str
    stream: Address
    model: str
    state: Literal["loading", "ready"] = "ready"
    capabilities: tuple[str, ...] = ()
    path: str | None = None
    engine: str = "hello"
    block_size: int = 64
    max_model_len: int = 8192
    terms: dict[str, str] = {}

    @property
    def place(self) -> str:
        """The name that people use, `node2/decode-0`."""
        return f"{self.node}/{self.unit}"


class ModelName(msgspec.Struct, frozen=True):
    """A further name of the model that workers call `model`, and the lease it lives under, as in etcd (JSON)."""

    model: str
    lease: LeaseId


class Struct(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The base of all messages."""


# ---- bodies --------------------------------------------------------------------------------------------


class Ask(Struct, frozen=True, tag=1):
    """Frontend to processor: text in. Answered by `Text` items."""

    request: str
    prompt: str
    probe: bool = False
    target: str | None = None
    prefill: Literal["auto", "remote"] = "auto"


class Text(Struct, frozen=True, tag=2):
    """Processor to frontend: the next piece of text. `worker` and `prefill` come with the first piece only."""

    text: str
    finish: str | None = None
    worker: str | None = None
    prefill: str | None = None


class Choose(Struct, frozen=True, tag=3):
    """Processor to router: which worker? A probe is answered like any other and teaches nothing.

    `prompt` is its text, where the policy is `similar`. `model` is the name that the workers have. `blocks` are the
    hashes of the full blocks of the prompt's `tokens`. A request with an id counts as load until `Went` says that it
    ended.
    """

    prompt: str
    excluded: tuple[LeaseId, ...] = ()
    probe: bool = False
    request: str = ""
    model: str = ""
    tokens: int = 0
    blocks: list[BlockHash] = []


class Chosen(Struct, frozen=True, tag=4):
    """Router to processor: the lease of the worker to use, and how many tokens of the prompt it holds."""

    worker: LeaseId
    matched_tokens: int = 0


class Learned(Struct, frozen=True, tag=5):
    """Router to router: what this worker was first given, so that replicas route alike. No answer."""

    worker: LeaseId
    prompt: str


class Generate(Struct, frozen=True, tag=6):
    """Processor to decode worker: tokens in. Answered by `Delta` items. `matched_tokens` is what the router believes
    that the worker holds of them. `answered`: the last so many of `tokens` are the beginning of the answer, made
    elsewhere before. `salt` is the parent of the first block, `blocks` are the hashes of the full ones."""

    request: str
    tokens: list[Token]
    prefill: Literal["auto", "remote"] = "auto"
    matched_tokens: int = 0
    sampling: Sampling = Sampling()
    answered: int = 0
    salt: BlockHash = 0
    blocks: list[BlockHash] = []


class Delta(Struct, frozen=True, tag=7):
    """Decode worker to whoever holds the client: new tokens. One with `finish` ends its call.

    `prefill` (`local`, `remote:node/unit`) and `cached_tokens` of the prompt come with the first one only. `logprobs`
    has one entry a token where they were asked for.
    """

    tokens: list[Token]
    finish: str | None = None
    prefill: str | None = None
    cached_tokens: int | None = None
    logprobs: list[Logprob] | None = None


class Prefilled(Struct, frozen=True, tag=8):
    """Prefill worker to decode worker: the KV is where you wanted it, or why not. Answered by an empty end."""

    request: str
    by: str
    kv: dict[str, Any] | None = None
    error: str | None = None


class Wanted(Struct, frozen=True, tag=9):
    """Prefill worker to decode worker: do you still wait for this? An end without failure says yes.

    With `until` the answer comes later: when nobody waits for it any more.
    """

    request: str
    until: bool = False


class Went(Struct, frozen=True, tag=10):
    """Processor to router: the first token of these requests came, and these are over. No answer."""

    begun: list[str] = []
    ended: list[str] = []


class Follow(Struct, frozen=True, tag=11):
    """Router to worker: tell me what you hold and how loaded you are, from KV batch `after` on, until I leave.

    Answered by `Events`, `Held` and `Load` items without end.
    """

    after: int = 0


class Replay(Struct, frozen=True, tag=12):
    """Router to worker: tell me again all that came after batch `after`. Answered by one `Events` or `Held`."""

    after: int


class Events(Struct, frozen=True, tag=13):
    """Worker to router: changes of its KV cache, oldest first."""

    batches: list[KvBatch]


class Held(Struct, frozen=True, tag=14):
    """Worker to router: all that is in its KV cache."""

    snapshot: KvSnapshot


class Load(Struct, frozen=True, tag=15):
    """Worker to router: how loaded it is."""

    report: LoadReport


class Explain(Struct, frozen=True, tag=16):
    """Frontend to router: where would this go, and why? Nothing is run or remembered. Answered by `Explained`."""

    choose: Choose


class Explained(Struct, frozen=True, tag=17):
    """Router to frontend: the JSON object that `/debug/route` shows."""

    document: dict[str, Any]


class Prepare(Struct, frozen=True, tag=30):
    """Frontend to processor: make prompts of this body. Answered by `Prepared` or `Rejected`."""

    kind: Literal["chat", "completion"]
    body: bytes


class Prompt(Struct, frozen=True):
    """One prompt: its tokens and its text, empty where it came as tokens."""

    tokens: list[Token]
    text: str = ""


class Prepared(Struct, frozen=True, tag=31):
    """Processor to frontend: the prompts of the request, one or more."""

    prompts: list[Prompt]


class Rejected(Struct, frozen=True, tag=32):
    """Processor to frontend: the request is refused, and the client is told this."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None


class Join(Struct, frozen=True, tag=50):
    """A rank to the head of its worker: I am here. Answered by `Formed` once all are; the call then lasts as long as
    both processes do, so that each learns of the other's end."""

    rank: int
    place: str


class Formed(Struct, frozen=True, tag=51):
    """The head to a rank: all ranks are here, start your part of the engine, which is known by this name."""

    engine_id: str = ""


class Measure(Struct, frozen=True, tag=40):
    """Planner to any process: how was your last minute? Answered by `Measured`."""


class Measured(Struct, frozen=True, tag=41):
    """Any process to the planner: a `metrics.minute.Minute` as plain values."""

    minute: dict[str, Any]


Body = (
    Ask
    | Text
    | Choose
    | Chosen
    | Learned
    | Generate
    | Delta
    | Prefilled
    | Wanted
    | Went
    | Follow
    | Replay
    | Events
    | Held
    | Load
    | Explain
    | Explained
    | Prepare
    | Prepared
    | Rejected
    | Join
    | Formed
    | Measure
    | Measured
)


# ---- the prefill queue ---------------------------------------------------------------------------------


class PrefillTask(Struct, frozen=True, tag=1):
    """Decode worker to whichever prefill worker pulls it: compute the KV of `tokens`, tell `reply_to`."""

    request: str
    tokens: list[Token]
    lease: LeaseId
    reply_to: Address
    kv: dict[str, Any] | None = None
    salt: BlockHash = 0
    blocks: list[BlockHash] = []
