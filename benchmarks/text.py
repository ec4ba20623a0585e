"""What text costs: µs for a streamed token, ms for a prompt, and how much faster `fastokens` is than `tokenizers`.

Makes a model folder with a tokenizer of 129,000 entries, and works on words that are drawn with a seed, so that
every prompt is another one. Each figure is the best of several rounds, on one core. `python -m benchmarks.text`
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import tokenizers

from benchmarks.report import table
from dyno_runtime.core.blocks import block_hashes, salt
from dyno_runtime.openai.answers import Head
from dyno_runtime.openai.chunks import ChatChunks
from dyno_runtime.openai.messages import template_messages
from dyno_runtime.openai.request import parse_chat
from dyno_runtime.openai.sampling import sampling
from dyno_runtime.text.answer import Answer, Stop
from dyno_runtime.text.load import TextModel, load
from tests.models import make_model

ROUNDS = 15
ANSWER_TOKENS = 20_000
WORDS = (32, 1024, 8192)
PROMPTS = 20
BLOCK_TOKENS = 64


def best_s(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The shortest of several runs, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


class Words:
    """Draws lower-case words of the vocabulary."""

    def __init__(self, model: TextModel) -> None:
        self._rng = random.Random(1)
        ids = range(model.tokenizer.vocab_size)
        every = map(model.tokenizer.bytes_of, ids)
        self._known = [word for word in every if word.isalpha() and word.islower()]

    def draw(self, count: int) -> str:
        """So many of them."""
        return b" ".join(self._rng.choices(self._known, k=count)).decode()


def streaming(model: TextModel) -> list[list[str]]:
    """µs per token of a streamed answer, by what is done and how many tokens come at once."""
    text = Words(model).draw(ANSWER_TOKENS)
    ids = model.tokenizer.encode(text)[:ANSWER_TOKENS]
    head = Head("chatcmpl-0123456789abcdef", 1_700_000_000, "large")
    stops = {
        "no stop": Stop(),
        "eos": Stop(tokens=model.eos_ids),
        "eos and two stop strings": Stop(("\nUser:", "###"), model.eos_ids),
        "eos and a stop string that often begins": Stop(("zq zq",), model.eos_ids),
    }
    rows = []
    for name, stop in stops.items():
        row = [name]
        for portion in (1, 4, 16):
            portions = [ids[place : place + portion] for place in range(0, len(ids), portion)]

            def stream(portions: list[list[int]] = portions, stop: Stop = stop) -> None:
                answer = Answer(model.tokenizer.detokenizer(), stop)
                chunks = ChatChunks(head)
                feed, event = answer.feed, chunks.text
                for tokens in portions:
                    shown = feed(tokens)
                    if shown:
                        event(shown)

            row.append(f"{best_s(stream) / len(ids) * 1e6:.3f}")
        rows.append(row)
    return rows


def steps(model: TextModel) -> list[list[str]]:
    """µs of the single steps of a streamed token."""
    ids = [[one] for one in model.tokenizer.encode(Words(model).draw(ANSWER_TOKENS))[:ANSWER_TOKENS]]
    feed = model.tokenizer.detokenizer().feed
    texts = [feed(one) for one in ids]
    answer = Answer(model.tokenizer.detokenizer(), Stop(tokens=model.eos_ids)).feed
    event = ChatChunks(Head("chatcmpl-0123456789abcdef", 1_700_000_000, "large")).text
    encode = msgspec.json.Encoder().encode

    return [
        ["detokenise", f"{each_ms(feed, ids) * 1e3:.3f}"],
        ["detokenise and look for eos", f"{each_ms(answer, ids) * 1e3:.3f}"],
        ["encode the string", f"{each_ms(encode, texts) * 1e3:.3f}"],
        ["SSE event, with the string", f"{each_ms(event, texts) * 1e3:.3f}"],
        ["an empty call", f"{each_ms(len, texts) * 1e3:.3f}"],
    ]


def prompts(model: TextModel, folder: Path) -> list[list[str]]:
    """ms per prompt, step by step."""
    slow = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    source, root = Words(model), salt("large")
    rows = []
    for count in WORDS:
        bodies = [body(source.draw(count)) for _ in range(PROMPTS)]
        requests = [parse_chat(one) for one in bodies]
        texts = [model.templates.render(template_messages(one)) for one in requests]
        ids = [model.tokenizer.encode(one) for one in texts]

        def whole(one: bytes) -> None:
            request = parse_chat(one)
            sampling(request, ())
            text = model.templates.render(template_messages(request))
            block_hashes(model.tokenizer.encode(text), BLOCK_TOKENS, root)

        took = [
            each_ms(parse_chat, bodies),
            each_ms(lambda one: model.templates.render(template_messages(one)), requests),
            each_ms(model.tokenizer.encode, texts),
            each_ms(lambda one: block_hashes(one, BLOCK_TOKENS, root), ids),
            each_ms(whole, bodies),
            each_ms(lambda one: slow.encode(one, add_special_tokens=False).ids, texts),
        ]
        ratio = f"{took[5] / took[2]:.0f}"
        rows.append([str(count), str(len(ids[0])), *[f"{one:.4f}" for one in took], ratio])
    return rows


def each_ms(work: Callable[[Any], object], over: Sequence[Any]) -> float:
    """ms for one of `over`; each is another one, so that nothing is remembered but words."""

    def run() -> None:
        for one in over:
            work(one)

    return best_s(run, rounds=5) / len(over) * 1e3


def body(text: str) -> bytes:
    """A streamed chat request."""
    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": text}]
    return json.dumps({"model": "large", "messages": messages, "stream": True, "max_tokens": 128}).encode()


def main() -> None:
    """Prints three tables."""
    with tempfile.TemporaryDirectory() as place:
        folder = make_model(Path(place) / "large", "large")
        start = time.perf_counter()
        model = load(folder)
        print(f"loaded in {time.perf_counter() - start:.2f} s, encoding with {model.tokenizer.name}\n")
        print("µs per streamed token: detokenise, stop, SSE event; by tokens at once")
        print(table(["", "1", "4", "16"], streaming(model)), "\n")
        print(table(["step, one token at a time", "µs"], steps(model)), "\n")
        print("ms per prompt")
        headings = [
            "words",
            "tokens",
            "parse",
            "template",
            "encode",
            "hash",
            "all of it",
            "tokenizers",
            "ratio",
        ]
        print(table(headings, prompts(model, folder)))
        model.tokenizer.close()


if __name__ == "__main__":
    main()
