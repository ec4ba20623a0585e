"""The systemd user manager: whether one answers, and a transient unit around a supervisor.

In: a unit's name and the supervisor's command. Out: sentences where systemd refuses. systemd gives a cgroup,
survival of the session's end, and a new supervisor after a crash; what the unit does is the supervisor's business.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CALL_S = 20.0


class Refused(Exception):
    """systemd was asked and said no, or nobody was there to ask; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What can supervise here. `why`: one sentence. `linger`: units outlive the last logout."""

    name: str
    linger: bool
    why: str


def backend() -> Backend:
    """Look which backend works for this user, and ask for units to outlive the logout."""
    try:
        _call(["systemctl", "--user", "show-environment"])
    except Refused as refusal:
        return Backend("agent", True, f"no systemd user manager answers ({refusal})")
    if _lingers():
        return Backend("systemd", True, "a systemd user manager answers and this user lingers")
    why = "linger cannot be enabled"
    try:
        _call(["loginctl", "enable-linger"])
    except Refused as refusal:
        why = f"{why} ({refusal})"
    if _lingers():
        return Backend("systemd", True, "a systemd user manager answers and linger was enabled")
    return Backend(
        "systemd", False, f"a systemd user manager answers, but {why}: units would end at the logout"
    )


def launch(name: str, command: Sequence[str], env: Mapping[str, str], stop_s: float) -> None:
    """Run `command` as the transient service `name`, which may take `stop_s` to stop.

    Raises:
        Refused: the manager is not there, or already has a unit of this name.
    """
    properties = {
        "Description": f"dynoctl {env.get('DYNO_UNIT', name)}",
        "Delegate": "yes",
        # Only the supervisor is asked; it asks the others in order. What it leaves is killed.
        "KillMode": "mixed",
        "TimeoutStopSec": f"{stop_s:.0f}",
        # For a supervisor that crashed: it ends with 0 when the unit was stopped or given up.
        "Restart": "on-failure",
        "RestartSec": "1",
        # A process that the kernel kills for memory is restarted by its supervisor, not the whole unit ended.
        "OOMPolicy": "continue",
    }
    argv = ["systemd-run", "--user", "--quiet", "--collect", f"--unit={name}", "--service-type=exec"]
    argv += [f"--property={key}={value}" for key, value in properties.items()]
    argv += [f"--setenv={key}={value}" for key, value in env.items()]
    # The manager replaces $NAME in a service's command line.
    _call([*argv, "--", *(word.replace("$", "$$") for word in command)])


def stop(name: str, timeout_s: float) -> None:
    """Stop the unit and everything in it; a unit that is not there is fine. Ends a pending restart, too.

    Raises:
        Refused: the manager is not there or did not finish in time.
    """
    try:
        _call(["systemctl", "--user", "stop", name], timeout_s)
    except Refused as refusal:
        if "not loaded" not in str(refusal):
            raise


def units(prefix: str) -> list[str]:
    """The loaded services whose names begin with `prefix`; none where no manager answers."""
    argv = [
        "systemctl",
        "--user",
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        "--full",
        "--type=service",
    ]
    try:
        text = _call(argv)
    except Refused:
        return []
    names = [line.split()[0] for line in text.splitlines() if line.strip()]
    return [name for name in names if name.startswith(prefix)]


def environment(name: str) -> str:
    """What was set for a loaded unit, quoted as for a shell; empty where it is not there any more."""
    try:
        return _call(["systemctl", "--user", "show", name, "--property=Environment", "--value"])
    except Refused:
        return ""


def _lingers() -> bool:
    try:
        return (
            _call(["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"]).strip()
            == "yes"
        )
    except Refused:
        return False


def _call(argv: Sequence[str], timeout_s: float = CALL_S) -> str:
    env = dict(os.environ)
    # A session that did not come through PAM lacks the way to the manager that runs all the same.
    usual = Path(f"/run/user/{os.getuid()}")
    if "XDG_RUNTIME_DIR" not in env and usual.is_dir():
        env["XDG_RUNTIME_DIR"] = str(usual)
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=env,
            check=False,
        )
    except FileNotFoundError:
        raise Refused(f"{argv[0]} is not installed") from None
    except OSError as error:
        raise Refused(f"{argv[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"{argv[0]} did not answer within {timeout_s:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise Refused(lines[-1].rstrip(".") if lines else f"{argv[0]} ended with status {done.returncode}")
    return done.stdout
