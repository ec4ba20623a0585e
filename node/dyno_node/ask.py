"""Verb `ask`: one HTTP request from this node, to whatever serves here or elsewhere.

In: `{"method": "POST", "url": …, "headers": {…}, "body": "…", "timeout_s": 10}`. Out: for any status
`{"ok": true, "status": 200, "headers": {…}, "body": …, "took_s": …}`; without a whole answer
`{"ok": false, "error": sentence}`.
"""

from __future__ import annotations

import http.client
import time
from typing import Any
from urllib.parse import urlsplit

from dyno_node.request import BadRequest, Request, number, text
from dyno_node.services import refusal

MAX_BYTES = 8 << 20


def ask(request: Request) -> dict[str, Any]:
    """Send it and read the answer, all within `timeout_s`."""
    url, timeout_s = text(request, "url"), number(request, "timeout_s", 10.0)
    headers, body = request.get("headers", {}), text(request, "body", "")
    if not isinstance(headers, dict) or not all(isinstance(each, str) for each in headers.values()):
        raise BadRequest("headers must be an object of texts")
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise BadRequest(f"url is {url!r}, not like http://10.0.0.1:8000/health (TLS is not supported)")
    at = f"{parts.hostname}:{parts.port or 80}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout_s)
    start_s = time.monotonic()
    try:
        connection.request(text(request, "method", "GET"), target, body.encode() or None, headers)
        answer = connection.getresponse()
        content = _read(connection, answer, start_s + timeout_s)
    except TimeoutError:
        return {"ok": False, "error": f"{at} did not answer within {timeout_s:g} s"}
    except http.client.HTTPException as error:
        return {"ok": False, "error": f"{at} broke off in the middle of its answer: {type(error).__name__}"}
    except OSError as error:
        return {"ok": False, "error": refusal(at, error)}
    finally:
        connection.close()
    took_s = round(time.monotonic() - start_s, 4)
    headers = {name.lower(): value for name, value in answer.getheaders()}
    body = content.decode(errors="replace")
    return {"ok": True, "status": answer.status, "headers": headers, "body": body, "took_s": took_s}


def _read(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse, deadline: float) -> bytes:
    """The body up to MAX_BYTES. The time-out of a socket is per read: it shrinks, so that the whole has one."""
    content = b""
    while len(content) < MAX_BYTES:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left_s)
        chunk = answer.read1(65536)
        if not chunk:
            break
        content += chunk
    if answer.length and len(content) < MAX_BYTES:
        raise http.client.IncompleteRead(content, answer.length)  # reading in pieces does not notice
    return content[:MAX_BYTES]
