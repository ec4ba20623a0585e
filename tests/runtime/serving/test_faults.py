"""Streams that go on whatever happens to workers, clients that leave or do not read, prefill from elsewhere."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from dyno_runtime.settings import Disagg, Model
from tests.runtime.cluster import Cluster, Unit, request
from tests.runtime.serving.client import Said, chat, post
from tests.servers import wait_for

pytestmark = pytest.mark.servers

IN_FLIGHT = 'dyno_requests_in_flight{role="frontend"}'
SLOW = {"speedup": 1, "step_base_s": 0.01, "step_seq_s": 0.0}


def figures(unit: Unit) -> dict[str, float]:
    """The unit's metrics by name."""
    with socket.create_connection(("127.0.0.1", int(unit.url.rpartition(":")[2])), 5) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    lines = text.partition("\r\n\r\n")[2].splitlines()
    return {name: float(value) for name, value in (one.rsplit(" ", 1) for one in lines if one[0] != "#")}


def half_open(unit: Unit, body: dict[str, object]) -> socket.socket:
    """A streamed chat request whose answer nobody reads yet."""
    data = json.dumps({"model": "mock-model", "stream": True, **body}).encode()
    sock = socket.create_connection(("127.0.0.1", int(unit.url.rpartition(":")[2])), 10)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data)
    sock.sendall(head + data)
    return sock


