"""The mock engine as roles see it: the machine on the event loop, with its loading and its futures.

In: the engine's settings, the model's folder or none, the block hash. Out: `Engine`, `KvHolder` and `Counting`.
Without a model folder its tokens are bytes, for the built-in tokenizer.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from dyno_runtime.engine.base import (
    Deliver,
    Emit,
    EngineError,
    HashBlocks,
    Job,
    OnKv,
    Stats,
    Totals,
)
from dyno_runtime.engine.mock.answer import Words
from dyno_runtime.engine.mock.args import Faults, read_args
from dyno_runtime.engine.mock.machine import Machine
from dyno_runtime.engine.mock.scheduler import Scheduler
from dyno_runtime.engine.mock.vocabulary import words_of
from dyno_runtime.settings import Engine as EngineSettings
from dyno_runtime.wire.kv import BlockHash

# An event loop's timers are as fine as a millisecond.
EARLY_S = 0.0006


class MockEngine:
    """See the module. Raises EngineError on args that it does not know."""

    capabilities = frozenset(
        {
            "ignore_eos",
            "logprobs",
            "max_tokens",
            "min_tokens",
            "seed",
            "stop_token_ids",
            "temperature",
            "top_p",
        }
    )

    def __init__(
        self, settings: EngineSettings, hash_blocks: HashBlocks, model_path: str | None = None
    ) -> None:
        self.deliver: Deliver | None = None
        self.on_kv: OnKv | None = None
        self._settings = settings
        self._args = read_args(settings.args)
        self._hash_blocks = hash_blocks
        self._model_path = model_path
        self._machine: Machine | None = None

    @property
    def slots(self) -> int:
        """How many prefills it works on at a time."""
        return self._args.prefill_slots

    @property
    def machine(self) -> Machine:
        """What runs once it is loaded; faults are injected there. Raises EngineError before."""
        if self._machine is None:
            raise EngineError("the mock engine is not loaded")
        return self._machine

    async def load(self) -> None:
        if self._args.load_s:
            await asyncio.sleep(self._args.load_s)
        if self._args.fail is not None:
            raise EngineError(self._args.fail)
        words = Words()
        if self._model_path is not None:
            words = await asyncio.to_thread(words_of, Path(self._model_path))
        settings = self._settings
        scheduler = Scheduler(
            self._args, settings.block_size, settings.max_model_len, self._hash_blocks, words
        )
        self._machine = Machine(scheduler, asyncio.get_running_loop(), early_s=EARLY_S)
        self._machine.deliver, self._machine.on_kv = self.deliver, self.on_kv

    def generate(self, job: Job, emit: Emit | None = None) -> None:
        self.machine.generate(job, emit)

    async def prefill(self, job: Job) -> dict[str, Any] | None:
        done: asyncio.Future[dict[str, Any] | EngineError | None] = asyncio.get_running_loop().create_future()

        def finish(result: dict[str, Any] | EngineError | None) -> None:
            if not done.done():
                done.set_result(result)

        self.machine.prefill(job, finish)
        try:
            result = await done
        except asyncio.CancelledError:
            self.machine.abort(job.id, for_other=True)
            raise
        if isinstance(result, EngineError):
            raise result
        return result

    def reserve(self, job: Job) -> dict[str, Any] | None:
        return self.machine.reserve(job)

    def held(self) -> tuple[int, list[BlockHash]]:
        return self.machine.held() if self._machine is not None else (0, [])

    def abort(self, job_id: str) -> None:
        if self._machine is not None:
            self._machine.abort(job_id)

    def inject(self, faults: Faults) -> None:
        """From now on these faults, and no others."""
        self.machine.inject(faults)

    def stats(self) -> Stats:
        return (
            self._machine.stats()
            if self._machine is not None
            else Stats(0, total_blocks=self._args.kv_blocks)
        )

    def totals(self) -> Totals:
        return self._machine.totals() if self._machine is not None else Totals()

    def take_waits(self) -> list[float]:
        return self._machine.take_waits() if self._machine is not None else []

    async def close(self) -> None:
        if self._machine is not None:
            self._machine.close()
