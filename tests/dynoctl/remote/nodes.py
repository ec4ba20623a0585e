"""Fake hosts that answer as the node program does: looks, applies, leases, scripted per test.

In: node names. Out: hosts, a fleet of them, and what they were asked to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from dynoctl.plan import facts
from dynoctl.remote.connection import Completed
from dynoctl.remote.dial import Connections
from dynoctl.remote.execute import Means
from dynoctl.remote.fake import Call, FakeHost, FakeHosts
from dynoctl.remote.fleet import Fleet

PROGRAM = "/r/node-0a.pyz"
Answers = Callable[[dict[str, Any]], list[dict[str, Any]]]


def lines(*answers: dict[str, Any], status: int = 0) -> Completed:
    """What the node program prints."""
    return Completed(status, "".join(json.dumps(each) + "\n" for each in answers).encode(), b"")


def verb(name: str) -> re.Pattern[str]:
    return re.compile(rf"^exec python3 -I \S+ {name}$")


def answering(host: FakeHost, name: str, answers: Answers) -> None:
    """Let the node program of `host` answer a verb with what `answers` says to a request."""
    host.answer(verb(name), lambda call: lines(*answers(json.loads(call.stdin))))


def all_well(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Every action of an apply succeeds."""
    return [{"action": number, "ok": True} for number, _ in enumerate(request["actions"])]


def refusing(at: int, **answer: Any) -> Answers:
    """The action with this number is refused."""

    def answers(request: dict[str, Any]) -> list[dict[str, Any]]:
        return [*all_well(request)[:at], {"action": at, "ok": False, **answer}]

    return answers


def hosts(*names: str, apply: Answers = all_well) -> dict[str, FakeHost]:
    made = {name: FakeHost(name) for name in names}
    for host in made.values():
        answering(host, "apply", apply)
    return made


def fleet(made: dict[str, FakeHost], *, window: int = 32) -> Fleet:
    return Fleet(Connections(FakeHosts(made.values())), window=window)


def means(*names: str) -> Means:
    return Means(
        dict.fromkeys(names, PROGRAM), dict.fromkeys(names, "/r"), lambda artifact: artifact.place.encode()
    )


def asked(host: FakeHost, name: str = "apply") -> list[dict[str, Any]]:
    """The requests of one verb, in order."""
    return [json.loads(call.stdin) for call in host.calls if verb(name).search(call.script)]


def look(host: FakeHost, *, root: str = "/home/fake/.dynoctl", **answers: str) -> None:
    """Let `host` answer a look: an empty Debian, except for the facts given by name."""
    printed = {
        "kernel": f"{host.node}\nboot\n1000.00 1.00\n{root}\n/home/fake\n",
        "machine": "u\nx86_64\n3 11 2\nvenv\n",
        "free": "50000000\n",
        "listening": "",
        "have": "",
        "tools": "\n\n",
        "manifest": "",
        "lock": "",
        "units": "",
        **answers,
    }
    text = "".join(f"{facts.RECORD}{name}\n{said}" for name, said in printed.items())
    host.answer(re.compile("^umask 077\n"), f"{text}{facts.RECORD}end\n")


def fails(status: int, err: str) -> Callable[[Call], Completed]:
    return lambda call: Completed(status, b"", err.encode())
