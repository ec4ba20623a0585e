"""A Connection over SSH: many commands, at the same time if need be, on one transport.

In: a link that is logged in. Out: what scripts printed, files put in place, errors of ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import paramiko

from dynoctl.errors import CommandFailed, DynoctlError, TimedOut
from dynoctl.remote import placing
from dynoctl.remote.capture import Capture, ReaderFailed, TooMuch
from dynoctl.remote.connection import Completed
from dynoctl.remote.deadline import Deadline, seconds
from dynoctl.remote.framing import frame
from dynoctl.remote.ssh import failures
from dynoctl.remote.ssh.channel import Lost, converse
from dynoctl.remote.ssh.link import Link
from dynoctl.remote.ssh.pulse import Silent
from dynoctl.remote.ssh.slots import Slots

NOISE_LINES = 10
REFUSALS = 20
REFUSAL_PAUSE_S = 0.05


class _NoSession(Exception):
    """sshd refused to open another session on this connection."""


class SshConnection:
    """One node over SSH. The link belongs to it: closing the one ends the other."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._slots = Slots()

    @property
    def node(self) -> str:
        """The node's name in the topology."""
        return self._link.target.node

    @property
    def alive(self) -> bool:
        """As in `Connection.alive`."""
        return self._link.alive

    def run(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        timeout_s: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """As in `Connection.run`. A script that a signal ended has status 255."""
        deadline = Deadline.after(timeout_s)
        framed = frame(script)
        out, err = Capture(mark=framed.mark, on_line=on_line), Capture(mark=framed.mark)
        with self._mapped(timeout_s), self._session(deadline) as channel:
            status = converse(
                channel, framed.command, framed.head + stdin, out, err, deadline, self._link.pulse
            )
        if not out.begun:
            raise self._no_shell(status, out, err)
        return Completed(status, out.finish(), err.finish())

    def put(self, content: bytes, path: str, *, mode: int, timeout_s: float) -> None:
        """As in `Connection.put`."""
        script = placing.script(path, mode=mode, size_bytes=len(content))
        done = self.run(script, stdin=content, timeout_s=timeout_s)
        if done.status != 0:
            raise placing.refused(self.node, path, done, login=self._link.target.login)

    def close(self) -> None:
        """End the connection; commands that are under way end with Unreachable. Calling it twice is fine."""
        self._link.close()

    @contextmanager
    def _session(self, deadline: Deadline) -> Iterator[paramiko.Channel]:
        """A session channel of our own; waits for its turn where sshd allows no more of them."""
        refusals = 0
        while True:
            with self._slots.one(deadline):
                try:
                    channel = self._open(deadline)
                except _NoSession as error:
                    if not self._slots.refused():
                        # sshd frees a session a moment after it closed it, and another try may come too early.
                        refusals += 1
                        if refusals == REFUSALS:
                            raise failures.session_refused(self._link.target) from error
                        time.sleep(deadline.left_s(at_most=REFUSAL_PAUSE_S))
                    continue
                try:
                    yield channel
                except BaseException:
                    # Says goodbye to the far end, and that blocks where it is frozen and its buffers are full.
                    threading.Thread(target=_leave, args=(channel,), name="ssh-close", daemon=True).start()
                    raise
                _leave(channel)
                return

    def _open(self, deadline: Deadline) -> paramiko.Channel:
        bound_s = self._link.pulse.bound_s
        try:
            return self._link.transport.open_session(timeout=deadline.left_s(at_most=bound_s))
        except paramiko.SSHException as error:
            if not self._link.transport.is_active():
                raise Lost from error
            if "Timeout" in str(error):
                raise TimeoutError if deadline.over else Silent(bound_s) from error
            # Where several are refused at once, paramiko tells the reason to one caller and nothing to the rest.
            raise _NoSession from error

    @contextmanager
    def _mapped(self, timeout_s: float) -> Iterator[None]:
        target = self._link.target
        try:
            yield
        except DynoctlError:
            raise
        except TimeoutError:
            raise TimedOut(
                target.node, f"a command did not end within {seconds(timeout_s)}", next=target.login
            ) from None
        except ReaderFailed as failed:
            raise failed.cause from None
        except TooMuch as error:
            raise CommandFailed(target.node, f"a command {error}", next=target.login) from None
        except Silent as error:
            self._link.close()
            raise failures.silent(target, float(error.args[0])) from None
        except paramiko.SSHException as error:
            if self._link.transport.is_active():
                raise failures.command_refused(target, error) from error
            raise failures.broken(target, "a command was running") from error
        except (Lost, EOFError, OSError) as error:
            raise failures.broken(target, "a command was running") from error

    def _no_shell(self, status: int, out: Capture, err: Capture) -> CommandFailed:
        target = self._link.target
        lines = (out.noise + err.noise).decode(errors="replace").splitlines()
        return CommandFailed(
            target.node,
            f"the login shell of {target.user} ended with status {status} before it ran our command",
            detail=lines[-NOISE_LINES:],
            next=f"{target.login} true",
        )


def _leave(channel: paramiko.Channel) -> None:
    """Close the channel; the connection may be gone by now, and then there is nobody to tell."""
    with suppress(Exception):
        channel.close()
