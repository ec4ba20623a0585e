"""The vLLM engine as roles see it: AsyncLLM in this process, its cores in children.

In: the process's settings, the block hash. Out: `Engine`, `KvHolder`, `Counting` and `Mortal`. It loads in a thread,
so that this process answers meanwhile. Every request is a task that reads AsyncLLM's stream; all that came in one
turn of the event loop is delivered together. When a child dies, `ended` returns and nothing is told of the requests:
the process ends, and whoever waits for them goes on elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from dyno_runtime.engine.base import (
    BadJob,
    Deliver,
    Emit,
    EngineError,
    HashBlocks,
    Job,
    OnKv,
    Output,
    Stats,
    Totals,
)
from dyno_runtime.engine.threads import in_daemon
from dyno_runtime.engine.vllm.arguments import plain, words_of
from dyno_runtime.engine.vllm.kv_listener import KvAccount, KvListener
from dyno_runtime.engine.vllm.library import Library, executor, load_library, prepare_environment
from dyno_runtime.engine.vllm.sampling import CAPABILITIES, logprobs_of, sampling_arguments
from dyno_runtime.engine.vllm.spread import spread_args
from dyno_runtime.engine.vllm.tally import Tally
from dyno_runtime.engine.vllm.terms import terms_of
from dyno_runtime.engine.vllm.transfer import (
    PREFILL_PARAMS,
    handed_over,
    pushed_within_s,
    transfer_config,
)
from dyno_runtime.settings import ProcessSettings
from dyno_runtime.wire.kv import BlockHash

log = logging.getLogger("dyno.vllm")

LOOK_S = 0.1  # how soon a dead child is noticed
PREFILLS = 4  # at a time; vLLM batches them
WARM_UP = "warm-up"


class VllmEngine:
    """See the module. Raises EngineError on settings that can never work."""

    slots = PREFILLS

    def __init__(self, settings: ProcessSettings, hash_blocks: HashBlocks, engine_id: str) -> None:
        self.deliver: Deliver | None = None
        self.terms: dict[str, str] = {}
        self.capabilities = CAPABILITIES | _by_arguments(settings)
        self._settings = settings
        self._engine_id = engine_id
        self._account = KvAccount(settings.engine.block_size, hash_blocks)
        self._tally = Tally(sends="prefill" in settings.roles)
        self._listener: KvListener | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._library: Library | None = None
        self._llm: Any = None
        self._defaults: dict[str, Any] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._queued: dict[str, int] = {}  # tokens of prompts without a first token
        self._outputs: list[Output] = []
        self._flushes = False  # soon
        self._dead = asyncio.Event()

    @property
    def on_kv(self) -> OnKv | None:
        """Who is told of KV events."""
        return self._account.on_kv

    @on_kv.setter
    def on_kv(self, on_kv: OnKv | None) -> None:
        self._account.on_kv = on_kv

    # ---- life

    async def load(self) -> None:
        if self._settings.parallel.dp == 1:
            self._listener = KvListener(self._account)
            self._hearing = asyncio.get_running_loop().create_task(self._listener.run())
        await in_daemon(self._load)
        await self._warm_up()
        llm = self._llm
        self._tally.total_blocks = (
            llm.vllm_config.cache_config.num_gpu_blocks or 0
        ) * self._settings.parallel.dp
        self._defaults = llm.model_config.get_diff_sampling_param()
        self.terms = terms_of(self._settings, self._library.version if self._library else "", llm.vllm_config)

    def _load(self) -> None:
        """In a thread: imports, and weights, take from seconds to minutes."""
        settings = self._settings
        prepare_environment(settings)
        library = self._library = load_library()
        more = {
            "distributed_executor_backend": executor(settings),
            **spread_args(settings.parallel),
            "kv_transfer_config": transfer_config(settings, self._engine_id),
            "kv_events_config": self._listener.config if self._listener is not None else None,
        }
        words = words_of(settings, library.option_names(), more)
        arguments = library.engine_arguments(words, {"enable_log_requests": False})
        try:
            self._llm = library.AsyncLLM.from_engine_args(
                arguments, stat_loggers=[_logger_of(library, self._tally)]
            )
        except EngineError:
            raise
        except Exception as error:
            # Whatever vLLM raises here, it could not start; its own lines above say more.
            raise EngineError(f"vLLM could not start: {_sentence(error)}") from error

    async def _warm_up(self) -> None:
        """An engine's first steps take seconds, and over several nodes many: now, and not in somebody's request."""
        library = self._library_of()
        params = library.SamplingParams(max_tokens=2, temperature=0.0, ignore_eos=True, detokenize=False)
        self._tally.brought.add(WARM_UP)  # its pace is no measure
        try:
            async for _ in self._llm.generate(library.tokens_input([0], cache_salt="0"), params, WARM_UP):
                pass
        except Exception as error:
            raise EngineError(f"vLLM's first request failed: {_sentence(error)}") from error

    async def ended(self) -> str:
        """Wait until a child dies by itself; why, as a sentence."""
        while self._llm is None or not self._llm.errored:
            if self._hearing is not None and self._hearing.done() and not self._hearing.cancelled():
                return (
                    f"nobody hears vLLM's KV events any more: {self._hearing.exception()!r}; "
                    "its block index would be wrong"
                )
            await asyncio.sleep(LOOK_S)
        self._dead.set()
        return "vLLM's engine core died; its last lines are in this log"

    async def close(self) -> None:
        for task in list(self._jobs.values()):
            task.cancel()
        await asyncio.gather(*self._jobs.values(), return_exceptions=True)
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)
        llm, self._llm = self._llm, None
        if llm is not None:
            await asyncio.to_thread(llm.shutdown)
        if self._listener is not None:
            self._listener.close()

    # ---- requests

    def generate(self, job: Job, emit: Emit | None = None) -> None:
        params = self._params(job, {"params": job.kv["params"]} if job.kv is not None else None)
        self._start(job, self._answer(job, params, emit))
        if job.kv is not None:
            self._tally.brought.add(job.id)

    async def prefill(self, job: Job) -> dict[str, Any] | None:
        """The KV of the job's tokens; vLLM makes one token besides, which nobody wants."""
        transfer = self._settings.transfer
        if transfer is None:
            raise EngineError("this worker has no KV transfer; disagg.connector is not set for it")
        params = self._params(job, {"params": PREFILL_PARAMS})
        params.max_tokens = params.min_tokens = 1
        handed, begun_s, pinned_s = None, time.monotonic(), None
        self._queued[job.id] = len(job.tokens)
        try:
            async for output in self._llm.generate(self._prompt(job), params, job.id):
                self._queued.pop(job.id, None)
                handed = output.kv_transfer_params or handed
                if output.metrics is not None:
                    pinned_s = output.metrics.last_token_ts or pinned_s
        except self._library_of().refusals as error:
            raise BadJob(_sentence(error)) from error
        except self._library_of().EngineDeadError as error:
            raise EngineError("vLLM's engine core died") from error
        except EngineError:
            raise
        except Exception as error:
            log.exception("vLLM failed on the prefill of %s", job.id)
            raise EngineError(f"vLLM failed on this prefill: {_sentence(error)}") from error
        finally:
            self._queued.pop(job.id, None)
        # The core counts the lease from the moment it is done; what passed since is gone of it. It has our clock,
        # unless it is a replica on another node: then we only know that it was not done before it was asked.
        now_s = time.monotonic()
        passed_s = min(max(0.0, now_s - (pinned_s or now_s)), now_s - begun_s)
        return handed_over(handed, transfer.lease_s - passed_s)

    def reserve(self, job: Job) -> dict[str, Any] | None:
        """vLLM sets blocks aside by itself when the KV is to come; the prefill worker needs to know our terms."""
        if self._settings.transfer is None:
            raise EngineError("this worker has no KV transfer; disagg.connector is not set for it")
        return {"terms": self.terms}

    def abort(self, job_id: str) -> None:
        task = self._jobs.pop(job_id, None)
        if task is not None:
            self._queued.pop(job_id, None)  # a task that has not begun never comes to its `finally`
            self._tally.brought.discard(job_id)
            self._outputs = [one for one in self._outputs if one.job is None or one.job.id != job_id]
            task.cancel()  # AsyncLLM aborts what its reader leaves

    def stats(self) -> Stats:
        return self._tally.stats(sum(self._queued.values()), self._account.count)

    def totals(self) -> Totals:
        return self._tally.totals()

    def take_waits(self) -> list[float]:
        return self._tally.take_waits()

    def held(self) -> tuple[int, list[BlockHash]]:
        return self._account.held()

    # ---- inside

    def _library_of(self) -> Library:
        if self._library is None or self._llm is None:
            raise EngineError("the vLLM engine is not loaded")
        return self._library

    def _params(self, job: Job, kv: dict[str, Any] | None) -> Any:
        library = self._library_of()
        made = sampling_arguments(job, self._defaults)
        if "structured_outputs" in made:
            made["structured_outputs"] = library.StructuredOutputsParams(**made["structured_outputs"])
        if kv is not None:
            made["extra_args"] = {"kv_transfer_params": dict(kv["params"])}
        try:
            return library.SamplingParams(**made, output_kind=library.DELTA)
        except library.refusals as error:
            raise BadJob(_sentence(error)) from error
        except ValueError as error:
            raise BadJob(_sentence(error)) from error

    def _prompt(self, job: Job) -> Any:
        # Blocks of different salts are different blocks, for the engine as for routers.
        return self._library_of().tokens_input(job.tokens, cache_salt=str(job.salt))

    def _start(self, job: Job, work: Any) -> None:
        if job.id in self._jobs:
            work.close()
            raise EngineError(f"job {job.id} is here already")
        self._queued[job.id] = len(job.tokens)
        self._jobs[job.id] = asyncio.get_running_loop().create_task(work)

    async def _answer(self, job: Job, params: Any, emit: Emit | None) -> None:
        """One request, from its prompt to its last token."""
        library, finish, cached = self._library_of(), None, None
        try:
            late_s = pushed_within_s(self._settings.transfer, job.kv)
            stream = self._asked(job, params) if late_s is None else self._pushed(job, params, late_s)
            async for output in stream:
                if self._queued.pop(job.id, None) is not None:
                    cached = output.num_cached_tokens or 0
                self._tell(self._output(job, output, cached), emit)
                cached, finish = None, output.outputs[0].finish_reason
            if finish is None:
                self._tell(Output([], "error", "vLLM ended this request without a reason", job), emit)
        except asyncio.CancelledError:
            raise
        except library.EngineDeadError:
            pass  # `ended` says so, and this process goes
        except library.refusals as error:
            self._tell(Output([], "error", _sentence(error), job, bad=True), emit)
        except Exception as error:
            log.exception("vLLM failed on request %s", job.id)
            self._tell(Output([], "error", f"vLLM failed on this request: {_sentence(error)}", job), emit)
        finally:
            self._queued.pop(job.id, None)
            if finish is None:
                self._tally.brought.discard(job.id)
            if self._jobs.get(job.id) is asyncio.current_task():
                del self._jobs[job.id]

    def _asked(self, job: Job, params: Any) -> AsyncIterator[Any]:
        made: AsyncIterator[Any]
        made = self._llm.generate(self._prompt(job), params, job.id, priority=job.sampling.priority)
        return made

    async def _pushed(self, job: Job, params: Any, late_s: float) -> AsyncIterator[Any]:
        """The same where KV is pushed to us: if nobody does, vLLM waits for it without end, and we do not."""
        stream = self._asked(job, params)
        try:
            async with asyncio.timeout(late_s):
                first = await anext(stream, None)
            if first is not None:
                yield first
        except TimeoutError:
            log.warning("%s: no KV was pushed for it within %.1f s; prefilling here", job.id, late_s)
            self._tally.lost(job.id)
            stream = self._asked(job, self._params(job, None))
        async for output in stream:
            yield output

    def _output(self, job: Job, output: Any, cached: int | None) -> Output:
        one = output.outputs[0]
        tokens = list(one.token_ids)
        finish = one.finish_reason
        if finish in ("abort", "error") or finish not in (None, "stop", "length"):
            return Output([], "error", f"vLLM ended this request: {finish}", job)
        wanted = job.sampling.logprobs
        logprobs = None if wanted is None or not one.logprobs else logprobs_of(tokens, one.logprobs, wanted)
        return Output(tokens, finish, None, job, cached, logprobs)

    def _tell(self, output: Output, emit: Emit | None) -> None:
        if emit is not None:
            emit(output)
            return
        if not self._flushes:
            self._flushes = True
            asyncio.get_running_loop().call_soon(self._flush)
        self._outputs.append(output)

    def _flush(self) -> None:
        outputs, self._outputs, self._flushes = self._outputs, [], False
        if self.deliver is not None and outputs:
            self.deliver(outputs)


def _logger_of(library: Library, tally: Tally) -> Any:
    """A factory of vLLM's stat loggers that keeps the tally."""

    class Keeping(library.StatLoggerBase):  # type: ignore[misc, name-defined]  # known only now
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            self._rank = engine_index

        def record(
            self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
        ) -> None:
            if scheduler_stats is not None:
                tally.take_scheduler(engine_idx, scheduler_stats)
            if iteration_stats is not None:
                tally.take_step(iteration_stats)

        def log_engine_initialized(self) -> None:
            """Nothing to say."""

    return Keeping


def _by_arguments(settings: ProcessSettings) -> frozenset[str]:
    """What vLLM can only with some of its arguments."""
    policies = [value for key, value in settings.engine.args.items() if plain(key) == "scheduling_policy"]
    return frozenset({"priority"}) if policies == ["priority"] else frozenset()


def _sentence(error: BaseException) -> str:
    """The first line of an error, or its name."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
