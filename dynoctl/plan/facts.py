"""The facts about a node, each a pair: `command` (text for sh) and `parse` (its output → a value).

In: the names under which a cluster keeps its files. Out: one script a node, and from what it printed one
`NodeSeen`. The commands see `$root`, `$base` (this cluster's folder of this node) and `$prepared` (the files that
make a node ready to start units; what costs a process to find out is asked only where one is missing).
All of it is sh built-ins as far as can be: a status of hundreds of nodes costs each of them two processes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dynoctl.errors import CommandFailed
from dynoctl.plan.fact import Fact
from dynoctl.plan.fact import lines as _lines
from dynoctl.plan.hardware import HARDWARE
from dynoctl.plan.model_files import MODELS, question
from dynoctl.plan.observed import Holder, NodeSeen
from dynoctl.plan.script import NodePath, assign
from dynoctl.plan.unit_seen import NONSENSE, read_files

RECORD = "\x1e"  # starts a fact; JSON text cannot hold it raw
UNIT = "\x1c"  # starts a unit inside the fact of units
FIELD = "\x1d"  # separates files inside a unit


def _kernel(text: str) -> dict[str, Any]:
    hostname, boot_id, uptime, root, home = _lines(text)
    return {
        "hostname": hostname,
        "boot_id": boot_id,
        "uptime_s": float(uptime.split()[0]),
        "root": root,
        "home": home,
    }


KERNEL = Fact(
    "kernel",
    'read -r x < /proc/sys/kernel/hostname; echo "$x"; read -r x < /proc/sys/kernel/random/boot_id; echo "$x"\n'
    'read -r x < /proc/uptime; echo "$x"; echo "$root"; echo "${HOME:-/}"',
    _kernel,
)


def _machine(text: str) -> dict[str, Any]:
    """Four lines: user, machine, python version as `3 11 2` and whether venv works; or nothing."""
    lines = text.split("\n")
    if len(lines) < 4:
        return {}
    user, arch, version, venv = (line.strip() for line in lines[:4])
    numbers = tuple(int(part) for part in version.split() if part.isdigit())
    return {
        "user": user,
        "arch": arch,
        "python": (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None,
        "venv": venv == "venv",
    }


MACHINE = Fact(
    "machine",
    'whole=yes; for x in $prepared; do [ -e "$root/$x" ] || whole=no; done\n'
    "if [ $whole = no ]; then id -un; uname -m\n"
    "python3 -I -c 'import sys; print(*sys.version_info[:3])' 2>/dev/null || echo\n"
    "python3 -I -c 'import ensurepip, venv; print(\"venv\")' 2>/dev/null || echo; fi",
    _machine,
)


def _free(text: str) -> dict[str, Any]:
    return {"free_bytes": int(text) * 1024 if text.strip().isdigit() else None}


# Behind `machine`, which says whether the node is prepared. One that is may lack an environment yet.
FREE = Fact(
    "free",
    "if [ $whole = no ] || [ $thorough = yes ]; then\n"
    'x=$root; while [ ! -d "$x" ]; do x=${x%/*}; [ -n "$x" ] || x=/; done\n'
    'df -Pk "$x" | { read -r x; read -r x x x free x; echo "$free"; }; fi',
    _free,
)


def _listening(text: str) -> dict[str, Any]:
    asked, *lines = _lines(text) or ["not asked"]
    ports = frozenset(int(line.split()[1].rsplit(":", 1)[1], 16) for line in lines)
    return {"listening": ports, "ports_asked": asked == "asked"}


# The kernel walks its whole table of connections for this, several milliseconds however few there are. So a look that
# is not thorough asks only where a unit has no health file of its own to say that its port answers: a service.
LISTENING = Fact(
    "listening",
    'for d in "$base"/units/*/; do [ ! -d "$d" ] || [ -e "$d/health.json" ] || thorough=yes; done\n'
    "if [ $thorough = yes ]; then echo asked; grep -h ' 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; fi",
    _listening,
)


def _have(text: str) -> dict[str, Any]:
    return {"have": frozenset(_lines(text))}


HAVE = Fact(
    "have",
    'for x in "$root"/node-*.pyz "$root"/code/*/.complete "$root"/envs/*/.complete '
    '"$root"/wheels/*/.complete "$root"/bin/*/*; do\n'
    '[ -e "$x" ] && echo "${x#"$root"/}"; done',
    _have,
)


def _tools(text: str) -> dict[str, Any]:
    lines = text.split("\n")
    found = dict(zip(("etcd", "nats-server"), lines[:2], strict=False))
    return {
        "tools": {name: path for name, path in found.items() if path},
        "user_manager": lines[2:3] == ["user-manager"],
    }


TOOLS = Fact(
    "tools",
    "command -v etcd || echo; command -v nats-server || echo\n"
    # A session that did not come through PAM has no XDG_RUNTIME_DIR; -O: it is this user's own.
    'for x in "${XDG_RUNTIME_DIR:-/nowhere}" /run/user/*; do\n'
    '[ -O "$x/systemd/private" ] && { echo user-manager; break; }; done',
    _tools,
)


def _document(text: str) -> dict[str, Any] | None:
    """A JSON object; None where there is none, or power was lost before it was whole."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _manifest(text: str) -> dict[str, Any]:
    found = _document(text)
    return {"manifest": found if found and "generation" in found else None}


