"""What a process serves to its peers, and how its roles call them: a table from message type to handler.

In: calls from the transport or from this process. Out: the handler's answer; a handler that breaks fails its
call and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from dyno_runtime.bus.base import Call, CallFailed, Reply, Sink, Transport
from dyno_runtime.bus.calls import Answer
from dyno_runtime.wire.messages import Address, Body, Failure

log = logging.getLogger("dyno.peers")

B = TypeVar("B", bound=Body)


class Peers:
    """All other processes, and this one, behind one `open`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._handlers: dict[type[Any], Callable[[Any, Reply], None]] = {}

    def on(self, kind: type[B], handler: Callable[[B, Reply], None]) -> None:
        """Serve this kind of message here."""
        self._handlers[kind] = handler

    def serve(self, body: Body, reply: Reply) -> None:
        """Give a call to its handler."""
        handler = self._handlers.get(type(body))
        if handler is None:
            reply.end(Failure("not_here", f"{type(body).__name__} is not served here"))
            return
        try:
            handler(body, reply)
        except Exception:
            log.exception("serving %s", type(body).__name__)
            reply.end(Failure("engine", f"serving {type(body).__name__} failed; the log says why"))

    def open(self, to: Address, body: Body, sink: Sink) -> Call:
        """Send a call; see `Transport.open`."""
        return self._transport.open(to, body, sink)

    async def ask(self, to: Address, body: Body, timeout_s: float) -> Body | None:
        """A call with at most one item for an answer. Raises CallFailed, also when the time is over."""
        answer = Answer()
        call = self.open(to, body, answer)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer.done
        except TimeoutError:
            call.cancel()
            failure = Failure("timeout", f"{to} did not answer within {timeout_s:g} s")
            raise CallFailed(failure) from None
        except asyncio.CancelledError:
            call.cancel()
            raise
