"""Every error that dynoctl raises on purpose, and the exit code that each one leads to.

    DynoctlError                       what failed, where, why; `next` is the one command to run now
    ├── UsageError                     the command line cannot be carried out                      2
    ├── TopologyError                  the file is wrong; carries every problem of it              2
    ├── NodeError                      one node, named                                             1
    │   ├── Unreachable                no TCP connection, or it broke and stayed broken            1
    │   ├── AuthRefused                the node answered and let none of our keys in               1
    │   ├── HostKeyChanged             the node is not the one that was pinned                     1
    │   ├── HostKeyUnknown             never seen, and this verb may not pin                       1
    │   ├── CommandFailed              a step ran on the node and failed                           1
    │   └── TimedOut                   a step ran past its deadline                                1
    ├── Blocked                        the plan cannot be carried out on what was observed         1
    ├── NotReady                       everything was started, and something did not get ready     1
    ├── Interrupted                Ctrl-C in the middle; says what is left and how to go on      130
    ├── LeftBehind                     `down` ran, and something of ours is still there            1
    └── Locked                         someone else holds the cluster                              3

Only `dynoctl.__main__` catches broadly. A message is one sentence; the text on several lines that belongs to
it (the tail of a log, say) goes to `detail`, and the way out to `next`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence


class Exit(enum.IntEnum):
    """The exit codes of every verb."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    LOCKED = 3
    INTERRUPTED = 130


class DynoctlError(Exception):
    """The root. `str(error)` is the sentence; `detail` are lines below it; `next` is what to type now."""

    exit = Exit.FAILED

    def __init__(self, message: str, *, detail: Sequence[str] = (), next: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = tuple(detail)
        self.next = next


class UsageError(DynoctlError):
    """The command line itself is wrong."""

    exit = Exit.USAGE


class TopologyError(DynoctlError):
    """A topology file that cannot be used. `detail` holds all its problems, rendered, in file order."""

    exit = Exit.USAGE


class NodeError(DynoctlError):
    """Something failed on one node. `node` is its name in the topology."""

    def __init__(
        self, node: str, message: str, *, detail: Sequence[str] = (), next: str | None = None
    ) -> None:
        super().__init__(f"{node}: {message}", detail=detail, next=next)
        self.node = node


class Unreachable(NodeError):
    """No connection could be made, or the connection broke in the middle."""


class AuthRefused(NodeError):
    """The node is there and refused every key that was offered."""


class HostKeyChanged(NodeError):
    """The node's host key differs from the pinned one. Both fingerprints are in `detail`."""


class HostKeyUnknown(NodeError):
    """The node's host key was never pinned, and a read-only verb does not pin."""


class CommandFailed(NodeError):
    """A command ran on the node and did not end well; its last lines are in `detail`."""


class TimedOut(NodeError):
    """A command on the node did not end before its deadline."""


class Blocked(DynoctlError):
    """What was observed stands in the way of the plan; nothing was changed."""


class NotReady(DynoctlError):
    """Everything was started, but some role failed, got stuck, or the cluster gave no token."""


class Interrupted(DynoctlError):
    """Somebody typed Ctrl-C while something was being changed; `detail` names what was done by then."""

    exit = Exit.INTERRUPTED


class LeftBehind(DynoctlError):
    """After `down`, something of ours is still there; `detail` names each thing."""


class Locked(DynoctlError):
    """Another `dynoctl` works on this cluster; the message names who, where and since when."""

    exit = Exit.LOCKED
