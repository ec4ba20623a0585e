"""A stand-in for the installed vLLM, whose AsyncLLM tells what a test has written down: for what the real one will
not do when asked to, such as failing.

In: a script, an async generator function for each request. Out: `Library`, as `load_library` gives it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

from dyno_runtime.engine.vllm.engine import WARM_UP
from dyno_runtime.engine.vllm.library import Library
from dyno_runtime.settings import Endpoint, Engine, Model, ProcessSettings, RoleName, Services, Transfer

Script = Callable[..., AsyncIterator[Any]]


class Dead(Exception):
    """Its EngineDeadError."""


class Wishes(SimpleNamespace):
    """Its SamplingParams: whatever it is given."""


async def _warm(_: Any) -> AsyncIterator[Any]:
    yield answer(1, 2)


class Llm:
    """Its AsyncLLM."""

    errored = False
    vllm_config = SimpleNamespace(
        cache_config=SimpleNamespace(num_gpu_blocks=8, cache_dtype="auto", block_size=4),
        parallel_config=SimpleNamespace(tensor_parallel_size=1),
    )
    model_config = SimpleNamespace(
        hf_config=None,
        dtype="torch.float32",
        get_diff_sampling_param=dict,
        get_total_num_hidden_layers=lambda: 2,
        get_total_num_kv_heads=lambda: 2,
        get_head_size=lambda: 32,
    )

    def __init__(self, script: Script, arguments: list[str]) -> None:
        self.vllm_config.model_config = self.model_config
        self.arguments = arguments
        self.asked: list[tuple[str, Any]] = []
        self._script = script

    def generate(self, prompt: Any, params: Any, request_id: str, priority: int = 0) -> AsyncIterator[Any]:
        self.asked.append((request_id, params))
        return _warm(params) if request_id == WARM_UP else self._script(params)

    def shutdown(self) -> None:
        """Nothing to stop."""


class Stand(Library):
    """Its classes, all of them ours; `words` is the command line that was made of the settings."""

    def __init__(self, script: Script) -> None:
        self.words: list[str] = []
        made = SimpleNamespace(from_engine_args=lambda words, stat_loggers: Llm(script, words))
        super().__init__(
            version="0.0",
            AsyncLLM=made,
            AsyncEngineArgs=None,
            SamplingParams=Wishes,
            StructuredOutputsParams=Wishes,
            DELTA="delta",
            FINAL_ONLY="final",
            tokens_input=lambda tokens, cache_salt: tokens,
            StatLoggerBase=object,
            EngineDeadError=Dead,
            refusals=(ValueError,),
            Parser=None,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # it is frozen for all others

    def option_names(self) -> frozenset[str]:
        return frozenset()

    def engine_arguments(self, words: list[str], more: Any) -> Any:
        self.words = words
        return SimpleNamespace(words=words, create_engine_config=self._no_config)

    def _no_config(self, headless: bool) -> Any:
        raise RuntimeError("a stand-in has no configuration")


def answer(
    *tokens: int, finish: str | None = "length", done_s: float | None = None, kv: Any = None
) -> SimpleNamespace:
    """A RequestOutput; `done_s` is when its last token was made, by the monotonic clock."""
    one = SimpleNamespace(token_ids=tokens, finish_reason=finish, logprobs=None)
    metrics = None if done_s is None else SimpleNamespace(last_token_ts=done_s)
    return SimpleNamespace(outputs=[one], num_cached_tokens=0, metrics=metrics, kv_transfer_params=kv)


def kept(ago_s: float) -> SimpleNamespace:
    """A finished prefill whose KV is kept for a decode worker since then."""
    return answer(1, done_s=time.monotonic() - ago_s, kv={"do_remote_prefill": True})


def settings(*roles: RoleName, connector: str = "nixl", **changes: Any) -> ProcessSettings:
    """A worker that exchanges KV."""
    return ProcessSettings(
        cluster="c",
        node="n",
        unit="w-0",
        roles=roles or ("decode",),
        services=Services(("http://127.0.0.1:1",), "nats://127.0.0.1:1"),
        stream=Endpoint("127.0.0.1", 7300),
        model=Model("m", "/models/m"),
        engine=Engine("vllm", "cpu", 4, 64),
        health_path="/dev/null",
        transfer=Transfer(connector, Endpoint("127.0.0.1", 5600)),
        **changes,
    )
