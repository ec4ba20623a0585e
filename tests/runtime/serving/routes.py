"""What tests of routing share: token prompts made of named blocks, `/debug/route`, keys in etcd.

In: a unit, a cluster. Out: prompts, answers, explanations.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

from tests.runtime.cluster import Cluster, Unit
from tests.runtime.serving.client import Said, complete, post

BLOCK = 16


def tokens(*names: str | int) -> list[int]:
    """A prompt of one block for each name, and one token more."""
    numbers = [ord(name) if isinstance(name, str) else name for name in names]
    return [token for number in numbers for token in [number % 256] * (BLOCK - 1) + [number // 256]] + [1]


def ask(unit: Unit, prompt: list[int], *, worker: str | None = None, **more: Any) -> Said:
    """A completion of a few tokens; `worker` names the one to use."""
    headers = {"x-dyno-target": worker} if worker else {}
    said = complete(unit.url, prompt, headers=headers, **{"max_tokens": 2, "ignore_eos": True, **more})
    assert said.status == 200, said.body
    return said


def cached(said: Said) -> int:
    """How many tokens of the prompt were not computed."""
    details = said.json["usage"].get("prompt_tokens_details") or {}
    return int(details.get("cached_tokens", 0))


def route(unit: Unit, prompt: list[int] | str, model: str = "mock-model") -> dict[str, Any]:
    """What `/debug/route` says."""
    said = post(unit.url, "/debug/route", {"model": model, "prompt": prompt})
    assert said.status == 200, said.body
    return dict(said.json)


def worker(explained: dict[str, Any], place: str) -> dict[str, Any]:
    """How one worker stands."""
    return next(dict(one) for one in explained["workers"] if one["worker"] == place)


def etcd_call(cluster: Cluster, verb: str, **document: str) -> dict[str, Any]:
    """One call of etcd's JSON gateway, keys and values as plain text."""
    body = {name: base64.b64encode(text.encode()).decode() for name, text in document.items()}
    wanted = urllib.request.Request(f"{cluster.etcd_url}/v3/kv/{verb}", json.dumps(body).encode())
    with urllib.request.urlopen(wanted, timeout=5) as answer:
        return dict(json.loads(answer.read()))


def put(cluster: Cluster, key: str, value: object) -> None:
    """Put a JSON value; `key` is what comes after the cluster's name."""
    text = value if isinstance(value, str) else json.dumps(value)
    etcd_call(cluster, "put", key=f"/{cluster.name}/{key}", value=text)


def delete(cluster: Cluster, key: str) -> None:
    """Delete one key."""
    etcd_call(cluster, "deleterange", key=f"/{cluster.name}/{key}")
