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

from dynoctl.errors import DynoctlError, Locked
from dynoctl.remote.connection import Connection
from dynoctl.remote.node_program import ask

TTL_S = 30.0
RENEW_S = 10.0


@dataclass(frozen=True, slots=True)
class Me:
    """This dynoctl, as others are told of it. `process` is its pid, start time and boot: proof of being dead."""

    who: str
    host: str
    doing: str
    since: str
    token: str
    process: tuple[int, int, str]

    def holder(self) -> dict[str, Any]:
        """What stands in the lease."""
        pid, starttime, boot_id = self.process
        return {
            "who": self.who,
            "host": self.host,
            "doing": self.doing,
            "since": self.since,
            "process": {"pid": pid, "starttime": starttime, "boot_id": boot_id},
        }


def own_process() -> tuple[int, int, str]:
    """Pid, start time and boot id of this process."""
    return (os.getpid(), _starttime(os.getpid()) or 0, _boot_id())


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


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
    """
    request = {"path": path, "token": me.token, "ttl_s": TTL_S, "holder": me.holder()}
    answer = ask(connection, node_program, "lease", {**request, "do": "take", "instead_of": None})
    if not answer["ok"] and (holder := answer["holder"]) and _is_dead(holder, me):
        instead = {**request, "do": "take", "instead_of": holder["token"]}
        answer = ask(connection, node_program, "lease", instead)
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
            kept = ask(connection, node_program, "lease", request)["ok"]
        except DynoctlError:
            failures += 1
            kept = failures * RENEW_S < TTL_S
        else:
            failures = 0
        if not kept:
            lost()
            return


def _is_dead(holder: dict[str, Any], me: Me) -> bool:
    """Whether the holder was a process of this very machine that does not run any more."""
    process = holder.get("process") or {}
    if process.get("boot_id") != me.process[2]:
        return False
    return _starttime(int(process.get("pid", 0))) != process.get("starttime")


def _locked(answer: dict[str, Any], node: str) -> Locked:
    holder = answer["holder"] or {}
    who = f"{holder.get('who', 'somebody')} on {holder.get('host', 'another machine')}"
    what = f"since {holder.get('since', 'a moment ago')}: {holder.get('doing', 'an unknown verb')}"
    return Locked(
        f"{who} has been working on this cluster {what}",
        detail=[f"the lock is on {node}; if that run is dead, it expires in {answer['left_s']:.0f} s"],
        next="wait for it to end, then run the same command again",
    )
