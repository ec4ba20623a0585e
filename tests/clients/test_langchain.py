"""langchain-openai against a cluster: chat and completion models, streamed, in batches, with what they add."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI

SAID = [SystemMessage("You answer in one word."), HumanMessage("Tell me a joke")]


@pytest.fixture(scope="module")
def model(base_url: str) -> ChatOpenAI:
    access: dict[str, Any] = {"model": "mock", "base_url": base_url, "api_key": "none is needed"}
    options: dict[str, Any] = {"max_retries": 0, "seed": 4, "max_tokens": 30, "stream_usage": True}
    return ChatOpenAI(**access, **options)


def test_invoked_and_streamed_are_the_same(model: ChatOpenAI) -> None:
    whole = model.invoke(SAID)
    assert whole.text
    assert whole.response_metadata["model_name"] == "mock"
    whole_chunk = None
    for chunk in model.stream(SAID):
        assert isinstance(chunk, AIMessageChunk)
        whole_chunk = chunk if whole_chunk is None else whole_chunk + chunk
    assert whole_chunk is not None
    assert whole_chunk.text == whole.text
    for told in (whole, whole_chunk):
        assert told.usage_metadata is not None
        assert told.usage_metadata["output_tokens"] == len(whole.text)
        assert told.response_metadata["finish_reason"] in ("length", "stop")
    assert whole_chunk.usage_metadata is not None
    assert whole_chunk.usage_metadata["input_token_details"]["cache_read"] > 0


def test_in_batches_and_asynchronously(model: ChatOpenAI) -> None:
    asked = [f"number {number}" for number in range(8)]
    texts = [one.text for one in model.batch(list(asked))]
    assert len(set(texts)) == 8

    async def again() -> list[str]:
        async def one(prompt: str) -> str:
            return "".join([chunk.text async for chunk in model.astream(prompt)])

        return await asyncio.gather(*map(one, asked))

    assert asyncio.run(again()) == texts


def test_stop_several_choices_and_logprobs(model: ChatOpenAI) -> None:
    text = model.invoke(SAID).text
    assert model.invoke(SAID, stop=[text[5:7]]).text == text[: text.index(text[5:7])]
    told = model.generate([SAID], n=3).generations[0]
    assert [told[0].text, len({one.text for one in told})] == [text, 3]
    likely = model.bind(logprobs=True, top_logprobs=2).invoke(SAID)
    content = likely.response_metadata["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == text


def test_what_the_engine_cannot_do_is_refused_by_name(model: ChatOpenAI) -> None:
    @tool
    def weather(place: str) -> str:
        """The weather there."""
        return place

    with pytest.raises(openai.BadRequestError, match="'tools' is not supported by this model's engine"):
        model.bind_tools([weather]).invoke(SAID)
    with pytest.raises(openai.BadRequestError, match="'response_format' is not supported"):
        model.with_structured_output({"title": "t", "type": "object", "properties": {}}).invoke(SAID)


def test_a_completion_model(base_url: str) -> None:
    options: dict[str, Any] = {"model": "mock", "base_url": base_url, "api_key": "none", "seed": 4}
    model = OpenAI(max_tokens=12, max_retries=0, **options)
    text = model.invoke("once")
    assert len(text) == 12
    assert "".join(model.stream("once")) == text
