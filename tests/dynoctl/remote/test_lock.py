"""One dynoctl at a time: taken, renewed, lost, taken over from the dead, refused by the living."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dyno_node.lease import lease
from dynoctl.errors import CommandFailed, Exit, Locked
from dynoctl.remote import lock
from dynoctl.remote.connection import Connection
from dynoctl.remote.fake import FakeHost
from dynoctl.remote.lock import Me, held, own_process
from tests.dynoctl.remote.nodes import PROGRAM, answering, asked, fails, verb

ME = Me("ada", "laptop", "dynoctl up", "2026-01-01T00:00:00Z", "token-a", own_process())
BOB = Me("bob", "server", "dynoctl down", "2026-01-01T00:00:01Z", "token-b", (1, 2, "another boot"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "locks" / "c")


@pytest.fixture
def host() -> FakeHost:
    """A node whose leases are the real ones."""
    made = FakeHost("n1")
    answering(made, "lease", lambda request: [lease(request)])
    return made


@contextlib.contextmanager
def holding(host: FakeHost, path: str, me: Me = ME) -> Iterator[list[str]]:
    """Inside the lock; the list has a word for each time that it was lost."""
    lost: list[str] = []
    connection: Connection = host.connect()
    with held(connection, PROGRAM, path, me, lost=lambda: lost.append("lost")):
        yield lost


def test_it_is_held_inside_and_free_afterwards(host: FakeHost, path: str) -> None:
    with holding(host, path) as lost:
        found = json.loads(Path(path).read_text())
        assert (found["who"], found["host"], found["doing"]) == ("ada", "laptop", "dynoctl up")
        assert found["token"] == "token-a"
    assert not Path(path).exists()
    assert lost == []
    assert [request["do"] for request in asked(host, "lease")] == ["take", "release"]


def test_somebody_elses_is_refused_with_who_where_and_since_when(host: FakeHost, path: str) -> None:
    with holding(host, path, BOB), pytest.raises(Locked) as caught, holding(host, path):
        raise AssertionError("two are inside")
    error = caught.value
    assert str(error) == (
        "bob on server has been working on this cluster since 2026-01-01T00:00:01Z: dynoctl down"
    )
    assert error.detail == ("the lock is on n1; if that run is dead, it expires in 30 s",)
    assert error.next == "wait for it to end, then run the same command again"
    assert error.exit is Exit.LOCKED


def test_the_loser_leaves_the_winners_lease_alone(host: FakeHost, path: str) -> None:
    with holding(host, path, BOB):
        with pytest.raises(Locked), holding(host, path):
            pass
        assert json.loads(Path(path).read_text())["token"] == "token-b"


def test_it_is_released_when_the_work_fails(host: FakeHost, path: str) -> None:
    with pytest.raises(KeyboardInterrupt), holding(host, path):
        raise KeyboardInterrupt
    assert not Path(path).exists()


def dead_process() -> tuple[int, int, str]:
    """A process of this machine that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as popen:
        popen.wait()
        return (popen.pid, 1, own_process()[2])


def test_a_holder_that_died_on_this_machine_is_taken_over_at_once(host: FakeHost, path: str) -> None:
    with contextlib.ExitStack() as stack:
        take(host, path, replace(BOB, process=dead_process()))
        stack.enter_context(holding(host, path))
        assert json.loads(Path(path).read_text())["token"] == "token-a"
    assert [request.get("instead_of") for request in asked(host, "lease")] == [None, None, "token-b", None]


def take(host: FakeHost, path: str, me: Me) -> None:
    """Hold it as a dynoctl that was killed leaves it."""
    request = {"do": "take", "path": path, "token": me.token, "ttl_s": 30.0, "holder": me.holder()}
    done = host.connect().run(lock_script(), stdin=json.dumps(request).encode(), timeout_s=5)
    assert json.loads(done.out) == {"ok": True}


def lock_script() -> str:
    from dynoctl.remote.node_program import script

    return script(PROGRAM, "lease")


def test_a_reused_pid_is_not_taken_for_the_holder(host: FakeHost, path: str) -> None:
    pid, starttime, scope = own_process()
    take(host, path, replace(BOB, process=(pid, starttime - 1, scope)))
    with holding(host, path):
        pass


@pytest.mark.parametrize("scope", ["another boot", "another pid namespace"])
def test_a_process_that_cannot_be_judged_from_here_counts_as_living(
    host: FakeHost, path: str, scope: str
) -> None:
    pid, starttime, here = own_process()
    other = {"another boot": f"x{here}", "another pid namespace": f"{here.split()[0]} pid:[1]"}[scope]
    take(host, path, replace(BOB, process=(pid, starttime - 1, other)))
    with pytest.raises(Locked), holding(host, path):
        pass


