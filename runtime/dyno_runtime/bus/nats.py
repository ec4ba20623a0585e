"""The prefill queue of a model over NATS JetStream; nothing else in the runtime knows NATS.

All models of a cluster share one stream; each has a subject and a consumer of its own, so that a prefill worker pulls
only what it can do, and a queue is as long as its own model's.

In: a URL, `nats://[user:password@]host:port`. Out: the `Queue` contract of `bus.base`, and `up` with a callback.
The connection is made and made again in the background, for ever; while it is away every call fails at once with
`Down`, so that decode prefills by itself. Importing the client takes a tenth of a second, so `start` does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from dyno_runtime.bus import cancelled
from dyno_runtime.bus.base import Down, Refused
from dyno_runtime.wire.names import prefill_consumer, prefill_stream, prefill_subject, prefill_subjects

if TYPE_CHECKING:
    import nats.aio.client
    import nats.aio.msg
    import nats.js.client

log = logging.getLogger("dyno.nats")

T = TypeVar("T")

CALL_S = 2.0
ACK_WAIT_S = 5.0  # `still_working` prolongs it
MAX_DELIVERIES = 3
MAX_ITEMS = 100_000
MAX_AGE_S = 600.0
RECONNECT_S = 0.25


def place_of(url: str) -> str:
    """A URL without user and password, for messages: `10.0.0.1:4222`."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 4222}"


def access_of(url: str) -> tuple[str, dict[str, str]]:
    """A URL without user and password, and these as the client wants them; a user alone is a token."""
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.username is None:
        return bare, {}
    if parts.password is None:
        return bare, {"token": unquote(parts.username)}
    return bare, {"user": unquote(parts.username), "password": unquote(parts.password)}


class NoJetStream(Refused):
    """This NATS has no JetStream, and so no streams at all."""


@dataclass
class NatsWork:
    """One item; `Work` in `bus.base` is the contract."""

    data: bytes
    _message: nats.aio.msg.Msg
    _queue: NatsQueue

    async def ack(self) -> None:
        await self._queue._call(self._message.ack_sync())

    async def give_back(self) -> None:
        await self._queue._call(self._message.nak())
        # It is the last thing that an ending process says, so it has to be out.
        await self._queue.flush()

    async def still_working(self) -> None:
        await self._queue._call(self._message.in_progress())


