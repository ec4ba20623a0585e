"""From the settings to an engine; the only place that knows which file an engine is in."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from dyno_runtime.engine.base import Engine, EngineError, HashBlocks
from dyno_runtime.engine.rank import NoRank, RankEngine
from dyno_runtime.settings import Engine as EngineSettings
from dyno_runtime.settings import ProcessSettings

# Named, not imported: an engine's libraries are loaded only where that engine is asked for.
_ENGINES = {
    "hello": ("dyno_runtime.engine.hello", "HelloEngine"),
    "mock": ("dyno_runtime.engine.mock.engine", "MockEngine"),
}


def make_engine(
    settings: EngineSettings, hash_blocks: HashBlocks | None = None, model_path: str | None = None
) -> Engine:
    """The engine of `settings`, not loaded yet. Raises EngineError on args that it does not know.

    `hash_blocks` is `core.blocks.block_hashes`; an engine with KV blocks names them by it.
    """
    module, name = _ENGINES[settings.kind]
    make: Callable[..., Engine] = getattr(importlib.import_module(module), name)
    if settings.kind == "hello":
        return make(settings.args)
    if hash_blocks is None:
        raise EngineError(f"the {settings.kind} engine needs a block hash")
    return make(settings, hash_blocks, model_path)


def engine_for(settings: ProcessSettings, hash_blocks: HashBlocks, engine_id: str) -> Engine:
    """The engine of a process, not loaded yet; `engine_id` is no other's, before or after. Raises EngineError."""
    if settings.engine.kind != "vllm":
        return make_engine(settings.engine, hash_blocks, settings.model.path)
    make: Callable[[ProcessSettings, HashBlocks, str], Engine]
    make = importlib.import_module("dyno_runtime.engine.vllm.engine").VllmEngine
    return make(settings, hash_blocks, engine_id)


def make_rank(settings: ProcessSettings) -> RankEngine:
    """This rank's part of an engine whose head is another process, not loaded yet. Raises EngineError."""
    if settings.engine.kind != "vllm":
        return NoRank()
    make: Callable[[ProcessSettings], RankEngine]
    make = importlib.import_module("dyno_runtime.engine.vllm.ranks").VllmRank
    return make(settings)
