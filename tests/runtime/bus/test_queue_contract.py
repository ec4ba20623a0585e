"""What every queue keeps, asked of real JetStream and of the one in memory."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from dyno_runtime.bus.base import Down, Refused
from dyno_runtime.bus.memory.broker import Broker, MemoryQueue
from dyno_runtime.bus.nats import NatsQueue, access_of, place_of
from tests.servers import Nats, free_port

ACK_WAIT_S = 0.5


@asynccontextmanager
async def real(request: pytest.FixtureRequest, *models: str) -> AsyncIterator[list[NatsQueue]]:
    cluster = f"c{abs(hash(request.node.nodeid)):x}"
    url = request.getfixturevalue("nats").url
    queues = [NatsQueue(cluster, model, url, ack_wait_s=ACK_WAIT_S) for model in models]
    try:
        for queue in queues:
            queue.start()
            async with asyncio.timeout(5.0):
                await queue.connected()
        yield queues
        await queues[0].delete()
    finally:
        for queue in queues:
            await queue.close()


@asynccontextmanager
async def memory(request: pytest.FixtureRequest, *models: str) -> AsyncIterator[list[MemoryQueue]]:
    broker = Broker(ack_wait_s=ACK_WAIT_S)
    try:
        yield [MemoryQueue(broker, model) for model in models]
    finally:
        broker.close()


queues = pytest.mark.parametrize("make", [pytest.param(real, marks=pytest.mark.servers), memory])


@queues
async def test_what_is_pushed_is_pulled_once_in_order(make, request):
    async with make(request, "m", "m") as (one, two):
        for number in range(5):
            await one.push(f"id-{number}", b"%d" % number)
        got = [await two.pull(2.0) for _ in range(5)]
        assert [work.data for work in got] == [b"0", b"1", b"2", b"3", b"4"]
        for work in got:
            await work.ack()
        assert await one.pull(0.2) is None


@queues
async def test_an_empty_queue_waits_and_then_says_nothing(make, request):
    async with make(request, "m", "m") as (one, two):
        began = time.monotonic()
        assert await one.pull(0.3) is None
        assert time.monotonic() - began >= 0.25
        pulling = asyncio.ensure_future(one.pull(5.0))
        await asyncio.sleep(0.1)
        await two.push("id", b"x")
        work = await pulling
        assert work.data == b"x"
        await work.ack()


@queues
async def test_the_same_id_twice_is_one_item(make, request):
    async with make(request, "m", "m") as (one, _):
        await one.push("same", b"1")
        await one.push("same", b"2")
        assert await one.depth() == 1


@queues
async def test_depth_counts_what_nobody_has_pulled(make, request):
    async with make(request, "m", "m") as (one, _):
        assert await one.depth() == 0
        for number in range(3):
            await one.push(f"id-{number}", b"x")
        assert await one.depth() == 3
        work = await one.pull(2.0)
        assert await one.depth() == 2
        await work.ack()
        assert await one.depth() == 2


@queues
async def test_work_that_is_not_acked_comes_again_to_somebody_else(make, request):
    async with make(request, "m", "m") as (one, two):
        await one.push("id", b"x")
        assert (await one.pull(2.0)).data == b"x"
        again = await two.pull(5.0)
        assert again.data == b"x"
        await again.ack()
        assert await one.pull(2 * ACK_WAIT_S) is None


@queues
async def test_work_that_goes_on_is_not_given_to_anybody_else(make, request):
    async with make(request, "m", "m") as (one, two):
        await one.push("id", b"x")
        work = await one.pull(2.0)
        for _ in range(6):
            await asyncio.sleep(ACK_WAIT_S / 3)
            await work.still_working()
        assert await two.pull(0.1) is None
        await work.ack()
        assert await two.pull(2 * ACK_WAIT_S) is None


@queues
async def test_work_that_is_given_back_comes_at_once(make, request):
    async with make(request, "m", "m") as (one, two):
        await one.push("id", b"x")
        await (await one.pull(2.0)).give_back()
        again = await two.pull(2.0)
        assert again.data == b"x"
        await again.ack()


@queues
async def test_poison_is_given_out_three_times_and_no_more(make, request):
    async with make(request, "m", "m") as (one, _):
        await one.push("id", b"poison")
        for _ in range(3):
            work = await one.pull(2.0)
            assert work.data == b"poison"
            await work.give_back()
        assert await one.pull(3 * ACK_WAIT_S) is None


@queues
async def test_purging_drops_the_old_and_keeps_the_new(make, request):
    async with make(request, "m", "m") as (one, two):
        assert await one.last() == 0
        await one.purge(0)
        await one.push("a", b"old")
        await one.push("b", b"old")
        newest = await one.last()
        assert newest == 2
        await two.push("c", b"new")
        await one.purge(newest)
        work = await one.pull(2.0)
        assert work.data == b"new"
        await work.ack()
        assert await one.depth() == 0


@queues
async def test_models_of_one_cluster_do_not_see_each_others_work(make, request):
    names = ("org/model-1.5 (new)", "org/model-1_5 (new)")
    async with make(request, *names) as (one, two):
        await one.push("id", b"one")
        await two.push("id-2", b"two")
        await two.push("id-3", b"three")
        assert (await one.depth(), await two.depth()) == (1, 2)
        await two.purge(await two.last())
        assert (await one.depth(), await two.depth()) == (1, 0)
        assert await two.pull(0.2) is None
        work = await one.pull(2.0)
        assert work.data == b"one"
        await work.ack()


async def test_a_broker_that_is_down_says_so():
    broker = Broker()
    queue = MemoryQueue(broker, "m")
    broker.down = True
    for call in (queue.push("id", b"x"), queue.pull(0.1), queue.depth(), queue.last(), queue.purge(1)):
        with pytest.raises(Down, match=r"^NATS in memory does not answer$"):
            await call


# ---- NATS's own troubles


async def soon(check: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)


@pytest.mark.servers
async def test_a_nats_that_is_killed_fails_at_once_and_comes_back(own_nats):
    changes: list[bool] = []
    queue = NatsQueue("hello", "m", own_nats.url, lambda: changes.append(queue.up), ack_wait_s=ACK_WAIT_S)
    queue.start()
    await soon(lambda: queue.up)
    await queue.push("kept", b"kept")
    own_nats.kill()
    await soon(lambda: not queue.up)
    began = time.monotonic()
    for call in (queue.push("id", b"x"), queue.pull(1.0), queue.depth()):
        with pytest.raises(Down, match=rf"^NATS at {place_of(own_nats.url)} does not answer$"):
            await call
    assert time.monotonic() - began < 1.0, "an absent NATS is not waited for"
    own_nats.start()
    await soon(lambda: queue.up)
    work = await queue.pull(5.0)
    assert work is not None
    assert work.data == b"kept"
    await work.ack()
    assert changes == [True, False, True]
    await queue.close()


@pytest.mark.servers
async def test_a_nats_that_comes_back_empty_is_given_its_stream_again(own_nats, tmp_path):
    queue = NatsQueue("hello", "m", own_nats.url)
    queue.start()
    await soon(lambda: queue.up)
    await queue.push("one", b"lost")
    own_nats.kill()
    await soon(lambda: not queue.up)
    own_nats.folder = tmp_path / "fresh"
    own_nats.folder.mkdir()
    own_nats.start()
    await soon(lambda: queue.up)
    await queue.push("two", b"new")
    work = await queue.pull(5.0)
    assert work is not None
    assert work.data == b"new"
    await work.ack()
    await queue.close()


@pytest.mark.servers
async def test_a_stream_that_is_deleted_under_us_is_made_again(nats):
    one, two = (NatsQueue("deleted", "m", nats.url) for _ in range(2))
    for queue in (one, two):
        queue.start()
        async with asyncio.timeout(5.0):
            await queue.connected()
    await one.push("a", b"x")
    assert await two.delete() is True
    assert await two.delete() is False
    for _ in range(20):
        try:
            await one.push("b", b"y")
            break
        except (Down, Refused):
            await asyncio.sleep(0.05)
    assert await one.depth() == 1
    await one.delete()
    await one.close()
    await two.close()


@pytest.mark.servers
async def test_without_jetstream_the_message_says_what_to_do(tmp_path):
    server = Nats(tmp_path / "bare", jetstream=False)
    server.start()
    queue = NatsQueue("hello", "m", server.url)
    try:
        queue.start()
        await soon(lambda: queue.up)
        message = f"^NATS at {place_of(server.url)} has no JetStream; start it with -js$"
        for call in (queue.push("id", b"x"), queue.pull(0.1), queue.depth()):
            with pytest.raises(Refused, match=message):
                await call
        assert queue.problem == f"NATS at {place_of(server.url)} has no JetStream; start it with -js"
    finally:
        await queue.close()
        server.kill()


class Guarded(Nats):
    """A NATS with a configuration file, that may ask for a user."""

    def allow(self, authorization: str = "") -> None:
        store = f'jetstream {{ store_dir: "{self.folder}/data" }}'
        (self.folder / "conf").write_text(
            f"listen: 127.0.0.1:{self.port}\nhttp: 127.0.0.1:{self.monitor}\n{store}\n{authorization}\n"
        )

    def argv(self) -> list[str]:
        return [super().argv()[0], "-c", str(self.folder / "conf")]


ONE_USER = 'authorization { user: "u", password: "p@ss/w" }'


@pytest.mark.servers
async def test_a_nats_that_refuses_us_for_a_while_is_joined_again(tmp_path):
    server = Guarded(tmp_path / "guarded")
    server.allow()
    server.start()
    queue = NatsQueue("hello", "m", server.url)
    try:
        queue.start()
        await soon(lambda: queue.up)
        await queue.push("one", b"kept")
        pulled = asyncio.ensure_future(pull_until(queue, b"new"))
        server.allow(ONE_USER)
        server.signal(signal.SIGHUP)
        message = f"NATS at {place_of(server.url)} refused our user"
        await soon(lambda: queue.problem == message)
        with pytest.raises(Down, match=f"^{message}$"):
            await queue.push("two", b"x")
        server.allow()
        server.signal(signal.SIGHUP)
        await soon(lambda: queue.up and queue.problem is None)
        await queue.push("three", b"new")
        assert await asyncio.wait_for(pulled, 10.0) == [b"kept", b"new"]
    finally:
        await queue.close()
        server.kill()


async def pull_until(queue: NatsQueue, last: bytes) -> list[bytes]:
    """What comes, whatever happens meanwhile."""
    found: list[bytes] = []
    while found[-1:] != [last]:
        try:
            work = await queue.pull(5.0)
            if work is not None:
                found.append(work.data)
                await work.ack()
        except (Down, Refused):
            await asyncio.sleep(0.05)
    return found


@pytest.mark.servers
async def test_a_user_and_a_password_are_taken_out_of_the_url(tmp_path):
    server = Guarded(tmp_path / "guarded")
    server.allow(ONE_USER)
    server.start()
    right = NatsQueue("hello", "m", server.url.replace("//", "//u:p%40ss%2Fw@"))
    wrong = NatsQueue("hello", "m", server.url.replace("//", "//u:geheim@"))
    try:
        right.start()
        wrong.start()
        await soon(lambda: right.up)
        await right.push("one", b"x")
        await soon(lambda: wrong.problem == f"NATS at {place_of(server.url)} refused our user")
        assert not wrong.up
    finally:
        await right.close()
        await wrong.close()
        server.kill()


def test_access_is_a_user_or_a_token_or_nothing():
    assert access_of("nats://10.0.0.1:4222") == ("nats://10.0.0.1:4222", {})
    assert access_of("nats://t%3Ak@[::1]:4222") == ("nats://[::1]:4222", {"token": "t:k"})
    assert access_of("tls://a:b%40@h") == ("tls://h", {"user": "a", "password": "b@"})


async def test_a_nats_that_never_was_is_waited_for_quietly(caplog):
    queue = NatsQueue("hello", "m", f"nats://user:geheim@127.0.0.1:{free_port()}")
    queue.start()
    await soon(lambda: queue.problem is not None)
    assert queue.problem == f"NATS at {place_of(queue._url)} does not answer"
    with pytest.raises(Down):
        await queue.push("id", b"x")
    await queue.close()
    assert "geheim" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_every_exception_of_the_client_is_mapped():
    import nats.errors
    import nats.js.errors

    queue = NatsQueue("hello", "m", "nats://127.0.0.1:4222")
    kinds = [
        one
        for module in (nats.errors, nats.js.errors)
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, nats.errors.Error)
    ]
    assert len(kinds) > 40

    given = {"SlowConsumerError": ("subject", "reply", 1, None)}

    async def fail(error: Exception) -> None:
        raise error

    for kind in kinds:
        error = kind(*given.get(kind.__name__, ()))
        with pytest.raises((Down, Refused)):
            await queue._call(fail(error))
