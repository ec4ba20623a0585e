"""The lab itself: its hosts are real enough, and nothing of it is left behind, however it ends."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import BadRequest, Lab, LabError, needs
from tests.lab.disk import USER_ID
from tests.lab.fixtures import Hosts, leftovers
from tests.lab.host import Host

CHECKOUT = Path(__file__).resolve().parents[1]
SSH_WITHIN_S = 20.0
GONE_WITHIN_S = 20.0


def ssh(host: Host, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(host.ssh_argv(command), capture_output=True, text=True, timeout=SSH_WITHIN_S)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + GONE_WITHIN_S
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


# What a host is


@pytest.mark.parametrize("name", ["h1", "h4"])
def test_ssh_gets_in(hosts: Hosts, name: str) -> None:
    done = ssh(hosts[name], "id -un; hostname; pwd")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["dyn", name, "/home/dyn"]


def test_disk_survives_a_power_cycle_and_not_a_wipe(hosts: Hosts) -> None:
    host = hosts["h1"]
    assert ssh(host, "touch ~/kept /tmp/lost").returncode == 0
    host.power_cycle()
    assert ssh(host, "ls ~ /tmp").stdout.split() == ["/home/dyn:", "kept", "/tmp:"]
    host.wipe()
    done = ssh(host, "ls ~")  # the same host key: known_hosts still fits
    assert (done.returncode, done.stdout) == (0, "")


def test_a_wiped_host_may_come_back_with_another_host_key(hosts: Hosts) -> None:
    host = hosts["h1"]
    before = host.known_hosts.read_text()
    host.wipe(new_host_key=True)
    after = host.known_hosts.read_text()
    assert [old == new for old, new in zip(before.split("\n"), after.split("\n"), strict=True)] == [
        False,  # h1
        *[True] * 4,
    ]
    assert ssh(host, "hostname").stdout == "h1\n"


def test_a_host_has_its_own_disk_processes_and_temporary_files(hosts: Hosts) -> None:
    first, second = hosts[:2]
    assert first.exec(["touch", "/usr/local/mine", "/tmp/mine", "/run/mine"]).returncode == 0
    for place in ("/usr/local/mine", "/tmp/mine", "/run/mine"):
        assert second.exec(["test", "-e", place]).returncode == 1
        assert not Path(place).exists()
    sleep = subprocess.Popen(first.exec_argv(["sleep", "300"]))
    try:
        assert eventually(lambda: [process.argv for process in first.processes()] == [("sleep", "300")])
        assert second.processes() == []
        assert "sleep" not in second.exec(["ps", "ax"]).stdout
    finally:
        sleep.kill()
        sleep.wait()
    assert eventually(lambda: first.processes() == [])


@pytest.mark.parametrize("name", ["h1", "h4"])
def test_a_host_shows_neither_this_checkout_nor_other_peoples_homes(hosts: Hosts, name: str) -> None:
    host = hosts[name]
    assert host.exec(["ls", "-A", str(CHECKOUT)]).stdout == ""
    # systemd makes an empty /root/.ssh where there is none.
    assert host.exec(["find", "/root", "-mindepth", "1", "-not", "-name", ".ssh"]).stdout == ""
    assert host.exec(["ls", "/home"]).stdout.split() == ["dyn"]


def test_a_host_has_python_with_venv_and_no_way_out(hosts: Hosts) -> None:
    host = hosts["h1"]
    done = ssh(
        host, "python3 -c 'import ensurepip, venv, sys; print(sys.executable, sys.version_info >= (3, 11))'"
    )
    assert done.stdout.split() == ["/usr/bin/python3", "True"]
    assert host.exec(["ip", "route", "show", "default"]).stdout == ""


def test_hosts_know_each_other_by_name(hosts: Hosts) -> None:
    first, second = hosts[:2]
    assert first.exec(["getent", "hosts", second.name]).stdout.split() == [second.address, second.name]


def test_only_network_settings_of_the_shared_kernel_can_be_written(hosts: Hosts) -> None:
    host = hosts["h1"]
    same = 'value=$(cat "$1") && echo "$value" >"$1"'
    refused = host.exec(["sh", "-c", same, "sh", "/proc/sys/kernel/panic"])
    assert "Read-only file system" in refused.stderr
    assert host.exec(["sh", "-c", same, "sh", "/proc/sys/net/ipv4/ip_forward"]).returncode == 0


def test_the_user_of_a_bare_host_can_make_cgroups(hosts: Hosts) -> None:
    host = hosts["h1"]
    move = "mkdir /sys/fs/cgroup/dyn/mine && echo $$ >/sys/fs/cgroup/dyn/mine/cgroup.procs && cat /proc/self/cgroup"
    done = ssh(host, move)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "0::/dyn/mine"


def test_the_user_of_a_systemd_host_has_a_manager_that_lingers(hosts: Hosts) -> None:
    host = hosts["h4"]
    start = "loginctl enable-linger && systemd-run --quiet --user --unit=mine -p Delegate=yes sleep 300"
    done = ssh(host, start)
    assert (done.returncode, done.stderr) == (0, "")
    assert ssh(host, "systemctl --user is-active mine").stdout == "active\n"
    assert [process.argv for process in host.processes()] == [("/usr/bin/sleep", "300")]
    assert ssh(host, "systemctl --user stop mine").returncode == 0
    assert host.processes() == []
    assert host.exec(["systemctl", "--failed", "--quiet"]).stdout == ""


def test_a_command_that_fails_is_named(hosts: Hosts) -> None:
    with pytest.raises(LabError, match=r"^h1: ls /nowhere ended with 2: ls: cannot access '/nowhere'"):
        hosts["h1"].exec(["ls", "/nowhere"], check=True)


# What a test may not leave behind


def test_leftovers_names_what_was_left_and_ends_it(hosts: Hosts) -> None:
    host = hosts["h1"]
    assert ssh(host, "setsid sleep 300 </dev/null >/dev/null 2>&1 &").returncode == 0
    (line,) = leftovers(host)
    assert line.startswith("h1: ")
    assert line.endswith(f" (uid {USER_ID}): sleep 300")
    assert not host.powered
    assert leftovers(host) == []


FIXTURES = "from tests.conftest import _used, hosts, lab, pytest_collection_modifyitems\n"


def run_pytest(folder: Path, tests: str, more: str = "", **environment: str) -> str:
    """Run tests in a pytest of their own, with this project's fixtures; give what it printed."""
    (folder / "conftest.py").write_text(FIXTURES + more)
    (folder / "test_it.py").write_text(textwrap.dedent(tests))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-ra", "--color=no"]
    command += ["-c", str(CHECKOUT / "pyproject.toml"), "--rootdir", str(folder), str(folder / "test_it.py")]
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "COLUMNS": "200", **environment}
    done = subprocess.run(command, cwd=CHECKOUT, env=known, capture_output=True, text=True, timeout=60)
    return done.stdout


