"""Chat templates of Hugging Face model folders: messages in, the prompt's text out.

In: template sources by name, the special tokens that they may name, and a clock. Out: `render`, with what templates
expect to find: `raise_exception`, `strftime_now`, `tojson` as they know it, loop controls, the `generation` tag, in
jinja2's immutable sandbox. Each source is compiled once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = dict[str, Any]
Now = Callable[[], datetime]

# For the built-in tokenizer: what was said, a line each.
PLAIN = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


class TemplateRefused(ValueError):
    """The messages cannot be made a prompt; the message is a sentence for the client."""


class BadTemplate(ValueError):
    """The template itself is broken; found at load."""


class _Generation(Extension):
    """`{% generation %}` marks what the assistant said, for training; here it is just its content."""

    tags = {"generation"}  # noqa: RUF012  # jinja2's own spelling

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class ChatTemplates:
    """One model's templates, compiled."""

    def __init__(self, sources: Mapping[str, str], special_tokens: Mapping[str, str], now: Now) -> None:
        environment = self._environment = _environment(now)
        self._templates: dict[str, jinja2.Template] = {}
        self._known: dict[str, dict[str, Any]] = {}  # what each may name besides the request's own
        self._wants_parts: dict[str, bool] = {}
        self._knows_developers = {name for name, source in sources.items() if "developer" in source}
        for name, source in sources.items():
            try:
                template = self._templates[name] = environment.from_string(source)
                # It is read for each rendering, and a ChainMap is slow to read.
                template.globals = dict(template.globals)
                self._known[name] = {**template.globals, **special_tokens}
                self._wants_parts[name] = _loops_over_parts(environment.parse(source))
            except jinja2.TemplateError as error:
                raise BadTemplate(f"the chat template {name!r} cannot be compiled: {error}") from error

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[dict[str, Any]] | None = None,
        name: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        more: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt. `content` of a message is a string; `more` are further variables for the template.

        With `continue_final_message` the prompt ends where the last message's content ends.

        Raises:
            TemplateRefused: there is no such template, or it does not take these messages.
        """
        chosen = self._choose(name, tools)
        if self._wants_parts[chosen]:
            messages = [_in_parts(message) for message in messages]
        if chosen not in self._knows_developers:
            messages = [_as_system(message) for message in messages]
        template = self._templates[chosen]
        variables = {
            **self._known[chosen],
            **(more or {}),
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt and not continue_final_message,
        }
        try:
            # As `template.render` does it, without its copies.
            context = Context(self._environment, variables, template.name, template.blocks)
            text = "".join(template.root_render_func(context))
        except jinja2.TemplateError as error:
            raise TemplateRefused(f"the model's chat template refuses these messages: {error}") from error
        except Exception as error:  # a template is a program: any of Python's errors may come out of it
            raise TemplateRefused(
                f"the model's chat template fails on these messages: {type(error).__name__}: {error}"
            ) from error
        return _cut(text, messages[-1]) if continue_final_message else text

    def _choose(self, name: str | None, tools: object) -> str:
        if name is None:
            name = "tool_use" if tools and "tool_use" in self._templates else "default"
        if name in self._templates:
            return name
        if not self._templates:
            raise TemplateRefused("this model has no chat template; it takes /v1/completions only")
        known = ", ".join(sorted(self._templates))
        raise TemplateRefused(f"this model has no chat template {name!r}; it has {known}")


def _environment(now: Now) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: now().strftime(form)
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: models were trained on it, and not on jinja2's own filter, which escapes for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _loops_over_parts(template: nodes.Template) -> bool:
    """Whether the template knows content only as a list of parts: it loops over it and never asks for a string."""
    if any(test.name == "string" for test in template.find_all(nodes.Test)):
        return False
    for loop in template.find_all(nodes.For):
        over = loop.iter
        if isinstance(over, nodes.Getattr) and over.attr == "content":
            return True
        if (
            isinstance(over, nodes.Getitem)
            and isinstance(over.arg, nodes.Const)
            and over.arg.value == "content"
        ):
            return True
    return False


def _in_parts(message: Message) -> Message:
    content = message.get("content")
    return (
        {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message
    )


def _as_system(message: Message) -> Message:
    """What developers say is what older models know as the system's word."""
    return {**message, "role": "system"} if message.get("role") == "developer" else message


def _cut(text: str, last: Message) -> str:
    content = last.get("content")
    if isinstance(content, list):
        content = content[0]["text"]
    said = (content or "").strip()
    place = text.rfind(said)
    if not said or place < 0:
        raise TemplateRefused("the last message cannot be continued: the prompt does not hold it as it is")
    return text[: place + len(said)]
