"""Models on nodes: found by a real shell, refused where not whole, copied where the topology says from where."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dyno_node.fetch import Fetch
from dyno_node.offer import Offer
from dynoctl.errors import Blocked
from dynoctl.plan import model_files
from dynoctl.plan.model_files import ModelFile, ModelSeen, record_of
from dynoctl.plan.models import needs
from dynoctl.plan.observed import Observed, UnitSeen
from dynoctl.plan.steps import FetchModel, StartUnit
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
FILES = (ModelFile("config.json", 2, 7), ModelFile("model.safetensors", 5_000_000_000, 8))
WHOLE = ModelSeen(True, True, 9_000_000_000, FILES, proved=frozenset(FILES))
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
    (whole / ".a.part").write_bytes(b"1234567")
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
    mine, hub, none = (sized(seen) for seen in node.look(models=places).models)
    assert (mine.there, mine.readable, mine.missing) == (True, True, ("model-2.safetensors",))
    assert (mine.part_bytes, hub.part_bytes, mine.disk) == (7, 0, node.home.stat().st_dev)
    assert mine.files == (
        ("config.json", 2, 0),
        ("model-1.safetensors", 5, 0),
        ("model.safetensors.index.json", len(json.dumps(index)), 0),
        ("original/a.bin", 3, 0),
    )
    assert (hub.there, hub.readable, hub.files) == (True, True, (("config.json", 2, 0),))
    assert (none.there, none.readable, none.files, none.free_bytes > 0) == (False, False, (), True)
    assert node.look().models == ()


def test_links_to_folders_are_followed_but_never_in_a_circle(node: Node) -> None:
    model, other = node.home / "m", node.home / "other"
    for folder in (model / "sub", other):
        folder.mkdir(parents=True)
        (folder / "a.bin").write_bytes(b"1")
    for link, target in {"up": model, "sub/up": model / "sub", "one": other, "two": other}.items():
        (model / link).symlink_to(target)
    (other / "back").symlink_to(model)
    (seen,) = node.look(models=("~/m",)).models
    assert sized(seen).files == (("one/a.bin", 1, 0), ("sub/a.bin", 1, 0), ("two/a.bin", 1, 0))


def test_what_was_copied_counts_as_long_as_it_has_the_time_that_was_recorded(
    node: Node, tmp_path: Path
) -> None:
    source, copy, record = (
        tmp_path / "source",
        node.home / "m",
        node.root / record_of("~/m", socket.gethostname()),
    )
    source.mkdir()
    copy.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (source / name).write_text(name)
    (copy / "a").write_text("a")
    files = [(name, 1, (source / name).stat().st_mtime_ns) for name in ("a", "b", "c")]
    with Offer("127.0.0.1", 0, source, "t") as offer:
        threading.Thread(target=offer.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        list(Fetch("127.0.0.1", offer.server_address[1], "t", copy, files, record).run())
        offer.shutdown()
    (seen,) = node.look(models=("~/m",)).models
    assert seen.proved == set(files)
    os.utime(copy / "b", ns=(1, 1))
    (copy / "c").write_text("xx")
    assert node.look(models=("~/m",)).models[0].proved == {files[0]}
    (copy / "config.json").write_text("{}")
    (copy / "model.safetensors.index.json").write_text('{"weight_map": ["a"]}')
    for torn in ("", "{", "[]", '{"files": {"a": 7}}', '{"files": []}'):
        record.write_text(torn)
        (seen,) = node.look(models=("~/m",)).models
        assert (len(seen.files), seen.readable, seen.proved) == (5, True, frozenset())


def sized(seen: ModelSeen) -> ModelSeen:
    """Without times."""
    return replace(seen, files=tuple(file._replace(changed_ns=0) for file in seen.files))


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
    alone = world.topology(
        "name: c\nmodel: {id: /models/m}\nengine: {kind: vllm, device: cpu}\nroles: {frontend: {}, decode: {}}\n"
    )
    assert refusal(alone, nodes(alone, local=NOTHING)) == (
        ("local: /models/m is not there, and decode-0 needs it",),
        "put the model's folder there, or name the right one: model.id",
    )
    empty = ModelSeen(True, True, 1, FILES[:1])
    unreadable = ModelSeen(True, False, 1, FILES)
    assert refusal(wanted, nodes(wanted, n1=empty, n2=empty, n3=unreadable))[0] == (
        "n2: /models/m holds no weights (.safetensors, .bin, .gguf), and decode-0 needs them",
        "n3: /models/m/config.json is not there or cannot be read, and decode-0 needs it",
    )
    sealed = replace(WHOLE, sealed=("model-1.safetensors", "model-2.safetensors"))
    assert refusal(wanted, nodes(wanted, n1=sealed, n2=sealed)) == (
        (
            "n2: /models/m/model-1.safetensors and 1 more may not be read by the user there, and decode-0 needs it",
        ),
        "ls -l /models/m",
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can look as somebody else")
def test_files_of_others_are_seen_as_sealed() -> None:
    """Weights that root wrote for itself: vLLM says of them only that they do not exist."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name, mode in (("config.json", 0o644), ("model.safetensors", 0o600)):
            (folder / name).write_text("{}")
            (folder / name).chmod(mode)
        argv = ["python3", "-I", "-c", model_files._LOOK, made, "/no/record"]
        out = subprocess.run(argv, user=65534, capture_output=True, text=True, check=True, cwd="/").stdout
    (seen,) = model_files._models(out)["models"]
    assert (seen.readable, seen.sealed) == (True, ("model.safetensors",))


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


