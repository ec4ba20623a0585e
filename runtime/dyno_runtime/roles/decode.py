"""The decode worker: tokens in, new tokens out; prefilled here or by a prefill worker.

In: `Generate`. Out: `Delta` pieces, those of one engine step together. A caller that leaves aborts the engine's job
at once. A request costs a task only while a prefill worker has it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from dyno_runtime.bus.base import Reply
from dyno_runtime.engine.base import BadJob, Engine, EngineError, Job, Output, Overloaded
from dyno_runtime.roles.base import DRAINING, NOT_READY, Part, Surroundings
from dyno_runtime.roles.prefilling import Prefilling
from dyno_runtime.roles.telling import Telling
from dyno_runtime.wire.messages import Delta, Failure, FailureCode, Generate

log = logging.getLogger("dyno.decode")

MAX_IN_FLIGHT = 4096


class Decode(Part):
    """See the module."""

    name = "decode"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        assert around.engine is not None
        self._engine: Engine = around.engine
        self._engine.deliver = _deliver
        self._telling = Telling(around, self._engine)
        self._prefilling = Prefilling(around, self._engine, self._telling.ledger.held)
        self._live: dict[str, _Sitting] = {}

    async def start(self) -> None:
        self._prefilling.start()
        self._telling.start()
        self.around.peers.on(Generate, self._on_generate)

    @property
    def in_flight(self) -> int:
        return len(self._live)

    def view_changed(self) -> None:
        self.problem = self._prefilling.refused()

    def _on_generate(self, order: Generate, reply: Reply) -> None:
        if self.draining:
            reply.end(DRAINING)
        elif not self.around.engine_ready.is_set():
            reply.end(NOT_READY)
        elif len(self._live) >= MAX_IN_FLIGHT:
            reply.end(Failure("overloaded", f"{MAX_IN_FLIGHT} requests are in flight here"))
        elif order.request in self._live:
            reply.end(Failure("bad_request", f"request {order.request} is here already"))
        else:
            sitting = self._live[order.request] = _Sitting(self, order, reply)
            if self._prefilling.stays(order):
                self.generate(sitting, None, "local")
            else:
                sitting.wait(self._prefill_elsewhere(sitting))

    async def _prefill_elsewhere(self, sitting: _Sitting) -> None:
        """The one task of a request: until the engine has it."""
        kv, label = await self._prefilling.prefill(sitting.order)
        self.generate(sitting, kv, label)

    def generate(self, sitting: _Sitting, kv: dict[str, Any] | None, label: str) -> None:
        """The engine's turn."""
        sitting.label = label
        try:
            self._engine.generate(job_of(sitting.order, kv, sitting))
        except EngineError as error:
            sitting.fail(Failure(_code(error), str(error)))
        except Exception:
            log.exception("the engine broke on request %s", sitting.order.request)
            sitting.fail(Failure("engine", "the engine failed on this request; its log says why"), abort=True)

    def ended(self, sitting: _Sitting, *, abort: bool = False) -> None:
        """The request is answered, or its caller left."""
        if self._live.pop(sitting.order.request, None) is not None and abort:
            self._engine.abort(sitting.order.request)

    async def stop(self) -> None:
        self._telling.stop()
        for sitting in list(self._live.values()):
            sitting.cut()


class _Sitting:
    """One request in this worker."""

    __slots__ = ("_decode", "_reply", "_task", "label", "order")

    def __init__(self, decode: Decode, order: Generate, reply: Reply) -> None:
        self.order = order
        self.label: str | None = None
        self._decode = decode
        self._reply = reply
        self._task: asyncio.Task[None] | None = None
        reply.on_cancel = self._leave

    def wait(self, work: Any) -> None:
        """Somebody else prefills."""
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._check)

    def emit(self, output: Output) -> None:
        """New tokens from the engine."""
        finish = output.finish
        if finish == "error":
            code: FailureCode = "bad_request" if output.bad else "engine"
            self.fail(Failure(code, output.error or "the engine failed"))
            return
        label, self.label = self.label, None
        self._reply.send(Delta(output.tokens, finish, label, output.cached_tokens, output.logprobs))
        if finish is not None:
            self._decode.ended(self)
            self._reply.end()

    def fail(self, failure: Failure, *, abort: bool = False) -> None:
        """The request cannot be answered here."""
        self._decode.ended(self, abort=abort)
        self._reply.end(failure)

    def _leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._decode.ended(self, abort=True)

    def cut(self) -> None:
        """This process cannot wait any longer."""
        self._leave()
        self._reply.end(DRAINING)

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("request %s failed", self.order.request, exc_info=task.exception())
            self.fail(Failure("engine", "the worker failed on this request; its log says why"), abort=True)


def job_of(order: Generate, kv: dict[str, Any] | None = None, owner: Any = None) -> Job:
    """The engine's job for an order."""
    blocks = order.blocks or None
    return Job(order.request, order.tokens, order.sampling, kv, order.answered, order.salt, blocks, owner)


def _code(error: EngineError) -> FailureCode:
    if isinstance(error, BadJob):
        return "bad_request"
    return "overloaded" if isinstance(error, Overloaded) else "engine"


def _deliver(outputs: list[Output]) -> None:
    """All outputs of one engine step; the transport makes one frame for each peer of them."""
    for output in outputs:
        job = output.job
        if job is not None:
            job.owner.emit(output)
