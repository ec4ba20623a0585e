"""A small HTTP/1.1 server: requests in, whole, through one callback; answers out, whole or streamed.

In: a `Handler` and `Limits`. Out: an `Exchange` for each request. What is not HTTP, too large, too slow or
half-sent is refused here with a JSON error and never reaches the handler. No task and no timer per request;
one sweep a second looks after all deadlines.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from dyno_runtime.bus.base import Refused, why
from dyno_runtime.bus.exchange import STATUS_LINES, Exchange, Handler, Request, error_body

log = logging.getLogger("dyno.http")

MAX_PIPELINED = 16
LINGER_S = 2.0  # for a client that still sends what was refused already


@dataclass(frozen=True)
class Limits:
    """What one client may cost."""

    max_head_bytes: int = 32 * 1024
    max_headers: int = 100
    max_body_bytes: int = 8 * 1024 * 1024
    max_connections: int = 8192
    request_s: float = 15.0  # from the first byte of a request to its last
    idle_s: float = 75.0  # between requests
    stalled_s: float = 30.0  # an answer that the client does not read
    sweep_s: float = 1.0


class HttpConnection(asyncio.Protocol):
    """One client. Pipelined requests wait for their turn; where many do, reading stops meanwhile."""

    def __init__(self, server: HttpServer) -> None:
        self.closing = False
        self.paused = False
        self.deadline_s = server.now_s() + server.limits.idle_s
        self._server = server
        self._limits = server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._tcp: asyncio.Transport | None = None
        self._current: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._refusal: tuple[int, str, str] | None = None
        self._receiving = False
        self._completed = False  # a message, in this very read
        self._deaf = False
        self._reading = True
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._header_bytes = 0
        self._header_count = 0
        self._head_done = False
        self._body: list[bytes] = []
        self._body_bytes = 0

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast(asyncio.Transport, transport)
        sock = self._tcp.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._server.admit(self):
            self._refuse(503, "overloaded", f"more than {self._limits.max_connections} connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self._tcp = None
        self._server.forget(self)
        self._waiting.clear()
        current, self._current = self._current, None
        if current is not None:
            current.gone()

    def data_received(self, data: bytes) -> None:
        if self._deaf or (self.closing and self._current is None):
            return
        if not self._receiving:
            self._receiving = True
            if self._current is None:
                self.deadline_s = self._server.now_s() + self._limits.request_s
        self._completed = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # An upgrade may be ignored, so the request was answered; what follows it cannot be understood.
            self._deaf = True
        except httptools.HttpParserError as error:
            self._refusal = self._refusal or (400, "bad_request", f"not an HTTP request: {error}")
        # After the parser, which starts the count anew with each message. A read that ends one is not of
        # the next head.
        if self._receiving and not self._head_done and not self._completed:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.max_head_bytes:
                self._refuse_head()
        if self._refusal is not None:
            self._refuse(*self._refusal)

    def pause_writing(self) -> None:
        self.paused = True
        self.deadline_s = self._server.now_s() + self._limits.stalled_s

    def resume_writing(self) -> None:
        self.paused = False
        self._set_deadline()
        if self._current is not None and self._current.on_drained is not None:
            self._current.on_drained()

    # ---- httptools

    def on_message_begin(self) -> None:
        self._receiving = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        self._headers[name.lower()] = value
        if self._header_count > self._limits.max_headers:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        self._head_done = True
        if len(self._url) + self._header_bytes > self._limits.max_head_bytes:
            self._refuse_head()
        announced = self._headers.get(b"content-length", b"0")
        expected = self._headers.get(b"expect")
        if announced.isdigit() and int(announced) > self._limits.max_body_bytes:
            self._refuse_body()
        elif expected is not None and expected.lower() == b"100-continue" and self._refusal is None:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            self._refuse_body()
        elif self._refusal is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._refusal is not None:
            return
        self._receiving = False
        self._completed = True
        try:
            path = self._url.decode("ascii")
            if not path.startswith("/") or path.startswith("//") or "?" in path or "#" in path:
                path = urlsplit(path).path
        except ValueError:
            self._refusal = (400, "bad_request", "the URL cannot be read")
            return
        method = self._parser.get_method().decode()
        request = Request(method, path, self._headers, b"".join(self._body))
        self._reset()
        keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        self._waiting.append(Exchange(self, request, keep_alive=keep_alive))
        self._next()

    # ---- the exchanges

    def _next(self) -> None:
        if self._tcp is None:
            return
        if self._current is None and self._waiting and not self.closing:
            self._current = self._waiting.popleft()
            self.deadline_s = float("inf")
            self._handle(self._current)
        # Reading goes on while a request is answered, or a client that leaves would not be noticed.
        reading = len(self._waiting) < MAX_PIPELINED
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self._tcp.resume_reading()
            else:
                self._tcp.pause_reading()

    def _handle(self, exchange: Exchange) -> None:
        try:
            self._server.handler(exchange)
        except Exception:
            # The parser that called would swallow it, and the client would wait for ever.
            log.exception("the handler of %s %s failed", exchange.request.method, exchange.request.path)
            exchange.fail()

    def completed(self, *, keep_alive: bool) -> None:
        """The answer to the current request is written."""
        self._current = None
        if self._tcp is None:
            return
        if not keep_alive or self.closing:
            self.closing = True
            # A client that does not read the rest would keep the connection for ever.
            self.deadline_s = self._server.now_s() + self._limits.stalled_s
            self._tcp.close()
            return
        self._set_deadline()
        if self._waiting or not self._reading:
            # Not from here: a handler that answers at once would recurse through a long pipeline.
            asyncio.get_running_loop().call_soon(self._next)

    def write(self, data: bytes) -> None:
        """Bytes to the client."""
        if self._tcp is not None:
            self._tcp.write(data)

    def cut(self) -> None:
        """End now, whatever is unsent."""
        if self._tcp is not None:
            self._tcp.abort()

    def _set_deadline(self) -> None:
        limits, now_s = self._limits, self._server.now_s()
        if self.paused or (self.closing and self._current is None):
            self.deadline_s = now_s + limits.stalled_s
        elif self._current is not None:
            self.deadline_s = float("inf")
        else:
            self.deadline_s = now_s + (limits.request_s if self._receiving else limits.idle_s)

    # ---- refusing and ending

    def _refuse_head(self) -> None:
        limits = self._limits
        message = f"the head is over {limits.max_head_bytes} bytes or {limits.max_headers} headers"
        self._refusal = self._refusal or (431, "too_large", message)

    def _refuse_body(self) -> None:
        message = f"the body is over {self._limits.max_body_bytes} bytes"
        self._refusal = self._refusal or (413, "too_large", message)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer and close; what is being answered already is cut off, its client broke the protocol."""
        kind = "unavailable_error" if status == 503 else "invalid_request_error"
        body = error_body(message, kind, code)
        current, self._current = self._current, None
        self._waiting.clear()
        self.closing = True
        if current is None:
            head = STATUS_LINES[status] + b"content-type: application/json\r\nconnection: close\r\n"
            self.write(b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body))
        else:
            current.gone()
        if self._tcp is None:
            return
        if status in (413, 431) and current is None:
            # Closing with unread bytes resets the connection, and the client would never see why.
            self._deaf = True
            self._tcp.write_eof()
            self.deadline_s = self._server.now_s() + LINGER_S
        else:
            self._tcp.close()

    def expire(self) -> None:
        """The deadline has passed: a half-sent request is told so, an idle or stalled client is just cut."""
        if self._receiving and self._current is None and not self.closing:
            seconds = f"{self._limits.request_s:g} s"
            self._refuse(408, "timeout", f"the request was not complete within {seconds}")
        elif self._tcp is not None:
            self._tcp.abort()

    def drain(self) -> None:
        """Close now if idle, else after the answer that is under way."""
        self.closing = True
        self._waiting.clear()
        if self._current is None and self._tcp is not None:
            self._tcp.close()


