"""One of the answers of a request: from the worker's tokens to text, and from text to events or to a whole choice.

In: `Delta`s of its flight. Out: bytes for the client. Tokens that arrive together, or while the client does not read,
become one event: no work is done for a token beyond keeping it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from dyno_runtime.openai.answers import (
    ChatChoice,
    ChatLogprobs,
    CompletionChoice,
    CompletionLogprobs,
    Finish,
    Likely,
    TokenLogprob,
    chat_choice,
    chat_logprob,
    completion_logprobs,
    merged_tool_calls,
)
from dyno_runtime.openai.chunks import ChatChunks, CompletionChunks
from dyno_runtime.openai.tools import Calls
from dyno_runtime.text.answer import Answer
from dyno_runtime.wire.messages import Body, Delta, Failure, Token
from dyno_runtime.wire.sampling import Logprob

if TYPE_CHECKING:
    from dyno_runtime.roles.flight import Flight
    from dyno_runtime.roles.visit import Visit

log = logging.getLogger("dyno.api")


class Choice:
    """See the module; a `Sink`. `flight` is set before anything arrives."""

    __slots__ = (
        "_calls",
        "_chat_likely",
        "_chunks",
        "_eager",
        "_echo",
        "_finish",
        "_likely",
        "_logprobs",
        "_over",
        "_pieces",
        "_queued",
        "_tokens",
        "_visit",
        "amounts",
        "answer",
        "cached_tokens",
        "flight",
        "index",
        "moments",
        "seen_tokens",
        "shown_chars",
    )

    def __init__(
        self,
        visit: Visit,
        index: int,
        answer: Answer,
        *,
        eager: bool,
        echo: str = "",
        calls: Calls | None = None,
    ) -> None:
        """`eager`: its text is looked at as it comes, because it is streamed or may stop anywhere. `calls`: the text
        is of tool calls."""
        self._calls = calls
        self.flight: Flight | None = None
        self.index = index
        self.answer = answer
        self.cached_tokens = 0
        self.shown_chars = 0
        # For the metrics: when each event of a stream came, how many tokens it had, and how many were counted.
        self.moments: list[float] | None = [] if visit.timed else None
        self.amounts: list[int] = []
        self.seen_tokens = 0
        self._visit = visit
        self._echo = echo
        self._eager = eager
        self._tokens: list[Token] = []
        self._logprobs: list[Logprob] = []
        self._chat_likely: list[TokenLogprob] = []
        self._likely: list[CompletionLogprobs] = []
        self._finish: str | None = None
        self._queued = False
        self._over = False
        self._pieces: list[str] = []
        self._chunks: ChatChunks | CompletionChunks | None = None

    # ---- Sink

    def item(self, body: Body) -> None:
        # Not by cast(), which is a call for each token. A flight lets nothing else through.
        delta: Delta = body  # type: ignore[assignment]
        self._tokens += delta.tokens
        if delta.logprobs is not None:
            self._logprobs += delta.logprobs
        if delta.cached_tokens is not None:
            self.cached_tokens = delta.cached_tokens
        if delta.prefill is not None:
            self._visit.prefilled(delta.prefill)
        self._finish = delta.finish
        if not self._queued and (self._eager or delta.finish is not None):
            self._queued = True
            self._visit.pump.soon(self)

    def end(self, failure: Failure | None) -> None:
        if failure is not None and not self._over:
            if self._tokens:
                self.flush()
            self._visit.fail(failure)

    # ---- to the client

    def flush(self) -> None:
        """Give out what has come. What cannot be told ends its request, and not those of the same turn."""
        try:
            self._flush()
        except Exception:
            log.exception("an answer broke")
            self._visit.fail(Failure("engine", "this answer could not be told; the log says why"))

    def _flush(self) -> None:
        self._queued = False
        if self._over:
            return
        visit = self._visit
        if visit.holds_back(self):
            self._queued = True
            return
        tokens, self._tokens = self._tokens, []
        answer, finish = self.answer, self._finish
        before = answer.tokens
        text = answer.feed(tokens) if tokens else ""
        if finish is not None and not answer.stopped:
            text += answer.finish()
        if answer.stopped:
            finish = "stop"
        if self._echo:
            text, self._echo = self._echo + text, ""
        if finish is not None:
            self._over = True
            if answer.stopped and self.flight is not None:
                self.flight.cancel()
        logprobs: list[Logprob] | None = None
        if visit.logprobs is not None:
            logprobs, self._logprobs = self._logprobs[: answer.tokens - before], []
            tokens = tokens[: len(logprobs)]
        visit.alive()
        if self.moments is not None and (said := answer.tokens - before):
            self.moments.append(visit.progress_s)
            self.amounts.append(said)
        if visit.stream:
            self._write(text, tokens, logprobs, cast("Finish | None", finish))
        else:
            self._keep(text, tokens, logprobs, finish)

    def close(self) -> None:
        """Nobody waits for it any more."""
        self._over = True
        if self.flight is not None:
            self.flight.cancel()

    # ---- streamed

    def _write(
        self, text: str, tokens: list[Token], logprobs: list[Logprob] | None, finish: Finish | None
    ) -> None:
        visit = self._visit
        data = b""
        chunks = self._chunks
        if chunks is None:
            kind = ChatChunks if visit.chat else CompletionChunks
            chunks = self._chunks = kind(visit.head, self.index, include_usage=visit.include_usage)
            data = chunks.begin()
        if self._calls is not None and isinstance(chunks, ChatChunks):
            if deltas := self._calls.feed(text):
                data += chunks.tool_calls(deltas)
            text = ""
            if finish is not None:
                finish = cast(Finish, self._calls.finish(finish))
        if logprobs:
            data += self._likely_event(chunks, text, tokens, logprobs)
        elif text:
            data += chunks.text(text)
        if finish is not None:
            visit.done(data + chunks.finish(finish))
        elif data:
            visit.write(data)

    def _likely_event(
        self,
        chunks: ChatChunks | CompletionChunks,
        text: str,
        tokens: list[Token],
        logprobs: list[Logprob],
    ) -> bytes:
        if isinstance(chunks, ChatChunks):
            return chunks.likely(text, self._chat_logprobs(tokens, logprobs))
        return chunks.likely(text, self._completion_logprobs(tokens, logprobs))

    # ---- whole

    def _keep(
        self, text: str, tokens: list[Token], logprobs: list[Logprob] | None, finish: str | None
    ) -> None:
        self._pieces.append(text)
        self._finish = finish
        if logprobs:
            if self._visit.chat:
                self._chat_likely += self._chat_logprobs(tokens, logprobs)
            else:
                self._likely.append(self._completion_logprobs(tokens, logprobs))
        if finish is not None:
            self._visit.done(b"")

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces)

    def as_chat(self) -> ChatChoice:
        """The whole choice of a chat answer."""
        told = None
        if self._visit.logprobs is not None:
            told = ChatLogprobs(self._chat_likely)
        text, finish, calls = self.text, cast(Finish, self._finish), self._calls
        if calls is None:
            return chat_choice(self.index, text, finish, logprobs=told)
        made = merged_tool_calls(calls.feed(text))
        return chat_choice(self.index, "", cast(Finish, calls.finish(finish)), logprobs=told, tool_calls=made)

    def as_completion(self) -> CompletionChoice:
        """The whole choice of a completion."""
        told = None
        if self._visit.logprobs is not None:
            told = _together(self._likely)
        return CompletionChoice(self.text, self.index, told, cast(Finish, self._finish))

    # ---- log-probabilities

    def _chat_logprobs(self, tokens: Sequence[Token], logprobs: Sequence[Logprob]) -> list[TokenLogprob]:
        return [
            chat_logprob(self._named(token, one.logprob), self._others(one))
            for token, one in zip(tokens, logprobs, strict=False)
        ]

    def _completion_logprobs(
        self, tokens: Sequence[Token], logprobs: Sequence[Logprob]
    ) -> CompletionLogprobs:
        said = [self._named(token, one.logprob) for token, one in zip(tokens, logprobs, strict=False)]
        others = [self._others(one) for one in logprobs] if self._visit.logprobs else None
        told = completion_logprobs(said, others, self.shown_chars)
        self.shown_chars += sum(map(len, told.tokens))
        return told

    def _named(self, token: Token, logprob: float) -> Likely:
        return self._visit.text.tokenizer.bytes_of(token), logprob

    def _others(self, one: Logprob) -> list[Likely]:
        return [self._named(token, logprob) for token, logprob in one.top]


def _together(told: Sequence[CompletionLogprobs]) -> CompletionLogprobs:
    tops = [one.top_logprobs for one in told]
    return CompletionLogprobs(
        [token for one in told for token in one.tokens],
        [likely for one in told for likely in one.token_logprobs],
        None if None in tops else [top for one in tops for top in one or ()],
        [offset for one in told for offset in one.text_offset],
    )
