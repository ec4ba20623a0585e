"""One job inside the scheduler: how far it has got, and which blocks it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec.structs import replace

from dyno_runtime.engine.base import Job, Output
from dyno_runtime.engine.mock.answer import Answer, Words
from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import Token

# Where a sequence is; each stands in the scheduler's collection of that name, an ended one in none. A reserved one
# has blocks and waits for the KV of a prefill worker; a waiting one has none, unless it was reserved before; one that
# was prefilled for somebody else holds them until that has it.
Phase = Literal["reserved", "waiting", "prefill", "decode", "holding", "ended"]


class Sequence:
    """Lengths in tokens. `computed` have KV; `made` were told, up to the stretch that runs now.

    A stretch is a run of decode steps within one block, so that nothing has to be looked at in between: it ends
    with step `end_step` and makes `stretch` tokens.
    """

    __slots__ = (
        "answer",
        "blocks",
        "cached",
        "computed",
        "doomed",
        "end_step",
        "for_other",
        "hashes",
        "job",
        "made",
        "phase",
        "silent",
        "stretch",
        "target",
        "waits_since_s",
    )

    def __init__(self, job: Job, hashes: list[BlockHash], *, for_other: bool) -> None:
        self.job = job
        self.for_other = for_other
        self.doomed = False
        self.silent = False
        self.phase: Phase = "waiting"
        self.hashes = hashes  # of the blocks that are full, or will be once they are computed
        self.blocks: list[int] = []
        self.cached: int | None = None  # what the first admission found; told with the first output
        self.computed = 0
        self.target = len(job.tokens)  # to be computed before the next token can be told
        self.answer: Answer | None = None
        self.made = 0
        self.stretch = 0
        self.end_step = 0
        self.waits_since_s: float | None = None  # until its prefill begins

    @property
    def queued(self) -> int:
        """Tokens that have to be computed before it can go on."""
        return self.target - self.computed

    def told(self, step: int) -> int:
        """How many tokens were told after that many steps."""
        return self.made + self.stretch - (self.end_step - step) if self.stretch else self.made

    def tokens(self, start: int, end: int) -> list[Token]:
        """Some of prompt and answer."""
        prompt = self.job.tokens
        if end <= len(prompt):
            return prompt[start:end]
        new = self.answer.tokens if self.answer is not None else []
        skip = len(prompt)
        if start >= skip:
            return new[start - skip : end - skip]
        return prompt[start:] + new[: end - skip]

    def outputs(self, words: Words, start: int, count: int) -> Iterator[Output]:
        """One output for each of these tokens of the answer; the last one with its end, if it has no tokens, too."""
        answer, job = self.answer, self.job
        assert answer is not None
        end = start + count
        tokens = answer.tokens[start:end]
        if job.sampling.logprobs is None:
            outputs = [Output([token], None, None, job) for token in tokens]
        else:
            entries = words.logprobs(answer.chosen[start:end], job.sampling.logprobs)
            outputs = [
                Output([token], None, None, job, None, [entry])
                for token, entry in zip(tokens, entries, strict=True)
            ]
        if end == len(answer.tokens):
            last = outputs.pop() if outputs else Output([], None, None, job)
            outputs.append(replace(last, finish=answer.finish))
        if self.cached is not None:
            outputs[0] = replace(outputs[0], cached_tokens=self.cached)
            self.cached = None
        return iter(outputs)
