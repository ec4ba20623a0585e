"""Copying a model from one node to those that lack it, before anything starts.

In: a topology whose model says `stage_from`, and what was seen. Out: three phases: the source offers the files by
HTTP at its own address to whoever has a token of this run, the others fetch what they lack, the offer is withdrawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from dynoctl.plan.digest import digest_of
from dynoctl.plan.model_files import ModelFile, record_of
from dynoctl.plan.models import Need, is_path, lacking_files, needs, seen_models, unproved_files
from dynoctl.plan.ports import STAGE_BASE
from dynoctl.plan.site import Site
from dynoctl.plan.steps import FetchModel, Phase, StartUnit, StopUnit, UnitSpec
from dynoctl.topology.engine import Model
from dynoctl.topology.model import Topology

GRACE_S = 5.0
RESTART = {"max": 5, "within_s": 300.0, "first_wait_s": 0.5, "longest_wait_s": 5.0}
LOG = {"max_bytes": 1_000_000, "keep": 1}


def staging(topology: Topology, sites: Mapping[str, Site], token: str) -> tuple[Phase, ...]:
    """The phases of all copies; none where every node has every file."""
    fetches: dict[tuple[str, str], list[FetchModel]] = {}
    models: dict[tuple[str, str], Model] = {}
    for node, site in sites.items():
        for need in needs(topology, node):
            source = need.model.stage_from
            if source is None or source == node or not is_path(need.model.id) or source not in sites:
                continue
            fetch = _fetch(topology, need, site, sites[source], token)
            if fetch is not None:
                models[source, need.model.id] = need.model
                fetches.setdefault((source, need.model.id), []).append(fetch)
    if not fetches:
        return ()
    offers = [_offer(sites[source], model, token) for (source, _), model in models.items()]
    stale = [step for offer in offers if (step := _stale(sites[offer.node], offer)) is not None]
    starts = [StartUnit(offer.node, "other nodes lack the model", offer) for offer in offers]
    stops = [
        StopUnit(
            offer.node, "every node has the model", offer.name, offer.folder, GRACE_S, False, forget=True
        )
        for offer in offers
    ]
    return (
        Phase("offer", (*stale, *starts)),
        Phase("stage", tuple(fetch for found in fetches.values() for fetch in found)),
        Phase("withdraw", tuple(stops)),
    )


def _name(model: Model) -> str:
    """The unit that offers a model."""
    return f"stage-{digest_of(model.id)[:8]}"


def _fetch(topology: Topology, need: Need, site: Site, source: Site, token: str) -> FetchModel | None:
    model = need.model
    _, seen = seen_models(topology, site).get(model.id, (None, None))
    if seen is None and site.seen is not None:
        return None  # asked, though not about models: everything may be there
    lacking = lacking_files(need, seen, topology, source) if seen else ()
    unproved = unproved_files(need, seen, topology, source) if seen else ()
    if seen and not lacking and not unproved:
        return None
    return FetchModel(
        site.node,
        _why(lacking, unproved),
        model=model.id,
        path=site.seen.absolute(model.id) if site.seen else model.id,
        source=source.node,
        host=source.address,
        port=_port(source, model),
        files=lacking,
        compared=unproved,
        record=f"{site.root}/{record_of(need.place, site.seen.hostname if site.seen else site.node)}",
        token=token,
    )


def _why(lacking: tuple[ModelFile, ...], unproved: tuple[ModelFile, ...]) -> str:
    if lacking:
        return "not all of it on the node yet"
    return "nobody compared it since it changed" if unproved else "not looked for yet"


def _port(source: Site, model: Model) -> int:
    use = f"{_name(model)}.http"
    return source.ports.given.get(use) or source.ports.chosen(use, STAGE_BASE)


def _offer(source: Site, model: Model, token: str) -> UnitSpec:
    name, port = _name(model), _port(source, model)
    folder = source.unit_folder(name)
    path = f"{folder}/settings.json"
    model_path = source.seen.absolute(model.id) if source.seen else model.id
    told = {"host": source.address, "port": port, "path": model_path, "token": token}
    document = {
        "unit": name,
        "cluster": source.cluster,
        "node": source.node,
        "argv": ["python3", "-I", source.node_program, "offer", path],
        "env": {},
        "listens": [port],
        "stop_grace_s": GRACE_S,
        "restart": RESTART,
        "log": LOG,
        "backend": "agent",
    }
    files = ((path, json.dumps(told)),)
    digest = digest_of({"unit": document, "files": files})
    return UnitSpec(name, source.node, ("stage",), folder, document, files=files, digest=digest)


def _stale(source: Site, offer: UnitSpec) -> StopUnit | None:
    """An offer that an earlier run, cut off, left behind has another token."""
    if source.seen is None or offer.name not in source.seen.units:
        return None
    why = "an earlier run was cut off while it copied"
    return StopUnit(source.node, why, offer.name, offer.folder, GRACE_S, False, forget=True)
