"""What ships: topologies that are valid, a schema and a reference that say what the models say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from ruamel.yaml import YAML

from dynoctl.cli.schema import text
from dynoctl.topology.kinds import keys_of
from dynoctl.topology.load import parse
from dynoctl.topology.model import Topology
from dynoctl.topology.reference import reference
from dynoctl.topology.schema import schema

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "topologies").glob("*.yaml"))
PROBLEMS = ROOT / "tests" / "golden" / "problems"


def plain(path: Path) -> object:
    return YAML(typ="safe", pure=True).load(path.read_text())


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


def test_topologies_ship() -> None:
    names = {path.name for path in SHIPPED}
    assert {"local.yaml", "hello-agg-2node.yaml", "hello-disagg-3node.yaml"} <= names


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_topology_is_valid(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    parse(path.read_bytes(), path.name)
    assert list(validator.iter_errors(plain(path))) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_topology_points_editors_to_the_schema(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    assert first == "# yaml-language-server: $schema=schema.json"
    assert second == "#"


def test_the_schema_that_ships_is_the_one_of_the_models() -> None:
    assert (ROOT / "topologies" / "schema.json").read_text() == text(), (
        "dynoctl schema > topologies/schema.json"
    )


@pytest.mark.parametrize(
    "name",
    ["key-unknown-leaf", "key-missing", "type-names", "type-range", "type-choice", "type-text-as-number"],
)
def test_the_schema_refuses_what_the_reader_refuses(
    name: str, validator: jsonschema.Draft202012Validator
) -> None:
    assert list(validator.iter_errors(plain(PROBLEMS / f"{name}.yaml")))


def test_the_schema_knows_every_shorthand(validator: jsonschema.Draft202012Validator) -> None:
    whole = {"name": "x", "model": {"id": "m"}, "engine": {"kind": "hello"}}
    shapes: tuple[dict[str, object], ...] = (
        {"frontend": {}, "decode": [{}]},
        {"frontend": [{}], "decode": {}},
    )
    for roles in shapes:
        for service in ("a", {"node": "a", "port": 1}, {"url": "http://h:1"}, {"url": ["http://h:1"]}):
            assert validator.is_valid({**whole, "roles": roles, "services": {"etcd": service}})
    assert not validator.is_valid({**whole, "roles": {"decode": "x"}})


def test_every_key_has_a_description_that_fits_a_table() -> None:
    for section in [Topology, *sections(Topology)]:
        for key in keys_of(section).values():
            description = key.kind.description
            assert description.endswith("."), f"{section.__name__}.{key.name}"
            assert "|" not in description


def sections(section: type) -> list[type]:
    from dynoctl.topology.kinds import section_of

    inner = [found for key in keys_of(section).values() if (found := section_of(key.kind))]
    return [*inner, *(deeper for one in inner for deeper in sections(one))]


def test_the_page_holds_the_reference_of_the_models() -> None:
    path = ROOT / "docs" / "topology.md"
    begin, end = "<!-- reference: begin -->\n", "<!-- reference: end -->\n"
    before, _, rest = path.read_text().partition(begin)
    found, _, after = rest.partition(end)
    if os.environ.get("DYNO_REWRITE") == "1":
        found = reference()
        path.write_text(before + begin + found + end + after)
    assert found == reference(), "the reference is old; DYNO_REWRITE=1 pytest writes it anew"


def test_the_examples_of_the_page_are_valid() -> None:
    page = (ROOT / "docs" / "topology.md").read_text()
    blocks = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    whole = [block for block in blocks if block.startswith("name:")]
    parts = [block for block in blocks if not block.startswith("name:")]
    assert len(whole) >= 2
    for block in whole:
        parse(block, "docs/topology.md")
    base = json.loads(json.dumps(YAML(typ="safe", pure=True).load(whole[0])))
    for block in parts:
        part = YAML(typ="safe", pure=True).load(block)
        merged = {**base, **part, "roles": {**base["roles"], **part.get("roles", {})}}
        parse(json.dumps(merged), "docs/topology.md")