class NatsQueue:
    """See the module; `Queue` in `bus.base` is the contract. `changed` is called when `up` or `problem` changes."""

    def __init__(
        self,
        cluster: str,
        model: str,
        url: str,
        changed: Callable[[], None] = lambda: None,
        *,
        ack_wait_s: float = ACK_WAIT_S,
    ) -> None:
        self.up = False
        self.problem: str | None = None
        self._stream = prefill_stream(cluster)
        self._subjects = prefill_subjects(cluster)
        self._subject = prefill_subject(cluster, model)
        self._consumer = prefill_consumer(model)
        self._url = url
        self._where = f"NATS at {place_of(url)}"
        self._changed = changed
        self._ack_wait_s = ack_wait_s
        self._nc: nats.aio.client.Client | None = None
        self._js: nats.js.client.JetStreamContext | None = None
        self._puller: Any = None
        self._refused = False  # it is there, and does not let us in
        self._ensured = False
        self._ensuring = asyncio.Lock()
        self._connecting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    # ---- Queue

    async def push(self, item_id: str, data: bytes) -> None:
        js = await self._ready()
        # A push that timed out may have arrived all the same; the id makes a second one harmless.
        await self._call(js.publish(self._subject, data, headers={"Nats-Msg-Id": item_id}, timeout=CALL_S))

    async def pull(self, wait_s: float) -> NatsWork | None:
        js = await self._ready()
        from nats.errors import TimeoutError as NothingCame

        if self._puller is None:
            self._puller = await self._call(
                js.pull_subscribe_bind(consumer=self._consumer, stream=self._stream)
            )
        try:
            messages = await self._call(self._puller.fetch(1, timeout=wait_s), wait_s + CALL_S, NothingCame)
        except NothingCame:
            return None
        except Refused:
            # The stream or the consumer is gone (a NATS that was started afresh); make them again.
            await self._forget_stream()
            raise
        return NatsWork(messages[0].data, messages[0], self)

    async def depth(self) -> int:
        js = await self._ready()
        info = await self._call(js.consumer_info(self._stream, self._consumer, timeout=CALL_S))
        return int(info.num_pending or 0)

    async def last(self) -> int:
        js = await self._ready()
        return int((await self._call(js.stream_info(self._stream))).state.last_seq)

    async def purge(self, up_to: int) -> None:
        js = await self._ready()
        if up_to:
            await self._call(js.purge_stream(self._stream, seq=up_to + 1, subject=self._subject))

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        nc, self._nc = self._nc, None
        self.up = False
        if nc is not None:
            with contextlib.suppress(Exception):  # it is going away either way
                async with asyncio.timeout(CALL_S):
                    await nc.close()

    async def flush(self) -> None:
        """Wait until the server has all that was sent. Raises Down."""
        self._connected()
        assert self._nc is not None
        await self._call(self._nc.flush(int(CALL_S)))

    # ---- for `purge` only

    async def delete(self) -> bool:
        """Delete the stream with all it holds; False if there was none. Raises Down, Refused."""
        from nats.js.errors import NotFoundError

        js = self._connected()
        try:
            await self._call(js.delete_stream(self._stream), CALL_S, NotFoundError)
        except NotFoundError:
            return False
        return True

    async def connected(self) -> None:
        """Wait for the first connection; the caller sets the deadline."""
        while not self.up:
            if self._connecting is None or self._connecting.done():
                raise Down(self.problem or f"{self._where} does not answer")
            await asyncio.wait([self._connecting])

    # ---- the connection

    async def _connect(self) -> None:
        import nats.aio.client

        while True:
            nc = nats.aio.client.Client()
            try:
                async with asyncio.timeout(2 * CALL_S):
                    await self._dial(nc)
                if not nc.is_closed:
                    break
            except Exception as error:  # nats, OSError and time-outs alike: it is not there yet
                log.debug("%s: %r", self._where, error)
            self._note(up=False, problem=self._trouble())
            with contextlib.suppress(Exception):
                await nc.close()
            await asyncio.sleep(2 * RECONNECT_S)
        self._nc, self._js = nc, nc.jetstream(timeout=CALL_S)
        await self._on_up()

    async def _dial(self, nc: nats.aio.client.Client) -> None:
        url, access = access_of(self._url)
        await nc.connect(
            url,
            connect_timeout=int(CALL_S),
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]
            ping_interval=5,
            max_outstanding_pings=2,
            pending_size=1024 * 1024,
            # Without callbacks the client prints a traceback for each attempt.
            error_cb=self._on_error,
            disconnected_cb=self._on_down,
            reconnected_cb=self._on_up,
            closed_cb=partial(self._on_closed, nc),
            **access,  # type: ignore[arg-type]
        )

    async def _on_up(self) -> None:
        log.info("%s is up", self._where)
        self._refused = False
        self._ensured = False  # it may be another server, with an empty store
        self._note(up=True, problem=None)

    async def _on_down(self) -> None:
        if self._nc is not None:
            log.warning("%s is down; prefill stays local", self._where)
            self._note(up=False, problem=self._trouble())

    async def _on_closed(self, nc: nats.aio.client.Client) -> None:
        """The client gives up for good at most errors that a server sends; we begin afresh."""
        if nc is not self._nc:
            return  # we closed it ourselves
        self._refused = _is_of_user(nc.last_error)
        self._nc = self._js = self._puller = None
        self._ensured = False
        self._note(up=False, problem=self._trouble())
        self.start()

    async def _on_error(self, error: Exception) -> None:
        if not self.up:
            self._refused = _is_of_user(error)
            self._note(up=False, problem=self._trouble())
        log.debug("%s: %r", self._where, error)

    def _trouble(self) -> str:
        return f"{self._where} refused our user" if self._refused else f"{self._where} does not answer"

    def _note(self, *, up: bool, problem: str | None) -> None:
        if (up, problem) != (self.up, self.problem):
            if problem is not None and self.problem is None and self._nc is None:
                log.warning("%s; trying again", problem)
            self.up, self.problem = up, problem
            self._changed()

    def _connected(self) -> nats.js.client.JetStreamContext:
        if self._js is None or self._nc is None or not self._nc.is_connected:
            raise Down(self._trouble())
        return self._js

    # ---- the stream

    async def _ready(self) -> nats.js.client.JetStreamContext:
        js = self._connected()
        if not self._ensured:
            async with self._ensuring:
                if not self._ensured:
                    await self._ensure(js)
        return js

    async def _ensure(self, js: nats.js.client.JetStreamContext) -> None:
        from nats.js import api

        stream = api.StreamConfig(
            name=self._stream,
            subjects=[self._subjects],
            retention=api.RetentionPolicy.WORK_QUEUE,
            max_age=MAX_AGE_S,
            max_msgs=MAX_ITEMS,
            discard=api.DiscardPolicy.NEW,
            duplicate_window=120,
        )
        consumer = api.ConsumerConfig(
            durable_name=self._consumer,
            filter_subject=self._subject,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait_s,
            max_deliver=MAX_DELIVERIES,
            max_ack_pending=4096,
        )
        await self._forget_stream()
        await self._call(js.add_stream(stream))
        await self._call(js.add_consumer(self._stream, consumer, timeout=CALL_S))
        self._ensured = True
        self._note(up=True, problem=None)

    async def _forget_stream(self) -> None:
        self._ensured = False
        puller, self._puller = self._puller, None
        if puller is not None:
            with contextlib.suppress(Exception):  # the subscription may be gone with its connection
                await puller.unsubscribe()

    async def _call(self, call: Awaitable[T], deadline_s: float = CALL_S, *expected: type[Exception]) -> T:
        """Await one call of the client, with a deadline, and its exceptions mapped, except `expected`."""
        import nats.errors
        import nats.js.errors as js_errors

        try:
            async with asyncio.timeout(deadline_s):
                return await call
        except expected:
            raise
        except asyncio.CancelledError:
            if cancelled.wanted():
                raise
            raise Down(self._trouble()) from None
        except (js_errors.ServiceUnavailableError, nats.errors.NoRespondersError) as error:
            raise self._without_jetstream() from error
        except (js_errors.NoStreamResponseError, js_errors.NotFoundError) as error:
            self._ensured = False
            raise Down(f"{self._where} has lost the stream {self._stream}") from error
        except (js_errors.APIError, nats.errors.AuthorizationError, nats.errors.MaxPayloadError) as error:
            raise Refused(f"{self._where} refused: {getattr(error, 'description', None) or error}") from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise Down(f"{self._where} does not answer") from error

    def _without_jetstream(self) -> Down | Refused:
        if (
            self._nc is not None
            and self._nc.is_connected
            and not self._nc._server_info.get("jetstream", False)
        ):
            problem = f"{self._where} has no JetStream; start it with -js"
            self._note(up=True, problem=problem)
            return NoJetStream(problem)
        return Down(f"{self._where}: JetStream does not answer")


def _is_of_user(error: Exception | None) -> bool:
    """An error that the server sent because of who we are; while connecting the client gives its text only."""
    text = str(error).lower()
    return any(word in text for word in ("authorization", "authentication"))
