"""Verb `await`: NATS and etcd proven, and a reason for everything that is not them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dyno_node import services
from tests.node.program import Program, until

INFO = {"server_id": "N", "version": "2.15.1", "jetstream": True}


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that handles connections one after another, on a loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    try:
                        answer(peer)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def says(text: str) -> Callable[[socket.socket], None]:
    return lambda peer: peer.sendall(text.encode())


def http(status: str, body: str) -> Callable[[socket.socket], None]:
    def answer(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    return answer


def greeting(**more: Any) -> str:
    return f"INFO {json.dumps({**INFO, **more})}\r\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def nats_error(answer: Callable[[socket.socket], None], kind: type[Exception], timeout_s: float = 5.0) -> str:
    with serving(answer) as port, pytest.raises(kind) as raised:
        services.nats("127.0.0.1", port, timeout_s, jetstream=True)
    return str(raised.value).replace(str(port), "PORT")


def test_nats_is_known_by_its_greeting() -> None:
    with serving(says(greeting())) as port:
        proof = services.nats("127.0.0.1", port, 5.0, jetstream=True)
    assert proof == {"version": "2.15.1", "auth_required": False}


def test_a_greeting_in_pieces_is_put_together() -> None:
    def slowly(peer: socket.socket) -> None:
        text = greeting(auth_required=True, connect_urls=["10.0.0.1:4222"] * 500)
        for start in range(0, len(text), 1000):
            peer.sendall(text[start : start + 1000].encode())

    with serving(slowly) as port:
        assert services.nats("127.0.0.1", port, 5.0, jetstream=True)["auth_required"] is True


def test_nats_without_jetstream_will_never_do() -> None:
    assert nats_error(says(greeting(jetstream=False)), services.Never) == (
        "NATS at 127.0.0.1:PORT runs without JetStream: start it with -js, or set jetstream in its configuration"
    )
    with serving(says(greeting(jetstream=False))) as port:
        assert services.nats("127.0.0.1", port, 5.0, jetstream=False)["version"] == "2.15.1"


@pytest.mark.parametrize("text", ["SSH-2.0-OpenSSH_9.2\r\n", "INFO no json\r\n"])
def test_what_greets_otherwise_is_not_nats(text: str) -> None:
    expected = f"127.0.0.1:PORT is not NATS: it greeted with {text.strip()!r}"
    assert nats_error(says(text), services.Never) == expected


def test_what_does_not_greet_may_be_late() -> None:
    assert nats_error(lambda peer: None, services.NotYet) == (
        "127.0.0.1:PORT closed the connection without a greeting"
    )
    assert nats_error(lambda peer: _drain(peer), services.NotYet, 0.2) == (
        "127.0.0.1:PORT did not greet within 0.2 s: no NATS server, or one that hangs"
    )


def _drain(peer: socket.socket) -> None:
    while peer.recv(65536):
        pass


def test_nobody_there_is_said() -> None:
    port = free_port()
    refused = f"127.0.0.1:{port} refuses connections: nothing listens there"
    with pytest.raises(services.NotYet) as raised:
        services.nats("127.0.0.1", port, 5.0, jetstream=True)
    assert str(raised.value) == refused
    with pytest.raises(services.NotYet) as raised:
        services.etcd(f"http://127.0.0.1:{port}", 5.0)
    assert str(raised.value) == refused


def test_a_name_without_address_is_said() -> None:
    with pytest.raises(services.NotYet, match=r"^no\.such\.host\.invalid:4222 has no address: "):
        services.nats("no.such.host.invalid", 4222, 5.0, jetstream=True)


def test_etcd_is_healthy_or_not_yet() -> None:
    with serving(http("200 OK", '{"health":"true","reason":""}')) as port:
        assert services.etcd(f"http://127.0.0.1:{port}/", 5.0) == {"status": 200}
    sick = http("503 Service Unavailable", '{"health":"false"}')
    with serving(sick) as port, pytest.raises(services.NotYet) as raised:
        services.etcd(f"http://127.0.0.1:{port}", 5.0)
    assert str(raised.value) == f'etcd at 127.0.0.1:{port} is not healthy: {{"health":"false"}}'


def test_what_is_not_etcd_is_said() -> None:
    with serving(http("404 Not Found", "what?")) as port, pytest.raises(services.Never) as raised:
        services.etcd(f"http://127.0.0.1:{port}", 5.0)
    assert str(raised.value) == f"127.0.0.1:{port} is not etcd: GET /health gave status 404 and no health"
    with serving(says(greeting())) as port, pytest.raises(services.Never) as raised:
        services.etcd(f"http://127.0.0.1:{port}", 5.0)
    assert str(raised.value) == f"127.0.0.1:{port} is not etcd: it does not speak HTTP"
    with pytest.raises(services.Never) as raised:
        services.etcd("https://10.0.0.1:2379", 5.0)
    expected = "https://10.0.0.1:2379 is not an address like http://10.0.0.1:2379 (TLS is not supported)"
    assert str(raised.value) == expected


def test_each_service_gets_its_line_when_it_is_proven(program: Program) -> None:
    with serving(says(greeting())) as nats, serving(http("200 OK", '{"health":"true"}')) as etcd:
        wanted = [
            {"kind": "etcd", "url": f"http://127.0.0.1:{etcd}"},
            {"kind": "nats", "host": "127.0.0.1", "port": nats},
        ]
        lines = program.lines("await", {"services": wanted, "deadline_s": 20})
    assert [(line["kind"], line["at"], line["ok"]) for line in lines] == [
        ("etcd", f"http://127.0.0.1:{etcd}", True),
        ("nats", f"127.0.0.1:{nats}", True),
    ]


def test_a_service_that_comes_late_is_waited_for(program: Program) -> None:
    port = free_port()
    wanted = [{"kind": "nats", "host": "127.0.0.1", "port": port}]
    with program.popen("await", {"services": wanted, "deadline_s": 30}) as waiting:
        until(lambda: waiting.poll() is None, "the verb")
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port))
            server.listen()
            peer, _ = server.accept()
            with peer:
                says(greeting())(peer)
                out, _ = waiting.communicate(timeout=30)
    assert json.loads(out)["ok"] is True


def test_the_deadline_brings_the_reason(program: Program) -> None:
    port = free_port()
    wanted = [{"kind": "nats", "host": "127.0.0.1", "port": port}]
    line = program.ask("await", {"services": wanted, "deadline_s": 0.2})
    assert line["error"] == f"127.0.0.1:{port} refuses connections: nothing listens there"


def test_a_dead_unit_ends_the_wait_with_its_log(program: Program) -> None:
    folder = program.unit("nats-0", argv=["/bin/sh", "-c", "sleep 0.3; echo bad config; exit 1"])
    program.start(folder)
    wanted = [{"kind": "nats", "host": "127.0.0.1", "port": free_port(), "unit_dir": str(folder)}]
    line = program.ask("await", {"services": wanted, "deadline_s": 60})
    assert (line["ok"], line["error"]) == (False, "nats-0 ended with exit code 1")
    assert "bad config" in line["log"]


def test_a_password_in_an_address_is_never_printed(program: Program) -> None:
    services = [
        {"kind": "etcd", "url": "https://root:pw-of-root@127.0.0.1:1"},
        {"kind": "etcd", "url": "http://root:pw-of-root@127.0.0.1:1"},
    ]
    lines = program.lines("await", {"services": services, "deadline_s": 0.2})
    assert [line["at"] for line in lines] == ["https://127.0.0.1:1", "http://127.0.0.1:1"]
    assert "pw-of-root" not in json.dumps(lines)


@pytest.mark.parametrize(
    "url",
    ["https://root:p@ss@h:2379", "https://root:p/w@h:2379", "root:pw@h:2379", "http://root:p/w@127.0.0.1:9"],
)
def test_of_a_text_that_is_no_address_nothing_is_printed(url: str) -> None:
    with pytest.raises(services.Never) as raised:
        services.etcd(url, 1.0)
    said = str(raised.value).partition(" is not an address like")[0]
    assert said in ("the address", "https://h:2379")
