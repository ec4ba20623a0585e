"""How a process begins and ends, whatever it runs: asked for by a signal, or because it cannot go on.

In: signals, reasons why it cannot go on. Out: an exit status, 0 after an end that was asked for, 1 otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import Protocol

from dyno_runtime.bus.base import Refused
from dyno_runtime.engine.base import EngineError
from dyno_runtime.settings import ProcessSettings


class Life:
    """`ending` is set once the process is to end; `fatal` says why, where nobody asked for it."""

    def __init__(self, log: logging.Logger, how: str) -> None:
        """`how` is logged when the end is asked for: what the process does then."""
        self.ending = asyncio.Event()
        self.fatal: str | None = None
        self._asked = False
        self._log = log
        self._how = how

    def heed_signals(self) -> None:
        """SIGTERM and SIGINT ask for the end from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)

    def stop(self) -> None:
        """Ask for the end; asked twice, end at once."""
        if self._asked:
            self._log.warning("asked to stop again: ending at once")
            os._exit(1)
        self._asked = True
        self._log.info(self._how)
        self.ending.set()

    def fail(self, why: str) -> None:
        """It cannot go on. Of several reasons the first is the one that counts."""
        if self.fatal is None:
            self.fatal = why
            self._log.error("%s", why)
        self.ending.set()

    def over(self) -> int:
        """Say that it has ended, and why; the exit status."""
        self._log.info("ended" if self.fatal is None else f"ended: {self.fatal}")
        return 0 if self.fatal is None else 1


class Served(Protocol):
    """A process that can be run."""

    async def serve(self) -> int:
        """Start, run until told to stop or unable to go on, shut down; the exit status."""


async def serve(settings: ProcessSettings, make: Callable[[ProcessSettings], Served]) -> int:
    """Run one process; the exit status."""
    try:
        process = make(settings)
    except (Refused, EngineError) as error:
        logging.getLogger("dyno.process").error("%s", error)
        return 1
    return await process.serve()
