"""Whether the far end still lives, asked only where it has been silent: a frozen host acknowledges packets for ever.

In: a transport. Out: `check()` returns while the far end answers, and raises once it has not for too long. The
question itself blocks, so each is asked on a short-lived thread of its own; a command that ends soon costs none.
"""

from __future__ import annotations

import threading
import time

import paramiko

from dynoctl.remote.deadline import Patience


class Silent(Exception):
    """The far end has not answered; the argument is for how many seconds."""


class Pulse:
    """One for each transport, shared by everything that waits on it."""

    def __init__(self, transport: paramiko.Transport, patience: Patience) -> None:
        self._transport = transport
        self._patience = patience
        self._guard = threading.Lock()
        self._heard_at = time.monotonic()
        self._asked_at: float | None = None

    @property
    def bound_s(self) -> float:
        """After how many seconds of silence, in all, a far end counts as gone."""
        return self._patience.quiet_s + self._patience.answer_s

    def heard(self) -> None:
        """Something came from the far end: no need to ask for a while."""
        self._heard_at = time.monotonic()

    def check(self) -> None:
        """Ask after a silence. Returns at once; raises Silent where a question was not answered in time."""
        now = time.monotonic()
        with self._guard:
            asked_at = self._asked_at
            if asked_at is None and now - self._heard_at >= self._patience.quiet_s:
                self._asked_at = now
                threading.Thread(target=self._ask, name="ssh-pulse", daemon=True).start()
        if asked_at is not None and now - max(asked_at, self._heard_at) > self._patience.answer_s:
            raise Silent(self._patience.answer_s)

    def _ask(self) -> None:
        try:
            self._transport.global_request("keepalive@openssh.com", wait=True)
        except Exception:
            return  # the transport ended: whoever waits on it is told so by paramiko
        with self._guard:
            self._asked_at = None
        self._heard_at = time.monotonic()
