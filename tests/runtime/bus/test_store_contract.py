"""What every store keeps, asked of real etcd and of the one in memory."""

from __future__ import annotations

import asyncio
import itertools
import json
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dyno_runtime.bus.base import Change, Down, Refused, Snapshot
from dyno_runtime.bus.etcd import EtcdStore, place_of
from dyno_runtime.bus.memory.kv import Kv, MemoryStore
from tests.servers import free_port

_numbers = itertools.count(0x1000)


def lease() -> str:
    return f"{next(_numbers):016x}"


@asynccontextmanager
async def real(request: pytest.FixtureRequest) -> AsyncIterator[EtcdStore]:
    store = EtcdStore((request.getfixturevalue("etcd").url,))
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def memory(request: pytest.FixtureRequest) -> AsyncIterator[MemoryStore]:
    kv = Kv()
    try:
        yield MemoryStore(kv)
    finally:
        kv.close()


stores = pytest.mark.parametrize("make", [pytest.param(real, marks=pytest.mark.servers), memory])


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"/{abs(hash(request.node.nodeid)):x}/"


async def next_of(changes: AsyncIterator[Change], seconds: float = 5.0) -> Change:
    async with asyncio.timeout(seconds):
        return await anext(changes)


@stores
async def test_entries_live_and_die_with_their_lease(make, request, prefix):
    async with make(request) as store:
        one = lease()
        await store.hold(one, 10.0, {f"{prefix}a": b"1", f"{prefix}b": b"2"})
        assert (await store.read(prefix)).entries == {f"{prefix}a": b"1", f"{prefix}b": b"2"}
        await store.revoke(one)
        assert (await store.read(prefix)).entries == {}


@stores
async def test_hold_again_replaces_values_and_keeps_the_lease(make, request, prefix):
    async with make(request) as store:
        one = lease()
        await store.hold(one, 10.0, {f"{prefix}a": b"loading"})
        await store.hold(one, 10.0, {f"{prefix}a": b"ready"})
        assert (await store.read(prefix)).entries == {f"{prefix}a": b"ready"}
        assert await store.refresh(one) is True
        await store.revoke(one)


@stores
async def test_a_lost_lease_is_told_and_can_be_made_again_with_its_number(make, request, prefix):
    async with make(request) as store:
        one = lease()
        assert await store.refresh(one) is False
        await store.revoke(one)
        await store.hold(one, 10.0, {f"{prefix}a": b"1"})
        await store.revoke(one)
        await store.hold(one, 10.0, {f"{prefix}a": b"2"})
        assert (await store.read(prefix)).entries == {f"{prefix}a": b"2"}
        await store.revoke(one)


@stores
async def test_a_lease_that_nobody_refreshes_expires(make, request, prefix):
    async with make(request) as store:
        changes = store.watch(prefix, (await store.read(prefix)).revision + 1)
        await store.hold(lease(), 1.0, {f"{prefix}a": b"1"})
        assert await next_of(changes) == Change(f"{prefix}a", b"1")
        # etcd rounds short leases up to a few seconds.
        assert await next_of(changes, 15.0) == Change(f"{prefix}a", None)
        await changes.aclose()


@stores
async def test_a_watch_sees_everything_from_its_revision_on(make, request, prefix):
    async with make(request) as store:
        one = lease()
        start = (await store.read(prefix)).revision + 1
        await store.hold(one, 10.0, {f"{prefix}a": b"1"})
        changes = store.watch(prefix, start)
        assert await next_of(changes) == Change(f"{prefix}a", b"1")
        await store.hold(one, 10.0, {f"{prefix}b": b"2", "/elsewhere/c": b"3"})
        assert await next_of(changes) == Change(f"{prefix}b", b"2")
        await store.revoke(one)
        assert {(await next_of(changes)).key for _ in range(2)} == {f"{prefix}a", f"{prefix}b"}
        await changes.aclose()


# ---- etcd's own troubles


@pytest.mark.servers
async def test_an_etcd_that_is_killed_is_down_and_its_watch_too(own_etcd):
    store = EtcdStore((own_etcd.url,))
    await store.hold("00000000000000ff", 30.0, {"/x/a": b"1"})
    changes = store.watch("/x/", (await store.read("/x/")).revision + 1)
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0.2)
    own_etcd.kill()
    place = place_of(own_etcd.url)
    with pytest.raises(Down, match=rf"^etcd at {place} does not answer$"):
        await asyncio.wait_for(waiting, 5.0)
    with pytest.raises(Down, match=rf"^etcd at {place} does not answer$"):
        await store.read("/x/")
    own_etcd.start()
    assert (await until(lambda: store.read("/x/"))).entries == {"/x/a": b"1"}
    assert await store.refresh("00000000000000ff") is True
    await store.close()


