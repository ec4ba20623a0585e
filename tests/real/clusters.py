"""Clusters on lab hosts: the command lines of the topologies that ship, and files for the ones that do not.

In: hosts. Out: arguments for dynoctl; what a running cluster answers.
"""

from __future__ import annotations

import json
import re
import textwrap
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.host import Host
from tests.real.dynoctl_runs import Dynoctl

TOPOLOGIES = Path(__file__).resolve().parents[2] / "topologies"
AGG = str(TOPOLOGIES / "hello-agg-2node.yaml")
DISAGG = str(TOPOLOGIES / "hello-disagg-3node.yaml")
ANSWERS_WITHIN_S = 30.0
CONNECT_TIMEOUT_S = 2  # hosts are near; tests with dead ones need not wait longer


def of_the_lab_page(folder: Path) -> str:
    """The path of a file with the topology that docs/lab.md shows."""
    page = (TOPOLOGIES.parent / "docs" / "lab.md").read_text()
    (block,) = re.findall(r"(?m)^ {4}name: (?:.*\n {4})*.*$", page)
    path = folder / "on-the-lab.yaml"
    path.write_text(textwrap.dedent(block))
    return str(path)


def on(file: str, wheelhouse: Path, *hosts: Host) -> list[str]:
    """A topology that ships, with its nodes on these hosts: node1 on the first, and so on."""
    leaves = {
        "ssh.user": hosts[0].user,
        "ssh.key": str(hosts[0].key),
        "ssh.connect_timeout_s": CONNECT_TIMEOUT_S,
        "install.wheelhouse": str(wheelhouse),
        **{f"nodes.node{number}.host": host.address for number, host in enumerate(hosts, start=1)},
    }
    return [file, *sets(leaves)]


def sets(leaves: Mapping[str, object]) -> list[str]:
    """`--set` for each leaf; a value that is no text is written as JSON, which is YAML."""
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in leaves.items()}
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def written(folder: Path, name: str, wheelhouse: Path, hosts: Mapping[str, Host], **parts: object) -> str:
    """The path of a topology file with these nodes; `parts` are its other keys."""
    first = next(iter(hosts.values()))
    whole = {
        "name": name,
        "model": {"id": "hello"},
        "engine": {"kind": "hello"},
        "ssh": {"user": first.user, "key": str(first.key), "connect_timeout_s": CONNECT_TIMEOUT_S},
        **({} if "python" in parts else {"install": {"wheelhouse": str(wheelhouse)}}),
        "nodes": {node: {"host": host.address} for node, host in hosts.items()},
        "services": {"etcd": next(iter(hosts)), "nats": next(iter(hosts))},
        **parts,
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(whole, indent=1))
    return str(path)


@dataclass(frozen=True)
class Answer:
    """What came back from `/generate`."""

    output: str
    request_id: str
    worker: str
    prefill: str


def generate(host: Host, prompt: str, request_id: str = "1", port: int = 8000) -> Answer:
    """Ask a frontend from outside."""
    body = json.dumps({"prompt": prompt, "request_id": request_id}).encode()
    url = f"http://{host.address}:{port}/generate"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=ANSWERS_WITHIN_S) as answer:
        said = json.loads(answer.read())
        headers = answer.headers
    return Answer(
        said["worker_output"], said["request_id"], headers["x-dyno-worker"], headers["x-dyno-prefill"]
    )


def pids(dynoctl: Dynoctl, *argv: str) -> dict[str, int]:
    """Unit → pid, as `status` shows them."""
    shown: Any = dynoctl("status", *argv, "--json").ok().json
    return {f"{role['node']}/{role['unit']}": role["pid"] for role in shown["roles"]}
