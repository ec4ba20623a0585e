"""etcd and NATS are proven before any role uses them; what is said where they are not."""

from __future__ import annotations

from typing import Any

import pytest

from dynoctl.errors import NotReady
from dynoctl.plan.steps import Plan, Service, UnitSpec
from dynoctl.probe.services import prove_services

OURS = (
    UnitSpec("etcd", "n1", ("etcd",), "/u/etcd", {"listens": [2379]}),
    UnitSpec("nats", "n1", ("nats",), "/u/nats", {"listens": [4222]}),
)
ETCD = Service("etcd", "n1", "http://10.0.0.1:2379")
NATS = Service("nats", "n1", "nats://u:hush@10.0.0.1:4333", jetstream=True)


def plan(*services: Service, ours: bool = True) -> Plan:
    return Plan("c", "up", 1, (), units=OURS if ours else (), services=services)


def test_those_of_one_node_are_asked_at_once() -> None:
    asked: list[tuple[str, str, dict[str, Any]]] = []

    def ask(node: str, verb: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append((node, verb, request))
        return [{"service": 1, "ok": True, "version": "2.14"}, {"service": 0, "ok": True}]

    assert list(prove_services(plan(ETCD, NATS), ask)) == [
        "etcd on n1 is proven",
        "nats 2.14 on n1 is proven",
    ]
    etcd = {"kind": "etcd", "url": "http://10.0.0.1:2379", "unit_dir": "/u/etcd"}
    nats = {"kind": "nats", "host": "10.0.0.1", "port": 4333, "jetstream": True, "unit_dir": "/u/nats"}
    assert asked == [("n1", "await", {"services": [etcd, nats], "deadline_s": 30.0})]


def test_one_of_ours_and_one_of_others_are_asked_with_their_own_patience() -> None:
    asked: list[tuple[str, float]] = []

    def ask(node: str, verb: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append((node, request["deadline_s"]))
        return [{"service": 0, "ok": True}]

    theirs = Service("nats", "n2", "nats://n:4222")
    assert list(prove_services(plan(ETCD, theirs), ask)) == ["etcd on n1 is proven", "nats on n2 is proven"]
    assert asked == [("n1", 30.0), ("n2", 5.0)]


def test_a_port_that_nobody_wrote_is_the_usual_one() -> None:
    asked: list[dict[str, Any]] = []

    def ask(node: str, verb: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(request)
        return [{"service": 0, "ok": True}]

    list(prove_services(plan(Service("nats", "n1", "nats://n"), ours=False), ask))
    assert asked == [
        {"services": [{"kind": "nats", "host": "n", "port": 4222, "jetstream": False}], "deadline_s": 5.0}
    ]


def unproven(service: Service, *, ours: bool, **answer: Any) -> NotReady:
    with pytest.raises(NotReady) as caught:
        list(
            prove_services(
                plan(service, ours=ours), lambda node, verb, request: [{"service": 0, "ok": False, **answer}]
            )
        )
    return caught.value


def test_a_node_program_that_leaves_one_out() -> None:
    with pytest.raises(NotReady) as caught:
        list(prove_services(plan(ETCD), lambda node, verb, request: []))
    assert str(caught.value) == "n1/etcd: the node program said nothing of it"


def test_ours_comes_with_its_log() -> None:
    error = unproven(ETCD, ours=True, error="etcd ended with exit status 1", log=["a", "b"])
    assert str(error) == "n1/etcd: etcd ended with exit status 1"
    assert error.detail == ("| a", "| b")
    assert error.next == "dynoctl logs c --role n1/etcd"


def test_somebody_elses_is_theirs_to_mend() -> None:
    error = unproven(NATS, ours=False, error="NATS at 10.0.0.1:4333 runs without JetStream")
    assert str(error) == (
        "the nats that the topology names, asked from n1: NATS at 10.0.0.1:4333 runs without JetStream"
    )
    assert error.detail == ()
    assert error.next == "mend it or services.nats.url, then the same up again"
    assert "hush" not in f"{error} {error.detail} {error.next}"
