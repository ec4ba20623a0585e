"""Calls within one process, and the small pieces that every transport needs.

`LocalReply` hands the objects over as they are: nothing is encoded, and an item costs one function call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dyno_runtime.bus.base import CallFailed, Serve, Sink
from dyno_runtime.wire.messages import Body, Delta, Failure


class LocalReply:
    """Both ends of a call that stays in the process."""

    def __init__(self, sink: Sink) -> None:
        self.on_cancel: Callable[[], None] | None = None
        self._sink: Sink | None = sink

    def send(self, body: Body) -> None:
        sink = self._sink
        if sink is not None:
            sink.item(body)
            if body.__class__ is Delta and body.finish is not None:
                self.end()

    def end(self, failure: Failure | None = None) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.end(failure)

    def cancel(self) -> None:
        if self._sink is not None:
            self._sink = None
            if self.on_cancel is not None:
                self.on_cancel()


def open_local(serve: Serve, body: Body, sink: Sink) -> LocalReply:
    """Serve a call in this process, in the next turn of the loop, so that `open` never calls back."""
    reply = LocalReply(sink)

    def begin() -> None:
        if reply._sink is not None:
            serve(body, reply)

    asyncio.get_running_loop().call_soon(begin)
    return reply


class Answer:
    """A sink for calls with at most one item; await `done`."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Body | None] = asyncio.get_running_loop().create_future()
        self._item: Body | None = None

    def item(self, body: Body) -> None:
        self._item = body

    def end(self, failure: Failure | None) -> None:
        if self.done.done():
            return
        if failure is None:
            self.done.set_result(self._item)
        else:
            self.done.set_exception(CallFailed(failure))
