"""Steps: their titles, what the node program is asked to do for each, and sizes as people read them."""

from __future__ import annotations

import json

import pytest

from dynoctl.plan import steps
from dynoctl.plan.commands import actions, upload_path
from dynoctl.plan.script import NodePath, assign, words
from dynoctl.plan.steps import Artifact, Phase, Plan, UnitSpec, size

SPEC = UnitSpec(
    "decode-0",
    "n1",
    ("decode",),
    "/b/units/decode-0",
    {"argv": ["p"], "listens": [7300, 7301]},
    (("/b/units/decode-0/settings.json", "{}"),),
    digest="d1",
)
PLAIN = Artifact("node-1.pyz", 1_234, 0o700, title="the node program")
ARCHIVE = Artifact("code/1/.complete", 60_000, archive=True, title="the runtime")

PUSH = steps.Push("n1", "why", PLAIN, "/r")
UNPACK = steps.Push("n1", "why", ARCHIVE, "/r")
BUILD = steps.MakeEnvironment("n1", "why", "envs/1/.complete", "/r", ("a>=1",), index_url="https://u:p@i/")
FETCH = steps.FetchModel(
    "n2",
    "why",
    "/models/m",
    "/models/m",
    "n1",
    "10.0.0.1",
    8100,
    (("a", 2_000_000_000, 5), ("b", 1, 6)),
    (("c", 3_000_000_000, 7),),
    "/r/models/d.json",
    "hush",
)
RECORD = steps.RecordTopology("n1", "why", "/b/manifest.json", "{}", 3)
STOP = steps.StopUnit("n1", "why", "decode-0", "/b/units/decode-0", 15.0, serves=True)
FORGET = steps.StopUnit("n1", "why", "decode-0", "/b/units/decode-0", 15.0, serves=False, forget=True)
START = steps.StartUnit("n1", "why", SPEC)
PURGE = steps.PurgeServices("n1", "why", "/p", "/code", "/s.json", ("nats",))
GONE = steps.ProveGone("n1", "why", "c", (7300, 8000))
REMOVE = steps.RemoveCluster("n1", "why", "/r/clusters/c/n1")

CASES: list[tuple[steps.Step, str, list[dict[str, object]]]] = [
    (PUSH, "push the node program (1 kB)", []),
    (
        UNPACK,
        "push the runtime (60 kB)",
        [{"do": "unpack", "archive": "/r/code/1.zip", "into": "/r/code/1"}],
    ),
    (
        BUILD,
        "build the Python environment from a package index",
        [
            {
                "do": "environment",
                "path": "/r/envs/1",
                "requirements": ["a>=1"],
                "python": None,
                "wheelhouse": None,
                "index_url": "https://u:p@i/",
                "extra_index_url": None,
            }
        ],
    ),
    (
        FETCH,
        "copy /models/m from n1 (2.0 GB), and compare the rest (3.0 GB)",
        [
            {
                "do": "fetch",
                "path": "/models/m",
                "host": "10.0.0.1",
                "port": 8100,
                "files": [["a", 2_000_000_000, 5], ["b", 1, 6], ["c", 3_000_000_000, 7]],
                "record": "/r/models/d.json",
                "token": "hush",
            }
        ],
    ),
    (
        RECORD,
        "record the topology, generation 3",
        [{"do": "write", "path": "/b/manifest.json", "content": "{}", "mode": 0o600}],
    ),
    (STOP, "stop decode-0", [{"do": "stop", "unit_dir": "/b/units/decode-0", "grace_s": 15.0}]),
    (
        FORGET,
        "stop decode-0 and forget it",
        [
            {"do": "stop", "unit_dir": "/b/units/decode-0", "grace_s": 15.0},
            {"do": "remove", "path": "/b/units/decode-0"},
        ],
    ),
    (
        START,
        "start decode-0 on ports 7300, 7301",
        [
            {"do": "write", "path": "/b/units/decode-0/settings.json", "content": "{}", "mode": 0o600},
            {
                "do": "write",
                "path": "/b/units/decode-0/unit.json",
                "content": json.dumps({"argv": ["p"], "listens": [7300, 7301], "digest": "d1"}, indent=1),
                "mode": 0o600,
            },
            {"do": "start", "unit_dir": "/b/units/decode-0"},
        ],
    ),
    (
        PURGE,
        "delete what this cluster keeps in the existing nats",
        [
            {
                "do": "call",
                "argv": ["/p", "-m", "dyno_runtime", "purge", "/s.json", "nats"],
                "env": {"PYTHONPATH": "/code"},
                "timeout_s": 60,
            }
        ],
    ),
    (
        GONE,
        "prove that nothing is left",
        [{"do": "sweep", "cluster": "c", "node": "n1", "ports": [7300, 8000], "stop": True}],
    ),
    (
        steps.RemoveSession("n1", "why", "/r/ray/ab12", "ray-decode-0"),
        "remove the session of ray-decode-0",
        [{"do": "remove", "path": "/r/ray/ab12"}],
    ),
    (REMOVE, "remove its folder", [{"do": "remove", "path": "/r/clusters/c/n1"}]),
]