def test_a_living_holder_on_this_machine_is_left_alone(host: FakeHost, path: str) -> None:
    with holding(host, path, replace(BOB, process=own_process())), pytest.raises(Locked), holding(host, path):
        pass


def test_where_somebody_was_faster_at_taking_over(host: FakeHost, path: str) -> None:
    take(host, path, replace(BOB, process=dead_process()))
    carol = replace(BOB, who="carol", token="token-c", process=(1, 1, "elsewhere"))

    def answers(request: dict[str, Any]) -> list[dict[str, Any]]:
        if request["token"] == "token-a" and request.get("instead_of"):
            lease({**request, "token": carol.token, "holder": carol.holder()})
        return [lease(request)]

    answering(host, "lease", answers)
    with pytest.raises(Locked, match=r"^carol on server has been working"), holding(host, path):
        pass


def test_a_lease_without_names_still_says_something() -> None:
    made = FakeHost("n1")
    answering(made, "lease", lambda request: [{"ok": False, "holder": None, "left_s": 0.0}])
    with pytest.raises(Locked) as caught, holding(made, "/x"):
        pass
    assert str(caught.value) == (
        "somebody on another machine has been working on this cluster since a moment ago: an unknown verb"
    )


def test_a_node_that_cannot_keep_a_lease_is_no_lock() -> None:
    made = FakeHost("n1")
    answering(made, "lease", lambda request: [{"ok": False, "error": "/r/locks/c: no space left on device"}])
    with pytest.raises(CommandFailed) as caught, holding(made, "/r/locks/c"):
        pass
    assert str(caught.value) == (
        "n1: the cluster's lock cannot be taken: /r/locks/c: no space left on device"
    )


def test_a_node_that_died_does_not_keep_the_work_from_ending(host: FakeHost, path: str) -> None:
    with holding(host, path):
        host.answer(verb("lease"), fails(1, "gone"))


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW_S", 0.01)
    monkeypatch.setattr(lock, "TTL_S", 0.03)


class Renewals:
    """Answers to renewals from a list; the last one is repeated, and is counted as `enough` when it was."""

    def __init__(self, host: FakeHost, *answers: dict[str, Any]) -> None:
        self._answers = list(answers)
        self.enough = threading.Event()
        answering(host, "lease", self)

    def __call__(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        if request["do"] != "renew":
            return [{"ok": True}]
        if len(self._answers) == 1:
            self.enough.set()
            return [self._answers[0]]
        return [self._answers.pop(0)]


HICCUP = {"ok": False, "error": "no space left on device"}


@pytest.mark.usefixtures("quickly")
def test_it_is_renewed_while_the_work_goes_on() -> None:
    made = FakeHost("n1")
    renewals = Renewals(made, {"ok": True}, {"ok": True}, {"ok": True})
    with holding(made, "/x") as lost:
        assert renewals.enough.wait(20)
    assert lost == []


@pytest.mark.usefixtures("quickly")
def test_somebody_elses_token_means_that_it_is_lost_at_once() -> None:
    made = FakeHost("n1")
    Renewals(made, {"ok": False, "holder": None, "left_s": 0.0})
    told = threading.Event()
    with held(made.connect(), PROGRAM, "/x", ME, lost=told.set):
        assert told.wait(20)
    assert len([request for request in asked(made, "lease") if request["do"] == "renew"]) == 1


@pytest.mark.usefixtures("quickly")
def test_a_hiccup_is_not_a_loss() -> None:
    made = FakeHost("n1")
    renewals = Renewals(made, HICCUP, HICCUP, {"ok": True}, HICCUP, HICCUP, {"ok": True})
    with holding(made, "/x") as lost:
        assert renewals.enough.wait(20)
    assert lost == []


@pytest.mark.usefixtures("quickly")
def test_failures_until_it_must_have_run_out_are_a_loss() -> None:
    made = FakeHost("n1")
    Renewals(made, {"ok": True}, HICCUP)
    told = threading.Event()
    with held(made.connect(), PROGRAM, "/x", ME, lost=told.set):
        assert told.wait(20)
    renewals = [request for request in asked(made, "lease") if request["do"] == "renew"]
    assert len(renewals) == 4  # one that was good, then three tries in the time of a lease


def test_this_process_is_known_to_live() -> None:
    pid, starttime, scope = own_process()
    assert pid == os.getpid()
    assert starttime > 0
    assert scope.endswith("]")
    assert not lock._is_dead({"process": {"pid": pid, "starttime": starttime, "scope": scope}})
    assert not lock._is_dead({})
