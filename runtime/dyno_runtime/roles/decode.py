"""The decode worker: tokens in, new tokens out; prefilled here or by a prefill worker.

In: `Generate`. Out: `Delta` pieces. A caller that leaves aborts the engine's job within one step.
"""

from __future__ import annotations

import asyncio
import logging

from dyno_runtime.bus.base import Reply
from dyno_runtime.engine.base import Engine, Job, Output
from dyno_runtime.roles.base import DRAINING, NOT_READY, Part, Surroundings
from dyno_runtime.roles.prefilling import Prefilling
from dyno_runtime.wire.messages import Delta, Failure, Generate

log = logging.getLogger("dyno.decode")

MAX_IN_FLIGHT = 4096


class Decode(Part):
    """See the module."""

    name = "decode"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        assert around.engine is not None
        self._engine: Engine = around.engine
        self._prefilling = Prefilling(around)
        self._live: dict[str, _Sitting] = {}

    async def start(self) -> None:
        self._prefilling.start()
        self.around.peers.on(Generate, self._on_generate)

    @property
    def in_flight(self) -> int:
        return len(self._live)

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
            self._live[order.request] = _Sitting(self, order, reply)

    async def prefill_and_generate(self, sitting: _Sitting) -> None:
        """The one task of a request: everything until the engine has it."""
        order = sitting.order
        kv, sitting.label = await self._prefilling.prefill(order)
        self._engine.generate(Job(order.request, order.tokens, kv=kv), sitting.emit)

    def ended(self, sitting: _Sitting, *, abort: bool = False) -> None:
        """The request is answered, or its caller left."""
        if self._live.pop(sitting.order.request, None) is not None and abort:
            self._engine.abort(sitting.order.request)

    async def stop(self) -> None:
        for sitting in list(self._live.values()):
            sitting.cut()


class _Sitting:
    """One request in this worker."""

    def __init__(self, decode: Decode, order: Generate, reply: Reply) -> None:
        self.order = order
        self.label: str | None = None
        self._decode = decode
        self._reply = reply
        reply.on_cancel = self._leave
        self._task = asyncio.get_running_loop().create_task(decode.prefill_and_generate(self))
        self._task.add_done_callback(self._check)

    def emit(self, output: Output) -> None:
        """New tokens from the engine."""
        label, self.label = self.label, None
        if output.finish == "error":
            self._decode.ended(self)
            self._reply.end(Failure("engine", output.error or "the engine failed"))
            return
        self._reply.send(Delta(output.tokens, output.finish, label))
        if output.finish is not None:
            self._decode.ended(self)
            self._reply.end()

    def _leave(self) -> None:
        self._task.cancel()
        self._decode.ended(self, abort=True)

    def cut(self) -> None:
        """This process cannot wait any longer."""
        self._leave()
        self._reply.end(DRAINING)

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("request %s failed", self.order.request, exc_info=task.exception())
            self._decode.ended(self, abort=True)
            self._reply.end(Failure("engine", "the worker failed on this request; its log says why"))
