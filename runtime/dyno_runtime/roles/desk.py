"""Between text and tokens: the models' tokenizers and templates, loaded once, and the prompts that requests make.

In: checked requests. Out: prompts as tokens. A tokenizer is loaded in a thread when it is first needed, and whoever
comes meanwhile waits for it.
"""

from __future__ import annotations

import asyncio
import gc
import logging

from dyno_runtime.openai.errors import ApiError, invalid
from dyno_runtime.openai.messages import template_messages, template_tools, template_variables
from dyno_runtime.openai.request import AnyRequest, ChatRequest
from dyno_runtime.text.folder import BadModelFolder
from dyno_runtime.text.hub import model_folder
from dyno_runtime.text.load import TextModel, load
from dyno_runtime.text.template import BadTemplate, TemplateRefused
from dyno_runtime.text.tokenizer import LONG_CHARS
from dyno_runtime.wire.messages import Prompt

log = logging.getLogger("dyno.text")


class Desk:
    """See the module; one for each process."""

    def __init__(self) -> None:
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

    async def _load(self, path: str) -> TextModel:
        try:
            model = await asyncio.to_thread(lambda: load(model_folder(path)))
        except (BadModelFolder, BadTemplate) as error:
            log.error("%s", error)
            raise
        finally:
            del self._loading[path]
        self._models[path] = model
        log.info("%s: encoding with %s", path, model.tokenizer.name)
        # Its tables live as long as the process and hold no cycles.
        gc.collect()
        gc.freeze()
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


async def prompts(text: TextModel, request: AnyRequest) -> list[Prompt]:
    """The same for any request."""
    if not is_long(request):
        return prompts_now(text, request)
    encode = text.tokenizer.encode_long
    if isinstance(request, ChatRequest):
        said = chat_text(text, request)
        return [Prompt(await encode(said, add_special=bool(request.add_special_tokens)), said)]
    special = request.add_special_tokens is not False
    return [
        Prompt(await encode(one, add_special=special), one)
        if isinstance(one, str)
        else Prompt(known(text, one))
        for one in request.prompts
    ]


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