class HttpServer:
    """Listens, and sweeps its connections for passed deadlines."""

    def __init__(self, handler: Handler, limits: Limits | None = None) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self._loop = asyncio.get_running_loop()
        self._connections: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int, *, shared: bool = False) -> int:
        """Bind and serve; the port, chosen by the system where `port` is 0. Raises Refused where it is taken.

        `shared`: other processes of this user listen there, too, and the system gives each some of the connections.
        """
        try:
            self._server = await self._loop.create_server(
                lambda: HttpConnection(self), host, port, backlog=1024, reuse_port=shared or None
            )
        except OSError as error:
            raise Refused(f"cannot listen for HTTP on {host}:{port}: {why(error)}") from error
        self._sweep = self._loop.call_later(self.limits.sweep_s, self._sweep_once)
        return int(self._server.sockets[0].getsockname()[1])

    def now_s(self) -> float:
        """The event loop's time."""
        return self._loop.time()

    def admit(self, connection: HttpConnection) -> bool:
        """Count a new connection; False where it is one too many."""
        self._connections.add(connection)
        return len(self._connections) <= self.limits.max_connections

    def forget(self, connection: HttpConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)

    def drain(self) -> None:
        """Take no new connections, end idle ones, let answers that are under way finish."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()

    async def close(self) -> None:
        """End everything."""
        self.drain()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._connections):
            connection.expire()
        await asyncio.sleep(0)

    def _sweep_once(self) -> None:
        now_s = self.now_s()
        for connection in [one for one in self._connections if one.deadline_s < now_s]:
            connection.expire()
        self._sweep = self._loop.call_later(self.limits.sweep_s, self._sweep_once)
