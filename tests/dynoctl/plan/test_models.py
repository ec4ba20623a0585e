"""Models on nodes: found by a real shell, refused where not whole, copied where the topology says from where."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from dynoctl.errors import Blocked
from dynoctl.plan import models
from dynoctl.plan.models import ModelSeen, needs
from dynoctl.plan.observed import Observed, UnitSeen
from dynoctl.plan.steps import StartUnit
from dynoctl.topology.model import Topology
from tests.dynoctl.plan import world
from tests.dynoctl.plan.looked import Node

TEXT = """\
name: c
model: {id: /models/m}
engine: {kind: vllm, device: cpu}
nodes: {n1: {host: 10.0.0.1}, n2: {host: 10.0.0.2}, n3: {host: 10.0.0.3}}
services: {etcd: n1, nats: n1}
roles: {frontend: {node: n1}, router: {node: n1}, decode: {nodes: [n2, n3]}}
"""
FILES = (("config.json", 2), ("model.safetensors", 5_000_000_000))
WHOLE = ModelSeen(True, True, 9_000_000_000, FILES)
NOTHING = ModelSeen(False, False, 9_000_000_000)
HUB = "models--org--m"


def nodes(wanted: Topology, **seen: ModelSeen) -> Observed:
    found = {name: (seen.get(name, WHOLE),) if needs(wanted, name) else () for name in wanted.machines}
    return Observed({name: world.empty(name, models=models) for name, models in found.items()})


def refusal(wanted: Topology, observed: Observed) -> tuple[tuple[str, ...], str | None]:
    with pytest.raises(Blocked) as caught:
        world.planned(wanted, observed)
    return caught.value.detail, caught.value.next


def test_folders_as_a_shell_finds_them(node: Node, tmp_path: Path) -> None:
    whole = node.home / "my models" / "it's"
    (whole / "original").mkdir(parents=True)
    (whole / ".cache").mkdir()
    (whole / ".cache" / "x").touch()
    (whole / ".a.part").touch()
    (whole / "config.json").write_text("{}")
    (whole / "original" / "a.bin").write_bytes(b"123")
    (whole / "model-1.safetensors").write_bytes(b"12345")
    index = {
        "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}
    }
    (whole / "model.safetensors.index.json").write_text(json.dumps(index))
    snapshot = node.home / "hub" / HUB / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (node.home / "blob").write_text("{}")
    (snapshot / "config.json").symlink_to(node.home / "blob")
    places = ("~/my models/it's", f"{node.home}/hub/{HUB}", "/no/such/folder")
    mine, hub, none = node.look(models=places).models
    assert (mine.there, mine.readable, mine.missing) == (True, True, ("model-2.safetensors",))
    assert mine.files == (
        ("config.json", 2),
        ("model-1.safetensors", 5),
        ("model.safetensors.index.json", len(json.dumps(index))),
        ("original/a.bin", 3),
    )
    assert (hub.there, hub.readable, hub.files) == (True, True, (("config.json", 2),))
    assert (none.there, none.readable, none.files, none.free_bytes > 0) == (False, False, (), True)
    assert node.look().models == ()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can look as somebody else")
def test_files_of_others_are_seen_as_sealed() -> None:
    """Weights that root wrote for itself: vLLM says of them only that they do not exist."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name, mode in (("config.json", 0o644), ("model.safetensors", 0o600)):
            (folder / name).write_text("{}")
            (folder / name).chmod(mode)
        argv = ["python3", "-I", "-c", models._LOOK, made]
        out = subprocess.run(argv, user=65534, capture_output=True, text=True, check=True, cwd="/").stdout
    (seen,) = models._models(out)["models"]
    assert (seen.readable, seen.sealed) == (True, ("model.safetensors",))


def test_who_needs_what() -> None:
    text = TEXT.replace(
        "{nodes: [n2, n3]}", "[{node: n2}, {node: n3, model: {id: org/m}, env: {HF_HOME: /hf}}]"
    )
    wanted = world.topology(text)
    found = {
        name: [(need.place, need.who, need.weights) for need in needs(wanted, name)]
        for name in wanted.machines
    }
    assert found == {
        "n1": [
            ("/models/m", "frontend-0", False),
            ("~/.cache/huggingface/hub/models--org--m", "frontend-0", False),
        ],
        "n2": [("/models/m", "decode-0", True)],
        "n3": [("/hf/hub/models--org--m", "decode-0", True)],
    }
    assert needs(world.topology(world.TWO), "n1") == ()
    dummy = world.topology(TEXT, "engine.args={load-format: dummy}")
    assert [need.weights for need in needs(dummy, "n2")] == [False]


