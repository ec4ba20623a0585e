"""Existing etcd and NATS that are not what they should be, and the ones of other people that `down` leaves alone."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.host import Host
from tests.real.clusters import DISAGG, generate, on, sets
from tests.real.dynoctl_runs import Dynoctl
from tests.servers import etcd_binary, nats_binary, wait_for

Machines = tuple[Host, ...]
NATS, ETCD = 14222, 12379


@contextmanager
def running(host: Host, port: int, program: Path, *arguments: str) -> Iterator[None]:
    """A server of somebody else, as root, until the end."""
    place = f"/opt/{program.name}"
    if host.exec(["test", "-x", place]).returncode != 0:
        copy = host.exec_argv(["sh", "-c", 'cat > "$1" && chmod 755 "$1"', "sh", place])
        with program.open("rb") as content:
            subprocess.run(copy, stdin=content, check=True, timeout=30)
    server = subprocess.Popen(
        host.exec_argv([place, *arguments]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        wait_for(lambda: _answers(host, port), f"{program.name} on {host.name} answers")
        yield
    finally:
        server.kill()
        server.communicate()


def _answers(host: Host, port: int) -> bool:
    try:
        socket.create_connection((host.address, port), 1.0).close()
    except OSError:
        return False
    return True


def nats_arguments(host: Host, *more: str) -> list[str]:
    return ["-a", host.address, "-p", str(NATS), *more]


def test_nats_without_jetstream(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    first, second, third = machines[:3]
    url = f"nats://{second.address}:{NATS}"
    with running(second, NATS, nats_binary(), *nats_arguments(second)):
        topology = on(DISAGG, wheelhouse, first, second, third)
        done = dynoctl("up", *topology, *sets({"services.nats": {"url": url}}))
    assert (done.code, done.error) == (
        1,
        [
            f"error: the nats that the topology names, asked from node1: NATS at {second.address}:{NATS} runs "
            "without JetStream: start it with -js, or set jetstream in its configuration",
            "next: mend it or services.nats.url, then the same up again",
        ],
    )
    shown = dynoctl("status")
    assert shown.out.startswith("hello-disagg does NOT serve; 6 of 7 roles are not up (generation 1)\n")
    dynoctl("down").ok()


def test_an_etcd_that_refuses(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    first, second, third = machines[:3]
    url = f"http://{second.address}:{ETCD}"
    topology = on(DISAGG, wheelhouse, first, second, third)
    done = dynoctl("up", *topology, *sets({"services.etcd": {"url": url}}))
    assert (done.code, done.error) == (
        1,
        [
            f"error: the etcd that the topology names, asked from node1: {second.address}:{ETCD} refuses "
            "connections: nothing listens there",
            "next: mend it or services.etcd.url, then the same up again",
        ],
    )
    dynoctl("down").ok()


def test_services_of_other_people(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    """Our keys and streams are in their etcd and NATS while we run, and gone afterwards; theirs stay."""
    first, second, third = machines[:3]
    nats, etcd = f"nats://{third.address}:{NATS}", f"http://{third.address}:{ETCD}"
    peer = "http://127.0.0.1:12380"
    members = [
        "--listen-peer-urls",
        peer,
        "--initial-advertise-peer-urls",
        peer,
        "--initial-cluster",
        f"a={peer}",
    ]
    clients = ["--listen-client-urls", etcd, "--advertise-client-urls", etcd]
    store = ["--name", "a", "--data-dir", "/opt/etcd-data", *clients, *members, "--log-level", "error"]
    with (
        running(third, NATS, nats_binary(), *nats_arguments(third, "-js", "-sd", "/opt/nats-data")),
        running(third, ETCD, etcd_binary(), *store),
    ):
        theirs = {"/hello-disagg2/theirs": "1", "/theirs": "2"}
        for key, value in theirs.items():
            _etcd(third, "put", key=key, value=value)
        _stream(third, "STREAM.CREATE.hello-disagg_prefill_theirs", subjects=["theirs.>"])
        services = {"services.etcd": {"url": etcd}, "services.nats": {"url": nats}}
        topology = [*on(DISAGG, wheelhouse, first, second, third), *sets(services)]
        dynoctl("up", *topology).ok()
        assert generate(first, "This is prefill disagg serving example").prefill == "remote:node3/prefill-0"
        ours = [key for key in _keys(third) if key not in theirs]
        assert len(ours) == 6
        assert all(key.startswith("/hello-disagg/instances/") for key in ours)
        assert _streams(third) == ["hello-disagg_prefill", "hello-disagg_prefill_theirs"]
        done = dynoctl("down").ok()
        assert "delete what this cluster keeps in the existing etcd and nats: done" in done.err
        assert _keys(third) == sorted(theirs)
        assert _streams(third) == ["hello-disagg_prefill_theirs"]
        assert _leases(third) == 0


def _etcd(host: Host, do: str, **fields: str) -> dict[str, object]:
    """One request to etcd's JSON gateway."""
    coded = {name: base64.b64encode(value.encode()).decode() for name, value in fields.items()}
    paths = {"put": "kv/put", "range": "kv/range", "leases": "lease/leases"}
    url = f"http://{host.address}:{ETCD}/v3/{paths[do]}"
    with urllib.request.urlopen(url, json.dumps(coded).encode(), timeout=10) as answer:
        found: dict[str, object] = json.loads(answer.read())
        return found


def _keys(host: Host) -> list[str]:
    found = _etcd(host, "range", key="\0", range_end="\0").get("kvs", [])
    assert isinstance(found, list)
    return sorted(base64.b64decode(entry["key"]).decode() for entry in found)


def _leases(host: Host) -> int:
    found = _etcd(host, "leases").get("leases", [])
    assert isinstance(found, list)
    return len(found)


def _stream(host: Host, api: str, **fields: object) -> dict[str, object]:
    """One request to JetStream in NATS's own words."""
    name = api.rpartition(".")[2]
    body = json.dumps({"name": name, **fields}) if fields else ""
    with (
        socket.create_connection((host.address, NATS), 5.0) as connection,
        connection.makefile("rwb") as stream,
    ):
        stream.readline()
        stream.write(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n')
        stream.write(f"PUB $JS.API.{api} answer {len(body)}\r\n{body}\r\n".encode())
        stream.flush()
        while not (line := stream.readline()).startswith(b"MSG"):
            assert line, "NATS closed the connection"
        answer: dict[str, object] = json.loads(stream.read(int(line.split()[-1])))
    assert "error" not in answer, answer
    return answer


def _streams(host: Host) -> list[str]:
    found = _stream(host, "STREAM.NAMES").get("streams") or []
    assert isinstance(found, list)
    return sorted(found)
