"""Who a node is: its host key, pinned on first sight in a file of the cluster and never changed silently.

In: the key that a host shows. Out: nothing, or an error that names both keys. Keys that the user's own known_hosts
holds are accepted and pinned too. Files are read once; the cluster's file is replaced by rename, under a lock.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dynoctl.errors import DynoctlError, HostKeyChanged, HostKeyUnknown
from dynoctl.remote import own_files
from dynoctl.remote.deadline import Deadline
from dynoctl.remote.known_hosts import Entry, HostKey, KnownHosts
from dynoctl.remote.target import Target

LOCK_S = 10.0
LOCK_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Pinned:
    """A key that was pinned just now. `known` is where the user had it already, else None: then a person looks."""

    node: str
    name: str
    key: HostKey
    known: str | None


class HostKeys:
    """The keys of one cluster. Safe to use from many threads; several processes may share the file."""

    def __init__(
        self, path: Path, *, pin: bool, on_pin: Callable[[Pinned], None] = lambda pinned: None
    ) -> None:
        """`pin`: whether unknown keys are accepted and kept; `on_pin` hears of each, on the thread that met it."""
        self._path = path
        self._pin = pin
        self._on_pin = on_pin
        self._files: dict[str, KnownHosts] = {}
        self._text: str | None = None
        self._guard = threading.Lock()

    def types(self, target: Target) -> tuple[str, ...]:
        """The key types that are known for the host: asking for these first avoids a needless alarm."""
        entries = self._pinned(target) or self._users(target)
        return tuple(dict.fromkeys(entry.key.type for entry in entries if not entry.revoked))

    def verify(self, target: Target, key: HostKey) -> None:
        """Accept the key that a host shows, or say why not.

        Raises:
            HostKeyChanged: another key is pinned or known for this host, or this one is revoked.
            HostKeyUnknown: no key is known, and this verb does not pin.
        """
        users = self._users(target)
        if _holds(target, key, self._pinned(target)):
            return
        known = _holds(target, key, users)
        if self._pin:
            if self._add(target, key):
                self._on_pin(Pinned(target.node, target.known_as, key, known.where if known else None))
        elif known is None:
            raise HostKeyUnknown(
                target.node,
                f"the host key of {target.where} is not known yet ({key}), "
                "and only `dynoctl up` pins keys, also with --dry-run",
                next=target.login,  # what a person accepts there counts here
            )

    def _pinned(self, target: Target) -> list[Entry]:
        return self._read(str(self._path)).find(target.known_as)

    def _users(self, target: Target) -> list[Entry]:
        return [entry for path in target.known_hosts for entry in self._read(path).find(target.known_as)]

    def _read(self, path: str) -> KnownHosts:
        with self._guard:
            if path not in self._files:
                self._files[path] = KnownHosts(path, _text(path))
            return self._files[path]

    def _add(self, target: Target, key: HostKey) -> bool:
        """Write the key down; False where somebody did so a moment ago. Raises HostKeyChanged."""
        with self._guard, _locked(self._path):
            path = str(self._path)
            text = _text(path)
            if text != self._text:  # another process has pinned since we read
                self._text, self._files[path] = text, KnownHosts(path, text)
            known = self._files[path]
            new = _holds(target, key, known.find(target.known_as)) is None
            if new:
                line = f"{target.known_as} {key.text}"
                begun = "\n" if text and not text.endswith("\n") else ""
                self._text = f"{text}{begun}{line}\n"
                own_files.replace(self._path, self._text.encode())
                known.append(line)
            return new


def _holds(target: Target, key: HostKey, entries: list[Entry]) -> Entry | None:
    """The entry with this very key; None where the host is not in the list at all. Raises HostKeyChanged."""
    for entry in entries:
        if entry.key == key:
            if entry.revoked:
                raise _changed(target, key, entry, "shows a host key that is marked as revoked")
            return entry
    others = [entry for entry in entries if not entry.revoked]
    same_type = [entry for entry in others if entry.key.type == key.type]
    if others:
        raise _changed(
            target, key, (same_type or others)[0], "shows another host key than the one that is known"
        )
    return None


def _changed(target: Target, key: HostKey, entry: Entry, what: str) -> HostKeyChanged:
    return HostKeyChanged(
        target.node,
        f"{target.where} {what}; nothing was sent to it",
        detail=[
            f"known: {entry.key} ({entry.where})",
            f"shown: {key}",
            "Was the machine installed anew? Then remove the known key. If not, somebody may stand in between.",
        ],
        next=f"ssh-keygen -R {shlex.quote(target.known_as)} -f {shlex.quote(entry.path)}",
    )


def _text(path: str) -> str:
    """The content of a file; nothing where it is not there or may not be read (OpenSSH does the same)."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file against other processes, for the moment of a rewrite. Raises DynoctlError after LOCK_S."""
    deadline = Deadline.after(LOCK_S)
    try:
        own_files.make_folders(path.parent)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DynoctlError(f"{path} cannot be written: {error.strerror}") from error
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline.over:
                    raise DynoctlError(
                        f"{path} has been locked by another process for {LOCK_S:g} s"
                    ) from None
                time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(lock)
