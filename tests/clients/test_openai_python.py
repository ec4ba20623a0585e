"""OpenAI's own Python client against a cluster: what it asks for, what it makes of the answers, what it raises."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from tests.servers import wait_for

SAID: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You answer in one word."},
    {"role": "user", "content": [{"type": "text", "text": "Is this long enough to be prefilled elsewhere?"}]},
]


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=base_url, api_key="none is needed", max_retries=0, timeout=60.0) as made:
        yield made


def test_models_by_their_exact_names(client: OpenAI) -> None:
    assert [one.id for one in client.models.list()] == ["busy", "mock", "org/frail", "twofold"]
    assert client.models.retrieve("org/frail").id == "org/frail"
    with pytest.raises(openai.NotFoundError, match="The model 'org' does not exist"):
        client.models.retrieve("org")


def test_whole_and_streamed_answers_are_the_same(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="mock", messages=SAID, max_completion_tokens=40, seed=3)
    assert whole.usage is not None
    text = whole.choices[0].message.content
    assert text
    assert whole.choices[0].finish_reason == ("length" if whole.usage.completion_tokens == 40 else "stop")
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    stream = client.chat.completions.create(
        model="mock",
        messages=SAID,
        max_completion_tokens=40,
        seed=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert {chunk.id for chunk in chunks} == {last.id} != {whole.id}
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    # The second time, the prompt was there.
    assert last.usage.prompt_tokens_details is not None
    assert (last.usage.prompt_tokens_details.cached_tokens or 0) >= 64


def test_the_head_of_an_answer_says_who_made_it(client: OpenAI) -> None:
    def ask(model: str) -> tuple[str, str]:
        said: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Never asked before. " * 10}]
        raw = client.chat.completions.with_raw_response.create(model=model, messages=said, max_tokens=1)
        assert raw.parse().choices[0].message.role == "assistant"
        return raw.headers["x-dyno-worker"], raw.headers["x-dyno-prefill"]

    worker, prefill = ask("mock")
    assert worker in ("local/decode-0", "local/decode-1")
    assert prefill == "remote:local/prefill-0"
    assert ask("twofold") == ("local/decode-2", "remote:local/decode-2")


def test_choices_stop_strings_and_logprobs(client: OpenAI) -> None:
    def ask(**more: object) -> list[str]:
        answer = client.chat.completions.create(
            model="mock", messages=SAID, max_tokens=30, seed=1, extra_body={"ignore_eos": True, **more}
        )
        assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
        return [choice.message.content or "" for choice in answer.choices]

    three = ask(n=3)
    assert len(set(three)) == 3
    (alone,) = ask()
    assert three[0] == alone
    assert ask(stop=[alone[10:13]]) == [alone[: alone.index(alone[10:13])]]

    told = client.chat.completions.create(
        model="mock", messages=SAID, max_tokens=4, seed=1, logprobs=True, top_logprobs=2
    ).choices[0]
    assert told.logprobs is not None
    content = told.logprobs.content or []
    assert "".join(one.token for one in content) == told.message.content
    assert [len(one.top_logprobs) for one in content] == [2] * 4
    assert all(one.logprob <= 0 for one in content)


def test_completions_whole_and_streamed(client: OpenAI) -> None:
    plain = client.completions.create(model="mock", prompt="once", max_tokens=12, seed=2)
    assert len(plain.choices[0].text) == 12
    stream = client.completions.create(model="mock", prompt="once", max_tokens=12, seed=2, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == plain.choices[0].text
    both = client.completions.create(
        model="mock", prompt=["once", "twice"], max_tokens=3, seed=2, echo=True, extra_body={"min_tokens": 3}
    )
    assert [choice.text[:5] for choice in both.choices] == ["once" + plain.choices[0].text[0], "twice"]
    ids = client.completions.create(model="mock", prompt=list(b"once"), max_tokens=12, seed=2, logprobs=1)
    assert ids.choices[0].text == plain.choices[0].text
    assert ids.choices[0].logprobs is not None
    assert "".join(ids.choices[0].logprobs.tokens or []) == plain.choices[0].text


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
WRONG: dict[str, tuple[dict[str, object], str | None, str | None, str]] = {
    "tools": (
        {"tools": [TOOL]},
        "tools",
        "unsupported_parameter",
        "'tools' is not supported by this model's engine.",
    ),
    "response_format": (
        {"response_format": {"type": "json_object"}},
        "response_format",
        "unsupported_parameter",
        "'response_format' is not supported by this model's engine.",
    ),
    "unknown": ({"tempreature": 1}, "tempreature", "unknown_parameter", "Unknown parameter: 'tempreature'."),
    "negative": (
        {"max_tokens": -1},
        "max_tokens",
        "invalid_value",
        "Invalid value for 'max_tokens': expected an integer >= 1.",
    ),
    "long": (
        {"messages": [{"role": "user", "content": "x" * 5000}], "max_tokens": 8},
        "messages",
        "context_length_exceeded",
        "This model's maximum context length is 4096 tokens. "
        "You asked for 5026 (5018 in the prompt, 8 for the answer).",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_a_bad_request_that_names_the_field(client: OpenAI, name: str) -> None:
    body, param, code, message = WRONG[name]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="mock", messages=SAID, extra_body=body)
    error = caught.value
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert isinstance(error.body, dict)
    assert error.body["message"] == message


def test_other_refusals_are_the_clients_exceptions(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="mo", messages=SAID)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match=r"/v1/embeddings"):
        client.embeddings.create(model="mock", input="x")
    with pytest.raises(openai.APIStatusError) as huge:
        client.completions.create(model="mock", prompt="x" * 9_000_000)
    assert (huge.value.status_code, huge.value.code) == (413, "too_large")


def test_a_full_worker_is_a_rate_limit_that_the_client_waits_for(client: OpenAI) -> None:
    """The only worker of this model refuses every second request."""

    def ask(client: OpenAI) -> str:
        return client.completions.create(model="busy", prompt="x", max_tokens=1).choices[0].text

    with pytest.raises(openai.RateLimitError) as caught:
        ask(client), ask(client)
    error = caught.value
    assert (error.status_code, error.code, error.type) == (429, "overloaded", "rate_limit_error")
    assert error.response.headers["retry-after"] == "1"
    assert ask(client)
    assert ask(client.with_options(max_retries=1)), "the next one is refused, and asked for again"


def test_an_error_in_the_middle_of_a_stream_is_raised_there(client: OpenAI) -> None:
    """The only worker of this model dies after 200 tokens."""
    stream = client.chat.completions.create(
        model="org/frail",
        messages=[{"role": "user", "content": "x"}],
        max_tokens=399,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError) as caught:
        chunks.extend(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert not isinstance(caught.value, openai.APIConnectionError)
    assert 0 < len(text) < 399
    assert caught.value.type == "unavailable_error"


def test_a_client_that_stops_reading_frees_everything(client: OpenAI, base_url: str) -> None:
    stream = client.completions.create(model="mock", prompt="x", max_tokens=4000, stream=True)
    next(iter(stream))
    stream.close()

    def nobody_in_flight() -> bool:
        with urllib.request.urlopen(base_url.replace("/v1", "/metrics")) as answer:
            return 'dyno_requests_in_flight{role="frontend"} 0\n' in answer.read().decode()

    wait_for(nobody_in_flight, "nothing is in flight")


def test_the_asynchronous_client_many_at_once(base_url: str) -> None:
    async def ask_all() -> list[str]:
        async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:

            async def ask(number: int) -> str:
                said: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"number {number}"}]
                stream = await client.chat.completions.create(
                    model="mock", messages=said, max_tokens=20, stream=True, extra_body={"ignore_eos": True}
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(ask(number) for number in range(40)))

    texts = asyncio.run(ask_all())
    assert {len(text) for text in texts} == {20}
    assert len(set(texts)) == 40
