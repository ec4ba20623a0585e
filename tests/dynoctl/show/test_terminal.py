"""Two streams: results and everything else; plain where nobody watches."""

from __future__ import annotations

import io
import sys

import pytest

from dynoctl.errors import DynoctlError
from dynoctl.plan.results import RoleState, Rung, StepResult
from dynoctl.plan.steps import Phase, RemoveCluster
from dynoctl.show.live import LineProgress, LiveProgress, progress
from dynoctl.show.terminal import Terminal, as_typed

STEP = RemoveCluster("n1", "why", "/x")
STATE = RoleState("n1", "decode-0", "decode", Rung.LOADED, "", 7)


def test_results_and_the_rest_go_apart(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.say("progress [bold]plain[/bold]")
    terminal.warn("careful")
    terminal.result("result [1]")
    terminal.result()
    assert capsys.readouterr() == ("result [1]\n\n", "progress [bold]plain[/bold]\nwarning: careful\n")


def test_quiet_keeps_warnings_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(quiet=True)
    terminal.say("progress")
    terminal.warn("careful")
    terminal.error(DynoctlError("it broke"))
    assert capsys.readouterr().err == "warning: careful\nerror: it broke\n"
    assert not terminal.live


def test_an_error_with_its_lines_and_what_to_type(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNOCTL_AS", "scripts/dynoctl")
    error = DynoctlError("it broke", detail=["| a" * 100, "b"], next="dynoctl up x.yaml")
    Terminal().error(error)
    assert capsys.readouterr().err == (
        f"error: it broke\n  {'| a' * 100}\n  b\nnext: scripts/dynoctl up x.yaml\n"
    )


def test_commands_as_they_were_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNOCTL_AS", "scripts/dynoctl")
    assert as_typed("dynoctl up  |  dynoctl down c") == "scripts/dynoctl up  |  scripts/dynoctl down c"
    assert as_typed("see /opt/dynoctl up, or my-dynoctl up") == "see /opt/dynoctl up, or my-dynoctl up"
    monkeypatch.delenv("DYNOCTL_AS")
    assert as_typed("dynoctl up") == "dynoctl up"


@pytest.mark.parametrize(("typed", "agreed"), [("y\n", True), ("YES\n", True), ("n\n", False), ("", False)])
def test_a_question(
    typed: str, agreed: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert Terminal().confirm("Go on?") is agreed
    assert capsys.readouterr().err == "Go on? [y/N] "


def test_standard_input_that_is_closed_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdin", closed)
    assert Terminal().confirm("Go on?") is False


def run(shown: LineProgress | LiveProgress) -> None:
    with shown:
        shown.phase(Phase("prepare", (STEP,)))
        shown.progress(STEP, "working")
        shown.step(STEP, StepResult("n1", STEP.title, 1.0))
        shown.step(STEP, StepResult("n1", STEP.title, 1.0, "no"))
        shown.states((STATE,), STATE)
        shown.note("a note")


def test_progress_is_plain_lines_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    shown = progress(Terminal())
    assert isinstance(shown, LineProgress)
    run(shown)
    assert capsys.readouterr() == (
        "",
        "prepare the nodes\n"
        "  n1: remove its folder: working\n"
        "  n1: remove its folder: done\n"
        "  n1: remove its folder: failed\n"
        "  n1/decode-0 decode 4/4 engine loaded\n"
        "  a note\n",
    )


def test_progress_redraws_itself_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    shown = progress(Terminal())
    assert isinstance(shown, LiveProgress)
    run(shown)
    err = capsys.readouterr().err
    for part in (
        "prepare the nodes",
        "✓ n1  remove its folder",
        "✗ n1  remove its folder",
        "a note",
        "\x1b[",
    ):
        assert part in err
