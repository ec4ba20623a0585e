"""JSON for programs: keys that stay."""

from __future__ import annotations

import json
from typing import Any

from dynoctl.errors import NodeError, Unreachable
from dynoctl.plan.observed import Holder, Observed
from dynoctl.plan.results import Proof, RoleState, Rung, StepResult
from dynoctl.plan.teardown import teardown
from dynoctl.show import json as show_json
from tests.dynoctl.plan.world import KIT, TWO, empty, planned, topology, up

DECODE = RoleState("n1", "decode-0", "decode", Rung.LOADED, "", 7, 12.34, 1)
ETCD = RoleState("n1", "etcd", "etcd", Rung.LISTENING, "", 8, 12.3)


def read(text: str) -> Any:
    return json.loads(text)


def test_a_plan() -> None:
    found = read(show_json.plan(planned(topology(TWO))))
    assert list(found) == [
        "cluster",
        "verb",
        "generation",
        "changes",
        "phases",
        "units",
        "unchanged",
        "warnings",
    ]
    assert (found["cluster"], found["verb"], found["generation"], found["changes"]) == ("c", "up", 1, True)
    assert [phase["phase"] for phase in found["phases"]] == ["prepare", "services", "roles"]
    assert found["phases"][1]["steps"][0] == {
        "node": "n1",
        "step": "StartUnit",
        "title": "start etcd on ports 2379, 2380",
        "why": "does not run yet",
        "interrupts": False,
    }
    assert list(found["units"][0]) == [
        *("node", "unit", "roles", "ports", "argv", "gpus", "env", "digest", "metrics"),
    ]
    assert found["units"][0]["ports"] == [2379, 2380]
    assert [one["metrics"] for one in found["units"]] == [
        None,
        None,
        "10.0.0.1:8000",
        "10.0.0.1:7800",
        "10.0.0.2:7800",
    ]


def test_a_plan_without_changes() -> None:
    found = read(show_json.plan(planned(topology(TWO), up(topology(TWO)))))
    assert (found["changes"], found["phases"]) == (False, [])
    assert found["unchanged"] == ["n1/etcd", "n1/nats", "n1/frontend-0", "n1/decode-0", "n2/decode-0"]


def test_a_role() -> None:
    assert show_json.state(DECODE, served=False) == {
        "node": "n1",
        "unit": "decode-0",
        "role": "decode",
        "rung": 4,
        "of": 5,
        "state": "loaded",
        "failed": False,
        "note": "",
        "pid": 7,
        "up_s": 12.3,
        "restarts": 1,
    }
    served = show_json.state(DECODE, served=True)
    assert (served["rung"], served["state"]) == (5, "serving")
    service = show_json.state(ETCD, served=True)
    assert (service["rung"], service["of"], service["state"]) == (2, 2, "listening")


def test_an_outcome() -> None:
    results = [StepResult("n1", "start etcd", 0.126)]
    proofs = [Proof("n1", "n1/decode-0", "n2/prefill-0", 12.345, "secret words")]
    found = read(show_json.outcome(planned(topology(TWO)), [DECODE], proofs, results, "http://a:1", 3.14159))
    assert list(found) == [
        "ok",
        "cluster",
        "generation",
        "changes",
        "address",
        "seconds",
        "steps",
        "roles",
        "proofs",
    ]
    assert found["seconds"] == 3.14
    assert found["steps"] == [
        {"node": "n1", "title": "start etcd", "seconds": 0.13, "error": None, "detail": []}
    ]
    assert found["roles"][0]["state"] == "serving"
    assert found["proofs"] == [
        {"through": "n1", "worker": "n1/decode-0", "remote_prefill": "n2/prefill-0", "milliseconds": 12.3}
    ]


def test_a_status() -> None:
    lock = Holder("ada", "laptop", "dynoctl up", "now")
    observed = Observed(
        {"n1": empty("n1", manifest={"generation": 3}, lock=lock), "n2": empty("n2")},
        {"n3": Unreachable("n3", "no answer", next="ping n3")},
    )
    found = read(show_json.status("c", observed, [DECODE], planned(topology(TWO)).units, serving=True))
    assert list(found) == ["cluster", "serving", "generation", "nodes", "roles", "figures", "metrics"]
    assert found["figures"] is None
    assert found["metrics"] == {
        "n1/frontend-0": "10.0.0.1:8000",
        "n1/decode-0": "10.0.0.1:7800",
        "n2/decode-0": "10.0.0.2:7800",
    }
    assert found["generation"] == 3
    assert found["nodes"] == {
        "n1": {
            "hostname": "n1",
            "generation": 3,
            "lock": {"who": "ada", "host": "laptop", "doing": "dynoctl up", "since": "now"},
        },
        "n2": {"hostname": "n2", "generation": 0, "lock": None},
        "n3": {"error": "n3: no answer", "detail": [], "next": "ping n3"},
    }


def test_targets_are_what_the_file_discovery_of_prometheus_reads() -> None:
    found = read(show_json.targets("c", planned(topology(TWO)).units))
    assert found[0] == {
        "targets": ["10.0.0.1:8000"],
        "labels": {"cluster": "c", "node": "n1", "unit": "frontend-0", "roles": "frontend,processor,router"},
    }
    assert [one["targets"] for one in found[1:]] == [["10.0.0.1:7800"], ["10.0.0.2:7800"]]


def test_a_teardown() -> None:
    plan = teardown("c", up(topology(TWO)), KIT.node_program)
    bad = StepResult("n2", "stop decode-0", 1.0, "it does not end", ("pid 7",))
    found = read(show_json.teardown(plan, iter([StepResult("n1", "x", 1.0), bad])))
    assert list(found) == ["ok", "cluster", "changes", "steps"]
    assert (found["ok"], found["changes"]) == (False, True)
    assert found["steps"][1] == {
        "node": "n2",
        "title": "stop decode-0",
        "seconds": 1.0,
        "error": "it does not end",
        "detail": ["pid 7"],
    }
    assert read(show_json.teardown(plan, []))["ok"] is True


def test_an_error() -> None:
    error = NodeError("n1", "it broke", detail=["a"], next="dynoctl up")
    assert show_json.error(error) == {"error": "n1: it broke", "detail": ["a"], "next": "dynoctl up"}


def test_text_stays_readable() -> None:
    assert show_json.line({"ü": [1]}) == '{"ü": [1]}'
    assert show_json.document({"ü": [1]}) == '{\n  "ü": [\n    1\n  ]\n}'
