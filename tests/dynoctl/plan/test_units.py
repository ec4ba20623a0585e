"""Every process as it is to be: argv, environment, files, ports, and what its digest is over."""

from __future__ import annotations

import json
from typing import Any

from dyno_runtime import settings as runtime
from dynoctl.plan.observed import Observed
from dynoctl.plan.steps import UnitSpec
from dynoctl.probe.token import helped
from tests.dynoctl.plan.world import ONE, TWO, empty, planned, topology

BASE = "/home/u/.dynoctl/clusters/c/n1"


def specs(text: str = TWO, *overrides: str, **seen: Any) -> dict[str, UnitSpec]:
    wanted = topology(text, *overrides)
    observed = Observed({name: empty(name, **seen) for name in wanted.machines})
    return {f"{spec.node}/{spec.name}": spec for spec in planned(wanted, observed).units}


def settings(spec: UnitSpec) -> runtime.ProcessSettings:
    ((_, content),) = spec.files
    return runtime.decode(content.encode())


def test_etcd() -> None:
    spec = specs()["n1/etcd"]
    assert spec.document == {
        "unit": "etcd",
        "cluster": "c",
        "node": "n1",
        "argv": [
            "/home/u/.dynoctl/bin/0d/etcd",
            *("--name", "etcd"),
            *("--data-dir", f"{BASE}/data/etcd"),
            *("--listen-client-urls", "http://10.0.0.1:2379"),
            *("--advertise-client-urls", "http://10.0.0.1:2379"),
            *("--listen-peer-urls", "http://127.0.0.1:2380"),
            *("--initial-advertise-peer-urls", "http://127.0.0.1:2380"),
            *("--initial-cluster", "etcd=http://127.0.0.1:2380"),
            *("--heartbeat-interval", "50"),
            *("--election-timeout", "250"),
            *("--auto-compaction-retention", "1"),
            *("--logger", "zap"),
            *("--log-level", "warn"),
        ],
        "env": {},
        "listens": [2379, 2380],
        "stop_grace_s": 10.0,
        "restart": {"max": 5, "within_s": 300.0, "first_wait_s": 0.5, "longest_wait_s": 30.0},
        "log": {"max_bytes": 10_000_000, "keep": 3},
        "backend": "agent",
    }
    assert spec.folder == f"{BASE}/units/etcd"
    assert spec.files == ()


def test_nats() -> None:
    spec = specs()["n1/nats"]
    assert spec.document["argv"] == [
        "/home/u/.dynoctl/bin/0c/nats-server",
        *("--addr", "10.0.0.1"),
        *("--port", "4222"),
        "--jetstream",
        *("--store_dir", f"{BASE}/data/nats"),
    ]
    assert spec.listens == (4222,)


def test_a_role() -> None:
    spec = specs()["n1/decode-0"]
    path = f"{BASE}/units/decode-0/settings.json"
    (env_digest,) = {spec.document["argv"][0].split("/")[5]}
    assert spec.document["argv"] == [
        f"/home/u/.dynoctl/envs/{env_digest}/bin/python",
        "-m",
        "dyno_runtime",
        path,
    ]
    assert spec.document["env"] == {
        "PYTHONPATH": "/home/u/.dynoctl/code/0b",
        "PYTHONUNBUFFERED": "1",
        "NATS_SERVER": "nats://10.0.0.1:4222",
        "ETCD_ENDPOINTS": "http://10.0.0.1:2379",
    }
    assert [name for name, _ in spec.files] == [path]
    assert spec.document["stop_grace_s"] > settings(spec).drain_s


def test_the_settings_of_a_worker() -> None:
    text = TWO.replace("{kind: hello}", "{kind: hello, block_size: 16, args: {a: 1}}")
    found = settings(specs(text, "roles.decode.engine.args.b=2")["n2/decode-0"])
    assert found == runtime.ProcessSettings(
        cluster="c",
        node="n2",
        unit="decode-0",
        roles=("decode",),
        services=runtime.Services(etcd=("http://10.0.0.1:2379",), nats="nats://10.0.0.1:4222"),
        stream=runtime.Endpoint(host="10.0.0.2", port=7300),
        model=runtime.Model(name="m"),
        engine=runtime.Engine(kind="hello", block_size=16, args={"a": 1, "b": 2}),
        health_path="/home/u/.dynoctl/clusters/c/n2/units/decode-0/health.json",
        metrics=runtime.Endpoint(host="10.0.0.2", port=7800),
    )


