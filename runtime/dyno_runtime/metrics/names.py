"""Every metric that a process of a cluster may have. docs/metrics.md says the same, and a test compares the two.

Units last, in seconds and bytes; what only grows ends in `_total`. No label has a value that a client chooses.
"""

from __future__ import annotations

from dyno_runtime.metrics.kinds import Labels, Metric

# Six in each power of ten, so that a percentile read from them is at most a fifth off.
_STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)


def _bounds(first: int, last: int) -> tuple[float, ...]:
    """From ten to the power of `first` up to ten to the power of `last`."""
    inner = [float(f"{step}e{power}") for power in range(first, last) for step in _STEPS]
    return (*inner, float(f"1e{last}"))


SECONDS = _bounds(-3, 2)
TOKEN_SECONDS = _bounds(-4, 1)


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"dyno_{name}_total", "counter", help, labels)


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"dyno_{name}", "gauge", help, labels)


def _histogram(name: str, help: str, bounds: tuple[float, ...] = SECONDS) -> Metric:
    return Metric(f"dyno_{name}_seconds", "histogram", help, Labels(), bounds)


# ---- every process -------------------------------------------------------------------------------------

INFO = _gauge("info", "Always 1; says which process this is.", "cluster", "node", "unit", "roles")
UPTIME = _gauge("uptime_seconds", "How long this process has run.")
CPU = Metric("dyno_process_cpu_seconds_total", "counter", "CPU time of this process.")
RESIDENT = _gauge("process_resident_bytes", "Memory of this process that is in RAM.")
BUS_UP = _gauge("bus_up", "Whether etcd or NATS answers this process.", "service")
REGISTERED = _gauge("registered", "Whether this process holds its lease in etcd.")
INSTANCES = _gauge("instances", "Live instances of a role, as this process sees them.", "role")
IN_FLIGHT = _gauge("requests_in_flight", "Requests that a role of this process has not answered.", "role")

# ---- frontends -----------------------------------------------------------------------------------------

REQUESTS = _counter("requests", "Requests answered, by HTTP status; 499: the client left.", "status")
REJECTIONS = _counter("rejections", "Requests refused or failed, by reason.", "reason")
PROMPT_TOKENS = _counter("prompt_tokens", "Tokens of prompts.")
CACHED_TOKENS = _counter("cached_tokens", "Tokens of prompts that workers did not have to compute.")
ANSWER_TOKENS = _counter("answer_tokens", "Tokens of answers.")
FIRST_TOKEN = _histogram("time_to_first_token", "From the whole request to the first token of its answer.")
INTER_TOKEN = _histogram(
    "inter_token_latency",
    "Between two tokens of a stream; of tokens that came together, their share of the time.",
    TOKEN_SECONDS,
)
DURATION = _histogram("request_duration", "From the whole request to the end of an answer with status 200.")

# ---- processes that send requests to workers: frontends and processors ---------------------------------

RETRIES = _counter(
    "retries", "Requests sent to another worker before their first token, by reason.", "reason"
)
MIGRATIONS = _counter("migrations", "Answers that went on at another worker, by reason.", "reason")

# ---- stand-alone processors ----------------------------------------------------------------------------

PREPARED = _counter("prepared_requests", "Requests made into prompts for frontends elsewhere.")

# ---- routers -------------------------------------------------------------------------------------------

ROUTED = _counter("routed_requests", "Requests that were given a worker.")
UNROUTED = _counter("unrouted_requests", "Requests that no worker might take, by reason.", "reason")
ASKED_BLOCKS = _counter("routed_blocks", "Full KV blocks in the prompts of routed requests.")
MATCHED_BLOCKS = _counter("matched_blocks", "Those of them that the chosen worker was believed to hold.")
INDEX_BLOCKS = _gauge("index_blocks", "Different KV blocks that this router knows of.")
FOLLOWED = _gauge("followed_workers", "Decode workers that this router follows.")

# ---- workers -------------------------------------------------------------------------------------------

ENGINE_READY = _gauge("engine_ready", "Whether the engine is loaded.")
ENGINE_REQUESTS = _gauge("engine_requests", "Requests in the engine, running or waiting.", "state")
QUEUED_TOKENS = _gauge("engine_queued_tokens", "Prompt tokens that wait to be computed.")
KV_BLOCKS = _gauge("kv_blocks", "KV blocks: active (in use by requests), cached, and total.", "state")
QUEUE = _histogram("queue", "From a request's arrival in the engine to the beginning of its prefill.")
SOURCED_TOKENS = _counter("engine_prompt_tokens", "Prompt tokens by where their KV came from.", "source")
PREEMPTIONS = _counter("preemptions", "Requests that lost their KV blocks to others and began again.")
KV_SENT = _counter("kv_sent_bytes", "KV sent to other workers.")
KV_RECEIVED = _counter("kv_received_bytes", "KV received from other workers.")
TRANSFERS = _counter("kv_transfers", "KV transfers to this worker, or failed on the way from it.", "outcome")

# ---- decode workers ------------------------------------------------------------------------------------

PREFILLS = _counter("prefills", "Prefills: local, remote, or local because remote failed.", "path")
REMOTE_PREFILL = _histogram("remote_prefill", "From the decision for a remote prefill to its end.")

# ---- prefill workers -----------------------------------------------------------------------------------

PREFILL_TASKS = _counter("prefill_tasks", "Tasks pulled from the prefill queue.", "outcome")
PREFILL = _histogram("prefill", "One prefill for a decode worker, with the transfer of its KV.")
PREFILL_QUEUE = _gauge("prefill_queue_tasks", "Tasks in the prefill queue that nobody has pulled.")

# ---- planners ------------------------------------------------------------------------------------------

DECISIONS = _counter(
    "planner_decisions", "Decisions of the planner, by role and by what it wishes.", "role", "wish"
)

METRICS: tuple[Metric, ...] = tuple(one for one in list(vars().values()) if isinstance(one, Metric))
