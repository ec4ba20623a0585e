"""Bodies that are taken, and for each that is not: the status, the sentence, the field and the code."""

from __future__ import annotations

import json

import pytest

from dyno_runtime.openai.messages import template_variables
from dyno_runtime.openai.request import parse_chat, parse_completion
from dyno_runtime.openai.sampling import FEATURES, sampling
from tests.runtime.openai.bodies import TOOL, USER, chat, completion, nested, refusal

EVERY_FIELD = chat(
    messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "u", "name": "Ann"}],
    stream=True,
    stream_options={"include_usage": True, "include_obfuscation": False},
    max_tokens=5,
    max_completion_tokens=6,
    temperature=0.5,
    top_p=0.9,
    n=2,
    stop=["a", "b"],
    seed=-1,
    frequency_penalty=-2,
    presence_penalty=2,
    logit_bias={"5": -100, "6": 1.5},
    user="x",
    logprobs=True,
    top_logprobs=3,
    tools=[TOOL],
    tool_choice="auto",
    parallel_tool_calls=False,
    response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    reasoning_effort="low",
    metadata={"a": "b"},
    store=False,
    service_tier="auto",
    modalities=["text"],
    top_k=4,
    min_p=0.1,
    repetition_penalty=1.1,
    ignore_eos=True,
    min_tokens=3,
    stop_token_ids=[7],
    include_stop_str_in_output=True,
    skip_special_tokens=False,
    cache_salt="salt",
    priority=-3,
    chat_template_kwargs={"thinking": True},
)


def test_every_field_of_a_chat():
    request = parse_chat(EVERY_FIELD)
    assert (request.longest_answer, request.stops, request.include_usage) == (6, ("a", "b"), True)
    assert template_variables(request) == {"reasoning_effort": "low", "thinking": True}
    wanted = sampling(request, FEATURES)
    assert wanted.engine == {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.1,
        "seed": -1,
        "frequency_penalty": -2,
        "presence_penalty": 2,
        "repetition_penalty": 1.1,
        "logit_bias": {5: -100, 6: 1.5},
        "ignore_eos": True,
        "min_tokens": 3,
        "cache_salt": "salt",
        "priority": -3,
        "logprobs": 3,
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}},
        },
        "max_tokens": 6,
    }
    assert (wanted.choices, wanted.stop_strings, wanted.stop_tokens) == (2, ("a", "b"), (7,))
    assert (wanted.include_stop, wanted.keep_special, wanted.min_tokens, wanted.ignore_eos) == (
        True,
        True,
        3,
        True,
    )
    assert wanted.logprobs == 3
    assert wanted.for_choice(0) is wanted.engine
    assert wanted.for_choice(2) == {**wanted.engine, "seed": 1}


def test_null_is_the_same_as_nothing():
    names = (
        "stream stream_options max_tokens max_completion_tokens temperature top_p n stop seed frequency_penalty "
        "presence_penalty logit_bias user logprobs top_logprobs tools tool_choice parallel_tool_calls "
        "response_format reasoning_effort metadata store service_tier modalities verbosity top_k min_p "
        "repetition_penalty"
    )
    request = parse_chat(chat(**dict.fromkeys(names.split())))
    assert request == parse_chat(chat())
    wanted = sampling(request, ())
    assert (wanted.engine, wanted.choices, wanted.logprobs, wanted.for_choice(1)) == ({}, 1, None, {})


