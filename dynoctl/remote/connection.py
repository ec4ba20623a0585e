"""The seam between dynoctl and a node: run a script there, put a file there, close.

In: a node's name and a way to reach it. Out: what a script printed and how it ended. Three implementations
pass one set of contract tests: `ssh` (paramiko), `local` (subprocess) and `fake` (memory).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Completed:
    """One script that ran to its end: exit status, and its output as bytes."""

    status: int
    out: bytes
    err: bytes


class Connection(Protocol):
    """One node, connected. Safe to use from several threads at once; every call blocks its own thread."""

    @property
    def node(self) -> str:
        """The node's name in the topology."""

    @property
    def alive(self) -> bool:
        """False once it is known that the connection is closed or broken. True is no promise."""

    def run(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        timeout_s: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run `script` with `sh` on the node, without a terminal and without reading start-up files.

        The script gets `stdin` as its standard input, and end of file behind it. Secrets belong there: the script
        itself can be seen in the node's process list. The call returns when the script has ended and nobody
        holds its output streams any more, so what shall outlive it must let go of them.

        `on_line` is called, on the caller's thread, for each whole line of standard output as it arrives (without
        its newline); what it raises ends the call. The lines are in `out` all the same: the last 64 MB of them.
        A status other than 0 is returned, not raised. A signal N is 128 + N; over SSH, 255.

        Raises:
            Unreachable: the connection broke, or the node stopped answering.
            TimedOut: `timeout_s` passed; the script may still be running on the node.
            CommandFailed: it printed more than 64 MB, or the login shell never came to run it.
        """

    def put(self, content: bytes, path: str, *, mode: int, timeout_s: float) -> None:
        """Write `content` to `path` on the node: whole or not at all (written beside it, then renamed).

        A leading `~/` is the home folder there. Missing folders above `path` are made with mode 0700.

        Raises:
            CommandFailed: the node refused (disk full, read-only, no permission); the message says which.
            Unreachable, TimedOut: as for `run`.
        """

    def close(self) -> None:
        """End the connection. Calling it twice is fine."""
