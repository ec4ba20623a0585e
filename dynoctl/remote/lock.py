"""One `dynoctl` at a time: a lease on one node, renewed while work goes on.

In: a connection to the node that keeps the lease. Out: a context; inside it nobody else changes the cluster. A
dynoctl that was killed leaves a lease that runs out in half a minute; on the machine where it was killed the next one
sees at once that it is dead, and takes the lease over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynoctl.errors import CommandFailed, DynoctlError, Locked
from dynoctl.remote.connection import Connection
from dynoctl.remote.node_program import ask

TTL_S = 30.0
RENEW_S = 10.0


@dataclass(frozen=True, slots=True)
class Me:
    """This dynoctl, as others are told of it. `process` is its pid, start time, and where that pid means something:
    proof of being dead."""

    who: str
    host: str
    doing: str
    since: str
    token: str
    process: tuple[int, int, str]

    def holder(self) -> dict[str, Any]:
        """What stands in the lease."""
        pid, starttime, scope = self.process
        return {
            "who": self.who,
            "host": self.host,
            "doing": self.doing,
            "since": self.since,
            "process": {"pid": pid, "starttime": starttime, "scope": scope},
        }


def own_process() -> tuple[int, int, str]:
    """Pid and start time of this process, and the scope of that pid."""
    return (os.getpid(), _starttime(os.getpid()) or 0, _scope())


def _scope() -> str:
    """This boot and this pid namespace: in another container of the same machine a pid is somebody else's."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot_id} {Path('/proc/self/ns/pid').readlink()}"


def _starttime(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


@contextmanager
def held(
    connection: Connection, node_program: str, path: str, me: Me, *, lost: Callable[[], None]
) -> Iterator[None]:
    """Hold the cluster's lease. `lost` is called, from another thread, when it could not be kept.

    Raises:
        Locked: somebody else has it, and lives as far as can be known.
        CommandFailed: the node cannot keep a lease; its disk is full, say.
    """
    request = {"path": path, "token": me.token, "ttl_s": TTL_S, "holder": me.holder()}
    answer = ask(connection, node_program, "lease", {**request, "do": "take", "instead_of": None})
    if not answer["ok"] and (holder := answer.get("holder")) and _is_dead(holder):
        instead = {**request, "do": "take", "instead_of": holder["token"]}
        answer = ask(connection, node_program, "lease", instead)
    if not answer["ok"] and "error" in answer:
        raise CommandFailed(connection.node, f"the cluster's lock cannot be taken: {answer['error']}")
    if not answer["ok"]:
        raise _locked(answer, connection.node)
    done = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(connection, node_program, {**request, "do": "renew"}, done, lost), daemon=True
    )
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join(timeout=RENEW_S)
        try:
            ask(connection, node_program, "lease", {**request, "do": "release"})
        except DynoctlError:
            pass  # The node is gone or its folder is; a lease that nobody renews runs out by itself.


def _renew(
    connection: Connection,
    node_program: str,
    request: dict[str, Any],
    done: threading.Event,
    lost: Callable[[], None],
) -> None:
    """Renew until done. One failure may be a hiccup of the link; when the lease must have run out, it is lost."""
    failures = 0
    while not done.wait(RENEW_S):
        try:
            answer = ask(connection, node_program, "lease", request)
        except DynoctlError as error:
            answer = {"ok": False, "error": error.message}
        if answer["ok"]:
            failures = 0
            continue
        failures += 1
        if "error" not in answer or failures * RENEW_S >= TTL_S:
            lost()
            return


def _is_dead(holder: dict[str, Any]) -> bool:
    process = holder.get("process") or {}
    return is_dead((int(process.get("pid", 0)), process.get("starttime", 0), str(process.get("scope", ""))))


def is_dead(process: tuple[int, int, str]) -> bool:
    """Whether a holder was a process of this very machine that does not run any more."""
    pid, starttime, scope = process
    return scope == _scope() and _starttime(pid) != starttime


def _locked(answer: dict[str, Any], node: str) -> Locked:
    holder = answer["holder"] or {}
    who = f"{holder.get('who', 'somebody')} on {holder.get('host', 'another machine')}"
    what = f"since {holder.get('since', 'a moment ago')}: {holder.get('doing', 'an unknown verb')}"
    return Locked(
        f"{who} has been working on this cluster {what}",
        detail=[f"the lock is on {node}; if that run is dead, it expires in {answer['left_s']:.0f} s"],
        next="wait for it to end, then run the same command again",
    )
