"""A rank of a vLLM engine over several nodes: what `vllm serve --headless` does, within this process.

In: the settings of a rank above 0. Out: `RankEngine`. What computes are children of this process.
Where each node has whole data parallel replicas these are engine cores, which get their part from the head.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import Any, Protocol

from dyno_runtime.engine.base import EngineError
from dyno_runtime.engine.threads import in_daemon
from dyno_runtime.engine.vllm.arguments import words_of
from dyno_runtime.engine.vllm.library import load_library, prepare_environment
from dyno_runtime.engine.vllm.spread import spread_args
from dyno_runtime.engine.vllm.transfer import transfer_config
from dyno_runtime.settings import ProcessSettings

log = logging.getLogger("dyno.vllm")

LOOK_S = 0.1


class Children(Protocol):
    """What runs for the head here."""

    def processes(self) -> list[Any]:
        """The children, as `multiprocessing` knows them."""

    def shutdown(self) -> None:
        """Let go of what they shared."""


class VllmRank:
    """See the module."""

    def __init__(self, settings: ProcessSettings) -> None:
        self._settings = settings
        self._children: Children | None = None

    async def load(self, engine_id: str) -> None:
        # In a thread: imports and weights take from seconds to minutes, and the head has to hear from us meanwhile.
        await in_daemon(lambda: self._load(engine_id))

    def _load(self, engine_id: str) -> None:
        settings = self._settings
        prepare_environment(settings)
        library = load_library()
        more = {
            **spread_args(settings.parallel),
            "kv_transfer_config": transfer_config(settings, engine_id),
        }
        words = words_of(settings, library.option_names(), more)
        arguments = library.engine_arguments(words, {"enable_log_requests": False})
        try:
            config = arguments.create_engine_config(headless=True)
            whole = config.parallel_config.node_rank_within_dp == 0
            self._children = Cores(config) if whole else Workers(config)
        except EngineError:
            raise
        except Exception as error:
            # Whatever vLLM raises here, this rank could not start; its own lines above say more.
            raise EngineError(f"this rank of vLLM could not start: {error}") from error

    async def ended(self) -> str:
        children = self._children
        assert children is not None
        while all(process.is_alive() for process in children.processes()):
            await asyncio.sleep(LOOK_S)
        return "a vLLM worker of this rank died; its last lines are in this log"

    async def close(self) -> None:
        children, self._children = self._children, None
        if children is None:
            return
        # Without the head there is nothing to finish, and a worker that waits for it hears no polite request.
        for process in children.processes():
            process.kill()
        await asyncio.to_thread(children.shutdown)


class Workers:
    """The workers of a replica whose engine core is at the head, or at another node."""

    def __init__(self, config: Any) -> None:
        module = importlib.import_module("vllm.v1.executor.multiproc_executor")
        self._executor = module.MultiprocExecutor(config, monitor_workers=False)

    def processes(self) -> list[Any]:
        return [worker.proc for worker in self._executor.workers]

    def shutdown(self) -> None:
        self._executor.shutdown()


class Cores:
    """The engine cores of whole data parallel replicas."""

    def __init__(self, config: Any) -> None:
        utils = importlib.import_module("vllm.v1.engine.utils")
        executor = importlib.import_module("vllm.v1.executor").Executor
        parallel = config.parallel_config
        self._manager = utils.CoreEngineProcManager(
            local_engine_count=parallel.data_parallel_size_local,
            start_index=parallel.data_parallel_rank,
            local_start_index=0,
            vllm_config=config,
            local_client=False,
            handshake_address=f"tcp://{parallel.data_parallel_master_ip}:{parallel.data_parallel_rpc_port}",
            executor_class=executor.get_class(config),
            log_stats=True,
        )

    def processes(self) -> list[Any]:
        return list(self._manager.processes)

    def shutdown(self) -> None:
        self._manager.shutdown()
