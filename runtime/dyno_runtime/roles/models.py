"""`python -m dyno_runtime models SETTINGS list|add|remove …`: the names that clients may ask for.

In: settings, words. Out: a JSON object on standard output; a sentence on standard error, and status 1, where it
cannot be done. `add NAME [MODEL]` gives a further name to a model that workers serve, `remove NAME` takes away one
that was added; with `--dry-run` behind them they only say whether they would.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

import msgspec

from dyno_runtime.bus.base import Down, Refused
from dyno_runtime.bus.connect import make_store
from dyno_runtime.bus.etcd import EtcdStore
from dyno_runtime.core.view import View, seen
from dyno_runtime.roles.names import NAME_TTL_S, Names
from dyno_runtime.settings import ProcessSettings
from dyno_runtime.wire.codec import BadFrame, decode_instance, encode_model_name
from dyno_runtime.wire.messages import ModelName
from dyno_runtime.wire.names import instances_prefix, lease_id, model_key, models_prefix

DEADLINE_S = 10.0
MAX_NAME_CHARS = 200


class Listed(msgspec.Struct):
    """One name. `model` is what the workers call it; `workers` are all that are registered, `ready` of them serve."""

    name: str
    model: str
    engine: str
    path: str | None
    block_size: int
    max_model_len: int
    workers: list[str]
    ready: int


async def manage(settings: ProcessSettings, words: list[str]) -> object:
    """Do what the words say; what to print.

    Raises:
        Refused: it cannot be done, and why.
        Down: etcd does not answer.
    """
    store = make_store(settings)
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await _do(store, settings.cluster, words)
    except TimeoutError:
        raise Down(f"etcd did not answer within {DEADLINE_S:g} s") from None
    finally:
        await store.close()


async def _do(store: EtcdStore, cluster: str, words: list[str]) -> object:
    view, names = await _read(store, cluster)
    dry_run = words[-1:] == ["--dry-run"]
    match words[:-1] if dry_run else words:
        case ["list"]:
            return {"models": listed(view, names.added)}
        case ["add", name]:
            return await _add(store, cluster, name, _only_model(view), view, names, dry_run)
        case ["add", name, model]:
            return await _add(store, cluster, name, model, view, names, dry_run)
        case ["remove", name]:
            return await _remove(store, cluster, name, view, names, dry_run)
        case _:
            raise Refused("models: say list, add NAME [MODEL] or remove NAME")


async def _read(store: EtcdStore, cluster: str) -> tuple[View, Names]:
    view, names = View(), Names()
    for value in (await store.read(instances_prefix(cluster))).entries.values():
        try:
            view = seen(view, decode_instance(value))
        except BadFrame:
            continue  # of another version: it is not ours to judge
    for key, value in (await store.read(models_prefix(cluster))).entries.items():
        names.put(key, value)
    return view, names


def listed(view: View, added: Mapping[str, ModelName]) -> list[Listed]:
    """Every name that workers have or were given, by name."""
    found: dict[str, Listed] = {}
    for worker in view.of("decode"):
        one = found.setdefault(
            worker.model,
            Listed(
                name=worker.model,
                model=worker.model,
                engine=worker.engine,
                path=worker.path,
                block_size=worker.block_size,
                max_model_len=worker.max_model_len,
                workers=[],
                ready=0,
            ),
        )
        one.workers.append(worker.place)
        one.ready += worker.state == "ready"
    further = {
        name: msgspec.structs.replace(found[one.model], name=name)
        for name, one in added.items()
        if name not in found and one.model in found
    }
    return [one for _, one in sorted({**found, **further}.items())]


def _only_model(view: View) -> str:
    models = sorted({one.model for one in view.of("decode")})
    if len(models) != 1:
        raise Refused(f"say which model shall have the name; there is {', '.join(models) or 'none'}")
    return models[0]


async def _add(
    store: EtcdStore, cluster: str, name: str, model: str, view: View, names: Names, dry_run: bool
) -> dict[str, object]:
    if not name or not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise Refused(f"a name has 1 to {MAX_NAME_CHARS} printable characters")
    taken = names.model_of(name, view)
    if taken is not None:
        raise Refused(f"{name!r} is a name already" + ("" if taken == name else f", of {taken!r}"))
    models = sorted({one.model for one in view.of("decode")})
    if model not in models:
        raise Refused(f"no worker serves {model!r}; there is {', '.join(models) or 'none'}")
    added = ModelName(model, lease_id(secrets.randbits(62) + 1))
    if not dry_run:
        await store.hold(added.lease, NAME_TTL_S, {model_key(cluster, name): encode_model_name(added)})
    return {"added": name, "model": model}


async def _remove(
    store: EtcdStore, cluster: str, name: str, view: View, names: Names, dry_run: bool
) -> dict[str, object]:
    workers = [one.place for one in view.of("decode") if one.model == name]
    if workers:
        raise Refused(
            f"{name!r} is the name that its workers were given ({', '.join(workers)}); "
            "it goes when they do: take them out of the topology"
        )
    if name not in names.added:
        known = sorted({*names.added, *(one.model for one in view.of("decode"))})
        raise Refused(f"there is no model {name!r}; there is {', '.join(known) or 'none'}")
    if not dry_run:
        await store.remove(model_key(cluster, name))
    return {"removed": name, "model": names.added[name].model}
