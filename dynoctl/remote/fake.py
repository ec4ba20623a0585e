"""Nodes in memory: the same protocol with scripted answers, and bad days on request. For tests and for planning.

In: answers for scripts, faults. Out: connections, the record of every call, the files that were put.

    host = FakeHost("node1")
    host.answer("uname -m", "x86_64\\n")
    connections = Connections(FakeHosts([host]))

A script without an answer is a mistake in the test and says so; nothing succeeds by accident.
"""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dynoctl.errors import DynoctlError, TimedOut, Unreachable
from dynoctl.remote import placing
from dynoctl.remote.capture import Capture, ReaderFailed
from dynoctl.remote.connection import Completed
from dynoctl.remote.deadline import seconds


@dataclass(frozen=True, slots=True)
class Call:
    """One `run` as it came in."""

    script: str
    stdin: bytes


Reply = Completed | str | bytes | Callable[[Call], Completed]


@dataclass(frozen=True, slots=True)
class FakeFile:
    """One file of a fake node."""

    content: bytes
    mode: int


@dataclass
class Faults:
    """What is wrong with a node; may be changed while it is in use.

    `connect` is raised instead of a connection. `delay_s` is how long each call takes. `disk_full` refuses files.
    From call number `dies_at` on (1 is the first `run` or `put` of the host's life) every connection breaks.
    """

    connect: DynoctlError | None = None
    delay_s: float = 0.0
    disk_full: bool = False
    dies_at: int | None = None


class FakeHost:
    """One node. Safe to use from several threads."""

    def __init__(self, node: str, *, home: str = "/home/fake") -> None:
        self.node = node
        self.home = home
        self.faults = Faults()
        self.calls: list[Call] = []
        self.files: dict[str, FakeFile] = {}
        self.dialled = 0
        self._answers: list[tuple[str | re.Pattern[str], Reply]] = []
        self._guard = threading.Lock()
        self._used = 0

    def answer(self, script: str | re.Pattern[str], reply: Reply) -> None:
        """Say what a script gives: one with exactly this text, or one in which the pattern is found.

        A text or bytes are what it prints, with status 0; a function is called with the Call. Of several
        answers that fit, the one that was given last counts.
        """
        self._answers.insert(0, (script, reply))

    def path(self, path: str) -> str:
        """The path as it is known in `files`: `~/` and `$HOME/` resolved."""
        for short in ("~/", "$HOME/"):
            if path.startswith(short):
                return f"{self.home}/{path.removeprefix(short)}"
        return path

    def connect(self) -> FakeConnection:
        """A connection. Raises what `faults.connect` says."""
        self.dialled += 1
        if self.faults.connect is not None:
            raise self.faults.connect
        return FakeConnection(self)

    def count(self) -> int:
        """The number of this call in the host's life, from 1."""
        with self._guard:
            self._used += 1
            return self._used

    def reply(self, call: Call) -> Completed:
        """What the script gives. Raises AssertionError where nobody said so."""
        with self._guard:
            self.calls.append(call)
        for wanted, reply in self._answers:
            if wanted == call.script or (isinstance(wanted, re.Pattern) and wanted.search(call.script)):
                return _completed(reply, call)
        words = _words(call.script)
        if len(words) == 2 and words[0] == "cat":
            return self._read(words[1])
        raise AssertionError(f"{self.node}: no answer was given for this script:\n{call.script}")

    def _read(self, path: str) -> Completed:
        file = self.files.get(self.path(path))
        if file is None:
            return Completed(1, b"", f"cat: {self.path(path)}: No such file or directory\n".encode())
        return Completed(0, file.content, b"")


class FakeConnection:
    """A Connection to a FakeHost."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self._closed = threading.Event()

    @property
    def node(self) -> str:
        """The node's name."""
        return self._host.node

    @property
    def alive(self) -> bool:
        """As in `Connection.alive`."""
        return not self._closed.is_set()

    def run(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        timeout_s: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """As in `Connection.run`."""
        self._suffer(timeout_s)
        done = self._host.reply(Call(script, stdin))
        lines = Capture(on_line=on_line)
        try:
            lines.feed(done.out)
            lines.finish()
        except ReaderFailed as failed:
            raise failed.cause from None
        return done

    def put(self, content: bytes, path: str, *, mode: int, timeout_s: float) -> None:
        """As in `Connection.put`; the file is in `FakeHost.files` afterwards."""
        self._suffer(timeout_s)
        if self._host.faults.disk_full:
            full = Completed(1, b"", b"cat: write error: No space left on device\n")
            raise placing.refused(self.node, path, full, login=f"ssh {self.node}")
        self._host.files[self._host.path(path)] = FakeFile(content, mode)

    def close(self) -> None:
        """As in `Connection.close`; calls that are delayed end."""
        self._closed.set()

    def _suffer(self, timeout_s: float) -> None:
        """Whatever is wrong with the node today."""
        faults = self._host.faults
        if self._closed.is_set():
            raise Unreachable(self.node, "the connection is closed")
        number = self._host.count()
        if faults.dies_at is not None and number >= faults.dies_at:
            self._closed.set()
            raise Unreachable(self.node, "the connection was lost while a command was running")
        if faults.delay_s and self._closed.wait(min(faults.delay_s, timeout_s)):
            raise Unreachable(self.node, "the connection was closed while a command was running")
        if faults.delay_s > timeout_s:
            raise TimedOut(self.node, f"a command did not end within {seconds(timeout_s)}")


@dataclass
class FakeHosts:
    """Dials fake hosts, for `Connections`."""

    hosts: Iterable[FakeHost]
    by_name: dict[str, FakeHost] = field(init=False)

    def __post_init__(self) -> None:
        self.by_name = {host.node: host for host in self.hosts}

    def dial(self, node: str) -> FakeConnection:
        """As `Dialler.dial`."""
        return self.by_name[node].connect()

    def close(self) -> None:
        """Nothing is shared between fake hosts."""


def _completed(reply: Reply, call: Call) -> Completed:
    if isinstance(reply, Completed):
        return reply
    if callable(reply):
        return reply(call)
    return Completed(0, reply.encode() if isinstance(reply, str) else reply, b"")


def _words(script: str) -> list[str]:
    try:
        return shlex.split(script)
    except ValueError:
        return []