def messages(said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": said}]


def test_fifty_streams_survive_the_death_of_a_worker_unchanged(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    victim = mocks.add("node1", "decode", args=SLOW)
    mocks.add("node2", "decode", args=SLOW)
    mocks.ready()

    def one(number: int, **headers: str) -> Said:
        return chat(
            front.url,
            f"request {number} asks for something of its own",
            max_tokens=120,
            ignore_eos=True,
            seed=number,
            stream=True,
            stream_options={"include_usage": True},
            headers=headers,
        )

    with ThreadPoolExecutor(50) as pool:
        running = [pool.submit(one, number) for number in range(50)]
        wait_for(lambda: figures(front)[IN_FLIGHT] == 50, "50 in flight")
        time.sleep(0.4)  # so that they are in the middle
        victim.end(signal.SIGKILL)
        after = [future.result(60) for future in running]
        workers = {said.headers["x-dyno-worker"] for said in after}
        assert workers == {"node1/decode-0", "node2/decode-1"}
        undisturbed = list(pool.map(one, range(50)))
    for number in range(50):
        assert after[number].text() == undisturbed[number].text(), number
        assert after[number].finish() == "length"
        assert after[number].events[-1]["usage"]["completion_tokens"] == 120
    assert figures(front)[IN_FLIGHT] == 0


def test_a_client_that_leaves_frees_the_engine(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode", args=SLOW)
    mocks.ready()

    def load() -> list[float]:
        told = post(front.url, "/debug/route", {"model": "mock-model", "messages": messages("hi")}).json
        return [told["workers"][0][name] for name in ("running", "waiting", "usage")]

    socks = [half_open(front, {"messages": messages("hi"), "max_tokens": 4000, "n": 2}) for _ in range(5)]
    wait_for(lambda: figures(front)[IN_FLIGHT] == 5, "5 in flight")
    wait_for(lambda: load()[0] == 10, "10 jobs run")
    for sock in socks:
        assert b"200 OK" in sock.recv(1000)
        sock.close()
    wait_for(lambda: figures(front)[IN_FLIGHT] == 0, "nobody in flight", 10)
    wait_for(lambda: load() == [0, 0, 0], "engine and KV are free", 10)
    assert figures(front)['dyno_requests_total{status="499"}'] == 5


@pytest.mark.parametrize("mode", ["always", "conditional"])
def test_remote_prefill_and_the_same_answer(mocks: Cluster, mode):
    mocks.disagg = Disagg(mode=mode, max_local_prefill_length=50, max_prefill_queue_size=8)
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.add("node2", "prefill")
    mocks.ready()
    long = "a prompt that is long enough to be worth the way to another worker, and back " * 4
    # This one waits until the decode worker, too, knows of the prefill worker.
    chat(front.url, "hi", max_tokens=1, headers={"x-dyno-prefill": "remote"})
    remote = chat(front.url, long, max_tokens=30, seed=4)
    assert remote.headers["x-dyno-prefill"] == "remote:node2/prefill-0"
    short = chat(front.url, "hi", max_tokens=3)
    assert short.headers["x-dyno-prefill"] == ("local" if mode == "conditional" else "remote:node2/prefill-0")
    mocks.units[-1].end(signal.SIGTERM)
    wait_for(lambda: front.sees(prefill=0), "the prefill worker is gone")
    local = chat(front.url, long, max_tokens=30, seed=4)
    assert local.headers["x-dyno-prefill"] == "local"
    assert local.text() == remote.text()


def test_a_worker_may_serve_both_roles(mocks: Cluster):
    mocks.disagg = Disagg(mode="always")
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode", "prefill")
    mocks.add("node2", "decode", "prefill")
    mocks.ready()
    told = [chat(front.url, f"prompt number {number}", max_tokens=9, seed=1) for number in range(8)]
    assert {one.headers["x-dyno-prefill"].split(":")[0] for one in told} == {"remote"}
    assert {one.json["usage"]["completion_tokens"] for one in told} == {9}


def _is_helped(url: str, worker: str) -> bool:
    """Whether the worker has a prompt prefilled elsewhere."""
    there = {"x-dyno-prefill": "remote", "x-dyno-target": worker}
    return chat(url, "hi", max_tokens=1, headers=there).headers["x-dyno-prefill"] != "local"


def test_prompts_that_grow_are_prefilled_by_prefill_workers_and_decoded_by_the_others(mocks: Cluster):
    """The reference's disaggregated case: each prompt is the one before and more."""
    mocks.disagg = Disagg(mode="always")
    front = mocks.add("node1", "frontend", "processor", "router")
    for node in ("node1", "node2"):
        mocks.add(node, "decode")
        mocks.add(node, "prefill")
    mocks.ready()
    for worker in ("node1/decode-0", "node2/decode-1"):
        # It prefills by itself until it has seen a prefill worker.
        wait_for(partial(_is_helped, front.url, worker), f"{worker} has its prompt prefilled elsewhere")
    told = [chat(front.url, "a few words more " * 8 * turn, max_tokens=5) for turn in range(1, 5)]
    assert {one.headers["x-dyno-worker"] for one in told} <= {"node1/decode-0", "node2/decode-1"}
    prefilled = {one.headers["x-dyno-prefill"] for one in told}
    assert prefilled <= {"remote:node1/prefill-0", "remote:node2/prefill-1"}
    # What the first of them left in the worker's cache is found again.
    assert all(one.json["usage"]["prompt_tokens_details"]["cached_tokens"] > 100 for one in told[1:])


def test_a_client_that_leaves_during_a_remote_prefill_frees_both_workers(mocks: Cluster):
    mocks.disagg = Disagg(mode="always")
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode", args=SLOW)
    steps = {"max_num_seqs": 16, "max_num_batched_tokens": 16}  # 0.3 s each
    slow = {"speedup": 1, "prefill_tokens_per_s": 50, "prefill_slots": 1, **steps}
    prefill = mocks.add("node2", "prefill", args=slow)
    mocks.ready()
    chat(front.url, "hi", max_tokens=1, headers={"x-dyno-prefill": "remote"})
    # One is computed for half a minute, the other one waits in the queue.
    body = {"messages": messages("x" * 1500), "max_tokens": 50}
    socks = [half_open(front, body) for _ in range(2)]
    wait_for(lambda: prefill.log.count("pulled") == 2, "the first one is pulled")
    wait_for(lambda: figures(front)[IN_FLIGHT] == 2, "both are in flight")
    for sock in socks:
        sock.close()
    wait_for(lambda: figures(front)[IN_FLIGHT] == 0, "nobody is in flight", 10)
    wait_for(lambda: "gave up" in prefill.log, "the one that was computed is given up", 10)

    def usage() -> float:
        question = {"model": "mock-model", "messages": messages("hi")}
        return float(post(front.url, "/debug/route", question).json["workers"][0]["usage"])

    wait_for(lambda: usage() == 0, "decode's blocks are free", 10)
    # The only slot would be taken for longer than anybody waits for a remote prefill.
    after = chat(front.url, "again", max_tokens=1)
    assert after.headers["x-dyno-prefill"] == "remote:node2/prefill-0"


def test_each_model_has_its_own_prefill_workers(mocks: Cluster):
    mocks.disagg = Disagg(mode="always")
    front = mocks.add("node1", "frontend", "processor", "router")
    for name in ("one", "two/b.1", "three"):
        mocks.model = Model(name)
        mocks.add(name[:3], "decode")
        if name != "three":
            mocks.add(name[:3], "prefill")
    mocks.ready()

    def prefilled(model: str, number: int) -> str:
        return chat(front.url, f"{model} prompt {number}", model=model, max_tokens=3).headers[
            "x-dyno-prefill"
        ]

    for model, place in {"one": "one/prefill-0", "two/b.1": "two/prefill-1"}.items():
        chat(front.url, "hi", model=model, max_tokens=1, headers={"x-dyno-prefill": "remote"})
        assert {prefilled(model, number) for number in range(6)} == {f"remote:{place}"}
    assert {prefilled("three", number) for number in range(3)} == {"local"}
    mocks.units[2].end(signal.SIGTERM)
    wait_for(lambda: front.sees(prefill=1), "one of them is gone")
    assert {prefilled("one", number) for number in range(10, 16)} == {"local"}
    assert prefilled("two/b.1", 99) == "remote:two/prefill-1"


def test_a_prefill_worker_that_dies_or_hangs_means_a_local_prefill(mocks: Cluster):
    mocks.disagg = Disagg(mode="always", prefill_timeout_s=1.0)
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.add("node2", "prefill", args={"faults": {"hang": True}})
    mocks.ready()
    hung = chat(front.url, "hello", max_tokens=9, seed=1)
    assert hung.headers["x-dyno-prefill"] == "local"
    mocks.units[-1].end(signal.SIGKILL)
    dead = chat(front.url, "hello", max_tokens=9, seed=1)
    assert (dead.headers["x-dyno-prefill"], dead.text()) == ("local", hung.text())


def test_two_processes_share_one_port(mocks: Cluster):
    first = mocks.add("node1", "frontend", "processor", "router", http_workers=2)
    mocks.add("node1", "decode")
    second = mocks.add("node1", "frontend", "processor", "router", http=first.settings.http, http_workers=2)
    mocks.ready()
    # The system spreads connections by their ports: of 40, each process gets some.
    ids = {chat(first.url, "hi", max_tokens=1).json["id"].split("-")[1] for _ in range(40)}
    assert len(ids) == 2
    assert second.end() == 0
    assert {chat(first.url, "hi", max_tokens=1).status for _ in range(10)} == {200}


def test_a_reader_that_sleeps_costs_no_memory_and_gets_everything(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode", args={"speedup": "inf"})
    mocks.ready()
    body = {"messages": messages("hi"), "max_tokens": 3900, "ignore_eos": True, "seed": 1}
    whole = chat(front.url, "hi", max_tokens=3900, ignore_eos=True, seed=1).text()
    socks = [half_open(front, body) for _ in range(20)]
    wait_for(lambda: chat(front.url, "others are served", max_tokens=3).status == 200, "served")
    for sock in socks:
        with sock, sock.makefile("rb") as stream:
            text, line = [], b""
            while line.strip() != b"data: [DONE]":
                line = stream.readline()
                if line.startswith(b"data: {"):
                    text += [one["delta"].get("content", "") for one in json.loads(line[6:])["choices"]]
        assert "".join(text) == whole


def test_a_long_wait_is_told_with_pings(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router", ping_s=0.5)
    mocks.add("node1", "decode", args={"speedup": 1, "prefill_tokens_per_s": 100})
    mocks.ready()
    said = chat(front.url, "x" * 250, max_tokens=2, stream=True)
    assert said.body.startswith(b": ping\n\n: ping\n\n"), said.body[:100]
    assert b": x-dyno-prefill local\n\n" in said.body
    assert (said.headers["x-dyno-worker"], said.finish()) == ("node1/decode-0", "length")


def test_too_much_is_refused_and_a_drain_lets_streams_end(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router", max_requests=2)
    mocks.add("node1", "decode", args=SLOW)
    mocks.ready()
    with ThreadPoolExecutor(2) as pool:
        two = [
            pool.submit(chat, front.url, "hi", max_tokens=150, stream=True, ignore_eos=True) for _ in range(2)
        ]
        wait_for(lambda: figures(front)[IN_FLIGHT] == 2, "2 in flight")
        third = chat(front.url, "hi")
        assert (third.status, third.headers["retry-after"]) == (429, "1")
        front.send(signal.SIGTERM)
        assert [len(one.result(30).text()) for one in two] == [150, 150]
    assert front.wait() == 0


def test_a_worker_that_drains_gives_its_streams_away(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    leaving = mocks.add("node1", "decode", args=SLOW, drain_s=0.2)
    mocks.ready()
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(chat, front.url, "hi", max_tokens=200, stream=True, ignore_eos=True, seed=1)
        wait_for(lambda: figures(front)[IN_FLIGHT] == 1, "in flight")
        other = mocks.add("node2", "decode", args=SLOW)
        wait_for(lambda: other.role().get("engine") == "ready" and front.sees(decode=2), "a second worker")
        assert leaving.end(signal.SIGTERM) == 0
        moved = stream.result(30)
    again = chat(front.url, "hi", max_tokens=200, ignore_eos=True, seed=1)
    assert again.headers["x-dyno-worker"] == "node2/decode-1"
    assert (moved.text(), moved.finish()) == (again.text(), "length")


def test_no_worker_is_a_503_with_retry_after(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode").end(signal.SIGKILL)
    wait_for(lambda: front.role().get("registered", False), "registered")
    wait_for(lambda: front.sees(decode=0), "nobody is there", 20)
    said = chat(front.url, "hi")
    assert (said.status, said.headers["retry-after"]) == (503, "1")
    assert said.json["error"]["message"] == "No worker of the model 'mock-model' is ready."


def test_two_thousand_open_streams_and_idle_connections_are_cheap(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode", args={"speedup": 1, "step_base_s": 0.05, "max_num_seqs": 2048, "step_seq_s": 0,
                                       "max_num_batched_tokens": 65536, "prefill_tokens_per_s": 1e9,
                                       "kv_blocks": 65536})  # fmt: skip
    mocks.ready()
    port = int(front.url.rpartition(":")[2])
    assert front.process is not None

    def resident_kb() -> int:
        assert front.process is not None
        status = Path(f"/proc/{front.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    async def idle(count: int) -> int:
        before = resident_kb()
        conns = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(count)))
        for _, writer in conns:
            writer.write(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
        for reader, _ in conns:
            await reader.readuntil(b"}")
        used = resident_kb() - before
        for _, writer in conns:
            writer.close()
        return used * 1024 // count

    async def stream(number: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = json.dumps({"model": "mock-model", "stream": True, "max_tokens": 40, "ignore_eos": True,
                           "messages": messages(f"{number}")}).encode()  # fmt: skip
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(data) + data)
        told = await reader.read(-1)
        writer.close()
        return told

    async def streams() -> list[bytes]:
        return await asyncio.gather(*(stream(number) for number in range(2000)))

    assert asyncio.run(idle(1000)) <= 50_000
    told = asyncio.run(streams())
    assert [one for one in told if b"data: [DONE]" not in one] == []
    assert figures(front)[IN_FLIGHT] == 0
    assert request(f"{front.url}/ready", None, {}).status == 200