@pytest.mark.parametrize(
    ("part", "lack"),
    [
        (
            ModelSeen(True, True, 9_000_000_000, FILES, ("model-2.safetensors",)),
            "org/m lacks model-2.safetensors, which its model.safetensors.index.json names",
        ),
        (
            ModelSeen(True, True, 9_000_000_000, FILES[:1]),
            "org/m holds no weights (.safetensors, .bin, .gguf), and decode-0 needs them",
        ),
        (
            ModelSeen(True, False, 9_000_000_000),
            "org/m/config.json is not there or cannot be read, and decode-0 needs it",
        ),
    ],
)
def test_a_name_of_the_hub_that_is_partly_there_is_fetched_on(part: ModelSeen, lack: str) -> None:
    text = TEXT.replace("/models/m", "org/m")
    wanted = world.topology(text)
    plan = world.planned(wanted, nodes(wanted, n1=part, n2=part))
    assert [line for line in plan.warnings if "etcd" not in line] == [
        "n2 has only a part of org/m in ~/.cache/huggingface/hub/models--org--m and fetches it at the start "
        "(9.0 GB are free there)"
    ]
    offline = world.topology(text, 'env.HF_HUB_OFFLINE="yes"')
    assert refusal(offline, nodes(offline, n2=part)) == (
        (f"n2: {lack}, and HF_HUB_OFFLINE forbids to fetch the rest",),
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
        ("n1", "copy /models/m from n2 (2 B)"),  # its frontend needs the tokenizer alone
        ("n3", "copy /models/m from n2 (5.0 GB), and compare the rest (2 B)"),
    ]
    assert phases["withdraw"] == [("n2", f"stop {offer.name} and forget it")]
    names = [phase.name for phase in plan.phases]
    assert names.index("prepare") < names.index("offer") < names.index("withdraw") < names.index("roles")
    assert json.loads(offer.files[0][1])["path"] == "/models/m"
    assert "stage-" not in str(list(plan.phase("prepare").steps))  # its port is not recorded


def test_files_of_the_same_size_are_compared_once_and_when_the_source_changed() -> None:
    wanted = world.topology(TEXT, "model.stage_from=n2")

    def steps(**seen: ModelSeen) -> list[tuple[str, str, str]]:
        plan = world.planned(wanted, nodes(wanted, **seen))
        found = [phase for phase in plan.phases if phase.name == "stage"]
        return [(step.node, step.title, step.why) for phase in found for step in phase.steps]

    title, why = "compare /models/m with that of n2 (5.0 GB)", "nobody compared it since it changed"
    assert steps() == []
    assert steps(n3=replace(WHOLE, proved=frozenset(FILES[:1]))) == [("n3", title, why)]
    newer = replace(WHOLE, files=(FILES[0], FILES[1]._replace(changed_ns=9)))
    assert steps(n2=newer) == [("n3", title, why)]  # n1 has no weights of it


