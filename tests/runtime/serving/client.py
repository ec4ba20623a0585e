"""A plain client for OpenAI's API, over a socket: what was sent can be looked at byte for byte.

In: a unit's URL, a body. Out: `Said`: status, headers, events. Nothing is parsed that a test does not ask for.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Said:
    """One answer. `text` is what all deltas or the whole answer say, of choice 0."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The events of a stream without the last one, `[DONE]`, which has to be there."""
        lines = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        assert lines[-1] == "[DONE]", lines[-3:]
        return [json.loads(line) for line in lines[:-1]]

    def text(self, index: int = 0) -> str:
        if self.headers["content-type"] == "application/json":
            choice = self.json["choices"][index]
            return str(choice["message"]["content"] if "message" in choice else choice["text"])
        pieces = []
        for event in self.events:
            for choice in event["choices"]:
                if choice["index"] == index:
                    pieces.append(choice.get("text", choice.get("delta", {}).get("content", "")))
        return "".join(pieces)

    def finish(self, index: int = 0) -> str:
        if self.headers["content-type"] == "application/json":
            return str(self.json["choices"][index]["finish_reason"])
        reasons = [
            choice["finish_reason"]
            for event in self.events
            for choice in event["choices"]
            if choice["index"] == index and choice["finish_reason"] is not None
        ]
        assert len(reasons) == 1, reasons
        return str(reasons[0])


def post(url: str, path: str, body: Any, headers: dict[str, str] | None = None) -> Said:
    """One POST on a connection of its own."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60.0)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, data, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return Said(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def chat(url: str, said: str, *, headers: dict[str, str] | None = None, **more: Any) -> Said:
    """A chat request with one message."""
    body = {"model": "mock-model", "messages": [{"role": "user", "content": said}], **more}
    return post(url, "/v1/chat/completions", body, headers)


def complete(url: str, prompt: Any, *, headers: dict[str, str] | None = None, **more: Any) -> Said:
    """A completion."""
    return post(url, "/v1/completions", {"model": "mock-model", "prompt": prompt, **more}, headers)
