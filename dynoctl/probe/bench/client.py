"""One connection to an OpenAI server: sends a request, times the answer, counts its events.

In: the bytes of a request. Out: times and usage, and a word to the owner once it is over. The answer is parsed by
httptools alone, its events are counted, not decoded; the usage is read from its end. Built to cost a few microseconds
a request and less than one an event.
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from typing import Protocol, cast

import httptools

TAIL_BYTES = 600
_CARRY_BYTES = 32  # more than the needle below, for when it is cut in two
_SPOKEN = re.compile(rb'"(?:content|reasoning_content|reasoning|text|arguments)": ?"(?!")')
_PROMPT = re.compile(rb'"prompt_tokens":\s*(\d+)')
_SAID = re.compile(rb'"completion_tokens":\s*(\d+)')
_CACHED = re.compile(rb'"cached_tokens":\s*(\d+)')


class Owner(Protocol):
    """Who is told, on the event loop."""

    def ready(self, client: Client) -> None:
        """The connection is there."""

    def over(self, client: Client) -> None:
        """The answer has ended; its figures are in the client until the next `send`."""

    def lost(self, client: Client, why: str) -> None:
        """The connection has ended, with or without a request under way."""


class Client(asyncio.Protocol):
    """One connection. Times are of `time.perf_counter`; `first_s` is 0 until the first piece of text came."""

    def __init__(self, owner: Owner, gaps_s: array[float] | None = None, *, keep: bool = False) -> None:
        self.gaps_s = gaps_s  # times between two reads with events, where somebody wants them
        self.busy = False
        self.stays = True  # whether the server keeps the connection after this answer
        self.sent_s = self.first_s = self.last_s = self.over_s = 0.0
        self.events = 0
        self.status = 0
        self.tail = b""
        self._owner = owner
        self._keep = keep
        self._body: list[bytes] = []
        self._tcp: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has a class of its own.
        self._tcp = cast(asyncio.Transport, transport)
        self._owner.ready(self)

    def send(self, request: bytes) -> None:
        """Ask. One at a time."""
        assert self._tcp is not None
        self._parser = httptools.HttpResponseParser(self)
        self.events = self.status = 0
        self.tail = b""
        if self._keep:
            self._body = []
        self.busy = True
        self.first_s = 0.0
        self.sent_s = self.last_s = time.perf_counter()
        self._tcp.write(request)

    def data_received(self, data: bytes) -> None:
        now_s = time.perf_counter()
        count = data.count(b"data: {")
        if count:
            if self.gaps_s is not None and self.first_s:
                self.gaps_s.append(now_s - self.last_s)
            self.events += count
        self.last_s = now_s
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.end(f"no HTTP: {error}")

    def on_body(self, body: bytes) -> None:
        if not self.first_s and _SPOKEN.search(self.tail[-_CARRY_BYTES:] + body):
            self.first_s = self.last_s
        self.tail = body if len(body) > TAIL_BYTES else self.tail[-TAIL_BYTES:] + body
        if self._keep:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self.stays = self._parser.should_keep_alive()
        self._complete()

    def _complete(self) -> None:
        self.over_s = self.last_s
        self.status = self._parser.get_status_code()
        self.busy = False
        self._owner.over(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        if self.busy and exc is None and self._ends_here():
            self.stays = False
            self._complete()
        else:
            self._owner.lost(self, str(exc) if exc else "the server closed the connection")

    def _ends_here(self) -> bool:
        """Whether the end of the connection can be that of the answer, as it is where no length was given."""
        status = self._parser.get_status_code()
        return b"[DONE]" in self.tail if status == 200 else bool(status)

    def end(self, why: str = "") -> None:
        """Close it; with a reason, its owner hears of it."""
        if self._closing:
            return
        self._closing = True
        if self._tcp is not None:
            self._tcp.abort()
        if why:
            self._owner.lost(self, why)

    @property
    def body(self) -> bytes:
        """The whole answer, where it was to be kept."""
        return b"".join(self._body)

    @property
    def usage(self) -> tuple[int | None, int | None, int | None]:
        """Tokens of prompt, answer and cache, as the server says them at the end."""
        return _last(_PROMPT, self.tail), _last(_SAID, self.tail), _last(_CACHED, self.tail)


def _last(pattern: re.Pattern[bytes], text: bytes) -> int | None:
    found = pattern.findall(text)
    return int(found[-1]) if found else None
