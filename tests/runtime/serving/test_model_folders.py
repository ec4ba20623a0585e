"""Models with files of their own: tokenizers and templates between clients and workers, and how they are loaded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import tokenizers

from dyno_runtime.settings import Model
from tests.models import make_model
from tests.runtime.cluster import Cluster, Unit, request
from tests.runtime.serving.client import chat, complete
from tests.servers import wait_for

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "small", "bpe")


def ready(front: Unit) -> tuple[int, str]:
    said = request(f"{front.url}/ready", None, {})
    return said.status, said.json["status"]


def answers(front: Unit) -> bool:
    try:
        return bool(ready(front))
    except OSError:
        return False


@pytest.mark.parametrize("apart", [False, True])
def test_text_becomes_tokens_of_the_model_and_back(mocks: Cluster, folder: Path, apart: bool):
    mocks.model = Model("mock-model", str(folder))
    front = mocks.add("node1", "frontend", *(() if apart else ("processor", "router")))
    if apart:
        mocks.add("node1", "processor", "router")
    mocks.add("node1", "decode")
    mocks.ready()
    encode = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode
    prompt = "User: Grüße, 你好 👋\n\nAssistant:"
    whole = chat(front.url, "Grüße, 你好 👋", max_tokens=20, seed=1, ignore_eos=True)
    assert whole.status == 200, whole.body
    usage = whole.json["usage"]
    assert usage["prompt_tokens"] == len(encode("<s>" + prompt, add_special_tokens=False).ids)
    assert usage["completion_tokens"] == 20
    streamed = chat(front.url, "Grüße, 你好 👋", max_tokens=20, seed=1, ignore_eos=True, stream=True)
    assert streamed.text() == whole.text() != ""
    stop = whole.text()[7:12]
    stopped = chat(front.url, "Grüße, 你好 👋", max_tokens=20, seed=1, ignore_eos=True, stop=stop)
    assert (stopped.text(), stopped.finish()) == (whole.text().partition(stop)[0], "stop")
    # One that takes long to encode goes another way.
    long = complete(front.url, "the " * 2100, max_tokens=1)
    assert long.json["usage"]["prompt_tokens"] == len(encode("the " * 2100).ids)
    refused = complete(front.url, "x" * 3_000_000, max_tokens=1)
    assert (refused.status, refused.json["error"]["code"]) == (400, "context_length_exceeded")
    assert "or more in the prompt" in refused.json["error"]["message"]


def test_a_frontend_is_ready_when_its_tokenizer_is(mocks: Cluster, folder: Path, tmp_path: Path):
    slow = tmp_path / "slow"
    shutil.copytree(folder, slow)
    config = (slow / "tokenizer_config.json").read_bytes()
    (slow / "tokenizer_config.json").unlink()
    os.mkfifo(slow / "tokenizer_config.json")  # whoever reads it waits for us
    mocks.model = Model("mock-model", str(slow))
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    wait_for(lambda: answers(front) and front.sees(decode=1, frontend=1), "it is registered")
    assert ready(front) == (503, "loading")
    roles = front.health()["roles"]
    assert {role: one["engine"] for role, one in roles.items()} == {
        "frontend": "loading",
        "processor": "loading",
        "router": "none",
    }
    told = request(f"{front.url}/health", None, {}).json["ready"]
    assert (told["frontend"], told["processor"], told["router"]) == (0, 0, 1)
    (slow / "tokenizer_config.json").write_bytes(config)
    mocks.ready()
    assert ready(front) == (200, "ready")
    assert chat(front.url, "hi", max_tokens=3).status == 200


def test_a_folder_that_cannot_be_used_is_said_until_it_can(mocks: Cluster, folder: Path, tmp_path: Path):
    late = tmp_path / "late"
    mocks.model = Model("mock-model", str(late))
    front = mocks.add("node1", "frontend", "processor", "router")
    sentence = f"The model cannot be used: there is no model folder {late}."
    wait_for(lambda: front.role().get("problem") == sentence, "it says so")
    assert front.role()["engine"] == "failed"
    assert ready(front)[0] == 503
    shutil.copytree(folder, late)
    mocks.add("node1", "decode")
    mocks.ready()
    assert front.role()["problem"] is None
    assert front.log.count(f"there is no model folder {late}") == 1


def test_the_tokenizer_of_a_model_that_comes_later_is_loaded_before_anybody_asks(
    mocks: Cluster, folder: Path, tmp_path: Path
):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.ready()
    mocks.model = Model("another", str(folder))
    mocks.add("node1", "decode")
    wait_for(lambda: f"{folder}: encoding with fastokens" in front.log, "it is loaded")
    assert ready(front) == (200, "ready")
    said = chat(front.url, "hi", model="another", max_tokens=5, ignore_eos=True)
    assert said.json["usage"]["completion_tokens"] == 5
