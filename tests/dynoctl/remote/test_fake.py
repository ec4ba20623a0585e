"""Nodes in memory: scripted answers and bad days."""

from __future__ import annotations

import re

import pytest

from dynoctl.errors import CommandFailed, TimedOut, Unreachable
from dynoctl.remote.connection import Completed
from dynoctl.remote.dial import Connections
from dynoctl.remote.fake import Call, FakeHost, FakeHosts


def test_answers_fit_by_text_by_pattern_and_by_function_and_the_last_one_counts() -> None:
    host = FakeHost("n1")
    host.answer(re.compile("echo"), "some")
    host.answer("echo hi", b"hi")
    host.answer("exit 3", Completed(3, b"", b"no"))
    host.answer(re.compile("^upper$"), lambda call: Completed(0, call.stdin.upper(), b""))
    connection = host.connect()
    assert connection.run("echo hi", timeout_s=1).out == b"hi"
    assert connection.run("echo ho", timeout_s=1).out == b"some"
    assert connection.run("exit 3", timeout_s=1) == Completed(3, b"", b"no")
    assert connection.run("upper", stdin=b"x", timeout_s=1).out == b"X"
    assert host.calls[-1] == Call("upper", b"x")


def test_a_script_that_nobody_thought_of_is_a_mistake_in_the_test() -> None:
    with pytest.raises(AssertionError, match="n1: no answer was given for this script:\nreboot"):
        FakeHost("n1").connect().run("reboot", timeout_s=1)


def test_files_that_were_put_can_be_read_below_the_home_too() -> None:
    host = FakeHost("n1")
    connection = host.connect()
    connection.put(b"x", "~/a b", mode=0o600, timeout_s=1)
    assert host.files["/home/fake/a b"].content == b"x"
    assert connection.run("cat \"$HOME\"/'a b'", timeout_s=1).out == b"x"


def test_a_host_that_cannot_be_reached() -> None:
    host = FakeHost("n1")
    host.faults.connect = Unreachable("n1", "it is off")
    with pytest.raises(Unreachable, match="n1: it is off"):
        Connections(FakeHosts([host])).to("n1")


def test_a_full_disk() -> None:
    host = FakeHost("n1")
    host.faults.disk_full = True
    with pytest.raises(CommandFailed) as caught:
        host.connect().put(b"x", "/a/b", mode=0o600, timeout_s=1)
    assert caught.value.message == "n1: cannot write /a/b: the disk is full"
    assert host.files == {}


def test_a_slow_host() -> None:
    host = FakeHost("n1")
    host.answer("true", "")
    host.faults.delay_s = 0.01
    assert host.connect().run("true", timeout_s=1).status == 0
    with pytest.raises(TimedOut):
        host.connect().run("true", timeout_s=0.001)


def test_a_host_that_dies_at_a_call_stays_dead_until_it_is_healed() -> None:
    host = FakeHost("n1")
    host.answer("true", "")
    host.faults.dies_at = 2
    connections = Connections(FakeHosts([host]))
    connections.to("n1").run("true", timeout_s=1)
    for _ in range(2):
        with pytest.raises(Unreachable, match="n1: the connection was lost while a command was running"):
            connections.to("n1").run("true", timeout_s=1)
    host.faults.dies_at = None
    assert connections.to("n1").run("true", timeout_s=1).status == 0
    assert host.dialled == 3


def test_a_connection_is_dialled_once_and_kept() -> None:
    host = FakeHost("n1")
    with Connections(FakeHosts([host])) as connections:
        assert connections.to("n1") is connections.to("n1")
    assert host.dialled == 1
    with pytest.raises(Unreachable, match="n1: the connections were closed"):
        connections.to("n1")
