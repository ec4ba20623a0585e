"""Looking at nodes: one script each, a value each, an error where there is none."""

from __future__ import annotations

import json
import re
from typing import Any

from dynoctl.plan.facts import FIELD, UNIT
from dynoctl.plan.observed import Observed
from dynoctl.remote.connection import Completed
from dynoctl.remote.observe import Look, observe
from tests.dynoctl.plan.world import KIT, planned, topology
from tests.dynoctl.remote.nodes import fails, fleet, hosts, look


def looks(*names: str) -> dict[str, Look]:
    return {name: Look("~/.dynoctl", ("node-0a.pyz",)) for name in names}


def test_every_node_is_asked_once() -> None:
    made = hosts("n1", "n2")
    for host in made.values():
        look(host)
    seen = observe(fleet(made), "c", looks("n2", "n1"))
    assert list(seen.nodes) == ["n2", "n1"]
    assert seen.nodes["n1"].python == (3, 11, 2)
    assert seen.failed == {}
    assert [len(host.calls) for host in made.values()] == [1, 1]
    script = made["n1"].calls[0].script
    assert 'root="$HOME"/.dynoctl\n' in script
    assert 'base="$root/clusters/$cluster/n1"\n' in script
    assert "prepared=node-0a.pyz\n" in script
    assert made["n1"].calls[0].stdin == b""


def test_what_was_found_is_taken_apart() -> None:
    made = hosts("n1")
    state = {"phase": "running", "digest": "d", "boot_id": "boot", "pid": 7, "starttime": 5}
    stat = "7 (python) S " + " ".join(["0"] * 18) + " 5 0"
    unit = f"{UNIT}decode-0{FIELD}{FIELD}{FIELD}{json.dumps(state)}{FIELD}{stat}{FIELD}"
    lock = {"boot_id": "boot", "until_s": 2000.0, "who": "ada", "host": "laptop", "doing": "x", "since": "y"}
    look(made["n1"], units=unit, lock=json.dumps(lock), manifest='{"generation": 4}', have="node-0a.pyz\n")
    seen = observe(fleet(made), "c", looks("n1")).nodes["n1"]
    assert seen.units["decode-0"].alive
    assert seen.generation == 4
    assert seen.have == {"node-0a.pyz"}
    assert seen.lock is not None
    assert seen.lock.who == "ada"


def test_nodes_that_cannot_be_asked_are_named_and_delay_nobody() -> None:
    made = hosts("n1", "n2", "n3", "n4")
    look(made["n1"])
    made["n2"].answer(re.compile("^umask"), fails(127, "1\n2\n3\n4\n5\nsh: not found\n"))
    made["n3"].answer(re.compile("^umask"), Completed(0, b"This account is not available.\n", b""))
    made["n4"].faults.dies_at = 1
    seen = observe(fleet(made), "c", looks("n1", "n2", "n3", "n4"))
    assert list(seen.nodes) == ["n1"]
    assert {node: str(error) for node, error in seen.failed.items()} == {
        "n2": "n2: the look at the node ended with status 127",
        "n3": "n3: the look at the node was cut short",
        "n4": "n4: the connection was lost while a command was running",
    }
    assert seen.failed["n2"].detail == ("2", "3", "4", "5", "sh: not found")
    assert seen.failed["n3"].detail == ("This account is not available.",)


def test_a_thousand_nodes_are_observed_and_planned() -> None:
    names = [f"n{number}" for number in range(1000)]
    made = hosts(*names)
    for host in made.values():
        look(host)
    seen = observe(fleet(made), "c", looks(*names))
    assert (len(seen.nodes), seen.failed) == (1000, {})
    plan = planned(topology(json.dumps(big(names))), seen)
    assert len(plan.units) == 1003
    assert len({spec.digest for spec in plan.units}) == 1003
    assert len([step for step in plan.steps if step.title == KIT.node_program.title]) == 0


def big(names: list[str]) -> dict[str, Any]:
    return {
        "name": "c",
        "model": {"id": "m"},
        "engine": {"kind": "hello"},
        "nodes": {name: {"host": f"10.0.{index >> 8}.{index & 255}"} for index, name in enumerate(names)},
        "services": {"etcd": "n0", "nats": "n0"},
        "roles": {
            "frontend": {"node": "n0"},
            "processor": {"node": "n0"},
            "router": {"node": "n0"},
            "decode": {"nodes": names},
        },
    }


def test_no_nodes_are_an_empty_observation() -> None:
    assert observe(fleet({}), "c", {}) == Observed({}, {})
