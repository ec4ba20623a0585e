"""Progress of a run: a table that redraws itself on a terminal, one line an event elsewhere.

In: events of `remote.execute` and states of `probe.ready`. Out: text on standard error.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from dynoctl.plan.results import RoleState, StepResult
from dynoctl.plan.steps import Phase, Step
from dynoctl.show import text
from dynoctl.show.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live


class Progress(Protocol):
    """Who is told. Entered for the time that the work takes."""

    def phase(self, phase: Phase) -> None:
        """A phase begins."""

    def progress(self, step: Step, said: str) -> None:
        """A step says what it is at."""

    def step(self, step: Step, result: StepResult) -> None:
        """A step has ended."""

    def states(self, states: tuple[RoleState, ...], changed: RoleState) -> None:
        """A role has moved on the ladder."""

    def note(self, line: str) -> None:
        """Something else worth a line."""

    def __enter__(self) -> Progress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def progress(terminal: Terminal) -> Progress:
    """The one that fits where standard error goes."""
    return LiveProgress(terminal) if terminal.live else LineProgress(terminal)


class LineProgress:
    """Plain lines, for logs and pipes."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def phase(self, phase: Phase) -> None:
        self._terminal.say(f"{text.PHASE_TITLES[phase.name]}")

    def progress(self, step: Step, said: str) -> None:
        self._terminal.say(f"  {step.node}: {step.title}: {said}")

    def step(self, step: Step, result: StepResult) -> None:
        self._terminal.say(f"  {step.node}: {step.title}: {'failed' if result.error else 'done'}")
        for line in result.detail if not result.error else ():
            self._terminal.say(f"    {line}")

    def states(self, states: tuple[RoleState, ...], changed: RoleState) -> None:
        self._terminal.say(f"  {text.state_line(changed)}")

    def note(self, line: str) -> None:
        self._terminal.say(f"  {line}")


class LiveProgress:
    """What is done stays as lines above; below them what goes on now: running steps, then the ladder."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._running: dict[tuple[str, str], str] = {}
        self._table: RenderableType | None = None
        self._live: Live | None = None

    def __enter__(self) -> LiveProgress:
        from rich.live import Live

        self._live = Live(console=self._terminal.err, transient=True, refresh_per_second=10)
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._live is not None
        self._live.__exit__(kind, error, trace)

    def phase(self, phase: Phase) -> None:
        self._running.clear()
        self._terminal.say(text.PHASE_TITLES[phase.name], style="bold")
        self._redraw()

    def progress(self, step: Step, said: str) -> None:
        self._running[step.node, step.title] = said
        self._redraw()

    def step(self, step: Step, result: StepResult) -> None:
        self._running.pop((step.node, step.title), None)
        mark, style = ("✗", "red") if result.error else ("✓", "green")
        self._terminal.say(f"  {mark} {step.node}  {step.title}", style=style)
        for line in result.detail if not result.error else ():
            self._terminal.say(f"    {line}", style="yellow")
        self._redraw()

    def states(self, states: tuple[RoleState, ...], changed: RoleState) -> None:
        self._table = text.states_table(states)
        self._redraw()

    def note(self, line: str) -> None:
        self._terminal.say(f"  {line}")

    def _redraw(self) -> None:
        from rich.console import Group
        from rich.text import Text

        assert self._live is not None
        lines = [Text(f"  … {node}  {title}: {said}") for (node, title), said in self._running.items()]
        parts: list[RenderableType] = [*lines, *([self._table] if self._table is not None else [])]
        self._live.update(Group(*parts))
