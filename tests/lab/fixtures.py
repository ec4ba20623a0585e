"""Pytest fixtures: one lab for the session, hosts with fresh disks for each test.

In: tests that ask for `lab` or `hosts`. Out: four hosts, h1 to h3 bare and h4 with systemd. A test that
leaves processes of the lab's user on a host fails. Where no lab can be made, such tests are skipped with the
reason, or fail when DYNO_REQUIRE_LAB=1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import pytest

from tests.lab.disk import USER_ID
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.needs import missing

GONE_WITHIN_S = 2.0
POLL_S = 0.02


def mark_lab_tests(items: Iterable[pytest.Item]) -> None:
    """Mark every test that uses the lab, and skip it with the reason where no lab can be made."""
    reason = missing(systemd=True)
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker("lab")
        if reason and item.get_closest_marker("lab") and os.environ.get("DYNO_REQUIRE_LAB") != "1":
            item.add_marker(pytest.mark.skip(reason=reason))


class Hosts(Sequence[Host]):
    """The lab's hosts, each with a fresh disk from the moment a test takes it by number, name or loop."""

    def __init__(self, lab: Lab, used: set[str]) -> None:
        self._lab = lab
        self._used = used  # by this or an earlier test since the disk was fresh
        self.taken: list[Host] = []

    def __len__(self) -> int:
        return len(self._lab.hosts)

    @overload
    def __getitem__(self, which: int | str) -> Host: ...
    @overload
    def __getitem__(self, which: slice) -> tuple[Host, ...]: ...
    def __getitem__(self, which: int | str | slice) -> Host | tuple[Host, ...]:
        if isinstance(which, slice):
            return tuple(self._take(host) for host in self._lab.hosts[which])
        return self._take(self._lab[which] if isinstance(which, str) else self._lab.hosts[which])

    def _take(self, host: Host) -> Host:
        if host not in self.taken:
            if host.name in self._used:
                host.wipe()
                host.poweron()
            self._used.add(host.name)
            self.taken.append(host)
        return host


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A lab of four hosts; h4 runs systemd."""
    if reason := missing(systemd=True):
        pytest.fail(f"DYNO_REQUIRE_LAB=1, but {reason}")
    with Lab() as lab:
        lab.start(4, systemd={"h4"})
        yield lab


@pytest.fixture(scope="session")
def _used() -> set[str]:
    return set()


@pytest.fixture
def hosts(lab: Lab, _used: set[str]) -> Iterator[Hosts]:
    """Hosts with fresh disks; fails the test when a process of the lab's user is left on one it took."""
    hosts = Hosts(lab, _used)
    yield hosts
    left = [line for host in hosts.taken for line in leftovers(host)]
    if left:
        pytest.fail("the test left processes behind:\n" + "\n".join(left), pytrace=False)


def leftovers(host: Host) -> list[str]:
    """Processes of the lab's user that do not end by themselves soon, one line each; then ends them."""
    deadline = time.monotonic() + GONE_WITHIN_S
    if host.powered:
        host.thaw()  # frozen processes could not end
    while True:
        left = [process for process in host.processes() if process.uid == USER_ID]
        if not left:
            return []
        if time.monotonic() > deadline:
            host.poweroff()
            return [f"{host.name}: {process}" for process in left]
        time.sleep(POLL_S)