@pytest.mark.parametrize(("step", "title", "asked"), CASES, ids=lambda value: type(value).__name__)
def test_a_step_in_words_and_in_actions(step: steps.Step, title: str, asked: list[dict[str, object]]) -> None:
    assert step.title == title
    assert actions(step) == asked


def test_every_step_is_covered_above() -> None:
    assert {type(step).__name__ for step, _, _ in CASES} == {
        kind.__name__ for kind in steps.Step.__subclasses__()
    }


def test_a_step_of_no_kind_has_no_actions() -> None:
    with pytest.raises(TypeError, match="no actions for Step"):
        actions(steps.Step("n1", "why"))


def test_where_bytes_arrive() -> None:
    assert upload_path(PUSH) == "/r/node-1.pyz"
    assert upload_path(UNPACK) == "/r/code/1.zip"


def test_environments_in_words() -> None:
    given = steps.MakeEnvironment("n1", "w", "envs/1/.complete", "/r", (), python="/v/bin/python")
    wheels = steps.MakeEnvironment("n1", "w", "envs/1/.complete", "/r", (), wheelhouse="/w")
    assert given.title == "check the environment of /v/bin/python"
    assert wheels.title == "build the Python environment from a wheelhouse"


def test_only_a_stop_of_what_serves_interrupts() -> None:
    assert [step.interrupts for step, _, _ in CASES] == [step is STOP for step, _, _ in CASES]


def test_steps_of_a_phase_in_the_order_of_each_node() -> None:
    other = steps.RemoveCluster("n2", "why", "/r")
    phase = Phase("stop", (STOP, other, REMOVE))
    assert phase.by_node() == {"n1": (STOP, REMOVE), "n2": (other,)}


def test_parts_of_a_plan() -> None:
    plan = Plan("c", "up", 1, (Phase("prepare", (PUSH,)), Phase("stop", (STOP,)), Phase("roles", (START,))))
    assert plan.steps == (PUSH, STOP, START)
    assert plan.interrupts == (STOP,)
    assert plan.only("stop", "roles").steps == (STOP, START)
    assert plan.phase("stop").steps == (STOP,)
    assert plan.phase("purge") == Phase("purge", ())


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (1_000_000, "1.0 MB"),
        (2_340_000_000, "2.3 GB"),
    ],
)
def test_sizes(count_bytes: int, text: str) -> None:
    assert size(count_bytes) == text


def test_words_of_a_script_are_quoted() -> None:
    assert words("a b", NodePath("~/x y"), NodePath("~"), "$(x)") == "'a b' \"$HOME\"/'x y' \"$HOME\" '$(x)'"
    assert assign("root", NodePath("/a b")) == "root='/a b'"
    assert str(NodePath("/a/") / "b") == "/a/b"
