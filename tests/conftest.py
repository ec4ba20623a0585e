"""Fixtures that every test may ask for. Those of the lab come from tests/lab/fixtures.py."""

from __future__ import annotations

import pytest

from tests.lab.fixtures import _used, hosts, lab, mark_lab_tests

__all__ = ["_used", "hosts", "lab"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the lab, so that `-m 'not lab'` leaves it out."""
    mark_lab_tests(items)
