"""A server that answers every chat request at once with so many tokens, for measuring clients: nothing is cheaper.

    .venv/bin/python -m benchmarks.null_server --port 9000 --tokens 128
    .venv/bin/dynoctl bench --url http://127.0.0.1:9000 --model null --tool builtin --input 16 --output 128

In: a port, how many tokens. Out: `ready` on standard output, then answers until it is ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

import uvloop

EVENTS_A_WRITE = 4
MODELS = b'HTTP/1.1 200 OK\r\ncontent-length: 26\r\n\r\n{"data":[{"id":  "null"}]}'


def answer(tokens: int) -> list[bytes]:
    """One streamed answer, as the pieces that are written one after the other."""

    def chunk(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    def event(choices: list[object], **more: object) -> bytes:
        value = {
            "id": "c-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "null",
            "choices": choices,
        }
        text = json.dumps({**value, **more}, separators=(",", ":"))
        return chunk(f"data: {text}\n\n".encode())

    events = [event([{"index": 0, "delta": {"content": "a "}, "finish_reason": None}]) for _ in range(tokens)]
    events.append(event([{"index": 0, "delta": {}, "finish_reason": "length"}]))
    usage = {"prompt_tokens": 16, "completion_tokens": tokens, "total_tokens": 16 + tokens}
    events.append(event([], usage=usage))
    events.append(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [b"".join(events[at : at + EVENTS_A_WRITE]) for at in range(0, len(events), EVENTS_A_WRITE)]
    return [head + pieces[0], *pieces[1:]]


class Null(asyncio.Protocol):
    """One connection. A request is over when its declared length has come."""

    pieces: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = transport
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        while True:
            end = self._held.find(b"\r\n\r\n")
            if end < 0:
                return
            at = self._held.lower().find(b"content-length:", 0, end)
            length = int(self._held[at + 15 : self._held.find(b"\r\n", at)]) if at >= 0 else 0
            if len(self._held) < end + 4 + length:
                return
            pieces = [MODELS] if self._held.startswith(b"GET ") else self.pieces
            self._held = self._held[end + 4 + length :]
            for piece in pieces:
                self._tcp.write(piece)  # type: ignore[attr-defined]


async def serve(port: int, tokens: int) -> None:
    """Until the process is ended."""
    Null.pieces = answer(tokens)
    server = await asyncio.get_running_loop().create_server(Null, "127.0.0.1", port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--tokens", type=int, default=128)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.tokens))


if __name__ == "__main__":
    main()
