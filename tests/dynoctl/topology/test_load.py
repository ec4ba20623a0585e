"""Parsing: what is read, in which spellings, and what can never happen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynoctl.errors import TopologyError
from dynoctl.topology.compose import MAX_CHARS, compose, scalar_value
from dynoctl.topology.document import Scalar
from dynoctl.topology.engine import Disagg, Engine
from dynoctl.topology.kinds import keys_of
from dynoctl.topology.load import parse
from dynoctl.topology.machines import Node
from dynoctl.topology.model import Topology
from dynoctl.topology.problem import InvalidTopology, Problem
from dynoctl.topology.roles import Roles, Worker
from dynoctl.topology.services import Etcd, Services

SECTIONS = (Topology, Roles, Worker, Node, Engine, Services, Etcd, Disagg)
SMALL = """
name: hello
model: {id: hello}
engine: {kind: hello}
roles:
  frontend: {}
  decode: {}
"""


def problems(content: bytes | str, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidTopology) as caught:
        parse(content, "t.yaml", overrides)
    return caught.value.problems


def test_the_smallest_file_has_every_default() -> None:
    topology = parse(SMALL, "t.yaml")
    assert topology.name == "hello"
    assert (topology.engine.block_size, topology.engine.max_model_len) == (64, 8192)
    assert list(topology.machines) == ["local"]
    assert topology.disagg.mode == "off"
    assert topology.state_dir == "~/.dynoctl"


@pytest.mark.parametrize(
    "content",
    [SMALL.encode(), b"\xef\xbb\xbf" + SMALL.encode(), SMALL.replace("\n", "\r\n"), "\ufeff" + SMALL],
)
def test_bytes_and_text_a_byte_order_mark_and_carriage_returns(content: bytes | str) -> None:
    assert parse(content, "t.yaml") == parse(SMALL, "t.yaml")


def test_anchors_aliases_and_merges() -> None:
    text = SMALL.replace(
        "decode: {}", "decode: [&w {tp: 2, env: {A: a}}, *w, {<<: *w, tp: 4}, {<<: [{pp: 1}, *w]}]"
    )
    workers = parse(text, "t.yaml").roles.decode
    assert [worker.tp for worker in workers] == [2, 2, 4, 2]
    assert all(worker.env["A"] == "a" for worker in workers)


def test_a_map_and_a_list_of_one_are_the_same() -> None:
    assert parse(SMALL.replace("decode: {}", "decode: [{}]"), "t.yaml") == parse(SMALL, "t.yaml")


def test_an_override_replaces_one_leaf_and_leaves_its_siblings() -> None:
    text = SMALL.replace("decode: {}", "decode: {tp: 2, replicas: 3}")
    worker = parse(text, "t.yaml", ["roles.decode.tp=4"]).roles.decode[0]
    assert (worker.tp, worker.replicas) == (4, 3)


def test_an_override_reaches_into_a_list_by_index() -> None:
    text = SMALL.replace("decode: {}", "decode: [{tp: 1}, {tp: 2}]")
    workers = parse(text, "t.yaml", ["roles.decode.1.tp=8"]).roles.decode
    assert [worker.tp for worker in workers] == [1, 8]


def test_an_override_may_say_item_zero_of_a_single_map() -> None:
    assert parse(SMALL, "t.yaml", ["roles.decode.0.tp=8"]).roles.decode[0].tp == 8


def test_an_override_makes_the_maps_on_its_way() -> None:
    assert parse(SMALL, "t.yaml", ["nodes.local.env.A=b"]).nodes["local"].env["A"] == "b"


def test_an_override_of_a_service_keeps_the_node_that_stands_for_it() -> None:
    etcd = parse(SMALL + "services: {etcd: local}\n", "t.yaml", ["services.etcd.port=2400"]).etcd
    assert (etcd.node, etcd.port) == ("local", 2400)


def test_an_override_does_not_reach_through_an_alias() -> None:
    text = SMALL.replace("decode: {}", "decode: &w {tp: 1}\n  prefill: *w\ndisagg: {mode: always}")
    topology = parse(text, "t.yaml", ["roles.decode.tp=4"])
    assert (topology.roles.decode[0].tp, topology.roles.prefill[0].tp) == (4, 1)


def test_an_override_takes_flow_values_and_the_last_one_wins() -> None:
    topology = parse(SMALL, "t.yaml", ["env={A: b}", "roles.decode={replicas: 2}", "roles.decode.replicas=5"])
    assert topology.env["A"] == "b"
    assert topology.roles.decode[0].replicas == 5


@pytest.mark.parametrize(
    ("content", "line", "column", "message"),
    [
        (b"name: hello\nx: \xff\n", 2, 4, "not text: the byte 0xff is not UTF-8"),
        ("name: he\x00llo\n", 1, 9, "not text: a character U+0000 stands here"),
        (b"\x7fELF\x02\x01\x01\x00\x00", 1, 1, "not text: a character U+007F stands here"),
        (b"", 1, 1, "the file is empty"),
        ("# " + "x" * MAX_CHARS, 1, 1, "500,002 characters are too many for a topology (at most 500,000)"),
    ],
)
def test_what_is_no_text_at_all(content: bytes | str, line: int, column: int, message: str) -> None:
    (problem,) = problems(content)
    assert (problem.mark.line, problem.mark.column, problem.message) == (line, column, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SMALL.replace("decode: {}", "decode: [" + "{replicas: 1024}, " * 5 + "]"),
            "5,121 units are too many (at most 4,096)",
        ),
        (
            SMALL + "env: {" + ", ".join(f"A{n}: [x]" for n in range(5000)) + "}",
            "expected text, found a list",
        ),
        (SMALL + "".join(f"key{n}: 1\n" for n in range(5000)), "unknown key"),
        (SMALL + "extra: " + "token" * 90_000, "unknown key"),
        (
            SMALL.replace("decode: {}", "decode: {nodes: [" + "local, " * 4_000 + "]}"),
            "'local' stands in the list twice",
        ),
    ],
)
def test_what_is_huge_is_refused_and_the_refusal_is_not_huge(text: str, message: str) -> None:
    found = problems(text)
    assert found[-1].message.startswith(message)
    assert len(found) <= 100


def test_a_problem_as_a_value() -> None:
    (problem,) = problems(SMALL.replace("decode: {}", "decode: {tpp: 1}"))
    assert problem.document("t.yaml") == {
        "file": "t.yaml",
        "line": 7,
        "column": 12,
        "path": "roles.decode.tpp",
        "message": "unknown key",
        "hint": "did you mean 'tp'?",
    }
    (problem,) = problems(SMALL, "env.API_TOKEN=[s3cret]")
    assert problem.document("t.yaml")["file"] == "--set env.API_TOKEN=********"
    assert problem.document("t.yaml")["line"] is None


def test_the_error_is_one_of_ours_and_says_how_many() -> None:
    with pytest.raises(TopologyError, match=r"^t\.yaml is not a valid topology: 2 problems$") as caught:
        parse(SMALL.replace("name: hello", "nmae: hello") + "extra: 1\n", "t.yaml")
    assert caught.value.detail[0] == "t.yaml:2:1: nmae: unknown key"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("0", 0),
        ("-12", -12),
        ("+5", 5),
        ("007", "007"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", ".5"),
        (".inf", ".inf"),
        ("9" * 30, "9" * 30),
        ("2024-01-01", "2024-01-01"),
        ("12:30", "12:30"),
    ],
)
def test_scalars_mean_what_they_mean_to_every_reader_of_yaml(text: str, value: object) -> None:
    assert scalar_value(text) == value
    assert type(scalar_value(text)) is type(value)


def test_quotes_make_text() -> None:
    found: list[Problem] = []
    node = compose("'true'", found)
    assert isinstance(node, Scalar)
    assert (node.value, found) == ("true", [])


def parses_or_refuses(content: bytes | str, *overrides: str) -> None:
    try:
        assert isinstance(parse(content, "t.yaml", overrides), Topology)
    except TopologyError as error:
        if not error.detail:
            raise AssertionError("an error without a problem") from error


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_topology_or_refused(text: str) -> None:
    parses_or_refuses(text)
    parses_or_refuses(SMALL, text)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_topology_or_refused(content: bytes) -> None:
    parses_or_refuses(content)


WORDS = "name roles decode nodes tp 8 1.5 true".split(" ")  # noqa: SIM905 - words read better
ODDITIES = [
    "\\U0010FFFF",
    "\\UFFFFFFFF",
    "\\x",
    "\x85",
    "\u2028",
    "!!int ",
    "%YAML 1.1\n",
    "---\n",
    "...",
    "<<: ",
]
SIGNS = [*"{}[]:,-&*!|>'\"%@`#?~<=.\\ \n\t", "\n  ", ": ", "- ", "&a ", "*a"]
YAML_BITS = st.sampled_from([*SIGNS, *ODDITIES, *WORDS])


@given(st.lists(YAML_BITS, max_size=60).map("".join))
@settings(max_examples=400, deadline=None)
def test_anything_made_of_yaml_is_a_topology_or_refused(text: str) -> None:
    parses_or_refuses(text)
    parses_or_refuses(SMALL + text)


KEYS = st.sampled_from(sorted({key for section in SECTIONS for key in keys_of(section)}))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | KEYS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_tree_is_a_topology_or_refused(tree: dict[str, object]) -> None:
    parses_or_refuses(json.dumps(tree))
    whole = {
        "name": "x",
        "model": {"id": "m"},
        "engine": {"kind": "hello"},
        "roles": {"frontend": {}, "decode": {}},
    }
    parses_or_refuses(json.dumps({**whole, **tree}))
