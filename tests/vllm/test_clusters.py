"""Real text through the whole system: one worker, and prefill apart from decode over NIXL, as the topologies ship.

The tests share their clusters and run in their order. Greedy text of the one worker is what all others must say.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dyno_node import proc
from tests.servers import wait_for
from tests.vllm.conftest import Real
from tests.vllm.served import SHORT, STORY, Said, Served, gained

pytestmark = pytest.mark.timeout(240)
PARIS = "The capital of France is Paris."


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dyno-vllm-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def calls() -> dict[str, Any]:
    """What the same worker answers where it has to call a tool."""
    return {}


@pytest.fixture(scope="module")
def alone(folder: Path, real: Real, calls: dict[str, Any]) -> dict[str, Said]:
    """What the monolithic worker of vllm-cpu.yaml says, by prompt."""
    it = Served(folder, "vllm-cpu", real)
    try:
        up = it.run("up", str(it.file))
        assert up.code == 0, up.out + up.err
        said = {"first": it.chat(SHORT), "again": it.chat(SHORT), "story": it.chat(STORY)}
        calls.update(forced_calls(it))
        down = it.run("down", it.name)
        assert down.code == 0, down.out + down.err
    finally:
        it.end()
    return said


@pytest.fixture(scope="module")
def apart(folder: Path, real: Real, alone: dict[str, Said]) -> Iterator[Served]:
    """vllm-cpu-disagg.yaml, up; after the other one is down, for the sake of the machine."""
    it = Served(folder, "vllm-cpu-disagg", real)
    try:
        up = it.run("up", str(it.file))
        assert up.code == 0, up.out + up.err
        assert "a token came back from local/decode-0, prefilled by local/prefill-0" in up.err
        yield it
    finally:
        it.end()


def test_one_worker_streams_sensible_text_that_never_changes(alone: dict[str, Said]) -> None:
    assert (alone["first"].text, alone["again"].text) == (PARIS, PARIS)
    assert alone["first"].prefill == alone["story"].prefill == "local"
    assert (alone["first"].cached_tokens, alone["again"].cached_tokens) == (0, 32)
    assert len(alone["story"].text) > 40


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"enum": [1, 2]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def forced_calls(it: Served) -> dict[str, Any]:
    """Both ways to insist on a call, whole and streamed."""
    found = {}
    named = {"type": "function", "function": {"name": "weather"}}
    for name, choice in (("named", named), ("required", "required")):
        more = {"tools": [WEATHER], "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 100}
        with it.stream(SHORT, **more, stream=False) as answer:
            found[name] = json.loads(answer.read())["choices"][0]
        with it.stream(SHORT, **more) as answer:
            events = [json.loads(line[6:]) for line in answer if line.startswith(b"data: {")]
        found[f"{name}, streamed"] = [event["choices"][0] for event in events]
    return found


@pytest.mark.parametrize(("name", "finish"), [("named", "stop"), ("required", "tool_calls")])
def test_a_tool_that_has_to_be_called_is(
    alone: dict[str, Said], calls: dict[str, Any], name: str, finish: str
) -> None:
    whole, streamed = calls[name], calls[f"{name}, streamed"]
    (call,) = whole["message"]["tool_calls"]
    assert (whole["finish_reason"], whole["message"]["content"], call["type"]) == (finish, None, "function")
    assert call["function"]["name"] == "weather"
    arguments = json.loads(call["function"]["arguments"])
    assert (arguments["city"] in ("Paris", "Rome"), arguments["days"] in (1, 2), len(arguments)) == (
        True,
        True,
        2,
    )
    pieces = [piece for one in streamed for piece in one["delta"].get("tool_calls") or ()]
    assert (pieces[0]["function"]["name"], {piece["index"] for piece in pieces}) == ("weather", {0})
    assert "".join(piece["function"]["arguments"] for piece in pieces) == call["function"]["arguments"]
    assert (streamed[-1]["finish_reason"], any(one["delta"].get("content") for one in streamed)) == (
        finish,
        False,
    )


def test_a_short_prompt_is_prefilled_by_the_decode_worker(apart: Served) -> None:
    before = apart.sources("decode-0")
    said = apart.chat(SHORT, cache_salt="short")
    assert (said.text, said.prefill) == (PARIS, "local")
    assert gained(before, apart.sources("decode-0")) == (said.prompt_tokens, 0, 0)


def test_a_long_one_elsewhere_and_its_kv_is_transferred(apart: Served, alone: dict[str, Said]) -> None:
    decode, prefill = apart.sources("decode-0"), apart.sources("prefill-0")
    bytes_before = apart.metrics("decode-0")["dyno_kv_received_bytes_total"]
    said = apart.chat(STORY, cache_salt="remote")
    assert (said.text, said.prefill) == (alone["story"].text, "remote:local/prefill-0")
    assert gained(decode, apart.sources("decode-0")) == (0, 0, said.prompt_tokens)
    assert gained(prefill, apart.sources("prefill-0")) == (said.prompt_tokens, 0, 0)
    assert apart.metrics("decode-0")["dyno_kv_received_bytes_total"] > bytes_before


def test_what_is_held_is_known_to_the_router_and_not_prefilled_again(apart: Served) -> None:
    """The blocks that came by transfer are told by vLLM's events, under our names; so the way is short now."""
    messages = [{"role": "user", "content": STORY}]
    body = {"model": "smollm2", "messages": messages, "cache_salt": "remote"}

    def matched() -> int:
        with apart.post("/debug/route", body) as answer:
            shown = json.loads(answer.read())
        return max(int(one["matched_tokens"]) for one in shown["workers"])

    wait_for(lambda: matched() > 500, "the router knows the blocks", 5.0)
    said = apart.chat(STORY, cache_salt="remote")
    assert said.prefill == "local"
    assert said.prompt_tokens - 32 <= said.cached_tokens < said.prompt_tokens


