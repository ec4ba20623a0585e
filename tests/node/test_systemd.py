"""The systemd backend where there is no systemd: what is said. The real one is tested on lab hosts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dyno_node import systemd
from tests.node.program import Program


@pytest.fixture
def no_manager(tmp_path: Path) -> dict[str, str]:
    """An environment whose systemctl and systemd-run find nobody to talk to."""
    for name in ("systemctl", "systemd-run"):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text("#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2\nexit 1\n")
        script.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}


def test_without_systemd_the_agent_is_the_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = systemd.backend()
    assert (found.name, found.why) == (
        "agent",
        "no systemd user manager answers (systemctl is not installed)",
    )
    assert systemd.units("dyno-") == []


def test_a_manager_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "systemctl"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(systemd.Refused) as raised:
        systemd.stop("dyno-x.service", 0.2)
    assert str(raised.value) == "systemctl did not answer within 0 s"


def test_without_a_manager_the_agent_starts_the_unit_and_says_why(
    program: Program, no_manager: dict[str, str]
) -> None:
    folder = program.unit(backend="systemd")
    answer = program.start(folder, env=no_manager)
    assert answer["ok"] is True
    assert answer["warning"] == (
        "supervised without systemd: no systemd user manager answers (Failed to connect to bus: No medium found)"
    )


def test_where_units_would_end_at_the_logout_the_agent_starts_them(
    program: Program, no_manager: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bin" / "systemctl").write_text("#!/bin/sh\nexit 0\n")
    loginctl = tmp_path / "bin" / "loginctl"
    loginctl.write_text(
        '#!/bin/sh\ncase "$1" in enable-linger) echo "Access denied" >&2; exit 1;; esac\necho no\n'
    )
    loginctl.chmod(0o755)
    folder = program.unit(backend="systemd")
    answer = program.start(folder, env=no_manager)
    assert answer["ok"] is True
    assert answer["warning"] == (
        "supervised without systemd: a systemd user manager answers, but linger cannot be enabled (Access denied): "
        "units would end at the logout"
    )


def test_a_stop_needs_no_manager_where_nothing_runs(program: Program, no_manager: dict[str, str]) -> None:
    folder = program.unit(backend="systemd")
    request = {"unit_dir": str(folder), "grace_s": 0.2}
    assert program.ask("stop", request, env=no_manager) == {"ok": True, "left": [], "was": "never started"}