LITTERING = """
    import subprocess

    def test_litters(hosts):
        subprocess.run(hosts[1].ssh_argv("setsid sleep 300 </dev/null >/dev/null 2>&1 &"), check=True)

    def test_next(hosts):
        assert hosts[1].powered
        assert hosts[1].processes() == []
"""


def test_a_test_that_leaves_a_process_fails_and_the_next_is_unaffected(tmp_path: Path, lab: Lab) -> None:
    said = run_pytest(tmp_path, LITTERING)
    assert "2 passed, 1 error" in said
    assert "test_it.py::test_litters - Failed: the test left processes behind:" in said
    assert "sleep 300" in said


NEEDY = """
    def test_needs_hosts(hosts):
        pass
"""
LACKING = "from tests.lab import needs\nneeds.TOOLS['no-such-tool'] = 'no-such-package'\n"
REASON = "no-such-tool is not installed; get it with: apt-get install no-such-package"


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user the reason is another")
def test_without_tools_the_lab_is_skipped_with_the_reason(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, NEEDY, LACKING)
    assert "1 skipped" in said
    assert REASON in said


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user the reason is another")
def test_without_tools_a_required_lab_fails_with_the_reason(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, NEEDY, LACKING, DYNO_REQUIRE_LAB="1")
    assert "1 error" in said
    assert f"DYNO_REQUIRE_LAB=1, but {REASON}" in said


