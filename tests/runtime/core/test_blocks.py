"""Block hashes are the same everywhere, name whole prefixes, and are salted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.core.blocks import block_hashes, salt

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=60)


def test_the_numbers_themselves():
    # These stand in routers and workers of different versions at once: a change splits a cluster in two.
    assert salt("llama") == 0xE2E1_653F_B320_1A66
    assert block_hashes(range(9), 4, salt("llama")) == [0xF624_D72B_A567_C45B, 0xBBC0_049B_42BB_E6D6]


def test_only_full_blocks_have_a_name():
    assert [len(block_hashes(range(count), 4, 1)) for count in (0, 3, 4, 7, 8)] == [0, 0, 1, 1, 2]


@given(TOKENS, TOKENS, st.integers(1, 9))
def test_equal_hashes_mean_equal_prefixes(left: list[int], right: list[int], size: int):
    ours, theirs = block_hashes(left, size, 7), block_hashes(right, size, 7)
    for place, (mine, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        assert (mine == other) == (left[: place * size] == right[: place * size])


@given(TOKENS, st.integers(1, 9), st.integers(0, 9))
def test_a_chain_goes_on_from_any_of_its_blocks(tokens: list[int], size: int, at: int):
    whole = block_hashes(tokens, size, 7)
    head = block_hashes(tokens[: at * size], size, 7)
    assert head + block_hashes(tokens[at * size :], size, head[-1] if head else 7) == whole


def test_every_salt_makes_other_blocks():
    salts = {
        salt("llama"),
        salt("llama2"),
        salt("llama", "french"),
        salt("llama", "", "french"),
        salt("", "llama", "french"),
        salt("llamafrench"),
        salt("llama\0french"),
    }
    assert len({block_hashes([1, 2, 3, 4], 4, one)[0] for one in salts}) == 7


@pytest.mark.parametrize("token", [-1, 2**32])
def test_a_token_that_is_none_is_refused(token: int):
    with pytest.raises(ValueError, match=r"^a token id is negative or above 4294967295$"):
        block_hashes([1, token], 1, 0)


def test_a_block_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^a block of 0 tokens; it needs at least one$"):
        block_hashes([1], 0, 0)


@pytest.mark.parametrize("seed", ["0", "1"])
def test_another_process_finds_the_same(seed: str):
    code = "from dyno_runtime.core.blocks import *; print(block_hashes(range(64), 16, salt('m', 'l', 'c')))"
    path = str(Path(__file__).parents[3] / "runtime")
    environ = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert output.strip() == str(block_hashes(range(64), 16, salt("m", "l", "c")))
