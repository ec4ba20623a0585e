"""Answers, streamed and whole: the bytes, and that both tell the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.openai.answers import (
    ChatLogprobs,
    CompletionChoice,
    Head,
    chat_answer,
    chat_choice,
    chat_logprob,
    completion_answer,
    completion_logprobs,
    merged_tool_calls,
    tool_call,
    usage,
)
from dyno_runtime.openai.chunks import DONE, PING, ChatChunks, CompletionChunks, error_event, usage_chunk
from dyno_runtime.openai.errors import ApiError, invalid, of_failure, too_long, unknown_model
from dyno_runtime.openai.models import Model, model_list, one_model
from dyno_runtime.wire.messages import Failure

HEAD = Head("chatcmpl-1", 1700000000, 'a "model"')
COMMON = {"id": "chatcmpl-1", "created": 1700000000, "model": 'a "model"'}


def event(data: bytes) -> Any:
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 2
    return json.loads(data[6:])


def chat_event(
    delta: object, *, index: int = 0, logprobs: object = None, finish: str | None = None, **more: object
) -> Any:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return {**COMMON, "object": "chat.completion.chunk", "choices": [choice], **more}


def test_the_bytes_of_a_chat_stream():
    chunks = ChatChunks(Head("c", 7, "m"))
    start = b'data: {"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":'
    going = b',"logprobs":null,"finish_reason":null}]}\n\n'
    assert chunks.begin() == start + b'{"role":"assistant","content":"","refusal":null}' + going
    assert chunks.text('a"\n') == start + b'{"content":"a\\"\\n"}' + going
    assert chunks.finish("stop") == start + b'{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
    assert DONE == b"data: [DONE]\n\n"
    assert PING == b": ping\n\n"


@given(st.text(max_size=30), st.integers(0, 200), st.booleans())
def test_chat_events(text, index, include_usage):
    chunks = ChatChunks(HEAD, index, include_usage=include_usage)
    more = {"usage": None} if include_usage else {}
    assert event(chunks.text(text)) == chat_event({"content": text}, index=index, **more)
    assert event(chunks.finish("length")) == chat_event({}, index=index, finish="length", **more)
    likely = chat_logprob((text.encode(), -0.5))
    told = {"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": []}
    logprobs = {"content": [told], "refusal": None}
    expected = chat_event({"content": text}, index=index, logprobs=logprobs, **more)
    assert event(chunks.likely(text, [likely])) == expected


def test_tool_calls_pass_through():
    deltas = [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]
    assert event(ChatChunks(HEAD).tool_calls(deltas)) == chat_event({"tool_calls": deltas})


@given(st.text(max_size=30), st.integers(0, 200), st.booleans())
def test_completion_events(text, index, include_usage):
    chunks = CompletionChunks(HEAD, index, include_usage=include_usage)
    more = {"usage": None} if include_usage else {}

    def expected(text: str, finish: str | None = None, logprobs: object = None) -> Any:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
        return {**COMMON, "object": "text_completion", "choices": [choice], **more}

    assert chunks.begin() == b""
    assert event(chunks.text(text)) == expected(text)
    assert event(chunks.finish("stop")) == expected("", "stop")
    likely = completion_logprobs([(b"a", -1.0)], None)
    told = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None, "text_offset": [0]}
    assert event(chunks.likely(text, likely)) == expected(text, None, told)


@pytest.mark.parametrize(("chat", "kind"), [(True, "chat.completion.chunk"), (False, "text_completion")])
def test_the_usage_event(chat, kind):
    assert event(usage_chunk(HEAD, usage(10, 5, 8), chat=chat)) == {
        **COMMON,
        "object": kind,
        "choices": [],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 8},
        },
    }


def test_an_error_in_the_middle_is_an_event_of_its_own():
    assert error_event(ApiError(500, "it broke", code="engine")) == (
        b'\n\ndata: {"error":{"message":"it broke","type":"server_error","param":null,"code":"engine"}}\n\n'
    )


def test_a_whole_chat_answer():
    logprobs = ChatLogprobs([chat_logprob((b"hi", float("-inf")), [(b"\xf0\x9f", -0.25)])])
    calls = merged_tool_calls(
        [
            {"index": 1, "id": "d", "function": {"name": "g", "arguments": "{}"}},
            {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a"'}},
            {"index": 0, "function": {"arguments": ":1}"}},
        ]
    )
    assert calls == [tool_call("c", "f", '{"a":1}'), tool_call("d", "g", "{}")]
    choices = [
        chat_choice(0, "hi", "stop", logprobs=logprobs),
        chat_choice(1, "", "tool_calls", tool_calls=calls),
    ]
    answer = json.loads(chat_answer(HEAD, choices, usage(3, 4)))
    other = {"token": "bytes:\\xf0\\x9f", "logprob": -0.25, "bytes": [240, 159]}
    told = {"token": "hi", "logprob": -9999.0, "bytes": [104, 105], "top_logprobs": [other]}
    first, second = (call for call in answer["choices"][1]["message"].pop("tool_calls"))
    assert first == {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert second["id"] == "d"
    assert answer == {
        **COMMON,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hi", "refusal": None},
                "logprobs": {"content": [told], "refusal": None},
                "finish_reason": "stop",
            },
            {
                "index": 1,
                "message": {"role": "assistant", "content": None, "refusal": None},
                "logprobs": None,
                "finish_reason": "tool_calls",
            },
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


def test_a_whole_completion():
    told: list[tuple[bytes, float] | tuple[bytes, None]] = [(b"P", None), (b"a", -0.5), ("é".encode(), -1.5)]
    others: list[list[tuple[bytes, float]]] = [[], [(b"a", -0.5), (b"b", -2.0)], [(b"c", float("-inf"))]]
    choice = CompletionChoice("Paé", 0, completion_logprobs(told, others, offset=0), "length")
    answer = json.loads(completion_answer(HEAD, [choice], usage(1, 2, 1)))
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [
        {
            "text": "Paé",
            "index": 0,
            "logprobs": {
                "tokens": ["P", "a", "é"],
                "token_logprobs": [None, -0.5, -1.5],
                "top_logprobs": [None, {"a": -0.5, "b": -2.0}, {"c": -9999.0}],
                "text_offset": [0, 1, 2],
            },
            "finish_reason": "length",
        }
    ]
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}


@pytest.mark.parametrize(
    ("code", "status", "kind", "retry_after_s"),
    [
        ("bad_request", 400, "invalid_request_error", None),
        ("not_found", 404, "invalid_request_error", None),
        ("too_large", 413, "invalid_request_error", None),
        ("overloaded", 429, "rate_limit_error", 1),
        ("engine", 500, "server_error", None),
        ("no_worker", 503, "unavailable_error", 1),
        ("draining", 503, "unavailable_error", 1),
        ("not_here", 503, "unavailable_error", 1),
        ("not_ready", 503, "unavailable_error", 1),
        ("peer_lost", 503, "unavailable_error", 1),
        ("timeout", 504, "timeout_error", None),
    ],
)
def test_failures_inside(code, status, kind, retry_after_s):
    error = of_failure(Failure(code, "why"))
    assert (error.status, error.type, error.retry_after_s) == (status, kind, retry_after_s)
    assert json.loads(error.body()) == {
        "error": {"message": "why", "type": kind, "param": None, "code": code}
    }


def test_refusals_in_words():
    assert unknown_model("x").message == "The model 'x' does not exist."
    assert (unknown_model("x").status, unknown_model("x").code) == (404, "model_not_found")
    assert too_long(9000, None, 8192, "prompt").message == (
        "This model's maximum context length is 8192 tokens. You asked for 9000 in the prompt."
    )
    error = too_long(8000, 500, 8192, "messages")
    assert error.message == (
        "This model's maximum context length is 8192 tokens. "
        "You asked for 8500 (8000 in the prompt, 500 for the answer)."
    )
    assert (error.status, error.param, error.code) == (400, "messages", "context_length_exceeded")
    assert invalid("no").code == "invalid_value"


def test_models_by_their_exact_names():
    models = [Model("b", 2), Model("a", 1, max_model_len=10), Model("a-long", 3)]
    listed = json.loads(model_list(models))
    a = {"id": "a", "object": "model", "created": 1, "owned_by": "dynoctl", "max_model_len": 10}
    assert listed["object"] == "list"
    assert [one["id"] for one in listed["data"]] == ["a", "a-long", "b"]
    assert listed["data"][0] == a == json.loads(one_model(models, "a"))
    with pytest.raises(ApiError, match=r"^The model 'a-lon' does not exist\.$"):
        one_model(models, "a-lon")
