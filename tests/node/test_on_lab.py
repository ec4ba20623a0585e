"""The node program over SSH on lab hosts: both backends, on a bare host and on one with systemd."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab.fixtures import Hosts
from tests.lab.host import Host
from tests.node.program import PROGRAMS, until

PYTHON = "/usr/bin/python3"
FOREVER = (PYTHON, "-c", "import time; print('up', flush=True); time.sleep(600)")
BACKENDS = [("h1", "agent"), ("h4", "agent"), ("h4", "systemd")]
HOME = "/home/dyn/.dynoctl"

pytestmark = pytest.mark.parametrize(
    ("name", "backend"), BACKENDS, ids=["bare", "agent-beside-systemd", "systemd"]
)


class Remote:
    """A host with the node program on it; every verb is a connection of its own."""

    def __init__(self, host: Host, pyz: Path, backend: str) -> None:
        self.host = host
        self.backend = backend
        self.sh(f"mkdir -p {HOME}/units && cat >{HOME}/node.pyz", pyz.read_bytes())

    def sh(self, script: str, data: bytes = b"") -> bytes:
        done = subprocess.run(
            self.host.ssh_argv(script), input=data, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def ask(self, verb: str, **request: Any) -> dict[str, Any]:
        out = self.sh(f"python3 -I {HOME}/node.pyz {verb}", json.dumps(request).encode())
        answer = json.loads(out.splitlines()[-1])
        assert isinstance(answer, dict)
        return answer

    def unit(self, name: str = "a-0", argv: tuple[str, ...] = FOREVER, **more: Any) -> str:
        folder = f"{HOME}/units/{name}"
        words = {"unit": name, "cluster": "test", "node": self.host.name, "digest": "d1", "argv": argv}
        document = {**words, "backend": self.backend, "stop_grace_s": 1.0, **more}
        self.sh(f"mkdir -p {folder} && cat >{folder}/unit.json", json.dumps(document).encode())
        return folder

    def start(self, folder: str) -> dict[str, Any]:
        return self.ask("start", unit_dir=folder)

    def stop(self, folder: str) -> dict[str, Any]:
        return self.ask("stop", unit_dir=folder, grace_s=0.5)

    def view(self, folder: str) -> dict[str, Any]:
        (view,) = self.ask("watch", units=[folder], deadline_s=0)["units"].values()
        assert isinstance(view, dict)
        return view

    def state(self, folder: str) -> dict[str, Any]:
        state = json.loads(self.sh(f"cat {folder}/state.json"))
        assert isinstance(state, dict)
        return state

    def sweep(self) -> dict[str, Any]:
        return self.ask("sweep", cluster="test", node=self.host.name, under=HOME)

    def ours(self) -> list[str]:
        """What runs there for our user and is none of systemd's or sshd's own."""
        return [str(each) for each in self.host.processes() if HOME in str(each) or "sleep" in str(each)]


NOTHING = {"ok": True, "processes": [], "ports": [], "cgroups": [], "services": []}


@pytest.fixture
def remote(hosts: Hosts, pyz: Path, name: str, backend: str) -> Remote:
    return Remote(hosts[name], pyz, backend)


def test_a_unit_outlives_the_connection_and_a_stop_leaves_nothing(remote: Remote) -> None:
    folder = remote.unit()
    started = remote.start(folder)
    assert started["ok"], started
    view = remote.view(folder)
    assert (view["phase"], view["supervised"], view["pid"]) == ("running", True, started["pid"])
    assert remote.start(folder)["already"] is True
    assert remote.sh(f"cat {folder}/log").splitlines()[-1] == b"up"
    assert remote.stop(folder) == {"ok": True, "left": [], "was": "supervised"}
    assert remote.sweep() == NOTHING
    assert remote.ours() == []


def test_supervisor_and_cgroup_are_where_the_backend_puts_them(remote: Remote) -> None:
    folder = remote.unit()
    remote.start(folder)
    state = remote.state(folder)
    service = state["supervisor"].get("unit")
    if remote.backend == "systemd":
        assert remote.sweep()["services"] == [service]
        assert f"/{service}/" in state["cgroup"]
    else:
        assert service is None
        assert (state["cgroup"] is None) == (remote.host.name == "h4")  # a login's scope is not delegated
    remote.stop(folder)
    assert remote.sweep() == NOTHING


def test_evil_processes_end(remote: Remote) -> None:
    remote.sh(f"cat >{HOME}/evil.py", (PROGRAMS / "evil.py").read_bytes())
    folder = remote.unit(argv=(PYTHON, f"{HOME}/evil.py"))
    remote.start(folder)
    until(
        lambda: len(remote.sh(f"cat {folder}/pids 2>/dev/null || true").split()) == 4, "four evil processes"
    )
    assert remote.stop(folder)["left"] == []
    assert remote.sweep() == NOTHING
    assert remote.ours() == []


def test_a_killed_supervisor_is_replaced(remote: Remote) -> None:
    folder = remote.unit()
    first = remote.start(folder)["pid"]
    supervisor = remote.state(folder)["supervisor"]["pid"]
    remote.sh(f"kill -9 {supervisor}")
    if remote.backend == "systemd":  # it starts both again, by itself
        until(lambda: remote.view(folder)["pid"] not in (None, first), "systemd")
        until(lambda: remote.view(folder)["phase"] == "running", "the supervisor")
        assert remote.start(folder)["already"] is True
    else:
        assert remote.start(folder) == {
            "ok": True,
            "already": False,
            "adopted": True,
            "pid": first,
            "phase": "running",
        }
    assert remote.stop(folder)["ok"]
    assert remote.sweep() == NOTHING


def test_a_stop_right_after_its_supervisor_was_killed_leaves_nothing(remote: Remote) -> None:
    folder = remote.unit()
    remote.start(folder)
    remote.sh(f"kill -9 {remote.state(folder)['supervisor']['pid']}")
    assert remote.stop(folder)["left"] == []
    time.sleep(1.5)  # systemd would have started it again by now
    assert remote.sweep() == NOTHING


def test_a_start_right_after_its_supervisor_was_killed_brings_one_of_each(remote: Remote) -> None:
    folder = remote.unit()
    remote.start(folder)
    remote.sh(f"kill -9 {remote.state(folder)['supervisor']['pid']}")
    started = remote.start(folder)
    assert started["ok"], started
    named = remote.sweep()["processes"]
    assert sorted(each["supervisor"] for each in named) == [False, True]
    assert remote.stop(folder)["left"] == []
    assert remote.sweep() == NOTHING


def test_after_a_power_loss_the_next_start_and_stop_understand(remote: Remote) -> None:
    folder = remote.unit()
    first = remote.start(folder)
    other = remote.unit("b-0")
    remote.start(other)
    remote.host.power_cycle()
    view = remote.view(folder)
    assert (view["phase"], view["pid"], view["supervised"]) == ("gone", None, False)
    assert remote.stop(other) == {
        "ok": True,
        "left": [],
        "was": "dead",
    }  # lab hosts share the machine's boot id
    again = remote.start(folder)
    assert (again["ok"], again["already"], again["adopted"]) == (True, False, False), (first, again)
    assert remote.stop(folder)["ok"]
    assert remote.sweep() == NOTHING


def test_a_power_loss_in_the_middle_of_a_start_is_understood(remote: Remote) -> None:
    folder = remote.unit()
    for pause_s in (0.05, 0.15, 0.25, 0.35):
        script = f"python3 -I {HOME}/node.pyz start"
        with subprocess.Popen(
            remote.host.ssh_argv(script),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as ssh:
            assert ssh.stdin is not None
            ssh.stdin.write(json.dumps({"unit_dir": folder}).encode())
            ssh.stdin.close()
            time.sleep(pause_s)  # the moment of the power loss is the point
            remote.host.poweroff()
            ssh.kill()
        remote.host.poweron()
        answer = remote.start(folder)
        assert (answer["ok"], answer.get("already")) == (True, False), answer
        assert remote.stop(folder)["left"] == []


def test_a_watcher_ends_with_its_connection(remote: Remote) -> None:
    folder = remote.unit(listens=[1])
    remote.start(folder)
    script = f"python3 -I {HOME}/node.pyz watch"
    with subprocess.Popen(remote.host.ssh_argv(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ssh:
        assert ssh.stdin is not None
        assert ssh.stdout is not None
        ssh.stdin.write(json.dumps({"units": [folder], "stuck_s": 600}).encode())
        ssh.stdin.close()
        assert json.loads(ssh.stdout.readline())["phase"] == "running"
        assert any("watch" in line for line in remote.ours())
        ssh.kill()
    until(lambda: not any("node.pyz watch" in line for line in remote.ours()), "the end of the watcher")
    remote.stop(folder)


def test_a_full_disk_is_named_and_nothing_stays(remote: Remote) -> None:
    folder = remote.unit()
    remote.host.disk_full()
    try:
        answer = remote.start(folder)
        assert answer["ok"] is False
        assert "No space left on device" in answer["error"]
    finally:
        remote.host.disk_free()
    assert remote.ours() == []
    started = remote.start(folder)
    assert started["ok"], started
    remote.host.disk_full()
    try:
        assert remote.stop(folder)["left"] == []
    finally:
        remote.host.disk_free()
    assert remote.sweep() == NOTHING
