"""Rules: what follows from a value that could not be read is not reported, and kinds are those of the runtime."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from dyno_runtime import settings
from dynoctl.topology.check import RULES, findings
from dynoctl.topology.engine import ENGINE_KINDS
from dynoctl.topology.load import parse
from dynoctl.topology.problem import InvalidTopology
from dynoctl.topology.roles import ROLES, Policy, RoleName

HEAD = "name: x\nmodel: {id: m}\nengine: {kind: hello}\n"
NODES = "nodes:\n  a: {host: 10.0.0.1}\n  b: {host: 10.0.0.2}\nservices: {etcd: a, nats: a}\n"


def messages(text: str) -> list[str]:
    with pytest.raises(InvalidTopology) as caught:
        parse(text, "t.yaml")
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HEAD + NODES + "roles: {frontend: {node: 5}, decode: {node: a}}",
            "roles.frontend.node: expected a name of at most 63 lowercase letters, digits and inner hyphens, "
            "found the number 5",
        ),
        (
            HEAD + "roles: {frontend: {}, decode: 5}",
            "roles.decode: expected a map, found the number 5",
        ),
        (
            HEAD + "roles: {frontend: {}, decode: {}, prefill: {}}\ndisagg: {mode: 1}",
            "disagg.mode: expected one of always, conditional, off, found the number 1",
        ),
        (
            HEAD
            + NODES.replace("b: {host: 10.0.0.2}", "b:")
            + "roles: {frontend: {node: a}, decode: {node: b}}",
            "nodes.b: expected a map, found nothing",
        ),
        (
            HEAD.replace("hello", "helo") + "roles: {frontend: {}, decode: {}}",
            "engine.kind: expected one of hello, mock, vllm, found 'helo'",
        ),
        (HEAD + "roles: 5", "roles: expected a map, found the number 5"),
        (HEAD, "roles: is missing"),
        (
            HEAD + "nodes: [a]\nroles: {frontend: {node: a}, decode: {node: b}}",
            "nodes: expected a map from names to maps, found a list",
        ),
        (
            HEAD
            + "nodes:\n  a: {host: 5}\n  b: {}\nservices: {etcd: b, nats: b}\n"
            + "roles: {frontend: {node: b}, decode: {node: b}}",
            "nodes.a.host: expected a host name, an address, or 'local', found the number 5",
        ),
        (
            HEAD.replace("hello}", "hello, block_size: x}")
            + "roles: {frontend: {}, decode: [{engine: {block_size: 32}}, {}]}",
            "engine.block_size: expected a whole number, 1 or more, found 'x'",
        ),
    ],
)
def test_what_only_follows_is_not_reported(text: str, expected: str) -> None:
    assert messages(text) == [expected]


def test_what_does_not_follow_is_reported_with_it() -> None:
    text = HEAD + NODES + "roles: {frontend: {node: 5}, decode: {node: c}}"
    assert len(messages(text)) == 2
    assert messages(text)[1] == "roles.decode.node: no node is called 'c'"


def test_a_section_behind_an_alias_is_reported_where_it_stands() -> None:
    text = HEAD + "roles: {frontend: {}, decode: [&w {node: nowhere}, *w]}"
    assert messages(text) == [
        "roles.decode.0.node: no node is called 'nowhere'",
        "roles.decode.1.node: no node is called 'nowhere'",
    ]


def test_two_nodes_that_only_look_alike_are_two() -> None:
    a = "  a: {host: gate, address: 10.0.0.1, ssh: {port: 1}}\n"
    b = "  b: {host: gate, address: 10.0.0.2, ssh: {port: 2}}\n"
    services = "services: {etcd: a, nats: a}\n"
    parse(HEAD + "nodes:\n" + a + b + services + "roles: {frontend: {node: a}, decode: {node: b}}", "t.yaml")


def test_a_cluster_on_loopback_addresses_alone_is_one() -> None:
    nodes = "nodes:\n  a: {host: 127.0.0.2}\n  b: {host: 127.0.0.3}\nservices: {etcd: a, nats: a}\n"
    parse(HEAD + nodes + "roles: {frontend: {node: a}, decode: {node: b}}", "t.yaml")


def test_this_machine_beside_others_with_an_address() -> None:
    nodes = "nodes:\n  a: {address: 10.0.0.9}\n  b: {host: 10.0.0.2}\nservices: {etcd: a, nats: a}\n"
    topology = parse(HEAD + nodes + "roles: {frontend: {node: a}, decode: {node: b}}", "t.yaml")
    assert topology.machines["a"].is_local
    assert topology.machines["a"].address == "10.0.0.9"


def test_the_same_port_on_two_nodes_is_free() -> None:
    parse(HEAD + NODES + "roles: {frontend: {nodes: [a, b]}, decode: {node: a}}", "t.yaml")


def test_every_rule_is_in_the_list_once_and_says_what_it_is_for() -> None:
    assert len(set(RULES)) == len(RULES)
    assert all(rule.__doc__ for rule in RULES)


def test_a_valid_topology_has_no_findings() -> None:
    assert list(findings(parse(HEAD + "roles: {frontend: {}, decode: {}}", "t.yaml"))) == []


def test_every_engine_is_one_that_the_runtime_takes() -> None:
    assert get_args(get_type_hints(settings.Engine)["kind"]) == ENGINE_KINDS
    assert set(get_args(settings.PolicyName)) == set(get_args(Policy))
    assert get_args(settings.RoleName) == get_args(RoleName) == ROLES
