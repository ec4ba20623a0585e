"""The life of a cluster on this machine, with real processes: up, looked at, changed, broken, mended, down.

The tests of this file share one cluster and run in their order; each leaves it as it was found.
"""

from __future__ import annotations

import os
import signal
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dynoctl.cli.cluster import Cluster, Done
from tests.node.program import until

UNITS = ["decode-0", "decode-1", "etcd", "frontend-0", "nats", "prefill-0"]
ROLES = ["etcd", "nats", "frontend", "processor", "router", "decode", "decode", "prefill"]


@pytest.fixture(scope="module")
def it() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="dyno-cli-", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder), "life")
        yield made
        made.end()


@pytest.fixture(scope="module")
def first(it: Cluster) -> Done:
    """The first up."""
    return it.run("up", str(it.file))


def test_up_proves_the_cluster_and_says_what_to_do_next(it: Cluster, first: Done) -> None:
    assert first.code == 0, first.err
    address = f"http://127.0.0.1:{it.ports['http']}"
    lines = first.out.splitlines()
    assert lines[0].split() == ["NODE", "ROLE", "UNIT", "LADDER", "STATE", "UP", "RESTARTS", "NOTE"]
    assert [line.count("●") for line in lines[1:9]] == [2, 2, 5, 5, 5, 5, 5, 5]
    assert "○" not in first.out
    assert f"address  {address}" in lines
    assert lines[-1] == "next     dynoctl status life  |  dynoctl logs life --follow  |  dynoctl down life"
    assert any(line.startswith("life is up: 6 units on 1 node, generation 1, in ") for line in lines)
    assert it.alive() == UNITS


def test_progress_is_plain_lines_in_the_order_of_the_phases(it: Cluster, first: Done) -> None:
    assert "\x1b" not in first.err + first.out
    lines = first.err.splitlines()
    order = [
        "1. prepare the nodes",
        "prepare the nodes",
        "start etcd and NATS, and prove them",
        "start every role at once",
        "  wait on the ladder: process alive, port answers, registered, engine loaded; then a real token",
    ]
    places = [lines.index(line) for line in order]
    assert places == sorted(places)
    tokens = [line for line in lines if line.startswith("  a token came back from local/decode-")]
    assert len(tokens) == 2
    assert all(", prefilled by local/prefill-0 in " in line for line in tokens)


def test_secrets_are_shown_nowhere_and_kept_in_files_of_ones_own(it: Cluster, first: Done) -> None:
    assert "hush-4711" not in first.out + first.err
    for folder in (it.root, it.folder / "home"):
        holding = [path for path in folder.rglob("*.json") if "hush-4711" in path.read_text()]
        assert holding
        assert {path.stat().st_mode & 0o777 for path in holding} == {0o600}
    assert it.root.stat().st_mode & 0o777 == 0o700
    argvs = [Path(f"/proc/{pid}/cmdline").read_text() for pid in it.pids().values()]
    assert not [argv for argv in argvs if "hush-4711" in argv]


def test_up_again_changes_nothing_and_says_so(it: Cluster, first: Done) -> None:
    before = it.pids()
    done = it.run("up", str(it.file))
    assert done.code == 0
    assert done.out.splitlines() == [
        "life: no changes; all 6 units run as the topology says.",
        f"address  http://127.0.0.1:{it.ports['http']}",
    ]
    assert done.err == ""
    assert it.pids() == before


def test_up_again_as_json(it: Cluster, first: Done) -> None:
    found = it.run("up", "life", "--json").json
    assert (found["ok"], found["changes"], found["generation"], found["steps"]) == (True, False, 1, [])
    assert [role["role"] for role in found["roles"]] == ROLES


def test_plan_has_no_changes(it: Cluster, first: Done) -> None:
    assert it.run("plan", "life") == Done(0, "life: no changes\n", "")
    found = it.run("plan", str(it.file), "--json").json
    assert (found["changes"], found["phases"]) == (False, [])
    assert [unit["unit"] for unit in found["units"]] == [
        "etcd",
        "nats",
        "frontend-0",
        "decode-0",
        "decode-1",
        "prefill-0",
    ]


def test_status_of_the_only_cluster_that_is_known(it: Cluster, first: Done) -> None:
    done = it.run("status")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "life serves (generation 1)"
    assert sum("serving" in line for line in lines) == 6
    assert not [line for line in lines if line != line.rstrip() and len(line) > 200]


def test_status_shows_what_was_asked_for_in_the_last_minute(it: Cluster, first: Done) -> None:
    url = f"http://127.0.0.1:{it.ports['http']}/generate"

    def seen() -> bool:
        urllib.request.urlopen(
            urllib.request.Request(url, b'{"prompt": "a"}', {"content-type": "application/json"}), timeout=10
        ).close()
        lines = it.run("status").out.splitlines()
        return any(line.startswith("last ") and " 0.0 requests/s" not in line for line in lines)

    until(seen, "the minute tells of it")
    figures = it.run("status", "--json").json["figures"]
    assert figures["processes"] == 4
    assert figures["request"]["count"] >= 1
    targets = it.run("status", "--prometheus")
    assert (targets.code, targets.err) == (0, "")
    assert [one["labels"]["unit"] for one in targets.json] == [
        "frontend-0",
        "decode-0",
        "decode-1",
        "prefill-0",
    ]
    with urllib.request.urlopen(f"http://{targets.json[1]['targets'][0]}/metrics", timeout=10) as answer:
        assert b"dyno_engine_ready 1" in answer.read()


