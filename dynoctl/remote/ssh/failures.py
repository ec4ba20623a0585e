"""What went wrong with SSH, in words: every exception that paramiko or a socket raises, as one of our errors.

In: a target and an exception. Out: an error that says what, where, why and what to type next. Pure.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable

from paramiko import ssh_exception as said

from dynoctl.errors import AuthRefused, DynoctlError, HostKeyChanged, Unreachable, UsageError
from dynoctl.remote.deadline import seconds
from dynoctl.remote.target import Target

# paramiko logs tracebacks of what it also raises; without a handler Python would print them on standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Refused(Exception):
    """The far end closed the connection before or while the two sides said hello: worth another try.

    `command` is how the ProxyCommand ended, where there was one and that is why.
    """

    command: str | None = None


Failure = Callable[[Target, Exception], DynoctlError]


def connecting(target: Target, error: Exception) -> DynoctlError:
    """The error for a connection that could not be made."""
    if isinstance(error, DynoctlError):
        return error
    if isinstance(error, OSError) and not isinstance(error, said.NoValidConnectionsError):
        return _socket(target, error)
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind](target, error)
    return unreachable(target, f"{target.where} cannot be talked to ({_text(error)})")


def broken(target: Target, what: str) -> Unreachable:
    """The error for a connection that was lost while `what` was going on."""
    return unreachable(target, f"the connection to {target.where} was lost while {what}")


def silent(target: Target, count_s: float) -> Unreachable:
    """The far end holds the connection and says nothing any more."""
    return unreachable(
        target,
        f"{target.where} has not answered for {seconds(count_s)}; the machine may be frozen or overloaded",
    )


def unreachable(target: Target, message: str, *, next: str | None = None) -> Unreachable:
    """An Unreachable whose way out is to try by hand."""
    return Unreachable(target.node, message, next=next or target.login)


def hung_up(target: Target, tries: int, last: Refused) -> Unreachable:
    """All tries ended with the far end hanging up."""
    if last.command is not None:
        return unreachable(
            target, f"the ProxyCommand for {target.where} ended {tries} times, at last with {last.command}"
        )
    why = "too many at once? see MaxStartups in its sshd_config"
    return unreachable(target, f"{target.where} closed the connection {tries} times before SSH began ({why})")


def session_refused(target: Target) -> Unreachable:
    """No session could be opened on a connection that stands, and we hold no other."""
    return unreachable(
        target,
        f"{target.where} lets user {target.user} open no session (is MaxSessions 0 in its sshd_config?)",
    )


def not_forwarded(target: Target, hop: str, why: str) -> Unreachable:
    """The hop is there and did not get us any further."""
    return unreachable(target, f"the hop {hop} cannot connect to {target.where} ({why})")


def command_refused(target: Target, error: Exception) -> Unreachable:
    """A session was opened, and then not allowed to run anything."""
    return unreachable(
        target, f"{target.where} does not let user {target.user} run commands ({_text(error)})"
    )


def _socket(target: Target, error: OSError) -> Unreachable:
    where = target.where
    if isinstance(error, socket.gaierror):
        return unreachable(
            target,
            f"the name {target.hostname} cannot be resolved ({error.strerror})",
            next=f"getent hosts {target.hostname}",
        )
    if isinstance(error, TimeoutError):
        limit = seconds(target.connect_timeout_s)
        return unreachable(target, f"{where} did not answer within {limit} (is it up, and is the port open?)")
    return unreachable(
        target,
        _SOCKET.get(error.errno or 0, "{where} cannot be reached ({why})").format(
            where=where, why=error.strerror or _text(error)
        ),
    )


_SOCKET = {
    errno.ECONNREFUSED: "{where} refused the connection (is sshd running there?)",
    errno.EHOSTUNREACH: "there is no way to {where} (no route to host: is it up?)",
    errno.ENETUNREACH: "there is no way to {where} from here (the network is unreachable)",
    errno.EACCES: "a rule on this machine forbids to connect to {where}",
}


def _no_address(target: Target, error: Exception) -> DynoctlError:
    causes = list(getattr(error, "errors", {}).values())
    return _socket(target, causes[0] if causes else OSError(str(error)))


def _plain(sentence: str) -> Failure:
    def fail(target: Target, error: Exception) -> DynoctlError:
        return unreachable(target, sentence.format(where=target.where, why=_text(error)))

    return fail


def _auth(target: Target, error: Exception) -> DynoctlError:
    why = _text(error)
    return AuthRefused(
        target.node,
        f"{target.where} refused user {target.user} ({why})",
        next=target.login.replace("ssh ", "ssh -v ", 1),
    )


def _passphrase(target: Target, error: Exception) -> DynoctlError:
    key = target.keys[0] if target.keys else "the key"
    return AuthRefused(
        target.node, f"{key} has a passphrase, and the agent does not hold it", next=f"ssh-add {key}"
    )


def _host_key(target: Target, error: Exception) -> DynoctlError:
    return HostKeyChanged(target.node, f"{target.where} shows another host key than the one that is known")


def _config(target: Target, error: Exception) -> DynoctlError:
    return UsageError(
        f"{target.node}: the SSH config cannot be used ({_text(error)})", next=f"ssh -G {target.host}"
    )


def _channel(target: Target, error: Exception) -> DynoctlError:
    return unreachable(target, f"{target.where} refused a channel ({_text(error)})")


def _text(error: Exception) -> str:
    if isinstance(error, said.ChannelException):
        return str(error.text)
    return (str(error) or type(error).__name__).rstrip(".")


TABLE: dict[type, Failure] = {
    said.NoValidConnectionsError: _no_address,
    said.BadHostKeyException: _host_key,
    said.PasswordRequiredException: _passphrase,
    said.BadAuthenticationType: _auth,
    said.PartialAuthentication: _auth,
    said.UnableToAuthenticate: _auth,
    said.AuthenticationException: _auth,
    said.ChannelException: _channel,
    said.IncompatiblePeer: _plain("{where} and this machine have no method of encryption in common ({why})"),
    said.MessageOrderError: _plain("{where} broke the rules of SSH ({why}), and the connection was closed"),
    said.ProxyCommandFailure: _plain("the ProxyCommand for {where} failed ({why})"),
    said.CouldNotCanonicalize: _config,
    said.ConfigParseError: _config,
    said.SSHException: _plain("{where} cannot be talked to over SSH ({why})"),
    EOFError: _plain("{where} closed the connection before SSH began"),
}
