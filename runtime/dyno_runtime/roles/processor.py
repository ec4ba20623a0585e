"""The processor: text from frontends in, tokens to a worker, text back.

In: `Ask`. Out: `Text` pieces; refused while draining.
"""

from __future__ import annotations

from dyno_runtime.bus.base import Reply
from dyno_runtime.roles.base import DRAINING, Part, Surroundings
from dyno_runtime.roles.dispatch import Dispatcher
from dyno_runtime.wire.messages import Ask, Body, Failure


class Processor(Part):
    """See the module."""

    name = "processor"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._dispatcher = Dispatcher(around)
        self._live = 0

    async def start(self) -> None:
        self.around.peers.on(Ask, self._on_ask)

    @property
    def in_flight(self) -> int:
        return self._live

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
