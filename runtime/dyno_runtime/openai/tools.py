"""Tool calls that a client insists on: the form in which the engine has to write them, and how they are told.

In: a checked chat request. Out: `Forced`, where its `tool_choice` is `required` or a function: a schema for the
engine, which then writes nothing but calls; `Calls`, from that text to pieces of tool calls. How a model calls tools
of its own accord is its own affair, which no schema describes: that needs a parser for each kind of model.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from dyno_runtime.openai.errors import invalid
from dyno_runtime.openai.fields import Function, NamedTool
from dyno_runtime.openai.request import ChatRequest

NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


class Forced(msgspec.Struct, frozen=True, gc=False):
    """Calls of the one function `name`, or a list of calls of any. `form` is a `response_format`."""

    name: str | None
    form: dict[str, Any]


def forced_calls(request: ChatRequest) -> Forced | None:
    """None where the model may answer without a call. Raises ApiError (400)."""
    choice, functions = request.tool_choice, [tool.function for tool in request.tools or ()]
    if isinstance(choice, NamedTool):
        function = next(one for one in functions if one.name == choice.function.name)
        forced = Forced(function.name, _form(_parameters(function)))
    elif choice == "required":
        forced = Forced(None, _form(_list(functions, several=request.parallel_tool_calls is not False)))
    else:
        return None
    if request.response_format is not None and request.response_format.type != "text":
        message = "'response_format' cannot be combined with a 'tool_choice' that insists on a call."
        raise invalid(message, "response_format")
    for field in ("ignore_eos", "min_tokens"):
        if getattr(request, field):
            # Behind the end of the calls a schema allows nothing more.
            raise invalid(f"'{field}' cannot be combined with a 'tool_choice' that insists on a call.", field)
    return forced


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "tool_calls", "schema": schema}}


def _parameters(function: Function) -> dict[str, Any]:
    return function.parameters or NOTHING


def _list(functions: list[Function], *, several: bool) -> dict[str, Any]:
    """The schema of a list of calls. A function's own schema with references has a root of its own in it."""
    homes: dict[str, Any] = {}
    kinds = []
    for number, function in enumerate(functions):
        own = _parameters(function)
        root = f"#/$defs/f{number}"
        moved = _moved(own, root)
        if moved != own:
            homes[f"f{number}"], own = moved, {"$ref": root}
        properties = {"name": {"enum": [function.name]}, "arguments": own}
        required = ["name", "arguments"]
        kinds.append(
            {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        )
    most = {} if several else {"maxItems": 1}
    shared = {"$defs": homes} if homes else {}
    return {"type": "array", "minItems": 1, **most, "items": {"anyOf": kinds}, **shared}


def _moved(value: Any, root: str) -> Any:
    """A part of a schema whose root is elsewhere now."""
    if isinstance(value, list):
        return [_moved(one, root) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: root + one[1:] if key == "$ref" and (one == "#" or _is_path(one)) else _moved(one, root)
        for key, one in value.items()
    }


def _is_path(reference: Any) -> bool:
    return isinstance(reference, str) and reference.startswith("#/")


class _Made(msgspec.Struct):
    name: str
    arguments: msgspec.Raw


def _read(text: str) -> tuple[str, str]:
    """Name and arguments of a whole call."""
    try:
        made = msgspec.json.decode(text, type=_Made)
        return made.name, bytes(made.arguments).decode()
    except msgspec.DecodeError:
        # A schema lets an engine write half of a surrogate pair; as an escape that is JSON to everybody else.
        loose = json.loads(text)
        return loose["name"], json.dumps(loose["arguments"])


class Calls:
    """The calls of one choice. `prefix` is the beginning of their ids. A call in a list is told once it is whole."""

    def __init__(self, forced: Forced, prefix: str) -> None:
        self.forced = forced
        self._prefix = prefix
        self._count = 0
        self._depth = 0
        self._quoted = self._escaped = self._closed = False
        self._text: list[str] = []  # of the call that has begun

    def finish(self, reason: str) -> str:
        """Why the answer ends, as OpenAI says it: one that had to call a certain function just stops."""
        return "tool_calls" if reason == "stop" and self.forced.name is None and self._count else reason

    def feed(self, text: str) -> list[dict[str, Any]]:
        """New text of the answer; the pieces of calls that it brings."""
        if not text:
            return []
        return self._list(text) if self.forced.name is None else [self._piece(self.forced.name, text)]

    def _piece(self, name: str, arguments: str) -> dict[str, Any]:
        if self._count:
            return {"index": 0, "function": {"arguments": arguments}}
        return self._begin(name, arguments)

    def _begin(self, name: str, arguments: str) -> dict[str, Any]:
        number, self._count = self._count, self._count + 1
        function = {"name": name, "arguments": arguments}
        return {"index": number, "id": f"{self._prefix}-{number}", "type": "function", "function": function}

    def _list(self, text: str) -> list[dict[str, Any]]:
        new = []
        for char in text:
            if self._closed:
                break  # an engine that has to go on behind the list may say anything
            if self._depth > 1 or char == "{":
                self._text.append(char)
            if self._ends(char):
                new.append(self._begin(*_read("".join(self._text))))
                self._text.clear()
        return new

    def _ends(self, char: str) -> bool:
        """Whether this character closes a call, which is an object in the list."""
        if self._quoted:
            self._quoted = self._escaped or char != '"'
            self._escaped = char == "\\" and not self._escaped
        elif char == '"':
            self._quoted = True
        elif char in "[{":
            self._depth += 1
        elif char in "]}":
            self._depth -= 1
            self._closed = self._depth == 0
            return self._depth == 1
        return False
