"""Rung 5: which requests prove a cluster, and every sentence for an answer that proves nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dynoctl.errors import NotReady
from dynoctl.plan.results import Proof
from dynoctl.plan.steps import UnitSpec
from dynoctl.probe.token import Route, helped, models, prove, routes
from dynoctl.topology.load import parse


def unit(name: str, *roles: str, node: str = "n1", port: int = 0) -> UnitSpec:
    return UnitSpec(name, node, roles, "", {"cluster": "c", "listens": [port] if port else []})


FRONT = unit("frontend-0", "frontend", "router", port=8000)
WORKER = unit("decode-0", "decode", node="n2")
LOCAL = Route(FRONT, WORKER, "http://127.0.0.1:8000", remote_prefill=False)
REMOTE = Route(FRONT, WORKER, "http://127.0.0.1:8000", remote_prefill=True)
CHAT = Route(FRONT, WORKER, "http://127.0.0.1:8000", remote_prefill=False, model="m")


def pairs(*specs: UnitSpec) -> list[str]:
    found = routes(specs, {})
    return [
        f"{route.frontend.name} {route.url} -> {route.worker.node}/{route.worker.name}" for route in found
    ]


def test_every_worker_once() -> None:
    other = unit("decode-1", "decode")
    assert pairs(FRONT, WORKER, other, unit("prefill-0", "prefill")) == [
        "frontend-0 http://127.0.0.1:8000 -> n2/decode-0",
        "frontend-0 http://127.0.0.1:8000 -> n1/decode-1",
    ]


def test_every_frontend_once_too() -> None:
    second = unit("frontend-1", "frontend", port=8001)
    assert pairs(FRONT, second, WORKER) == [
        "frontend-0 http://127.0.0.1:8000 -> n2/decode-0",
        "frontend-1 http://127.0.0.1:8001 -> n2/decode-0",
    ]


@pytest.mark.parametrize("specs", [(), (FRONT,), (WORKER,)])
def test_without_a_frontend_and_a_worker_there_is_nothing_to_ask(specs: tuple[UnitSpec, ...]) -> None:
    assert routes(specs, {}, {("n2", "decode-0")}) == ()


def answer(**more: Any) -> dict[str, Any]:
    good = {
        "ok": True,
        "status": 200,
        "headers": {"X-Dyno-Worker": "n2/decode-0", "X-Dyno-Prefill": "local"},
        "body": json.dumps({"worker_output": "it serves"}),
        "took_s": 0.0125,
    }
    return {**good, **more}


def test_the_request_names_its_worker_and_says_that_it_is_a_probe() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def ask(node: str, request: dict[str, Any]) -> dict[str, Any]:
        asked.append((node, request))
        return answer()

    assert prove(LOCAL, ask) == Proof("n1", "n2/decode-0", None, 12.5, "it serves")
    ((node, request),) = asked
    assert node == "n1"
    assert (request["method"], request["url"]) == ("POST", "http://127.0.0.1:8000/generate")
    assert request["headers"] == {
        "content-type": "application/json",
        "x-dyno-probe": "1",
        "x-dyno-target": "n2/decode-0",
    }
    assert set(json.loads(request["body"])) == {"prompt", "request_id"}


def test_a_remote_prefill_is_asked_for_and_named() -> None:
    asked: list[dict[str, Any]] = []

    def ask(node: str, request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        headers = {"x-dyno-worker": "n2/decode-0", "x-dyno-prefill": "remote:n3/prefill-0"}
        return answer(headers=headers)

    assert prove(REMOTE, ask).remote_prefill == "n3/prefill-0"
    assert asked[0]["headers"]["x-dyno-prefill"] == "remote"


def events(*texts: str | None, end: str = "data: [DONE]\n\n") -> str:
    chunks = [
        {"choices": [{"index": 0, "delta": {"role": "assistant"} | {"content": text}}]} for text in texts
    ]
    return ": ping\n\n" + "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end


def test_a_worker_of_a_model_is_asked_by_a_streaming_chat_request() -> None:
    asked: list[dict[str, Any]] = []

    def ask(node: str, request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return answer(body=events("", "it ", None, "serves"))

    assert prove(CHAT, ask) == Proof("n1", "n2/decode-0", None, 12.5, "it serves")
    assert asked[0]["url"] == "http://127.0.0.1:8000/v1/chat/completions"
    assert json.loads(asked[0]["body"]) == {
        "model": "m",
        "messages": [{"role": "user", "content": "dynoctl asks whether the whole path serves"}],
        "stream": True,
        "max_tokens": 8,
    }


def test_each_worker_is_asked_for_its_own_model() -> None:
    text = """
