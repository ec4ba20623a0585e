"""What changes while the cluster runs: where prefill runs, which models there are, and what they are called."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import urllib.request
from typing import Any

import pytest

from dyno_runtime.settings import Disagg, Model
from tests.runtime.cluster import Cluster, Unit
from tests.runtime.serving.client import chat, complete
from tests.runtime.serving.routes import ask, delete, put, tokens
from tests.servers import wait_for

pytestmark = pytest.mark.servers


def models(unit: Unit, *words: str) -> tuple[int, Any]:
    """The command on a unit's settings: exit status, and what it printed, JSON or a sentence."""
    argv = [sys.executable, "-m", "dyno_runtime", "models", str(unit.file), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


def offered(unit: Unit) -> list[str]:
    """The names in /v1/models."""
    with urllib.request.urlopen(f"{unit.url}/v1/models", timeout=5) as answer:
        return sorted(one["id"] for one in json.loads(answer.read())["data"])


def etcd_lease(cluster: Cluster, verb: str, name: str) -> dict[str, Any]:
    """A call of etcd's about the lease of a further name."""
    key = base64.b64encode(f"/{cluster.name}/models/{name}".encode()).decode()
    found = gateway(cluster, "kv/range", {"key": key})["kvs"][0]
    path = "lease/revoke" if verb == "revoke" else "lease/timetolive"
    return gateway(cluster, path, {"ID": found["lease"]})


def gateway(cluster: Cluster, path: str, document: dict[str, Any]) -> dict[str, Any]:
    wanted = urllib.request.Request(f"{cluster.etcd_url}/v3/{path}", json.dumps(document).encode())
    with urllib.request.urlopen(wanted, timeout=5) as answer:
        return dict(json.loads(answer.read()))


def test_the_way_of_prefill_changes_with_its_key(mocks: Cluster):
    mocks.disagg = Disagg("conditional", max_local_prefill_length=1000)
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.add("node2", "prefill")
    mocks.ready()
    key = "config/disagg/mock-model"
    number = iter(range(1, 10_000))

    def prefill_of_a_new_prompt() -> str:
        said = ask(front, tokens(*(20 * next(number) + block for block in range(10))))
        return said.headers["x-dyno-prefill"]

    assert prefill_of_a_new_prompt() == "local"
    put(mocks, key, {"max_local_prefill_length": 10})
    remote = "remote:node2/prefill-0"
    wait_for(lambda: prefill_of_a_new_prompt() == remote, "prompts are prefilled elsewhere")
    bad = {"max_local_prefill_length": -1}
    put(mocks, key, bad)
    sentence = (
        f"/{mocks.name}/{key} is refused, and what was there before stays: "
        "Expected `int` >= 0 - at `$.max_local_prefill_length`"
    )
    decode = mocks.units[1]
    wait_for(lambda: decode.role()["problem"] == sentence, "the worker says what is wrong")
    assert prefill_of_a_new_prompt() == remote
    put(mocks, key, "{not json")
    wait_for(lambda: "JSON is malformed" in (decode.role()["problem"] or ""), "that is refused, too")
    assert prefill_of_a_new_prompt() == remote
    put(mocks, "config/disagg/mock-model-2", {"max_local_prefill_length": 5000})
    assert prefill_of_a_new_prompt() == remote
    put(mocks, key, {"mode": "off"})
    wait_for(lambda: prefill_of_a_new_prompt() == "local", "prefill stays")
    assert decode.role()["problem"] is None
    put(mocks, key, {"max_local_prefill_length": 10})
    wait_for(lambda: prefill_of_a_new_prompt() == remote, "and travels again")
    delete(mocks, key)
    wait_for(lambda: prefill_of_a_new_prompt() == "local", "the operator's value is back")


def test_a_prompt_that_the_worker_holds_stays_however_long_it_is(mocks: Cluster):
    mocks.disagg = Disagg("conditional", max_local_prefill_length=40)
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.add("node2", "prefill")
    mocks.ready()
    begin = tuple(range(20))
    first = ask(front, tokens(*begin))
    assert first.headers["x-dyno-prefill"] == "remote:node2/prefill-0"

    def next_turn_stays() -> bool:
        said = ask(front, tokens(*begin, 900))
        return said.headers["x-dyno-prefill"] == "local"

    wait_for(next_turn_stays, "only the new tokens count")
    number = iter(range(1, 10_000))

    def longer_travels() -> bool:
        said = ask(front, tokens(*begin, *(1000 + 4 * next(number) + block for block in range(4))))
        return said.headers["x-dyno-prefill"] == "remote:node2/prefill-0"

    wait_for(longer_travels, "with more that is new it travels again")


def test_several_models_come_and_go(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.ready()
    assert offered(front) == ["mock-model"]
    mocks.model = Model("mock-model-large")
    large = mocks.add("node2", "decode")
    wait_for(lambda: offered(front) == ["mock-model", "mock-model-large"], "the second model is there")
    for name, worker in (("mock-model", "node1/decode-0"), ("mock-model-large", "node2/decode-1")):
        for _ in range(3):
            said = chat(front.url, "hi", model=name, max_tokens=3)
            assert (said.json["model"], said.headers["x-dyno-worker"]) == (name, worker)
    for name in ("mock", "mock-model-larg", "mock-model-large-2"):
        refused = chat(front.url, "hi", model=name)
        assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")
    assert large.end() == 0
    wait_for(lambda: offered(front) == ["mock-model"], "the second model went with its worker")
    assert chat(front.url, "hi", model="mock-model-large").status == 404


def test_a_further_name_is_added_used_listed_and_removed(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.add("node2", "decode")
    mocks.ready()
    assert models(front, "add", "org/chat") == (0, {"added": "org/chat", "model": "mock-model"})
    wait_for(lambda: offered(front) == ["mock-model", "org/chat"], "the name is there")
    by_name = complete(front.url, "once", model="org/chat", max_tokens=8, seed=4)
    assert by_name.json["model"] == "org/chat"
    assert by_name.text() == complete(front.url, "once", max_tokens=8, seed=4).text()
    one = {
        "name": "mock-model",
        "model": "mock-model",
        "engine": "mock",
        "path": None,
        "block_size": 16,
        "max_model_len": 4096,
        "workers": ["node1/decode-0", "node2/decode-1"],
        "ready": 2,
    }
    assert models(front, "list") == (0, {"models": [one, {**one, "name": "org/chat"}]})
    assert models(front, "add", "org/chat") == (1, "'org/chat' is a name already, of 'mock-model'")
    assert models(front, "add", "mock-model") == (1, "'mock-model' is a name already")
    # The reference compares prefixes here, so `org` could not be added beside `org/chat`.
    assert models(front, "add", "org", "mock-model")[0] == 0
    assert models(front, "add", "x", "mock") == (1, "no worker serves 'mock'; there is mock-model")
    assert models(front, "remove", "org") == (0, {"removed": "org", "model": "mock-model"})
    wait_for(lambda: offered(front) == ["mock-model", "org/chat"], "only that name went")
    assert models(front, "remove", "org") == (1, "there is no model 'org'; there is mock-model, org/chat")
    assert models(front, "remove", "mock-model") == (
        1,
        "'mock-model' is the name that its workers were given (node1/decode-0, node2/decode-1); "
        "it goes when they do: take them out of the topology",
    )
    assert models(front, "remove", "org/chat")[0] == 0
    wait_for(lambda: offered(front) == ["mock-model"], "the name is gone")
    assert chat(front.url, "hi", model="org/chat").status == 404
    assert models(front, "what") == (1, "models: say list, add NAME [MODEL] or remove NAME")


def test_a_further_name_lives_as_long_as_a_worker_of_its_model(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode", lease_ttl_s=2.0)
    mocks.add("node2", "decode", lease_ttl_s=2.0)
    mocks.ready()
    assert models(front, "add", "chat")[0] == 0
    wait_for(lambda: offered(front) == ["chat", "mock-model"], "the name is there")
    mocks.units[1].end(signal.SIGKILL)
    # Prolonged by the other one: what is left of the lease grows.
    left = int(etcd_lease(mocks, "timetolive", "chat")["TTL"])
    wait_for(lambda: int(etcd_lease(mocks, "timetolive", "chat")["TTL"]) < left, "time passes")
    wait_for(lambda: int(etcd_lease(mocks, "timetolive", "chat")["TTL"]) >= left, "the name is prolonged")
    # Lost with etcd's leases, not removed by anybody: it is made again.
    etcd_lease(mocks, "revoke", "chat")
    wait_for(lambda: "the name chat was lost" in mocks.units[2].log, "the worker notices")
    wait_for(lambda: offered(front) == ["chat", "mock-model"], "the name is back")
    mocks.units[2].end(signal.SIGKILL)
    wait_for(lambda: offered(front) == [], "nothing can be asked for")
    wait_for(lambda: models(front, "list") == (0, {"models": []}), "the name died with the last worker", 30.0)
    assert models(front, "remove", "chat")[0] in (0, 1)


def test_prefill_cannot_be_switched_on_where_nobody_pulls(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    decode = mocks.add("node1", "decode")
    mocks.ready()
    put(mocks, "config/disagg/mock-model", {"mode": "always"})
    sentence = (
        f"/{mocks.name}/config/disagg/mock-model is refused, and what was there before stays: "
        "mode cannot become 'always': the topology says off, so nobody pulls from the queue"
    )
    wait_for(lambda: decode.role()["problem"] == sentence, "the worker says what is wrong")
    put(mocks, "config/what/mock-model", {})
    other = (
        f"/{mocks.name}/config/what/mock-model is refused, and what was there before stays: "
        f"there is no such key; the keys are /{mocks.name}/config/disagg/MODEL and, likewise, routing"
    )
    wait_for(lambda: other in decode.log, "that key is not known")
    assert ask(front, tokens(1)).headers["x-dyno-prefill"] == "local"
