"""The arguments of the mock engine: what the check knows is what the engine itself takes."""

from __future__ import annotations

import msgspec
import pytest

from dyno_runtime.engine.mock.args import Faults, MockArgs
from dynoctl.topology.rules.arguments import MOCK, MOCK_FAULTS

VALUES = [0, 1, -1, 1.5, 0.0, -0.5, True, False, "x", "inf", {}, []]


def takes(struct: type[msgspec.Struct], name: str, value: object) -> bool:
    try:
        # Two arguments are compared with each other; what else they say is the engine's own business.
        msgspec.convert({name: value}, struct)
    except msgspec.ValidationError as error:
        return "must not be less than" in str(error)
    return True


def test_the_names_are_those_of_the_engine() -> None:
    assert list(MOCK) == [field.name for field in msgspec.structs.fields(MockArgs)]
    assert list(MOCK_FAULTS) == [field.name for field in msgspec.structs.fields(Faults)]


@pytest.mark.parametrize(
    ("struct", "table", "name"),
    [(MockArgs, MOCK, name) for name in MOCK] + [(Faults, MOCK_FAULTS, name) for name in MOCK_FAULTS],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_the_values_are_those_of_the_engine(struct, table, name: str) -> None:
    for value in VALUES:
        assert table[name][1](value) == takes(struct, name, value), (name, value)
