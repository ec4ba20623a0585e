"""Rules on `engine.args` of the mock engine: what it would refuse is found before anything runs.

In: a topology. Out: findings. What is here is compared with the engine's own reading by a test. Other engines get
their arguments unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dynoctl.topology.document import Path
from dynoctl.topology.engine import EngineKind, argument_name
from dynoctl.topology.finding import Finding
from dynoctl.topology.hints import close_name
from dynoctl.topology.model import Topology
from dynoctl.topology.rules.places import workers


def _whole(least: int | None) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and (least is None or value >= least)


def _number(value: Any) -> bool:
    return type(value) in (int, float)


# What an argument must be, in words, and whether a value is that.
Check = tuple[str, Callable[[Any], bool]]
COUNT: Check = ("a whole number, 1 or more", _whole(1))
EVERY: Check = ("a whole number, 0 or more", _whole(0))
WHOLE: Check = ("a whole number", _whole(None))
SECONDS: Check = ("a number, 0 or more", lambda value: _number(value) and value >= 0)
RATE: Check = ("a number above 0", lambda value: _number(value) and value > 0)
SPEEDUP: Check = ("a number above 0, or inf", lambda value: value == "inf" or RATE[1](value))
YES_OR_NO: Check = ("true or false", lambda value: isinstance(value, bool))
TEXT: Check = ("text", lambda value: isinstance(value, str))
SECTION: Check = ("a map", lambda value: isinstance(value, dict))

MOCK: Mapping[str, Check] = {
    "kv_blocks": COUNT,
    "max_num_seqs": COUNT,
    "max_num_batched_tokens": COUNT,
    "max_waiting": COUNT,
    "prefill_slots": COUNT,
    "enable_prefix_caching": YES_OR_NO,
    "prefill_tokens_per_s": RATE,
    "step_base_s": SECONDS,
    "step_seq_s": SECONDS,
    "step_context_token_s": SECONDS,
    "transfer_bytes_per_s": RATE,
    "bytes_per_token": COUNT,
    "reserve_s": SECONDS,
    "speedup": SPEEDUP,
    "turn_tokens": COUNT,
    "load_s": SECONDS,
    "fail": TEXT,
    "seed": WHOLE,
    "shortest_answer": COUNT,
    "longest_answer": COUNT,
    "faults": SECTION,
}
MOCK_FAULTS: Mapping[str, Check] = {
    "die": YES_OR_NO,
    "die_after_tokens": COUNT,
    "hang": YES_OR_NO,
    "slow": RATE,
    "fail_every": EVERY,
    "silent_every": EVERY,
    "reject_every": EVERY,
    "fail_transfer_every": EVERY,
    "drop_kv_every": EVERY,
    "repeat_kv_every": EVERY,
}


def _places(topology: Topology) -> Iterator[tuple[Path, EngineKind, Mapping[str, Any]]]:
    yield ("engine", "args"), topology.engine.kind, topology.engine.args
    for path, worker in workers(topology):
        yield (*path, "engine", "args"), worker.engine.kind or topology.engine.kind, worker.engine.args


def _all(topology: Topology) -> Iterator[tuple[Path, Mapping[str, Check], str, Any]]:
    """Each argument with its path, the table it belongs to, its name there and its value."""
    for path, kind, args in _places(topology):
        if kind != "mock":
            continue
        for key, value in args.items():
            yield (*path, key), MOCK, argument_name(key), value
            if key == "faults" and isinstance(value, dict):
                for fault, how in value.items():
                    yield (*path, key, fault), MOCK_FAULTS, fault, how


def known(topology: Topology) -> Iterator[Finding]:
    """An argument that the engine does not know is a typo."""
    for path, table, name, _ in _all(topology):
        if name not in table:
            message = "the mock engine has no such argument"
            yield Finding(path, message, close_name(name, tuple(table)), at_key=True)


def fitting(topology: Topology) -> Iterator[Finding]:
    """The value is one that the engine takes."""
    for path, table, name, value in _all(topology):
        if name in table:
            words, fits = table[name]
            if not fits(value):
                yield Finding(path, f"expected {words}, found {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, dict | list):
        return "a map" if isinstance(value, dict) else "a list"
    return f"'{value}'" if isinstance(value, str) else str(value)
