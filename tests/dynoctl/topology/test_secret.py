"""Secrets print as `***`, wherever they come from, and give themselves away only when they are asked."""

from __future__ import annotations

import json

import pytest

from dynoctl.topology.load import parse
from dynoctl.topology.secret import Env, Secret, Url, looks_secret, masked, reveal

FILE = """
name: hello
model: {id: hello}
engine: {kind: hello, args: {hf-token: f00ba7}}
env: {HF_TOKEN: hf_secret, PROXY: "http://me:pa55@proxy:3128", LEVEL: info}
services:
  nats: {url: "nats://admin:hunter2@10.0.0.1:4222"}
  etcd: {url: "http://root:toor@10.0.0.1:2379"}
install: {index_url: "https://user:pypi-pass@index.example/simple"}
roles:
  frontend: {env: {API_KEY: k3y}}
  decode: {}
nodes:
  local: {env: {DB_PASSWORD: sesame}}
"""
SECRETS = ("hf_secret", "pa55", "hunter2", "toor", "pypi-pass", "k3y", "sesame")
# Arguments of an engine go through as they are, so only what is dumped to be shown leaves them out.
ARGUMENTS = ("f00ba7",)


def test_nothing_that_is_printed_holds_a_secret() -> None:
    topology = parse(FILE, "t.yaml")
    printed = [repr(topology), str(topology), json.dumps(topology.dump())]
    printed += [repr(topology.placements), repr(topology.machines), repr(topology.etcd), repr(topology.nats)]
    for secret in SECRETS:
        assert not any(secret in text for text in printed)
    assert not any(secret in json.dumps(topology.dump()) for secret in ARGUMENTS)


def test_a_revealed_dump_reads_back_to_the_same_topology() -> None:
    topology = parse(FILE, "t.yaml")
    again = parse(json.dumps(topology.dump(reveal=True)), "dump")
    assert again == topology
    assert again.dump(reveal=True) == topology.dump(reveal=True)


def test_those_who_need_a_secret_get_it() -> None:
    topology = parse(FILE, "t.yaml")
    frontend = topology.placements[0]
    assert frontend.env.reveal() == {
        "HF_TOKEN": "hf_secret",
        "PROXY": "http://me:pa55@proxy:3128",
        "LEVEL": "info",
        "DB_PASSWORD": "sesame",
        "API_KEY": "k3y",
    }
    assert reveal(topology.nats.urls[0]) == "nats://admin:hunter2@10.0.0.1:4222"
    assert str(topology.nats.urls[0]) == "nats://***@10.0.0.1:4222"
    assert topology.env["LEVEL"] == "info"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "API_KEY",
        "APIKEY",
        "DB_PASSWORD",
        "PGPASSWD",
        "AWS_SECRET_ACCESS_KEY",
        "MY_PASS",
        "BASIC_AUTH",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name", ["NCCL_DEBUG", "PATH", "COMPASS", "AUTHOR", "KEYBOARD", "PASSIVE_MODE", "MAX_TOKENS", "TOKENIZER"]
)
def test_names_of_what_is_no_secret(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  HF_TOKEN: abc", "  HF_TOKEN: ***"),
        ("  HF_TOKEN: a,b c", "  HF_TOKEN: *****"),
        ("env: {HF_TOKEN: abc, A: b}", "env: {HF_TOKEN: ***, A: b}"),
        ("env: {HF_TOKEN: 'a,b', A: b}", "env: {HF_TOKEN: *****, A: b}"),
        ('env: {A: b, my-api-key: "a\\"b"}', "env: {A: b, my-api-key: ******}"),
        ("{'DB_PASS': x, password: y}", "{'DB_PASS': *, password: *}"),
        ("url: nats://me:pw@h:1", "url: nats://*****@h:1"),
        ("--set env.HF_TOKEN=abc", "--set env.HF_TOKEN=***"),
        ("max_tokens: 5", "max_tokens: 5"),
        ("name: hello", "name: hello"),
        ("# the token is below", "# the token is below"),
    ],
)
def test_lines_are_shown_without_secrets_and_keep_their_length(line: str, shown: str) -> None:
    assert masked(line) == shown
    assert len(masked(line)) == len(line)


def test_secrets_compare_by_value_and_stay_hidden() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("http://h") != Url("http://h")
    assert len({Secret("a"), Secret("a")}) == 1
    assert f"{Secret('a')}" == "***"


def test_an_environment_lays_over_another() -> None:
    env = Env({"A": "1", "B_TOKEN": "x"}) | Env({"A": "2"})
    assert env.reveal() == {"A": "2", "B_TOKEN": "x"}
    assert repr(env) == "Env({'A': '2', 'B_TOKEN': ***})"
