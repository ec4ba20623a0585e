"""OpenAI's API over mock engines: whole and streamed, with fused roles and with every role on its own."""

from __future__ import annotations

import json
import urllib.request

import pytest

from dyno_runtime.settings import RoleName
from tests.runtime.cluster import Cluster, request
from tests.runtime.serving.client import chat, complete, post

pytestmark = pytest.mark.servers

LAYOUTS: list[tuple[tuple[RoleName, ...], ...]] = [
    (("frontend", "processor", "router"),),
    (("frontend",), ("processor",), ("router",)),
    (("frontend",),),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["fused", "apart", "frontend-alone"])
def test_streamed_and_whole_answers_are_the_same_through_every_layout(mocks: Cluster, layout):
    front, *_ = [mocks.add("node1", *roles) for roles in layout]
    mocks.add("node1", "decode")
    mocks.add("node2", "decode")
    mocks.ready()
    whole = chat(front.url, "Tell me a joke", max_tokens=40, seed=1)
    assert whole.status == 200, whole.body
    assert whole.finish() in ("length", "stop")
    usage = whole.json["usage"]
    prompt = len(b"user: Tell me a joke\nassistant: ")
    assert usage["prompt_tokens"] == prompt
    assert usage["completion_tokens"] == len(whole.text())
    assert usage["total_tokens"] == prompt + len(whole.text())
    assert whole.headers["x-dyno-worker"] in ("node1/decode-0", "node2/decode-1")
    assert whole.headers["x-dyno-prefill"] == "local"
    streamed = chat(
        front.url,
        "Tell me a joke",
        max_tokens=40,
        seed=1,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert streamed.headers["x-dyno-prefill"] == "local"
    assert (streamed.text(), streamed.finish()) == (whole.text(), whole.finish())
    last = streamed.events[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == len(whole.text())
    assert streamed.events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chat(front.url, "Tell me a joke", max_tokens=40, seed=2).text() != whole.text()


def test_choices_stops_logprobs_and_echo(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.ready()
    three = chat(front.url, "hi", n=3, max_tokens=12, seed=5, stream=True)
    each = chat(front.url, "hi", n=3, max_tokens=12, seed=5)
    texts = [three.text(index) for index in range(3)]
    assert texts == [each.text(index) for index in range(3)]
    assert len(set(texts)) == 3
    assert each.json["usage"]["completion_tokens"] == 36

    plain = complete(front.url, "once", max_tokens=64, seed=3, ignore_eos=True).text()
    stop = plain[20:23]
    place = plain.index(stop)
    stopped = complete(front.url, "once", max_tokens=64, seed=3, ignore_eos=True, stop=[stop])
    assert (stopped.text(), stopped.finish()) == (plain[:place], "stop")
    assert stopped.json["usage"]["completion_tokens"] == place + 3
    streamed = complete(front.url, "once", max_tokens=64, seed=3, ignore_eos=True, stop=stop, stream=True)
    assert (streamed.text(), streamed.finish()) == (plain[:place], "stop")

    told = chat(front.url, "hi", max_tokens=5, logprobs=True, top_logprobs=2, ignore_eos=True)
    content = told.json["choices"][0]["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == told.text()
    assert [len(one["top_logprobs"]) for one in content] == [2] * 5
    told = complete(front.url, "hi", max_tokens=5, logprobs=1, ignore_eos=True, echo=False)
    logprobs = told.json["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == told.text()
    assert logprobs["text_offset"] == [0, 1, 2, 3, 4]

    echoed = complete(front.url, "once", max_tokens=4, seed=3, echo=True, ignore_eos=True)
    assert echoed.text() == "once" + plain[:4]
    many = complete(front.url, ["once", "hi"], max_tokens=4, seed=3, ignore_eos=True)
    assert many.text(0) == plain[:4]
    assert many.json["usage"]["prompt_tokens"] == 6


def test_the_second_time_the_prompt_is_cached(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.ready()
    said = "a long prompt that fills several blocks of sixteen tokens each, one token for a byte"
    first = chat(front.url, said, max_tokens=2).json["usage"]
    second = chat(front.url, said, max_tokens=2).json["usage"]
    assert first["prompt_tokens_details"] == {"cached_tokens": 0}
    assert second["prompt_tokens_details"]["cached_tokens"] >= 64


def test_models_and_the_description(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.ready()
    models = request(f"{front.url}/v1/models", None, {}).json
    assert [(one["id"], one["max_model_len"]) for one in models["data"]] == [("mock-model", 4096)]
    assert request(f"{front.url}/v1/models/mock-model", None, {}).json["id"] == "mock-model"
    unknown = request(f"{front.url}/v1/models/mock", None, {})
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")
    spec = request(f"{front.url}/openapi.json", None, {}).json
    assert set(spec["paths"]) >= {"/v1/chat/completions", "/v1/completions", "/v1/models"}
    chat(front.url, "hi", max_tokens=3)
    with urllib.request.urlopen(f"{front.url}/metrics") as answer:
        figures = answer.read().decode()
    assert 'dyno_requests_total{status="200"} 1' in figures
    assert "dyno_answer_tokens_total 3" in figures
    assert 'dyno_requests_in_flight{role="frontend"} 0' in figures


REFUSED = [
    (b"{", 400, "invalid_json"),
    (b"\xff\xfe", 400, "invalid_json"),
    (b'{"model": "mock-model", "messages": [{"role": "user", "content": "\xff"}]}', 400, "invalid_json"),
    (b'{"model":"mock-model","messages":' + b"[" * 100_000, 400, "invalid_value"),
    ({"model": "mock-model"}, 400, "missing_required_parameter"),
    ({"messages": [{"role": "user", "content": "hi"}], "model": "mock"}, 404, "model_not_found"),
    ({"max_tokens": -1}, 400, "invalid_value"),
    ({"max_tokens": "many"}, 400, "invalid_value"),
    ({"n": 100_000}, 400, "invalid_value"),
    ({"temperature": 9}, 400, "invalid_value"),
    ({"nonsense": 1}, 400, "unknown_parameter"),
    ({"max_tokens": 5000}, 400, "context_length_exceeded"),
    ({"messages": [{"role": "user", "content": "x" * 5000}]}, 400, "context_length_exceeded"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, "invalid_json"),
    ({"messages": []}, 400, "invalid_value"),
    ({"response_format": {"type": "json_object"}}, 400, None),
]


def test_what_is_wrong_is_refused_and_says_why(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.ready()
    for wrong, status, code in REFUSED:
        body = wrong
        if isinstance(wrong, dict) and "model" not in wrong:
            body = {"model": "mock-model", "messages": [{"role": "user", "content": "hi"}], **wrong}
        said = post(front.url, "/v1/chat/completions", body)
        error = said.json["error"]
        assert (said.status, error["type"]) == (status, "invalid_request_error"), (wrong, said.body)
        if code is not None:
            assert error["code"] == code, (wrong, said.body)
        assert error["message"]
    huge = post(front.url, "/v1/chat/completions", b'{"model":"' + b"x" * 9_000_000 + b'"}')
    assert huge.status == 413
    assert chat(front.url, "still there", max_tokens=3).status == 200


def test_a_probe_names_its_worker_and_an_unknown_one_is_refused(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.add("node2", "decode")
    mocks.ready()
    for place in ("node1/decode-0", "node2/decode-1"):
        probe = {"x-dyno-probe": "1", "x-dyno-target": place}
        assert chat(front.url, "hi", max_tokens=1, headers=probe).headers["x-dyno-worker"] == place
    gone = chat(front.url, "hi", max_tokens=1, headers={"x-dyno-target": "node9/decode-0"})
    assert gone.status == 404
    assert json.loads(gone.body)["error"]["message"] == "there is no decode worker node9/decode-0"
