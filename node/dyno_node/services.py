"""Verb `await`: NATS and etcd, proven to be what they should be before anything uses them.

In: `{"services": [{"kind": "nats", "host": …, "port": …, "jetstream": true}, {"kind": "etcd", "url": …}],
"deadline_s": 30}`; a service may name the `unit_dir` that runs it here. Out: one line a service, as they are proven:
`{"service": its place in the list, "kind", "at", "ok": true, "version": …}` or `{…, "ok": false, "error": sentence,
"log": [...]}`.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from dyno_node import listening, log
from dyno_node.look import View
from dyno_node.request import BadRequest, Request, number, text
from dyno_node.unit import UnitDir
from dyno_node.watch import failure

ATTEMPT_S = 1.0
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.25
_INFO_MAX_BYTES = 64 * 1024


class NotYet(Exception):
    """Not proven; another attempt may do. The text is the reason so far."""


class Never(Exception):
    """No further attempt will do."""


def await_services(request: Request) -> Iterator[dict[str, Any]]:
    """Yield a line for each service as soon as it is proven or given up."""
    services = request.get("services")
    if not isinstance(services, list) or not all(isinstance(each, dict) for each in services):
        raise BadRequest("services must be a list of objects")
    waiting = [Awaited(number, each) for number, each in enumerate(services)]
    deadline = time.monotonic() + number(request, "deadline_s", 30.0)
    pause_s = _FIRST_PAUSE_S
    while waiting:
        for each in list(waiting):
            line = each.attempt(min(ATTEMPT_S, max(0.05, deadline - time.monotonic())))
            if line is None and time.monotonic() >= deadline:
                line = each.late()
            if line is not None:
                waiting.remove(each)
                yield line
        if waiting:
            time.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))  # between two connections
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)


class Awaited:
    """One service that is being waited for."""

    def __init__(self, place: int, service: Request) -> None:
        self._kind = text(service, "kind")
        if self._kind == "nats":
            self._host, self._port = text(service, "host"), int(number(service, "port"))
            self._jetstream = bool(service.get("jetstream", True))
            self._at = f"{self._host}:{self._port}"
        elif self._kind == "etcd":
            self._url = text(service, "url")
            self._at = without_user(self._url)
        else:
            raise BadRequest(f"kind is {self._kind!r}, not nats or etcd")
        folder = text(service, "unit_dir", "")
        self._view = View(UnitDir.at(folder)) if folder else None
        self._head = {"service": place, "kind": self._kind, "at": self._at}
        self._restarts: int | None = None
        self._why = "no attempt was made"

    def attempt(self, timeout_s: float) -> dict[str, Any] | None:
        """Try once. The line, or None when it is worth trying again."""
        dead = self._dead()
        if dead is not None:
            return self._no(dead)
        try:
            proof = self._nats(timeout_s) if self._kind == "nats" else etcd(self._url, timeout_s)
        except NotYet as reason:
            self._why = str(reason)
            return None
        except Never as reason:
            return self._no(str(reason))
        return {**self._head, "ok": True, **proof}

    def late(self) -> dict[str, Any]:
        return self._no(self._why)

    def _nats(self, timeout_s: float) -> dict[str, Any]:
        return nats(self._host, self._port, timeout_s, jetstream=self._jetstream)

    def _dead(self) -> str | None:
        if self._view is None:
            return None
        view = self._view(listening.ports())
        if self._restarts is None:
            self._restarts = view["restarts"]
        return failure(view, self._restarts)

    def _no(self, error: str) -> dict[str, Any]:
        tail = {"log": log.tail(self._view.place.log)} if self._view is not None else {}
        return {**self._head, "ok": False, "error": error, **tail}


def nats(host: str, port: int, timeout_s: float, *, jetstream: bool) -> dict[str, Any]:
    """Connect and read the INFO line with which a NATS server greets.

    Raises:
        NotYet: nobody answers. Never: it is something else, or lacks JetStream.
    """
    at = f"{host}:{port}"
    line = b""
    deadline = time.monotonic() + timeout_s
    try:
        with socket.create_connection((host, port), timeout_s) as peer:
            while b"\n" not in line and len(line) < _INFO_MAX_BYTES:
                peer.settimeout(max(0.01, deadline - time.monotonic()))
                chunk = peer.recv(4096)
                if not chunk:
                    raise NotYet(f"{at} closed the connection without a greeting")
                line += chunk
    except TimeoutError:
        raise NotYet(
            f"{at} did not greet within {timeout_s:.1f} s: no NATS server, or one that hangs"
        ) from None
    except OSError as error:
        raise NotYet(refusal(at, error)) from None
    word, _, rest = line.split(b"\n")[0].partition(b" ")
    try:
        info = json.loads(rest) if word == b"INFO" else None
    except ValueError:
        info = None
    if not isinstance(info, dict):
        raise Never(f"{at} is not NATS: it greeted with {line[:60].decode(errors='replace').strip()!r}")
    if jetstream and not info.get("jetstream"):
        raise Never(
            f"NATS at {at} runs without JetStream: start it with -js, or set jetstream in its configuration"
        )
    return {"version": str(info.get("version", "")), "auth_required": bool(info.get("auth_required"))}


def etcd(url: str, timeout_s: float) -> dict[str, Any]:
    """Ask etcd for its health, which is good only where it can commit.

    Raises:
        NotYet: nobody answers, or it is not healthy yet. Never: the address cannot be right.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or without_user(url) == "the address":
        raise Never(f"{without_user(url)} is not an address like http://10.0.0.1:2379 (TLS is not supported)")
    at = f"{parts.hostname}:{parts.port or 2379}"
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 2379, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        body = answer.read(_INFO_MAX_BYTES)
    except TimeoutError:
        raise NotYet(f"{at} did not answer within {timeout_s:.1f} s") from None
    except http.client.HTTPException:
        raise Never(f"{at} is not etcd: it does not speak HTTP") from None
    except OSError as error:
        raise NotYet(refusal(at, error)) from None
    finally:
        connection.close()
    try:
        health = json.loads(body)["health"]
    except (ValueError, KeyError, TypeError):
        raise Never(f"{at} is not etcd: GET /health gave status {answer.status} and no health") from None
    if answer.status != 200 or str(health).lower() != "true":
        raise NotYet(f"etcd at {at} is not healthy: {body[:200].decode(errors='replace').strip()}")
    return {"status": answer.status}


def without_user(url: str) -> str:
    """Scheme, host and port of an address: what is printed. Of a text that is no address, nothing is."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not parts.scheme or not host or "@" in parts.path:
        return "the address"
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def refusal(at: str, error: OSError) -> str:
    """A connection error as a sentence."""
    if isinstance(error, ConnectionRefusedError):
        return f"{at} refuses connections: nothing listens there"
    if isinstance(error, socket.gaierror):
        return f"{at} has no address: {error.strerror}"
    if isinstance(error, ConnectionResetError):
        return f"{at} broke the connection off"
    return f"{at} cannot be reached: {error.strerror or error}"
