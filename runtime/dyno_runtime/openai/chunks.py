"""Streamed answers: server-sent events from bytes that are ready, and one encoded string for each delta.

In: the head of an answer, then text and what else happens. Out: whole events, to be written as they are or joined.
One object for each choice; all choices of an answer share head and id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dyno_runtime.openai.answers import ChatLogprobs, CompletionLogprobs, Finish, Head, TokenLogprob, Usage
from dyno_runtime.openai.errors import ApiError

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"

_encode = msgspec.json.Encoder().encode


def error_event(error: ApiError) -> bytes:
    """The last event of a stream that fails. It begins with an empty line, in case half an event was sent."""
    return b"\n\ndata: " + error.body() + b"\n\n"


class ChatChunks:
    """The events of one choice of a chat answer: `begin`, any number of deltas, `finish`."""

    __slots__ = ("_after", "_before", "_open", "_usage")

    def __init__(self, head: Head, index: int = 0, *, include_usage: bool = False) -> None:
        self._usage = b',"usage":null' if include_usage else b""
        self._open = b'%s{"index":%d,"delta":' % (_opening(head, b"chat.completion.chunk"), index)
        self._before = self._open + b'{"content":'
        self._after = b'},"logprobs":null,"finish_reason":null}]' + self._usage + b"}\n\n"

    def begin(self) -> bytes:
        """The first event: who speaks."""
        return self._chunk(b'{"role":"assistant","content":"","refusal":null}')

    def text(self, text: str) -> bytes:
        """New text."""
        return self._before + _encode(text) + self._after

    def likely(self, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        """New text and the log-probabilities of its tokens; the text may be empty."""
        told = _encode(ChatLogprobs(list(logprobs)))
        return self._chunk(b'{"content":%s}' % _encode(text), told)

    def tool_calls(self, deltas: Sequence[dict[str, Any]]) -> bytes:
        """Pieces of tool calls, as the engine tells them."""
        return self._chunk(b'{"tool_calls":%s}' % _encode(deltas))

    def finish(self, reason: Finish) -> bytes:
        """Why it ends."""
        return self._chunk(b"{}", finish=_encode(reason))

    def _chunk(self, delta: bytes, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        rest = b',"logprobs":%s,"finish_reason":%s}]%s}\n\n' % (logprobs, finish, self._usage)
        return self._open + delta + rest


class CompletionChunks:
    """The events of one choice of a completion: any number of deltas, `finish`."""

    __slots__ = ("_after", "_before", "_usage")

    def __init__(self, head: Head, index: int = 0, *, include_usage: bool = False) -> None:
        self._usage = b',"usage":null' if include_usage else b""
        self._before = b'%s{"index":%d,"text":' % (_opening(head, b"text_completion"), index)
        self._after = b',"logprobs":null,"finish_reason":null}]' + self._usage + b"}\n\n"

    def begin(self) -> bytes:
        """Nothing: a completion begins with its text."""
        return b""

    def text(self, text: str) -> bytes:
        """New text."""
        return self._before + _encode(text) + self._after

    def likely(self, text: str, logprobs: CompletionLogprobs) -> bytes:
        """New text and the log-probabilities of its tokens; the text may be empty."""
        return self._chunk(text, _encode(logprobs))

    def finish(self, reason: Finish) -> bytes:
        """Why it ends."""
        return self._chunk("", finish=_encode(reason))

    def _chunk(self, text: str, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        rest = b',"logprobs":%s,"finish_reason":%s}]%s}\n\n' % (logprobs, finish, self._usage)
        return self._before + _encode(text) + rest


def usage_chunk(head: Head, cost: Usage, *, chat: bool) -> bytes:
    """The event before the last where `stream_options.include_usage` is set: no choices, the cost of all."""
    kind = b"chat.completion.chunk" if chat else b"text_completion"
    return b'%s],"usage":%s}\n\n' % (_opening(head, kind), _encode(cost))


def _opening(head: Head, kind: bytes) -> bytes:
    who = (_encode(head.id), kind, head.created, _encode(head.model))
    return b'data: {"id":%s,"object":"%s","created":%d,"model":%s,"choices":[' % who
