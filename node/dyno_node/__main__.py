"""The node program: `python3 -I node-<digest>.pyz VERB`, one JSON document in, one JSON document a line out.

Ends with 0 whenever it could answer (a refusal is an answer), with 2 on an unknown verb or a bad document.
`supervise` and `offer` are not for callers: `start` launches the one, and a unit runs the other.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from dyno_node.request import BadRequest, Request

MAX_REQUEST_BYTES = 4 << 20
Lines = Iterator[dict[str, Any]]


def main(argv: list[str]) -> int:
    """Run one verb; returns the exit status."""
    if len(argv) == 3 and argv[0] == "supervise":
        from dyno_node import supervise

        return supervise.main(argv[1], argv[2])
    if len(argv) == 2 and argv[0] == "offer":
        from dyno_node import offer

        return offer.main(argv[1], lambda line: print(line, flush=True))
    try:
        if len(argv) != 1 or argv[0] not in VERBS:
            raise BadRequest(
                f"usage: VERB, one of {', '.join(VERBS)}, and one JSON document on standard input"
            )
        for line in VERBS[argv[0]](_request()):
            _say(line)
    except BadRequest as error:
        _say({"ok": False, "error": str(error)})
        return 2
    except BrokenPipeError:
        # Nobody reads any more; what was started goes on. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _request() -> Request:
    raw = sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1)
    if len(raw) > MAX_REQUEST_BYTES:
        raise BadRequest(f"the document on standard input is larger than {MAX_REQUEST_BYTES} bytes")
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise BadRequest(f"standard input is not one JSON document: {error}") from None
    if not isinstance(document, dict):
        raise BadRequest("the document on standard input is not an object")
    return document


# Each verb imports what it needs itself: a node runs many of these, and `ask` needs nothing of `start`.


def _start(request: Request) -> Lines:
    from dyno_node.start import start

    yield start(request)


def _stop(request: Request) -> Lines:
    from dyno_node.stop import stop

    yield stop(request)


def _watch(request: Request) -> Lines:
    from dyno_node.watch import watch

    return watch(request)


def _await(request: Request) -> Lines:
    from dyno_node.services import await_services

    return await_services(request)


def _ask(request: Request) -> Lines:
    from dyno_node.ask import ask

    yield ask(request)


def _sweep(request: Request) -> Lines:
    from dyno_node.sweep import sweep

    yield sweep(request)


def _apply(request: Request) -> Lines:
    from dyno_node.apply import apply

    return apply(request, {verb: _only(VERBS[verb]) for verb in ("start", "stop", "sweep")})


def _only(verb: Callable[[Request], Lines]) -> Callable[[Request], dict[str, Any]]:
    """A verb with one answer as a call."""
    return lambda request: next(verb(request))


def _logs(request: Request) -> Lines:
    from dyno_node.logs import logs

    return logs(request)


def _lease(request: Request) -> Lines:
    from dyno_node.lease import lease

    yield lease(request)


VERBS: dict[str, Callable[[Request], Lines]] = {
    "start": _start,
    "stop": _stop,
    "watch": _watch,
    "await": _await,
    "ask": _ask,
    "sweep": _sweep,
    "apply": _apply,
    "lease": _lease,
    "logs": _logs,
}
