"""What two vLLM engines have to agree on before KV may travel between them.

In: a loaded engine's configuration. Out: terms, short texts by name, as a worker registers them.
"""

from __future__ import annotations

from typing import Any

from dyno_runtime.settings import ProcessSettings


def terms_of(settings: ProcessSettings, version: str, config: Any) -> dict[str, str]:
    """The terms; none where no KV travels."""
    if settings.transfer is None:
        return {}
    model, parallel = config.model_config, config.parallel_config
    shape = (
        *(getattr(model.hf_config, "architectures", None) or ["?"])[:1],
        f"{model.get_total_num_hidden_layers()} layers",
        f"{model.get_total_num_kv_heads()} KV heads of {model.get_head_size()}",
    )
    return {
        "vllm": version,
        "model": ", ".join(shape),
        "dtype": str(model.dtype).removeprefix("torch."),
        "kv_cache_dtype": str(config.cache_config.cache_dtype),
        "block_size": str(config.cache_config.block_size),
        "connector": settings.transfer.connector,
        "kv_heads": str(model.get_total_num_kv_heads()),
        "tp": str(parallel.tensor_parallel_size),
    }
