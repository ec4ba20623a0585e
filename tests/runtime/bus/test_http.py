"""The HTTP server, spoken to over plain sockets: good requests, bad ones, half ones, slow ones."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest

from dyno_runtime.bus.base import Refused
from dyno_runtime.bus.exchange import Exchange, Handler
from dyno_runtime.bus.http import HttpServer, Limits

LIMITS = Limits(
    max_head_bytes=2000, max_headers=20, max_body_bytes=5000, request_s=0.2, idle_s=5.0, sweep_s=0.02
)


def echo(exchange: Exchange) -> None:
    request = exchange.request
    body = msgspec.json.encode([request.method, request.path, request.body.decode("latin-1")])
    exchange.respond(200, body, ((b"x-was", b"here"),))


class Client:
    """A socket, and answers taken apart."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        async with asyncio.timeout(5.0):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split(" ", 2)[1])
        headers = dict(re.findall(r"(?m)^([^:\r\n]+): (.*?)\r$", head))
        if head_only or status == 100:
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, await self._chunks()
        return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(5.0):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def serving(
    handler: Handler = echo, limits: Limits = LIMITS
) -> AsyncIterator[tuple[HttpServer, Callable[[], Awaitable[Client]]]]:
    server = HttpServer(handler, limits)
    port = await server.listen("127.0.0.1", 0)
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", port)))
        return clients[-1]

    try:
        yield server, connect
    finally:
        await server.close()
        for client in clients:
            client.writer.close()


def error_of(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, dict[str, str]]:
    status, headers, body = answer
    assert headers["content-type"] == "application/json"
    return status, msgspec.json.decode(body)["error"]


async def test_requests_one_after_another_on_one_connection():
    async with serving() as (_, connect):
        client = await connect()
        for number in range(3):
            client.send(b"POST /x?y=1 HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n%d" % number)
            status, headers, body = await client.answer()
            assert (status, headers["x-was"], "connection" in headers) == (200, "here", False)
            assert msgspec.json.decode(body) == ["POST", "/x", str(number)]


async def test_pipelined_requests_are_answered_in_order():
    waiting: list[Exchange] = []
    async with serving(waiting.append) as (_, connect):
        client = await connect()
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(50)))
        for number in range(50):
            while not waiting:
                await asyncio.sleep(0.001)
            assert [one.request.path for one in waiting] == [f"/{number}"], "one at a time"
            waiting.pop().respond(200, b"%d" % number)
            assert (await client.answer())[2] == b"%d" % number


async def test_a_chunked_body_in_tiny_pieces():
    async with serving() as (_, connect):
        client = await connect()
        head = b"POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        for byte in head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n":
            client.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert msgspec.json.decode((await client.answer())[2]) == ["POST", "/c", "abcde"]


async def test_http_1_0_and_connection_close_end_the_connection():
    async with serving() as (_, connect):
        for request in (
            b"GET /a HTTP/1.0\r\n\r\n",
            b"GET /a HTTP/1.1\r\nhost: a\r\nConnection: close\r\n\r\n",
        ):
            client = await connect()
            client.send(request)
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await client.rest() == b""


@pytest.mark.parametrize("later", [False, True])
async def test_a_body_larger_than_a_head_may_be_is_no_head(later):
    def answer(exchange: Exchange) -> None:
        if later:
            asyncio.get_running_loop().call_later(0.05, echo, exchange)
        else:
            echo(exchange)

    body = b"x" * 4500
    request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4500\r\n\r\n" + body
    async with serving(answer) as (_, connect):
        client = await connect()
        for begins in (b"", b"GET /next HTTP/1.1\r\nho", b""):
            client.send(request + begins)
            assert (await client.answer())[0] == 200
            if begins:
                client.send(b"st: a\r\n\r\n")
                assert (await client.answer())[0] == 200
        client.send(request + b"GET / HTTP/1.1\r\n")
        assert (await client.answer())[0] == 200
        client.send(b"x: " + b"x" * 3000)
        assert error_of(await client.answer())[0] == 431


