"""A connection made: socket, hello, host key, log-in; directly, through a ProxyCommand, or over hops.

In: a target, the host keys, a link to go through. Out: a Link, or an error that says what, where, why, what next.
"""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from dataclasses import dataclass

import paramiko
from paramiko.packet import Packetizer

from dynoctl.remote.deadline import PATIENCE, Deadline, Patience
from dynoctl.remote.host_keys import HostKeys
from dynoctl.remote.known_hosts import HostKey
from dynoctl.remote.ssh import failures
from dynoctl.remote.ssh.auth import log_in
from dynoctl.remote.ssh.pulse import Pulse
from dynoctl.remote.ssh.wire import NotForwarded, Wire, dial
from dynoctl.remote.target import Target

TRIES = 6
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 3.0
KEEPALIVE_S = 30


class _Packets(Packetizer):
    """Without paramiko's timer for the handshake: its thread keeps the process alive, and we have a deadline."""

    def start_handshake(self, timeout: float) -> None:
        return


@dataclass(frozen=True, slots=True)
class Link:
    """A transport that is logged in. Closing it ends everything that waits on it."""

    target: Target
    transport: paramiko.Transport
    wire: Wire
    pulse: Pulse

    @property
    def alive(self) -> bool:
        """Whether it can still be used, as far as is known."""
        return self.transport.is_active()

    def close(self) -> None:
        """At once, and never waiting for the far end. Calling it twice is fine."""
        _end(self.transport, self.wire)


def connect(
    target: Target,
    keys: HostKeys,
    *,
    through: Link | None = None,
    patience: Patience = PATIENCE,
    stop: threading.Event | None = None,
) -> Link:
    """Log in to `target`, by way of `through` where given.

    A far end that closes the connection before it has said hello (sshd drops some when too many come at once) is
    tried again, TRIES times in all, with pauses that grow and vary. `stop` ends the pauses.

    Raises:
        Unreachable, AuthRefused, HostKeyChanged, HostKeyUnknown.
    """
    stop = stop or threading.Event()
    for number in range(1, TRIES + 1):
        try:
            return _once(target, keys, through, patience)
        except failures.Refused as error:
            pause_s = min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
            if number == TRIES or stop.wait(pause_s):
                raise failures.hung_up(target, number, error) from error
        except NotForwarded as error:
            hop = through.target.where if through else "a hop"
            raise failures.not_forwarded(target, hop, str(error)) from error
        except Exception as error:
            raise failures.connecting(target, error) from error
    raise AssertionError("unreachable code")


def _once(target: Target, keys: HostKeys, through: Link | None, patience: Patience) -> Link:
    deadline = Deadline.after(target.connect_timeout_s)
    wire = dial(target, deadline, through.transport if through else None)
    transport = None
    try:
        transport = paramiko.Transport(wire.socket, packetizer_class=_Packets)
        try:
            _hello(transport, target, keys, deadline)
        except failures.Refused as error:
            error.command = wire.command_ended()
            raise
        log_in(transport, target)
        transport.set_keepalive(KEEPALIVE_S)
        return Link(target, transport, wire, Pulse(transport, patience))
    except BaseException:
        _end(transport, wire)
        raise


def _hello(transport: paramiko.Transport, target: Target, keys: HostKeys, deadline: Deadline) -> None:
    """Agree on encryption and look at the host key. Raises Refused where the far end just hangs up."""
    left_s = max(deadline.left_s(), 0.1)
    transport.banner_timeout = left_s
    _prefer(transport, keys.types(target))
    try:
        transport.start_client(timeout=left_s)
        if not transport.initial_kex_done:  # start_client just returns when its time is up
            raise TimeoutError
        shown = transport.get_remote_server_key()
    except (paramiko.SSHException, EOFError, OSError) as error:
        if _hung_up(error):
            raise failures.Refused from error
        if deadline.over:
            raise TimeoutError from error
        raise
    keys.verify(target, HostKey(shown.get_name(), shown.asbytes()))


def _hung_up(error: BaseException | None) -> bool:
    """Whether an end of file or a reset is behind the error; paramiko wraps them in a sentence about banners."""
    while error is not None:
        if isinstance(error, EOFError | ConnectionResetError | BrokenPipeError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _prefer(transport: paramiko.Transport, types: tuple[str, ...]) -> None:
    """Ask first for key types that are known for this host."""
    options = transport.get_security_options()
    wanted = {
        name for kind in types for name in (["rsa-sha2-512", "rsa-sha2-256"] if kind == "ssh-rsa" else [kind])
    }
    options.key_types = tuple(sorted(options.key_types, key=lambda name: name not in wanted))


def _end(transport: paramiko.Transport | None, wire: Wire) -> None:
    wire.hang_up()  # first: paramiko's thread then wakes at once instead of at its next look
    if transport is not None:
        with suppress(Exception):
            transport.close()
    wire.close()
