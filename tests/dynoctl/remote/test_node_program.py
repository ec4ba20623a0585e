"""Asking the node program: one exec, JSON in, JSON out, and what else a node may print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dynoctl.errors import CommandFailed
from dynoctl.remote.connection import Completed
from dynoctl.remote.fake import Call, FakeHost
from dynoctl.remote.node_program import ask, script, stream


def host(out: bytes, *, status: int = 0, err: bytes = b"") -> FakeHost:
    made = FakeHost("n1")
    made.answer(script("/r/node.pyz", "look"), lambda call: Completed(status, out, err))
    return made


def test_the_command_line_quotes_what_it_must() -> None:
    assert script("/r/node.pyz", "look") == "exec python3 -I /r/node.pyz look"
    assert script("~/a b/node.pyz", "look") == "exec python3 -I \"$HOME\"/'a b/node.pyz' look"


def test_a_request_travels_on_standard_input_alone() -> None:
    made = host(b'{"ok": true}\n')
    assert ask(made.connect(), "/r/node.pyz", "look", {"password": "x"}) == {"ok": True}
    assert made.calls == [Call("exec python3 -I /r/node.pyz look", b'{"password": "x"}\n')]


def test_the_last_answer_counts_and_all_are_told() -> None:
    told: list[dict[str, Any]] = []
    out = b'{"n": 1}\nnoise of a login\n[2]\n{"n": 3}\n'
    answers = stream(host(out).connect(), "/r/node.pyz", "look", {}, timeout_s=5, on_answer=told.append)
    assert answers == told == [{"n": 1}, {"n": 3}]
    assert ask(host(out).connect(), "/r/node.pyz", "look", {}) == {"n": 3}


def test_a_line_without_an_end_is_an_answer() -> None:
    assert ask(host(b'{"n": 1}').connect(), "/r/node.pyz", "look", {}) == {"n": 1}


@pytest.mark.parametrize("out", [b"", b"hello\n", b"[1]\n"])
def test_silence_is_an_error(out: bytes) -> None:
    with pytest.raises(CommandFailed) as caught:
        ask(host(out).connect(), "/r/node.pyz", "look", {})
    assert str(caught.value) == "n1: the node program said nothing to 'look'"


def test_a_failure_shows_its_last_lines() -> None:
    made = host(b"", status=127, err=b"1\n2\n3\n4\n5\nsh: python3: not found\n")
    with pytest.raises(CommandFailed) as caught:
        ask(made.connect(), "/r/node.pyz", "look", {})
    assert str(caught.value) == "n1: the node program failed at 'look' with status 127"
    assert caught.value.detail == ("2", "3", "4", "5", "sh: python3: not found")


def test_a_bad_request_shows_the_sentence_of_the_node_program() -> None:
    said = {"ok": False, "error": "units must be a list of texts"}
    made = host(json.dumps(said).encode() + b"\n", status=2)
    with pytest.raises(CommandFailed) as caught:
        ask(made.connect(), "/r/node.pyz", "look", {})
    assert caught.value.detail == (json.dumps(said),)


def test_what_a_listener_raises_ends_the_call() -> None:
    def on_answer(answer: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(host(b'{"n": 1}\n').connect(), "/r/node.pyz", "look", {}, timeout_s=5, on_answer=on_answer)
