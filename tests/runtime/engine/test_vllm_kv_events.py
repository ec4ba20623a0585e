"""vLLM's KV events in both forms, and what becomes of gaps; as bytes, without vLLM."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.engine.base import KvCleared, KvEvents, KvRemoved, KvStored
from dyno_runtime.engine.vllm.kv_events import BadEvent, Cleared, Removed, Stored, read_batch
from dyno_runtime.engine.vllm.kv_listener import KvAccount

TOKENS = list(range(100, 108))
ONE, TWO = block_hashes(TOKENS, 4, 7)
MAP = {
    "type": "BlockStored",
    "block_hashes": [11, 12],
    "parent_block_hash": None,
    "token_ids": TOKENS,
    "block_size": 4,
    "lora_id": None,
    "medium": "GPU",
    "lora_name": None,
    "extra_keys": [["7"], None],
    "group_idx": 0,
    "kv_cache_spec_kind": "full_attention",
}
ARRAY = ["BlockStored", [11, 12], None, TOKENS, 4, None, "GPU", None, [["7"], None]]
GONE_MAP = {"type": "BlockRemoved", "block_hashes": [12], "medium": "GPU", "group_idx": 0}
GONE_ARRAY = ["BlockRemoved", [12], "GPU"]
CLEAR_MAP, CLEAR_ARRAY = {"type": "AllBlocksCleared"}, ["AllBlocksCleared"]


def payload(*events: Any, rank: int | None = 0) -> bytes:
    return msgspec.msgpack.encode([1.5, list(events), *([] if rank is None else [rank])])


@pytest.mark.parametrize(
    "batch",
    [payload(MAP, GONE_MAP, CLEAR_MAP), payload(ARRAY, GONE_ARRAY, CLEAR_ARRAY, rank=None)],
    ids=["maps", "arrays"],
)
def test_both_forms_say_the_same(batch: bytes) -> None:
    assert read_batch(batch) == [Stored((11, 12), None, tuple(TOKENS), "7"), Removed((12,)), Cleared()]


def test_the_first_arrays_were_shorter_and_hashes_may_be_bytes() -> None:
    short = ["BlockStored", [b"a"], b"b", TOKENS[:4], 4, None]
    assert read_batch(payload(short)) == [Stored((b"a",), b"b", tuple(TOKENS[:4]))]


def test_other_tiers_second_views_and_unknown_kinds_are_left_out() -> None:
    events = [{**MAP, "medium": "CPU"}, {**MAP, "group_idx": 1}, {**GONE_MAP, "type": "BlockMoved"}]
    assert read_batch(payload(*events)) == []


def test_the_salt_is_not_taken_for_the_name_of_an_adapter() -> None:
    (event,) = read_batch(payload({**MAP, "lora_name": "tuned", "extra_keys": [["tuned", "7"], None]}))
    assert event == Stored((11, 12), None, tuple(TOKENS), "7", "tuned")


@pytest.mark.parametrize("junk", [b"", b"\xc1", payload({"type": "BlockStored"}), payload(5)])
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(BadEvent, match="a KV event of vLLM cannot be read"):
        read_batch(junk)


@pytest.fixture
def told() -> list[KvEvents]:
    return []


@pytest.fixture
def account(told: list[KvEvents]) -> KvAccount:
    made = KvAccount(4, block_hashes)
    made.on_kv = told.append
    return made


def test_blocks_get_the_names_that_routers_know(account: KvAccount, told: list[KvEvents]) -> None:
    assert not account.misses(0)
    account.take(0, payload(MAP))
    account.take(1, payload(GONE_MAP))
    assert account.held() == (2, [ONE])
    assert told == [
        KvEvents(1, [KvStored([ONE], 0, []), KvStored([TWO], 0, [])]),
        KvEvents(2, [KvRemoved([TWO])]),
    ]


def test_what_follows_an_event_that_cannot_be_read_is_not_known(
    account: KvAccount, told: list[KvEvents]
) -> None:
    """The batch may have said that blocks are gone; one that is known and not held costs a wrong choice each time."""
    account.take(0, payload(MAP))
    account.take(1, payload({"type": "BlockStored"}, GONE_MAP))
    assert (account.held(), account.expected, account.count) == ((2, []), 2, 0)
    assert told[1].changes == [KvCleared()]


def test_blocks_of_another_size_cost_only_themselves(account: KvAccount, told: list[KvEvents]) -> None:
    """vLLM tells of parts of blocks with some models, for each prompt: what is known besides stays known."""
    account.take(0, payload(MAP))
    account.take(1, payload({**MAP, "block_hashes": [13], "token_ids": [1, 2]}, GONE_MAP))
    assert account.held() == (2, [ONE])
    assert told[1].changes == [KvRemoved([TWO])]


def test_a_gap_is_seen_and_what_is_not_to_be_had_any_more_is_forgotten(
    account: KvAccount, told: list[KvEvents]
) -> None:
    account.take(0, payload(MAP))
    assert account.misses(3)
    account.forget(3)
    assert (account.held(), account.expected) == ((2, []), 3)
    assert told[1].changes == [KvCleared()]


def test_numbers_that_go_back_are_another_engine(account: KvAccount) -> None:
    account.take(0, payload(MAP))
    account.take(1, payload())
    assert not account.misses(0)
    assert (account.held()[1], account.expected) == ([], 0)


def test_a_batch_that_cannot_be_read_costs_only_itself(account: KvAccount) -> None:
    account.take(0, b"\xc1")
    account.take(1, payload({**MAP, "token_ids": [1, 2, 3]}))
    account.take(2, payload(MAP))
    assert account.held()[1] == [ONE, TWO]
