"""All nodes of a run: dialled when first needed, results in the file's order, errors apart."""

from __future__ import annotations

import pytest

from dynoctl.errors import DynoctlError, Unreachable, UsageError
from dynoctl.remote.connection import Connection
from tests.dynoctl.remote.nodes import fleet, hosts


def name(connection: Connection) -> str:
    return connection.node.upper()


def test_each_node_once_and_in_order() -> None:
    made = hosts("n1", "n2", "n3")
    found = fleet(made).each(["n3", "n1", "n2"], name)
    assert found == ({"n3": "N3", "n1": "N1", "n2": "N2"}, {})
    assert list(found[0]) == ["n3", "n1", "n2"]


def test_a_connection_is_made_once_and_kept() -> None:
    made = hosts("n1")
    nodes = fleet(made)
    nodes.each(["n1"], name)
    nodes.each(["n1"], name)
    assert nodes.connection("n1").node == "n1"
    assert made["n1"].dialled == 1


def test_an_error_of_one_node_is_its_own() -> None:
    made = hosts("n1", "n2")
    made["n1"].faults.connect = Unreachable("n1", "no answer")
    results, errors = fleet(made).each(["n1", "n2"], name)
    assert results == {"n2": "N2"}
    assert {node: str(error) for node, error in errors.items()} == {"n1": "n1: no answer"}


def test_an_error_of_nobody_in_particular_is_raised() -> None:
    made = hosts("n1")
    made["n1"].faults.connect = UsageError("the SSH config cannot be understood")
    with pytest.raises(UsageError, match="the SSH config cannot be understood"):
        fleet(made).each(["n1"], name)


def test_no_nodes_are_no_trouble() -> None:
    assert fleet({}).each([], name) == ({}, {})
    assert fleet({}).each([], name, all_at_once=True) == ({}, {})


def test_all_at_once_waits_for_nobody() -> None:
    """With a window of one, a node that waits for another would wait for ever."""
    import threading

    met = threading.Barrier(5, timeout=20)
    made = hosts(*(f"n{number}" for number in range(5)))
    results, errors = fleet(made, window=1).each(made, lambda _: met.wait() >= 0, all_at_once=True)
    assert (len(results), errors) == (5, {})


def test_as_they_end_yields_errors_too() -> None:
    made = hosts("n1", "n2")
    made["n2"].faults.connect = Unreachable("n2", "no answer")
    found = dict(fleet(made).as_they_end(["n1", "n2"], name))
    assert found["n1"] == "N1"
    assert isinstance(found["n2"], DynoctlError)
