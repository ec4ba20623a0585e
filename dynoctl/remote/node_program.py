"""Asking the node program: one exec, one JSON document in, JSON documents out.

In: a connection, the program's path on the node, a verb and its request. Out: its answers; those that are not what
the node program writes are an error that shows what was printed instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dynoctl.errors import CommandFailed
from dynoctl.plan.script import NodePath, words
from dynoctl.remote.connection import Completed, Connection

ASK_TIMEOUT_S = 60.0

Answer = dict[str, Any]


def script(node_program: str, verb: str) -> str:
    """The command line that runs `verb`."""
    return f"exec {words('python3', '-I', NodePath(node_program), verb)}"


def ask(
    connection: Connection, node_program: str, verb: str, request: Answer, *, timeout_s: float = ASK_TIMEOUT_S
) -> Answer:
    """One request, one answer.

    Raises:
        CommandFailed: the program could not run, or its answer cannot be read.
        Unreachable, TimedOut: as for `Connection.run`.
    """
    answers = stream(connection, node_program, verb, request, timeout_s=timeout_s)
    if not answers:
        raise CommandFailed(connection.node, f"the node program said nothing to {verb!r}")
    return answers[-1]


def stream(
    connection: Connection,
    node_program: str,
    verb: str,
    request: Answer,
    *,
    timeout_s: float,
    on_answer: Callable[[Answer], None] | None = None,
) -> list[Answer]:
    """One request, any number of answers, each given to `on_answer` as it arrives and returned at the end."""

    def on_line(line: str) -> None:
        if on_answer is not None and (answer := _answer(line)) is not None:
            on_answer(answer)

    done = connection.run(
        script(node_program, verb),
        stdin=json.dumps(request).encode() + b"\n",
        timeout_s=timeout_s,
        on_line=on_line,
    )
    answers = [answer for line in done.out.decode(errors="replace").splitlines() if (answer := _answer(line))]
    if done.status != 0:
        raise _failed(connection.node, verb, done)
    return answers


def _answer(line: str) -> Answer | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _failed(node: str, verb: str, done: Completed) -> CommandFailed:
    tail = (done.err or done.out).decode(errors="replace").strip().splitlines()[-5:]
    return CommandFailed(node, f"the node program failed at {verb!r} with status {done.status}", detail=tail)
