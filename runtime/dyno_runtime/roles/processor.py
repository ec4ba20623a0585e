"""The processor: text from frontends in, tokens to a worker, text back.

In: `Ask`. Out: `Text` pieces. In: `Prepare`. Out: prompts as tokens, or why the request is refused; the frontend
sends them on, because answers become text where the client is. Refused while draining.
"""

from __future__ import annotations

import asyncio
import logging

from dyno_runtime.bus.base import Reply
from dyno_runtime.metrics import names
from dyno_runtime.openai.errors import ApiError
from dyno_runtime.openai.request import parse_chat, parse_completion
from dyno_runtime.roles.base import DRAINING, Part, Surroundings
from dyno_runtime.roles.catalog import Catalog
from dyno_runtime.roles.desk import prompts
from dyno_runtime.roles.dispatch import Dispatcher
from dyno_runtime.wire.messages import Ask, Body, Failure, Prepare, Prepared, Rejected

log = logging.getLogger("dyno.processor")


class Processor(Part):
    """See the module."""

    name = "processor"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._dispatcher = Dispatcher(around)
        self._live = 0
        self._desk = around.desk
        self._catalog = Catalog(around)
        self._preparing: set[asyncio.Task[None]] = set()
        self._prepared = around.meter.values(names.PREPARED)

    async def start(self) -> None:
        self.around.peers.on(Ask, self._on_ask)
        self.around.peers.on(Prepare, self._on_prepare)

    def view_changed(self) -> None:
        self._catalog.changed()
        self._desk.begin(one.path for one in self._catalog.offers.values())

    async def stop(self) -> None:
        for task in list(self._preparing):
            task.cancel()

    def _on_prepare(self, wanted: Prepare, reply: Reply) -> None:
        if self.draining:
            reply.end(DRAINING)
            return
        task = asyncio.get_running_loop().create_task(self._prepare(wanted, reply))
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)
        reply.on_cancel = task.cancel  # type: ignore[assignment]

    async def _prepare(self, wanted: Prepare, reply: Reply) -> None:
        try:
            request = parse_chat(wanted.body) if wanted.kind == "chat" else parse_completion(wanted.body)
            offer = self._catalog.find(request.model)
            text = await self._desk.text(offer.path)
            reply.send(Prepared(await prompts(text, request, offer.longest_tokens)))
            self._prepared.add()
        except ApiError as error:
            reply.send(Rejected(error.status, error.message, error.param, error.code))
        except Exception:
            log.exception("preparing a request")
            reply.end(Failure("engine", "preparing this request failed; the processor's log says why"))
        reply.end()

    @property
    def in_flight(self) -> int:
        return self._live + len(self._preparing)

    def _on_ask(self, ask: Ask, reply: Reply) -> None:
        if self.draining:
            reply.end(DRAINING)
            return
        self._live += 1
        relay = _Relay(self, reply)
        journey = self._dispatcher.open_ask(ask, relay)
        if journey is not None:

            def cancel() -> None:
                journey.cancel()
                relay.over()

            reply.on_cancel = cancel

    def ended(self) -> None:
        """One request less."""
        self._live -= 1


class _Relay:
    """Passes the answer on and counts its end, once."""

    def __init__(self, processor: Processor, reply: Reply) -> None:
        self._processor: Processor | None = processor
        self._reply = reply

    def item(self, body: Body) -> None:
        self._reply.send(body)

    def end(self, failure: Failure | None) -> None:
        self._reply.end(failure)
        self.over()

    def over(self) -> None:
        processor, self._processor = self._processor, None
        if processor is not None:
            processor.ended()
