"""The source files of the project, parsed once.

In: nothing. Out: a `Source` for each Python file of a room.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = {
    "dynoctl": ROOT / "dynoctl",
    "dyno_runtime": ROOT / "runtime" / "dyno_runtime",
    "dyno_node": ROOT / "node" / "dyno_node",
}


@dataclass(frozen=True)
class Source:
    """One file. `module` is its dotted name where it belongs to a package of ours."""

    path: Path
    module: str = ""

    @property
    def name(self) -> str:
        """Its path as people write it."""
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def calls(self) -> list[tuple[int, str]]:
        """Every call as (line, dotted name of what is called)."""
        found = (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))
        return [(node.lineno, dotted(node.func)) for node in found]

    def imports(self) -> set[str]:
        """Dotted names of what is imported, `from x import y` as both x and x.y."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        return found


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression; empty where it is no name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else node.attr
    return ""


@cache
def product() -> tuple[Source, ...]:
    """What runs at users'."""
    found = []
    for package, folder in PRODUCT.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found.append(Source(path, ".".join(parts).removesuffix(".__init__")))
    return tuple(found)


@cache
def every() -> tuple[Source, ...]:
    """All Python that is kept, tests included."""
    others = (path for name in ("tests", "benchmarks", "scripts") for path in (ROOT / name).rglob("*.py"))
    return (*product(), *(Source(path) for path in sorted(others)))
