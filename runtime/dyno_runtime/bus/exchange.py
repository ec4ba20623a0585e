"""One HTTP request and its answer, as handlers see them.

In: a whole `Request`. Out: the bytes of its answer, whole or streamed, written to the client's connection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from dyno_runtime.bus.http import HttpConnection

Header = tuple[bytes, bytes]
STATUS_LINES = {int(one): b"HTTP/1.1 %d %s\r\n" % (one, one.phrase.encode()) for one in HTTPStatus}
_JSON = b"application/json"


class Request(msgspec.Struct, frozen=True, gc=False):
    """One whole request. Header names are lower case; of equal ones the last counts."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes


class Exchange:
    """One request and its answer: either `respond`, or `begin`, any number of `write`, `finish`.

    `on_gone` is called once if the client leaves before the answer is complete; later calls are ignored. `on_drained`
    is called whenever a client that did not read reads again.
    """

    __slots__ = ("_connection", "_keep_alive", "_streaming", "on_drained", "on_gone", "request")

    def __init__(self, connection: HttpConnection, request: Request, *, keep_alive: bool) -> None:
        self.request = request
        self.on_gone: Callable[[], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        self._connection: HttpConnection | None = connection
        self._keep_alive = keep_alive
        self._streaming = False

    def respond(
        self, status: int, body: bytes, headers: tuple[Header, ...] = (), content_type: bytes = _JSON
    ) -> None:
        """The whole answer."""
        connection = self._connection
        if connection is None:
            return
        head = self._head(status, headers, content_type)
        sent = b"" if self.request.method == "HEAD" else body
        connection.write(b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), sent))
        self._complete()

    def begin(self, status: int, headers: tuple[Header, ...]) -> None:
        """The head of a streamed answer."""
        connection = self._connection
        if connection is not None:
            self._streaming = True
            head = self._head(status, headers, None)
            connection.write(head + b"transfer-encoding: chunked\r\n\r\n")

    def write(self, data: bytes) -> None:
        """The next piece of a streamed answer; not empty."""
        if self._connection is not None:
            self._connection.write(b"%x\r\n%s\r\n" % (len(data), data))

    def finish(self, data: bytes = b"") -> None:
        """The end of a streamed answer, with a last piece."""
        if self._connection is not None:
            last = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
            self._connection.write(last)
            self._complete()

    def fail(self) -> None:
        """The handler broke: say so, or cut off an answer that has begun."""
        connection = self._connection
        if connection is not None and self._streaming:
            connection.cut()
        else:
            self.respond(500, error_body("an error inside the server", "internal_error", "internal"))

    @property
    def stalled(self) -> bool:
        """The client reads slower than we write; hold back what can wait."""
        return self._connection is not None and self._connection.paused

    def _head(self, status: int, headers: tuple[Header, ...], content_type: bytes | None) -> bytes:
        assert self._connection is not None
        self._keep_alive = self._keep_alive and not self._connection.closing
        return _spelled(status, headers, content_type, self._keep_alive)

    def _complete(self) -> None:
        connection, self._connection = self._connection, None
        # Whoever they belong to points here as well, and circles have to be found to be freed.
        self.on_gone = self.on_drained = None
        if connection is not None:
            connection.completed(keep_alive=self._keep_alive)

    def gone(self) -> None:
        """The connection is lost."""
        self._connection = None
        on_gone, self.on_gone, self.on_drained = self.on_gone, None, None
        if on_gone is not None:
            on_gone()


Handler = Callable[[Exchange], None]


@lru_cache(1024)
def _spelled(status: int, headers: tuple[Header, ...], content_type: bytes | None, keep_alive: bool) -> bytes:
    """The head of an answer up to what depends on its body; few of them differ."""
    if content_type is not None:
        headers = (*headers, (b"content-type", content_type))
    if not keep_alive:
        headers = (*headers, (b"connection", b"close"))
    return STATUS_LINES[status] + b"".join(b"%s: %s\r\n" % header for header in headers)


def error_body(message: str, kind: str, code: str) -> bytes:
    """The JSON of every refusal."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