MANIFEST = Fact("manifest", '[ -r "$base/manifest.json" ] && cat "$base/manifest.json"', _manifest)


# How sh finds the pids in a state: the number behind the first `"pid": `, then behind the next one, as `json.dumps`
# writes them. Only to look at /proc/PID/stat: what counts is compared with the parsed document afterwards.
_STATS = (
    "p=${x#*'\"pid\": '}; s=${p#*'\"pid\": '}\n"
    'for pid in "${p%%[!0-9]*}" "${s%%[!0-9]*}"; do x=\n'
    '{ read -r x < "/proc/${pid:-none}/stat"; } 2>/dev/null\n'
    f"printf '{FIELD}%s' \"$x\"; done"
)


def _lock(text: str) -> dict[str, Any]:
    return {"lock": _document(text)}


LOCK = Fact("lock", 'x=; { read -r x < "$root/locks/$cluster"; } 2>/dev/null; printf \'%s\' "$x"', _lock)


def _units(text: str) -> dict[str, Any]:
    """For each unit: state.json, health.json, figures.json, the stat lines of its process and its supervisor."""
    found = {}
    for entry in text.split(UNIT)[1:]:
        name, health, figures, state, stat, supervisor = [*entry.split(FIELD), "", "", "", "", ""][:6]
        documents = (_document(state), _document(health), _document(figures))
        found[name] = (*documents, stat.strip(), supervisor.strip())
    return {"units": found}


UNITS = Fact(
    "units",
    'for d in "$base"/units/*/; do [ -d "$d" ] || continue; d=${d%/}\n'
    'x=; { read -r x < "$d/health.json"; } 2>/dev/null\n'
    f'printf \'{UNIT}%s{FIELD}%s{FIELD}\' "${{d##*/}}" "$x"\n'
    'x=; { read -r x < "$d/figures.json"; } 2>/dev/null\n'
    f"printf '%s{FIELD}' \"$x\"\n"
    'x=; { read -r x < "$d/state.json"; } 2>/dev/null; printf \'%s\' "$x"\n'
    f"{_STATS}; done",
    _units,
)

FACTS = (KERNEL, MACHINE, FREE, LISTENING, HAVE, TOOLS, MANIFEST, LOCK, UNITS, HARDWARE, MODELS)


def observe_script(
    root: NodePath,
    cluster: str,
    node: str,
    prepared: tuple[str, ...],
    *,
    thorough: bool = True,
    hardware: bool = False,
    models: tuple[str, ...] = (),
) -> str:
    """The script that answers every fact of one node. `prepared` are paths below `root`, of plain characters."""
    head = [
        "umask 077",
        assign("root", root),
        assign("cluster", cluster),
        f'base="$root/clusters/$cluster/{node}"',
        assign("prepared", " ".join(prepared)),
        assign("thorough", "yes" if thorough else "no"),
        assign("ask_hardware", "yes" if thorough and hardware else "no"),
        question(models if thorough else ()),
    ]
    asked = [f"printf '{RECORD}{fact.name}\\n'\n{fact.command}" for fact in FACTS]
    return "\n".join([*head, *asked, "printf '\\036end\\n'", "exit 0"])


def parse(node: str, out: str) -> NodeSeen:
    """What `observe_script` printed → what is on the node.

    Raises:
        CommandFailed: the output is cut short, or the node has no /proc as Linux has it.
    """
    answers = dict(part.partition("\n")[::2] for part in out.split(RECORD)[1:])
    if "end" not in answers:
        raise CommandFailed(
            node, "the look at the node was cut short", detail=_lines(out.replace(RECORD, ""))[-5:]
        )
    values: dict[str, Any] = {}
    try:
        for fact in FACTS:
            values.update(fact.parse(answers.get(fact.name, "")))
    except (ValueError, IndexError, KeyError) as error:
        raise CommandFailed(
            node, f"the node answered {fact.name!r} with something unexpected: {error}"
        ) from error
    boot_id, uptime_s = values["boot_id"], values["uptime_s"]
    values["units"] = {
        name: read_files(name, *parts, boot_id=boot_id, uptime_s=uptime_s)
        for name, parts in sorted(values["units"].items())
    }
    values["lock"] = _holder(values["lock"], boot_id, uptime_s)
    return NodeSeen(node=node, **values)


def _holder(found: Mapping[str, Any] | None, boot_id: str, uptime_s: float) -> Holder | None:
    """None where nobody holds it: a lease runs out by the node's own clock, and with its boot."""
    until_s = (found or {}).get("until_s")
    if found is None or found.get("boot_id") != boot_id or not isinstance(until_s, int | float):
        return None
    if until_s <= uptime_s:
        return None
    words = {name: str(found.get(name, "?")) for name in ("who", "host", "doing", "since")}
    return Holder(**words, process=_process(found.get("process")))


def _process(found: Any) -> tuple[int, int, str]:
    try:
        return int(found["pid"]), int(found["starttime"]), str(found["scope"])
    except NONSENSE:
        return 0, 0, ""
