"""Bad days on the way to a node: each says what, where, why, and what to type next."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynoctl.errors import AuthRefused, DynoctlError, HostKeyChanged, HostKeyUnknown, Unreachable
from dynoctl.remote.dial import Connections, Dialler
from dynoctl.remote.host_keys import HostKeys
from dynoctl.remote.ssh_config import SshConfig
from dynoctl.remote.ssh_lines import ConfigFile
from dynoctl.remote.target import Person
from dynoctl.topology.machines import Ssh
from tests.dynoctl.remote.conftest import Machine, Reach, machine
from tests.dynoctl.remote.sshd import Sshd, fingerprint, free_port, keygen

Start = Callable[..., Sshd]


def failure(reach: Reach, made: Machine, **how: object) -> DynoctlError:
    with pytest.raises(DynoctlError) as caught:
        reach.to_machines(made, **how).to(made.name)  # type: ignore[arg-type]
    return caught.value


@contextmanager
def listening(serve: Callable[[socket.socket], None] | None = None, *, backlog: int = 5) -> Iterator[int]:
    """A port on loopback; `serve` gets each connection, without it nobody answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        stop = threading.Event()

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    if stop.is_set() or serve is None:
                        return
                    serve(connection)

        worker = threading.Thread(target=accept, daemon=True)
        if serve is not None:
            worker.start()
        yield server.getsockname()[1]
        stop.set()
        if serve is not None:
            socket.create_connection(server.getsockname(), timeout=5).close()
            worker.join(5)


def node(port: int, host: str = "127.0.0.1", **settings: object) -> Machine:
    return Machine("n1", host, Ssh(user="ubuntu", port=port, **settings))  # type: ignore[arg-type]


def test_nobody_listens(reach: Reach) -> None:
    port = free_port()
    error = failure(reach, node(port))
    assert isinstance(error, Unreachable)
    assert error.message == f"n1: 127.0.0.1:{port} refused the connection (is sshd running there?)"
    assert error.next == f"ssh -p {port} ubuntu@127.0.0.1"


def test_a_name_that_nobody_knows(reach: Reach) -> None:
    error = failure(reach, node(22, host="no-such-host.invalid"))
    assert isinstance(error, Unreachable)
    assert error.message.startswith("n1: the name no-such-host.invalid cannot be resolved (")
    assert error.next == "getent hosts no-such-host.invalid"


def test_a_name_that_cannot_be_one(reach: Reach) -> None:
    error = failure(reach, node(22, host="a" * 64 + ".invalid"))
    assert "cannot be resolved (" in error.message


def test_a_name_server_that_does_not_answer(reach: Reach, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30) and [])
    error = failure(reach, node(22, host="gpu7.example", connect_timeout_s=0.2))
    release.set()
    assert error.message == ("n1: the name gpu7.example cannot be resolved (no answer from the name server)")


def test_a_port_that_takes_connections_and_says_nothing(reach: Reach) -> None:
    with listening() as port:
        error = failure(reach, node(port, connect_timeout_s=0.3))
    assert isinstance(error, Unreachable)
    assert error.message == (
        f"n1: 127.0.0.1:{port} did not answer within 0.3 s (is it up, and is the port open?)"
    )


def test_something_else_listens_there(reach: Reach) -> None:
    with listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 200)) as port:
        error = failure(reach, node(port, connect_timeout_s=5))
    assert isinstance(error, Unreachable)
    assert error.message == (
        f"n1: 127.0.0.1:{port} cannot be talked to over SSH "
        '(Indecipherable protocol version "HTTP/1.1 400 Bad Request")'
    )


