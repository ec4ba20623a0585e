"""What `--help` says, of dynoctl and of every verb, as in tests/golden/cli.

`DYNO_REWRITE=1 pytest` writes the .txt files anew; read what changed before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import typer

from dynoctl.cli.app import app
from tests.dynoctl.cli.conftest import Dynoctl

GOLDEN = Path(__file__).parents[2] / "golden" / "cli"
TOP: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
MODELS: dict[str, Any] = TOP["models"].commands
BENCH: dict[str, Any] = TOP["bench"].commands
COMMANDS = {
    **TOP,
    **{f"models {verb}": command for verb, command in MODELS.items()},
    **{f"bench {verb}": command for verb, command in BENCH.items()},
}


def test_the_verbs_in_the_order_of_a_life() -> None:
    assert list(TOP) == ["validate", "schema", "plan", "up", "status", "logs", "down", "models", "bench"]
    assert list(MODELS) == ["list", "add", "remove"]
    assert list(BENCH) == ["run", "list", "show", "compare"]


@pytest.mark.parametrize("verb", ["dynoctl", *COMMANDS])
def test_help(verb: str, dynoctl: Dynoctl) -> None:
    argv = ["--help"] if verb == "dynoctl" else [*verb.split(), "--help"]
    done = dynoctl(*argv)
    assert (done.code, done.err) == (0, "")
    expected = GOLDEN / f"{verb.replace(' ', '-')}.txt"
    if os.environ.get("DYNO_REWRITE") == "1":
        expected.write_text(done.out)
    assert done.out == expected.read_text()
    assert dynoctl(*argv[:-1], "-h").out == done.out


def test_there_is_one_for_each_and_no_other() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {
        "dynoctl",
        *(verb.replace(" ", "-") for verb in COMMANDS),
    }


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_and_every_option_says_what_it_does(verb: str) -> None:
    command = COMMANDS[verb]
    assert command.help.endswith(".")
    assert len(command.help.partition("\n")[0].partition(". ")[0]) <= 67  # not cut in the list of verbs
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        assert text, f"{verb} {parameter.name}"
        assert text.endswith("."), f"{verb} {parameter.name}"


@pytest.mark.parametrize(
    "verb",
    [
        "plan",
        "up",
        "status",
        "logs",
        "down",
        "validate",
        *(f"models {one}" for one in MODELS),
        *(f"bench {one}" for one in BENCH),
    ],
)
def test_what_prints_data_prints_json_too(verb: str) -> None:
    assert "json" in {parameter.name for parameter in COMMANDS[verb].params}


@pytest.mark.parametrize("verb", ["up", "down", "models add", "models remove"])
def test_what_changes_something_can_be_tried_and_agreed_to(verb: str) -> None:
    assert {"dry_run", "yes"} <= {parameter.name for parameter in COMMANDS[verb].params}


def test_dynoctl_alone_is_its_help(dynoctl: Dynoctl) -> None:
    assert dynoctl() == dynoctl("--help")


def test_the_version(dynoctl: Dynoctl) -> None:
    from importlib.metadata import version

    assert dynoctl("--version").out == f"dynoctl {version('dynoctl')}\n"