async def until(ask: Callable[[], Awaitable[Snapshot]], seconds: float = 10.0) -> Snapshot:
    """Ask until it answers."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await ask()
            except Down:
                await asyncio.sleep(0.05)


@pytest.mark.servers
async def test_the_next_of_several_endpoints_is_tried(etcd):
    store = EtcdStore((f"http://127.0.0.1:{free_port()}", etcd.url))
    with pytest.raises(Down):
        await store.read("/nothing/")
    assert (await store.read("/nothing/")).entries == {}
    await store.close()


@pytest.mark.servers
async def test_a_watch_ends_when_its_connection_is_given_up_and_its_task_lives_on(etcd, monkeypatch):
    monkeypatch.setattr("dyno_runtime.bus.etcd.CALL_S", 0.1)
    store = EtcdStore((etcd.url, etcd.url.replace("127.0.0.1", "localhost")))
    changes = store.watch("/rotated/", (await read_on(store)) + 1)
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0.1)
    store._rotate()
    with pytest.raises(Down, match=r"^etcd ended the watch$"):
        await asyncio.wait_for(waiting, 5.0)
    assert (await store.read("/rotated/")).entries == {}
    await store.close()


async def read_on(store: EtcdStore) -> int:
    """The revision; a deadline of a tenth of a second may be missed."""
    return (await until(lambda: store.read("/rotated/"))).revision


@pytest.mark.servers
async def test_a_watch_that_is_cancelled_is_no_trouble_of_etcd(etcd):
    store = EtcdStore((etcd.url,))
    waiting = asyncio.ensure_future(anext(store.watch("/x/", (await store.read("/x/")).revision + 1)))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await store.close()


@pytest.mark.servers
async def test_a_watch_on_nobody_is_down():
    port = free_port()
    store = EtcdStore((f"http://root:x@127.0.0.1:{port}",))
    with pytest.raises(Down, match=rf"^etcd at 127.0.0.1:{port} does not answer$"):
        await next_of(store.watch("/x/", 1), 10.0)
    await store.close()


@pytest.mark.servers
async def test_an_etcd_that_forgot_our_login_is_logged_in_to_again(own_etcd):
    def post(path: str, token: str = "", **body: str) -> dict[str, Any]:
        url, data = f"{own_etcd.url}/v3/auth/{path}", json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Authorization": token} if token else {})
        with urllib.request.urlopen(request, timeout=5.0) as answer:
            return dict(json.loads(answer.read()))

    def forget() -> None:
        post("disable", post("authenticate", name="root", password="pw")["token"])
        post("enable")

    for path, body in (("user/add", {"name": "root", "password": "pw"}), ("role/add", {"name": "root"})):
        await asyncio.to_thread(post, path, **body)
    await asyncio.to_thread(post, "user/grant", user="root", role="root")
    await asyncio.to_thread(post, "enable")
    store = EtcdStore((own_etcd.url.replace("//", "//root:pw@"),))
    await store.hold("00000000000000fd", 30.0, {"/users/a": b"1"})
    await asyncio.to_thread(forget)
    found = await store.read("/users/")
    assert found.entries == {"/users/a": b"1"}
    changes = store.watch("/users/", found.revision + 1)
    await asyncio.to_thread(forget)
    assert await store.refresh("00000000000000fd") is True
    await store.hold("00000000000000fd", 30.0, {"/users/a": b"2"})
    assert await next_of(changes) == Change("/users/a", b"2")
    assert isinstance(changes, AsyncGenerator)
    await changes.aclose()
    await store.close()


@pytest.mark.servers
async def test_history_that_was_compacted_ends_the_watch(etcd):
    store = EtcdStore((etcd.url,))
    for number in range(3):
        await store.hold("00000000000000fe", 30.0, {"/compacted/a": b"%d" % number})
    client = await store._connect()
    await client.compact((await store.read("/compacted/")).revision, physical=True)
    changes = store.watch("/compacted/", 1)
    with pytest.raises(Down, match=r"^etcd ended the watch: "):
        await next_of(changes)
    await store.revoke("00000000000000fe")
    await store.close()


async def test_tls_is_refused_before_anything_is_dialled():
    with pytest.raises(Refused, match=r"^etcd at 10.0.0.1:2379: only http:// URLs are supported$"):
        EtcdStore(("https://root:secret@10.0.0.1:2379",))


@pytest.mark.servers
async def test_wrong_credentials_are_refused_and_not_shown(etcd):
    store = EtcdStore((etcd.url.replace("http://", "http://root:geheim@"),))
    with pytest.raises(Refused) as caught:
        await store.read("/x/")
    assert str(caught.value).startswith(f"etcd at {place_of(etcd.url)} refused: ")
    assert "geheim" not in str(caught.value)
    await store.close()


def test_every_exception_of_the_client_is_mapped():
    import aetcd.exceptions as errors

    store = EtcdStore(("http://10.0.0.1:2379",))
    kinds = [
        one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.ClientError)
    ]
    assert len(kinds) >= 9
    down = {errors.ConnectionFailedError, errors.ConnectionTimeoutError}
    for kind in kinds:
        error = kind("because")
        assert type(store._mapped(error)) is (Down if kind in down else Refused), kind
