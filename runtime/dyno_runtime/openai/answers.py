"""Whole answers, as OpenAI spells them; also the shapes that /openapi.json describes.

In: what was said for each choice, and what it cost. Out: the JSON of a `chat.completion` or a `text_completion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

Finish = Literal["stop", "length", "tool_calls", "content_filter"]
# JSON has no minus infinity; this is what OpenAI says in its place.
LEAST_LOGPROB = -9999.0


class PromptTokensDetails(msgspec.Struct, frozen=True, gc=False):
    """Tokens of the prompt that were not computed again."""

    cached_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What a request cost, all choices together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> Usage:
    """The usage with its sum."""
    total = prompt_tokens + completion_tokens
    return Usage(prompt_tokens, completion_tokens, total, PromptTokensDetails(cached_tokens))


class Head(msgspec.Struct, frozen=True, gc=False):
    """What all pieces of one answer share. `created` is in seconds since 1970."""

    id: str
    created: int
    model: str


class Alternative(msgspec.Struct, frozen=True, gc=False):
    """A token that might have been said. `bytes` are its UTF-8, perhaps a part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """A token that was said."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[Alternative]


class ChatLogprobs(msgspec.Struct, frozen=True, gc=False):
    """One entry for each token of the answer."""

    content: list[TokenLogprob] | None
    refusal: None = None


class CompletionLogprobs(msgspec.Struct, frozen=True, gc=False):
    """Lists of equal length, one entry for each token; the first prompt token has no log-probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class FunctionCall(msgspec.Struct, frozen=True, gc=False):
    """`arguments` is JSON in a string."""

    name: str
    arguments: str


class ToolCallMade(msgspec.Struct, frozen=True, gc=False):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the assistant said. `content` is null where it only called tools."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCallMade] = []


class ChatChoice(msgspec.Struct, frozen=True, gc=False):
    """One of `n` answers."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatAnswer(msgspec.Struct, frozen=True, gc=False):
    """POST /v1/chat/completions, not streamed."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionChoice(msgspec.Struct, frozen=True, gc=False):
    """One of `n` answers to one of the prompts."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: Finish


class CompletionAnswer(msgspec.Struct, frozen=True, gc=False):
    """POST /v1/completions, not streamed."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


def chat_choice(
    index: int,
    text: str,
    finish: Finish,
    *,
    logprobs: ChatLogprobs | None = None,
    tool_calls: Sequence[ToolCallMade] = (),
) -> ChatChoice:
    """A choice from what was said."""
    content = None if tool_calls and not text else text
    return ChatChoice(index, ChatMessage("assistant", content, None, list(tool_calls)), logprobs, finish)


def chat_answer(head: Head, choices: Sequence[ChatChoice], cost: Usage) -> bytes:
    """The JSON of a whole chat answer."""
    answer = ChatAnswer(head.id, "chat.completion", head.created, head.model, list(choices), cost)
    return msgspec.json.encode(answer)


def completion_answer(head: Head, choices: Sequence[CompletionChoice], cost: Usage) -> bytes:
    """The JSON of a whole completion."""
    answer = CompletionAnswer(head.id, "text_completion", head.created, head.model, list(choices), cost)
    return msgspec.json.encode(answer)


Likely = tuple[bytes, float]  # a token's bytes and its log-probability


def chat_logprob(said: Likely, others: Sequence[Likely] = ()) -> TokenLogprob:
    """One token's entry in a chat answer; `others` are the alternatives to show, best first."""
    raw, logprob = said
    top = [Alternative(_name(one), _finite(likely), list(one)) for one, likely in others]
    return TokenLogprob(_name(raw), _finite(logprob), list(raw), top)


def completion_logprobs(
    said: Sequence[Likely | tuple[bytes, None]], others: Sequence[Sequence[Likely]] | None, offset: int = 0
) -> CompletionLogprobs:
    """The entries of a completion. `offset` counts the characters of the choice's text before the first token."""
    tokens = [_name(raw) for raw, _ in said]
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    top: list[dict[str, float] | None] | None = None
    if others is not None:
        top = [{_name(raw): _finite(likely) for raw, likely in one} or None for one in others]
    logprobs = [None if likely is None else _finite(likely) for _, likely in said]
    return CompletionLogprobs(tokens, logprobs, top, offsets)


def _name(raw: bytes) -> str:
    """A token as text; a part of a character as OpenAI spells it."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _finite(logprob: float) -> float:
    return logprob if logprob > LEAST_LOGPROB else LEAST_LOGPROB


def tool_call(call_id: str, name: str, arguments: str) -> ToolCallMade:
    """A tool call of a whole answer."""
    return ToolCallMade(call_id, "function", FunctionCall(name, arguments))


def merged_tool_calls(deltas: Sequence[dict[str, Any]]) -> list[ToolCallMade]:
    """The whole calls that the deltas of one choice tell, by their index."""
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        call = calls.setdefault(int(delta.get("index", 0)), ["", "", ""])
        function = delta.get("function") or {}
        call[0] = delta.get("id") or call[0]
        call[1] = function.get("name") or call[1]
        call[2] += function.get("arguments") or ""
    return [tool_call(*call) for _, call in sorted(calls.items())]