def test_a_client_that_leaves_frees_the_blocks(apart: Served) -> None:
    answer = apart.stream(SHORT, max_tokens=2000, ignore_eos=True, cache_salt="left")
    assert answer.readline().startswith(b"data: ")

    def running() -> tuple[float, float]:
        shown = apart.metrics("decode-0")
        return shown["dyno_engine_requests{running}"], shown["dyno_kv_blocks{active}"]

    wait_for(lambda: min(running()) > 0, "it runs", 10.0)
    answer.close()
    wait_for(lambda: running() == (0, 0), "it is forgotten", 10.0)


def test_a_prefill_worker_whose_engine_dies_costs_no_text(apart: Served, alone: dict[str, Said]) -> None:
    """The process notices, leaves and ends; decode goes on alone; the supervisor brings it back."""
    before = apart.state("prefill-0")
    os.kill(core_of(before["pid"]), signal.SIGKILL)
    said = apart.chat(STORY, cache_salt="alone")
    assert (said.text, said.prefill) == (alone["story"].text, "local")
    wait_for(lambda: apart.state("prefill-0")["restarts"] == before["restarts"] + 1, "it comes back", 20.0)
    assert apart.state("prefill-0")["exit"] == {"code": 1}
    log = (apart.units / "prefill-0" / "log").read_text()
    assert "the engine is gone: vLLM's engine core died; its last lines are in this log" in log


def core_of(pid: int) -> int:
    """vLLM's child that computes."""
    children = [one.process.pid for one in proc.descendants(pid, proc.snapshot())]
    (core,) = [one for one in children if "EngineCore" in proc.argv(one)]
    return core


def test_kv_that_is_pushed_says_the_same_and_another_engine_stands_beside(
    apart: Served, alone: dict[str, Said]
) -> None:
    text = apart.file.read_text().replace("connector: nixl", "connector: nixl-push")
    beside = "decode: [{}, {model: {id: made-up}, engine: {kind: mock}}]"
    apart.file.write_text(text.replace("decode: {}", beside))
    up = apart.run("up", str(apart.file), "--yes")
    assert up.code == 0, up.out + up.err
    before = apart.sources("decode-0")
    said = apart.chat(STORY, cache_salt="pushed")
    assert (said.text, said.prefill) == (alone["story"].text, "remote:local/prefill-0")
    assert gained(before, apart.sources("decode-0")) == (0, 0, said.prompt_tokens)
    assert apart.chat(SHORT, model="made-up").text
    assert apart.chat(SHORT).text == PARIS


def test_down_leaves_nothing(apart: Served) -> None:
    down = apart.run("down", apart.name)
    assert (down.code, "nothing of it is left" in down.out) == (0, True), down.out + down.err
