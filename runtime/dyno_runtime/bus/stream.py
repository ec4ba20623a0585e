"""The stream transport: listens for peers, dials them, keeps one connection for each, notices silent ones.

In: `open(address, body, sink)`. Out: the peer's answer through the sink, or `peer_lost`, within `SILENT_S`.
"""

from __future__ import annotations

import asyncio
import logging

from dyno_runtime.bus.base import Refused, Serve, Sink, why
from dyno_runtime.bus.calls import LocalReply, open_local
from dyno_runtime.bus.connection import Connection, StreamCall
from dyno_runtime.wire.envelopes import Hello, Ping
from dyno_runtime.wire.messages import Address, Body

log = logging.getLogger("dyno.stream")

CONNECT_S = 3.0
BEAT_S = 2.0
SILENT_S = 10.0  # a peer sends something every BEAT_S, so this one is gone or frozen
GREETING_S = 5.0
MAX_CONNECTIONS = 4096
_MAX_STRANGERS = 256


class StreamTransport:
    """See the module; `Transport` in `bus.base` is the contract. Calls to `own` stay in the process."""

    def __init__(self, cluster: str, lease: str, own: Address) -> None:
        self.hello = Hello(cluster, lease, own)
        self.serve: Serve = _nobody_home
        self._own = own
        self._server: asyncio.Server | None = None
        self._peers: dict[Address, Connection] = {}
        self._connections: set[Connection] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._beat: asyncio.TimerHandle | None = None
        self._strangers: set[str] = set()
        self._closed = False

    async def listen(self, serve: Serve) -> None:
        self.serve = serve
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self, None), self._own.host, self._own.port, reuse_address=True
            )
        except OSError as error:
            raise Refused(f"cannot listen for peers on {self._own}: {why(error)}") from error
        self._keep_beating()

    def open(self, to: Address, body: Body, sink: Sink) -> StreamCall | LocalReply:
        if to == self._own:
            return open_local(self.serve, body, sink)
        connection = self._peers.get(to)
        if connection is None:
            connection = self._peers[to] = Connection(self, to)
            if self._closed:
                connection.lose("this process ends")
            else:
                self._connections.add(connection)
                task = asyncio.get_running_loop().create_task(self._dial(connection, to))
                self._dialling.add(task)
                task.add_done_callback(self._dialling.discard)
        return connection.open(body, sink)

    async def _dial(self, connection: Connection, to: Address) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(lambda: connection, to.host, to.port)
        except TimeoutError:
            connection.lose(f"no connection to {to} within {CONNECT_S:.0f} s")
        except OSError as error:
            connection.lose(f"no connection to {to}: {why(error)}")
        except UnicodeError:
            connection.lose(f"no connection to {to}: this is no name of a host")
        self._keep_beating()

    # ---- what connections report

    def made(self, connection: Connection) -> None:
        self._connections.add(connection)
        if len(self._connections) > MAX_CONNECTIONS:
            connection.lose(f"more than {MAX_CONNECTIONS} connections", strange=True)

    def greeted(self, connection: Connection, hello: Hello) -> None:
        # Two processes may dial each other at once; both connections work, and the first is used for new calls.
        self._peers.setdefault(hello.stream, connection)

    def lost(self, connection: Connection, reason: str, *, strange: bool) -> None:
        self._connections.discard(connection)
        if connection.peer is not None and self._peers.get(connection.peer) is connection:
            del self._peers[connection.peer]
        if strange:
            self._log_stranger(connection, reason)
        elif not self._closed and connection.busy:
            log.warning("lost a peer in the middle of its calls: %s", reason)

    def _log_stranger(self, connection: Connection, reason: str) -> None:
        host = connection.remote_host
        if host not in self._strangers and len(self._strangers) < _MAX_STRANGERS:
            self._strangers.add(host)
            log.warning("closed a connection from %s: %s; more from there will not be logged", host, reason)

    # ---- silence

    def _keep_beating(self) -> None:
        if self._beat is None and not self._closed:
            self._beat = asyncio.get_running_loop().call_later(BEAT_S, self._beat_once)

    def _beat_once(self) -> None:
        self._beat = None
        now_s = asyncio.get_running_loop().time()
        for connection in list(self._connections):
            if not connection.greeted:
                if now_s - connection.since_s > GREETING_S:
                    connection.lose(f"no greeting within {GREETING_S:.0f} s", strange=True)
            elif now_s - connection.heard_s > SILENT_S:
                connection.lose(f"{connection.peer} has been silent for {SILENT_S:.0f} s")
            elif now_s - connection.spoke_s >= BEAT_S / 2:
                connection.send(Ping())
        self._keep_beating()

    async def stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def close(self) -> None:
        self._closed = True
        await self.stop_listening()
        if self._beat is not None:
            self._beat.cancel()
        for task in list(self._dialling):
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        for connection in list(self._connections):
            connection.shut()
        # The sockets close in the next turn of the loop.
        await asyncio.sleep(0)


def _nobody_home(body: Body, reply: object) -> None:
    raise AssertionError("a call came before listen()")
