"""The OpenAI API of a frontend: /v1/chat/completions, /v1/completions, /v1/models, /openapi.json.

In: HTTP exchanges. Out: answers and refusals in OpenAI's shape. A request is parsed, made a prompt and sent off
without a task where everything needed is in this process; a long prompt, a processor elsewhere, or a tokenizer that
is still being loaded cost one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import unquote

from dyno_runtime.bus.base import CallFailed
from dyno_runtime.bus.exchange import Exchange
from dyno_runtime.clock import wall_s
from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.core.similar import COMPARED_CHARS
from dyno_runtime.openai.answers import Head
from dyno_runtime.openai.errors import ApiError, invalid, of_failure, too_long
from dyno_runtime.openai.models import Model, model_list, one_model
from dyno_runtime.openai.request import AnyRequest, ChatRequest, parse_chat, parse_completion
from dyno_runtime.openai.sampling import Sampling as Wishes
from dyno_runtime.openai.sampling import sampling
from dyno_runtime.openai.spec import openapi
from dyno_runtime.openai.tools import Calls
from dyno_runtime.roles.base import DRAINING, Surroundings
from dyno_runtime.roles.catalog import Catalog, Offer
from dyno_runtime.roles.choice import Choice
from dyno_runtime.roles.debug import Debug
from dyno_runtime.roles.desk import is_long, prompts, prompts_now
from dyno_runtime.roles.dispatch import Dispatcher
from dyno_runtime.roles.figures import Figures
from dyno_runtime.roles.flight import Order
from dyno_runtime.roles.preparing import prepared_elsewhere
from dyno_runtime.roles.visit import Form, Pump, Visit, refuse
from dyno_runtime.text.answer import Answer, Stop
from dyno_runtime.text.load import TextModel
from dyno_runtime.text.tokenizer import LONG_CHARS
from dyno_runtime.wire.messages import Failure, Prompt
from dyno_runtime.wire.sampling import Sampling

log = logging.getLogger("dyno.api")

VERSION = "1"
LOOK_S = 0.5
COMPLETION_TOKENS = 16  # OpenAI's own default for /v1/completions
GONE = 499

Kind = Literal["chat", "completion"]


class Api:
    """See the module."""

    def __init__(self, around: Surroundings, dispatcher: Dispatcher) -> None:
        self.catalog = Catalog(around)
        self.figures = Figures(around.meter, measured=around.settings.measured)
        self.draining = False
        self._around = around
        self._settings = around.settings
        self._dispatcher = dispatcher
        self._desk = around.desk
        self.debug = Debug(around, self.catalog, self._desk, dispatcher.steering)
        self._pump = Pump(merge=around.settings.merge_deltas)
        self._visits: set[Visit] = set()
        self._preparing: set[asyncio.Task[None]] = set()
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._started_s = int(wall_s())

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return len(self._visits) + len(self._preparing)

    async def run(self) -> None:
        """Look after what is in flight."""
        self._look()

    def view_changed(self) -> None:
        """Workers came or went, or models got or lost names."""
        self.catalog.changed()
        self._desk.begin(one.path for one in self.catalog.offers.values())

    def stop(self) -> None:
        """Cut what is left."""
        self.debug.close()
        for task in list(self._preparing):
            task.cancel()
        for visit in list(self._visits):
            visit.fail(DRAINING)
        if self._timer is not None:
            self._timer.cancel()

    # ---- routes

    def chat(self, exchange: Exchange) -> None:
        """POST /v1/chat/completions."""
        self._generate(exchange, "chat", parse_chat)

    def completion(self, exchange: Exchange) -> None:
        """POST /v1/completions."""
        self._generate(exchange, "completion", parse_completion)

    def models(self, exchange: Exchange) -> None:
        """GET /v1/models and /v1/models/{model}."""
        models = [
            Model(one.name, self._started_s, max_model_len=one.longest_tokens)
            for one in self.catalog.offers.values()
        ]
        # Clients quote the slash of `org/model`.
        name = unquote(exchange.request.path.removeprefix("/v1/models").removeprefix("/"))
        try:
            exchange.respond(200, one_model(models, name) if name else model_list(models))
        except ApiError as error:
            refuse(exchange, error)

    def spec(self, exchange: Exchange) -> None:
        """GET /openapi.json."""
        exchange.respond(200, openapi(VERSION))

    # ---- from a body to flights

    def _generate(self, exchange: Exchange, kind: Kind, parse: Callable[[bytes], AnyRequest]) -> None:
        arrived_s = self._dispatcher.now_s()
        try:
            if self.draining:
                raise of_failure(DRAINING)
            most = self._settings.max_requests
            if self.in_flight >= most:
                raise of_failure(Failure("overloaded", f"{most} requests are in flight here"))
            request = parse(exchange.request.body)
            offer = self.catalog.find(request.model)
            wishes = sampling(request, offer.features)
            text = self._desk.here(offer.path)
            brief = len(exchange.request.body) <= LONG_CHARS or not is_long(request)
            if text is not None and brief and not self._goes_out:
                self._open(exchange, request, wishes, offer, text, prompts_now(text, request), arrived_s)
                return
        except ApiError as error:
            self._refuse(exchange, error)
            return
        self._spawn(exchange, self._prepare(exchange, kind, request, wishes, offer, arrived_s))

    @property
    def _goes_out(self) -> bool:
        """A processor elsewhere makes the prompts."""
        if "processor" in self._settings.roles:
            return False
        return bool(self._around.members.view.ready("processor"))

    def _spawn(self, exchange: Exchange, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._preparing.add(task)
        exchange.on_gone = task.cancel  # type: ignore[assignment]
        task.add_done_callback(lambda one: self._prepared(one, exchange))

    def _prepared(self, task: asyncio.Task[None], exchange: Exchange) -> None:
        self._preparing.discard(task)
        if task.cancelled():
            if not self.draining:
                self.figures.refused(GONE, None)  # its client left
                return
            self._refuse(exchange, of_failure(DRAINING))
        elif task.exception() is not None:
            log.error("a request broke", exc_info=task.exception())
            self._refuse(exchange, of_failure(Failure("engine", "this request failed; the log says why")))

    async def _prepare(
        self,
        exchange: Exchange,
        kind: Kind,
        request: AnyRequest,
        wishes: Wishes,
        offer: Offer,
        arrived_s: float,
    ) -> None:
        try:
            # Answers become text where the client is, so the tokenizer is needed here in any case.
            text = await self._desk.text(offer.path)
            if self._goes_out:
                made = await prepared_elsewhere(self._around, kind, exchange.request.body)
            else:
                made = await prompts(text, request, offer.longest_tokens)
            self._open(exchange, request, wishes, offer, text, made, arrived_s)
        except CallFailed as failed:
            self._refuse(exchange, of_failure(failed.failure))
        except ApiError as error:
            self._refuse(exchange, error)

    def _open(
        self,
        exchange: Exchange,
        request: AnyRequest,
        wishes: Wishes,
        offer: Offer,
        text: TextModel,
        made: list[Prompt],
        arrived_s: float,
    ) -> None:
        """Raises ApiError (400) where a prompt does not fit."""
        limits = [_room(request, offer, prompt) for prompt in made]
        chat = isinstance(request, ChatRequest)
        self._count += 1
        name = f"{self._around.lease}-{self._count}"
        head = Head(f"{'chatcmpl' if chat else 'cmpl'}-{name}", int(wall_s()), request.model)
        form = Form(chat, bool(request.stream), request.include_usage, wishes.logprobs)
        measured = self._settings.measured
        visit = Visit(exchange, head, form, text, self._pump, self._over, arrived_s, measured=measured)
        stop = _stop(wishes, text)
        eager = form.stream or bool(stop.strings or stop.tokens)
        headers = exchange.request.headers
        echo = not isinstance(request, ChatRequest) and bool(request.echo)
        choices: list[Choice] = []
        tokens = 0
        for prompt, most in zip(made, limits, strict=True):
            tokens += len(prompt.tokens)
            root = offer.root(request.cache_salt)
            blocks = block_hashes(prompt.tokens, offer.block_size, root)
            for number in range(wishes.choices):
                detokenizer = text.tokenizer.detokenizer(continues=not chat, keep_special=wishes.keep_special)
                index = len(choices)
                said = _echoed(text, prompt) if echo else ""
                calls = None if wishes.forced is None else Calls(wishes.forced, f"call_{name}-{index}")
                answer = Answer(detokenizer, stop)
                choice = Choice(visit, index, answer, eager=eager, echo=said, calls=calls)
                order = Order(
                    f"{name}-{index}",
                    offer.model,
                    prompt.tokens,
                    engine_sampling(wishes, offer, number, most),
                    prompt.text[:COMPARED_CHARS],
                    root,
                    blocks,
                    headers.get(b"x-dyno-probe") == b"1",
                    headers[b"x-dyno-target"].decode("latin-1") if b"x-dyno-target" in headers else None,
                    "remote" if headers.get(b"x-dyno-prefill") == b"remote" else "auto",
                )
                choice.flight = self._dispatcher.send(order, choice)
                choices.append(choice)
        self._visits.add(visit)
        visit.start(choices, tokens)

    def _over(self, visit: Visit, status: int) -> None:
        self._visits.discard(visit)
        self.figures.told(visit, status)

    def _refuse(self, exchange: Exchange, error: ApiError) -> None:
        self.figures.refused(error.status, error.code)
        refuse(exchange, error)

    def measure(self) -> None:
        """What has come of answers that are still on their way."""
        for visit in self._visits:
            self.figures.look(visit)
        self.figures.settle()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s, settings = loop.time(), self._settings
        for visit in list(self._visits):
            visit.look(now_s, settings.ping_s, settings.request_timeout_s)
        self._timer = loop.call_later(LOOK_S, self._look)


def _stop(wishes: Wishes, text: TextModel) -> Stop:
    """What ends its answers here."""
    ids = frozenset() if wishes.ignore_eos else text.eos_ids
    if wishes.stop_tokens:
        ids |= frozenset(wishes.stop_tokens)
    return Stop(wishes.stop_strings, ids, wishes.min_tokens, wishes.include_stop)


def _room(request: AnyRequest, offer: Offer, prompt: Prompt) -> int:
    """How many tokens the answer may have. Raises ApiError (400)."""
    count, asked, longest = len(prompt.tokens), request.longest_answer, offer.longest_tokens
    param = "messages" if isinstance(request, ChatRequest) else "prompt"
    if count == 0:
        raise invalid("The prompt is empty.", param)
    if count + (asked or 1) > longest:
        raise too_long(count, asked, longest, param)
    if asked is not None:
        return asked
    room = longest - count
    return room if isinstance(request, ChatRequest) else min(COMPLETION_TOKENS, room)


def engine_sampling(wishes: Wishes, offer: Offer, number: int, most: int) -> Sampling:
    """What the engine of choice `number` of a prompt is told."""
    known = dict(wishes.for_choice(number))
    known.pop("cache_salt", None)  # it is in the names of the blocks
    known["max_tokens"] = most
    if wishes.stop_tokens and "stop_token_ids" in offer.features:
        known["stop_token_ids"] = wishes.stop_tokens
    return Sampling(**known)


def _echoed(text: TextModel, prompt: Prompt) -> str:
    if prompt.text:
        return prompt.text
    detokenizer = text.tokenizer.detokenizer()
    return detokenizer.feed(prompt.tokens) + detokenizer.flush()
