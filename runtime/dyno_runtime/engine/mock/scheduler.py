"""A continuous-batching engine without a clock: decide what the next step computes, absorb that it is done.

In: jobs, and the end of each step. Out: `Step`s with their length in time, outputs, free blocks. Decode comes first
in each step, prefill gets the tokens that are left of `max_num_batched_tokens`, in order of arrival. A request
that finds no block to go on takes those of the one admitted last, which is computed again later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from dyno_runtime.engine.base import BadJob, EngineError, HashBlocks, Job, Output, Overloaded, Stats
from dyno_runtime.engine.mock.answer import Answer, Words, answer
from dyno_runtime.engine.mock.args import MockArgs
from dyno_runtime.engine.mock.cache import KvCache
from dyno_runtime.engine.mock.sequence import Sequence
from dyno_runtime.wire.kv import BlockHash

Queue = OrderedDict[Sequence, None]


@dataclass(frozen=True, slots=True)
class Step:
    """What one step computes; `duration_s` is before any speedup."""

    duration_s: float
    decoding: int
    chunks: list[tuple[Sequence, int]]
    prefill_tokens: int


class Scheduler:
    """See the module."""

    def __init__(
        self, args: MockArgs, block_size: int, max_model_len: int, hash_blocks: HashBlocks, words: Words
    ) -> None:
        self.args = args
        self.words = words
        self.cache = KvCache(args.kv_blocks, block_size)
        self.most_tokens = min(max_model_len, args.kv_blocks * block_size)  # of one sequence
        self._hash_blocks = hash_blocks
        self._sequences: dict[tuple[str, bool], Sequence] = {}  # one process may prefill what it also decodes
        self._waiting: Queue = OrderedDict()
        self._ready: Queue = (
            OrderedDict()
        )  # waits, too, but has its blocks: goes first, or it could block the others
        self._active: Queue = OrderedDict()  # prefill and decode, in order of admission
        self._prefill: Queue = OrderedDict()
        self._decode: dict[Sequence, Iterator[Output]] = {}
        self._context = 0  # tokens behind all that are in decode
        self._due: list[Sequence] = []  # need another stretch
        self._ends: dict[int, list[Sequence]] = {}  # stretches by the step that they end with
        self._prefilled: list[Sequence] = []  # for others, in the step just absorbed
        self._step = 0
        self.computed_tokens = self.cached_tokens = self.brought_tokens = self.preemptions = 0  # for `Totals`

    # ---- jobs come and go ------------------------------------------------------------------------------

    def submit(self, job: Job, *, for_other: bool = False) -> Sequence:
        """Take a job, new or reserved before. Raises BadJob, Overloaded, EngineError."""
        sequence = self._sequences.get((job.id, for_other))
        if sequence is not None and sequence.phase == "reserved":
            return self._resume(sequence, job)
        if len(self._waiting) + len(self._ready) >= self.args.max_waiting:
            raise Overloaded(f"{self.args.max_waiting} requests are waiting in the engine")
        sequence = self._enter(job, for_other=for_other)
        self._waiting[sequence] = None
        return sequence

    def reserve(self, job: Job) -> Sequence | None:
        """Blocks for a job that is prefilled elsewhere; None where there is no room. Raises BadJob, EngineError."""
        sequence = self._enter(job, for_other=False)
        if not self._claim(sequence):
            self._forget(sequence)
            return None
        sequence.phase = "reserved"
        return sequence

    def find(self, job_id: str, *, for_other: bool = False) -> Sequence | None:
        """A live sequence."""
        return self._sequences.get((job_id, for_other))

    def end(self, sequence: Sequence) -> None:
        """Forget it, wherever it is; its blocks are free at once."""
        self._leave(sequence)
        self._forget(sequence)
        self.cache.release(sequence.blocks)
        sequence.blocks = []

    def end_all(self) -> None:
        """Forget all of them."""
        for sequence in list(self._sequences.values()):
            self.end(sequence)

    def fingerprint(self, job: Job) -> BlockHash:
        """The name of the whole prompt, to know its KV by."""
        return self._hash_blocks(job.tokens, len(job.tokens), job.salt)[0]

    def stats(self, prefill_tokens_per_s: float = 0.0) -> Stats:
        """The load right now; prefix hits of what still waits are not known yet."""
        queued = sum(one.queued for queue in (self._waiting, self._ready, self._prefill) for one in queue)
        return Stats(
            running=len(self._decode),
            waiting=len(self._waiting) + len(self._ready) + len(self._prefill),
            queued_tokens=queued,
            active_blocks=self.cache.active,
            cached_blocks=self.cache.idle,
            total_blocks=self.cache.total,
            prefill_tokens_per_s=prefill_tokens_per_s,
        )

    def _enter(self, job: Job, *, for_other: bool) -> Sequence:
        if (job.id, for_other) in self._sequences:
            raise EngineError(f"job {job.id} is in the engine already")
        if len(job.tokens) <= job.answered:
            raise BadJob("the prompt is empty")
        if len(job.tokens) + (0 if for_other else 1) > self.most_tokens:
            raise BadJob(
                f"the prompt has {len(job.tokens)} tokens; the engine takes {self.most_tokens} with the answer"
            )
        sequence = Sequence(job, self._hashes(job), for_other=for_other)
        self._sequences[job.id, for_other] = sequence
        return sequence

    def _hashes(self, job: Job) -> list[BlockHash]:
        size = self.cache.block_size
        full = len(job.tokens) // size
        if job.blocks is not None and len(job.blocks) >= full:
            return list(job.blocks[:full])
        try:
            return self._hash_blocks(job.tokens, size, job.salt)
        except ValueError as error:
            raise BadJob(f"the prompt cannot be hashed: {error}") from error

    def _resume(self, sequence: Sequence, job: Job) -> Sequence:
        """The KV has come, or will not come."""
        if job.tokens != sequence.job.tokens or job.salt != sequence.job.salt:
            raise BadJob(f"job {job.id} is not the one that blocks were set aside for")
        sequence.job, sequence.phase = job, "waiting"
        if job.kv is not None:
            # All but the last token: the first token of the answer is made from that one, here.
            brought = max(sequence.target - 1 - sequence.computed, 0)
            self.brought_tokens += brought
            self._compute(sequence, brought)
        self._ready[sequence] = None
        return sequence

    def _forget(self, sequence: Sequence) -> None:
        self._sequences.pop((sequence.job.id, sequence.for_other), None)
        sequence.phase = "ended"

    def _leave(self, sequence: Sequence) -> None:
        """Out of the collections of its phase."""
        phase = sequence.phase
        if phase == "waiting":
            self._waiting.pop(sequence, None)
            self._ready.pop(sequence, None)
        elif phase == "decode" or phase == "prefill":
            del self._active[sequence]
            self._prefill.pop(sequence, None)
            if self._decode.pop(sequence, None) is not None:
                self._context -= len(sequence.job.tokens) + sequence.told(self._step)

    # ---- decide ----------------------------------------------------------------------------------------

    def decide(self) -> Step | None:
        """What to compute next; None where there is nothing to do until a job comes or goes."""
        due, self._due = self._due, []
        for sequence in due:
            if sequence in self._decode:
                self._stretch(sequence)
        room = self.args.max_num_batched_tokens - len(self._decode)
        chunks: list[tuple[Sequence, int]] = []
        for sequence in self._prefill:
            if not room:
                break
            room -= self._chunk(sequence, room, chunks)
        while room and (admitted := self._admit()) is not None:
            room -= self._chunk(admitted, room, chunks)
        if not chunks and not self._decode:
            self._ends.clear()
            return None
        prefill_tokens = sum(tokens for _, tokens in chunks)
        duration_s = self.args.step_s(len(self._decode), self._context, prefill_tokens)
        return Step(duration_s, len(self._decode), chunks, prefill_tokens)

    def _chunk(self, sequence: Sequence, room: int, chunks: list[tuple[Sequence, int]]) -> int:
        tokens = min(room, sequence.queued)
        chunks.append((sequence, tokens))
        return tokens

    def _admit(self) -> Sequence | None:
        """The next one that waits, in prefill now; None where there is no place or no room for it."""
        if len(self._active) >= self.args.max_num_seqs:
            return None
        if self._ready:
            sequence, _ = self._ready.popitem(last=False)
        elif self._waiting:
            sequence = next(iter(self._waiting))
            if not self._claim(sequence):
                return None
            del self._waiting[sequence]
        else:
            return None
        sequence.phase = "prefill"
        self._active[sequence] = None
        self._prefill[sequence] = None
        return sequence

    def _claim(self, sequence: Sequence) -> bool:
        """Blocks for all that it has to compute. What is found in the cache counts as computed."""
        cache, size = self.cache, self.cache.block_size
        known: list[int] = []
        if self.args.enable_prefix_caching:
            # At least one token is computed: the next one is made from it.
            known = cache.find(sequence.hashes[: (sequence.target - 1) // size])
        blocks = cache.claim(known, -(-sequence.target // size) - len(known))
        if blocks is None:
            return False
        sequence.blocks = blocks
        sequence.computed = len(known) * size
        self.cached_tokens += sequence.computed
        if sequence.cached is None and not sequence.made:
            sequence.cached = min(sequence.computed, len(sequence.job.tokens))
        return True

    def _stretch(self, sequence: Sequence) -> None:
        """Let it decode up to the end of its block or of its answer, if there is a block for it."""
        size = self.cache.block_size
        if len(sequence.blocks) * size == sequence.computed:
            while (block := self.cache.claim([], 1)) is None:
                victim = next(reversed(self._active))
                self._preempt(victim)
                if victim is sequence:
                    return
            sequence.blocks += block
        assert sequence.answer is not None
        left = len(sequence.answer.tokens) - sequence.made
        sequence.stretch = min(size - sequence.computed % size, left)
        sequence.end_step = self._step + sequence.stretch
        self._decode[sequence] = sequence.outputs(self.words, sequence.made, sequence.stretch)
        self._ends.setdefault(sequence.end_step, []).append(sequence)

    def _preempt(self, sequence: Sequence) -> None:
        """Take its blocks; it starts again, with the tokens that it has told as part of its prompt."""
        made = sequence.told(self._step)
        self.preemptions += 1
        self._leave(sequence)
        self.cache.release(sequence.blocks)
        sequence.blocks, sequence.computed = [], 0
        sequence.made, sequence.stretch = made, 0
        sequence.target = len(sequence.job.tokens) + made
        sequence.phase = "waiting"
        self._waiting[sequence] = None
        self._waiting.move_to_end(sequence, last=False)

    # ---- absorb ----------------------------------------------------------------------------------------

    def absorb(self, step: Step) -> list[Output]:
        """The step is done: what it made. Those prefilled for others are in `take_prefilled`."""
        self._step += 1
        outputs = list(map(next, self._decode.values()))
        assert len(outputs) == len(self._decode)
        self._context += len(outputs)
        for sequence in self._ends.pop(self._step, ()):
            if sequence.end_step == self._step and sequence in self._decode:
                self._end_stretch(sequence)
        for sequence, tokens in step.chunks:
            if sequence in self._prefill:
                self.computed_tokens += tokens
                self._compute(sequence, tokens)
                if not sequence.queued:
                    self._end_prefill(sequence, outputs)
        return outputs

    def take_prefilled(self) -> list[Sequence]:
        """Those whose prefill for somebody else is done; they hold their blocks until `end`."""
        taken, self._prefilled = self._prefilled, []
        return taken

    def _end_stretch(self, sequence: Sequence) -> None:
        assert sequence.answer is not None
        sequence.made += sequence.stretch
        # The KV of the last token told is computed in the next step only.
        self._compute(sequence, sequence.stretch)
        sequence.stretch = 0
        if sequence.made == len(sequence.answer.tokens):
            self.end(sequence)
        else:
            self._due.append(sequence)

    def _end_prefill(self, sequence: Sequence, outputs: list[Output]) -> None:
        del self._prefill[sequence]
        if sequence.doomed:
            outputs.append(Output([], "error", "the mock engine was told to fail this request", sequence.job))
            self.end(sequence)
            return
        if sequence.for_other:
            del self._active[sequence]
            sequence.phase = "holding"
            self._prefilled.append(sequence)
            return
        if sequence.answer is None:
            sequence.answer = self._answer(sequence)
        count = min(1, len(sequence.answer.tokens) - sequence.made)
        outputs += sequence.outputs(self.words, sequence.made, count)
        sequence.made += count
        if sequence.made == len(sequence.answer.tokens):
            self.end(sequence)
            return
        sequence.phase = "decode"
        self._decode[sequence] = iter(())
        self._context += len(sequence.job.tokens) + sequence.made
        self._due.append(sequence)

    def _answer(self, sequence: Sequence) -> Answer:
        if sequence.silent:
            return Answer([], "stop", b"")
        job, size = sequence.job, self.cache.block_size
        asked = len(job.tokens) - job.answered
        full = asked // size
        parent = sequence.hashes[full - 1] if full else job.salt
        tail = job.tokens[full * size : asked]
        return answer(self.args, self.words, job, parent, tail, self.most_tokens - len(job.tokens))

    def _compute(self, sequence: Sequence, tokens: int) -> None:
        """These tokens have their KV now; blocks that got full get their names."""
        size = self.cache.block_size
        before, sequence.computed = sequence.computed // size, sequence.computed + tokens
        after = sequence.computed // size
        if after == before or not self.args.enable_prefix_caching:
            return
        hashes = sequence.hashes
        parent = hashes[before - 1] if before else sequence.job.salt
        new = sequence.tokens(before * size, after * size)
        if len(hashes) < after:
            hashes += self._hash_blocks(
                new[(len(hashes) - before) * size :], size, hashes[-1] if hashes else parent
            )
        self.cache.name(sequence.blocks[before:after], hashes[before:after], parent, new)
