"""The house rules that a machine can check: sizes, names, imports, what pure rooms may call, what is left over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.tidy.source import ROOT, Source, dotted, every, product

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "lib"}

# Pauses of a fixed length between two looks, each with a deadline, and why no event could be waited for instead.
PAUSES = {
    "dynoctl/probe/bench/generator.py": "no waits: how often progress is told and silent calls are ended",
    "dynoctl/remote/host_keys.py": "flock has no time-out of its own",
    "node/dyno_node/cgroup.py": "no event tells when an emptied cgroup may be removed",
    "node/dyno_node/lock.py": "flock has no time-out of its own",
    "node/dyno_node/start.py": "a lock that another process holds cannot be waited for with a deadline",
    "node/dyno_node/stop.py": "a lock that another process holds cannot be waited for with a deadline",
    "runtime/dyno_runtime/engine/vllm/engine.py": "vLLM tells by a flag that a child has died",
    "runtime/dyno_runtime/engine/vllm/ranks.py": "vLLM's launcher keeps the ends of its children to itself",
    "runtime/dyno_runtime/roles/prefill.py": "no waits: how often a claim is prolonged, and the queue looked at",
    "runtime/dyno_runtime/roles/prefilling.py": "three things of different kinds that must all be there",
    "runtime/dyno_runtime/roles/ray_node.py": "a port of another machine does not tell when it begins to answer",
    "runtime/dyno_runtime/roles/ray_view.py": "Ray's table of nodes can only be read, not watched",
    "runtime/dyno_runtime/roles/process.py": "what is in flight is counted by the roles, each for itself",
}

PURE = (
    "dynoctl.topology",
    "dynoctl.plan",
    "dynoctl.bench",
    "dyno_runtime.core",
    "dyno_runtime.wire",
    "dyno_runtime.openai",
    "dyno_runtime.metrics",
)
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}
IMPURE_MODULES = {
    "subprocess",
    "socket",
    "threading",
    "random",
    "time",
    "asyncio",
    "requests",
    "urllib.request",
}

# Modules that nothing imports, because they are where a program begins.
ENTRIES = {
    "dynoctl.__main__",
    "dyno_node.__main__",
    "dyno_runtime.__main__",
    "dyno_runtime.roles.ray_view",  # a program of its own
}

# Written in parts, so that this file does not find itself.
LEFTOVERS = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK", "breakpoint" + "()", "pdb." + "set_trace")


def functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_there_is_something_to_look_at() -> None:
    assert len(product()) > 100
    assert len(every()) > len(product()) + 50


def test_files_are_of_a_size_to_be_read() -> None:
    long = {source.name: len(source.text.splitlines()) for source in every()}
    assert {name: lines for name, lines in long.items() if lines > MAX_FILE_LINES} == {}


def test_the_usual_file_is_short() -> None:
    sizes = sorted(len(source.text.splitlines()) for source in product())
    assert sizes[len(sizes) // 2] <= 150


def test_functions_fit_on_a_screen() -> None:
    long = {
        f"{source.name}:{node.lineno} {node.name}": lines
        for source in every()
        for node in functions(source)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert long == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = [source.name for source in every() if VAGUE & {source.path.stem, *source.path.parent.parts[-1:]}]
    assert named == []


def test_imports_are_absolute() -> None:
    relative = [
        f"{source.name}:{node.lineno}"
        for source in every()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def sleeps(source: Source) -> list[int]:
    """Lines with a sleep of a fixed length: a number, or the name of a constant."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and dotted(node.func) in ("time.sleep", "asyncio.sleep", "sleep"):
            length = node.args[0] if node.args else None
            fixed = isinstance(length, ast.Constant) and length.value != 0
            constant = length is not None and re.fullmatch(
                r"_?[A-Z][A-Z0-9_]*", dotted(length).rpartition(".")[2]
            )
            if fixed or constant:
                found.append(node.lineno)
    return found


def test_nothing_sleeps_for_a_fixed_time() -> None:
    found = {source.name for source in product() if sleeps(source)}
    assert found - PAUSES.keys() == set()


def test_the_allowed_pauses_are_still_there() -> None:
    assert {name for name in PAUSES if "sleep(" not in (ROOT / name).read_text()} == set()


@pytest.mark.parametrize("room", PURE)
def test_a_pure_room_does_no_io(room: str) -> None:
    inside = [source for source in product() if source.module == room or source.module.startswith(f"{room}.")]
    assert inside
    called = [
        f"{source.name}:{line} {name}()"
        for source in inside
        for line, name in source.calls()
        if name in IMPURE_CALLS
        or name.rpartition(".")[2] in ("read_text", "write_text", "read_bytes", "system")
    ]
    assert called == []


def test_only_the_verbs_and_show_print() -> None:
    printing = {
        source.module
        for source in product()
        for _, name in source.calls()
        if name == "print" and not source.module.startswith(("dynoctl.cli.", "dynoctl.show."))
    }
    assert printing <= ENTRIES


def test_every_module_is_used() -> None:
    """By a module, or by a test where it is a fake or still has no user; or named as text, to be imported late."""
    imported = {name for source in every() for name in source.imports() if source.module != name}
    named = {
        word for source in product() for word in re.findall(r"[\"']([a-z_]+(?:\.[a-z_]+)+)[\"']", source.text)
    }
    packages = {source.module for source in product() if source.path.name == "__init__.py"}
    assert {source.module for source in product()} - imported - named - packages - ENTRIES == set()


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        source.name
        for source in every()
        if not ast.get_docstring(source.tree) and (source.text.strip() or source in product())
    ]
    assert silent == []


def test_the_page_of_the_architecture_has_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text().split("\n## Rooms\n")[1].split("\n## ")[0]
    packages = [source.module.split(".") for source in product() if source.path.name == "__init__.py"]
    assert {name[1] for name in packages if len(name) == 2} - set(re.findall(r"(\w+)/", page)) == set()
    impure = {room for room in PURE if not re.search(rf"\b{room.rpartition('.')[2]}/\*", page)}
    assert impure == set()


def test_nothing_is_left_over() -> None:
    found = [
        f"{source.name}:{number}"
        for source in every()
        for number, line in enumerate(source.text.splitlines(), start=1)
        if any(re.search(rf"(?<!\w){re.escape(mark)}", line) for mark in LEFTOVERS)
    ]
    assert found == []


def test_nothing_tells_of_the_machine_it_was_written_on() -> None:
    paths = ("/wo" + "rk/", "/ro" + "ot/")
    found = [source.name for source in product() if any(path in source.text for path in paths)]
    assert found == []
