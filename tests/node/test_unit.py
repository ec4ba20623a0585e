"""`unit.json`: strict, with a sentence for each thing that can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dyno_node import cgroup
from dyno_node.unit import BadUnit, Log, Restart, UnitDir, load

WHOLE = {"unit": "a-0", "cluster": "c", "node": "n", "digest": "d", "argv": ["/bin/true"]}


def write(tmp_path: Path, **more: object) -> UnitDir:
    place = UnitDir.at(str(tmp_path))
    place.unit.write_text(json.dumps({**WHOLE, **more}))
    return place


def test_defaults(tmp_path: Path) -> None:
    unit = load(write(tmp_path))
    assert (unit.backend, unit.listens, unit.stop_grace_s, dict(unit.env)) == ("agent", (), 10.0, {})
    assert unit.restart == Restart(max=5, within_s=300.0, first_wait_s=0.5, longest_wait_s=30.0)
    assert unit.log == Log(max_bytes=10_000_000, keep=3)
    assert unit.mark == "c/n/a-0"


def test_a_symbolic_link_leads_to_the_same_unit(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert UnitDir.at(str(tmp_path / "link")) == UnitDir.at(str(tmp_path / "real"))


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"colour": "blue"}, "colour is not known"),
        ({"argv": []}, "argv is empty"),
        ({"argv": ["a", 1]}, "argv holds something else than a text"),
        ({"argv": "a"}, "argv holds something else than a text"),
        ({"env": {"A": 1}}, "env holds something else than a text"),
        ({"env": ["A"]}, "env is not an object"),
        ({"listens": ["80"]}, "listens holds something else than a whole number"),
        ({"digest": 5}, "digest is 5, not a text"),
        ({"stop_grace_s": "5"}, 'stop_grace_s is "5", not a number'),
        ({"stop_grace_s": -1}, "stop_grace_s is below 0"),
        ({"restart": {"max": 1.5}}, "restart.max is 1.5, not a whole number"),
        ({"restart": {"often": 1}}, "restart.often is not known"),
        ({"log": []}, "log is not an object"),
        ({"backend": "docker"}, "backend is 'docker', not agent or systemd"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, more: dict[str, object], error: str) -> None:
    place = write(tmp_path, **more)
    with pytest.raises(BadUnit) as raised:
        load(place)
    assert str(raised.value) == f"{place.unit}: {error}"


@pytest.mark.parametrize("name", ["unit", "cluster", "node", "digest", "argv"])
def test_what_is_missing_is_said(tmp_path: Path, name: str) -> None:
    place = UnitDir.at(str(tmp_path))
    place.unit.write_text(json.dumps({key: value for key, value in WHOLE.items() if key != name}))
    with pytest.raises(BadUnit) as raised:
        load(place)
    assert str(raised.value) == f"{place.unit}: {name} is missing"


def test_names_of_cgroups_and_services_do_not_meet() -> None:
    here, there = Path("/a"), Path("/b")
    name = cgroup.name_for("a-b/c/d-0", here)
    assert name.startswith("dyno-a-b:c:d-0-")
    assert name.startswith(cgroup.prefix_for("a-b/c/"))
    assert len({name, cgroup.name_for("a/b-c/d-0", here), cgroup.name_for("a-b/c/d-0", there)}) == 3
    assert cgroup.prefix_for("ä b/c/d") == "dyno-\\xe4\\x20b:c:d"