def test_a_fused_process_listens_for_clients_from_anywhere() -> None:
    found = settings(specs()["n1/frontend-0"])
    assert found.roles == ("frontend", "processor", "router")
    assert found.http == runtime.Endpoint(host="0.0.0.0", port=8000)
    assert found.stream == runtime.Endpoint(host="10.0.0.1", port=7000)


def test_a_cluster_of_this_machine_alone_listens_on_loopback_alone() -> None:
    found = settings(specs(ONE)["local/frontend-0"])
    assert found.http == runtime.Endpoint(host="127.0.0.1", port=8000)


def test_roles_that_are_not_fused_are_processes_of_their_own() -> None:
    found = specs(ONE, "roles.fused=false", "roles.router.policy=random")
    assert list(found) == [
        f"local/{name}" for name in ("etcd", "nats", "frontend-0", "processor-0", "router-0", "decode-0")
    ]
    assert settings(found["local/router-0"]).routing.policy == "random"
    assert settings(found["local/processor-0"]).http is None


def test_replicas_have_ports_one_after_the_other() -> None:
    found = specs(
        ONE, "roles.frontend.replicas=2", "roles.decode.replicas=2", "roles.decode.stream_port=9000"
    )
    listens = {name: spec.listens for name, spec in found.items() if spec.files}
    assert listens == {
        "local/frontend-0": (8000, 7000),
        "local/frontend-1": (8001, 7001),
        "local/decode-0": (9000, 7800),
        "local/decode-1": (9001, 7801),
    }


def test_disaggregation_is_told_to_every_process() -> None:
    text = ONE.replace("decode: {}", "decode: {}, prefill: {}") + (
        "disagg: {mode: conditional, max_local_prefill_length: 7, max_prefill_queue_size: 3, prefill_timeout_s: 4}\n"
    )
    wanted = runtime.Disagg("conditional", 7, 3, 4.0)
    assert {settings(spec).disagg for spec in specs(text).values() if spec.files} == {wanted}


def test_kv_is_kept_for_longer_than_a_prefill_is_waited_for() -> None:
    """Else a decode worker could be told to fetch what is another request's by then."""
    text = ONE.replace("{kind: hello}", "{kind: vllm, device: cpu}").replace(
        "decode: {}", "decode: {}, prefill: {}"
    )
    for timeout_s, lease_s in ((4, 30.0), (30, 45.0), (60, 90.0)):
        found = specs(f"{text}disagg: {{mode: always, prefill_timeout_s: {timeout_s}}}\n")
        transfer = settings(found["local/prefill-0"]).transfer
        assert transfer is not None
        assert transfer.lease_s == lease_s


def test_services_of_other_people_are_told_with_their_passwords() -> None:
    urls = "services: {etcd: {url: ['http://a:pw1@e:1', 'http://f:2']}, nats: {url: 'nats://u:pw2@n:3'}}\n"
    spec = specs(TWO.replace("services: {etcd: n1, nats: n1}\n", urls))["n2/decode-0"]
    assert settings(spec).services == runtime.Services(("http://a:pw1@e:1", "http://f:2"), "nats://u:pw2@n:3")
    assert spec.document["env"]["ETCD_ENDPOINTS"] == "http://a:pw1@e:1,http://f:2"
    assert spec.document["env"]["NATS_SERVER"] == "nats://u:pw2@n:3"


def test_environment_of_top_node_and_role_the_nearest_wins() -> None:
    text = TWO.replace("host: 10.0.0.2", "host: 10.0.0.2, env: {A: node, B: node}")
    found = specs(text + "env: {A: top, B: top, C: top}\n", "roles.decode.env.B=role")
    theirs = {name: found["n2/decode-0"].document["env"].get(name) for name in "ABC"}
    assert theirs == {"A": "node", "B": "role", "C": "top"}
    assert found["n1/frontend-0"].document["env"]["A"] == "top"


