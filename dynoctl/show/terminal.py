"""How dynoctl speaks: results on standard output, everything else on standard error.

In: lines and rich renderables. Out: text that is plain and one line an event where nobody watches a terminal.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from dynoctl.errors import DynoctlError

if TYPE_CHECKING:
    from rich.console import Console


PLAIN_WIDTH = 1000  # where nobody watches, one row is one line, for grep


class NobodyReads(Exception):
    """Whoever read standard output has gone (`dynoctl logs | head`): what is still to be printed is not wanted."""


class Terminal:
    """The two streams of a run. `quiet` leaves out progress, for `--json`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    @cached_property
    def out(self) -> Console:
        """Where results go."""
        return _console(stderr=False)

    @cached_property
    def err(self) -> Console:
        """Where progress, questions and errors go."""
        return _console(stderr=True)

    @property
    def live(self) -> bool:
        """Whether a table that redraws itself makes sense."""
        return not self.quiet and self.err.is_terminal

    def say(self, text: str = "", style: str | None = None) -> None:
        """One line of progress."""
        if not self.quiet:
            self.err.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def result(self, renderable: Any = "") -> None:
        """One part of the result."""
        self.out.print(renderable, markup=False, highlight=False, soft_wrap=isinstance(renderable, str))

    def warn(self, text: str) -> None:
        """Something that works, but not as well as it could; printed with `--json` too."""
        self.err.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def error(self, error: DynoctlError) -> None:
        """What failed, the lines that belong to it, and the one command to run next."""
        self.err.print("error: ", style="bold red", end="")
        self.err.print(error.message, markup=False, highlight=False, soft_wrap=True)
        for line in error.detail:
            self.err.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        if error.next:
            self.err.print(f"next: {as_typed(error.next)}", markup=False, highlight=False, soft_wrap=True)

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; no answer is no."""
        self.err.print(f"{question} [y/N] ", end="", markup=False, highlight=False)
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except ValueError:
            return False


def as_typed(commands: str) -> str:
    """The same text with `dynoctl` called as it was called now: a checkout's script is not on the PATH."""
    called = os.environ.get("DYNOCTL_AS", "dynoctl")
    return re.sub(r"(?<![\w/.-])dynoctl (?=[a-z]|--)", lambda found: f"{called} ", commands)


def let_go(stream: TextIO) -> None:
    """From now on what is written to a stream goes nowhere; the interpreter flushes it once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class Stream(Console):
        def on_broken_pipe(self) -> None:
            """Progress that nobody reads is no reason to stop in the middle; a result that nobody reads is."""
            self.quiet = True
            let_go(sys.stderr if stderr else sys.stdout)
            if not stderr:
                raise NobodyReads

    console = Stream(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console
