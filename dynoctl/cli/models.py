"""`dynoctl models`: the names that clients may ask for, shown, added and removed while the cluster runs."""

from __future__ import annotations

import json as json_format
from typing import Any

from dynoctl.cli.nodes import name_unreachable
from dynoctl.cli.session import Session, opened
from dynoctl.cli.target import resolve
from dynoctl.errors import CommandFailed, Exit, NotReady
from dynoctl.plan.beside import beside
from dynoctl.plan.commands import models_action
from dynoctl.plan.observed import Observed
from dynoctl.show import json as show_json
from dynoctl.show import text
from dynoctl.show.terminal import Terminal


def list_models(typed: str | None, overrides: list[str], *, json: bool) -> int:
    """Every name, and the workers behind it."""
    terminal = Terminal(quiet=json)
    told = _told(typed, overrides, terminal, ["list"])
    if json:
        terminal.result(show_json.document(told))
    elif not told["models"]:
        terminal.result("no model can be asked for: no decode worker is registered")
    else:
        terminal.result(text.models_table(told["models"]))
    return Exit.DONE


def add_model(
    name: str, typed: str | None, overrides: list[str], model: str | None, *, dry_run: bool, json: bool
) -> int:
    """Give a model a further name."""
    terminal = Terminal(quiet=json)
    words = ["add", name, *([model] if model is not None else [])]
    told = _told(typed, overrides, terminal, [*words, "--dry-run"] if dry_run else words)
    would = "would become" if dry_run else "is"
    terminal.result(
        show_json.document(told)
        if json
        else f"{name} {would} a name of {told['model']} for as long as it is served."
    )
    return Exit.DONE


def remove_model(name: str, typed: str | None, overrides: list[str], *, dry_run: bool, json: bool) -> int:
    """Take a name away that was added."""
    terminal = Terminal(quiet=json)
    words = ["remove", name]
    told = _told(typed, overrides, terminal, [*words, "--dry-run"] if dry_run else words)
    would = "would be" if dry_run else "is"
    terminal.result(
        show_json.document(told)
        if json
        else f"{name} {would} no name any more; {told['model']} is served as before."
    )
    return Exit.DONE


def _told(typed: str | None, overrides: list[str], terminal: Terminal, words: list[str]) -> dict[str, Any]:
    """What the runtime on one of the nodes says."""
    with opened(resolve(typed, overrides, as_applied=True), terminal) as session:
        observed = session.look()
        name_unreachable(observed, terminal)
        return _ask(session, observed, words)


def _ask(session: Session, observed: Observed, words: list[str]) -> dict[str, Any]:
    name = session.target.name
    place = beside(name, observed)
    if place is None:
        raise NotReady(f"{name} does not run on any node that answered", next=f"dynoctl status {name}")
    request = {"root": observed.nodes[place.node].root, "actions": [models_action(place, words)]}
    answer = session.ask(session.programs(observed), place.node, "apply", request)
    if not answer.get("ok"):
        raise CommandFailed(place.node, str(answer.get("error")), next=f"dynoctl models list {name}")
    told: dict[str, Any] = json_format.loads(answer["out"])
    return told
