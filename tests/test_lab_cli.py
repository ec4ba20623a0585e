"""The command `scripts/lab`: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import BadRequest, Lab, cli
from tests.lab.amounts import duration_s, probability, rate_bits_per_s

CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAM = str(CHECKOUT / "scripts/lab")
GONE_WITHIN_S = 20.0


def lab_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PROGRAM, *words], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A lab of two hosts, started as a person does; nobody owns it until `stop`."""
    name = f"cli-{secrets.token_hex(4)}"
    try:
        done = lab_command("start", "2", "--name", name)
        assert (done.returncode, done.stderr) == (0, "")
        assert "h2    10." in done.stdout
        yield name
    finally:
        done = lab_command("stop", "--name", name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert not Lab(name).folder.exists()


@pytest.mark.lab
def test_hosts_prints_how_to_get_in(name: str) -> None:
    hosts = json.loads(lab_command("hosts", "--json", "--name", name).stdout)
    assert [host["name"] for host in hosts] == ["h1", "h2"]
    folder = f"/run/dynolab/{name}"
    assert hosts[1] == {
        "name": "h2",
        "address": hosts[0]["address"].removesuffix(".1") + ".2",
        "user": "dyn",
        "port": 22,
        "key": f"{folder}/key",
        "known_hosts": f"{folder}/known_hosts",
        "init": "bare",
        "powered": True,
    }
    last = lab_command("hosts", "--name", name).stdout.splitlines()[-1]
    assert last == f"log in with: ssh -F {folder}/ssh_config h1"
    ssh = [*last.removeprefix("log in with: ").split(), "hostname"]
    assert subprocess.run(ssh, capture_output=True, text=True, timeout=20).stdout == "h1\n"


@pytest.mark.lab
def test_exec_fault_and_wipe(name: str) -> None:
    done = lab_command(
        "exec", "h1", "--name", name, "--user", "dyn", "--", "sh", "-c", "touch x; id -un; exit 3"
    )
    assert (done.returncode, done.stdout) == (3, "dyn\n")
    assert lab_command("fault", "h1", "poweroff", "--name", name).returncode == 0
    done = lab_command("fault", "h1", "cut", "--name", name)
    assert (done.returncode, done.stderr) == (1, "lab: h1 is powered off; boot it first\n")
    assert lab_command("wipe", "h1", "--name", name).returncode == 0
    assert lab_command("fault", "h1", "poweron", "--name", name).returncode == 0
    assert lab_command("exec", "h1", "--name", name, "--", "ls", "/home/dyn").stdout == ""
    for words in (
        ["delay", "5ms"],
        ["loss", "0.1"],
        ["rate", "10mbit"],
        ["refuse", "99"],
        ["partition", "h2"],
    ):
        assert lab_command("fault", "h1", *words, "--name", name).returncode == 0
    assert lab_command("fault", "h1", "heal", "--name", name).returncode == 0


@pytest.mark.lab
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fault", "h9", "cut"], "there is no host 'h9'; the hosts are h1, h2"),
        (["fault", "h1", "partition", "h9"], "there is no host 'h9'; the hosts are h1, h2"),
        (["wipe", "h9"], "there is no host 'h9'; the hosts are h1, h2"),
        (["fault", "h1", "cut", "2"], "cut takes no value, and got '2'"),
        (["fault", "h1", "loss"], "loss needs a value; see: scripts/lab --help"),
        (["fault", "h1", "loss", "2"], "loss is a probability above 0 and up to 1, not 2"),
        (
            ["fault", "h1", "explode"],
            "there is no fault 'explode'; the faults are cut, heal, poweroff, poweron, freeze, thaw, "
            "disk-full, disk-free, loss, delay, rate, refuse, partition",
        ),
    ],
)
def test_a_wrong_request_is_one_sentence(name: str, words: list[str], sentence: str) -> None:
    done = lab_command(*words, "--name", name)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"lab: {sentence}\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["start", "x"], "how many hosts is a whole number, not 'x'"),
        (["start", "0"], "a lab has from 1 to 200 hosts, not 0"),
        (["start", "3", "--systemd-on", "h4"], "there is no host 'h4'; the hosts are h1 to h3"),
        (["start"], "the following arguments are required: N; see: scripts/lab --help"),
        (["run", "2"], "run needs a command after --, as in: scripts/lab --help"),
        (["run", "0", "--", "true"], "a lab has from 1 to 200 hosts, not 0"),
        (["hosts", "--", "true"], "hosts takes no command after --"),
        (["hosts", "--name", "A"], "'A' cannot name a lab; use lower-case letters, digits and dashes"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert capsys.readouterr().err == f"lab: {sentence}\n"


@pytest.mark.lab
def test_a_lab_that_does_not_run_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stop", "--name", "nobody"]) == 1
    expected = "lab: no lab named 'nobody' is running; start one with: scripts/lab start 3\n"
    assert capsys.readouterr().err == expected


def test_amounts() -> None:
    assert [duration_s("50ms"), duration_s("2s"), duration_s("1.5s")] == [0.05, 2.0, 1.5]
    assert [rate_bits_per_s("64kbit"), rate_bits_per_s("1.5mbit")] == [64_000, 1_500_000]
    assert [probability("0.3"), probability(".3"), probability("1")] == [0.3, 0.3, 1.0]
    with pytest.raises(BadRequest, match=r"^delay needs a duration like 50ms or 2s, not '50'$"):
        duration_s("50")
    with pytest.raises(BadRequest, match=r"^rate needs an amount like 64kbit or 10mbit, not '64kb'$"):
        rate_bits_per_s("64kb")
    with pytest.raises(BadRequest, match=r"^loss needs a probability like 0.3, not '-1'$"):
        probability("-1")


def documented() -> list[str]:
    """Every command line in the page for people and in the help."""
    text = (CHECKOUT / "docs/lab.md").read_text() + cli.EXAMPLES
    return re.findall(r"^ +(?:sudo )?scripts/lab ([^#\n`]*?)(?:  .*|#.*)?$", text, re.MULTILINE)


@pytest.mark.parametrize("line", documented())
def test_what_the_page_and_the_help_show_is_understood(line: str) -> None:
    words = line.split(" -- ")[0].split()
    assert cli.parser().parse_args(words).verb == words[0]


def test_the_page_and_the_help_name_every_fault() -> None:
    faults = {*cli.PLAIN_FAULTS, *cli.VALUE_FAULTS, "partition"}
    page = (CHECKOUT / "docs/lab.md").read_text()
    assert {fault for fault in faults if f"`{fault}" not in page} == set()
    assert {fault for fault in faults if fault not in cli.EXAMPLES.split("faults:")[1]} == set()


@pytest.mark.lab
def test_run_gives_the_command_the_hosts_and_gives_back_its_status() -> None:
    script = f"""
        {sys.executable} {PROGRAM} hosts --json
        setsid sleep 300 &
        exit 7
    """
    done = lab_command("run", "2", "--systemd-on", "h2", "--", "sh", "-c", script)
    assert done.returncode == 7
    assert [(host["name"], host["init"]) for host in json.loads(done.stdout)] == [
        ("h1", "bare"),
        ("h2", "systemd"),
    ]
    done = lab_command("run", "1", "--", "no-such-command")
    sentence = "lab: cannot run no-such-command: No such file or directory\n"
    assert (done.returncode, done.stderr) == (1, sentence)


@pytest.mark.lab
def test_ctrl_c_is_for_the_command() -> None:
    script = "trap 'exit 5' INT; echo ready; sleep 300 & wait"
    command = [sys.executable, PROGRAM, "run", "1", "--", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        try:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
            os.killpg(run.pid, signal.SIGINT)
            assert run.wait(GONE_WITHIN_S) == 5
        finally:
            run.kill()


@pytest.mark.lab
def test_kill_of_run_leaves_nothing() -> None:
    script = "echo $DYNO_LAB_CGROUP; setsid sleep 300 & sleep 300"
    command = [sys.executable, PROGRAM, "run", "2", "--", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            cgroup = Path(run.stdout.readline().strip())
            assert cgroup.is_dir()
        finally:
            run.kill()
        # The pipe closes when the last process that holds it has ended, so every one of them has.
        assert run.stdout.read() == ""
    deadline_s = time.monotonic() + GONE_WITHIN_S
    while cgroup.exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not cgroup.exists()
