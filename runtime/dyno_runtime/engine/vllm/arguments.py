"""What the topology says about an engine → the words of vLLM's own command line, checked by its own parser.

In: a process's settings, and the names that the installed vLLM knows. Out: words, in an order that never changes.
So values mean what they mean in `vllm serve`: `1k`, JSON, lists. Names are taken in kebab or in snake case.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dyno_runtime.engine.base import EngineError
from dyno_runtime.settings import ProcessSettings

# Where else the topology says it; said twice, one of them would be overwritten silently.
ELSEWHERE = {
    "model": "model.id",
    "block_size": "engine.block_size",
    "max_model_len": "engine.max_model_len",
    "tensor_parallel_size": "the role's tp",
    "pipeline_parallel_size": "the role's pp",
    "data_parallel_size": "the role's dp",
    "distributed_executor_backend": "the role's executor",
    "nnodes": "the role's span",
    "node_rank": "the role's span",
    "master_addr": "the role's span",
    "master_port": "the role's span",
    "headless": "the role's span",
    "kv_transfer_config": "disagg.connector",
    "kv_events_config": "nothing: the router always gets KV events",
}


def plain(name: str) -> str:
    """What two spellings of one argument have in common: `--max-num-seqs` is `max_num_seqs`."""
    return name.lstrip("-").replace("-", "_")


def words_of(
    settings: ProcessSettings, known: Collection[str], more: Mapping[str, Any] | None = None
) -> list[str]:
    """The command line. `known` are the names of all options, plain; `more` is what the engine itself decides.

    Raises:
        EngineError: an argument that this vLLM does not know, or that the topology says elsewhere.
    """
    engine, parallel = settings.engine, settings.parallel
    path = settings.model.path
    if path is None:
        raise EngineError("vLLM needs a model: give model.id a hub id, or a folder on the nodes")
    decided: dict[str, Any] = {
        "model": str(Path(path).expanduser()) if path.startswith("~") else path,
        "block_size": engine.block_size,
        "max_model_len": engine.max_model_len,
        "tensor_parallel_size": parallel.tp,
        "pipeline_parallel_size": parallel.pp,
        "data_parallel_size": parallel.dp,
        **(more or {}),
    }
    given: dict[str, Any] = {}
    for key, value in engine.args.items():
        name = plain(key)
        if name in ELSEWHERE:
            raise EngineError(f"engine.args: {key} is said by {ELSEWHERE[name]}; take it out of args")
        if name not in known:
            raise EngineError(_unknown(key, known))
        given[name] = value
    return [word for name, value in {**decided, **given}.items() for word in _words(name, value, known)]


def _unknown(key: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(plain(key), sorted(known), n=1)
    hint = f"; did you mean {close[0].replace('_', '-')}?" if close else ""
    return f"engine.args: the installed vLLM knows no argument {key}{hint}"


def _words(name: str, value: Any, known: Collection[str]) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if value is None:
        return []
    if value is True:
        return [option]
    if value is False:
        # An option that can only be switched on is off where it is left out.
        return [f"--no-{name.replace('_', '-')}"] if f"no_{name}" in known else []
    if isinstance(value, dict):
        return [f"{option}={json.dumps(value, separators=(',', ':'))}"]
    if isinstance(value, list | tuple):
        return [option, *(json.dumps(one) if isinstance(one, dict | list) else str(one) for one in value)]
    return [f"{option}={value}"]