def test_a_model_of_its_own() -> None:
    text = ONE.replace("{id: m}", "{id: /models/m, served_name: m}")
    found = specs(text)
    assert settings(found["local/decode-0"]).model == runtime.Model(name="m", path="/models/m")


def test_the_digest_is_over_everything_but_the_supervising_program() -> None:
    base = specs()["n1/decode-0"]
    assert base.digest == specs()["n1/decode-0"].digest
    assert base.digest == specs(user_manager=True)["n1/decode-0"].digest
    others = [
        specs(TWO, "roles.decode.env.A=1")["n1/decode-0"],
        specs(TWO, "roles.decode.stream_port=9000")["n1/decode-0"],
        specs(TWO, "engine.block_size=32")["n1/decode-0"],
        specs(TWO, "model.id=other")["n1/decode-0"],
        specs(TWO.replace("name: c", "name: d"))["n1/decode-0"],
        specs(TWO, "services.nats.port=4333")["n1/decode-0"],
        specs()["n2/decode-0"],
    ]
    assert len({base.digest, *(spec.digest for spec in others)}) == len(others) + 1


def test_the_document_is_what_the_node_program_takes() -> None:
    from dyno_node.unit import _parse

    for spec in specs().values():
        unit = _parse(json.loads(json.dumps({**spec.document, "digest": spec.digest})))
        assert (unit.unit, unit.listens) == (spec.name, spec.listens)


def test_the_workers_of_a_frontend_share_its_port_and_each_has_a_processor_and_a_router() -> None:
    found = specs(
        ONE.replace(
            "frontend: {}, processor: {}", "frontend: {workers: 3, replicas: 2}, processor: {replicas: 2}"
        )
    )
    units = {name: spec for name, spec in found.items() if "frontend" in spec.roles}
    assert {name: (spec.roles, spec.listens) for name, spec in units.items()} == {
        f"local/frontend-{index}": (
            ("frontend", "processor", "router") if index < 3 else ("frontend", "processor"),
            (8000 + index // 3, 7000 + index, 7500 + index),
        )
        for index in range(6)
    }
    assert {settings(spec).http_workers for spec in units.values()} == {3}
    assert settings(found["local/decode-0"]).http_workers == 1


def test_a_worker_of_both_roles_is_one_process() -> None:
    text = ONE.replace("decode: {}", "decode: [{role: both}, {}]") + "disagg: {mode: always}\n"
    found = specs(text)
    assert {name: spec.roles for name, spec in found.items() if "decode" in spec.roles} == {
        "local/decode-0": ("decode", "prefill"),
        "local/decode-1": ("decode",),
    }
    assert settings(found["local/decode-0"]).roles == ("decode", "prefill")
    assert helped(topology(text)) == {("local", "decode-0"), ("local", "decode-1")}


def test_workers_that_are_not_fused_are_frontends_alone() -> None:
    text = ONE.replace("frontend: {}", "frontend: {workers: 2}")
    found = specs(text, "roles.fused=false")
    assert [name for name, spec in found.items() if spec.files] == [
        f"local/{name}" for name in ("frontend-0", "frontend-1", "processor-0", "router-0", "decode-0")
    ]


def test_the_policy_of_a_router_is_kv_unless_the_engine_is_hello() -> None:
    mock = ONE.replace("{kind: hello}", "{kind: mock}")
    assert settings(specs(ONE, "roles.router={}")["local/frontend-0"]).routing == runtime.Routing("similar")
    assert settings(specs(mock, "roles.router={}")["local/frontend-0"]).routing == runtime.Routing("kv")
    bounded = specs(mock, "roles.router={policy: prefix, max_waiting: 4, max_usage: 0.9}")
    assert settings(bounded["local/frontend-0"]).routing == runtime.Routing("prefix", 4, 0.9)
