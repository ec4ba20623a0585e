"""The bodies of POST /v1/chat/completions and /v1/completions, decoded and checked.

In: bytes. Out: a `ChatRequest` or a `CompletionRequest` that the rest can rely on, or an `ApiError` that names the
field. As at OpenAI an unknown field is refused. Fields after `user` are not OpenAI's but usual with open models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from dyno_runtime.openai.errors import invalid
from dyno_runtime.openai.fields import (
    MAX_CHOICES,
    MAX_DEPTH,
    MAX_MESSAGES,
    MAX_TOOLS,
    Amount,
    Choices,
    Count,
    Field,
    LogitBias,
    Message,
    Name,
    NamedTool,
    Penalty,
    RepetitionPenalty,
    ResponseFormat,
    Seed,
    Share,
    StopField,
    StreamOptions,
    Temperature,
    TokenId,
    TokenIds,
    Tool,
    ToolChoice,
)
from dyno_runtime.openai.refused import refused


class GenerationRequest(Field, frozen=True, kw_only=True):
    """What both kinds of request have in common. For OpenAI's fields `null` is the same as leaving them out."""

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    n: Choices | None = None
    stop: StopField | None = None
    seed: Seed | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    user: str | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Share | None = None
    repetition_penalty: RepetitionPenalty | None = None
    ignore_eos: bool = False
    min_tokens: Amount = 0
    stop_token_ids: TokenIds | None = None
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    add_special_tokens: bool | None = None
    cache_salt: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(GenerationRequest, frozen=True, kw_only=True):
    """POST /v1/chat/completions. Fields after `reasoning_effort` change nothing here, or have to be as they are."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    metadata: dict[str, Any] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    modalities: list[Literal["text"]] | None = None
    verbosity: Literal["medium"] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, Any] | None = None

    @property
    def longest_answer(self) -> int | None:
        """The most tokens that the answer may have; None where the client does not care."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class CompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    """POST /v1/completions. `prompt` is a text, a list of texts, token ids, or a list of lists of token ids."""

    prompt: str | list[str | TokenId | Annotated[list[TokenId], Meta(min_length=1)]]
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    suffix: Literal[""] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or more."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]  # checked: ids, all of them
        return self.prompt  # type: ignore[return-value]  # checked: texts, or lists of ids

    @property
    def longest_answer(self) -> int | None:
        """The most tokens that the answer may have; None where the client does not care."""
        return self.max_tokens


AnyRequest = ChatRequest | CompletionRequest

_Request = TypeVar("_Request", ChatRequest, CompletionRequest)
_chat = msgspec.json.Decoder(ChatRequest)
_completion = msgspec.json.Decoder(CompletionRequest)


def parse_chat(body: bytes) -> ChatRequest:
    """The checked request. Raises ApiError (400)."""
    request = _decoded(_chat, body)
    _check(request)
    if request.top_logprobs and not request.logprobs:
        raise invalid("'top_logprobs' is only allowed when 'logprobs' is true.", "top_logprobs")
    _check_tools(request)
    form = request.response_format
    if form is not None and (form.type == "json_schema") != (form.json_schema is not None):
        problem = "is needed with" if form.json_schema is None else "is only allowed with"
        raise invalid(
            f"'response_format.json_schema' {problem} the type 'json_schema'.", "response_format.json_schema"
        )
    if form is not None and form.json_schema is not None:
        _check_depth(form.json_schema.schema, "response_format.json_schema.schema")
    _check_depth(request.chat_template_kwargs, "chat_template_kwargs")
    if request.continue_final_message and request.messages[-1].role != "assistant":
        raise invalid("The message to continue has to be the assistant's.", "continue_final_message")
    return request


def parse_completion(body: bytes) -> CompletionRequest:
    """The checked request. Raises ApiError (400)."""
    request = _decoded(_completion, body)
    _check(request)
    _check_prompts(request.prompt)
    prompts, n = len(request.prompts), request.n or 1
    best_of = n if request.best_of is None else request.best_of
    if best_of < n:
        raise invalid(f"'best_of' is {best_of}, below 'n', which is {n}.", "best_of")
    if best_of > n and request.stream:
        raise invalid("'best_of' above 'n' cannot be streamed.", "best_of")
    if prompts * best_of > MAX_CHOICES:
        asked = f"{prompts} prompts with {best_of} choices each"
        raise invalid(f"{asked}: at most {MAX_CHOICES} choices in a request.", "prompt")
    return request


def _decoded(decoder: msgspec.json.Decoder[_Request], body: bytes) -> _Request:
    try:
        request = decoder.decode(body)
        if b"\\ud" in body or b"\\uD" in body:
            # Half of a surrogate pair would be a str that no tokenizer takes.
            msgspec.json.encode(request)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise refused(error, body) from error
    return request


def _check(request: AnyRequest) -> None:
    """What holds for both kinds."""
    if request.stream_options is not None and not request.stream:
        raise invalid("'stream_options' is only allowed when 'stream' is true.", "stream_options")
    longest = request.longest_answer
    if longest is not None and request.min_tokens > longest:
        message = f"'min_tokens' is {request.min_tokens}, more than the answer may have, {longest}."
        raise invalid(message, "min_tokens")


def _check_tools(request: ChatRequest) -> None:
    tools, choice = request.tools, request.tool_choice
    if not tools:
        if choice is not None and choice != "none":
            raise invalid("'tool_choice' is only allowed when 'tools' are given.", "tool_choice")
        return
    for place, tool in enumerate(tools):
        _check_depth(tool.function.parameters, f"tools[{place}].function.parameters")
    if isinstance(choice, NamedTool) and all(tool.function.name != choice.function.name for tool in tools):
        message = f"'tool_choice' names {choice.function.name!r}, which is not among 'tools'."
        raise invalid(message, "tool_choice")


def _check_prompts(prompt: str | list[Any]) -> None:
    if isinstance(prompt, str):
        return
    kinds = {type(one) for one in prompt}
    if len(kinds) != 1:
        problem = "is empty" if not kinds else "mixes texts, token ids and lists of token ids"
        raise invalid(f"'prompt' {problem}.", "prompt")


def _check_depth(value: Any, param: str) -> None:
    """A template or an engine goes through these values by recursion."""
    if value is None:
        return
    layer, depth = [value], 0
    while layer:
        depth += 1
        if depth > MAX_DEPTH:
            raise invalid(f"'{param}' is nested deeper than {MAX_DEPTH} levels.", param)
        inner: list[Any] = []
        for one in layer:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        layer = [one for one in inner if isinstance(one, dict | list)]