def test_a_node_that_does_not_read_the_model_gives_it_too() -> None:
    text = TEXT.replace("n3: {host: 10.0.0.3}", "n3: {host: 10.0.0.3}, n4: {host: 10.0.0.4}")
    wanted = world.topology(text, "model.stage_from=n4")
    assert [(need.who, need.weights) for need in needs(wanted, "n4")] == [("decode-0 of n2", True)]
    plan = world.planned(wanted, nodes(wanted, n3=NOTHING))
    offers = [
        (step.node, step.unit.roles) for step in plan.phase("offer").steps if isinstance(step, StartUnit)
    ]
    assert offers == [("n4", ("stage",))]
    assert [step.node for step in plan.phase("stage").steps] == ["n3"]
    assert refusal(wanted, nodes(wanted, n4=NOTHING, n3=NOTHING))[0] == (
        "n4: /models/m is not there, and decode-0 of n2 needs it",
    )


def test_nodes_that_share_a_home_keep_records_of_their_own() -> None:
    wanted = world.topology(TEXT, "model.stage_from=n1")
    plan = world.planned(wanted, nodes(wanted, n2=NOTHING, n3=NOTHING))
    records = [step.record for step in plan.phase("stage").steps if isinstance(step, FetchModel)]
    assert [record.split("/")[-2] for record in records] == ["n2", "n3"]
    assert len({record.partition("/models/")[0] for record in records}) == 1


def test_nothing_is_copied_where_everything_is() -> None:
    wanted = world.topology(TEXT, "model.stage_from=n2")
    assert "offer" not in {phase.name for phase in world.planned(wanted, nodes(wanted)).phases}
    after = world.up(wanted, nodes(wanted))
    quick = Observed({name: world.replaced(seen, models=()) for name, seen in after.nodes.items()})
    assert world.planned(wanted, quick).steps == ()
    # Nor is a changed source of any use while everything runs, whoever asks: an `up` from another machine does.
    newer = replace(WHOLE, files=(FILES[0], FILES[1]._replace(changed_ns=9)))
    asked = {
        name: world.replaced(seen, models=(newer if name == "n2" else WHOLE,))
        for name, seen in after.nodes.items()
    }
    assert world.planned(wanted, Observed(asked)).steps == ()


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
    two = world.topology(TEXT, "model.stage_from=n1")  # it has a frontend, and now gives weights as well
    assert refusal(two, nodes(two, n1=NOTHING)) == (
        ("n1: /models/m is not there, and decode-0 of n2 needs it",),
        "copy it to n1, or name a node that has it: model.stage_from",
    )
    going_on = ModelSeen(True, False, 2_000_000_000, part_bytes=4_000_000_002)
    assert [
        step.title for step in world.planned(wanted, nodes(wanted, n3=going_on)).phase("stage").steps
    ] == ["copy /models/m from n2 (5.0 GB)"]
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


def test_copies_to_one_disk_have_to_fit_together() -> None:
    two = "[{node: n2}, {node: n3}, {node: n3, model: {id: /models/o, stage_from: n2}}]"
    wanted = world.topology(TEXT.replace("{nodes: [n2, n3]}", two), "model.stage_from=n2")
    seen = dict.fromkeys(("n1", "n2"), (WHOLE, WHOLE))

    def given(*found: ModelSeen) -> Observed:
        each = {**seen, "n3": found}
        return Observed({name: world.empty(name, models=models) for name, models in each.items()})

    none = ModelSeen(False, False, 8_000_000_000)
    other = replace(none, disk=1)
    assert refusal(wanted, given(none, none))[0] == (
        "n3: /models/m and /models/o take 10.0 GB, and 8.0 GB are free there",
    )
    assert [step.node for step in world.planned(wanted, given(none, other)).phase("stage").steps] == [
        "n3",
        "n3",
    ]
