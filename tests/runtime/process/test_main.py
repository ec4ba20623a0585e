"""The command itself: usage, settings that cannot be read, purge, and what an earlier life left behind."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from dyno_runtime.bus.etcd import EtcdStore
from dyno_runtime.bus.nats import NatsQueue
from dyno_runtime.roles.process import Process
from dyno_runtime.settings import Disagg, Services, encode
from dyno_runtime.wire.codec import encode_task
from dyno_runtime.wire.messages import Address, PrefillTask
from tests.runtime.cluster import Cluster, Unit, ask
from tests.servers import free_port, wait_for


def runtime(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dyno_runtime", *argv], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("argv", [[], ["purge"], ["a", "b"], ["purge", "a", "redis"]])
def test_usage(argv: list[str]):
    done = runtime(*argv)
    ways = "SETTINGS.json, or purge SETTINGS.json [etcd] [nats], or models SETTINGS.json WORDS"
    usage = f"usage: python -m dyno_runtime [ray] {ways}\n"
    assert (done.returncode, done.stderr) == (2, usage)


def test_settings_that_cannot_be_read(tmp_path: Path):
    file = tmp_path / "settings.json"
    assert runtime(str(file)).stderr == f"{file}: No such file or directory\n"
    file.write_text("{}")
    done = runtime(str(file))
    assert (done.returncode, done.stderr) == (2, f"{file}: Object missing required field `cluster`\n")


def test_only_light_things_are_imported_at_the_start():
    for module, heavy in (
        ("dyno_runtime.settings", {"asyncio", "uvloop", "nats", "grpc"}),
        ("dyno_runtime.roles.process", {"nats", "grpc", "aetcd"}),
    ):
        code = f"import sys, {module}; print(sorted(sys.modules.keys() & {heavy}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"


def purge(unit: Unit) -> tuple[int, dict[str, object]]:
    done = runtime("purge", str(unit.file))
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.servers
def test_purge_removes_everything_of_this_cluster_and_only_once(cluster: Cluster, tmp_path: Path):
    (tmp_path / "other").mkdir()
    other = Cluster(cluster.etcd_url, cluster.nats_url, tmp_path / "other", name=f"{cluster.name}-not")
    try:
        for one in (cluster, other):
            one.disagg = Disagg(mode="always")
            one.add("node1", "frontend", "processor", "decode", "prefill")
            one.ready()
            assert ask(one.units[0], "x", x_dyno_prefill="remote").status == 200
        unit = cluster.units[0]
        unit.end(9)
        stream = f"{cluster.name}_prefill"
        assert purge(unit) == (0, {"etcd_keys": 4, "stream": stream, "problems": []})
        assert purge(unit) == (0, {"etcd_keys": 0, "stream": None, "problems": []})
        # The neighbour, whose name begins alike, has lost nothing.
        assert ask(other.units[0], "x", x_dyno_prefill="remote").prefill.startswith("remote:")
    finally:
        other.close()


@pytest.mark.servers
def test_purge_leaves_what_somebody_else_keeps_under_the_name_of_the_cluster(cluster: Cluster):
    async def write() -> None:
        keys = ("instances/decode/0a", "models/m", "config/disagg", "planner/lock", "app/setting")
        await store.hold("000000000000e1e1", 60.0, {f"/{cluster.name}/{key}": b"x" for key in keys[:4]})
        await store.hold("000000000000e1e2", 60.0, {f"/{cluster.name}/{keys[4]}": b"x"})
        await store.close()

    async def read() -> list[str]:
        found = (await store.read(f"/{cluster.name}/")).entries
        await store.revoke("000000000000e1e2")
        await store.close()
        return list(found)

    store = EtcdStore((cluster.etcd_url,))
    asyncio.run(write())
    unit = cluster.add("node1", "decode", start=False)
    assert purge(unit) == (0, {"etcd_keys": 4, "stream": None, "problems": []})
    store = EtcdStore((cluster.etcd_url,))
    assert asyncio.run(read()) == [f"/{cluster.name}/app/setting"]


async def test_a_part_that_is_cancelled_unasked_ends_the_process(tmp_path: Path):
    unit = Cluster("http://127.0.0.1:1", "nats://127.0.0.1:1", tmp_path).add("n1", "decode", start=False)

    async def cancelled() -> None:
        raise asyncio.CancelledError

    for ending, fatal in (
        (True, None),
        (False, "a part of this process was cancelled, and nobody asked for its end"),
    ):
        process = Process(unit.settings)
        if ending:
            process.stop()
        process._spawn(cancelled())
        await asyncio.wait(process._tasks)
        await asyncio.sleep(0)
        assert (process._life.fatal, process._life.ending.is_set()) == (fatal, True)


def test_purge_without_servers_is_bounded_and_says_what_is_away(tmp_path: Path):
    etcd, nats = free_port(), free_port()
    cluster = Cluster(f"http://127.0.0.1:{etcd}", f"nats://user:geheim@127.0.0.1:{nats}", tmp_path)
    unit = cluster.add("node1", "decode", start=False)
    done = runtime("purge", str(unit.file))
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "etcd_keys": 0,
        "stream": None,
        "problems": [
            f"NATS at 127.0.0.1:{nats} does not answer",
            f"etcd at 127.0.0.1:{etcd} does not answer",
        ],
    }
    assert "geheim" not in done.stdout + done.stderr


@pytest.mark.servers
def test_a_url_that_cannot_be_used_ends_the_process(cluster: Cluster):
    unit = cluster.add("node1", "decode", start=False)
    unit.settings = replace(unit.settings, services=Services(("https://10.0.0.1:2379",), cluster.nats_url))
    unit.file.write_bytes(encode(unit.settings))
    done = runtime(str(unit.file))
    assert done.returncode == 1
    assert "ERROR process etcd at 10.0.0.1:2379: only http:// URLs are supported" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.servers
def test_log_lines_have_time_level_role_and_message(cluster: Cluster):
    unit = cluster.add("node1", "decode")
    cluster.ready()
    assert unit.end() == 0
    lines = unit.log.splitlines()
    assert lines
    assert all(
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING) \w+ \S", line) for line in lines
    )


@pytest.mark.servers
def test_tasks_of_an_earlier_life_never_run(cluster: Cluster):
    cluster.disagg = Disagg(mode="always")
    stale = PrefillTask("stale", [1, 2], "00000000000000aa", Address("127.0.0.1", free_port()))

    async def leave_behind(count: int) -> None:
        queue = NatsQueue(cluster.name, "hello", cluster.nats_url)
        queue.start()
        async with asyncio.timeout(10.0):
            await queue.connected()
            for number in range(count):
                await queue.push(f"stale-{number}", encode_task(stale))
        await queue.close()

    async def depth() -> int:
        queue = NatsQueue(cluster.name, "hello", cluster.nats_url)
        queue.start()
        async with asyncio.timeout(10.0):
            await queue.connected()
            left = await queue.depth()
        await queue.close()
        return left

    asyncio.run(leave_behind(5))
    prefill = cluster.add("node1", "prefill", args={"prefill_s": 60.0})
    front = cluster.add("node2", "frontend", "decode")
    cluster.ready()
    assert asyncio.run(depth()) == 0
    assert "pulled" not in prefill.log
    # One that comes in all the same, when somebody lives already, is dropped before any work.
    asyncio.run(leave_behind(6))
    wait_for(lambda: "dropped task stale: no connection to " in prefill.log, "it is dropped")
    assert front.health()["sees"]["prefill"] == 1
