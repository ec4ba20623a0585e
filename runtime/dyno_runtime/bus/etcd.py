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
            try:
                await client.revoke_lease(lease_number(lease))
            except Exception as error:
                if "requested lease not found" not in str(error):
                    raise

        await self._call(do)

    async def read(self, prefix: str) -> Snapshot:
        async def do(client: Any) -> Snapshot:
            found = await client.get_prefix(prefix.encode())
            return Snapshot({kv.key.decode(): kv.value for kv in found}, found.header.revision)

        return await self._call(do)

    async def watch(self, prefix: str, revision: int) -> AsyncIterator[Change]:
        # The client's own watcher stays silent when the server ends the stream or cancels the watch, so this
        # speaks to the generated stub, one stream for one watch.
        client = await self._connect()
        rpc = _aetcd().rpc
        key = prefix.encode()
        # One past the last key with this prefix; our prefixes end in a slash, never in the highest byte.
        range_end = key[:-1] + bytes((key[-1] + 1,))
        create = rpc.WatchCreateRequest(key=key, range_end=range_end, start_revision=revision)
        stream = rpc.WatchStub(client.channel).Watch(metadata=client.metadata)
        try:
            async with asyncio.timeout(CALL_S):
                await stream.write(rpc.WatchRequest(create_request=create))
            async for answer in stream:
                if answer.canceled:
                    raise Down(f"etcd ended the watch: {answer.cancel_reason or 'history is gone'}")
                for event in answer.events:
                    deleted = event.type == rpc.Event.EventType.DELETE
                    yield Change(event.kv.key.decode(), None if deleted else event.kv.value)
            raise Down("etcd ended the watch")
        except (rpc.AioRpcError, TimeoutError) as error:
            raise self._mapped(error) from error
        finally:
            stream.cancel()

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

    async def delete(self, prefix: str) -> int:
        """Delete everything under `prefix`, end the leases that held it; how many entries there were."""

        async def do(client: Any) -> int:
            found = await client.get_prefix(prefix.encode())
            for number in {kv.lease for kv in found if kv.lease}:
                try:
                    await client.revoke_lease(number)
                except Exception as error:
                    if "requested lease not found" not in str(error):
                        raise
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
        try:
            # The client's own deadline is on each RPC; this one is on the whole.
            async with asyncio.timeout(2 * CALL_S):
                return await do(await self._connect())
        except TimeoutError as error:
            raise self._mapped(error) from error
        except Exception as error:
            aetcd = _aetcd()
            if isinstance(error, aetcd.ClientError | aetcd.rpc.AioRpcError | aetcd.rpc.BaseError):
                raise self._mapped(error) from error
            raise

    def _mapped(self, error: Exception) -> Down | Refused:
        """What an error of the client means; a failed endpoint is not the next one to be asked."""
        errors, status = _aetcd().exceptions, _aetcd().rpc.StatusCode
        where = f"etcd at {place_of(self._urls[self._turn % len(self._urls)])}"
        code: Any = getattr(error, "code", lambda: None)()
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
            # The old client may be in use by another call; it is closed once they had time to fail.
            client, self._client = self._client, None
            self._turn += 1
            if client is not None:
                loop = asyncio.get_running_loop()
                loop.call_later(4 * CALL_S, lambda: loop.create_task(client.close()))


def _aetcd() -> Any:
    import aetcd

    return aetcd


def _reason(error: Exception) -> str:
    details = getattr(error, "details", None)
    text = str(details() if callable(details) else error)
    return text.removeprefix("etcdserver: ") or type(error).__name__
