"""From the settings to an engine; the only place that knows which file an engine is in."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from dyno_runtime.engine.base import Engine
from dyno_runtime.settings import Engine as EngineSettings

# Named, not imported: an engine's libraries are loaded only where that engine is asked for.
_ENGINES = {"hello": ("dyno_runtime.engine.hello", "HelloEngine")}


def make_engine(settings: EngineSettings) -> Engine:
    """The engine of `settings`, not loaded yet. Raises EngineError on args that it does not know."""
    module, name = _ENGINES[settings.kind]
    make: Callable[[dict[str, object]], Engine] = getattr(importlib.import_module(module), name)
    return make(settings.args)
