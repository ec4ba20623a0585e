"""An engine's blocks under our names."""

from __future__ import annotations

import pytest

from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.core.kv_ledger import Ledger
from dyno_runtime.engine.named_blocks import NamedBlocks
from dyno_runtime.wire.kv import KvBatch

SALT = 7
TOKENS = list(range(8))
ONE, TWO, THREE, FOUR = block_hashes(TOKENS, 2, SALT)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def engine(ledger: Ledger) -> NamedBlocks:
    return NamedBlocks(ledger, 2, block_hashes)


def test_blocks_are_named_as_a_router_names_the_prompt(engine: NamedBlocks, ledger: Ledger):
    engine.stored(["x", "y"], None, TOKENS[:4], SALT)
    engine.stored(["z", b"w"], "y", TOKENS[4:], SALT)
    assert ledger.flush() == KvBatch(1, (ONE, TWO, THREE, FOUR))


def test_the_engine_removes_by_its_own_names(engine: NamedBlocks, ledger: Ledger):
    engine.stored([1, 2], None, TOKENS[:4], SALT)
    engine.removed([2, 99])
    assert ledger.held == {ONE}
    engine.removed([2])
    assert ledger.held == {ONE}


def test_a_block_that_is_there_twice_is_gone_with_its_last_copy(engine: NamedBlocks, ledger: Ledger):
    engine.stored(["x"], None, TOKENS[:2], SALT)
    engine.stored(["x"], None, TOKENS[:2], SALT)
    engine.stored(["x again"], None, TOKENS[:2], SALT)
    engine.removed(["x"])
    assert ledger.held == {ONE}
    engine.removed(["x again"])
    assert ledger.held == set()


def test_a_block_after_an_unknown_one_has_no_name(engine: NamedBlocks, ledger: Ledger):
    engine.stored(["z", "w"], "never seen", TOKENS[4:], SALT)
    engine.removed(["z"])
    assert (engine.orphans, ledger.held) == (2, set())


def test_everything_goes_at_once(engine: NamedBlocks, ledger: Ledger):
    engine.stored(["x"], None, TOKENS[:2], SALT)
    ledger.flush()
    engine.cleared()
    engine.removed(["x"])
    assert ledger.flush() == KvBatch(2, cleared=True)
    engine.stored(["y"], "x", TOKENS[2:4], SALT)
    assert engine.orphans == 1


def test_another_block_size_is_refused(engine: NamedBlocks):
    with pytest.raises(ValueError, match="put 3 tokens") as refusal:
        engine.stored(["x"], None, [1, 2, 3], SALT)
    assert str(refusal.value) == "the engine put 3 tokens into 1 blocks; this worker's engine.block_size is 2"
