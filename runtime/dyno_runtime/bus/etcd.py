"""The registry's store over etcd, with the aetcd client; nothing else in the runtime knows etcd.

In: URLs, `http://[user:password@]host:port`. Several are tried in turn after a failure. Out: the `Store` contract of
`bus.base`; each exception of the client becomes `Down` or `Refused`. Importing the client takes a tenth of a
second (grpc), so it is imported at the first use.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from dyno_runtime.bus import cancelled
from dyno_runtime.bus.base import Change, Down, Refused, Snapshot
from dyno_runtime.wire.messages import LeaseId
from dyno_runtime.wire.names import lease_number

T = TypeVar("T")

CALL_S = 3.0
# grpc's own back-off grows to two minutes and its keep-alive is off: an etcd that came back, or a cut link,
# would be noticed far too late. etcd refuses keep-alives more often than every 5 s.
_CHANNEL = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    # Against its name this is how long one attempt may take, TCP and HTTP/2 greeting together.
    "grpc.min_reconnect_backoff_ms": 5000,
    "grpc.keepalive_time_ms": 6000,
    "grpc.keepalive_timeout_ms": 4000,
    "grpc.enable_http_proxy": 0,
    "grpc.use_local_subchannel_pool": 1,
}


def place_of(url: str) -> str:
    """A URL without user and password, for messages: `10.0.0.1:2379`."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 2379}"


