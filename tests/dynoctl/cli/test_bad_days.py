"""Bad days on this machine, with real processes: what is said, how it ends, and that the next run mends it."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import sys
from pathlib import Path

from dyno_node import clock, lease
from tests.dynoctl.cli.cluster import Cluster
from tests.servers import Etcd, Nats, free_port


def services(cluster: Cluster, urls: str) -> None:
    """Let the file name services that run already."""
    text = cluster.file.read_text()
    line = next(line for line in text.splitlines() if line.startswith("services:"))
    cluster.file.write_text(text.replace(line, f"services: {{{urls}}}"))


def test_a_port_that_a_stranger_holds(cluster: Cluster) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", cluster.ports["http"]))
        stranger.listen()
        done = cluster.run("up", str(cluster.file))
    port = cluster.ports["http"]
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: one cannot be brought up as the nodes are; nothing was changed\n"
        f"  local: port {port}, which frontend-0 is to take, is held by a process that is not ours\n"
        f"next: ss -ltnp 'sport = :{port}'\n"
    )
    assert not cluster.root.exists()


def test_nats_without_jetstream(cluster: Cluster, tmp_path: Path) -> None:
    with_queue = cluster.file.read_text() + "  prefill: {}\ndisagg: {mode: conditional}\n"
    cluster.file.write_text(with_queue)
    nats = Nats(tmp_path / "nats", jetstream=False)
    nats.start()
    try:
        services(cluster, f"etcd: {{port: {cluster.ports['etcd']}}}, nats: {{url: '{nats.url}'}}")
        done = cluster.run("up", str(cluster.file))
    finally:
        nats.kill()
    assert done.code == 1
    assert done.err.splitlines()[-2:] == [
        "error: the nats that the topology names, asked from local: NATS at "
        f"127.0.0.1:{nats.port} runs without JetStream: start it with -js, or set jetstream in its configuration",
        "next: mend it or services.nats.url, then the same up again",
    ]
    assert cluster.alive() == ["etcd"]  # no role was started
    assert cluster.run("status", "one").code == 1


def test_an_etcd_that_is_not_there(cluster: Cluster) -> None:
    port = free_port()
    services(cluster, f"etcd: {{url: 'http://127.0.0.1:{port}'}}, nats: {{port: {cluster.ports['nats']}}}")
    done = cluster.run("up", str(cluster.file), "--json")
    assert done.code == 1
    assert done.json == {
        "error": "the etcd that the topology names, asked from local: "
        f"127.0.0.1:{port} refuses connections: nothing listens there",
        "detail": [],
        "next": "mend it or services.etcd.url, then the same up again",
    }
    assert cluster.alive() == ["nats"]
    services(cluster, f"etcd: {{port: {cluster.ports['etcd']}}}, nats: {{port: {cluster.ports['nats']}}}")
    mended = cluster.run("up", str(cluster.file))
    assert mended.code == 0, mended.err


def test_a_down_that_does_not_reach_the_etcd_of_others(cluster: Cluster, tmp_path: Path) -> None:
    """What is ours to stop is stopped all the same; what is left in that etcd is named, until it is back."""
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    try:
        services(cluster, f"etcd: {{url: '{etcd.url}'}}, nats: {{port: {cluster.ports['nats']}}}")
        done = cluster.run("up", str(cluster.file))
        assert done.code == 0, done.err
        etcd.kill()
        away = cluster.run("down")
        assert (away.code, cluster.alive()) == (1, [])
        assert away.err.splitlines()[-3:] == [
            "error: one is not proven to be down",
            "  local: cannot delete what this cluster keeps in the existing etcd: "
            f"etcd at 127.0.0.1:{etcd.port} does not answer",
            "next: dynoctl down one",
        ]
        etcd.start()
        again = cluster.run("down")
        assert (again.code, again.out[:45]) == (0, "one is down: nothing of it is left on 1 node "), again.err
        assert not cluster.units.exists()
    finally:
        etcd.kill()


def test_a_port_that_was_changed_and_changed_back(cluster: Cluster) -> None:
    """A run that is killed once it has recorded the new port leaves the old one with whom it belongs to."""
    text = cluster.file.read_text()
    done = cluster.run("up", str(cluster.file))
    assert done.code == 0, done.err
    cluster.file.write_text(text.replace(str(cluster.ports["http"]), str(free_port())))
    with cluster.popen("up", str(cluster.file), "--yes") as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "record the topology" in line and line.endswith("done\n"))
        os.kill(process.pid, signal.SIGKILL)
    cluster.file.write_text(text)
    back = cluster.run("up", str(cluster.file), "--yes")
    assert back.code == 0, back.err


def hold(cluster: Cluster, process: dict[str, object]) -> None:
    """The lock as another dynoctl holds it."""
    holder = {"who": "ada", "host": "laptop", "doing": "dynoctl down", "since": "2026-01-01T00:00:00Z"}
    request = {
        "do": "take",
        "path": str(cluster.root / "locks" / "one"),
        "token": "hers",
        "ttl_s": 600.0,
        "holder": {**holder, "process": process},
    }
    assert lease.lease(request) == {"ok": True}


def test_somebody_else_is_at_work(cluster: Cluster) -> None:
    hold(cluster, {"pid": 1, "starttime": 1, "scope": "another machine"})
    done = cluster.run("up", str(cluster.file))
    assert done.code == 3
    lines = done.err.splitlines()
    assert lines[-3] == (
        "error: ada on laptop has been working on this cluster since 2026-01-01T00:00:00Z: dynoctl down"
    )
    assert lines[-2].startswith("  the lock is on local; if that run is dead, it expires in ")
    assert lines[-1] == "next: wait for it to end, then run the same command again"
    assert cluster.alive() == []
    assert cluster.run("status", "one").code == 2  # what was refused is not known as brought up
    (cluster.root / "locks" / "one").unlink()


def test_a_worker_that_cannot_run_shows_its_last_words(cluster: Cluster) -> None:
    text = cluster.file.read_text()
    cluster.file.write_text(
        f"{text}python: {sys.executable}\n".replace("{policy: similar}", "{env: {PYTHONHOME: /nowhere}}")
    )
    done = cluster.run("up", str(cluster.file))
    assert done.code == 1
    lines = done.err.splitlines()
    error = next(number for number, line in enumerate(lines) if line.startswith("error: "))
    assert "frontend-0" in lines[error]
    assert any("No module named" in line or "init_fs_encoding" in line for line in lines[error:])
    assert lines[-1].startswith("next: ")
    cluster.file.write_text(text)
    assert cluster.run("up", str(cluster.file)).code == 0


def test_ctrl_c_in_the_middle_of_up(cluster: Cluster) -> None:
    with cluster.popen("up", str(cluster.file)) as process:
        try:
            assert process.stderr is not None
            # The plan is printed first; a step that is done has "done" behind it.
            next(line for line in process.stderr if "start frontend-0" in line and line.endswith("done\n"))
            os.kill(process.pid, signal.SIGINT)
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    lines = err.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("error: "))
    started = [line for line in lines[first + 1 :] if line.startswith("  local: start ")]
    verb = "goes" if len(started) == 1 else "go"
    units = f"{len(started)} unit{'' if len(started) == 1 else 's'}"
    assert lines[first] == f"error: interrupted; {units} started by this run {verb} on running"
    assert started[0].startswith("  local: start etcd on ports ")
    assert lines[-1] == "next: the same up goes on from here, dynoctl down one removes it"
    assert not (cluster.root / "locks" / "one").exists()
    done = cluster.run("up", "one")
    assert done.code == 0, done.err
    assert "all 4 units run" in done.out or "one is up: 4 units on 1 node" in done.out
    assert cluster.run("status", "one").code == 0


def test_a_dynoctl_that_was_killed_is_taken_over(cluster: Cluster) -> None:
    with cluster.popen("up", str(cluster.file)) as process:
        try:
            assert process.stderr is not None
            next(line for line in process.stderr if "start etcd" in line and line.endswith("done\n"))
            process.kill()
            process.communicate(timeout=60)
        finally:
            process.kill()
    found = (cluster.root / "locks" / "one").read_text()
    assert getpass.getuser() in found
    assert clock.boot_id() in found
    assert "at work on it" not in cluster.run("status", "one").out  # a lock of the dead
    done = cluster.run("down", "one")
    assert done.code == 0, done.err
    assert cluster.alive() == []
