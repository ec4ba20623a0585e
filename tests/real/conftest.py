"""A lab of its own for tests of the whole: four hosts whose disks stay, so that installing is paid for once.

In: tests that ask for `machines`. Out: h1 to h3 (bare) and h4 (systemd), whole and empty: whatever a test left on one
of them fails that test. Wheels come from `scripts/test-wheels`, which `scripts/test` runs before pytest.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import needs
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.real.dynoctl_runs import Dynoctl
from tests.real.left import left

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them, and skip them with the reason where they cannot run."""
    reason = needs.missing(systemd=True) or _no_wheels()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("lab")
            if reason and os.environ.get("DYNO_REQUIRE_LAB") != "1":
                item.add_marker(pytest.mark.skip(reason=reason))


def _wheelhouse() -> Path:
    done = subprocess.run(
        [ROOT / "scripts" / "test-wheels", "path", "lab"], capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def _no_wheels() -> str | None:
    found = _wheelhouse()
    return None if found.is_dir() else f"there are no wheels in {found}; get them with: scripts/test-wheels"


@pytest.fixture(scope="session")
def wheelhouse() -> Path:
    """Wheels that fit the hosts' python."""
    if reason := _no_wheels():
        pytest.fail(f"DYNO_REQUIRE_LAB=1, but {reason}")
    return _wheelhouse()


@pytest.fixture(scope="session")
def real_lab() -> Iterator[Lab]:
    """Four hosts; h4 runs systemd."""
    if reason := needs.missing(systemd=True):
        pytest.fail(f"DYNO_REQUIRE_LAB=1, but {reason}")
    with Lab() as lab:
        lab.start(4, systemd={"h4"})
        yield lab


@pytest.fixture
def machines(real_lab: Lab) -> Iterator[tuple[Host, ...]]:
    """The hosts, on and whole; afterwards nothing of a cluster may be on them."""
    yield real_lab.hosts
    found = []
    for host in real_lab.hosts:
        _mend(host)
        if lines := left(host):
            host.wipe()
            found += lines
    if found:
        pytest.fail("the test left on hosts:\n" + "\n".join(found), pytrace=False)


def _mend(host: Host) -> None:
    if not host.powered:
        host.poweron()
    host.thaw()
    host.heal()
    host.disk_free()


@pytest.fixture
def dynoctl(tmp_path: Path) -> Dynoctl:
    """The machine of the person who runs dynoctl."""
    return Dynoctl(tmp_path / "here")
