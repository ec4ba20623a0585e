"""A chat request's messages and tools as chat templates know them: plain dicts, content as one string.

In: a checked `ChatRequest`. Out: messages, tools and further variables for the template, or an `ApiError` (400).
Parts of text are joined by a line break; what is no text is refused, as the models here take text only.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import msgspec

from dyno_runtime.openai.errors import invalid
from dyno_runtime.openai.fields import Message, Part, ToolCall
from dyno_runtime.openai.request import ChatRequest
from dyno_runtime.openai.sampling import uses_tools

_OTHERS = ("name", "tool_call_id", "reasoning_content", "reasoning")
_others = attrgetter(*_OTHERS)
_arguments = msgspec.json.Decoder(dict[str, Any])


def template_messages(request: ChatRequest) -> list[dict[str, Any]]:
    """The messages."""
    return [_plain(place, message) for place, message in enumerate(request.messages)]


def template_tools(request: ChatRequest) -> list[dict[str, Any]] | None:
    """The tools that the model is shown; None for none."""
    if not request.tools or not uses_tools(request):
        return None
    tools: list[dict[str, Any]] = msgspec.to_builtins(request.tools)
    return tools


def template_variables(request: ChatRequest) -> dict[str, Any]:
    """What else the template may ask for. The client's own variables win."""
    variables: dict[str, Any] = {}
    if request.reasoning_effort is not None:
        variables["reasoning_effort"] = request.reasoning_effort
    if request.chat_template_kwargs:
        variables |= request.chat_template_kwargs
    return variables


def _plain(place: int, message: Message) -> dict[str, Any]:
    content = message.content
    if content is not None and not isinstance(content, str):
        content = "\n".join([_text(place, number, part) for number, part in enumerate(content)])
    if content is None and message.role != "assistant":
        where = f"messages[{place}].content"
        raise invalid(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    plain: dict[str, Any] = {"role": message.role, "content": content or ""}
    for name, value in zip(_OTHERS, _others(message), strict=True):
        if value is not None:
            plain[name] = value
    if message.tool_calls:
        calls = enumerate(message.tool_calls)
        plain["tool_calls"] = [
            _call(f"messages[{place}].tool_calls[{number}]", call) for number, call in calls
        ]
    return plain


def _text(place: int, number: int, part: Part) -> str:
    where = f"messages[{place}].content[{number}]"
    text = {"text": part.text, "refusal": part.refusal}.get(part.type)
    if text is not None:
        return text
    if part.type in ("text", "refusal"):
        param = f"{where}.{part.type}"
        raise invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    raise invalid(
        f"'{where}' is of type {part.type!r}; this model takes text only.", where, "unsupported_content"
    )


def _call(where: str, call: ToolCall) -> dict[str, Any]:
    """Templates want the arguments as an object, clients send them as JSON in a string."""
    try:
        arguments = _arguments.decode(call.function.arguments or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        param = f"{where}.function.arguments"
        raise invalid(f"'{param}' is not a JSON object in a string.", param) from error
    function = {"name": call.function.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}