def test_status_as_json(it: Cluster, first: Done) -> None:
    done = it.run("status", "life", "--json")
    assert (done.code, done.err) == (0, "")
    found = done.json
    assert list(found) == [
        "cluster",
        "serving",
        "generation",
        "nodes",
        "roles",
        "figures",
        "metrics",
    ]
    assert (found["cluster"], found["serving"], found["generation"]) == ("life", True, 1)
    assert list(found["nodes"]["local"]) == ["hostname", "generation", "lock"]
    assert found["nodes"]["local"]["lock"] is None
    assert {tuple(role) for role in found["roles"]} == {
        ("node", "unit", "role", "rung", "of", "state", "failed", "note", "pid", "up_s", "restarts")
    }
    assert {role["role"]: role["state"] for role in found["roles"]} == {
        "etcd": "listening",
        "nats": "listening",
        **dict.fromkeys(["frontend", "processor", "router", "decode", "prefill"], "serving"),
    }


def test_logs_of_all_of_one_and_of_nobody(it: Cluster, first: Done) -> None:
    every = it.run("logs", "life")
    assert every.code == 0
    assert {line.split()[0] for line in every.out.splitlines()} >= {"local/frontend-0", "local/nats"}
    one = it.run("logs", "--role", "nats", "-n", "2", "--json")
    lines = one.out.splitlines()
    assert len(lines) == 2
    assert all('"unit": "local/nats"' in line for line in lines)
    assert it.run("logs", "--role", "planner") == Done(
        2,
        "",
        "error: life has no role, unit or node 'planner'\n"
        "  roles: decode, etcd, frontend, nats, prefill, processor, router\n",
    )


def test_logs_end_with_their_reader(it: Cluster, first: Done) -> None:
    with it.popen("logs", "life", "--follow") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130


def test_a_change_restarts_only_what_it_touches(it: Cluster, first: Done) -> None:
    before = it.pids()
    change = ("--set", "roles.decode.1.engine.args.hostname=other")
    dry = it.run("up", str(it.file), *change, "--dry-run")
    assert dry.code == 0
    assert "   local        stop decode-1  (its settings changed)" in dry.out.splitlines()
    assert it.pids() == before
    done = it.run("up", str(it.file), *change)
    assert done.code == 0, done.err
    after = it.pids()
    assert {unit for unit in after if after[unit] != before[unit]} == {"decode-1"}
    assert "life is up: 6 units on 1 node, generation 2, in " in done.out
    back = it.run("up", str(it.file))
    assert back.code == 0, back.err
    assert "generation 3" in back.out


def test_a_cluster_serves_while_it_is_looked_at(it: Cluster, first: Done) -> None:
    body = b'{"prompt": "Tell me a joke", "request_id": "1"}'
    request = urllib.request.Request(
        f"http://127.0.0.1:{it.ports['http']}/generate", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert b"Tell me a joke_GeneratedBy_decode-" in answer.read()


def kill(it: Cluster, unit: str) -> None:
    """Its supervisor first, so that nobody starts it again; then the process."""
    found = it.state(unit)
    os.kill(found["supervisor"]["pid"], signal.SIGKILL)
    os.kill(found["pid"], signal.SIGKILL)
    until(lambda: unit not in it.alive(), f"the end of {unit}")


def test_a_killed_worker_is_shown_and_mended(it: Cluster, first: Done) -> None:
    before = it.pids()
    kill(it, "decode-1")
    status = it.run("status", "life")
    assert status.code == 1
    (line,) = [line for line in status.out.splitlines() if "decode-1" in line]
    assert line.split()[2:6] == ["○○○○○", "down", "-", "0"]
    assert line.endswith("not running") or "not running" in line
    plan = it.run("plan", "life").out
    assert "start decode-1" in plan
    assert "start decode-0" not in plan
    done = it.run("up", "life")
    assert done.code == 0, done.err
    after = it.pids()
    assert {unit for unit in after if after[unit] != before[unit]} == {"decode-1"}


def test_a_killed_service_is_mended_with_its_data(it: Cluster, first: Done) -> None:
    kill(it, "etcd")
    assert it.run("status", "life").code == 1
    done = it.run("up", "life")
    assert done.code == 0, done.err
    assert it.run("status", "life").out.startswith("life serves (generation 3)")


def test_a_dry_down_changes_nothing(it: Cluster, first: Done) -> None:
    done = it.run("down", "--dry-run")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "life: 6 to stop."
    assert it.alive() == UNITS


def test_down_leaves_nothing_and_down_again_says_so(it: Cluster, first: Done) -> None:
    done = it.run("down", "life", "--json")
    assert done.code == 0, done.err
    assert (done.json["ok"], done.json["changes"]) == (True, True)
    assert it.alive() == []
    assert not (it.root / "clusters").exists()
    assert [path.name for path in (it.root / "locks").iterdir() if path.suffix != ".guard"] == []
    assert it.run("down", str(it.file)) == Done(0, "life was not up: nothing of it is on 1 node.\n", "")
    again = it.run("status", str(it.file))
    assert (again.code, again.out) == (1, "life does not run on 1 node that answered.\n")
    unknown = it.run("status", "life")
    assert unknown.code == 2
    assert (
        unknown.err.splitlines()[0]
        == "error: there is no file 'life', and no cluster of that name is known here"
    )
