"""The files of models on the nodes: which node needs which, what is there, and what stands in the way.

In: a topology, what nodes printed. Out: the question to a node and its answer as `ModelSeen`; obstacles and remarks.
A model is a folder on the nodes, or a name of the Hugging Face hub that stands for a folder of the node's cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dynoctl.plan.blocks import Obstacle
from dynoctl.plan.fact import Fact
from dynoctl.plan.script import NodePath
from dynoctl.plan.site import Site
from dynoctl.plan.steps import size
from dynoctl.topology.engine import Model, argument_name
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Placement
from dynoctl.topology.secret import reveal

SPARE_BYTES = 1_000_000_000  # what a copy leaves free
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """One model's folder on one node. `files` are (path below it, size in bytes); `missing` are weights that the
    folder's index names and that are not there; `sealed` are files that we may not read."""

    there: bool
    readable: bool  # its config.json
    free_bytes: int
    files: tuple[tuple[str, int], ...] = ()
    missing: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()

    @property
    def has_weights(self) -> bool:
        """Whether there is a file that may hold weights."""
        return any(name.endswith(WEIGHTS) for name, _ in self.files)


@dataclass(frozen=True, slots=True)
class Need:
    """A model that units of a node read. `who` is the first of them; without `weights` a tokenizer is enough."""

    model: Model
    who: str
    weights: bool
    place: str  # the folder, `~/` included


def needs(topology: Topology, node: str) -> tuple[Need, ...]:
    """The models that units of a node read; each once."""
    found: dict[str, Need] = {}
    for placement in topology.placements:
        if node not in placement.nodes or placement.role == "router":
            continue
        for model, weights in _read_by(topology, placement):
            who = f"{placement.role}-{placement.index}"
            need = Need(model, who, weights, _place(placement, model.id))
            had = found.setdefault(model.id, need)
            if weights and not had.weights:
                found[model.id] = need
    return tuple(found.values())


def _read_by(topology: Topology, placement: Placement) -> Iterator[tuple[Model, bool]]:
    if placement.engine is not None and placement.model is not None:
        args = {argument_name(name): value for name, value in placement.engine.args.items()}
        is_vllm = placement.engine.kind == "vllm"
        if is_vllm or is_path(placement.model.id):
            yield placement.model, is_vllm and args.get("load_format") != "dummy"
        return
    for other in topology.placements:  # who takes requests turns text into the tokens of every model
        engine, model = other.engine, other.model
        if engine is None or model is None or engine.kind == "hello":
            continue
        if engine.kind == "vllm" or is_path(model.id):
            yield model, False


def is_path(model: str) -> bool:
    """Whether a model is a folder on the nodes, and not a name of the hub."""
    return model.startswith(("/", "~/"))


def _place(placement: Placement, model: str) -> str:
    """The folder of a model; of the hub's, in the cache that the unit's environment names."""
    if is_path(model):
        return model.rstrip("/")
    env = placement.env
    home = reveal(env.get("HF_HOME", "~/.cache/huggingface"))
    cache = reveal(env.get("HF_HUB_CACHE", f"{home}/hub"))
    return f"{cache}/models--{model.replace('/', '--')}"


# ---- what is there -------------------------------------------------------------------------------------

# Of the hub's cache it is the snapshot that is looked at. At most 10,000 files: no model has more.
_LOOK = """\
import json, os, shutil, sys
def look(path):
    above = path
    while not os.path.isdir(above):
        above = os.path.dirname(above) or "/"
    found = {"free_bytes": shutil.disk_usage(above).free, "there": False, "readable": False}
    snapshots = os.path.join(path, "snapshots")
    if os.path.isdir(snapshots):
        kept = [os.path.join(snapshots, name) for name in os.listdir(snapshots)]
        path = max(kept, key=os.path.getmtime, default=path)
    found["there"] = os.path.isdir(path)
    files = {}
    for folder, inner, names in os.walk(path, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            whole = os.path.join(folder, name)
            if not name.startswith(".") and os.path.isfile(whole) and len(files) < 10000:
                files[os.path.relpath(whole, path)] = os.path.getsize(whole)
    found["files"] = sorted(files.items())
    found["sealed"] = sorted(name for name in files if not os.access(os.path.join(path, name), os.R_OK))
    try:
        with open(os.path.join(path, "config.json")) as file:
            found["readable"] = isinstance(json.load(file), dict)
        with open(os.path.join(path, "model.safetensors.index.json")) as file:
            found["missing"] = sorted(set(json.load(file)["weight_map"].values()) - set(files))
    except (OSError, ValueError, KeyError):
        pass
    return found
print(json.dumps([look(path) for path in sys.argv[1:]]))
"""


def question(places: tuple[str, ...]) -> str:
    """How `sh` asks: a function for the head of the script."""
    words = " ".join(NodePath(place).quoted() for place in places)
    body = f"python3 -I -c '{_LOOK}' {words}" if places else ":"
    return f"ask_models() {{ {body}\n}}"


