"""Messages as templates take them; and that nothing but a 400 comes of anything else."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.openai.errors import ApiError
from dyno_runtime.openai.messages import template_messages, template_tools
from dyno_runtime.openai.request import AnyRequest, ChatRequest, parse_chat, parse_completion
from dyno_runtime.openai.sampling import FEATURES, sampling
from tests.runtime.openai.bodies import TOOL, USER, chat, refusal


def test_messages_for_templates():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}}
    empty = {"id": "d", "type": "function", "function": {"name": "g", "arguments": ""}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call, empty],
            "refusal": None,
            "annotations": [],
        },
        {"role": "tool", "content": "7", "tool_call_id": "c"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "reasoning_content": "why"},
    ]
    request = parse_chat(chat(messages=messages, tools=[TOOL]))
    assert template_messages(request) == [
        {"role": "user", "content": "a\nb"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": [1]}}},
                {"id": "d", "type": "function", "function": {"name": "g", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "7", "tool_call_id": "c"},
        {"role": "assistant", "content": "no", "reasoning_content": "why"},
    ]
    assert template_tools(request) == [TOOL]
    assert template_tools(parse_chat(chat(tools=[TOOL], tool_choice="none"))) is None
    assert template_tools(parse_chat(chat())) is None


@pytest.mark.parametrize(
    ("message", "said", "param", "code"),
    [
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}],
            },
            "'messages[1].content[1]' is of type 'image_url'; this model takes text only.",
            "messages[1].content[1]",
            "unsupported_content",
        ),
        (
            {"role": "user", "content": [{"type": "text"}]},
            "Missing required parameter: 'messages[1].content[0].text'.",
            "messages[1].content[0].text",
            "missing_required_parameter",
        ),
        (
            {"role": "user"},
            "Missing required parameter: 'messages[1].content'.",
            "messages[1].content",
            "missing_required_parameter",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1"}}]},
            "'messages[1].tool_calls[0].function.arguments' is not a JSON object in a string.",
            "messages[1].tool_calls[0].function.arguments",
            "invalid_value",
        ),
    ],
)
def test_messages_that_no_template_takes(message, said, param, code):
    request = parse_chat(chat(messages=[USER, message]))
    assert refusal(lambda _: template_messages(request), b"") == (said, param, code)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [*msgspec.structs.asdict(parse_chat(chat())), "prompt", "best_of", "echo", "suffix", "x"]
)


@given(st.dictionaries(FIELDS, JSON, max_size=4), st.booleans())
def test_anything_else_is_a_400(fields, whole):
    """Whatever a field holds, the answer is a request or a refusal, and what is taken can be used."""
    base = {"model": "m", "messages": [USER], "prompt": "p"} if whole else {}
    parsers: list[tuple[Callable[[bytes], AnyRequest], str]] = [
        (parse_chat, "prompt"),
        (parse_completion, "messages"),
    ]
    for parse, unwanted in parsers:
        document = {name: value for name, value in {**base, **fields}.items() if name != unwanted}
        statuses = []
        try:
            request = parse(json.dumps(document).encode())
            sampling(request, FEATURES)
            if isinstance(request, ChatRequest):
                template_messages(request)
        except ApiError as error:
            statuses.append(error.status)
        assert statuses in ([], [400])


@given(st.binary(max_size=60))
def test_any_bytes_are_a_400(body):
    assert refusal(parse_chat, body)[0]
    assert refusal(parse_completion, body)[0]
