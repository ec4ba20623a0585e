"""An OpenAI server that does as it is told, in a thread: good answers, empty ones, errors, silence.

In: how it is to behave, which may be changed at any time. Out: a URL, and what it was asked.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.null_server import answer


class Server:
    """`how`: good, short (one token less than was asked for), empty, error, late-error, cut, silent, close (a
    connection an answer), no-length (whose end is that of the connection), trailing (bytes behind the answer that
    belong to nothing). `fail_every`: each n-th request gets an error. `models` is what it serves."""

    def __init__(self) -> None:
        self.how = "good"
        self.fail_every = 0
        self.hits_after: int | None = None  # prompts that follow so many others are told to come from a cache
        self.models: Any = ["null"]
        self.delay_s = 0.0
        self.gap_s = 0.0  # between the pieces of an answer, so that a reader who is late still sees several
        self.asked: list[dict[str, Any]] = []
        self.connections = 0
        self.most_at_once = 0
        self._now = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._client, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        server.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (
                        int(line.split(":")[1])
                        for line in head.split("\r\n")
                        if line.lower().startswith("content-length")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
                for piece in await self._answer(head.split(" ")[1], body):
                    writer.write(piece)
                    if self.gap_s:
                        await asyncio.sleep(self.gap_s)
                await writer.drain()
                self._now -= 1
                if self.how in ("cut", "close", "no-length"):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async def _answer(self, path: str, body: bytes) -> list[bytes]:
        if path == "/v1/models":
            known = (
                {"data": [{"id": name} for name in self.models]}
                if isinstance(self.models, list)
                else self.models
            )
            return [plain(200, json.dumps(known))]
        if path == "/metrics":
            counters = {"dyno_answer_tokens_total": len(self.asked)}
            if self.hits_after is not None:
                counters["vllm:prefix_cache_queries_total"] = len(self.asked) * 16
                counters["vllm:prefix_cache_hits_total"] = max(len(self.asked) - self.hits_after, 0) * 16
            return [plain(200, "".join(f"{name} {value}\n" for name, value in counters.items()))]
        asked = json.loads(body)
        self.asked.append(asked)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        number = len(self.asked)
        if self.how == "error" or (self.fail_every and number % self.fail_every == 0):
            return [plain(500, json.dumps({"error": {"message": 'told "no"'}}))]
        if self.how == "silent":
            await asyncio.sleep(3600)
        most = asked.get("max_tokens") or asked["max_completion_tokens"]
        tokens = {"short": most - 1, "empty": 0}.get(self.how, most)
        whole = answer(tokens)
        if self.how == "late-error":
            event = b'data: {"error":{"message":"lost the worker"}}\n\n'
            return [whole[0], b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event)]
        return shaped(whole, self.how)


def shaped(whole: list[bytes], how: str) -> list[bytes]:
    """A good answer as a server that is odd would send it."""
    if how == "cut":
        return whole[:1]
    if how == "close":
        return [whole[0].replace(b"\r\n", b"\r\nconnection: close\r\n", 1), *whole[1:]]
    if how == "trailing":
        return [*whole[:-1], whole[-1] + b"what is this?"]
    if how == "no-length":
        head, _, body = b"".join(whole).partition(b"\r\n\r\n")
        events = re.findall(rb"data: .*\n\n", body)
        return [head.replace(b"\r\ntransfer-encoding: chunked", b"") + b"\r\n\r\n", *events]
    return whole


def plain(status: int, body: str) -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n{body}".encode()


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    server.start()
    try:
        yield server
    finally:
        server.stop()
