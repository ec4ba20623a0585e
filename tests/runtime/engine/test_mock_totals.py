"""What the mock engine counts of itself, for the metrics of its worker."""

from __future__ import annotations

import pytest

from dyno_runtime.engine.base import Counting, Totals
from dyno_runtime.engine.choose import make_engine
from dyno_runtime.settings import Engine
from tests.runtime.engine.virtual import LINK, SECONDS, job, make_machine, prefill


def test_prompt_tokens_are_counted_by_where_their_kv_came_from():
    decode, decode_loop, _ = make_machine(**LINK)
    other, other_loop, _ = make_machine(**LINK)
    place = decode.reserve(job("a", "x" * 30, 9))
    ended = prefill(other, other_loop, job("a", "x" * 30, kv=place))
    other_loop.run()
    decode.generate(job("a", "x" * 30, 9, kv=ended[0][1]))
    decode_loop.run()
    assert other.totals() == Totals(computed_tokens=30, kv_sent_bytes=3000)
    assert decode.totals() == Totals(
        computed_tokens=1, external_kv_transfer_tokens=29, kv_transfers=1, kv_received_bytes=3000
    )
    decode.generate(job("b", "x" * 30, 1))
    decode_loop.run()
    # Seven full blocks of four were found, the last two tokens computed.
    assert decode.totals().local_cache_hit_tokens == 28
    assert decode.totals().computed_tokens == 1 + 2


def test_preemptions_and_waits_are_counted():
    machine, loop, _ = make_machine(**SECONDS, kv_blocks=6, max_num_seqs=2)
    for name in "abc":
        machine.generate(job(name, name * 8, 12))
    loop.run()
    assert machine.totals().preemptions > 0
    waits = machine.take_waits()
    assert len(waits) == 3
    assert waits == sorted(waits)
    assert waits[:2] == pytest.approx([0.0, 0.0])
    assert waits[2] > 1.0, "the third waits until one of the others is done"
    assert machine.take_waits() == []


def test_an_engine_that_counts_says_so():
    mock = make_engine(Engine("mock"), lambda tokens, size, parent: [], None)
    assert isinstance(mock, Counting)
    assert mock.totals() == Totals()
    assert mock.take_waits() == []
    assert not isinstance(make_engine(Engine("hello"), lambda tokens, size, parent: [], None), Counting)
