"""The real engine behind the engine protocol: one process runs all scenarios, and each test looks at its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_port
from tests.vllm.conftest import ROOT, Real

pytestmark = pytest.mark.timeout(240)
ENV = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "UCX_TLS": "tcp",
}


@pytest.fixture(scope="module")
def found(real: Real, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script saw."""
    result = tmp_path_factory.mktemp("vllm") / "result.json"
    env = {**os.environ, **ENV, "PYTHONPATH": str(ROOT / "runtime"), "SIDE_CHANNEL": str(free_port())}
    script = Path(__file__).with_name("engine_script.py")
    done = subprocess.run(
        [real.python, script, real.models / "tiny", result],
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    value = json.loads(result.read_text())
    assert isinstance(value, dict)
    return value


def test_arguments_are_judged_by_the_installed_vllm(found: dict[str, Any]) -> None:
    assert found["unknown"] == (
        "engine.args: the installed vLLM knows no argument max-num-seq; did you mean max-num-seqs?"
    )
    assert found["wrong"].startswith("engine.args: argument --max-num-batched-tokens: ")


def test_greedy_text_is_the_same_and_comes_from_the_cache(found: dict[str, Any]) -> None:
    first, again = found["greedy"], found["same"]
    assert (len(first["tokens"]), first["finish"], first["cached"], first["computed"]) == (
        12,
        "length",
        0,
        100,
    )
    assert len(set(first["tokens"])) > 4  # a model that says one thing only would prove nothing
    assert (again["tokens"], again["cached"], again["computed"]) == (first["tokens"], 96, 4)


def test_wishes_are_heeded(found: dict[str, Any]) -> None:
    greedy = found["greedy"]["tokens"]
    assert (found["stopped"]["tokens"], found["stopped"]["finish"]) == (greedy[:4], "stop")
    assert found["seed a"]["tokens"] == found["seed b"]["tokens"] != greedy
    penalised = found["penalty"]["tokens"]
    assert penalised[:12] != greedy or len(set(penalised)) == len(penalised)
    assert found["form"]["finish"] == "stop"
    shown = found["logprobs"]["logprobs"]
    assert [top[0] for _, top in shown] == greedy  # greedy takes the likeliest
    assert {len(top) for _, top in shown} == {2}
    assert all(logprob <= 0 for logprob, _ in shown)


def test_its_blocks_have_our_names_also_when_it_evicts_some(found: dict[str, Any]) -> None:
    assert (found["held"], found["evicted"], found["gaps"]) == (True, [True, True], True)
    assert (found["stats"], found["replayed"]) == (40, True)


def test_kv_that_cannot_be_had_is_computed_here(found: dict[str, Any]) -> None:
    """The counters say so; and nothing but time is lost."""
    lost = found["lost"]
    assert (lost["tokens"], lost["error"]) == (found["greedy"]["tokens"], None)
    assert (lost["computed"], lost["failed_transfers"] > 0) == (100, True)


def test_an_abort_frees_the_blocks_at_once(found: dict[str, Any]) -> None:
    assert found["aborted"] == {"busy": [1, True], "after": [0, 0], "silent": True}


def test_a_prompt_that_vllm_refuses_is_the_clients_mistake(found: dict[str, Any]) -> None:
    assert (found["long"]["finish"], found["long"]["bad"], found["greedy"]["bad"]) == ("error", True, False)
    assert "1024" in found["long"]["error"]


def test_blocks_that_are_only_cached_are_counted(found: dict[str, Any]) -> None:
    count, held = found["cached"]
    assert count == held > 0


def test_a_lease_counts_from_when_the_core_was_done(found: dict[str, Any]) -> None:
    """The core's own time stamp, by our clock: some of it has passed when the prefill is handed over, not much."""
    assert 25.0 < found["lease_s"] < 30.0


def test_a_dead_child_is_noticed_and_nothing_is_told_of_its_requests(found: dict[str, Any]) -> None:
    assert found["died"] == {"why": "vLLM's engine core died; its last lines are in this log", "told": []}


def test_its_terms_for_kv_that_travels(found: dict[str, Any]) -> None:
    terms = found["terms"]
    assert terms.pop("vllm").startswith("0.")
    assert terms == {
        "model": "LlamaForCausalLM, 2 layers, 2 KV heads of 32",
        "dtype": "float32",
        "kv_cache_dtype": "auto",
        "block_size": "32",
        "connector": "nixl",
        "kv_heads": "2",
        "tp": "1",
    }
