"""Generated traces have the form and the figures of the public ones."""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median

import pytest

from benchmarks.trace import AGENT, BLOCK_TOKENS, CONVERSATION, Shape, generate, ideal_hits, read


@pytest.mark.parametrize("shape", [CONVERSATION, AGENT])
def test_rows_are_in_order_and_ids_fit_lengths(shape: Shape):
    rows = list(generate(shape, 2000, 3))
    assert [row.timestamp for row in rows] == sorted(row.timestamp for row in rows)
    assert all(len(row.hash_ids) == -(-row.input_length // BLOCK_TOKENS) for row in rows)
    assert all(row.output_length >= 1 for row in rows)


@pytest.mark.parametrize("shape", [CONVERSATION, AGENT])
def test_an_id_always_follows_the_same_ids(shape: Shape):
    before: dict[int, tuple[int, ...]] = {}
    for row in generate(shape, 2000, 3):
        for place, number in enumerate(row.hash_ids):
            assert before.setdefault(number, row.hash_ids[:place]) == row.hash_ids[:place]


def test_a_conversation_is_like_the_public_one():
    rows = list(generate(CONVERSATION, 12_000, 1))
    assert 5500 < median(row.input_length for row in rows) < 8000
    assert 330 < median(row.output_length for row in rows) < 370
    assert 3.1 < len(rows) / (rows[-1].timestamp / 1000) < 3.6
    assert 0.33 < ideal_hits(rows) < 0.45
    assert len({row.hash_ids[0] for row in rows}) == 1


def test_agents_share_more():
    assert 0.55 < ideal_hits(list(generate(AGENT, 6000, 1))) < 0.68


def test_a_seed_is_a_trace():
    assert list(generate(AGENT, 50, 1)) == list(generate(AGENT, 50, 1)) != list(generate(AGENT, 50, 2))


def test_the_command_writes_what_read_reads(tmp_path):
    command = [sys.executable, "-m", "benchmarks.trace", "conversation", "--requests", "20", "--seed", "4"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert list(json.loads(output.splitlines()[0])) == [
        "timestamp",
        "input_length",
        "output_length",
        "hash_ids",
    ]
    (tmp_path / "trace.jsonl").write_text(output)
    assert read(tmp_path / "trace.jsonl") == list(generate(CONVERSATION, 20, 4))
