"""Whose KV may travel to whom, and how late."""

from __future__ import annotations

import pytest

from dyno_runtime.core.terms import mismatch, too_late

TERMS = {"vllm": "0.32.0", "dtype": "bfloat16", "block_size": "64", "kv_heads": "8", "tp": "4"}


@pytest.mark.parametrize(
    ("decode", "prefill", "why"),
    [
        ({}, {}, None),
        ({}, {"block_size": "32", "tp": "2"}, None),
        ({}, {"tp": "2", "kv_heads": "8"}, None),
        ({"tp": "2"}, {"tp": "8"}, None),
        ({}, {"vllm": "0.31.0"}, "vllm is 0.32.0 at decode and 0.31.0 at prefill"),
        ({"dtype": "float16"}, {}, "dtype is float16 at decode and bfloat16 at prefill"),
        (
            {"block_size": "32"},
            {},
            "block_size is 32 at decode and 64 at prefill; decode's has to be a multiple of prefill's",
        ),
        ({"tp": "3"}, {}, "tp is 3 at decode and 4 at prefill; one has to be a multiple of the other"),
        (
            {"kv_heads": "2"},
            {"kv_heads": "2", "tp": "8"},
            "tp is 4 at decode and 8 at prefill, which has only 2 KV heads to split",
        ),
    ],
)
def test_terms(decode: dict[str, str], prefill: dict[str, str], why: str | None) -> None:
    assert mismatch({**TERMS, **decode}, {**TERMS, **prefill}) == why


def test_engines_without_terms_need_none() -> None:
    assert mismatch({}, {}) is None
    assert mismatch(TERMS, {}) == "dtype is bfloat16 at decode and unknown at prefill"


@pytest.mark.parametrize(
    ("lease_s", "passed_s", "late"),
    [
        (30, 0, False),
        (30, 19.9, False),
        (30, 20.1, True),
        (30, 31, True),
        (9, 3.9, False),
        (9, 4.1, True),
        (3, 0, True),
    ],
)
def test_a_third_of_the_lease_and_at_least_five_seconds_are_kept_free(
    lease_s: float, passed_s: float, late: bool
) -> None:
    assert too_late(lease_s, passed_s) is late
