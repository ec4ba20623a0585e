"""The barest engine that speaks OpenAI's API: an event for each token, at once; behind proxies, and to compare with.

In: ports, all served by this one process. Out: chat answers of as many tokens as were asked for, streamed or whole.
It has no model and no tokenizer, so it says nothing about the prompt. `python -m benchmarks.bare_engine 9001 9002`
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import msgspec
import uvloop

NAME = "mock-model"
WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "state")
PROMPT_TOKENS = 8


class Wanted(msgspec.Struct):
    """What it looks at in a request."""

    max_tokens: int = 16
    stream: bool = False
    stream_options: dict[str, bool] = {}


def event(choices: str, usage: str = "null") -> bytes:
    """One event, as a chunk of HTTP."""
    head = f'{{"id":"chatcmpl-0","object":"chat.completion.chunk","created":1700000000,"model":"{NAME}",'
    data = f'data: {head}"choices":[{choices}],"usage":{usage}}}\n\n'.encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def delta(fields: str, finish: str = "null") -> bytes:
    """An event with a delta."""
    return event(f'{{"index":0,"delta":{{{fields}}},"finish_reason":{finish}}}')


def told(tokens: int) -> str:
    """The usage."""
    total = PROMPT_TOKENS + tokens
    return f'{{"prompt_tokens":{PROMPT_TOKENS},"completion_tokens":{tokens},"total_tokens":{total}}}'


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FIRST = delta('"role":"assistant","content":""')
TOKENS = [delta(f'"content":" {word}"') for word in WORDS]
LAST = delta("", '"length"')
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def whole(body: str) -> bytes:
    """A JSON answer."""
    data = body.encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        len(data),
        data,
    )


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._decode = msgspec.json.Decoder(Wanted).decode
        self._tcp: asyncio.Transport | None = None
        self._url = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tcp = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._tcp is not None
        if self._url != b"/v1/chat/completions":
            # What routers ask before they trust a worker: health, models, what it serves.
            model = f'{{"id":"{NAME}","object":"model"}}'
            self._tcp.write(
                whole(f'{{"status":"ok","object":"list","model_path":"{NAME}","data":[{model}]}}')
            )
            return
        wanted = self._decode(self._body)
        if wanted.stream:
            self._tcp.write(HEAD + FIRST + TOKENS[0])
            self._loop.call_soon(self._token, 1, wanted)
            return
        said = " ".join(WORDS[place % len(WORDS)] for place in range(wanted.max_tokens))
        message = f'{{"role":"assistant","content":"{said}"}}'
        self._tcp.write(
            whole(
                f'{{"id":"chatcmpl-0","object":"chat.completion","created":1700000000,"model":"{NAME}","choices":'
                f'[{{"index":0,"message":{message},"finish_reason":"length"}}],"usage":{told(wanted.max_tokens)}}}'
            )
        )

    def _token(self, place: int, wanted: Wanted) -> None:
        """Each token leaves on its own, as an engine's steps would have it."""
        if self._tcp is None:
            return
        if place < wanted.max_tokens:
            self._tcp.write(TOKENS[place % len(TOKENS)])
            self._loop.call_soon(self._token, place + 1, wanted)
            return
        usage = event("", told(wanted.max_tokens)) if wanted.stream_options.get("include_usage") else b""
        self._tcp.write(LAST + usage + DONE)


async def serve(ports: list[int]) -> None:
    """Until it is killed."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(Client, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve([int(one) for one in sys.argv[1:]]))
