"""Every exception that paramiko has is one of ours, in words."""

from __future__ import annotations

import errno
import inspect
import socket

import pytest
from paramiko import ssh_exception

from dynoctl.errors import AuthRefused, DynoctlError, HostKeyChanged, Unreachable, UsageError
from dynoctl.remote.ssh import failures
from dynoctl.remote.target import Target

TARGET = Target(node="n1", host="gpu1", hostname="10.0.0.2", port=22, user="ubuntu", keys=("~/.ssh/id",))

EVERY = [
    kind
    for _, kind in inspect.getmembers(ssh_exception, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == ssh_exception.__name__
]


class _Key:
    def get_base64(self) -> str:
        return "AAAA"


MADE: dict[type, Exception] = {
    ssh_exception.NoValidConnectionsError: ssh_exception.NoValidConnectionsError(
        {("10.0.0.2", 22): ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")}
    ),
    ssh_exception.BadHostKeyException: ssh_exception.BadHostKeyException("gpu1", _Key(), _Key()),  # type: ignore[arg-type]
    ssh_exception.BadAuthenticationType: ssh_exception.BadAuthenticationType("no keys", ["password"]),
    ssh_exception.PartialAuthentication: ssh_exception.PartialAuthentication(["password"]),
    ssh_exception.ChannelException: ssh_exception.ChannelException(4, "Resource shortage"),
    ssh_exception.ProxyCommandFailure: ssh_exception.ProxyCommandFailure("nc x", "broken"),
}
EXPECTED: dict[type, tuple[type, str]] = {
    ssh_exception.NoValidConnectionsError: (
        Unreachable,
        "n1: 10.0.0.2:22 refused the connection (is sshd running there?)",
    ),
    ssh_exception.BadHostKeyException: (
        HostKeyChanged,
        "n1: 10.0.0.2:22 shows another host key than the one that is known",
    ),
    ssh_exception.PasswordRequiredException: (
        AuthRefused,
        "n1: ~/.ssh/id has a passphrase, and the agent does not hold it",
    ),
    ssh_exception.ChannelException: (Unreachable, "n1: 10.0.0.2:22 refused a channel (Resource shortage)"),
    ssh_exception.IncompatiblePeer: (
        Unreachable,
        "n1: 10.0.0.2:22 and this machine have no method of encryption in common (said)",
    ),
    ssh_exception.MessageOrderError: (
        Unreachable,
        "n1: 10.0.0.2:22 broke the rules of SSH (said), and the connection was closed",
    ),
    ssh_exception.ConfigParseError: (UsageError, "n1: the SSH config cannot be used (said)"),
    ssh_exception.CouldNotCanonicalize: (UsageError, "n1: the SSH config cannot be used (said)"),
    ssh_exception.AuthenticationException: (AuthRefused, "n1: 10.0.0.2:22 refused user ubuntu (said)"),
    ssh_exception.SSHException: (Unreachable, "n1: 10.0.0.2:22 cannot be talked to over SSH (said)"),
}


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_exception_of_paramiko_is_mapped_by_name(kind: type[Exception]) -> None:
    assert kind in failures.TABLE
    error = failures.connecting(TARGET, MADE.get(kind) or kind("said"))
    assert isinstance(error, DynoctlError)
    assert error.message.startswith("n1: ")
    if kind in EXPECTED:
        assert (type(error), error.message) == EXPECTED[kind]


def test_the_list_of_exceptions_is_not_empty() -> None:
    assert len(EVERY) >= 13


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
            "n1: 10.0.0.2:22 refused the connection (is sshd running there?)",
        ),
        (
            TimeoutError("timed out"),
            "n1: 10.0.0.2:22 did not answer within 8 s (is it up, and is the port open?)",
        ),
        (
            TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
            "n1: 10.0.0.2:22 did not answer within 8 s (is it up, and is the port open?)",
        ),
        (
            OSError(errno.EHOSTUNREACH, "No route to host"),
            "n1: there is no way to 10.0.0.2:22 (no route to host: is it up?)",
        ),
        (
            OSError(errno.ENETUNREACH, "Network is unreachable"),
            "n1: there is no way to 10.0.0.2:22 from here (the network is unreachable)",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "n1: a rule on this machine forbids to connect to 10.0.0.2:22",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "n1: 10.0.0.2:22 cannot be reached (Too many open files)",
        ),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "n1: the name 10.0.0.2 cannot be resolved (Name or service not known)",
        ),
        (EOFError(), "n1: 10.0.0.2:22 closed the connection before SSH began"),
        (ZeroDivisionError("x"), "n1: 10.0.0.2:22 cannot be talked to (x)"),
    ],
)
def test_what_sockets_say(error: Exception, message: str) -> None:
    made = failures.connecting(TARGET, error)
    assert isinstance(made, Unreachable)
    assert made.message == message


def test_an_error_of_ours_stays_as_it_is() -> None:
    error = Unreachable("n1", "x")
    assert failures.connecting(TARGET, error) is error
