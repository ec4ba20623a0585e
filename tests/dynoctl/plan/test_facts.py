"""The facts of a node: the script really run by dash and by bash, and what is made of its output, whole or cut."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_node import clock, lease, proc
from dynoctl.errors import CommandFailed
from dynoctl.plan import facts
from dynoctl.plan.observed import Holder
from dynoctl.plan.script import NodePath
from tests.dynoctl.plan.looked import SHELLS, Node


def test_there_is_more_than_one_shell_to_try() -> None:
    assert {"dash", "bash"} <= {Path(shell).name for shell in SHELLS}


def test_an_untouched_node(node: Node) -> None:
    node.home.mkdir(parents=True)
    seen = node.look(prepared=("node-1.pyz",))
    assert seen.root == str(node.root)
    assert seen.home == str(node.home)
    assert seen.hostname == socket.gethostname()
    assert seen.boot_id == clock.boot_id()
    assert abs(seen.uptime_s - clock.uptime_s()) < 60
    assert (seen.have, seen.units, seen.manifest, seen.lock) == (frozenset(), {}, None, None)
    assert seen.generation == 0
    assert seen.arch == os.uname().machine
    assert seen.user
    assert seen.free_bytes is not None
    assert seen.free_bytes > 0
    assert not node.root.exists()  # a look leaves nothing behind


def test_python_is_asked_as_it_stands_on_the_path(node: Node, tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for tool in ("id", "uname", "df", "cat", "grep"):
        (bin_ / tool).symlink_to(str(shutil.which(tool)))
    (bin_ / "python3").symlink_to(sys.executable)
    node.home.mkdir(parents=True)
    seen = node.look(prepared=("x",), PATH=str(bin_))
    assert seen.python == sys.version_info[:3]
    assert seen.tools == {}
    (bin_ / "python3").unlink()
    seen = node.look(prepared=("x",), PATH=str(bin_))
    assert (seen.python, seen.venv) == (None, False)
    assert seen.arch == os.uname().machine
    (bin_ / "python3").write_text("#!/bin/sh\necho noise\nexit 1\n")
    (bin_ / "python3").chmod(0o755)
    assert node.look(prepared=("x",), PATH=str(bin_)).python is None


def test_servers_on_the_path_are_tools(node: Node, tmp_path: Path) -> None:
    for name in ("etcd", "nats-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert node.look(PATH=path).tools == {
        "etcd": str(tmp_path / "etcd"),
        "nats-server": str(tmp_path / "nats-server"),
    }
    (tmp_path / "etcd").unlink()
    if shutil.which("etcd") is None:
        assert node.look(PATH=path).tools == {"nats-server": str(tmp_path / "nats-server")}


def test_a_user_manager_is_seen_by_its_socket(node: Node, tmp_path: Path) -> None:
    assert node.look().user_manager is False
    (tmp_path / "systemd").mkdir()
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(tmp_path):
        listener.bind("systemd/private")  # a relative name: the whole path may be too long for a socket
        assert node.look(XDG_RUNTIME_DIR=str(tmp_path)).user_manager is True


def test_a_prepared_node_is_spared_the_costly_questions(node: Node) -> None:
    node.root.mkdir(parents=True)
    (node.root / "node-1.pyz").touch()
    seen = node.look(prepared=("node-1.pyz",))
    assert (seen.arch, seen.python, seen.venv) == (None, None, False)
    assert seen.free_bytes  # an environment may have to be built there yet
    assert node.look(prepared=("node-1.pyz", "envs/e/.complete")).arch is not None


def test_what_is_whole_below_the_root(node: Node) -> None:
    places = {
        "node-1.pyz",
        "code/a/.complete",
        "envs/b/.complete",
        "wheels/c/.complete",
        "bin/d/etcd",
    }
    for place in places:
        (node.root / place).parent.mkdir(parents=True, exist_ok=True)
        (node.root / place).touch()
    (node.root / "code" / "torn").mkdir()
    (node.root / "envs" / "torn").mkdir()
    (node.root / "code" / "torn.zip").touch()
    assert node.look().have == places


def test_a_root_elsewhere(node: Node, tmp_path: Path) -> None:
    root = tmp_path / "else where"
    (root / "clusters/c/n1/units/decode-0").mkdir(parents=True)
    seen = node.look(root=str(root))
    assert seen.root == str(root)
    assert list(seen.units) == ["decode-0"]


def test_listening_ports(node: Node) -> None:
    with socket.socket() as four, socket.socket(socket.AF_INET6) as six:
        four.bind(("127.0.0.1", 0))
        four.listen()
        six.bind(("::1", 0))
        six.listen()
        listening = node.look().listening
        assert {four.getsockname()[1], six.getsockname()[1]} <= listening
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound and not listening is nobody's service
        assert bound.getsockname()[1] not in node.look().listening


def test_a_manifest(node: Node) -> None:
    node.base.mkdir(parents=True)
    (node.base / "manifest.json").write_text('{\n "generation": 3,\n "units": {}\n}\n')
    seen = node.look()
    assert seen.manifest == {"generation": 3, "units": {}}
    assert seen.generation == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"units": {}}', '{"generation": 1'])
def test_a_torn_manifest_is_none(node: Node, text: str) -> None:
    node.base.mkdir(parents=True)
    (node.base / "manifest.json").write_text(text)
    assert node.look().manifest is None


def take(node: Node, ttl_s: float) -> None:
    request = {
        "do": "take",
        "path": str(node.root / "locks" / "c"),
        "token": "t",
        "ttl_s": ttl_s,
        "holder": {
            "who": "ada",
            "host": "laptop",
            "doing": "dynoctl up",
            "since": "2026-01-01T00:00:00Z",
            "process": {"pid": 7, "starttime": 5, "scope": "here"},
        },
    }
    assert lease.lease(request) == {"ok": True}


def test_the_lock_and_who_holds_it(node: Node) -> None:
    take(node, 600)
    assert node.look().lock == Holder("ada", "laptop", "dynoctl up", "2026-01-01T00:00:00Z", (7, 5, "here"))


def test_a_lease_that_ran_out_is_no_lock(node: Node) -> None:
    take(node, 0)
    path = node.root / "locks" / "c"
    until_s = json.loads(path.read_text())["until_s"]
    path.write_text(path.read_text().replace(str(until_s), str(until_s - 1)))  # clocks of both tick coarsely
    assert node.look().lock is None


def test_a_lease_of_another_boot_or_torn_is_no_lock(node: Node) -> None:
    take(node, 600)
    path = node.root / "locks" / "c"
    path.write_text(path.read_text().replace(clock.boot_id(), "another"))
    assert node.look().lock is None
    path.write_text(f'{{"boot_id": "{clock.boot_id()}", "until_s": "soon"}}')
    assert node.look().lock is None
    path.write_text('{"who": "a')
    assert node.look().lock is None


def test_noise_before_the_facts_is_left_out(node: Node) -> None:
    seen = node.look()
    assert facts.parse("n1", "Welcome!\nYou have mail.\n" + node.out()).root == seen.root


def test_output_that_was_cut_anywhere_is_said_to_be(node: Node, process: proc.Process) -> None:
    node.state(process)
    out = node.out()
    for length in range(0, out.index(f"{facts.RECORD}end") + 3, 7):
        with pytest.raises(CommandFailed) as caught:
            facts.parse("n1", out[:length])
        assert str(caught.value) == "n1: the look at the node was cut short"


def test_what_was_printed_instead_is_shown() -> None:
    with pytest.raises(CommandFailed) as caught:
        facts.parse("n1", "This account is\nnot available.\n")
    assert str(caught.value) == "n1: the look at the node was cut short"
    assert caught.value.detail == ("This account is", "not available.")


def test_a_node_that_is_no_linux_is_named() -> None:
    out = "".join(f"{facts.RECORD}{fact.name}\n" for fact in facts.FACTS) + f"{facts.RECORD}end\n"
    with pytest.raises(CommandFailed, match=r"^n1: the node answered 'kernel' with something unexpected: "):
        facts.parse("n1", out)


@given(st.text())
def test_no_output_whatever_ends_in_another_error(text: str) -> None:
    with pytest.raises(CommandFailed):
        facts.parse("n1", text)


def test_the_script_holds_no_name_unquoted() -> None:
    script = facts.observe_script(NodePath("~/a b; rm -rf $x"), "c", "n1", ("node-1.pyz",))
    assert script.splitlines()[1] == "root=\"$HOME\"/'a b; rm -rf $x'"


def test_a_name_from_the_file_system_is_never_run(node: Node, tmp_path: Path) -> None:
    folder = node.base / "units" / "$(touch ran)"
    folder.mkdir(parents=True)
    assert list(node.look().units) == ["$(touch ran)"]
    assert not (tmp_path / "ran").exists()
    assert not Path("ran").exists()
