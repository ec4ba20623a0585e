"""A cluster with a real engine on this machine, made of a topology that ships: only model, python and ports are ours.

In: which one, a folder. Out: `Served`: dynoctl's verbs, chat requests, the metrics of a worker.
"""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.dynoctl.cli.cluster import Cluster
from tests.vllm.conftest import ROOT, Real

MODEL, PYTHON = "~/models/SmolLM2-135M-Instruct", "~/vllm/bin/python"
TEXT = (
    "nodes: {{local: {{state_dir: {root}}}}}\nservices: {{etcd: {{port: {etcd}}}, nats: {{port: {nats}}}}}\n"
)
# The prompts of these tests, short and long: in tokens some 40 and some 550.
SHORT = "What is the capital of France?"
LONG = " ".join(f"Item {number} is a fruit that costs {number * 7} coins." for number in range(40))
STORY = f"{LONG} Which of these items is cheap? Explain it at length."


@dataclass(frozen=True)
class Said:
    """One answer."""

    text: str
    prefill: str
    prompt_tokens: int
    cached_tokens: int


class Served(Cluster):
    """See the module."""

    def __init__(self, folder: Path, topology: str, real: Real) -> None:
        own = folder / topology  # which goes with it
        own.mkdir()
        super().__init__(own, topology, TEXT)
        shipped = (ROOT / "topologies" / f"{topology}.yaml").read_text()
        for old, new in (
            (MODEL, real.models / "smollm2"),
            (PYTHON, real.python),
            ("port: 8000", f"port: {self.ports['http']}"),
            # A prompt that is computed in other pieces is rounded otherwise, which decides where two tokens are near.
            ("dtype: bfloat16", "dtype: float32"),
        ):
            assert old in shipped
            shipped = shipped.replace(old, str(new))
        self.file.write_text(shipped + self.file.read_text())

    def chat(self, content: str, **more: Any) -> Said:
        """A streamed greedy answer. Without a salt of its own a prompt may be in somebody's cache."""
        text = ""
        usage: dict[str, Any] = {}
        with self.stream(content, stream_options={"include_usage": True}, **more) as answer:
            prefill = answer.headers["x-dyno-prefill"]
            for line in answer:
                if line.startswith(b": x-dyno-prefill "):  # a ping went out before the first token
                    prefill = line.split()[-1].decode()
                if not line.startswith(b"data: ") or line == b"data: [DONE]\n":
                    continue
                event = json.loads(line[6:])
                usage = event.get("usage") or usage
                text += "".join(one["delta"].get("content") or "" for one in event["choices"])
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return Said(text, prefill, usage["prompt_tokens"], cached)

    def stream(self, content: str, **more: Any) -> Any:
        """The same, not read yet."""
        fields = {"temperature": 0, "max_tokens": 32, **more}
        messages = [{"role": "user", "content": content}]
        body = {"model": "smollm2", "stream": True, "messages": messages, **fields}
        return self.post("/v1/chat/completions", body)

    def post(self, path: str, body: Any) -> Any:
        url = f"http://127.0.0.1:{self.ports['http']}{path}"
        head = {"content-type": "application/json"}
        return urllib.request.urlopen(
            urllib.request.Request(url, json.dumps(body).encode(), head), timeout=60
        )

    def settings(self, unit: str) -> dict[str, Any]:
        value = json.loads((self.units / unit / "settings.json").read_text())
        assert isinstance(value, dict)
        return value

    def metrics(self, unit: str) -> dict[str, float]:
        """What Prometheus would read, `name{label}` → value; one label is enough to tell these apart."""
        at = self.settings(unit)["metrics"]
        with urllib.request.urlopen(f"http://{at['host']}:{at['port']}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                label = next(iter(sample.labels.values()), "")
                found[f"{sample.name}{{{label}}}" if label else sample.name] = sample.value
        return found

    def sources(self, unit: str) -> dict[str, float]:
        """How many prompt tokens this engine had from where."""
        name = "dyno_engine_prompt_tokens_total"
        shown = self.metrics(unit)
        return {source: shown[f"{name}{{{source}}}"] for source in SOURCES}


SOURCES = ("computed", "local_cache_hit", "external_kv_transfer")


def gained(before: dict[str, float], after: dict[str, float]) -> tuple[float, ...]:
    """What was computed, found in the cache, transferred, between two looks."""
    return tuple(after[source] - before[source] for source in SOURCES)
