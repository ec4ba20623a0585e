"""OpenAI's own Node client against a cluster; `node/asks.mjs` asks, this judges."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def said(base_url: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All that the program was told."""
    found = subprocess.run(
        [ROOT / "scripts" / "test-clients", "path"], capture_output=True, text=True, check=True, timeout=60
    )
    modules = Path(found.stdout.strip() or "/nowhere") / "node_modules"
    if not modules.is_dir():
        pytest.skip(
            "the Node client is not here; scripts/test-clients fetches it where there are node and npm"
        )
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(Path(__file__).parent / "node" / "asks.mjs", folder)
    (folder / "node_modules").symlink_to(modules)
    done = subprocess.run(
        ["node", folder / "asks.mjs", base_url], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_models(said: Any) -> None:
    assert (said["models"], said["model"]) == (["busy", "mock", "org/frail", "twofold"], "org/frail")


def test_whole_streamed_and_gathered_are_the_same(said: Any) -> None:
    (choice,) = said["whole"]["choices"]
    text = choice["message"]["content"]
    assert text
    streamed = said["streamed"]
    assert (streamed["text"], streamed["finish"]) == (text, choice["finish_reason"])
    assert said["gathered"] == text
    usage = said["whole"]["usage"]
    assert streamed["usage"]["completion_tokens"] == usage["completion_tokens"]
    assert streamed["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_choices_stop_logprobs_and_completions(said: Any) -> None:
    texts = [choice["message"]["content"] for choice in said["three"]["choices"]]
    assert len(set(texts)) == 3
    whole = said["whole"]["choices"][0]["message"]["content"]
    (stopped,) = said["stopped"]["choices"]
    assert stopped["message"]["content"] == whole[: whole.index(whole[4:6])]
    assert stopped["finish_reason"] == "stop"
    (likely,) = said["likely"]["choices"]
    assert "".join(one["token"] for one in likely["logprobs"]["content"]) == likely["message"]["content"]
    assert len(said["completion"]["choices"][0]["text"]) == 6


def refusal(kind: str, status: int, code: str, param: str | None, **more: Any) -> dict[str, Any]:
    error = {"type": "invalid_request_error", "retry": None, **more}
    return {"kind": kind, "status": status, "code": code, "param": param, **error}


def test_refusals_are_the_clients_exceptions(said: Any) -> None:
    assert said["refusals"] == {
        "tools": refusal("BadRequestError", 400, "unsupported_parameter", "tools"),
        "model": refusal("NotFoundError", 404, "model_not_found", "model"),
        "length": refusal("BadRequestError", 400, "context_length_exceeded", "messages"),
        "huge": refusal("APIError", 413, "too_large", None),
        "busy": refusal("RateLimitError", 429, "overloaded", None, type="rate_limit_error", retry="1"),
    }