async def test_an_upgrade_is_ignored_and_the_request_answered():
    async with serving() as (_, connect):
        client = await connect()
        client.send(
            b"GET /u HTTP/1.1\r\nhost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI * what\r\n\r\n"
        )
        status, headers, body = await client.answer()
        assert (status, headers["connection"], msgspec.json.decode(body)[1]) == (200, "close", "/u")
        assert await client.rest() == b""


async def test_expect_100_continue_is_answered_before_the_body():
    async with serving() as (_, connect):
        client = await connect()
        client.send(b"POST /e HTTP/1.1\r\nhost: a\r\nExpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert (await client.answer())[0] == 100
        client.send(b"ok")
        assert msgspec.json.decode((await client.answer())[2]) == ["POST", "/e", "ok"]


async def test_head_has_the_length_and_no_body():
    async with serving() as (_, connect):
        client = await connect()
        client.send(b"HEAD /h HTTP/1.1\r\nhost: a\r\n\r\nGET /g HTTP/1.1\r\nhost: a\r\n\r\n")
        _, headers, _ = await client.answer(head_only=True)
        assert int(headers["content-length"]) > 0
        assert msgspec.json.decode((await client.answer())[2])[:2] == ["GET", "/g"]


async def test_a_streamed_answer():
    def handler(exchange: Exchange) -> None:
        exchange.begin(200, ((b"content-type", b"text/event-stream"),))
        for number in range(3):
            exchange.write(b"data: %d\n\n" % number)
        exchange.finish()

    async with serving(handler) as (_, connect):
        client = await connect()
        for _ in range(2):
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await client.answer())[2] == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


