"""Verbs on several nodes, in memory: what is said of nodes that fail, of plans, and of what is left."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dynoctl.errors import Unreachable
from dynoctl.plan.facts import FIELD, UNIT
from dynoctl.plan.manifest import text
from dynoctl.plan.observed import Observed
from dynoctl.remote.dial import Dialler
from dynoctl.remote.fake import FakeConnection, FakeHost
from dynoctl.remote.host_keys import HostKeys
from tests.dynoctl.cli.conftest import Dynoctl
from tests.dynoctl.plan.world import STAMP, TWO, topology, up
from tests.dynoctl.remote.nodes import all_well, answering, asked, look, refusing

ROOT = "/home/u/.dynoctl"


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeHost]:
    """The nodes n1 and n2 of `TWO`, reached in memory; empty Debians that answer a look."""
    made = {name: FakeHost(name) for name in ("n1", "n2")}

    class FakeDialler(Dialler):
        def __init__(self, machines: Iterable[Any], keys: HostKeys) -> None:
            super().__init__(machines, keys)

        def dial(self, node: str) -> FakeConnection:
            return made[node].connect()

    monkeypatch.setattr("dynoctl.cli.session.Dialler", FakeDialler)
    for host in made.values():
        look(host, root=ROOT)
        answering(host, "lease", lambda request: [{"ok": True}])
    return made


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "t.yaml").write_text(TWO)
    monkeypatch.chdir(tmp_path)
    return "t.yaml"


def running(hosts: dict[str, FakeHost]) -> None:
    """Let both nodes look as they do after an `up`."""
    observed: Observed = up(topology(TWO))
    for name, host in hosts.items():
        seen = observed.nodes[name]
        assert seen.manifest is not None
        manifest = {
            key: value for key, value in seen.manifest.items() if key not in ("generation", "applied")
        }
        ports = "".join(f" 0: 00000000:{port:04X} 00000000:0000 0A\n" for port in sorted(seen.listening))
        stat = "7 (python) S " + " ".join(["0"] * 18) + " 5 0"
        units = "".join(
            f"{UNIT}{unit.name}{FIELD}{FIELD}{FIELD}{json.dumps(state(unit.digest))}{FIELD}{stat}{FIELD}{stat}"
            for unit in seen.units.values()
        )
        answering(host, "ask", lambda request: [{"ok": True, "status": 503, "headers": {}, "body": ""}])
        look(host, root=ROOT, manifest=text(manifest, 1, STAMP), listening=ports, units=units)


def state(digest: str | None) -> dict[str, Any]:
    its = {"pid": 7, "starttime": 5}
    return {"phase": "running", "digest": digest, "boot_id": "boot", **its, "supervisor": its}


def test_a_plan_of_two_nodes(dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str) -> None:
    done = dynoctl("plan", file)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "1. prepare the nodes"
    assert lines[-1] == "c: 5 to start."
    assert done.err.startswith("warning: n1 has no etcd of its own")
    # One look each: of a cluster that was never brought up from here, it is a thorough one.
    assert [len(host.calls) for host in hosts.values()] == [1, 1]
    assert [host.files for host in hosts.values()] == [{}, {}]


def test_a_node_that_cannot_be_reached_stops_a_plan(
    dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str
) -> None:
    hosts["n2"].faults.connect = Unreachable("n2", "no answer within 10 s", next="ping 10.0.0.2")
    for verb in ("plan", "up"):
        done = dynoctl(verb, file)
        assert (done.code, done.out) == (1, "")
        assert done.err == "error: n2: no answer within 10 s\nnext: ping 10.0.0.2\n"
    assert hosts["n1"].files == {}


def test_several_that_cannot_be_reached_are_each_named(
    dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str
) -> None:
    for host in hosts.values():
        host.faults.connect = Unreachable(host.node, "no answer within 10 s")
    done = dynoctl("up", file)
    assert done.code == 1
    assert done.err.splitlines() == [
        "error: n1: no answer within 10 s",
        "error: n2: no answer within 10 s",
        "error: 2 of 2 nodes could not be asked; nothing was changed",
        "next: mend them, or take them out of the topology",
    ]


def test_status_goes_on_without_a_node_and_shows_what_should_run_there(
    dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str
) -> None:
    running(hosts)
    hosts["n2"].faults.connect = Unreachable("n2", "no answer within 10 s")
    done = dynoctl("status", file)
    assert done.code == 1
    assert done.err == "error: n2: no answer within 10 s\n"
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[-1][:3] == ["n2", "decode", "decode-0"]
    assert done.out.splitlines()[-1].rstrip().endswith("its node did not answer")


def test_nothing_known_of_any_node(dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str) -> None:
    done = dynoctl("status", file)
    assert (done.code, done.out, done.err) == (1, "c does not run on 2 nodes that answered.\n", "")
    done = dynoctl("logs", file)
    assert (done.code, done.out) == (2, "")
    assert done.err == ("error: c has no units on the nodes that answered\nnext: dynoctl status c\n")
    assert dynoctl("down", file).out == "c was not up: nothing of it is on 2 nodes.\n"


def test_verbs_that_bring_nothing_do_without_the_wheelhouse(
    dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str
) -> None:
    gone = ("--set", "install.wheelhouse=/gone")
    running(hosts)
    assert dynoctl("status", file, *gone).out.startswith("c does NOT serve; 5 of 7 roles are not up")
    for host in hosts.values():
        answering(host, "logs", lambda request: [])
        answering(host, "apply", all_well)
    assert dynoctl("logs", file, *gone).err == ""
    assert dynoctl("down", file, *gone).code == 0
    done = dynoctl("up", file, *gone)
    assert (done.code, done.err.splitlines()[0]) == (2, "error: the wheelhouse /gone is not a folder")


def test_an_up_that_a_node_refuses(dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str) -> None:
    answering(hosts["n2"], "apply", lambda request: [{"action": 0, "ok": True}, {"action": 1, "ok": True}])
    answering(hosts["n1"], "apply", refusing(0, error="the disk is full (/home/u/.dynoctl/code)"))
    done = dynoctl("up", file)
    assert (done.code, done.out) == (1, "")
    lines = done.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: n1: cannot push the runtime (")
    assert errors[0].endswith("): the disk is full (/home/u/.dynoctl/code)")
    assert lines[-1] == "next: mend that, then the same up again; or dynoctl down c"
    assert [request["do"] for request in asked(hosts["n1"], "lease")] == ["take", "release"], done.err
    assert not [call for call in hosts["n1"].calls if call.script.endswith(" await")]  # no later phase began


def test_a_disk_that_is_full_already(dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str) -> None:
    look(hosts["n2"], root=ROOT, free="1000\n")
    assert dynoctl("up", file).err.splitlines()[-3:] == [
        "error: c cannot be brought up as the nodes are; nothing was changed",
        "  n2: only 1 MB are free below /home/u/.dynoctl; dynoctl wants 500 MB",
        "next: free some space on n2, or move it: nodes.n2.state_dir",
    ]


def well(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"action": number, "ok": True} for number, _ in enumerate(request["actions"])]


def test_a_down_that_leaves_something_names_it(
    dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str
) -> None:
    running(hosts)
    answering(hosts["n1"], "apply", well)
    left = [{"pid": 7, "argv": "python", "why": "it is in an endless system call"}]
    stuck, swept = (
        refusing(0, error="1 process does not end", left=left),
        refusing(0, error="1 thing of ours is left", left=["process 7 of c/n2/decode-0: python"]),
    )
    answers = iter((stuck, swept, stuck, well))
    answering(hosts["n2"], "apply", lambda request: next(answers)(request))
    done = dynoctl("down", file)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-6:] == [
        "error: c is not proven to be down",
        "  n2: cannot stop decode-0: 1 process does not end",
        "    pid 7, argv python, why it is in an endless system call",
        "  n2: cannot prove that nothing is left: 1 thing of ours is left",
        "    process 7 of c/n2/decode-0: python",
        "next: dynoctl down c",
    ]
    assert [request["actions"][0]["do"] for request in asked(hosts["n1"])] == [
        "stop",
        "stop",
        "stop",
        "sweep",
    ]
    again = dynoctl("down", file)  # it does not stop in time again, but the proof ends it
    assert again.code == 0, again.err
    warning = "warning: n2: cannot stop decode-0: 1 process does not end; the proof ended it"
    assert again.err.splitlines()[-1] == warning
    assert again.out.startswith("c is down: nothing of it is left on 2 nodes (")


def test_a_down_without_one_node_is_not_proven(
    dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str
) -> None:
    running(hosts)
    answering(hosts["n1"], "apply", well)
    hosts["n2"].faults.connect = Unreachable("n2", "no answer within 10 s")
    done = dynoctl("down", file, "--json")
    assert done.code == 1
    assert done.json == {
        "error": "c is not proven to be down",
        "detail": ["n2: it did not answer, so what runs there is not known"],
        "next": "dynoctl down c",
    }


def test_the_lock_is_on_the_node_of_etcd(dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str) -> None:
    holder = {"who": "ada", "host": "laptop", "doing": "dynoctl up", "since": "2026-01-01T00:00:00Z"}
    answering(hosts["n1"], "lease", lambda request: [{"ok": False, "holder": holder, "left_s": 21.7}])
    done = dynoctl("up", file, "--json")
    assert done.code == 3
    assert done.json == {
        "error": "ada on laptop has been working on this cluster since 2026-01-01T00:00:00Z: dynoctl up",
        "detail": ["the lock is on n1; if that run is dead, it expires in 22 s"],
        "next": "wait for it to end, then run the same command again",
    }
    assert not asked(hosts["n1"])
    assert hosts["n2"].files == {}


def test_while_etcd_moves_the_lock_is_on_both_nodes(
    dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str, tmp_path: Path
) -> None:
    """So that who works by the old file and who works by the new one do not do so at the same time."""
    running(hosts)
    (tmp_path / file).write_text(TWO.replace("etcd: n1", "etcd: n2"))
    done = dynoctl("up", file, "--yes")
    assert done.code == 1, done.err  # the nodes of this test start nothing
    for host in hosts.values():
        assert [request["do"] for request in asked(host, "lease")] == ["take", "release"], done.err


def test_a_lock_that_is_lost_ends_the_run(
    dynoctl: Dynoctl, hosts: dict[str, FakeHost], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynoctl.remote.lock.RENEW_S", 0.01)

    def refused(request: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"ok": request["do"] != "renew", "holder": None, "left_s": 0.0}]

    ended, late = threading.Event(), []

    def endless(request: dict[str, Any]) -> list[dict[str, Any]]:
        if not ended.wait(30):
            late.append("the run was not ended")
        return well(request)

    answering(hosts["n1"], "lease", refused)
    for host in hosts.values():
        answering(host, "apply", endless)
    done = dynoctl("up", file)
    ended.set()
    for thread in threading.enumerate():
        if thread.name.startswith("window-"):
            thread.join()
    assert done.code == 1
    assert done.err.splitlines()[-2:] == [
        "error: the cluster's lock on n1 could not be kept, so this run ended where it was",
        "next: dynoctl status c",
    ]
    assert late == []