def test_a_server_that_always_hangs_up_is_given_up_after_six_times(
    reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynoctl.remote.ssh.link.FIRST_PAUSE_S", 0.001)
    calls: list[int] = []
    with listening(lambda connection: calls.append(1)) as port:
        error = failure(reach, node(port))
    assert isinstance(error, Unreachable)
    assert error.message == (
        f"n1: 127.0.0.1:{port} closed the connection 6 times before SSH began "
        "(too many at once? see MaxStartups in its sshd_config)"
    )
    assert len(calls) == 6


def test_a_server_that_freezes_before_it_says_hello(sshd: Start, reach: Reach) -> None:
    server = sshd()
    server.signal(signal.SIGSTOP)
    error = failure(reach, machine("n1", server, timeout_s=0.4))
    assert error.message == (
        f"n1: 127.0.0.1:{server.port} did not answer within 0.4 s (is it up, and is the port open?)"
    )


def test_no_way_to_the_network(reach: Reach) -> None:
    error = failure(reach, node(22, host="255.255.255.255"))
    assert isinstance(error, Unreachable)
    assert "255.255.255.255:22" in error.message


def test_nothing_in_common(sshd: Start, reach: Reach) -> None:
    server = sshd(Ciphers="chacha20-poly1305@openssh.com")
    error = failure(reach, machine("n1", server))
    assert isinstance(error, Unreachable)
    assert error.message.startswith(
        f"n1: 127.0.0.1:{server.port} and this machine have no method of encryption in common ("
    )


class TestLoggingIn:
    def test_a_key_that_is_not_wanted(self, sshd: Start, reach: Reach, tmp_path: Path) -> None:
        server = sshd()
        other = keygen(tmp_path / "other")
        error = failure(reach, machine("n1", server, key=other))
        assert isinstance(error, AuthRefused)
        assert error.message == (
            f"n1: 127.0.0.1:{server.port} does not let user {server.user} in with the key that we have"
        )
        assert error.detail == (f"{other} ({fingerprint(other)}): refused",)
        assert error.next == f"ssh -v -p {server.port} -i {other} {server.user}@127.0.0.1"

    def test_several_keys_are_tried_in_order(self, sshd: Start, reach: Reach, tmp_path: Path) -> None:
        server = sshd()
        names = [keygen(tmp_path / f"key{number}") for number in range(3)]
        config = "".join(f"IdentityFile {name}\n" for name in [*names, server.client_key])
        reach.to_machines(
            Machine("n1", "127.0.0.1", Ssh(user=server.user, port=server.port)), config=config
        ).to("n1")

    def test_too_many_keys(self, sshd: Start, reach: Reach, tmp_path: Path) -> None:
        server = sshd(MaxAuthTries="2")
        names = [keygen(tmp_path / f"key{number}") for number in range(4)]
        config = "".join(f"IdentityFile {name}\n" for name in names)
        made = Machine("n1", "127.0.0.1", Ssh(user=server.user, port=server.port))
        error = failure(reach, made, config=config)
        assert isinstance(error, AuthRefused)
        assert error.message.endswith("with any of 4 keys that we have")
        assert error.detail[-1] == "the node then closed the connection: too many keys were offered"

    def test_a_user_that_is_not_there(self, sshd: Start, reach: Reach) -> None:
        server = sshd()
        settings = Ssh(user="nobody-here", port=server.port, key=str(server.client_key))
        error = failure(reach, Machine("n1", "127.0.0.1", settings))
        assert "does not let user nobody-here in" in error.message

    def test_keys_are_not_accepted_at_all(self, sshd: Start, reach: Reach) -> None:
        server = sshd(PubkeyAuthentication="no", PasswordAuthentication="yes")
        error = failure(reach, machine("n1", server))
        assert error.detail[0].endswith(": keys are not accepted here, only password")

    def test_a_second_factor(self, sshd: Start, reach: Reach) -> None:
        server = sshd(AuthenticationMethods="publickey,password", PasswordAuthentication="yes")
        error = failure(reach, machine("n1", server))
        assert error.detail[0].endswith(": accepted, but the node also wants password")

    def test_a_key_file_that_is_not_there(self, sshd: Start, reach: Reach, tmp_path: Path) -> None:
        server = sshd()
        error = failure(reach, machine("n1", server, key=tmp_path / "nope"))
        assert isinstance(error, AuthRefused)
        assert error.message == f"n1: there is no key to offer to 127.0.0.1:{server.port}"
        assert error.detail == (f"{tmp_path / 'nope'}: no such file",)

    def test_a_key_file_that_is_not_a_key(self, sshd: Start, reach: Reach, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("hello")
        error = failure(reach, machine("n1", sshd(), key=tmp_path / "key"))
        assert error.detail[0].startswith(f"{tmp_path / 'key'}: ")

    @pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
    def test_other_kinds_of_keys(self, sshd: Start, reach: Reach, tmp_path: Path, kind: str) -> None:
        server = sshd()
        key = keygen(tmp_path / "key", kind=kind)
        server.authorized_keys.write_text(key.with_suffix(".pub").read_text())
        reach.to_machines(machine("n1", server, key=key)).to("n1")


class Agent:
    """A real ssh-agent at a path of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "agent")
        self._process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", self.path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout
        self._process.stdout.readline()  # it prints where it listens once it does

    def add(self, key: Path, passphrase: str) -> None:
        ask = key.with_name("askpass")
        ask.write_text(f"#!/bin/sh\necho {passphrase}\n")
        ask.chmod(0o700)
        environment = {**os.environ, "SSH_AUTH_SOCK": self.path, "SSH_ASKPASS": str(ask)}
        subprocess.run(
            ["ssh-add", "-q", str(key)],
            env={**environment, "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"},
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
        )

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path)
    yield made
    made.stop()


class TestPassphrases:
    @pytest.fixture
    def locked(self, sshd: Start, tmp_path: Path) -> tuple[Sshd, Path]:
        server = sshd()
        key = keygen(tmp_path / "locked", passphrase="correct horse")
        server.authorized_keys.write_text(key.with_suffix(".pub").read_text())
        return server, key

    def test_without_an_agent_the_way_out_is_named(self, locked: tuple[Sshd, Path], reach: Reach) -> None:
        server, key = locked
        error = failure(reach, machine("n1", server, key=key))
        assert isinstance(error, AuthRefused)
        assert error.message == f"n1: the key {key} has a passphrase, and no agent runs"
        assert error.next == f'eval "$(ssh-agent)" && ssh-add {key}'

    def test_an_agent_that_does_not_hold_it(
        self, locked: tuple[Sshd, Path], reach: Reach, agent: Agent
    ) -> None:
        server, key = locked
        error = failure(reach, machine("n1", server, key=key), agent=agent.path)
        assert error.message == f"n1: the key {key} has a passphrase, and the agent does not hold it"
        assert error.next == f"ssh-add {key}"

    @pytest.mark.parametrize("public_half", ["beside it", "inside it only"])
    def test_an_agent_that_holds_it(
        self, locked: tuple[Sshd, Path], reach: Reach, agent: Agent, public_half: str
    ) -> None:
        server, key = locked
        agent.add(key, "correct horse")
        if public_half == "inside it only":
            key.with_suffix(".pub").unlink()
        connections = reach.to_machines(machine("n1", server, key=key), agent=agent.path)
        assert connections.to("n1").run("echo in", timeout_s=20).out == b"in\n"

    def test_a_key_that_only_the_agent_has(
        self, locked: tuple[Sshd, Path], reach: Reach, agent: Agent
    ) -> None:
        server, key = locked
        agent.add(key, "correct horse")
        made = Machine("n1", "127.0.0.1", Ssh(user=server.user, port=server.port))
        reach.to_machines(made, agent=agent.path).to("n1")

    def test_identities_only_keeps_the_agents_other_keys_back(
        self, locked: tuple[Sshd, Path], reach: Reach, agent: Agent, tmp_path: Path
    ) -> None:
        server, key = locked
        agent.add(key, "correct horse")
        other = keygen(tmp_path / "other")
        error = failure(
            reach, machine("n1", server, key=other), agent=agent.path, config="IdentitiesOnly yes\n"
        )
        assert [line.split(" ")[0] for line in error.detail] == [str(other)]

    def test_an_agent_that_is_gone_is_mentioned(
        self, locked: tuple[Sshd, Path], reach: Reach, tmp_path: Path
    ) -> None:
        server, key = locked
        error = failure(reach, machine("n1", server, key=key), agent=str(tmp_path / "gone"))
        assert error.detail == (f"the agent at {tmp_path / 'gone'}: no such file or directory",)


class TestHostKeys:
    def test_the_first_time_pins_and_reports(self, sshd: Start, reach: Reach) -> None:
        server = sshd()
        reach.to(server).to("n1")
        assert [(each.node, each.name, each.key.fingerprint, each.known) for each in reach.pinned] == [
            ("n1", f"[127.0.0.1]:{server.port}", fingerprint(server.public), None)
        ]
        key_type, key = server.public.read_text().split()[:2]
        assert reach.known_hosts.read_text() == f"[127.0.0.1]:{server.port} {key_type} {key}\n"

    def test_the_second_time_is_silent(self, sshd: Start, reach: Reach) -> None:
        server = sshd()
        reach.to(server).to("n1")
        reach.to(server, pin=False).to("n1")
        assert len(reach.pinned) == 1

    def test_a_verb_that_reads_only_does_not_pin(self, sshd: Start, reach: Reach) -> None:
        server = sshd()
        error = failure(reach, machine("n1", server), pin=False)
        assert isinstance(error, HostKeyUnknown)
        assert error.message == (
            f"n1: the host key of 127.0.0.1:{server.port} is not known yet "
            f"(ED25519 {fingerprint(server.public)}), and only `dynoctl up` pins keys, also with --dry-run"
        )
        assert not reach.known_hosts.exists()

    def test_a_key_that_the_user_knows_is_accepted_and_pinned(self, sshd: Start, reach: Reach) -> None:
        server = sshd()
        users = server.home / "known"
        users.write_text(f"[127.0.0.1]:{server.port} {server.public.read_text()}")
        config = f"Host *\nUserKnownHostsFile {users}\n"
        # the fixture's own first line says `none`, and the first value wins
        made = machine("n1", server)

        for pin in (False, True):
            keys = HostKeys(reach.known_hosts, pin=pin, on_pin=reach.pinned.append)
            ssh_config = SshConfig([ConfigFile("config", config, "")])
            with Connections(Dialler([made], keys, config=ssh_config, person=Person("me"))) as connections:
                connections.to("n1")
        assert [each.known for each in reach.pinned] == [f"{users}:1"]

    def test_a_changed_key_is_refused_with_both_fingerprints(self, sshd: Start, reach: Reach) -> None:
        server = sshd()
        reach.to(server).to("n1")
        old = fingerprint(server.public)
        server.stop()
        server.host_key.unlink()
        server.public.unlink()
        keygen(server.host_key)
        server.start()
        error = failure(reach, machine("n1", server))
        assert isinstance(error, HostKeyChanged)
        assert error.message == (
            f"n1: 127.0.0.1:{server.port} shows another host key than the one that is known; "
            "nothing was sent to it"
        )
        assert error.detail[:2] == (
            f"known: ED25519 {old} ({reach.known_hosts}:1)",
            f"shown: ED25519 {fingerprint(server.public)}",
        )
        assert error.next == f"ssh-keygen -R '[127.0.0.1]:{server.port}' -f {reach.known_hosts}"
        subprocess.run(error.next, shell=True, check=True, capture_output=True, timeout=10)
        reach.to(server).to("n1")

    def test_a_server_with_another_kind_of_key_beside_is_no_alarm(self, sshd: Start, reach: Reach) -> None:
        """The pinned RSA key is asked for, though the server would rather show its new ed25519 key."""
        server = sshd()
        rsa = keygen(server.home / "rsa", kind="rsa")
        public = rsa.with_suffix(".pub").read_text()
        reach.known_hosts.write_text(f"[127.0.0.1]:{server.port} {public}")
        server.stop()
        both = Sshd(server.home, settings={"HostKey": f"{server.host_key}\nHostKey {rsa}"})
        try:
            both.start()
            reach.known_hosts.write_text(f"[127.0.0.1]:{both.port} {public}")
            reach.to(both, pin=False).to("n1")
        finally:
            both.stop()
