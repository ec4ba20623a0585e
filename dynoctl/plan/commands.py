"""A step → what the node program is asked to do: a list of actions, each a JSON object.

In: steps of `plan.steps`. Out: the actions of `dyno_node`'s verb `apply`, in order. No shell text is made here.
"""

from __future__ import annotations

import json
from functools import singledispatch
from typing import Any

from dynoctl.plan import steps
from dynoctl.plan.beside import Beside

Action = dict[str, Any]


@singledispatch
def actions(step: steps.Step) -> list[Action]:
    """What the node program does for `step`."""
    raise TypeError(f"no actions for {type(step).__name__}")


@actions.register
def _(step: steps.Push) -> list[Action]:
    if not step.artifact.archive:
        return []  # the file is whole once it is there
    into = f"{step.root}/{step.artifact.place.removesuffix('/.complete')}"
    return [{"do": "unpack", "archive": upload_path(step), "into": into}]


def upload_path(step: steps.Push) -> str:
    """Where the bytes of a push arrive: the place itself, or for an archive a file beside its folder."""
    if step.artifact.archive:
        return f"{step.root}/{step.artifact.place.removesuffix('/.complete')}.zip"
    return f"{step.root}/{step.artifact.place}"


@actions.register
def _(step: steps.MakeEnvironment) -> list[Action]:
    return [
        {
            "do": "environment",
            "path": f"{step.root}/{step.place.removesuffix('/.complete')}",
            "requirements": list(step.requirements),
            "python": step.python,
            "wheelhouse": step.wheelhouse,
            "index_url": step.index_url,
            "extra_index_url": step.extra_index_url,
        }
    ]


@actions.register
def _(step: steps.FetchModel) -> list[Action]:
    return [
        {
            "do": "fetch",
            "path": step.path,
            "host": step.host,
            "port": step.port,
            "files": [list(file) for file in (*step.files, *step.compared)],
            "record": step.record,
            "token": step.token,
        }
    ]


@actions.register
def _(step: steps.RecordTopology) -> list[Action]:
    return [{"do": "write", "path": step.path, "content": step.content, "mode": 0o600}]


@actions.register
def _(step: steps.StopUnit) -> list[Action]:
    stop: Action = {"do": "stop", "unit_dir": step.folder, "grace_s": step.grace_s}
    return [stop, {"do": "remove", "path": step.folder}] if step.forget else [stop]


@actions.register
def _(step: steps.StartUnit) -> list[Action]:
    unit = step.unit
    document = json.dumps({**unit.document, "digest": unit.digest}, indent=1)
    writes = [*unit.files, (f"{unit.folder}/unit.json", document)]
    return [
        *({"do": "write", "path": path, "content": content, "mode": 0o600} for path, content in writes),
        {"do": "start", "unit_dir": unit.folder},
    ]


@actions.register
def _(step: steps.PurgeServices) -> list[Action]:
    return [
        {
            "do": "call",
            "argv": [step.python, "-m", "dyno_runtime", "purge", step.settings_path, *step.services],
            "env": {"PYTHONPATH": step.code},
            "timeout_s": 60,
        },
    ]


@actions.register
def _(step: steps.ProveGone) -> list[Action]:
    node = step.known_as or step.node
    return [{"do": "sweep", "cluster": step.cluster, "node": node, "ports": list(step.ports), "stop": True}]


@actions.register
def _(step: steps.RemoveSession) -> list[Action]:
    return [{"do": "remove", "path": step.path}]


@actions.register
def _(step: steps.RemoveCluster) -> list[Action]:
    return [{"do": "remove", "path": step.path}]


def models_action(place: Beside, words: list[str]) -> Action:
    """What the node program does for `dynoctl models`; the runtime's own words come back as `out`."""
    argv = [place.python, "-m", "dyno_runtime", "models", place.settings, *words]
    return {"do": "call", "argv": argv, "env": {"PYTHONPATH": place.code}, "timeout_s": 30}
