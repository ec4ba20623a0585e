"""Signals as something to wait for: a supervisor's only sources of news besides its clock.

In: SIGTERM and SIGINT (stop), SIGCHLD (somebody ended). Out: `stop` and a `wait` that returns at the first of them.
"""

from __future__ import annotations

import os
import select
import signal


class Signals:
    """Install once, in the main thread."""

    def __init__(self) -> None:
        self.stop = False
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # with a handler it reaches the wake-up descriptor
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def wait(self, timeout_s: float, also: int | None = None) -> None:
        """Return at the first signal, when the descriptor `also` gets readable, or after `timeout_s`."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if also is not None:
            poll.register(also, select.POLLIN)
        poll.poll(max(0.0, timeout_s) * 1000)
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            pass  # it was the time or `also`

    def _stop(self, *_: object) -> None:
        self.stop = True
