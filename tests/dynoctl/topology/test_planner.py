"""The planner in a topology: where it runs, what it is told, and that docs/planner.md says the same."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dyno_runtime import settings as runtime
from dynoctl.topology.load import parse
from dynoctl.topology.roles import Planner
from tests.dynoctl.plan.test_units import settings, specs
from tests.dynoctl.plan.world import ONE, TWO

PAGE = (Path(__file__).parents[3] / "docs" / "planner.md").read_text()
GPUS = """\
name: c
model: {id: m}
engine: {kind: vllm}
nodes: {n1: {host: 10.0.0.1, gpus: 8}, n2: {host: 10.0.0.2, gpus: 8}}
services: {etcd: n1, nats: n1}
roles: {frontend: {node: n1}, decode: {node: n1, tp: 4}, prefill: {node: n2, tp: 8}, planner: {node: n1}}
disagg: {mode: always}
"""


def test_the_defaults_of_topology_runtime_and_page_are_the_same() -> None:
    written, told = Planner(), runtime.Planner()
    keys = {"interval_s", "pull_s", "min_workers", "kv_up", "kv_down", "queue_up", "queue_down"}
    assert {key: getattr(written, key) for key in keys} == {key: getattr(told, key) for key in keys}
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    said = {
        key.strip("`"): default
        for names, defaults, _ in (row for row in rows)
        for key, default in zip(names.removeprefix("| ").split(", "), defaults.split(", "), strict=False)
    }
    assert keys | {"max_gpus"} == said.keys()
    assert {key: float(said[key]) for key in keys} == {key: float(getattr(told, key)) for key in keys}
    assert (said["max_gpus"], told.max_gpus) == ("none", None)


def test_the_example_of_the_page_is_valid() -> None:
    example = PAGE.split("```yaml\n")[1].partition("```")[0]
    text = ONE.replace("decode: {}", "decode: {}, " + example.split("\n")[1].strip())
    assert parse(text, "docs/planner.md").roles.planner == (Planner(interval_s=60, kv_up=0.85),)


def test_it_shares_the_first_process_of_a_frontend_and_is_there_once() -> None:
    text = ONE.replace("decode: {}", "decode: {}, planner: {interval_s: 5}")
    found = specs(text, "roles.frontend.workers=3")
    with_it = [name for name, spec in found.items() if "planner" in spec.roles]
    assert with_it == ["local/frontend-0"]
    assert settings(found["local/frontend-0"]).planner.interval_s == 5
    assert settings(found["local/decode-0"]).planner == runtime.Planner()


def test_alone_it_is_a_process_with_metrics_of_its_own() -> None:
    text = TWO.replace("roles: {", "roles: {planner: {node: n2}, ")
    found = specs(text)["n2/planner-0"]
    assert found.listens == (6900, 6800)
    assert settings(found).metrics == runtime.Endpoint("10.0.0.2", 6800)


def test_it_counts_the_gpus_of_a_worker() -> None:
    found = msgspec.structs.asdict(settings(specs(GPUS)["n1/frontend-0"]).planner)
    assert (found["max_gpus"], found["decode_gpus"], found["prefill_gpus"]) == (None, 4, 8)
    named = settings(specs(GPUS, "roles.planner.max_gpus=12")["n1/frontend-0"]).planner
    assert named.max_gpus == 12


def test_every_shipped_topology_of_a_language_model_has_one() -> None:
    shipped = sorted((Path(__file__).parents[3] / "topologies").glob("*.yaml"))
    read = {path.name: parse(path.read_bytes(), path.name) for path in shipped}
    without = [name for name, one in read.items() if not one.roles.planner]
    assert without == [name for name, one in read.items() if one.engine.kind == "hello"]
