"""The fields of requests that have a structure or bounds of their own. They are also what /openapi.json says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_TOKENS = 2**31 - 1
MAX_MESSAGES = 4096
MAX_PARTS = 1024
MAX_TOOLS = 128
MAX_CHOICES = 128  # of all prompts of a request together
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_DEPTH = 64
MAX_BIASES = 1024

Name = Annotated[str, Meta(min_length=1, max_length=256)]
FunctionName = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_.-]+$")]
Count = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
Amount = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
RepetitionPenalty = Annotated[float, Meta(gt=0, le=10)]
Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
TokenId = Annotated[int, Meta(ge=0, le=2**32 - 1)]
TokenIds = Annotated[list[TokenId], Meta(max_length=64)]
StopString = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_CHARS)]
StopField = StopString | Annotated[list[StopString], Meta(max_length=MAX_STOPS)]
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]],
    Meta(max_length=MAX_BIASES, extra_json_schema={"propertyNames": {"pattern": "^[0-9]{1,10}$"}}),
]


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The base of all parts of a request. What was JSON has no cycles."""


class StreamOptions(Field, frozen=True):
    """Only with `stream`. Obfuscation is never added."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class Function(Field, frozen=True):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Field, frozen=True):
    """A tool that the model may use."""

    type: Literal["function"]
    function: Function


class FunctionChoice(Field, frozen=True):
    """Which function."""

    name: FunctionName


class NamedTool(Field, frozen=True):
    """The model has to call this one."""

    type: Literal["function"]
    function: FunctionChoice


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class JsonSchema(Field, frozen=True):
    """What the answer has to look like."""

    name: FunctionName
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(Field, frozen=True):
    """`json_schema` is needed with that type, and only then."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Part(msgspec.Struct, frozen=True, gc=False):
    """A part of a message's content. Of kinds other than text and refusal nothing is read but their name."""

    type: str
    text: str | None = None
    refusal: str | None = None


class CalledFunction(Field, frozen=True):
    """What the model called; `arguments` is JSON in a string."""

    name: str
    arguments: str


class ToolCall(Field, frozen=True, kw_only=True):
    """A call that the model made earlier."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class Message(Field, frozen=True):
    """One message. What clients send back of an earlier answer is taken as it is."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Meta(max_length=MAX_PARTS)] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None
