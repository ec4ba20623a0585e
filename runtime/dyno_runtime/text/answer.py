"""One answer on its way from token ids to text: detokenising and every reason to stop that is not the engine's.

In: the engine's tokens, in any portions. Out: text to show; `stopped` once a stop string or a stop token came, `stop`
which one it was, `tokens` how many tokens belong to the answer. What came behind the stop in the same portion is
dropped, so the result is the same whatever the portions are.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dyno_runtime.text.detokenize import Detokenizer
from dyno_runtime.text.stop import StopStrings


class Stop(msgspec.Struct, frozen=True, gc=False):
    """What ends an answer. `tokens` are stop token ids and, unless they are to be ignored, the eos ids.

    A stop counts only if its last token comes after the first `min_tokens`. `include`: the stop string is shown, and
    so is the text of the stop token.
    """

    strings: tuple[str, ...] = ()
    tokens: frozenset[int] = frozenset()
    min_tokens: int = 0
    include: bool = False


class Answer:
    """See the module. One for each choice."""

    __slots__ = (
        "_detokenizer",
        "_include",
        "_min_tokens",
        "_plain",
        "_stop_tokens",
        "_strings",
        "stop",
        "stopped",
        "tokens",
    )

    def __init__(self, detokenizer: Detokenizer, stop: Stop) -> None:
        self._detokenizer = detokenizer
        self._strings = StopStrings(stop.strings, include=stop.include) if stop.strings else None
        self._stop_tokens = stop.tokens
        self._min_tokens = stop.min_tokens
        self._include = stop.include
        self._plain = self._strings is None
        self.tokens = 0
        self.stopped = False
        self.stop: str | int | None = None

    def feed(self, tokens: Sequence[int]) -> str:
        """The text to show now; empty once `stopped`."""
        if self._plain and self._stop_tokens.isdisjoint(tokens) and not self.stopped:
            self.tokens += len(tokens)
            return self._detokenizer.feed(tokens)
        if self.stopped:
            return ""
        early = self._min_tokens - self.tokens
        if early <= 0:
            return self._armed(tokens)
        first = tokens[:early]
        self.tokens += len(first)
        text = self._detokenizer.feed(first)
        if self._strings is not None:
            text = self._strings.feed(text, armed=False)
        return text + self._armed(tokens[early:]) if len(tokens) > early else text

    def finish(self) -> str:
        """The engine has ended the answer: the rest of the text."""
        if self.stopped:
            return ""
        rest = self._detokenizer.flush()
        if self._strings is None:
            return rest
        text = self._strings.feed(rest, armed=self.tokens > self._min_tokens) if rest else ""
        if self._strings.hit is not None:
            self._end(self._strings.hit)
            return text
        return text + self._strings.flush()

    def _armed(self, tokens: Sequence[int]) -> str:
        place = self._stop_place(tokens)
        before = tokens if place is None else tokens[:place]
        text = self._text(before)
        if place is None or self.stopped:
            return text
        return text + self._stop_at(tokens[place])

    def _text(self, tokens: Sequence[int]) -> str:
        """The text to show of tokens that are all behind `min_tokens` and none of which is a stop token."""
        strings = self._strings
        if strings is None:
            self.tokens += len(tokens)
            return self._detokenizer.feed(tokens)
        earlier = self._detokenizer.fork() if len(tokens) > 1 else None
        text = strings.feed(self._detokenizer.feed(tokens))
        if strings.hit is None:
            self.tokens += len(tokens)
            return text
        self.tokens += 1 if earlier is None else _needed(earlier, tokens, strings.used_chars)
        self._end(strings.hit)
        return text

    def _stop_at(self, token: int) -> str:
        """A stop token came. A stop string that its text would complete is no reason any more."""
        self.tokens += 1
        text = self._detokenizer.feed((token,)) if self._include else ""
        text += self._detokenizer.flush()
        if self._strings is not None:
            text = self._strings.flush() + text
        self._end(token)
        return text

    def _stop_place(self, tokens: Sequence[int]) -> int | None:
        if self._stop_tokens.isdisjoint(tokens):
            return None
        return next(place for place, token in enumerate(tokens) if token in self._stop_tokens)

    def _end(self, stop: str | int) -> None:
        self.stopped = True
        self.stop = stop


def _needed(detokenizer: Detokenizer, tokens: Sequence[int], chars: int) -> int:
    """How many of the tokens it takes to get so many characters."""
    for count, token in enumerate(tokens, 1):
        chars -= len(detokenizer.feed((token,)))
        if chars <= 0:
            return count
    return len(tokens)