class EtcdStore:
    """See the module; `Store` in `bus.base` is the contract."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        for url in urls:
            if urlsplit(url).scheme != "http":
                raise Refused(f"etcd at {place_of(url)}: only http:// URLs are supported")
        self._urls = urls
        self._turn = 0
        self._client: Any = None

    # ---- Store

    async def hold(self, lease: LeaseId, ttl_s: float, entries: Mapping[str, bytes]) -> None:
        async def do(client: Any) -> None:
            number = lease_number(lease)
            try:
                await client.lease(math.ceil(ttl_s), number)
            except _aetcd().exceptions.DuplicateLeaseError:
                await client.refresh_lease(number)
            puts = [client.transactions.put(key.encode(), value, number) for key, value in entries.items()]
            await client.transaction(compare=[], success=puts, failure=[])

        await self._call(do)

    async def refresh(self, lease: LeaseId) -> bool:
        async def do(client: Any) -> bool:
            answer = await client.refresh_lease(lease_number(lease))
            return answer is not None and answer.TTL > 0

        return await self._call(do)

    async def revoke(self, lease: LeaseId) -> None:
        async def do(client: Any) -> None:
            await _end_lease(client, lease_number(lease))

        await self._call(do)

    async def read(self, prefix: str) -> Snapshot:
        async def do(client: Any) -> Snapshot:
            found = await client.get_prefix(prefix.encode())
            return Snapshot({kv.key.decode(): kv.value for kv in found}, found.header.revision)

        return await self._call(do)

    async def watch(self, prefix: str, revision: int) -> AsyncIterator[Change]:
        # The client's own watcher stays silent when the server ends the stream or cancels the watch, so this
        # speaks to the generated stub, one stream for one watch.
        stream: Any = None
        delete = _aetcd().rpc.Event.EventType.DELETE
        try:
            async with asyncio.timeout(2 * CALL_S):
                stream = await self._open_watch(prefix, revision)
            async for answer in stream:
                if answer.canceled:
                    if "permission denied" in answer.cancel_reason:
                        self._drop(self._client)  # etcd says so, too, of a token that it no longer knows
                    raise Down(f"etcd ended the watch: {answer.cancel_reason or 'history is gone'}")
                for event in answer.events:
                    yield Change(event.kv.key.decode(), None if event.type == delete else event.kv.value)
            raise Down("etcd ended the watch")
        except asyncio.CancelledError:
            if cancelled.wanted():
                raise
            raise Down("etcd ended the watch") from None
        except Exception as error:
            if _is_of_client(error):
                raise self._mapped(error) from error
            raise
        finally:
            if stream is not None:
                stream.cancel()

    async def _open_watch(self, prefix: str, revision: int) -> Any:
        client = await self._connect()
        rpc = _aetcd().rpc
        key = prefix.encode()
        # One past the last key with this prefix; our prefixes end in a slash, never in the highest byte.
        range_end = key[:-1] + bytes((key[-1] + 1,))
        create = rpc.WatchCreateRequest(key=key, range_end=range_end, start_revision=revision)
        stream = rpc.WatchStub(client.channel).Watch(metadata=client.metadata)
        try:
            await stream.write(rpc.WatchRequest(create_request=create))
        except BaseException:
            stream.cancel()
            raise
        return stream

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # ---- for `models` only

    async def remove(self, key: str) -> None:
        """Delete this one key, and not what lives under the same lease. Raises Down, Refused."""

        async def do(client: Any) -> None:
            await client.delete(key.encode())

        await self._call(do)

    # ---- for `purge` only

    async def delete(self, *prefixes: str) -> int:
        """Delete everything under `prefixes`, end the leases that held it; how many entries there were."""

        async def do(client: Any) -> int:
            found = [kv for prefix in prefixes for kv in await client.get_prefix(prefix.encode())]
            for number in {kv.lease for kv in found if kv.lease}:
                await _end_lease(client, number)
            for prefix in prefixes:
                await client.delete_prefix(prefix.encode())
            return len(found)

        return await self._call(do)

    # ---- the connection

    async def _connect(self) -> Any:
        if self._client is None:
            parts = urlsplit(self._urls[self._turn % len(self._urls)])
            self._client = _aetcd().Client(
                host=parts.hostname or "127.0.0.1",
                port=parts.port or 2379,
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password or "") if parts.username else None,
                timeout=CALL_S,
                options=_CHANNEL,
            )
        client = self._client
        await client.connect()
        return client

    async def _call(self, do: Callable[[Any], Awaitable[T]]) -> T:
        """What `do` does with a client may be done twice: an etcd that was restarted forgot who we are."""
        try:
            # The client's own deadline is on each RPC; this one is on the whole.
            async with asyncio.timeout(2 * CALL_S):
                try:
                    client = await self._connect()
                    return await do(client)
                except Exception as error:
                    if not (_is_of_client(error) and _is_forgotten(error) and client.metadata):
                        raise
                    self._drop(client)
                    return await do(await self._connect())
        except asyncio.CancelledError:
            if cancelled.wanted():
                raise
            raise Down("etcd ended the connection") from None
        except Exception as error:
            if _is_of_client(error):
                raise self._mapped(error) from error
            raise

    def _mapped(self, error: Exception) -> Down | Refused:
        """What an error of the client means; a failed endpoint is not the next one to be asked."""
        errors, status = _aetcd().exceptions, _aetcd().rpc.StatusCode
        where = f"etcd at {place_of(self._urls[self._turn % len(self._urls)])}"
        code: Any = getattr(error, "code", lambda: None)()
        if _is_forgotten(error):
            self._drop(self._client)
        if isinstance(error, errors.UnauthenticatedError | errors.InvalidArgumentError) or code in (
            status.UNAUTHENTICATED,
            status.PERMISSION_DENIED,
            status.INVALID_ARGUMENT,
        ):
            return Refused(f"{where} refused: {_reason(error)}")
        unavailable = isinstance(
            error, TimeoutError | errors.ConnectionFailedError | errors.ConnectionTimeoutError
        )
        if unavailable or code in (status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.CANCELLED):
            self._rotate()
            return Down(f"{where} does not answer")
        return Refused(f"{where} refused: {_reason(error)}")

    def _rotate(self) -> None:
        if len(self._urls) > 1:
            self._turn += 1
            self._drop(self._client)

    def _drop(self, client: Any) -> None:
        """Connect and log in afresh with the next call, unless another call has done so already."""
        if client is None or client is not self._client:
            return
        self._client = None
        # Other calls may be using it: it is closed once they had time to fail. Its watch is ended by that.
        loop = asyncio.get_running_loop()
        loop.call_later(4 * CALL_S, lambda: loop.create_task(client.close()))


def _aetcd() -> Any:
    import aetcd

    return aetcd


def _is_of_client(error: Exception) -> bool:
    aetcd = _aetcd()
    known = (aetcd.ClientError, aetcd.rpc.AioRpcError, aetcd.rpc.BaseError, TimeoutError)
    return isinstance(error, known)


def _is_forgotten(error: Exception) -> bool:
    """etcd no longer takes the token that it gave us: it was started again, or its users were changed."""
    aetcd = _aetcd()
    code: Any = getattr(error, "code", lambda: None)()
    return (
        isinstance(error, aetcd.exceptions.UnauthenticatedError)
        or code == aetcd.rpc.StatusCode.UNAUTHENTICATED
        or any(words in _reason(error) for words in ("invalid auth token", "revision of auth store is old"))
    )


async def _end_lease(client: Any, number: int) -> None:
    """End a lease that may be over already."""
    try:
        await client.revoke_lease(number)
    except Exception as error:
        if "requested lease not found" not in str(error):
            raise


def _reason(error: Exception) -> str:
    details = getattr(error, "details", None)
    text = str(details() if callable(details) else error)
    return text.removeprefix("etcdserver: ") or type(error).__name__