# What it needs


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(needs, "TOOLS", {"no-ip": "iproute2", "no-tc": "iproute2"})
    assert needs.missing() == "no-ip, no-tc are not installed; get it with: apt-get install iproute2"
    monkeypatch.setattr(needs, "TOOLS", {})
    monkeypatch.setattr(needs, "SYSTEMD_FILES", {"/no/systemd": "systemd"})
    monkeypatch.setattr(needs, "cgroup_root", lambda: Path("/sys/fs/cgroup"))
    assert needs.missing() is None
    assert needs.missing(systemd=True) == "/no/systemd is not installed; get it with: apt-get install systemd"
    monkeypatch.setattr(needs, "cgroup_root", lambda: None)
    mount = "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    assert needs.missing() == f"no cgroup version 2 is mounted; mount one with: {mount}"


def test_root_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert needs.missing() == "the lab needs root; run it with sudo"


def test_a_lab_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"^a lab has from 1 to 200 hosts, not 0$"):
        Lab().start(0)
    with pytest.raises(BadRequest, match=r"^there is no host 'h3'; the hosts are h1 to h2$"):
        Lab().start(2, systemd={"h3"})
    with pytest.raises(
        BadRequest, match=r"^'A b' cannot name a lab; use lower-case letters, digits and dashes$"
    ):
        Lab("A b")


# How it ends


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent to look does not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "\nState:\tZ" not in status


def addresses() -> list[str]:
    """The addresses of this machine, a line each; the second word is the link."""
    done = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


class Traces:
    """What a lab has put on this machine, taken down while it runs."""

    def __init__(self, lab: Lab) -> None:
        self.folder = lab.folder
        self.cgroup = lab.cgroup
        procs = [path.read_text().split() for path in self.cgroup.rglob("cgroup.procs")]
        self.pids = [int(pid) for pids in procs for pid in pids]
        (line,) = [line for line in addresses() if f" {lab.here}/" in line]
        self.cable = line.split()[1]
        assert len(self.pids) > 2

    def left(self) -> list[str]:
        """What of it is still there."""
        left = [str(thing) for thing in (self.folder, self.cgroup) if thing.exists()]
        left += [str(pid) for pid in self.pids if alive(pid)]
        left += [line for line in addresses() if line.split()[1] == self.cable]
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        return left + [line for line in mounts if str(self.folder) in line]


@pytest.mark.lab
def test_stop_leaves_nothing_at_once() -> None:
    with Lab() as lab:
        lab.start(2)
        traces = Traces(lab)
    assert traces.left() == []
    lab.stop()  # again: nothing to do, no complaint


@pytest.mark.lab
def test_kill_of_the_controller_leaves_nothing() -> None:
    with Lab() as lab:
        lab.start(2)
        lab.hosts[0].freeze()
        lab.hosts[1].delay(0.01)
        traces = Traces(lab)
        (controller,) = (lab.cgroup / "control/cgroup.procs").read_text().split()[:1]
        os.kill(int(controller), signal.SIGKILL)
        assert eventually(lambda: traces.left() == [])


OWNER = """
import sys
from tests.lab import Lab
lab = Lab(sys.argv[1])
lab.start(2)
print("up", flush=True)
input()
"""


@pytest.mark.lab
def test_kill_of_the_owner_leaves_nothing() -> None:
    name = f"owner-{secrets.token_hex(4)}"
    command = [sys.executable, "-c", OWNER, name]
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        traces = Traces(Lab.attach(name))
        owner.kill()
    assert eventually(lambda: traces.left() == [])


@pytest.mark.lab
def test_two_labs_do_not_meet(hosts: Hosts) -> None:
    host = hosts["h1"]
    with Lab() as other:
        (stranger,) = other.start(1)
        assert stranger.address != host.address
        assert ssh(stranger, "hostname").stdout == "h1\n"
        assert ssh(host, "hostname").stdout == "h1\n"
        with pytest.raises(LabError, match=f"^a lab named '{other.name}' is running already; end it with: "):
            Lab(other.name).start(1)


@pytest.mark.lab
def test_a_lab_whose_cleaner_was_killed_too_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    with Lab() as lab:
        lab.folder.mkdir(parents=True)
        lab.cgroup.mkdir()
        (lab.folder / "key").write_text("an old key")
        (host,) = lab.start(1)
        assert ssh(host, "hostname").stdout == "h1\n"
