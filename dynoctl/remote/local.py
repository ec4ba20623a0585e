"""This machine as a node: the same protocol, by subprocess.

In: scripts and files. Out: what they printed. Each script has a session of its own, so that a terminal's Ctrl-C
does not reach it and a time-out can end it with all its children.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from dynoctl.errors import CommandFailed, TimedOut, Unreachable
from dynoctl.remote import own_files, placing
from dynoctl.remote.capture import Capture, ReaderFailed, TooMuch
from dynoctl.remote.connection import Completed
from dynoctl.remote.deadline import Deadline, seconds
from dynoctl.remote.framing import ARGUMENT_BYTES, LONG_LOCAL, checked

CHUNK_BYTES = 65_536
GRACE_S = 1.0

# What our own Python, shell or terminal set up for itself would change what the same script does on a node.
_OURS = ("PYTHON", "BASH_FUNC_", "VIRTUAL_ENV", "COVERAGE_", "DYNO_UNIT")
_OURS_EXACTLY = frozenset(
    {"ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "CDPATH", "PWD", "OLDPWD", "LINES", "COLUMNS"}
)


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what belongs to our own Python, shell and terminal."""
    return {
        name: value
        for name, value in ours.items()
        if not name.startswith(_OURS) and name not in _OURS_EXACTLY
    }


class LocalConnection:
    """A Connection to this machine, as the user who runs dynoctl."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._closed = False

    @property
    def node(self) -> str:
        """The node's name in the topology."""
        return self._node

    @property
    def alive(self) -> bool:
        """As in `Connection.alive`."""
        return not self._closed

    def run(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        timeout_s: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """As in `Connection.run`. A time-out ends the script and everything in its session's first group."""
        deadline = Deadline.after(timeout_s)
        out, err = Capture(on_line=on_line), Capture()
        process, head = self._start(script)
        try:
            with process:
                try:
                    _converse(process, head + stdin, out, err, deadline)
                except BaseException:
                    _end(process)
                    raise
        except TimeoutError:
            raise TimedOut(self._node, f"a command did not end within {seconds(timeout_s)}") from None
        except ReaderFailed as failed:
            raise failed.cause from None
        except TooMuch as error:
            raise CommandFailed(self._node, f"a command {error}") from None
        finally:
            with self._guard:
                self._running.discard(process)
        if self._closed:
            raise Unreachable(self._node, "the connection was closed while a command was running")
        status = process.returncode
        return Completed(status if status >= 0 else 128 - status, out.finish(), err.finish())

    def put(self, content: bytes, path: str, *, mode: int, timeout_s: float) -> None:
        """As in `Connection.put`; `timeout_s` is not needed here, where the disk is our own."""
        if self._closed:
            raise Unreachable(self._node, "the connection is closed")
        target = Path(path).expanduser()
        try:
            own_files.make_folders(target.parent)
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, "Is a directory")
            own_files.replace(target, content, mode=mode)
        except OSError as error:
            raise placing.refused_here(self._node, path, error) from error

    def close(self) -> None:
        """End what still runs. Calling it twice is fine."""
        with self._guard:
            self._closed = True
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGKILL)

    def _start(self, script: str) -> tuple[subprocess.Popen[bytes], bytes]:
        text = checked(script)
        short = len(text) < ARGUMENT_BYTES
        argv = ["/bin/sh", "-c", *([text.decode()] if short else [LONG_LOCAL, "sh", str(len(text))])]
        with self._guard:
            if self._closed:
                raise Unreachable(self._node, "the connection is closed")
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=Path.home(),
                env=environment(os.environ),
                start_new_session=True,
            )
            self._running.add(process)
        return process, b"" if short else text


def _converse(
    process: subprocess.Popen[bytes], stdin: bytes, out: Capture, err: Capture, deadline: Deadline
) -> None:
    """Write and read until both streams and the script have ended. Raises TimeoutError, TooMuch."""
    assert process.stdin
    assert process.stdout
    assert process.stderr
    with selectors.DefaultSelector() as ready:
        for stream, capture in ((process.stdout, out), (process.stderr, err)):
            os.set_blocking(stream.fileno(), False)
            ready.register(stream, selectors.EVENT_READ, capture)
        rest = _offer(process.stdin, memoryview(stdin), ready)
        while ready.get_map():
            happened = ready.select(deadline.left_s())
            if not happened and deadline.over:
                raise TimeoutError
            for key, _ in happened:
                if key.data is None:
                    rest = _offer(process.stdin, rest, ready)
                elif chunk := os.read(key.fd, CHUNK_BYTES):
                    key.data.feed(chunk)
                else:
                    ready.unregister(key.fileobj)
    process.stdin.close()
    try:
        process.wait(deadline.left_s())
    except subprocess.TimeoutExpired:
        raise TimeoutError from None


def _offer(pipe: IO[bytes], rest: memoryview, ready: selectors.BaseSelector) -> memoryview:
    """Write what the pipe takes now; close it after the last byte or when nobody reads it any more."""
    os.set_blocking(pipe.fileno(), False)
    try:
        rest = rest[os.write(pipe.fileno(), rest) :] if rest else rest
    except BlockingIOError:
        pass
    except BrokenPipeError:
        rest = rest[:0]
    known = pipe in ready.get_map()
    if not rest:
        if known:
            ready.unregister(pipe)
        pipe.close()
    elif not known:
        ready.register(pipe, selectors.EVENT_WRITE)
    return rest


def _end(process: subprocess.Popen[bytes]) -> None:
    """TERM to the whole group, KILL once the script has ended or a second has passed.

    The script is reaped last: until then its number cannot become somebody else's group.
    """
    _signal(process, signal.SIGTERM)
    ended = os.pidfd_open(process.pid)
    try:
        select.select([ended], [], [], GRACE_S)
    finally:
        os.close(ended)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
