"""`POST /debug/route`: where a request would go, and why, without running it.

In: the body of a chat request, or of a completion with one prompt. Out: the router's answer, docs/routing.md;
nothing is counted or remembered for it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from dyno_runtime.bus.base import CallFailed
from dyno_runtime.bus.exchange import Exchange
from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.core.similar import COMPARED_CHARS
from dyno_runtime.openai.errors import ApiError, invalid, of_failure
from dyno_runtime.openai.request import AnyRequest, parse_chat, parse_completion
from dyno_runtime.roles.base import Surroundings
from dyno_runtime.roles.catalog import Catalog
from dyno_runtime.roles.desk import Desk, prompts
from dyno_runtime.roles.preparing import prepared_elsewhere
from dyno_runtime.roles.steering import Steering
from dyno_runtime.roles.visit import refuse
from dyno_runtime.wire.messages import Choose, Failure, Prompt

log = logging.getLogger("dyno.debug")

MAX_QUESTIONS = 64


class Debug:
    """See the module; one for each frontend."""

    def __init__(self, around: Surroundings, catalog: Catalog, desk: Desk, steering: Steering) -> None:
        self._around = around
        self._catalog = catalog
        self._desk = desk
        self._steering = steering
        self._tasks: set[asyncio.Task[None]] = set()

    def route(self, exchange: Exchange) -> None:
        """Answer one question."""
        if len(self._tasks) >= MAX_QUESTIONS:
            refuse(exchange, of_failure(Failure("overloaded", f"{MAX_QUESTIONS} questions are open here")))
            return
        task = asyncio.get_running_loop().create_task(self._answer(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Answer no more."""
        for task in self._tasks:
            task.cancel()

    async def _answer(self, exchange: Exchange) -> None:
        try:
            exchange.respond(200, msgspec.json.encode(await self._explained(exchange.request.body)))
        except ApiError as error:
            refuse(exchange, error)
        except CallFailed as error:
            refuse(exchange, of_failure(error.failure))
        except Exception:
            log.exception("a question broke")
            refuse(exchange, of_failure(Failure("engine", "this question failed; the log says why")))

    async def _explained(self, body: bytes) -> dict[str, Any]:
        chat = b'"messages"' in body
        request: AnyRequest = parse_chat(body) if chat else parse_completion(body)
        offer = self._catalog.find(request.model)
        if "processor" not in self._around.settings.roles and self._around.members.view.ready("processor"):
            made = await prepared_elsewhere(self._around, "chat" if chat else "completion", body)
        else:
            made = await prompts(await self._desk.text(offer.path), request, offer.longest_tokens)
        if len(made) != 1:
            raise invalid(f"'prompt' has {len(made)} prompts; ask for one at a time.", "prompt")
        prompt: Prompt = made[0]
        choose = Choose(
            prompt.text[:COMPARED_CHARS],
            model=offer.model,
            tokens=len(prompt.tokens),
            blocks=block_hashes(prompt.tokens, offer.block_size, offer.root(request.cache_salt)),
        )
        return await self._steering.explain(choose)
