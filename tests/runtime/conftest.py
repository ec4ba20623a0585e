"""Real servers once a session, and `async def` tests run on a loop of their own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import TypeVar

import pytest

from tests.servers import Etcd, Nats

Server = TypeVar("Server", Etcd, Nats)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test to its end; it fails with what it raises."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def running(server: Server) -> Iterator[Server]:
    """The server, while a test or a session has it."""
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """A NATS with JetStream for tests that leave it running."""
    yield from running(Nats(tmp_path_factory.mktemp("nats")))


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd for tests that leave it running."""
    yield from running(Etcd(tmp_path_factory.mktemp("etcd")))


@pytest.fixture
def own_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """A NATS for one test, which may kill it."""
    yield from running(Nats(tmp_path_factory.mktemp("own-nats")))


@pytest.fixture
def own_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd for one test, which may kill it."""
    yield from running(Etcd(tmp_path_factory.mktemp("own-etcd")))
