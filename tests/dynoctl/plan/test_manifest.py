"""What a node keeps: enough to go on from anywhere, and the same as long as nothing changed."""

from __future__ import annotations

import json
from dataclasses import replace

from dynoctl.plan import manifest
from dynoctl.plan.manifest import Stamp, recorded_units, same
from dynoctl.plan.units import units
from dynoctl.topology.load import parse
from tests.dynoctl.plan.world import TWO, empty, fresh, planned, sites, topology, up


def test_a_manifest_holds_the_topology_the_ports_and_the_units_of_its_node() -> None:
    wanted = topology(TWO + "env: {API_KEY: hush}\n")
    found = up(wanted).nodes["n2"].manifest
    assert found is not None
    assert set(found) == {
        "version",
        "cluster",
        "node",
        "topology",
        "ports",
        "runtime",
        "units",
        "generation",
        "applied",
    }
    assert (found["version"], found["cluster"], found["node"], found["generation"]) == (1, "c", "n2", 1)
    assert found["applied"] == {"who": "ada", "host": "laptop", "at": "2026-01-01T00:00:00Z"}
    assert parse(json.dumps(found["topology"]), "manifest") == wanted
    assert found["ports"] == {"decode-0.metrics": 7800, "decode-0.stream": 7300}
    assert found["runtime"]["code"] == "/home/u/.dynoctl/code/0b"
    assert found["runtime"]["node_program"] == "/home/u/.dynoctl/node-0a.pyz"
    assert list(found["units"]) == ["decode-0"]
    assert found["units"]["decode-0"]["listens"] == [7300, 7800]


def test_a_manifest_reads_back_as_it_was_meant() -> None:
    wanted = topology(TWO)
    places = sites(wanted, fresh(wanted))
    body = manifest.body(wanted, places["n1"], units(wanted, places))
    again = json.loads(manifest.text(body, 7, Stamp("a", "b", "c")))
    assert same(again, body)
    assert again["generation"] == 7
    assert not same(None, body)
    assert not same({**again, "ports": {}}, body)


def test_units_come_back_as_far_as_judging_needs() -> None:
    seen = up(topology(TWO)).nodes["n1"]
    wanted = [spec for spec in planned(topology(TWO)).units if spec.node == "n1"]
    found = recorded_units(seen)
    assert [(spec.name, spec.roles, spec.listens, spec.digest) for spec in found] == [
        (spec.name, spec.roles, spec.listens, spec.digest) for spec in wanted
    ]
    assert recorded_units(replace(seen, manifest=None)) == ()
    assert recorded_units(empty("n1")) == ()


def test_secrets_are_told_in_parts_by_digest_alone() -> None:
    wanted = topology(TWO + "env: {API_KEY: hush-hush}\n")
    found = up(wanted).nodes["n1"].manifest
    assert found is not None
    assert "hush-hush" not in json.dumps(found["units"])
    assert "hush-hush" in json.dumps(found["topology"])  # which is why the file is 0600
