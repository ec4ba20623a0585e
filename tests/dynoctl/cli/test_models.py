"""The mock cluster as a newcomer has it: up, asked as README says, names of models shown, added and removed, down.

The tests of this file share one cluster, `topologies/local.yaml` on ports of its own, and run in their order.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dynoctl.cli.cluster import Cluster, Done
from tests.servers import wait_for

ROOT = Path(__file__).parents[3]
WORKERS = "local/decode-0, local/decode-1"
HEAD = "NAME MODEL ENGINE LONGEST READY WORKERS"


@pytest.fixture(scope="module")
def it() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="dyno-cli-", ignore_cleanup_errors=True) as folder:
        text = (ROOT / "topologies" / "local.yaml").read_text()
        made = Cluster(Path(folder), "mocks")
        text = text.replace("name: local", "name: mocks").replace("8000}", f"{made.ports['http']}}}", 1)
        services = f"services: {{etcd: {{port: {made.ports['etcd']}}}, nats: {{port: {made.ports['nats']}}}}}"
        made.file.write_text(f"{text}\nnodes: {{local: {{state_dir: {made.root}}}}}\n{services}\n")
        yield made
        made.end()


@pytest.fixture(scope="module")
def first(it: Cluster) -> Done:
    """The first up."""
    return it.run("up", str(it.file))


def lines(done: Done) -> list[str]:
    """What a table says, without the spaces at the ends of lines."""
    return [re.sub(r" +", " ", line.rstrip()) for line in done.out.splitlines()]


def test_up_proves_a_chat_token_through_a_remote_prefill(it: Cluster, first: Done) -> None:
    assert first.code == 0, first.err
    tokens = [line for line in first.err.splitlines() if line.startswith("  a token came back from ")]
    assert sorted(line.partition(" in ")[0] for line in tokens) == [
        f"  a token came back from local/decode-{index}, prefilled by local/prefill-0" for index in range(2)
    ]
    address = f"http://127.0.0.1:{it.ports['http']}"
    assert first.out.splitlines()[-4:-1] == [
        f"address  {address}",
        f"try      curl -sN {address}/v1/chat/completions -H 'Content-Type: application/json' \\",
        """           -d '{"model": "mock", "stream": true, """
        """"messages": [{"role": "user", "content": "Tell me a joke"}]}'""",
    ]


def test_the_line_of_readme_and_of_up_is_a_streaming_chat_request(it: Cluster, first: Done) -> None:
    page = (ROOT / "README.md").read_text()
    (shown,) = [line.strip() for line in page.splitlines() if line.strip().startswith("curl ")]
    printed = first.out.partition("try      ")[2].partition("next ")[0].replace("\\\n", "")
    here = f"127.0.0.1:{it.ports['http']}"
    for line in (shown.replace("127.0.0.1:8000", here), printed):
        done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=60, check=True)
        events = [one.removeprefix("data: ") for one in done.stdout.splitlines() if one.startswith("data: ")]
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_models_of_a_cluster(it: Cluster, first: Done) -> None:
    done = it.run("models", "list", "mocks")
    assert (done.code, done.err) == (0, "")
    assert lines(done) == [HEAD, f"mock - mock 8192 2/2 {WORKERS}"]
    one = {
        "name": "mock",
        "model": "mock",
        "engine": "mock",
        "path": None,
        "block_size": 16,
        "max_model_len": 8192,
        "workers": ["local/decode-0", "local/decode-1"],
        "ready": 2,
    }
    assert it.run("models", "list", "--json").json == {"models": [one]}


def test_a_name_is_added_asked_for_and_removed(it: Cluster, first: Done) -> None:
    dry = it.run("models", "add", "chat", "--dry-run")
    assert dry == Done(0, "chat would become a name of mock for as long as it is served.\n", "")
    assert lines(it.run("models", "list"))[1:] == [f"mock - mock 8192 2/2 {WORKERS}"]
    added = it.run("models", "add", "chat", "mocks")
    assert added == Done(0, "chat is a name of mock for as long as it is served.\n", "")
    assert lines(it.run("models", "list")) == [
        HEAD,
        f"chat mock mock 8192 2/2 {WORKERS}",
        f"mock - mock 8192 2/2 {WORKERS}",
    ]
    wait_for(lambda: status_of(it, "chat") == 200, "the name can be asked for")
    assert it.run("models", "add", "chat") == Done(
        1, "", "error: local: 'chat' is a name already, of 'mock'\nnext: dynoctl models list mocks\n"
    )
    # Names are compared whole: the reference refuses this one, because another begins with it.
    other = it.run("models", "add", "ch", "--model", "mock", "--json")
    assert (other.code, other.json) == (0, {"added": "ch", "model": "mock"})
    assert it.run("models", "remove", "ch", "--json").json == {"removed": "ch", "model": "mock"}
    removed = it.run("models", "remove", "chat")
    assert removed == Done(0, "chat is no name any more; mock is served as before.\n", "")
    wait_for(lambda: status_of(it, "chat") == 404, "the name is gone")
    assert status_of(it, "mock") == 200


def status_of(it: Cluster, model: str) -> int:
    """The status of a chat request for this name."""
    body = json.dumps({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]})
    url = f"http://127.0.0.1:{it.ports['http']}/v1/chat/completions"
    argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url, "-d", body]
    return int(subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout)


REFUSED = {
    "add mock": "'mock' is a name already",
    "add x --model nobody": "no worker serves 'nobody'; there is mock",
    "remove mock": "'mock' is the name that its workers were given (local/decode-0, local/decode-1); "
    "it goes when they do: take them out of the topology",
    "remove x": "there is no model 'x'; there is mock",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_refused(it: Cluster, first: Done, words: str) -> None:
    done = it.run("models", *words.split())
    assert done == Done(1, "", f"error: local: {REFUSED[words]}\nnext: dynoctl models list mocks\n")


def test_without_a_word_it_says_how_to_go_on(it: Cluster, first: Done) -> None:
    assert it.run("models") == Done(2, "", "error: Missing command\nnext: dynoctl models --help\n")


def test_of_a_cluster_that_is_not_known(it: Cluster, first: Done) -> None:
    done = it.run("models", "list", "nobody")
    assert done.code == 2
    assert done.err.splitlines()[0] == (
        "error: there is no file 'nobody', and no cluster of that name is known here"
    )


def test_of_a_cluster_that_is_down(it: Cluster, first: Done) -> None:
    assert it.run("down", "mocks").code == 0
    assert it.run("models", "list", str(it.file)) == Done(
        1, "", "error: mocks does not run on any node that answered\nnext: dynoctl status mocks\n"
    )
