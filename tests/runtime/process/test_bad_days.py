"""Real processes on bad days: killed workers, frozen ones, etcd and NATS away, half requests, strangers."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from dyno_runtime.bus.etcd import place_of
from dyno_runtime.settings import Disagg, encode
from tests.runtime.cluster import Answer, Cluster, Unit, ask, request
from tests.servers import Etcd, Nats, free_port, wait_for

pytestmark = pytest.mark.servers


class Load:
    """Clients that ask one after another, and what they were told."""

    def __init__(self, front: Unit, prompts: int) -> None:
        self.answers: list[Answer] = []
        self.stop = threading.Event()
        self._front = front
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(prompts)]

    def _run(self, number: int) -> None:
        while not self.stop.is_set():
            self.answers.append(ask(self._front, f"{number} " * 5))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(30.0)

    def served(self, more: int, deadline_s: float = 20.0) -> None:
        """Wait until `more` further answers came."""
        target = len(self.answers) + more
        wait_for(lambda: len(self.answers) >= target, f"{more} more answers", deadline_s)


@contextmanager
def load(front: Unit, clients: int = 8) -> Iterator[Load]:
    one = Load(front, clients)
    one.start()
    try:
        yield one
    finally:
        one.join()


def test_no_request_fails_when_a_worker_is_killed_under_load(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor", "router")
    victim = cluster.add("node1", "decode", args={"generate_s": 0.02})
    cluster.add("node2", "decode", args={"generate_s": 0.02})
    cluster.ready()
    with load(front) as clients:
        clients.served(50)
        victim.end(signal.SIGKILL)
        clients.served(200)
    assert {one.status for one in clients.answers} == {200}
    assert {one.worker for one in clients.answers} == {"node1/decode-0", "node2/decode-1"}
    assert "failed before its first byte" in front.log
    wait_for(lambda: front.sees(decode=1), "its lease expires", 20.0)


def test_no_request_fails_when_a_worker_drains_under_load(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor", "router")
    leaving = cluster.add("node1", "decode", args={"generate_s": 0.1})
    cluster.add("node2", "decode", args={"generate_s": 0.02})
    cluster.ready()
    with load(front) as clients:
        clients.served(30)
        assert leaving.end() == 0
        clients.served(100)
    assert {one.status for one in clients.answers} == {200}
    assert "cutting" not in leaving.log


def test_no_request_fails_when_the_processor_or_the_router_is_killed(cluster: Cluster):
    front = cluster.add("node1", "frontend")
    victims = [cluster.add("node1", "processor"), cluster.add("node1", "router")]
    cluster.add("node2", "processor")
    cluster.add("node2", "router")
    cluster.add("node2", "decode", args={"generate_s": 0.02})
    cluster.ready()
    with load(front) as clients:
        for victim in victims:
            clients.served(30)
            victim.end(signal.SIGKILL)
        clients.served(100)
    assert {one.status for one in clients.answers} == {200}


def test_a_frozen_worker_is_left_for_another(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor")
    frozen = cluster.add("node1", "decode")
    cluster.add("node2", "decode")
    cluster.ready()
    for _ in range(2):
        ask(front, "warm")
    frozen.send(signal.SIGSTOP)
    assert {ask(front, "x", timeout_s=30.0).worker for _ in range(4)} == {"node2/decode-1"}
    frozen.send(signal.SIGCONT)
    wait_for(lambda: front.sees(decode=2), "it comes back", 20.0)
    wait_for(lambda: frozen.role()["registered"], "its lease is made again")


def test_a_worker_that_never_answers_ends_in_a_504(cluster: Cluster):
    front = cluster.add(
        "node1", "frontend", "processor", "decode", args={"hang": True}, request_timeout_s=0.3
    )
    cluster.ready()
    answer = ask(front, "x")
    assert (answer.status, answer.json["error"]["message"]) == (504, "there was no answer within 0.3 s")
    assert front.end() == 0


def test_an_engine_that_cannot_be_loaded_is_said_and_ends_the_process(cluster: Cluster):
    worker = cluster.add("node1", "decode", args={"fail": "no weights at /models/x"})
    assert worker.wait() == 1
    assert worker.role()["engine"] == "failed"
    assert worker.role()["problem"] == "the engine could not be loaded: no weights at /models/x"
    assert "Traceback" not in worker.log


def test_engine_args_that_nobody_knows_end_the_process(cluster: Cluster):
    worker = cluster.add("node1", "decode", args={"lode_s": 1})
    assert worker.wait() == 1
    assert "engine.args of the hello engine: Object contains unknown field `lode_s`" in worker.log
    assert "Traceback" not in worker.log


@pytest.mark.parametrize("which", ["stream", "http"])
def test_a_taken_port_ends_the_process_with_a_sentence(cluster: Cluster, which: str):
    first = cluster.add("node1", "frontend", "decode")
    cluster.ready()
    mine = first.settings.http if which == "http" else first.settings.stream
    assert mine is not None
    second = cluster.add("node1", "frontend", "decode", start=False)
    second.settings = replace(second.settings, **{which: mine})
    second.file.write_bytes(encode(second.settings))
    second.start()
    assert second.wait() == 1
    what = "HTTP" if which == "http" else "peers"
    problem = f"cannot listen for {what} on 127.0.0.1:{mine.port}: address already in use"
    assert second.role()["problem"] == problem
    assert problem in second.log
    assert "Traceback" not in second.log


def test_etcd_killed_and_restarted_is_not_noticed_by_clients(frail: Cluster, own_etcd: Etcd):
    front = frail.add("node1", "frontend", "processor", "router", lease_ttl_s=2.0)
    workers = [frail.add(node, "decode", lease_ttl_s=2.0) for node in ("node1", "node2")]
    frail.ready()
    leases = [one.role()["lease"] for one in workers]
    with load(front, 4) as clients:
        clients.served(20)
        own_etcd.kill()
        for unit in frail.units:
            wait_for(lambda unit=unit: unit.health()["bus"]["etcd"] == "down", "it is noticed")  # type: ignore[misc]
        assert front.role()["problem"] == f"etcd at {place_of(own_etcd.url)} does not answer"
        # Longer than the leases live.
        time.sleep(3.0)
        assert front.sees(decode=2)
        own_etcd.wipe()
        own_etcd.start()
        for unit in frail.units:
            wait_for(lambda unit=unit: bool(unit.role()["registered"]), "registered again")  # type: ignore[misc]
        clients.served(20)
        time.sleep(3.0)
        assert front.sees(decode=2)
        clients.served(20)
    assert {one.status for one in clients.answers} == {200}
    assert [one.role()["lease"] for one in workers] == leases
    assert all("Traceback" not in one.log for one in frail.units)


def test_nats_killed_means_local_prefill_and_back_again(frail: Cluster, own_nats: Nats):
    frail.disagg = Disagg(mode="always")
    front = frail.add("node1", "frontend", "processor", "router")
    decode = frail.add("node1", "decode")
    frail.add("node2", "prefill")
    frail.ready()
    assert ask(front, "one", x_dyno_prefill="remote").prefill == "remote:node2/prefill-0"
    with load(front, 4) as clients:
        clients.served(20)
        own_nats.kill()
        wait_for(lambda: decode.health()["bus"]["nats"] == "down", "it is noticed")
        clients.served(50)
    assert {one.status for one in clients.answers} == {200}
    began = time.monotonic()
    assert ask(front, "two").prefill == "local"
    assert time.monotonic() - began < 2.0
    own_nats.start()
    wait_for(lambda: ask(front, "three").prefill == "remote:node2/prefill-0", "remote again")
    assert all("Traceback" not in one.log for one in frail.units)


def test_nats_without_jetstream_is_a_sentence_and_serving_goes_on(etcd: Etcd, tmp_path: Path):
    bare = Nats(tmp_path / "bare", jetstream=False)
    bare.start()
    cluster = Cluster(etcd.url, bare.url, tmp_path, name="bare", disagg=Disagg(mode="always"))
    try:
        front = cluster.add("node1", "frontend", "processor")
        workers = [cluster.add("node1", "decode"), cluster.add("node2", "prefill")]
        problem = f"NATS at 127.0.0.1:{bare.port} has no JetStream; start it with -js"
        for worker in workers:
            wait_for(lambda worker=worker: worker.role().get("problem") == problem, "it is said")  # type: ignore[misc]
        wait_for(lambda: ask(front, "x").status == 200, "it serves")
        assert front.role()["problem"] is None
        assert ask(front, "x").prefill == "local"
    finally:
        cluster.close()
        bare.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_prefill_worker_that_ends_over_its_work_loses_nothing(cluster: Cluster, how: int):
    cluster.disagg = Disagg(mode="always", prefill_timeout_s=30.0)
    front = cluster.add("node1", "frontend", "processor")
    cluster.add("node1", "decode")
    slow = cluster.add("node2", "prefill", args={"prefill_s": 100.0}, drain_s=0.2)
    cluster.ready()
    answers: list[Answer] = []
    client = threading.Thread(target=lambda: answers.append(ask(front, "x", timeout_s=30.0)))
    client.start()
    wait_for(lambda: "pulled" in slow.log, "it works on it")
    cluster.add("node3", "prefill")
    slow.end(how)
    client.join(30.0)
    assert [(one.status, one.prefill) for one in answers] == [(200, "remote:node3/prefill-1")]


def test_a_prefill_that_takes_too_long_is_done_here(cluster: Cluster):
    cluster.disagg = Disagg(mode="always", prefill_timeout_s=0.5)
    front = cluster.add("node1", "frontend", "processor")
    decode = cluster.add("node1", "decode")
    prefill = cluster.add("node2", "prefill", args={"prefill_s": 30.0})
    cluster.ready()
    assert ask(front, "x", x_dyno_prefill="remote").prefill == "local"
    assert "no remote prefill in time; prefilling here" in decode.log
    # Draining is bounded also for work that would take longer.
    assert prefill.end(signal.SIGKILL) == -signal.SIGKILL


def test_etcd_and_nats_that_come_late_are_waited_for(tmp_path: Path):
    nats, etcd = Nats(tmp_path / "nats"), Etcd(tmp_path / "etcd")
    cluster = Cluster(etcd.url, nats.url, tmp_path, disagg=Disagg(mode="always"))
    try:
        front = cluster.add("node1", "frontend", "processor", "decode", "prefill")
        problem = f"etcd at 127.0.0.1:{etcd.port} does not answer"
        wait_for(lambda: front.role().get("problem") == problem, "the health file says so")
        assert front.health()["bus"] == {"etcd": "down", "nats": "down"}
        assert front.role()["port"] is True
        etcd.start()
        nats.start()
        cluster.ready()
        assert ask(front, "x", x_dyno_prefill="remote").prefill == "remote:node1/frontend-0"
    finally:
        cluster.close()
        etcd.kill()
        nats.kill()


def test_etcd_that_never_comes_ends_the_process_after_its_budget(tmp_path: Path):
    cluster = Cluster(f"http://127.0.0.1:{free_port()}", f"nats://127.0.0.1:{free_port()}", tmp_path)
    try:
        unit = cluster.add("node1", "decode", start_budget_s=1.0)
        assert unit.wait() == 1
        assert f"not registered within 1 s: etcd at {place_of(cluster.etcd_url)} does not answer" in unit.log
        assert "Traceback" not in unit.log
    finally:
        cluster.close()


def test_draining_finishes_what_is_in_flight_and_refuses_the_rest(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor", "decode", args={"generate_s": 1.0})
    cluster.ready()
    answers: list[Answer] = []
    client = threading.Thread(target=lambda: answers.append(ask(front, "in flight")))
    client.start()
    time.sleep(0.3)
    front.send(signal.SIGTERM)
    wait_for(lambda: "draining" in front.log, "it drains")
    client.join(10.0)
    assert front.wait() == 0
    assert [one.status for one in answers] == [200]
    with socket.socket() as probe:
        assert front.settings.http is not None
        assert probe.connect_ex(("127.0.0.1", front.settings.http.port)) != 0


def test_what_takes_longer_than_the_drain_is_cut_with_a_503(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor", "decode", args={"hang": True}, drain_s=0.3)
    cluster.ready()
    answers: list[Answer] = []
    client = threading.Thread(target=lambda: answers.append(ask(front, "x")))
    client.start()
    time.sleep(0.3)
    assert front.end() == 0
    client.join(10.0)
    assert [(one.status, one.json["error"]["code"]) for one in answers] == [(503, "draining")]


def test_strangers_on_the_stream_port_and_half_requests_disturb_nobody(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor")
    worker = cluster.add("node1", "decode")
    cluster.ready()
    open_sockets = []
    for data in (b"GET / HTTP/1.0\r\n\r\n", b"\x00" * 64, b"\xff" * 64, b""):
        stranger = socket.create_connection(("127.0.0.1", worker.settings.stream.port))
        stranger.sendall(data)
        open_sockets.append(stranger)
    assert front.settings.http is not None
    for data in (
        b"P",
        b"POST /generate HTTP/1.1\r\n",
        b"POST /generate HTTP/1.1\r\ncontent-length: 50\r\n\r\n{",
    ):
        half = socket.create_connection(("127.0.0.1", front.settings.http.port))
        half.sendall(data)
        open_sockets.append(half)
    assert {ask(front, f"x{number}").status for number in range(20)} == {200}
    for one in open_sockets:
        one.close()
    assert worker.log.count("closed a connection from 127.0.0.1") == 1


def test_a_client_that_leaves_frees_the_worker(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor", args={}, drain_s=5.0)
    worker = cluster.add("node1", "decode", args={"hang": True}, drain_s=5.0)
    cluster.ready()
    assert front.settings.http is not None
    body = b'{"prompt": "x"}'
    for _ in range(10):
        client = socket.create_connection(("127.0.0.1", front.settings.http.port))
        client.sendall(b"POST /generate HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        time.sleep(0.02)
        client.close()
    # Nothing is in flight any more, so nothing is waited for or cut.
    for unit in (front, worker):
        began = time.monotonic()
        assert unit.end() == 0
        assert time.monotonic() - began < 4.0
        assert "cutting" not in unit.log


def test_sixty_requests_at_once_spread_over_the_workers(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor")
    for node in ("node1", "node2", "node3"):
        cluster.add(node, "decode")
    cluster.ready()
    with load(front, 20) as clients:
        clients.served(300)
    counts: dict[str, int] = {}
    for one in clients.answers:
        counts[one.worker] = counts.get(one.worker, 0) + 1
    assert max(counts.values()) - min(counts.values()) <= 1
    assert request(f"{front.url}/health", None, {}).status == 200
