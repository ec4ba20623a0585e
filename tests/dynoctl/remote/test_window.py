"""The sliding window."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dynoctl.errors import DynoctlError, Unreachable
from dynoctl.remote.dial import Connections
from dynoctl.remote.fake import FakeHost, FakeHosts
from dynoctl.remote.window import over


def test_every_node_comes_back_once_with_its_result() -> None:
    assert dict(over(range(100), lambda number: number * 2)) == {number: number * 2 for number in range(100)}


def test_no_nodes_are_fine() -> None:
    assert list(over([], lambda node: node)) == []


def test_never_more_than_the_window_at_once() -> None:
    guard, now, most = threading.Lock(), 0, 0

    def do(node: int) -> None:
        nonlocal now, most
        with guard:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with guard:
            now -= 1

    assert len(list(over(range(40), do, window=5))) == 40
    assert most == 5


def test_an_error_stands_in_the_place_of_a_result_and_the_others_go_on() -> None:
    def do(node: str) -> str:
        if node == "b":
            raise Unreachable(node, "it is off")
        return node

    outcomes = dict(over("abc", do))
    assert isinstance(outcomes["b"], Unreachable)
    assert (outcomes["a"], outcomes["c"]) == ("a", "c")


def test_a_slow_node_delays_no_other() -> None:
    release = threading.Event()

    def do(node: int) -> int:
        if node == 0:
            release.wait(30)
        return node

    outcomes = over(range(20), do, window=2)
    first = [next(outcomes)[0] for _ in range(19)]
    release.set()
    assert sorted(first) == list(range(1, 20))
    assert [node for node, _ in outcomes] == [0]


def test_a_mistake_of_ours_is_raised_and_not_taken_for_a_nodes_failure() -> None:
    def do(node: int) -> int:
        raise KeyError(node)

    with pytest.raises(KeyError):
        list(over([1], do))


def test_after_stopping_early_no_further_node_is_started() -> None:
    started: list[int] = []
    gate = threading.Event()

    def do(node: int) -> int:
        started.append(node)
        if node:
            gate.wait(30)
        return node

    outcomes = over(range(100), do, window=4)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    gate.set()
    time.sleep(0.1)
    assert len(started) <= 8


def test_one_dead_host_among_many_is_named_while_the_others_are_done() -> None:
    hosts = [FakeHost(f"n{number}") for number in range(200)]
    for host in hosts:
        host.answer("true", "")
    hosts[7].faults.connect = Unreachable("n7", "n7 is off")
    with Connections(FakeHosts(hosts)) as connections:
        outcomes = dict(
            over([host.node for host in hosts], lambda node: connections.to(node).run("true", timeout_s=5))
        )
    failed = {node for node, outcome in outcomes.items() if isinstance(outcome, DynoctlError)}
    assert failed == {"n7"}


_PROGRAM = """
import os, sys
from dynoctl.remote.dial import Connections
from dynoctl.remote.local import LocalConnection
from dynoctl.remote.window import over

class Here:
    def dial(self, node): return LocalConnection(node)
    def close(self): pass

def do(node):
    return connections.to(node).run("echo; sleep 300", timeout_s=300, on_line=lambda line: os.write(1, b"begun\\n"))

try:
    with Connections(Here()) as connections:
        for node, outcome in over(["a", "b", "c"], do, window=2):
            print(node, outcome)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    os._exit(130)  # as `dynoctl` ends: a daemon thread may hold the lock of stdout at this moment
"""


def test_ctrl_c_ends_what_is_under_way_and_the_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert [process.stdout.readline() for _ in range(2)] == ["begun\n", "begun\n"]
            os.kill(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (out, err, process.returncode) == ("interrupted\n", "", 130)