def test_what_is_not_whole_is_refused_on_every_node_at_once() -> None:
    wanted = world.topology(TEXT)
    torn = ModelSeen(True, True, 1, FILES, ("model-2.safetensors", "model-3.safetensors"))
    assert refusal(wanted, nodes(wanted, n1=NOTHING, n2=NOTHING, n3=torn)) == (
        (
            "n1: /models/m is not there, and frontend-0 needs it",
            "n2: /models/m is not there, and decode-0 needs it",
            "n3: /models/m lacks model-2.safetensors and 1 more, which its model.safetensors.index.json names",
        ),
        "copy it to n1, or let dynoctl copy it from a node that has it: model.stage_from",
    )
    empty = ModelSeen(True, True, 1, (("config.json", 2),))
    unreadable = ModelSeen(True, False, 1, FILES)
    assert refusal(wanted, nodes(wanted, n1=empty, n2=empty, n3=unreadable))[0] == (
        "n2: /models/m holds no weights (.safetensors, .bin, .gguf), and decode-0 needs them",
        "n3: /models/m/config.json is not there or cannot be read, and decode-0 needs it",
    )
    sealed = ModelSeen(True, True, 1, FILES, sealed=("model-1.safetensors", "model-2.safetensors"))
    assert refusal(wanted, nodes(wanted, n1=sealed, n2=sealed))[0] == (
        "n2: /models/m/model-1.safetensors and 1 more may not be read by the user there, and decode-0 needs it",
    )


def test_a_name_of_the_hub_is_fetched_unless_that_is_forbidden() -> None:
    text = TEXT.replace("/models/m", "org/m")
    wanted = world.topology(text)
    plan = world.planned(wanted, nodes(wanted, n2=NOTHING))
    assert [line for line in plan.warnings if "etcd" not in line] == [
        "n2 has no org/m in ~/.cache/huggingface/hub/models--org--m and fetches it at the start "
        "(9.0 GB are free there)"
    ]
    offline = world.topology(text, 'env.HF_HUB_OFFLINE="1"')
    assert refusal(offline, nodes(offline, n2=NOTHING)) == (
        (
            "n2: org/m is not in ~/.cache/huggingface/hub/models--org--m, and HF_HUB_OFFLINE forbids to fetch it; "
            "decode-0 needs it",
        ),
        "bring it into the cache of n2, or remove HF_HUB_OFFLINE from the topology",
    )


def test_a_model_is_copied_from_the_node_that_has_it() -> None:
    wanted = world.topology(TEXT, "model.stage_from=n2")
    part = ModelSeen(True, True, 9_000_000_000, FILES[:1])
    plan = world.planned(wanted, nodes(wanted, n1=NOTHING, n3=part))
    phases = {phase.name: [(step.node, step.title) for step in phase.steps] for phase in plan.phases}
    offer = next(step.unit for step in plan.phase("offer").steps if isinstance(step, StartUnit))
    assert phases["offer"] == [("n2", f"start {offer.name} on port 8800")]
    assert phases["stage"] == [
        ("n1", "copy /models/m from n2 (5.0 GB)"),
        ("n3", "copy /models/m from n2 (5.0 GB)"),
    ]
    assert phases["withdraw"] == [("n2", f"stop {offer.name} and forget it")]
    names = [phase.name for phase in plan.phases]
    assert names.index("prepare") < names.index("offer") < names.index("withdraw") < names.index("roles")
    assert json.loads(offer.files[0][1])["path"] == "/models/m"
    assert "stage-" not in str(list(plan.phase("prepare").steps))  # its port is not recorded


def test_nothing_is_copied_where_everything_is() -> None:
    wanted = world.topology(TEXT, "model.stage_from=n2")
    assert "offer" not in {phase.name for phase in world.planned(wanted, nodes(wanted)).phases}
    after = world.up(wanted, nodes(wanted))
    quick = Observed({name: world.replaced(seen, models=()) for name, seen in after.nodes.items()})
    assert world.planned(wanted, quick).steps == ()


def test_an_offer_that_a_run_left_behind_is_ended() -> None:
    wanted = world.topology(TEXT, "model.stage_from=n2")
    observed = nodes(wanted, n3=NOTHING)
    (start,) = world.planned(wanted, observed).phase("offer").steps
    assert isinstance(start, StartUnit)
    left = UnitSeen(start.unit.name, "other", "running", alive=True, pid=7)
    stale = Observed({**observed.nodes, "n2": world.replaced(observed.nodes["n2"], units={left.name: left})})
    again = world.planned(wanted, stale)
    assert [step.title for step in again.phase("offer").steps] == [
        f"stop {left.name} and forget it",
        f"start {left.name} on port 8800",
    ]
    assert again.phase("stop").steps == ()
    done = nodes(wanted)
    done = Observed({**done.nodes, "n2": world.replaced(done.nodes["n2"], units={left.name: left})})
    assert [step.title for step in world.planned(wanted, done).phase("stop").steps] == [
        f"stop {left.name} and forget it"
    ]


def test_a_source_without_the_model_and_a_disk_without_room_are_refused() -> None:
    wanted = world.topology(TEXT, "model.stage_from=n2")
    assert refusal(wanted, nodes(wanted, n2=NOTHING, n3=NOTHING))[0] == (
        "n2: /models/m is not there, and decode-0 needs it",
    )
    small = ModelSeen(False, False, 5_500_000_000)
    assert refusal(wanted, nodes(wanted, n3=small)) == (
        ("n3: /models/m takes 5.0 GB, and 5.5 GB are free there",),
        "free some space on n3, or name a folder on a larger disk: model.id",
    )


def test_offline_every_node_but_the_source_may_need_a_copy() -> None:
    wanted = world.topology(TEXT, "model.stage_from=n2")
    plan = world.planned(wanted, Observed({}))
    assert [(step.node, step.title) for step in plan.phase("stage").steps] == [
        ("n1", "copy /models/m from n2"),
        ("n3", "copy /models/m from n2"),
    ]
