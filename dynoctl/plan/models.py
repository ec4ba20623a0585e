"""The files of models on the nodes: which node needs which, what is there, and what stands in the way.

In: a topology, what nodes printed. Out: the question to a node and its answer as `ModelSeen`; obstacles and remarks.
A model is a folder on the nodes, or a name of the Hugging Face hub that stands for a folder of the node's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dynoctl.plan.blocks import Obstacle
from dynoctl.plan.model_files import INDEX, WEIGHTS, ModelFile, ModelSeen
from dynoctl.plan.site import Site
from dynoctl.plan.steps import size
from dynoctl.topology.engine import Model, argument_name
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Placement
from dynoctl.topology.secret import reveal

SPARE_BYTES = 1_000_000_000  # what a copy leaves free


@dataclass(frozen=True, slots=True)
class Need:
    """A model that units of a node read. `who` is the first of them; without `weights` a tokenizer is enough."""

    model: Model
    who: str
    weights: bool
    place: str  # the folder, `~/` included


def needs(topology: Topology, node: str) -> tuple[Need, ...]:
    """The models that units of a node read, and those that it gives to others; each once."""
    found: dict[str, Need] = {}
    for placement in sorted(topology.placements, key=lambda each: node not in each.nodes):
        if placement.role == "router":
            continue
        for model, weights in _read_by(topology, placement):
            who = f"{placement.role}-{placement.index}"
            if node not in placement.nodes:
                if model.stage_from != node or not is_path(model.id):
                    continue
                who = f"{who} of {placement.node}"  # who gives a model to others needs what they need
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
        copies: list[tuple[Need, ModelSeen, int]] = []
        for need, seen in seen_models(topology, site).values():
            source = need.model.stage_from
            if is_path(need.model.id) and source is not None and source != site.node:
                if source in sites and (lacking := lacking_files(need, seen, topology, sites[source])):
                    copies.append((need, seen, sum(file.size_bytes for file in lacking)))
            elif is_path(need.model.id):
                yield from _whole(need, seen, site, alone=len(sites) == 1)
            elif _offline(topology, site.node):
                yield from _cached(need, seen, site)
        yield from _room(copies, site)


def _whole(need: Need, seen: ModelSeen, site: Site, *, alone: bool) -> Iterator[Obstacle]:
    """A folder that nobody copies; `alone` on the only node."""
    look = f"{site.login} ls -l {need.place}".strip()
    if not seen.there:
        way_out = f"copy it to {site.node}, or let dynoctl copy it from a node that has it: model.stage_from"
        if need.model.stage_from:
            way_out = f"copy it to {site.node}, or name a node that has it: model.stage_from"
        elif alone:
            way_out = "put the model's folder there, or name the right one: model.id"
        yield Obstacle(f"{site.node}: {need.model.id} is not there, and {need.who} needs it", way_out)
    elif lack := _lack(need, seen):
        again = f"copy the model to {site.node} again"
        yield Obstacle(f"{site.node}: {lack}", again if seen.readable and seen.missing else look)


def _cached(need: Need, seen: ModelSeen, site: Site) -> Iterator[Obstacle]:
    """A model of the hub that may not be fetched."""
    forbids = "HF_HUB_OFFLINE forbids to fetch"
    lack = _lack(need, seen) if seen.there else f"{need.model.id} is not in {need.place}"
    if lack:
        what, rest = ("it", f"; {need.who} needs it") if not seen.there else ("the rest", "")
        yield Obstacle(
            f"{site.node}: {lack}, and {forbids} {what}{rest}",
            f"bring it into the cache of {site.node}, or remove HF_HUB_OFFLINE from the topology",
        )


def _lack(need: Need, seen: ModelSeen) -> str | None:
    """What a folder that is there lacks, in words; None where it has all that is needed."""
    if not need.weights:
        return None
    if not seen.readable:
        return f"{need.model.id}/config.json is not there or cannot be read, and {need.who} needs it"
    if seen.missing:
        more = f" and {len(seen.missing) - 1} more" if len(seen.missing) > 1 else ""
        return f"{need.model.id} lacks {seen.missing[0]}{more}, which its {INDEX} names"
    if not seen.has_weights:
        return f"{need.model.id} holds no weights ({', '.join(WEIGHTS[:3])}), and {need.who} needs them"
    if seen.sealed:
        more = f" and {len(seen.sealed) - 1} more" if len(seen.sealed) > 1 else ""
        return f"{need.model.id}/{seen.sealed[0]}{more} may not be read by the user there, and {need.who} needs it"
    return None


def _room(copies: list[tuple[Need, ModelSeen, int]], site: Site) -> Iterator[Obstacle]:
    """Whether copies fit, all those together that go to one disk."""
    for disk in dict.fromkeys(seen.disk for _, seen, _ in copies):
        here = [(need, seen, count) for need, seen, count in copies if seen.disk == disk]
        lacking, free_bytes = sum(count for _, _, count in here), here[0][1].free_bytes
        if free_bytes + sum(seen.part_bytes for _, seen, _ in here) < lacking + SPARE_BYTES:
            who = " and ".join(need.model.id for need, _, _ in here)
            takes = "takes" if len(here) == 1 else "take"
            yield Obstacle(
                f"{site.node}: {who} {takes} {size(lacking)}, and {size(free_bytes)} are free there",
                f"free some space on {site.node}, or name a folder on a larger disk: model.id",
            )


def lacking_files(need: Need, seen: ModelSeen, topology: Topology, source: Site) -> tuple[ModelFile, ...]:
    """The files that the source has and the node has not, or has in another size."""
    have = {(file.name, file.size_bytes) for file in seen.files}
    wanted = _given(need, topology, source)
    return tuple(file for file in wanted if (file.name, file.size_bytes) not in have)


def unproved_files(need: Need, seen: ModelSeen, topology: Topology, source: Site) -> tuple[ModelFile, ...]:
    """The files that the node has in their size, and that nobody compared since they or the source's changed."""
    have = {(file.name, file.size_bytes) for file in seen.files}
    wanted = _given(need, topology, source)
    return tuple(file for file in wanted if (file.name, file.size_bytes) in have and file not in seen.proved)


def _given(need: Need, topology: Topology, source: Site) -> Iterator[ModelFile]:
    """What the source gives: all that it has; where a tokenizer is enough, no weights."""
    _, there = seen_models(topology, source).get(need.model.id, (None, None))
    for file in there.files if there is not None else ():
        if need.weights or not file.name.endswith(WEIGHTS):
            yield file


def _offline(topology: Topology, node: str) -> bool:
    envs = [placement.env for placement in topology.placements if node in placement.nodes]
    return any(reveal(env.get("HF_HUB_OFFLINE", "0")).upper() in ("1", "ON", "YES", "TRUE") for env in envs)


def model_remarks(topology: Topology, sites: Mapping[str, Site]) -> Iterator[str]:
    """Models that are fetched from the hub at the start."""
    for site in sites.values():
        for need, seen in seen_models(topology, site).values():
            if not is_path(need.model.id) and _lack(need, seen):
                what = "only a part of" if seen.there else "no"
                yield (
                    f"{site.node} has {what} {need.model.id} in {need.place} and fetches it at the start "
                    f"({size(seen.free_bytes)} are free there)"
                )
