"""One word from a new supervisor to the `start` that launched it: it holds the unit, or why not.

In: a launcher that listens. Out: one JSON object, once. A socket in the abstract name space leaves no file behind
and works the same whether we forked the supervisor or systemd did.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time
from types import TracebackType
from typing import Any

_MAX_BYTES = 1 << 20


class Ear:
    """The launcher's end. `name` goes to the supervisor on its command line."""

    def __init__(self) -> None:
        self.name = "dyno-" + os.urandom(16).hex()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind("\0" + self.name)
        self._socket.listen(1)

    def __enter__(self) -> Ear:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self._socket.close()

    def hear(self, timeout_s: float, also: int | None = None) -> dict[str, Any] | None:
        """The word; None where none came in time, or the descriptor `also` got readable before one came."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if also is not None:
            poll.register(also, select.POLLIN)
        ready = dict(poll.poll(timeout_s * 1000))
        if self._socket.fileno() not in ready:
            return None
        peer, _ = self._socket.accept()
        with peer:
            return _read(peer, deadline) if _uid(peer) == os.getuid() else None


def tell(name: str, word: dict[str, Any]) -> bool:
    """Say it; False when the launcher is gone. Its SSH connection may have ended; the state says the same."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(5.0)
        try:
            line.connect("\0" + name)
            line.sendall(json.dumps(word).encode() + b"\n")
        except OSError:
            return False
    return True


def _read(peer: socket.socket, deadline: float) -> dict[str, Any] | None:
    text = b""
    while not text.endswith(b"\n") and len(text) < _MAX_BYTES:
        peer.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            chunk = peer.recv(65536)
        except TimeoutError:
            return None
        if not chunk:
            return None
        text += chunk
    word = json.loads(text)
    return word if isinstance(word, dict) else None


def _uid(peer: socket.socket) -> int:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