name: c
model: {id: a}
engine: {kind: mock}
roles:
  frontend: {}
  decode: [{}, {model: {id: /models/b, served_name: b}}]
"""
    assert models(parse(text, "t.yaml")) == {("local", "decode-0"): "a", ("local", "decode-1"): "b"}
    assert models(parse(text.replace("mock", "hello"), "t.yaml")) == {}
    found = routes((FRONT, WORKER), {("n2", "decode-0"): "b"})
    assert [(route.model, route.remote_prefill) for route in found] == [("b", False)]


def test_only_a_model_with_prefill_workers_has_to_show_a_remote_prefill() -> None:
    text = """
name: c
model: {id: a}
engine: {kind: mock}
roles:
  frontend: {}
  decode: [{}, {model: {id: b}}]
  prefill: {model: {id: b}}
disagg: {mode: always}
"""
    assert helped(parse(text, "t.yaml")) == {("local", "decode-1")}
    found = routes((FRONT, WORKER, unit("decode-1", "decode")), {}, {("n2", "decode-0")})
    assert [route.remote_prefill for route in found] == [True, False]


def error(message: str) -> str:
    return json.dumps({"error": {"message": message}})


UNPROVEN: dict[str, tuple[Route, dict[str, Any], str]] = {
    "no answer": (
        LOCAL,
        {"ok": False, "error": "127.0.0.1:8000 refuses connections: nothing listens there"},
        "127.0.0.1:8000 refuses connections: nothing listens there",
    ),
    "an error of ours": (
        LOCAL,
        answer(status=503, body=error("no decode worker is known")),
        "status 503: no decode worker is known",
    ),
    "an error of somebody else": (LOCAL, answer(status=502, body="<html>bad\n"), "status 502: <html>bad"),
    "an error in another shape": (LOCAL, answer(status=400, body='["x"]'), 'status 400: ["x"]'),
    "an error without a word": (LOCAL, answer(status=500, body=""), "status 500: no body"),
    "another worker": (
        LOCAL,
        answer(headers={"x-dyno-worker": "n1/decode-9"}),
        "n1/decode-9 answered in its place",
    ),
    "no worker": (LOCAL, answer(headers={}), "nobody answered in its place"),
    "nothing": (LOCAL, answer(body='{"worker_output": ""}'), "the output is empty"),
    "no JSON": (LOCAL, answer(body="hello\n"), "the answer is not what a worker says: hello"),
    "other JSON": (LOCAL, answer(body="[]"), "the answer is not what a worker says: []"),
    "a stream that breaks off": (
        CHAT,
        answer(body='data: {"choices": []}\n\n'),
        'the answer is not what a worker says: data: {"choices": []}',
    ),
    "a stream with an error in it": (
        CHAT,
        answer(body='data: {"error": {"message": "no"}}\n\ndata: [DONE]\n\n'),
        'the answer is not what a worker says: data: {"error": {"message": "no"}}\n\ndata: [DONE]',
    ),
    "a stream without a token": (CHAT, answer(body=events("", None)), "the output is empty"),
    "a local prefill": (
        REMOTE,
        answer(),
        "the prefill was done by the worker itself, not by a prefill worker",
    ),
}


@pytest.mark.parametrize("case", UNPROVEN)
def test_what_proves_nothing(case: str) -> None:
    route, answered, why = UNPROVEN[case]
    with pytest.raises(NotReady) as caught:
        prove(route, lambda node, request: answered)
    assert str(caught.value) == f"no token came back from n2/decode-0 through n1/frontend-0: {why}"
    assert caught.value.next == "dynoctl logs c --role n2/decode-0"