BAD = [
    (b"nonsense\r\n\r\n", 400, "bad_request"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "bad_request"),
    (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400, "bad_request"),
    (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400, "bad_request"),
    (b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * 3000), 431, "too_large"),
    (b"GET / HTTP/1.1\r\nx: %s\r\n\r\n" % (b"x" * 3000), 431, "too_large"),
    (b"GET / HTTP/1.1\r\nx: %s" % (b"x" * 3000), 431, "too_large"),
    (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 21 + b"\r\n", 431, "too_large"),
    (b"POST / HTTP/1.1\r\ncontent-length: 5001\r\n\r\n", 413, "too_large"),
    (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1770\r\n" + b"x" * 6000, 413, "too_large"),
    (b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n", 400, "bad_request"),
]


@pytest.mark.parametrize(("data", "status", "code"), BAD, ids=range(len(BAD)))
async def test_bad_requests_are_refused_in_json_and_closed(data, status, code):
    async with serving() as (_, connect):
        client = await connect()
        client.send(data)
        got, error = error_of(await client.answer())
        assert (got, error["code"], error["type"]) == (status, code, "invalid_request_error")
        assert await client.rest() == b""
        good = await connect()
        good.send(b"GET /still HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await good.answer())[0] == 200


async def test_the_messages_of_the_limits():
    async with serving() as (_, connect):
        client = await connect()
        client.send(b"POST / HTTP/1.1\r\ncontent-length: 5001\r\n\r\n")
        assert error_of(await client.answer())[1]["message"] == "the body is over 5000 bytes"
        client = await connect()
        client.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 22)
        assert error_of(await client.answer())[1]["message"] == "the head is over 2000 bytes or 20 headers"


@pytest.mark.parametrize(
    "half", [b"P", b"POST / HTTP/1.1\r\nhost:", b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc"]
)
async def test_half_sent_requests_get_a_408(half):
    async with serving() as (_, connect):
        client = await connect()
        client.send(half)
        status, error = error_of(await client.answer())
        assert (status, error["message"]) == (408, "the request was not complete within 0.2 s")
        assert await client.rest() == b""


async def test_a_dripping_client_cannot_prolong_its_deadline():
    async with serving() as (_, connect):
        client = await connect()

        async def drip() -> None:
            for byte in b"GET / HTTP/1.1\r\n" + b"x" * 1000:
                client.send(bytes((byte,)))
                await asyncio.sleep(0.02)

        dripping = asyncio.ensure_future(drip())
        assert (await client.answer())[0] == 408
        dripping.cancel()


async def test_idle_connections_end_silently():
    async with serving(limits=replace(LIMITS, idle_s=0.1)) as (_, connect):
        fresh, used = await connect(), await connect()
        used.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await used.answer()
        assert await fresh.rest() == b""
        assert await used.rest() == b""


async def test_a_request_that_takes_long_is_not_idle():
    waiting: list[Exchange] = []
    async with serving(waiting.append, replace(LIMITS, idle_s=0.1)) as (_, connect):
        client = await connect()
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await asyncio.sleep(0.4)
        waiting[0].respond(200, b"late")
        assert (await client.answer())[2] == b"late"


async def test_a_client_that_leaves_is_told_to_the_handler():
    waiting: list[Exchange] = []
    gone = asyncio.Event()

    def handler(exchange: Exchange) -> None:
        exchange.on_gone = gone.set
        waiting.append(exchange)

    async with serving(handler) as (_, connect):
        client = await connect()
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        while not waiting:
            await asyncio.sleep(0.001)
        client.writer.transport.abort()
        async with asyncio.timeout(5.0):
            await gone.wait()
        waiting[0].respond(200, b"nobody reads this")


async def test_a_client_that_does_not_read_is_cut_off():
    gone = asyncio.Event()

    def handler(exchange: Exchange) -> None:
        exchange.on_gone = gone.set
        exchange.begin(200, ())
        exchange.write(b"x" * 50_000_000)
        assert exchange.stalled

    async with serving(handler, replace(LIMITS, stalled_s=0.2)) as (_, connect):
        client = await connect()
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        async with asyncio.timeout(5.0):
            await gone.wait()


async def test_one_connection_too_many_is_told_so():
    async with serving(limits=replace(LIMITS, max_connections=2)) as (_, connect):
        first = await connect()
        await connect()
        status, error = error_of(await (await connect()).answer())
        assert (status, error["message"]) == (503, "more than 2 connections")
        first.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await first.answer())[0] == 200


async def test_draining_finishes_what_is_under_way_and_closes_the_rest():
    waiting: list[Exchange] = []
    async with serving(waiting.append) as (server, connect):
        busy, idle = await connect(), await connect()
        busy.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        while not waiting:
            await asyncio.sleep(0.001)
        server.drain()
        assert await idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await connect()
        waiting[0].respond(200, b"done")
        status, headers, body = await busy.answer()
        assert (status, headers["connection"], body) == (200, "close", b"done")
        assert await busy.rest() == b""


async def test_a_taken_port_is_refused_by_name():
    async with serving() as (server, _):
        assert server._server is not None
        port = server._server.sockets[0].getsockname()[1]
        with pytest.raises(
            Refused, match=rf"^cannot listen for HTTP on 127.0.0.1:{port}: address already in use$"
        ):
            await HttpServer(echo).listen("127.0.0.1", port)


async def test_a_handler_that_raises_is_logged_and_answered(caplog):
    def broken(exchange: Exchange) -> None:
        raise RuntimeError("a bug")

    async with serving(broken) as (_, connect):
        client = await connect()
        client.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
        status, _, body = await client.answer()
    assert (status, msgspec.json.decode(body)["error"]["message"]) == (500, "an error inside the server")
    assert "the handler of GET /x failed" in caplog.text


async def test_a_client_that_does_not_read_its_last_answer_is_cut_off():
    def handler(exchange: Exchange) -> None:
        # As if the kernel had taken most of it: what is left is too little to pause for.
        assert exchange._connection is not None
        assert exchange._connection._tcp is not None
        exchange._connection._tcp.set_write_buffer_limits(high=100_000_000)
        exchange.respond(200, b"x" * 50_000_000)

    async with serving(handler, replace(LIMITS, stalled_s=0.2)) as (server, connect):
        client = await connect()
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        await client.reader.readuntil(b"\r\n")
        async with asyncio.timeout(5.0):
            while server._connections:
                await asyncio.sleep(0.01)
