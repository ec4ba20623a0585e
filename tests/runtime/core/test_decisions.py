"""The other decisions: prefill here or there, retry or give up, who is in view, bytes to text."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.core import bytelevel, view
from dyno_runtime.core.disagg import Limits, Local, Outlook, Remote, decide
from dyno_runtime.core.session import MAX_ATTEMPTS, GiveUp, Retry, Session, answered, failed, sent
from dyno_runtime.wire.messages import Address, Failure, Instance, Role

LIMITS = Limits("conditional", max_local_prefill_length=10, max_prefill_queue_size=2)
OUTLOOK = Outlook(prompt_tokens=100, matched_tokens=0, prefill_workers=1, queue_depth=0)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Remote()),
        ({"prompt_tokens": 10}, Local("the prompt is short")),
        ({"prompt_tokens": 11}, Remote()),
        ({"matched_tokens": 90}, Local("the prompt is short")),
        ({"matched_tokens": 89}, Remote()),
        ({"queue_depth": 1}, Remote()),
        ({"queue_depth": 2}, Local("the prefill queue is full")),
        ({"queue_depth": None}, Local("the prefill queue does not answer")),
        ({"prefill_workers": 0}, Local("no prefill worker is registered")),
        ({"prompt_tokens": 1, "queue_depth": 9, "forced": True}, Remote()),
        ({"forced": True, "prefill_workers": 0}, Local("no prefill worker is registered")),
    ],
)
def test_conditional(changes, verdict):
    assert decide(LIMITS, replace(OUTLOOK, **changes)) == verdict


def test_always_ignores_length_and_queue_and_off_ignores_everything():
    short = replace(OUTLOOK, prompt_tokens=1, queue_depth=50)
    assert decide(replace(LIMITS, mode="always"), short) == Remote()
    assert decide(replace(LIMITS, mode="off"), replace(OUTLOOK, forced=True)) == Local(
        "disaggregation is off"
    )


LOST = Failure("peer_lost", "gone")


def test_a_lost_worker_is_excluded_and_the_request_goes_on():
    assert failed(sent(Session()), "a", LOST) == Retry(Session(1, frozenset({"a"})))


@pytest.mark.parametrize(
    ("session", "failure"),
    [
        (answered(sent(Session())), LOST),
        (Session(attempts=MAX_ATTEMPTS), LOST),
        (Session(attempts=1, pinned=True), LOST),
        (sent(Session()), Failure("engine", "it broke")),
        (sent(Session()), Failure("bad_request", "too long")),
        (sent(Session()), Failure("timeout", "late")),
    ],
)
def test_it_gives_up_where_another_attempt_would_be_wrong(session, failure):
    assert failed(session, "a", failure) == GiveUp(failure)


def instance(
    role: Role = "decode",
    lease: str = "1",
    node: str = "n1",
    unit: str = "decode-0",
    state: Literal["loading", "ready"] = "ready",
) -> Instance:
    return Instance(role, lease, node, unit, Address("10.0.0.1", 1), "hello", state)


def test_the_view_orders_filters_and_counts():
    seen = view.View()
    for one in (
        instance(lease="2", node="n2"),
        instance(lease="1", node="n1"),
        instance(lease="3", node="n0", state="loading"),
        instance("router", "4", "n1", "router-0"),
    ):
        seen = view.seen(seen, one)
    assert [one.lease for one in seen.of("decode")] == ["3", "1", "2"]
    assert [one.lease for one in seen.ready("decode", {"1"})] == ["2"]
    assert seen.counts() == {"decode": 3, "router": 1}
    assert seen.find("decode", "n2/decode-0") == seen.find("decode", "2") != None  # noqa: E711
    assert seen.find("decode", "n1/router-0") is None
    assert view.gone(seen, "decode", "1").counts() == {"decode": 2, "router": 1}
    assert view.gone(seen, "decode", "nobody") == seen


@given(st.text(), st.integers(1, 7))
def test_bytes_come_back_as_text_and_no_character_is_split(text, piece):
    tokens = bytelevel.encode(text)
    decoder = bytelevel.Decoder()
    pieces = [decoder.feed(tokens[start : start + piece]) for start in range(0, len(tokens), piece)]
    assert "".join([*pieces, decoder.feed([], final=True)]) == text
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text