def _models(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {"models": ()}  # nobody asked, or there is no python3, which is refused elsewhere
    return {
        "models": tuple(
            ModelSeen(
                there=bool(each["there"]),
                readable=bool(each["readable"]),
                free_bytes=int(each["free_bytes"]),
                files=tuple((str(name), int(count)) for name, count in each["files"]),
                missing=tuple(str(name) for name in each.get("missing", ())),
                sealed=tuple(str(name) for name in each["sealed"]),
            )
            for each in found
        )
    }


MODELS = Fact("models", "ask_models 2>/dev/null", _models)


def seen_models(topology: Topology, site: Site) -> dict[str, tuple[Need, ModelSeen]]:
    """What was found of each model that the node needs, by the model's id; empty where nobody asked."""
    found = site.seen.models if site.seen else ()
    wanted = needs(topology, site.node)
    if len(found) != len(wanted):
        return {}
    return {need.model.id: (need, seen) for need, seen in zip(wanted, found, strict=True)}


# ---- what stands in the way ----------------------------------------------------------------------------


def model_obstacles(topology: Topology, sites: Mapping[str, Site]) -> Iterator[Obstacle]:
    """Models that are not whole on a node that needs them and are not copied there, and disks that are too full."""
    for site in sites.values():
        for need, seen in seen_models(topology, site).values():
            source = need.model.stage_from
            if is_path(need.model.id) and source is not None and source != site.node:
                if source in sites:
                    yield from _room(need, seen, sites[source], topology, site)
            elif seen.there or is_path(need.model.id):
                yield from _whole(need, seen, site)
            elif _offline(topology, site.node):
                yield Obstacle(
                    f"{site.node}: {need.model.id} is not in {need.place}, and HF_HUB_OFFLINE forbids to fetch it; "
                    f"{need.who} needs it",
                    f"bring it into the cache of {site.node}, or remove HF_HUB_OFFLINE from the topology",
                )


def _whole(need: Need, seen: ModelSeen, site: Site) -> Iterator[Obstacle]:
    where = f"{site.node}: {need.model.id}"
    if not seen.there:
        yield Obstacle(
            f"{where} is not there, and {need.who} needs it",
            f"copy it to {site.node}, or let dynoctl copy it from a node that has it: model.stage_from",
        )
    elif need.weights and not seen.readable:
        yield Obstacle(
            f"{where}/config.json is not there or cannot be read, and {need.who} needs it",
            f"{site.login} ls -l {need.place}".strip(),
        )
    elif need.weights and seen.missing:
        more = f" and {len(seen.missing) - 1} more" if len(seen.missing) > 1 else ""
        yield Obstacle(
            f"{where} lacks {seen.missing[0]}{more}, which its {INDEX} names",
            f"copy the model to {site.node} again",
        )
    elif need.weights and not seen.has_weights:
        yield Obstacle(
            f"{where} holds no weights ({', '.join(WEIGHTS[:3])}), and {need.who} needs them",
            f"{site.login} ls -l {need.place}".strip(),
        )
    elif sealed := [name for name in seen.sealed if need.weights or not name.endswith(WEIGHTS)]:
        more = f" and {len(sealed) - 1} more" if len(sealed) > 1 else ""
        yield Obstacle(
            f"{where}/{sealed[0]}{more} may not be read by the user there, and {need.who} needs it",
            f"{site.login} ls -l {need.place}".strip(),
        )


def _room(need: Need, seen: ModelSeen, source: Site, topology: Topology, site: Site) -> Iterator[Obstacle]:
    lacking = sum(count for _, count in lacking_files(need.model, seen, topology, source))
    if lacking and seen.free_bytes < lacking + SPARE_BYTES:
        yield Obstacle(
            f"{site.node}: {need.model.id} takes {size(lacking)}, and {size(seen.free_bytes)} are free there",
            f"free some space on {site.node}, or name a folder on a larger disk: model.id",
        )


def lacking_files(
    model: Model, seen: ModelSeen, topology: Topology, source: Site
) -> tuple[tuple[str, int], ...]:
    """The files that the source has and the node has not, or has in another size."""
    _, there = seen_models(topology, source).get(model.id, (None, None))
    have = set(seen.files)
    return tuple(file for file in there.files if file not in have) if there is not None else ()


def _offline(topology: Topology, node: str) -> bool:
    envs = [placement.env for placement in topology.placements if node in placement.nodes]
    return any(reveal(env.get("HF_HUB_OFFLINE", "0")) in ("1", "true", "TRUE") for env in envs)


def model_remarks(topology: Topology, sites: Mapping[str, Site]) -> Iterator[str]:
    """Models that are fetched from the hub at the start."""
    for site in sites.values():
        for need, seen in seen_models(topology, site).values():
            if not is_path(need.model.id) and not seen.there and need.weights:
                yield (
                    f"{site.node} has no {need.model.id} in {need.place} and fetches it at the start "
                    f"({size(seen.free_bytes)} are free there)"
                )
