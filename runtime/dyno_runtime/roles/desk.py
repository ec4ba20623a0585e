"""Between text and tokens: the models' tokenizers and templates, loaded once, and the prompts that requests make.

In: checked requests. Out: prompts as tokens. A tokenizer is loaded in a thread, as soon as it is known to be needed;
whoever comes meanwhile waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from dyno_runtime.openai.errors import ApiError, invalid, much_too_long
from dyno_runtime.openai.messages import template_messages, template_tools, template_variables
from dyno_runtime.openai.request import AnyRequest, ChatRequest
from dyno_runtime.roles.health import EngineState
from dyno_runtime.roles.settling import settle
from dyno_runtime.text.folder import BadModelFolder
from dyno_runtime.text.hub import model_folder
from dyno_runtime.text.load import TextModel, load
from dyno_runtime.text.template import BadTemplate, TemplateRefused
from dyno_runtime.text.tokenizer import LONG_CHARS
from dyno_runtime.wire.messages import Prompt

log = logging.getLogger("dyno.text")


LONGEST_PAUSE_S = 10.0


class Desk:
    """See the module; one for each process. `state` and `problem` are of the model that this process is for."""

    def __init__(self) -> None:
        self.state: EngineState = "none"
        self.problem: str | None = None
        self._begun: set[str] = set()
        self._refused: dict[str, str] = {}  # why a model could not be used, as it was logged
        self._models: dict[str | None, TextModel] = {None: load(None)}
        self._loading: dict[str, asyncio.Task[TextModel]] = {}

    def here(self, path: str | None) -> TextModel | None:
        """The text side of the model in this folder, if it is loaded."""
        return self._models.get(path)

    async def text(self, path: str | None) -> TextModel:
        """The same, loaded now if need be. Raises ApiError (503)."""
        known = self._models.get(path)
        if known is not None or path is None:
            return known or self._models[None]
        loading = self._loading.get(path)
        if loading is None:
            loading = self._loading[path] = asyncio.get_running_loop().create_task(self._load(path))
        try:
            return await asyncio.shield(loading)
        except (BadModelFolder, BadTemplate) as error:
            raise ApiError(503, f"The model cannot be used: {error}.", code="not_ready") from error

    def prepare(self, path: str, changed: Callable[[], None]) -> Coroutine[Any, Any, None]:
        """Load the model that this process is for, again and again if need be; `changed` when `state` does."""
        self.state = "loading"
        return self._prepare(path, changed)

    async def _prepare(self, path: str, changed: Callable[[], None]) -> None:
        pause_s = 0.5
        while self.state != "ready":
            before = self.state
            try:
                await self.text(path)
                self.state, self.problem = "ready", None
            except ApiError as error:
                self.state, self.problem = "failed", error.message
            if self.state != before:
                changed()
            if self.state == "failed":
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def begin(self, paths: Iterable[str | None]) -> None:
        """These will be needed; load each of them once, in the background."""
        for path in paths:
            if path is not None and path not in self._begun:
                self._begun.add(path)
                if path not in self._models and path not in self._loading:
                    loading = asyncio.get_running_loop().create_task(self._load(path))
                    # Whoever asks for it hears of it; the log has it already.
                    loading.add_done_callback(lambda one: one.cancelled() or one.exception())
                    self._loading[path] = loading

    async def _load(self, path: str) -> TextModel:
        try:
            model = await asyncio.to_thread(lambda: load(model_folder(path)))
        except (BadModelFolder, BadTemplate) as error:
            if self._refused.get(path) != str(error):
                self._refused[path] = str(error)
                log.error("%s", error)
            raise
        finally:
            del self._loading[path]
        self._models[path] = model
        self._refused.pop(path, None)
        log.info("%s: encoding with %s", path, model.tokenizer.name)
        settle()
        return model

    def close(self) -> None:
        """Give threads back."""
        for task in self._loading.values():
            task.cancel()
        for model in self._models.values():
            model.tokenizer.close()


def is_long(request: AnyRequest) -> bool:
    """It may take so long to encode that the event loop should not wait."""
    if isinstance(request, ChatRequest):
        return sum(_chars(one.content) for one in request.messages) > LONG_CHARS
    return sum(len(one) for one in request.prompts if isinstance(one, str)) > LONG_CHARS


def _chars(content: object) -> int:
    if isinstance(content, str):
        return len(content)
    return LONG_CHARS if content else 0


def prompts_now(text: TextModel, request: AnyRequest) -> list[Prompt]:
    """The prompts of a short request. Raises ApiError (400)."""
    if isinstance(request, ChatRequest):
        said = chat_text(text, request)
        special = bool(request.add_special_tokens)
        return [Prompt(text.tokenizer.encode(said, add_special=special), said)]
    special = request.add_special_tokens is not False
    return [
        Prompt(text.tokenizer.encode(one, add_special=special), one)
        if isinstance(one, str)
        else Prompt(known(text, one))
        for one in request.prompts
    ]


async def prompts(text: TextModel, request: AnyRequest, longest_tokens: int) -> list[Prompt]:
    """The same for any request. One that cannot be within the model's length is refused before it is encoded."""
    if not is_long(request):
        return prompts_now(text, request)
    encode = text.tokenizer.encode_long
    if isinstance(request, ChatRequest):
        said = chat_text(text, request)
        _check_length(text, said, longest_tokens, "messages")
        return [Prompt(await encode(said, add_special=bool(request.add_special_tokens)), said)]
    special = request.add_special_tokens is not False
    for one in request.prompts:
        if isinstance(one, str):
            _check_length(text, one, longest_tokens, "prompt")
    return [
        Prompt(await encode(one, add_special=special), one)
        if isinstance(one, str)
        else Prompt(known(text, one))
        for one in request.prompts
    ]


def _check_length(text: TextModel, said: str, longest_tokens: int, param: str) -> None:
    fewest_tokens = math.ceil(len(said) / text.tokenizer.longest_chars)
    if fewest_tokens >= longest_tokens:
        raise much_too_long(fewest_tokens, longest_tokens, param)


def chat_text(text: TextModel, request: ChatRequest) -> str:
    """What the template makes of the messages. Raises ApiError (400)."""
    try:
        return text.templates.render(
            template_messages(request),
            tools=template_tools(request),
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
            more=template_variables(request),
        )
    except TemplateRefused as error:
        raise invalid(f"{error}.", "messages") from error


def known(text: TextModel, tokens: list[int]) -> list[int]:
    """Token ids of a client. Raises ApiError (400) where the model has no such token."""
    size = text.tokenizer.vocab_size
    if max(tokens) >= size:
        raise invalid(f"'prompt' has the token {max(tokens)}; this model's are below {size}.", "prompt")
    return tokens
