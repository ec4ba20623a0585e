"""Workers that fail, take long, never answer or are killed: `up` says which, and what it says helps to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynoctl.probe import token
from tests.lab.host import Host
from tests.real.clusters import AGG, DISAGG, on, pids, sets
from tests.real.dynoctl_runs import Dynoctl

Machines = tuple[Host, ...]


def decode(second: object) -> dict[str, object]:
    """Two decode workers, the second with these engine arguments."""
    return {"roles.decode": [{"node": "node1"}, {"node": "node2", "engine": {"args": second}}]}


def test_one_worker_fails(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    """It is named with its log at once, although the frontend could wait for it a long time."""
    topology = on(AGG, wheelhouse, machines[0], machines[3])
    done = dynoctl("up", *topology, *sets(decode({"fail": "there is no such model"})))
    assert done.code == 1
    assert done.error[0] in (  # what it said itself, where that was seen before it ended
        "error: node2/decode-0 failed: decode: the engine could not be loaded: there is no such model",
        "error: node2/decode-0 failed: decode-0 ended with exit code 1",
    )
    assert any("the engine could not be loaded: there is no such model" in line for line in done.error[1:])
    assert done.error[-1] == "next: dynoctl logs hello-agg --role node2/decode-0"
    told = dynoctl(*done.error[-1].removeprefix("next: dynoctl ").split()).ok()
    assert "node2/decode-0 | " in told.out
    assert "there is no such model" in told.out
    assert "node1/" not in told.out
    shown = dynoctl("status", "--json")
    down = {role["unit"] for role in shown.json["roles"] if role["node"] == "node2" and role["rung"] < 4}
    assert (shown.code, down) == (1, {"decode-0"})
    before = pids_of(dynoctl, "node1")
    dynoctl("up", *topology, *sets(decode({}))).ok()
    after = pids_of(dynoctl, "node1")
    assert before == after  # the healthy ones were not touched
    dynoctl("down").ok()


def pids_of(dynoctl: Dynoctl, node: str) -> dict[str, int]:
    """Unit → pid, on one node, also of a cluster that does not serve."""
    shown = dynoctl("status", "--json").json
    return {role["unit"]: role["pid"] for role in shown["roles"] if role["node"] == node}


def test_one_that_loads_slowly_is_waited_for(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    done = dynoctl("up", *on(AGG, wheelhouse, machines[0], machines[3]), *sets(decode({"load_s": 3.0}))).ok()
    assert "  node2/decode-0 decode 3/4 registered: engine loading\n" in done.err
    assert "  a token came back from node2/decode-0 in " in done.err
    dynoctl("down").ok()


def test_one_that_hangs_gives_no_token(
    machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token, "TIMEOUT_S", 2.0)
    topology = on(DISAGG, wheelhouse, machines[0], machines[3], machines[2])
    done = dynoctl("up", *topology, *sets(decode({"hang": True})))
    assert (done.code, done.error) == (
        1,
        [
            "error: no token came back from node2/decode-0 through node1/frontend-0: "
            "127.0.0.1:8000 did not answer within 2 s",
            "next: dynoctl logs hello-disagg --role node2/decode-0",
        ],
    )
    assert "  a token came back from node1/decode-0, prefilled by node3/prefill-0 in " in done.err
    dynoctl("down").ok()


def test_a_killed_worker_comes_back_and_is_counted(
    machines: Machines, dynoctl: Dynoctl, wheelhouse: Path
) -> None:
    first, second = machines[0], machines[3]
    topology = on(AGG, wheelhouse, first, second)
    dynoctl("up", *topology).ok()
    before = pids(dynoctl)
    for host, node in ((first, "node1"), (second, "node2")):
        host.exec(["kill", "-KILL", str(before[f"{node}/decode-0"])], check=True)
    done = dynoctl("up", *topology).ok()
    assert "stop decode-0" not in done.err
    shown = dynoctl("status", "--json").ok().json
    restarts = {f"{role['node']}/{role['unit']}": role["restarts"] for role in shown["roles"]}
    assert (restarts["node1/decode-0"], restarts["node2/decode-0"]) == (1, 1)
    dynoctl("down").ok()
