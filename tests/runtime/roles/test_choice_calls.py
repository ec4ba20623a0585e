"""A choice whose text is of tool calls: what its client reads, streamed and whole."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dyno_runtime.openai.answers import Head
from dyno_runtime.openai.tools import Calls, Forced
from dyno_runtime.roles.choice import Choice
from dyno_runtime.roles.visit import Pump, Visit
from dyno_runtime.text.answer import Answer, Stop
from dyno_runtime.text.tokenizer import ByteTokenizer
from dyno_runtime.wire.messages import Delta, Failure

LIST = '[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]'
WHOLE = [("f", '{"a": 1}'), ("g", "{}")]


class Reader:
    """What stands for the visit of one client."""

    def __init__(self, *, stream: bool) -> None:
        self.head = Head("chatcmpl-1", 0, "m")
        self.chat, self.stream, self.include_usage, self.timed = True, stream, False, False
        self.logprobs = None
        self.pump = SimpleNamespace(soon=lambda choice: choice.flush())
        self.data = b""
        self.failed: Failure | None = None

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None  # it never holds back, and nothing else is of interest

    def write(self, data: bytes) -> None:
        self.data += data

    done = write

    def fail(self, failure: Failure) -> None:
        self.failed = failure

    @property
    def deltas(self) -> list[dict[str, Any]]:
        lines = self.data.decode().split("\n\n")
        return [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines if line]


def choice_for(reader: Reader, forced: Forced) -> Choice:
    tokenizer = ByteTokenizer()
    answer = Answer(tokenizer.detokenizer(continues=False, keep_special=False), Stop())
    return Choice(cast(Visit, reader), 0, answer, eager=reader.stream, calls=Calls(forced, "call_1"))


def tell(choice: Choice, text: str, finish: str) -> None:
    tokens = ByteTokenizer().encode(text)
    for start in range(0, len(tokens), 5):
        choice.item(Delta(tokens[start : start + 5]))
    choice.item(Delta([], finish))


@pytest.mark.parametrize(("finish", "told"), [("stop", "tool_calls"), ("length", "length")])
def test_streamed_calls_are_no_content(finish: str, told: str) -> None:
    reader = Reader(stream=True)
    tell(choice_for(reader, Forced(None, {})), LIST, finish)
    calls = [call for one in reader.deltas for call in one["delta"].get("tool_calls") or ()]
    assert [(call["function"]["name"], call["function"]["arguments"]) for call in calls] == WHOLE
    assert [call["id"] for call in calls] == ["call_1-0", "call_1-1"]
    assert [one["delta"].get("content") for one in reader.deltas if one["delta"].get("content")] == []
    assert reader.deltas[-1]["finish_reason"] == told


def test_whole_calls_are_no_content() -> None:
    choice = choice_for(Reader(stream=False), Forced(None, {}))
    tell(choice, LIST, "stop")
    made = choice.as_chat()
    assert (made.message.content, made.finish_reason) == (None, "tool_calls")
    assert [(call.function.name, call.function.arguments) for call in made.message.tool_calls] == WHOLE


def test_a_named_function_is_streamed_piece_by_piece_and_just_stops() -> None:
    reader = Reader(stream=True)
    tell(choice_for(reader, Forced("f", {})), '{"a": 1}', "stop")
    calls = [call for one in reader.deltas for call in one["delta"].get("tool_calls") or ()]
    assert len(calls) > 1
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a": 1}'
    assert reader.deltas[-1]["finish_reason"] == "stop"


async def test_an_answer_that_cannot_be_told_takes_no_other_of_its_turn_with_it() -> None:
    pump, readers = Pump(merge=True), [Reader(stream=True), Reader(stream=True)]
    for reader, text in zip(readers, ('[{"no": "call"}]', LIST), strict=True):
        reader.pump = cast(Any, pump)
        choice_for(reader, Forced(None, {})).item(Delta(ByteTokenizer().encode(text), "stop"))
    await asyncio.sleep(0.01)
    broken, whole = readers
    assert broken.failed == Failure("engine", "this answer could not be told; the log says why")
    assert (whole.failed, whole.deltas[-1]["finish_reason"]) == (None, "tool_calls")