@pytest.mark.parametrize(
    ("body", "message", "param", "code"),
    [
        (b"", "The body is empty.", None, "invalid_json"),
        (b"{", "The body is not valid JSON: it ends too early.", None, "invalid_json"),
        (
            b'{"model": x}',
            "The body is not valid JSON: invalid character (byte 10).",
            None,
            "invalid_json",
        ),
        (
            b'{"model":"m","messages":[{"role":"user","content":"\\uD800"}]}',
            "The body is not valid JSON: half of a surrogate pair stands alone.",
            None,
            "invalid_json",
        ),
        (b"[]", "The body has to be an object: expected an object, got a list.", None, "invalid_json"),
        (b'{"model":"\xff"}', "The body is not valid UTF-8.", None, "invalid_json"),
        (b'{"model":"m","x":' + b"[" * 10**5, "Unknown parameter: 'x'.", "x", "unknown_parameter"),
        (
            b'{"model":"m","metadata":{"a":' + b"[" * 10**5,
            "The body is nested too deep.",
            None,
            "invalid_json",
        ),
        (
            json.dumps({"messages": [USER]}).encode(),
            "Missing required parameter: 'model'.",
            "model",
            "missing_required_parameter",
        ),
        (
            b'{"model":"m"}',
            "Missing required parameter: 'messages'.",
            "messages",
            "missing_required_parameter",
        ),
        (chat(foo=1), "Unknown parameter: 'foo'.", "foo", "unknown_parameter"),
        (
            chat(messages=[{**USER, "mood": 1}]),
            "Unknown parameter: 'messages[0].mood'.",
            "messages[0].mood",
            "unknown_parameter",
        ),
        (
            chat(messages=[{"content": "x"}]),
            "Missing required parameter: 'messages[0].role'.",
            "messages[0].role",
            "missing_required_parameter",
        ),
        (
            chat(messages=[]),
            "Invalid value for 'messages': expected a list of length >= 1.",
            "messages",
            "invalid_value",
        ),
        (
            chat(messages=[{"role": "king", "content": "x"}]),
            "Invalid value for 'messages[0].role': not a known value: 'king'.",
            "messages[0].role",
            "invalid_value",
        ),
        (
            chat(messages=[{"role": "user", "content": 5}]),
            "Invalid value for 'messages[0].content': expected a string, a list or null, got an integer.",
            "messages[0].content",
            "invalid_value",
        ),
        (
            chat(max_tokens=-1),
            "Invalid value for 'max_tokens': expected an integer >= 1.",
            "max_tokens",
            "invalid_value",
        ),
        (
            chat(max_tokens=1.5),
            "Invalid value for 'max_tokens': expected an integer or null, got a number.",
            "max_tokens",
            "invalid_value",
        ),
        (
            chat(temperature=2.1),
            "Invalid value for 'temperature': expected a number <= 2.0.",
            "temperature",
            "invalid_value",
        ),
        (
            chat(temperature="hot"),
            "Invalid value for 'temperature': expected a number or null, got a string.",
            "temperature",
            "invalid_value",
        ),
        (chat(n=129), "Invalid value for 'n': expected an integer <= 128.", "n", "invalid_value"),
        (
            chat(stop=""),
            "Invalid value for 'stop': expected a string of length >= 1.",
            "stop",
            "invalid_value",
        ),
        (
            chat(stop=["x"] * 17),
            "Invalid value for 'stop': expected a list of length <= 16.",
            "stop",
            "invalid_value",
        ),
        (
            chat(logit_bias={"x": 1}),
            "Invalid value for 'logit_bias': expected an integer, got a string.",
            "logit_bias",
            "invalid_value",
        ),
        (
            chat(stream_options={"include_usage": True}),
            "'stream_options' is only allowed when 'stream' is true.",
            "stream_options",
            "invalid_value",
        ),
        (
            chat(top_logprobs=2),
            "'top_logprobs' is only allowed when 'logprobs' is true.",
            "top_logprobs",
            "invalid_value",
        ),
        (
            chat(max_tokens=2, min_tokens=3),
            "'min_tokens' is 3, more than the answer may have, 2.",
            "min_tokens",
            "invalid_value",
        ),
        (
            chat(tool_choice="auto"),
            "'tool_choice' is only allowed when 'tools' are given.",
            "tool_choice",
            "invalid_value",
        ),
        (
            chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}),
            "'tool_choice' names 'g', which is not among 'tools'.",
            "tool_choice",
            "invalid_value",
        ),
        (
            chat(tools=[TOOL] * 129),
            "Invalid value for 'tools': expected a list of length <= 128.",
            "tools",
            "invalid_value",
        ),
        (
            chat(tools=[TOOL, {"type": "function", "function": {"name": "f", "parameters": nested(65)}}]),
            "'tools[1].function.parameters' is nested deeper than 64 levels.",
            "tools[1].function.parameters",
            "invalid_value",
        ),
        (
            chat(chat_template_kwargs=nested(65)),
            "'chat_template_kwargs' is nested deeper than 64 levels.",
            "chat_template_kwargs",
            "invalid_value",
        ),
        (
            chat(response_format={"type": "json_schema"}),
            "'response_format.json_schema' is needed with the type 'json_schema'.",
            "response_format.json_schema",
            "invalid_value",
        ),
        (
            chat(response_format={"type": "text", "json_schema": {"name": "n"}}),
            "'response_format.json_schema' is only allowed with the type 'json_schema'.",
            "response_format.json_schema",
            "invalid_value",
        ),
        (
            chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": nested(65)}}),
            "'response_format.json_schema.schema' is nested deeper than 64 levels.",
            "response_format.json_schema.schema",
            "invalid_value",
        ),
        (
            chat(continue_final_message=True),
            "The message to continue has to be the assistant's.",
            "continue_final_message",
            "invalid_value",
        ),
        (chat(store=True), "Invalid value for 'store': not a known value: true.", "store", "invalid_value"),
    ],
)
def test_chats_that_are_refused(body, message, param, code):
    assert refusal(parse_chat, body) == (message, param, code)


