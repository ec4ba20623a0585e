"""A model on one host only: refused where it is missing, copied where the topology says so, then served there.

What the engine mock reads of a model is its tokenizer, so the large file here is one that may belong to that.
"""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from pathlib import Path

from tests.lab.host import Host
from tests.models import make_model
from tests.real.clusters import written
from tests.real.dynoctl_runs import Dynoctl

MODEL = "/home/dyn/models/tiny"
LARGE_BYTES = 20_000_000
ROLES = {"frontend": {"node": "node2"}, "decode": {"nodes": ["node1", "node2"]}}


def put(host: Host, path: str, content: bytes) -> None:
    text = base64.b64encode(content).decode()
    script = 'mkdir -p "$(dirname "$1")" && base64 -d > "$1"'
    host.exec(["sh", "-c", script, "sh", path], user="dyn", input=text, check=True)


def sums(host: Host) -> str:
    script = f"cd {MODEL} && find . -type f | sort | xargs sha256sum"
    return host.exec(["sh", "-c", script], check=True).stdout


def test_a_model_is_copied_to_the_node_that_lacks_it(
    machines: tuple[Host, ...], dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path
) -> None:
    first, second = machines[0], machines[3]  # the second with systemd
    folder = make_model(tmp_path / "tiny")
    large = hashlib.shake_256(b"large").digest(LARGE_BYTES)
    for path in folder.iterdir():
        put(first, f"{MODEL}/{path.name}", path.read_bytes())
    put(first, f"{MODEL}/merges.model", large)
    whole = {"engine": {"kind": "mock"}, "roles": ROLES}
    model = {"id": MODEL, "served_name": "tiny"}
    hosts = {"node1": first, "node2": second}

    refused = dynoctl("up", written(tmp_path, "tiny", wheelhouse, hosts, model=model, **whole))
    assert (refused.code, refused.error) == (
        1,
        [
            "error: tiny cannot be brought up as the nodes are; nothing was changed",
            f"  node2: {MODEL} is not there, and frontend-0 needs it",
            "next: copy it to node2, or let dynoctl copy it from a node that has it: model.stage_from",
        ],
    )

    # An earlier run was cut off in the middle of the largest file.
    put(second, f"{MODEL}/.merges.model.part", large[: LARGE_BYTES // 2])
    staged = {**model, "stage_from": "node1"}
    file = written(tmp_path, "tiny", wheelhouse, hosts, model=staged, **whole)
    done = dynoctl("up", file).ok()
    assert f"node2: copy {MODEL} from node1 (20." in done.err
    assert sums(second) == sums(first)
    body = json.dumps({"model": "tiny", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]})
    request = urllib.request.Request(
        f"http://{second.address}:8000/v1/chat/completions",
        body.encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.loads(answer.read())["usage"]["completion_tokens"] == 4

    again = dynoctl("up", file).ok()
    assert again.out.splitlines()[0] == "tiny: no changes; all 5 units run as the topology says."
    dynoctl("down").ok()

    # The copies outlive the cluster. One that is as large as before and another file is found, and brought anew.
    put(second, f"{MODEL}/merges.model", large[::-1])
    once_more = dynoctl("up", file).ok()
    assert f"node2: compare {MODEL} with that of node1 (20.0 MB)" in once_more.err
    assert sums(second) == sums(first)
    dynoctl("down").ok()
    proved = dynoctl("up", file).ok()
    assert "compare" not in proved.err
    assert "copy" not in proved.err
    dynoctl("down").ok()
    for host in (first, second):
        host.exec(["rm", "-r", "/home/dyn/models"], check=True)
