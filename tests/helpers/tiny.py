"""Random 3-layer models of every supported family, with a local tokenizer: no download, built in a moment."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "phi3")

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|bos|>", "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>")
VOCABULARY = len(SPECIAL) + 256

PROMPTS = (
    "How do I bake bread?",
    "Name three rivers.",
    "Write a short poem about the sea and the wind, please.",
    "2 + 2?",
    "Explain why the sky is blue to a child of seven years, in two sentences.",
    "List four colours.",
    "What is the capital of France?",
    "Translate good morning into Spanish.",
)


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    """One token per byte, six special ones, a chat template that writes its own BOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|system|>"],
    )
    made.chat_template = TEMPLATE
    return made


def token_of(character: str) -> int:
    """Its one token, of a character that is one byte."""
    found = tokenizer().convert_tokens_to_ids("Ġ" if character == " " else character)
    assert isinstance(found, int)
    return found


def network(family: str, *, layers: int = 3, seed: int = 0, width: int = 32) -> PreTrainedModel:
    """A random float32 model."""
    torch.manual_seed(seed)
    options = {
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": width // 4,
        "max_position_embeddings": 512,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    if family.startswith("gemma"):
        options |= {"sliding_window": 16, "query_pre_attn_scalar": width // 4}
    config = AutoConfig.for_model(family, **options)
    return AutoModelForCausalLM.from_config(config).float().eval()


def folder(path: Path, family: str = "llama", **options: int) -> Path:
    """A model folder as a user would have it."""
    network(family, **options).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path