@pytest.mark.parametrize("half", [b'"\\ud800 and more text"', b'"\\udc00 and more text"'])
def test_half_a_surrogate_pair_is_refused(half):
    body = b'{"model":"m","messages":[{"role":"user","content":%s}]}' % half
    message, param, code = refusal(parse_chat, body)
    assert message.startswith("The body is not valid ")
    assert (param, code) == (None, "invalid_json")
    whole = chat(messages=[{"role": "user", "content": "😀"}])
    assert b"\\ud83d" in whole
    assert parse_chat(whole).messages[0].content == "😀"


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("p", ["p"]),
        ("", [""]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
def test_prompts(prompt, prompts):
    assert parse_completion(completion(prompt=prompt)).prompts == prompts


@pytest.mark.parametrize(
    ("body", "message", "param", "code"),
    [
        (b'{"model":"m"}', "Missing required parameter: 'prompt'.", "prompt", "missing_required_parameter"),
        (completion(prompt=[]), "'prompt' is empty.", "prompt", "invalid_value"),
        (
            completion(prompt=[1, "a"]),
            "'prompt' mixes texts, token ids and lists of token ids.",
            "prompt",
            "invalid_value",
        ),
        (
            completion(prompt=[[1], 2]),
            "'prompt' mixes texts, token ids and lists of token ids.",
            "prompt",
            "invalid_value",
        ),
        (
            completion(prompt=[[1], []]),
            "Invalid value for 'prompt[1]': expected a list of length >= 1.",
            "prompt[1]",
            "invalid_value",
        ),
        (
            completion(prompt=[-1]),
            "Invalid value for 'prompt[0]': expected an integer >= 0.",
            "prompt[0]",
            "invalid_value",
        ),
        (completion(n=3, best_of=2), "'best_of' is 2, below 'n', which is 3.", "best_of", "invalid_value"),
        (
            completion(best_of=2, stream=True),
            "'best_of' above 'n' cannot be streamed.",
            "best_of",
            "invalid_value",
        ),
        (
            completion(prompt=["a"] * 43, n=3),
            "43 prompts with 3 choices each: at most 128 choices in a request.",
            "prompt",
            "invalid_value",
        ),
        (
            completion(logprobs=6),
            "Invalid value for 'logprobs': expected an integer <= 5.",
            "logprobs",
            "invalid_value",
        ),
        (
            completion(suffix="x"),
            "Invalid value for 'suffix': not a known value: 'x'.",
            "suffix",
            "invalid_value",
        ),
        (completion(messages=[]), "Unknown parameter: 'messages'.", "messages", "unknown_parameter"),
    ],
)
def test_completions_that_are_refused(body, message, param, code):
    assert refusal(parse_completion, body) == (message, param, code)
