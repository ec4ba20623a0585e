"""Prompts: what is too long is refused, before it is encoded where that can be known."""

from __future__ import annotations

import json

import pytest

from dyno_runtime.openai.errors import ApiError
from dyno_runtime.openai.request import parse_chat, parse_completion
from dyno_runtime.roles.desk import prompts
from dyno_runtime.text.load import load
from dyno_runtime.text.tokenizer import ByteTokenizer

REFUSAL = "This model's maximum context length is 9000 tokens. You asked for {} or more in the prompt."


@pytest.mark.parametrize(
    ("body", "fewest", "param"),
    [
        ({"prompt": "x" * 9000}, 9000, "prompt"),
        ({"prompt": ["short", "x" * 70_000]}, 70_000, "prompt"),
        ({"messages": [{"role": "user", "content": "x" * 9000}]}, 9018, "messages"),
    ],
)
async def test_what_cannot_fit_is_refused_before_it_is_encoded(
    monkeypatch: pytest.MonkeyPatch, body: dict[str, object], fewest: int, param: str
) -> None:
    encoded: list[int] = []
    monkeypatch.setattr(ByteTokenizer, "encode", lambda self, text, **_: encoded.append(len(text)))
    parse = parse_chat if "messages" in body else parse_completion
    request = parse(json.dumps({"model": "m", **body}).encode())
    with pytest.raises(ApiError) as caught:
        await prompts(load(None), request, 9000)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")
    assert (caught.value.message, caught.value.param) == (REFUSAL.format(fewest), param)
    assert encoded == []


async def test_what_may_fit_is_encoded() -> None:
    request = parse_completion(json.dumps({"model": "m", "prompt": "x" * 8999}).encode())
    (prompt,) = await prompts(load(None), request, 9000)
    assert len(prompt.tokens) == 8999


async def test_token_ids_are_those_of_the_model() -> None:
    size = load(None).tokenizer.vocab_size
    for last in (size - 1, size):
        request = parse_completion(json.dumps({"model": "m", "prompt": [[0], [1, last]]}).encode())
        if last < size:
            assert [prompt.tokens for prompt in await prompts(load(None), request, 9000)] == [[0], [1, last]]
            continue
        with pytest.raises(ApiError) as caught:
            await prompts(load(None), request, 9000)
        assert (caught.value.status, caught.value.param) == (400, "prompt")
        assert caught.value.message == f"'prompt' has the token {size}; this model's are below {size}."
