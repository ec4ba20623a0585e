"""Verb `lease`: the cluster's lock, held by whoever asked last and goes on asking.

In: `{"do": "take" | "renew" | "release", "path", "token", "ttl_s", "holder": {…}, "instead_of": token | null}`.
Out: `{"ok": true}`, or `{"ok": false, "holder": {…}, "left_s": …}` with who has it, or `{"ok": false, "error": …}`
where it cannot be written. A lease that is not renewed runs out by this node's own clock (uptime, so nobody's wrong
clock matters) and with this boot. `instead_of` names a lease that the asker knows to be dead; it is broken only if it
is still that one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dyno_node import clock, lock
from dyno_node.files import read_json, write_json
from dyno_node.request import BadRequest, Request, number, text


def lease(request: Request) -> dict[str, Any]:
    """One change of the lease, with no other in between: a second file is locked around it."""
    path = Path(os.path.realpath(Path(text(request, "path")).expanduser()))
    try:
        return _guarded(path, request)
    except OSError as error:
        return {"ok": False, "error": f"{path}: {(error.strerror or str(error)).lower()}"}


def _guarded(path: Path, request: Request) -> dict[str, Any]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Held for the few milliseconds of a change, by whoever makes one.
    with lock.guard(path.with_name(f"{path.name}.guard")):
        return _change(path, request)


def _change(path: Path, request: Request) -> dict[str, Any]:
    token, found = text(request, "token"), _living(path)
    mine = found is not None and found.get("token") == token
    match text(request, "do"):
        case "release":
            if mine:
                path.unlink(missing_ok=True)
            return {"ok": True}
        case "renew" if not mine:
            return _refusal(found)
        case "take" if found is not None and not mine and found.get("token") != request.get("instead_of"):
            return _refusal(found)
        case "take" | "renew":
            holder = request.get("holder")
            if not isinstance(holder, dict):
                raise BadRequest("holder must be an object")
            until_s = clock.uptime_s() + number(request, "ttl_s")
            write_json(path, {**holder, "token": token, "until_s": until_s, "boot_id": clock.boot_id()})
            return {"ok": True}
        case unknown:
            raise BadRequest(f"do is {unknown!r}, not take, renew or release")


def _living(path: Path) -> dict[str, Any] | None:
    """The lease that counts now; None where there is none, it ran out, or the node was restarted since."""
    found = read_json(path)
    if found is None or found.get("boot_id") != clock.boot_id():
        return None
    until_s = found.get("until_s")
    return found if isinstance(until_s, int | float) and until_s > clock.uptime_s() else None


def _refusal(found: dict[str, Any] | None) -> dict[str, Any]:
    """`holder` is null where the lease ran out and nobody has taken it."""
    left_s = round(float(found["until_s"]) - clock.uptime_s(), 1) if found else 0.0
    return {"ok": False, "holder": found, "left_s": left_s}
