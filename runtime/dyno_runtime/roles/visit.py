"""One client's OpenAI request: its choices, the head of the answer, its end, and what happens when somebody leaves.

In: a checked request with its prompts. Out: one answer, streamed or whole; exactly one end, whatever happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache

import msgspec

from dyno_runtime.bus.exchange import Exchange, Header
from dyno_runtime.openai.answers import Head, Usage, chat_answer, completion_answer, usage
from dyno_runtime.openai.chunks import DONE, PING, error_event, usage_chunk
from dyno_runtime.openai.errors import ApiError, of_failure
from dyno_runtime.roles.choice import Choice
from dyno_runtime.text.load import TextModel
from dyno_runtime.wire.messages import Failure

SSE: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
)


class Pump:
    """Flushes all choices for which something came in this turn of the event loop, once each, at its end."""

    def __init__(self, *, merge: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._choices: list[Choice] = []
        self._merge = merge

    def soon(self, choice: Choice) -> None:
        """Something came for it. Without merging, it is given out at once."""
        if not self._merge:
            choice.flush()
            return
        if not self._choices:
            self._loop.call_soon(self._run)
        self._choices.append(choice)

    def _run(self) -> None:
        choices, self._choices = self._choices, []
        for choice in choices:
            choice.flush()


class Form(msgspec.Struct, frozen=True, gc=False):
    """How the answer is told. `logprobs` is how many alternatives are shown, None: no log-probabilities."""

    chat: bool
    stream: bool
    include_usage: bool
    logprobs: int | None


class Visit:
    """See the module. `over` is called once, when the visit ends, with its HTTP status (499: the client left)."""

    def __init__(
        self,
        exchange: Exchange,
        head: Head,
        form: Form,
        text: TextModel,
        pump: Pump,
        over: Callable[[Visit, int], None],
        arrived_s: float,
        *,
        measured: bool,
    ) -> None:
        self.arrived_s = arrived_s
        self.timed = measured and form.stream
        self.reason: str | None = None  # why it was refused or failed
        self.head = head
        self.text = text
        self.pump = pump
        self.chat = form.chat
        self.stream = form.stream
        self.include_usage = form.include_usage
        self.logprobs = form.logprobs
        self.choices: list[Choice] = []
        self.prompt_tokens = 0
        self.progress_s = self.wrote_s = pump._loop.time()
        self._exchange = exchange
        self._over: Callable[[Visit, int], None] | None = over
        self._open_choices = 0
        self._begun = False
        self._prefill: str | None = None
        self._held: list[Choice] = []
        exchange.on_gone = self._leave
        exchange.on_drained = self._drained

    def start(self, choices: list[Choice], prompt_tokens: int) -> None:
        """Send all its flights off."""
        self.choices = choices
        self.prompt_tokens = prompt_tokens
        self._open_choices = len(choices)
        for choice in choices:
            if self._over is None:
                return
            assert choice.flight is not None
            choice.flight.start()

    # ---- what choices tell

    def prefilled(self, label: str) -> None:
        """Who prefilled, `local` or `remote:node/unit`."""
        if self._prefill is None:
            self._prefill = label
            if self._begun:
                # The head went out with a ping before anybody knew.
                self._exchange.write(b": x-dyno-prefill %s\n\n" % label.encode())

    def alive(self) -> None:
        """Something came."""
        self.progress_s = self.pump._loop.time()

    def holds_back(self, choice: Choice) -> bool:
        """The client does not read: the choice is flushed once it does."""
        if self.stream and self._exchange.stalled:
            self._held.append(choice)
            return True
        return False

    def write(self, data: bytes) -> None:
        """Events of one choice."""
        self.wrote_s = self.progress_s
        if not self._begun:
            self._begin()
        self._exchange.write(data)

    def done(self, data: bytes) -> None:
        """A choice is complete; these are its last events."""
        self._open_choices -= 1
        if self._open_choices:
            if data:
                self.write(data)
        elif self.stream:
            if not self._begun:
                self._begin()
            if self.include_usage:
                data += usage_chunk(self.head, self._usage(), chat=self.chat)
            self._exchange.finish(data + DONE)
            self._end(200)
        else:
            self._answer()
            self._end(200)

    # ---- the head and the end

    def _headers(self) -> tuple[Header, ...]:
        flight = self.choices[0].flight
        worker = None if flight is None else flight.worker
        return () if worker is None else _where(worker.node, worker.unit, self._prefill)

    def _begin(self) -> None:
        self._begun = True
        self._exchange.begin(200, SSE + self._headers())

    def _usage(self) -> Usage:
        if len(self.choices) == 1:
            only = self.choices[0]
            return usage(self.prompt_tokens, only.answer.tokens, only.cached_tokens)
        said = sum(choice.answer.tokens for choice in self.choices)
        # A prompt is computed once for all of its choices.
        cached = {
            id(choice.flight and choice.flight.prompt): choice.cached_tokens for choice in self.choices[::-1]
        }
        return usage(self.prompt_tokens, said, sum(cached.values()))

    def _answer(self) -> None:
        if self.chat:
            body = chat_answer(self.head, [one.as_chat() for one in self.choices], self._usage())
        else:
            completions = [one.as_completion() for one in self.choices]
            body = completion_answer(self.head, completions, self._usage())
        self._exchange.respond(200, body, self._headers())

    def fail(self, failure: Failure) -> None:
        """One of its choices cannot be answered: the others are worth nothing."""
        self.refuse(of_failure(failure))

    def refuse(self, error: ApiError) -> None:
        """End with this error."""
        if self._over is None:
            return
        self.reason = error.code
        if self._begun:
            self._exchange.finish(error_event(error))
        else:
            refuse(self._exchange, error, self._headers() if self.choices else ())
        self._end(error.status)

    def _end(self, status: int) -> None:
        over, self._over = self._over, None
        self._held.clear()
        for choice in self.choices:
            choice.close()
        if over is not None:
            over(self, status)
        # They point here, and circles have to be found to be freed.
        self.choices = []

    def _leave(self) -> None:
        if self._over is not None:
            self._end(499)

    # ---- time

    def _drained(self) -> None:
        held, self._held = self._held, []
        for choice in held:
            choice.flush()

    def look(self, now_s: float, ping_s: float, timeout_s: float) -> None:
        """Called now and then: say that we are here, or give up."""
        if now_s - self.progress_s > timeout_s and not self._exchange.stalled:
            self.fail(Failure("timeout", f"there was no answer within {timeout_s:g} s"))
        elif self.stream and now_s - self.wrote_s >= ping_s and not self._exchange.stalled:
            self.wrote_s = now_s
            if not self._begun:
                self._begin()
            self._exchange.write(PING)


@lru_cache(4096)
def _where(node: str, unit: str, prefill: str | None) -> tuple[Header, ...]:
    """Headers that say who answered, and who prefilled."""
    place = (b"x-dyno-worker", f"{node}/{unit}".encode())
    return (place,) if prefill is None else (place, (b"x-dyno-prefill", prefill.encode()))


def refuse(exchange: Exchange, error: ApiError, headers: tuple[Header, ...] = ()) -> None:
    """Answer with an error."""
    if error.retry_after_s is not None:
        headers = (*headers, (b"retry-after", b"%d" % error.retry_after_s))
    exchange.respond(error.status, error.body(), headers)
