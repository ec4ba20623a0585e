"""The plan of `down`: frontends first, services last, a proof on every node, and nothing where nothing is."""

from __future__ import annotations

from dataclasses import replace

from dynoctl.errors import Unreachable
from dynoctl.plan.observed import Observed, UnitSeen
from dynoctl.plan.steps import ProveGone, PurgeServices
from dynoctl.plan.teardown import teardown
from tests.dynoctl.plan.world import KIT, TWO, carried_out, empty, fresh, titles, topology, up


def down(observed: Observed) -> list[tuple[str, list[str]]]:
    plan = teardown("c", observed, KIT.node_program)
    return [
        (phase.name, [f"{step.node}: {step.title}" for step in phase.steps])
        for phase in plan.phases
        if phase.steps
    ]


def test_a_whole_cluster() -> None:
    observed = up(topology(TWO))
    assert down(observed) == [
        ("drain", ["n1: stop frontend-0"]),
        ("stop", ["n1: stop decode-0", "n2: stop decode-0"]),
        ("stop-services", ["n1: stop etcd", "n1: stop nats"]),
        (
            "remove",
            [
                "n1: prove that nothing is left",
                "n1: remove its folder",
                "n2: prove that nothing is left",
                "n2: remove its folder",
            ],
        ),
    ]


def test_down_twice_has_no_steps() -> None:
    observed = up(topology(TWO))
    plan = teardown("c", observed, KIT.node_program)
    assert plan.generation == 1
    after = carried_out(plan, observed)
    assert down(after) == []
    assert teardown("c", after, KIT.node_program).generation == 0
    assert down(fresh(topology(TWO))) == []


def test_reasons() -> None:
    plan = teardown("c", up(topology(TWO)), KIT.node_program)
    assert list(dict.fromkeys(step.why for step in plan.steps)) == [
        "no new requests, finish those in flight",
        "the cluster goes down",
        "the roles are gone",
        "a stop that leaves something is no stop",
        "nothing runs here any more",
    ]


def test_the_proof_looks_at_every_port_that_was_given() -> None:
    plan = teardown("c", up(topology(TWO)), KIT.node_program)
    proofs = {step.node: step.ports for step in plan.steps if isinstance(step, ProveGone)}
    assert proofs == {"n1": (2379, 2380, 4222, 7000, 7300, 7800, 8000), "n2": (7300, 7800)}


def test_the_proof_leaves_out_ports_that_a_unit_need_not_hold() -> None:
    """Another cluster may have found one of them free, and listens there."""
    observed = up(topology(TWO))
    manifest = dict(observed.nodes["n2"].manifest or {})
    manifest["ports"] = {**manifest["ports"], "decode-0.kv.0": 5600}
    seen = replace(observed.nodes["n2"], manifest=manifest)
    assert 5600 in seen.own_ports
    plan = teardown("c", Observed({**observed.nodes, "n2": seen}), KIT.node_program)
    assert [step.ports for step in plan.steps if isinstance(step, ProveGone)][1] == (7300, 7800)


def test_a_newer_dynoctl_brings_its_node_program() -> None:
    newer = replace(KIT.node_program, place="node-1a.pyz")
    plan = teardown("c", up(topology(TWO)), newer)
    assert [f"{step.node}: {step.title}" for step in plan.phase("prepare").steps] == [
        "n1: push the node program (130 kB)",
        "n2: push the node program (130 kB)",
    ]


def test_units_without_a_manifest_are_known_by_their_names() -> None:
    units = {
        name: UnitSeen(name, "d", "running", alive=True)
        for name in ("decode-0", "etcd", "frontend-0", "nats", "prefill-10")
    }
    assert down(Observed({"n1": empty("n1", units=units)})) == [
        ("prepare", ["n1: push the node program (130 kB)"]),
        ("drain", ["n1: stop frontend-0"]),
        ("stop", ["n1: stop decode-0", "n1: stop prefill-10"]),
        ("stop-services", ["n1: stop etcd", "n1: stop nats"]),
        ("remove", ["n1: prove that nothing is left", "n1: remove its folder"]),
    ]


def test_half_started_units_are_stopped_too() -> None:
    half = UnitSeen("decode-0", None, "unknown", alive=False, supervised=False)
    observed = Observed({"n1": empty("n1", units={"decode-0": half}, have=frozenset({"node-0a.pyz"}))})
    assert down(observed)[0] == ("stop", ["n1: stop decode-0"])


def test_a_node_that_was_prepared_and_no_more() -> None:
    node = up(topology(TWO)).nodes["n2"]
    assert down(Observed({"n2": replace(node, units={})})) == [
        ("remove", ["n2: prove that nothing is left", "n2: remove its folder"])
    ]


def test_a_node_that_did_not_answer_has_no_steps() -> None:
    observed = up(topology(TWO))
    lost = Observed({"n1": observed.nodes["n1"]}, {"n2": Unreachable("n2", "no answer")})
    assert {step.node for step in teardown("c", lost, KIT.node_program).steps} == {"n1"}


def test_existing_services_are_purged_once_before_anything_of_theirs_is_gone() -> None:
    urls = "services: {etcd: {url: 'http://e:1'}, nats: n1}\n"
    observed = up(topology(TWO.replace("services: {etcd: n1, nats: n1}\n", urls)))
    plan = teardown("c", observed, KIT.node_program)
    phases = [phase.name for phase in plan.phases if phase.steps]
    assert phases == ["drain", "stop", "purge", "stop-services", "remove"]
    (purge,) = plan.phase("purge").steps
    assert isinstance(purge, PurgeServices)
    assert purge.node == "n1"
    assert purge.code == "/home/u/.dynoctl/code/0b"
    assert purge.settings_path == "/home/u/.dynoctl/clusters/c/n1/units/decode-0/settings.json"
    assert purge.why == "etcd: not ours to stop"


def test_an_offer_that_was_cut_off_is_not_who_cleans_services_of_others() -> None:
    urls = "services: {etcd: {url: 'http://e:1'}, nats: {url: 'nats://e:2'}}\n"
    observed = up(topology(TWO.replace("services: {etcd: n1, nats: n1}\n", urls)))
    offer = UnitSeen("stage-5c1f0e2a", "d", "running", alive=True)
    prepared = replace(observed.nodes["n1"], units={offer.name: offer})
    both = Observed({"n1": prepared, "n2": observed.nodes["n2"]})
    (purge,) = teardown("c", both, KIT.node_program).phase("purge").steps
    assert isinstance(purge, PurgeServices)
    assert purge.settings_path == "/home/u/.dynoctl/clusters/c/n2/units/decode-0/settings.json"
    alone = teardown("c", Observed({"n1": prepared}), KIT.node_program)
    assert alone.phase("purge").steps == ()  # no role ever wrote there
    assert [step.title for step in alone.phase("stop").steps] == ["stop stage-5c1f0e2a"]


def test_services_of_our_own_are_not_purged() -> None:
    assert not [name for name, _ in down(up(topology(TWO))) if name == "purge"]


def test_what_runs_counts_and_not_what_the_file_says_now() -> None:
    observed = up(topology(TWO, "roles.decode.replicas=3"))
    assert sum("stop decode" in title for title in titles(teardown("c", observed, KIT.node_program))) == 6
