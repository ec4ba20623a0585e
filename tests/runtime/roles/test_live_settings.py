"""What may be changed while a cluster runs, and what would not be safe; without a cluster."""

from __future__ import annotations

import json

from dyno_runtime.roles.live import Live
from dyno_runtime.settings import Disagg, lease_for
from tests.runtime.engine.vllm_stand_in import settings

KEY = "/c/config/disagg/m"


def test_a_prefill_is_waited_for_no_longer_than_its_kv_is_kept() -> None:
    live = Live(settings(disagg=Disagg("always", prefill_timeout_s=5.0)))
    live.put(KEY, json.dumps({"prefill_timeout_s": 20}).encode())
    assert (live.disagg("m").prefill_timeout_s, live.problem) == (20.0, None)
    live.put(KEY, json.dumps({"prefill_timeout_s": 20.5}).encode())
    assert live.disagg("m").prefill_timeout_s == 20.0
    assert live.problem == (
        f"{KEY} is refused, and what was there before stays: prefill_timeout_s cannot become 20.5: prefilled KV is "
        "kept for 30 s, so the longest is 20; set disagg.prefill_timeout_s in the topology for a longer one, and "
        "dynoctl up"
    )
    live.put(KEY, json.dumps({"prefill_timeout_s": 20}).encode())
    live.put(
        "/c/config/disagg/another", json.dumps({"prefill_timeout_s": 99}).encode()
    )  # its leases are not ours
    assert live.disagg("another").prefill_timeout_s == 99.0
    assert not live.problem


def test_a_lease_is_as_long_as_a_prefill_is_waited_for_and_a_margin() -> None:
    assert [lease_for(timeout_s) for timeout_s in (1.0, 20.0, 30.0, 33.3)] == [30.0, 30.0, 45.0, 49.95]
