"""Digests are names for content: equal where the content is, on every machine."""

from __future__ import annotations

from dynoctl.plan.digest import digest_of


def test_a_digest_is_known_by_heart() -> None:
    assert digest_of({"argv": ["a"], "env": {}}) == "f9a5fad9f78baa34"
    assert len(digest_of(None)) == 16


def test_the_order_of_keys_does_not_matter_that_of_lists_does() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of(["a", "b"]) != digest_of(["b", "a"])


def test_tuples_are_lists_as_in_json() -> None:
    assert digest_of(("a", ("b",))) == digest_of(["a", ["b"]])
