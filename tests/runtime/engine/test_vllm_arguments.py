"""From settings to vLLM's command line, and to its parameters of a request, without vLLM."""

from __future__ import annotations

from typing import Any

import pytest

from dyno_runtime.engine.base import BadJob, EngineError, Job
from dyno_runtime.engine.vllm.arguments import words_of
from dyno_runtime.engine.vllm.library import why_broken
from dyno_runtime.engine.vllm.sampling import sampling_arguments
from dyno_runtime.engine.vllm.transfer import handed_over, side_channel, transfer_config
from dyno_runtime.settings import (
    Endpoint,
    Engine,
    Model,
    Parallel,
    ProcessSettings,
    RoleName,
    Services,
    Transfer,
)
from dyno_runtime.wire.sampling import Sampling

KNOWN = {
    *("model", "block_size", "max_model_len", "tensor_parallel_size", "pipeline_parallel_size"),
    *("data_parallel_size", "max_num_seqs", "enable_prefix_caching", "no_enable_prefix_caching"),
    *("enforce_eager", "hf_overrides", "lora_modules", "quantization", "gpu_memory_utilization", "headless"),
}


def settings(role: RoleName = "decode", connector: str | None = None, **args: Any) -> ProcessSettings:
    return ProcessSettings(
        cluster="c",
        node="n",
        unit=f"{role}-0",
        roles=(role,),
        services=Services((), ""),
        stream=Endpoint("10.0.0.1", 7300),
        model=Model("m", "org/m"),
        engine=Engine("vllm", block_size=64, max_model_len=8192, args=args),
        health_path="",
        parallel=Parallel(tp=8),
        transfer=None if connector is None else Transfer(connector, Endpoint("10.0.0.1", 5600), 30.0),
    )


def given(**args: Any) -> list[str]:
    """The words for these arguments, after those that every worker has."""
    return words_of(settings(**args), KNOWN)[6:]


def test_what_the_topology_says_comes_first() -> None:
    assert words_of(settings(), KNOWN) == [
        "--model=org/m",
        "--block-size=64",
        "--max-model-len=8192",
        "--tensor-parallel-size=8",
        "--pipeline-parallel-size=1",
        "--data-parallel-size=1",
    ]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"max-num-seqs": 16}, ["--max-num-seqs=16"]),
        ({"max_num_seqs": "1k"}, ["--max-num-seqs=1k"]),
        ({"gpu-memory-utilization": 0.95}, ["--gpu-memory-utilization=0.95"]),
        ({"enable-prefix-caching": True}, ["--enable-prefix-caching"]),
        ({"enable_prefix_caching": False}, ["--no-enable-prefix-caching"]),
        ({"enforce-eager": False}, []),
        ({"quantization": None}, []),
        ({"hf-overrides": {"a": [1]}}, ['--hf-overrides={"a":[1]}']),
        ({"lora-modules": ["a=b", {"name": "c"}]}, ["--lora-modules", "a=b", '{"name": "c"}']),
    ],
)
def test_values_mean_what_they_mean_on_the_command_line(args: dict[str, Any], words: list[str]) -> None:
    assert given(**args) == words


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (
            {"max-num-seq": 1},
            "engine.args: the installed vLLM knows no argument max-num-seq; did you mean max-num-seqs?",
        ),
        ({"zzz": 1}, "engine.args: the installed vLLM knows no argument zzz"),
        (
            {"tensor-parallel-size": 8},
            "engine.args: tensor-parallel-size is said by the role's tp; take it out of args",
        ),
        (
            {"kv_transfer_config": {}},
            "engine.args: kv_transfer_config is said by disagg.connector; take it out of args",
        ),
    ],
)
def test_arguments_that_are_refused(args: dict[str, Any], why: str) -> None:
    with pytest.raises(EngineError) as refusal:
        given(**args)
    assert str(refusal.value) == why


def test_a_broken_torchvision_is_told_with_what_to_do() -> None:
    told = why_broken(RuntimeError("operator torchvision::nms does not exist"))
    assert told.startswith("the torchvision in ")
    assert told.endswith(" -m pip uninstall -y torchvision torchaudio torchcodec")


def test_how_kv_travels() -> None:
    assert transfer_config(settings(), "e1") is None
    assert transfer_config(settings("prefill", "nixl-push"), "e1") == {
        "kv_connector": "NixlPushConnector",
        "kv_role": "kv_producer",
        "engine_id": "e1",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"kv_lease_duration": 30},
    }
    config = transfer_config(settings("decode", "nixl"), "e2") or {}
    assert (config["kv_connector"], config["kv_role"]) == ("NixlConnector", "kv_consumer")
    assert side_channel(Transfer("nixl", Endpoint("10.0.0.1", 5600))) == {
        "VLLM_NIXL_SIDE_CHANNEL_HOST": "10.0.0.1",
        "VLLM_NIXL_SIDE_CHANNEL_PORT": "5600",
    }
    with pytest.raises(
        EngineError, match=r"disagg\.connector is 'ftp'; this engine knows nixl and nixl-push"
    ):
        transfer_config(settings("decode", "ftp"), "e3")


def test_a_prefill_without_kv_is_an_error_and_no_silent_second_prefill() -> None:
    assert handed_over({"do_remote_prefill": True}, 30.0) == {
        "params": {"do_remote_prefill": True},
        "lease_s": 30.0,
    }
    with pytest.raises(EngineError, match="vLLM kept no KV of this prefill for the decode worker"):
        handed_over(None, 30.0)


def test_a_request_says_only_what_was_asked_for() -> None:
    defaults = {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 5}
    made = sampling_arguments(Job("r", [1], Sampling(temperature=0, top_k=-1, stop_token_ids=(7,))), defaults)
    assert made == {
        "temperature": 0,
        "top_p": 0.95,
        "top_k": 0,
        "max_tokens": None,
        "min_tokens": 0,
        "ignore_eos": False,
        "detokenize": False,
        "stop_token_ids": [7],
    }


@pytest.mark.parametrize(
    ("form", "made"),
    [
        ({"type": "json_object"}, {"json_object": True}),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"a": 1}}}, {"json": {"a": 1}}),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, {"json_object": True}),
    ],
)
def test_answers_in_a_form(form: dict[str, Any], made: dict[str, Any]) -> None:
    job = Job("r", [1], Sampling(response_format=form))
    assert sampling_arguments(job, {})["structured_outputs"] == made


def test_forms_that_cannot_be_had() -> None:
    with pytest.raises(BadJob, match="this engine knows no response_format of type 'xml'"):
        sampling_arguments(Job("r", [1], Sampling(response_format={"type": "xml"})), {})
    begun = Job("r", [1, 2], Sampling(response_format={"type": "json_object"}), answered=1)
    with pytest.raises(EngineError, match="cannot be continued by another worker"):
        sampling_arguments(begun, {})
