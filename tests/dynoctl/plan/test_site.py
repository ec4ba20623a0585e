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
