"""The bytes under SSH: a TCP connection, a channel through a hop, or the two ends of a ProxyCommand.

In: a target and a deadline. Out: something with the methods of a socket, set up so that small packets leave at once
and a cut line is noticed.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import paramiko

from dynoctl.remote.deadline import Deadline
from dynoctl.remote.target import Target

UNACKNOWLEDGED_S = 10.0
REAP_S = 1.0
ERROR_BYTES = 2_000


class _Prompt(socket.socket):
    """Acknowledges what it receives at once.

    sshd holds a small packet back until the one before it is acknowledged, and Linux acknowledges late unless it
    is told otherwise after each packet. A short command takes 3 ms with this, 4 to 11 ms without.
    """

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        got = super().recv(size, flags)
        with suppress(OSError):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return got


_REASONS = {
    1: "it forbids forwarding: see AllowTcpForwarding in its sshd_config",
    2: "from there it refuses, or cannot be reached",
}


class NotForwarded(Exception):
    """A hop did not open a connection; the argument says why."""


@dataclass(frozen=True, slots=True)
class Wire:
    """`socket` is a socket or a paramiko channel; `process` a ProxyCommand that has to be ended with it."""

    socket: Any
    process: subprocess.Popen[bytes] | None = None
    errors: IO[bytes] | None = None

    def command_ended(self) -> str | None:
        """How the ProxyCommand ended, in words, where that is why the other side hung up."""
        if self.process is None or self.errors is None:
            return None
        try:
            status = self.process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            return None
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - ERROR_BYTES))
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return f"status {status}" + (f": {lines[-1]}" if lines else "")

    def hang_up(self) -> None:
        """Stop both directions, so that whoever reads or writes wakes up."""
        if isinstance(self.socket, socket.socket):
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of everything."""
        with suppress(Exception):
            self.socket.close()
        if self.process is not None:
            _reap(self.process)
        if self.errors is not None:
            self.errors.close()


def dial(target: Target, deadline: Deadline, through: paramiko.Transport | None) -> Wire:
    """Reach the target's port. Raises OSError (a timeout included), paramiko.SSHException."""
    if through is not None:
        return Wire(_forward(target, deadline, through))
    if target.proxy_command:
        return _command(target.proxy_command)
    return Wire(_tcp(target, deadline))


def _tcp(target: Target, deadline: Deadline) -> socket.socket:
    """The first address that answers; each gets its fair share of the time that is left."""
    addresses = _resolve(target, deadline)
    failure: OSError = TimeoutError()
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        made = _Prompt(family, kind, protocol)
        try:
            made.settimeout(max(deadline.left_s() / (len(addresses) - number), 0.05))
            made.connect(address)
            _set_up(made)
            return made
        except OSError as error:
            made.close()
            failure = error
    raise failure


def _set_up(made: socket.socket) -> None:
    # Without NODELAY each command costs 40 ms more: two small packets, and the other side acknowledges late.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNACKNOWLEDGED_S * 1000))


def _resolve(target: Target, deadline: Deadline) -> list[Any]:
    """getaddrinfo has no time-out of its own, so a name is looked up on a thread that may be left behind."""
    name, port = target.hostname, target.port
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.append(error)

    asking = threading.Thread(target=ask, name="resolve", daemon=True)
    asking.start()
    asking.join(deadline.left_s())
    if not answer:
        raise socket.gaierror(socket.EAI_AGAIN, "no answer from the name server")
    if isinstance(answer[0], UnicodeError):
        raise socket.gaierror(socket.EAI_NONAME, "not a valid name")
    if isinstance(answer[0], Exception):
        raise answer[0]
    return list(answer[0])


def _forward(target: Target, deadline: Deadline, through: paramiko.Transport) -> paramiko.Channel:
    try:
        return through.open_channel(
            "direct-tcpip", (target.hostname, target.port), ("127.0.0.1", 0), timeout=deadline.left_s()
        )
    except paramiko.SSHException as error:
        if not through.is_active():
            raise NotForwarded("the connection to it was lost") from error
        if "Timeout" in str(error):
            raise TimeoutError from error
        # Where several are refused at once, paramiko tells the reason to one caller and nothing to the rest.
        code = error.code if isinstance(error, paramiko.ChannelException) else 0
        raise NotForwarded(_REASONS.get(code, "it refused")) from error


def _command(command: str) -> Wire:
    """The command speaks to one end of a pair of sockets; the shell is the person's own choice in ~/.ssh/config."""
    ours, theirs = socket.socketpair()
    errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the wire)
    with theirs:
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=errors.fileno(),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            errors.close()
            raise
    return Wire(ours, process, errors)


def _reap(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        try:
            process.wait(REAP_S)
            return
        except subprocess.TimeoutExpired:
            continue
