"""SSH itself: noise of login shells, many sessions on one connection, frozen and broken servers."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dynoctl.errors import CommandFailed, TimedOut, Unreachable
from dynoctl.remote.deadline import Patience
from dynoctl.remote.dial import Connections
from dynoctl.remote.window import over
from tests.dynoctl.remote.conftest import Reach, machine
from tests.dynoctl.remote.sshd import Sshd

LIMIT_S = 30.0
BRIEF = Patience(quiet_s=0.2, answer_s=0.6)

Start = Callable[..., Sshd]


def ended_by(work: Callable[[], object], *, within_s: float = 15.0) -> BaseException:
    """The exception that `work` ends with; a hang is a failure."""
    raised: list[BaseException] = []

    def call() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(within_s)
    assert not thread.is_alive(), "it hangs"
    assert len(raised) == 1
    return raised[0]


def test_what_bashrc_prints_is_not_taken_for_output(sshd: Start, reach: Reach) -> None:
    server = sshd()
    (server.person_home / ".bashrc").write_text(
        f"touch {server.home}/was-read\nprintf 'welcome\\nno newline'; echo warning >&2; set -x\n"
    )
    lines: list[str] = []
    done = reach.to(server).to("n1").run("echo out; echo err >&2", timeout_s=LIMIT_S, on_line=lines.append)
    if not (server.home / "was-read").exists():
        pytest.skip("the login shell of this user does not read .bashrc under sshd")
    assert (done.out, done.err, lines) == (b"out\n", b"err\n", ["out"])


def test_a_login_shell_that_never_runs_the_command_is_named(sshd: Start, reach: Reach) -> None:
    server = sshd(ForceCommand="echo this account is closed; exit 9")
    with pytest.raises(CommandFailed) as caught:
        reach.to(server).to("n1").run("true", timeout_s=LIMIT_S)
    assert caught.value.message == (
        f"n1: the login shell of {server.user} ended with status 9 before it ran our command"
    )
    assert caught.value.detail == ("this account is closed",)


@pytest.mark.parametrize("sessions", ["10", "3", "1"])
def test_twenty_scripts_share_one_connection_whatever_it_allows(
    sshd: Start, reach: Reach, sessions: str
) -> None:
    server = sshd(MaxSessions=sessions, LogLevel="VERBOSE")
    connection = reach.to(server).to("n1")
    done: list[bytes] = []

    def ask(number: int) -> None:
        done.append(connection.run(f"echo {number}; sleep 0.02", timeout_s=LIMIT_S).out)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert sorted(done) == sorted(b"%d\n" % number for number in range(20))
    assert server.log.read_text().count("Accepted publickey") == 1


def test_no_session_at_all_is_an_error_that_names_the_setting(sshd: Start, reach: Reach) -> None:
    server = sshd(MaxSessions="0")
    with pytest.raises(Unreachable) as caught:
        reach.to(server).to("n1").run("true", timeout_s=LIMIT_S)
    assert caught.value.message == (
        f"n1: 127.0.0.1:{server.port} lets user {server.user} open no session "
        "(is MaxSessions 0 in its sshd_config?)"
    )


def test_waiting_for_a_session_counts_as_time_of_the_command(sshd: Start, reach: Reach) -> None:
    server = sshd(MaxSessions="1")
    connection = reach.to(server).to("n1")
    begun = threading.Event()
    holder = threading.Thread(
        target=lambda: ended_by(
            lambda: connection.run("echo; sleep 60", timeout_s=60, on_line=lambda line: begun.set())
        ),
        daemon=True,
    )
    holder.start()
    assert begun.wait(LIMIT_S)
    with pytest.raises(TimedOut, match=r"did not end within 0\.3 s"):
        connection.run("true", timeout_s=0.3)
    connection.close()
    holder.join(LIMIT_S)


def test_a_server_that_freezes_during_a_command_is_noticed(sshd: Start, reach: Reach) -> None:
    server = sshd()
    connection = reach.to(server, patience=BRIEF).to("n1")
    error = ended_by(
        lambda: connection.run(
            "echo; sleep 60", timeout_s=600, on_line=lambda line: server.signal(signal.SIGSTOP)
        )
    )
    assert isinstance(error, Unreachable)
    assert error.message == (
        f"n1: 127.0.0.1:{server.port} has not answered for 0.6 s; the machine may be frozen or overloaded"
    )
    assert not connection.alive


def test_a_server_that_is_frozen_before_a_command_is_noticed(sshd: Start, reach: Reach) -> None:
    server = sshd()
    connection = reach.to(server, patience=BRIEF).to("n1")
    server.signal(signal.SIGSTOP)
    error = ended_by(lambda: connection.run("true", timeout_s=600))
    assert isinstance(error, Unreachable)
    assert "has not answered for" in error.message


def test_a_server_that_freezes_while_a_file_is_sent_is_noticed(sshd: Start, reach: Reach) -> None:
    server = sshd()
    connection = reach.to(server, patience=BRIEF).to("n1")
    connection.run("true", timeout_s=LIMIT_S)
    threading.Timer(0.1, server.signal, [signal.SIGSTOP]).start()
    error = ended_by(
        lambda: connection.put(bytes(400_000_000), f"{server.home}/big", mode=0o600, timeout_s=600)
    )
    assert isinstance(error, Unreachable)
    server.signal(signal.SIGCONT)
    assert not (server.home / "big").exists()


def test_a_command_that_is_silent_for_long_is_left_alone(sshd: Start, reach: Reach) -> None:
    connection = reach.to(sshd(), patience=BRIEF).to("n1")
    assert connection.run("sleep 3; echo done", timeout_s=LIMIT_S).out == b"done\n"


def test_a_time_out_leaves_the_connection_usable(sshd: Start, reach: Reach) -> None:
    connection = reach.to(sshd()).to("n1")
    with pytest.raises(TimedOut) as caught:
        connection.run("sleep 60", timeout_s=0.5)
    assert caught.value.message == "n1: a command did not end within 0.5 s"
    assert connection.run("echo still here", timeout_s=LIMIT_S).out == b"still here\n"


def test_a_connection_that_breaks_during_a_command_is_told_and_made_anew(sshd: Start, reach: Reach) -> None:
    server = sshd()
    connections = reach.to(server)
    connection = connections.to("n1")
    with pytest.raises(Unreachable) as caught:
        connection.run("echo; kill -9 $PPID; sleep 60", timeout_s=LIMIT_S)
    assert caught.value.message == (
        f"n1: the connection to 127.0.0.1:{server.port} was lost while a command was running"
    )
    assert caught.value.next == (f"ssh -p {server.port} -i {server.client_key} {server.user}@127.0.0.1")
    assert connections.to("n1").run("echo again", timeout_s=LIMIT_S).out == b"again\n"


def test_a_signal_that_ends_a_script_is_a_status(sshd: Start, reach: Reach) -> None:
    assert reach.to(sshd()).to("n1").run("kill -9 $$", timeout_s=LIMIT_S).status == 255


def test_endless_output_ends_with_an_error(sshd: Start, reach: Reach) -> None:
    connection = reach.to(sshd()).to("n1")
    with pytest.raises(CommandFailed) as caught:
        connection.run("cat /dev/zero", timeout_s=LIMIT_S)
    assert caught.value.message == "n1: a command printed more than 64 MB"


def test_an_upload_that_is_cut_off_leaves_nothing(sshd: Start, reach: Reach, tmp_path: Path) -> None:
    """The node's `cat` sees the end of its input, as if the file were whole."""
    server = sshd()
    connection = reach.to(server).to("n1")
    target = tmp_path / "there" / "file"
    threading.Timer(0.3, connection.close).start()
    with pytest.raises(Unreachable):
        connection.put(bytes(400_000_000), str(target), mode=0o600, timeout_s=LIMIT_S)
    deadline = time.monotonic() + LIMIT_S
    while list(target.parent.glob("*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not target.exists()
    assert not list(target.parent.glob("*"))


def test_a_home_path_is_the_home_over_there(sshd: Start, reach: Reach) -> None:
    server = sshd()
    reach.to(server).to("n1").put(b"x", "~/some where/file", mode=0o640, timeout_s=LIMIT_S)
    assert (server.person_home / "some where" / "file").read_bytes() == b"x"


def test_a_server_that_drops_many_at_once_is_tried_again(sshd: Start, reach: Reach) -> None:
    """From two that have not logged in yet, sshd drops four in five, from three all."""
    server = sshd(MaxStartups="2:80:3", LoginGraceTime="20")
    machines = [machine(f"n{number}", server) for number in range(12)]
    connections = reach.to_machines(*machines)
    outcomes = dict(
        over([each.name for each in machines], lambda name: connections.to(name).run("echo", timeout_s=20))
    )
    assert [type(outcome).__name__ for outcome in outcomes.values()] == ["Completed"] * 12
    assert "MaxStartups" in server.log.read_text()


def test_closing_connections_ends_everything_under_way(sshd: Start, reach: Reach) -> None:
    connections: Connections = reach.to(sshd())
    begun = threading.Event()
    raised: list[BaseException] = []

    def work() -> None:
        raised.append(
            ended_by(
                lambda: connections.to("n1").run(
                    "echo; sleep 60", timeout_s=60, on_line=lambda line: begun.set()
                )
            )
        )

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert begun.wait(LIMIT_S)
    connections.close()
    worker.join(LIMIT_S)
    assert isinstance(raised[0], Unreachable)
    with pytest.raises(Unreachable, match="n1: the connections were closed"):
        connections.to("n1")


_PROGRAM = """
import sys
from pathlib import Path
from dynoctl.remote.dial import Connections, Dialler
from dynoctl.remote.host_keys import HostKeys
from dynoctl.remote.ssh_config import SshConfig
from dynoctl.remote.target import Person
from dynoctl.remote.window import over
from dynoctl.topology.machines import Ssh

class Machine:
    name, host = "n1", "127.0.0.1"
    ssh = Ssh(port=int(sys.argv[1]), connect_timeout_s=300)

try:
    dialler = Dialler([Machine()], HostKeys(Path("/nonexistent"), pin=False), config=SshConfig(), person=Person("me"))
    with Connections(dialler) as connections:
        for node, outcome in over(["n1"], connections.to):
            print(node, outcome)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_during_the_handshake_ends_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        argv = [sys.executable, "-c", _PROGRAM, str(server.getsockname()[1])]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"SSH-2.0-slow\r\n")
                    while b"curve25519" not in connection.recv(65536):
                        continue
                    process.send_signal(signal.SIGINT)
                    out, err = process.communicate(timeout=20)
            finally:
                process.kill()
    assert (out, err, process.returncode) == ("", "", 130)
