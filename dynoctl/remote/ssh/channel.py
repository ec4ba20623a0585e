"""One command on one SSH channel: feed it, read both of its streams at the same time, learn how it ended.

In: an open session channel, a command, its standard input. Out: the exit status; the output goes to two captures.
paramiko's own calls either read one stream or wait without a bound; here one event wakes us for all of them.
"""

from __future__ import annotations

import threading
from contextlib import suppress

import paramiko

from dynoctl.remote.capture import Capture
from dynoctl.remote.deadline import Deadline
from dynoctl.remote.ssh.pulse import Pulse

CHUNK_BYTES = 32_768
INLINE_BYTES = 16_384
LOOK_S = 1.0  # how often a wait looks at the pulse


class Lost(Exception):
    """The channel ended without an exit status."""


class _Wake(threading.Event):
    """paramiko clears the event of a buffer when that one is empty; ours stands for two, and only we clear it."""

    def clear(self) -> None:
        return

    def rearm(self) -> None:
        super().clear()


class _Patient(threading.Event):
    """For `Channel.exec_command`, which waits for the answer without a bound: gives up, and looks at the pulse."""

    def __init__(self, deadline: Deadline, pulse: Pulse) -> None:
        super().__init__()
        self._deadline = deadline
        self._pulse = pulse

    def wait(self, timeout: float | None = None) -> bool:
        while not super().wait(self._deadline.left_s(at_most=LOOK_S)):
            self._pulse.check()
            if self._deadline.over:
                raise TimeoutError
        return True


def converse(
    channel: paramiko.Channel,
    command: str,
    stdin: bytes,
    out: Capture,
    err: Capture,
    deadline: Deadline,
    pulse: Pulse,
) -> int:
    """Run `command` and return its exit status, 255 where a signal ended it (SSH tells, paramiko does not listen).

    Raises:
        TimeoutError, Silent, TooMuch, Lost, paramiko.SSHException, OSError.
    """
    channel.event = _Patient(deadline, pulse)
    channel.exec_command(command)
    pulse.heard()
    wake = _Wake()
    channel.in_buffer.set_event(wake)
    channel.in_stderr_buffer.set_event(wake)
    _send(channel, stdin, deadline)
    while not _drain(channel, wake, out, err, pulse):
        if not wake.wait(deadline.left_s(at_most=LOOK_S)):
            if deadline.over:
                raise TimeoutError
            pulse.check()
    return _status(channel, deadline, pulse)


def _drain(channel: paramiko.Channel, wake: _Wake, out: Capture, err: Capture, pulse: Pulse) -> bool:
    """Take all that is there; True once both streams have ended and nothing is left in them."""
    wake.rearm()
    ended = bool(channel.eof_received or channel.closed)
    while channel.recv_ready():
        out.feed(channel.recv(CHUNK_BYTES))
        pulse.heard()
    while channel.recv_stderr_ready():
        err.feed(channel.recv_stderr(CHUNK_BYTES))
        pulse.heard()
    return ended


def _status(channel: paramiko.Channel, deadline: Deadline, pulse: Pulse) -> int:
    while not channel.status_event.wait(deadline.left_s(at_most=LOOK_S)):
        pulse.check()
        if deadline.over:
            raise TimeoutError
    if channel.exit_status >= 0:
        return channel.exit_status
    transport = channel.get_transport()
    if not transport.is_active():
        raise Lost
    return 255


def _send(channel: paramiko.Channel, stdin: bytes, deadline: Deadline) -> None:
    """Little is sent from here; much is sent from a thread beside, because the far end may speak meanwhile."""
    if len(stdin) <= INLINE_BYTES:
        _write(channel, stdin, deadline)
    else:
        threading.Thread(
            target=_write, args=(channel, stdin, deadline), name="ssh-stdin", daemon=True
        ).start()


def _write(channel: paramiko.Channel, stdin: bytes, deadline: Deadline) -> None:
    """Ends early where nobody reads any more, or where the channel is closed; the reader then says why."""
    channel.settimeout(max(deadline.left_s(), 0.001))  # 0 would mean: do not wait at all
    rest = memoryview(stdin)
    with suppress(OSError, EOFError, paramiko.SSHException):
        while rest and not deadline.over:
            sent = channel.send(rest[:CHUNK_BYTES].tobytes())
            if not sent:
                return
            rest = rest[sent:]
        channel.shutdown_write()
