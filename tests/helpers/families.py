"""One tiny random model for every way in which decoders differ; every parameter does something."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from helpers.tiny import VOCABULARY

WIDTH, LAYERS = 32, 4

_IDS = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_TEXT = {
    **_IDS,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
_EYE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
_ALTERNATE = ["sliding_attention", "full_attention"] * 2
_GEMMA4 = {
    **_TEXT,
    "global_head_dim": 16,
    "sliding_window": 16,
    "layer_types": _ALTERNATE,
    "vocab_size_per_layer_input": VOCABULARY,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 0,
}
_MAMBA = {"mamba_d_state": 8, "mamba_d_head": 8, "mamba_n_heads": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


@dataclass(frozen=True)
class Family:
    """How a family is built, and what is known of it.

    Attributes:
        kind: transformers' model type.
        cls: its class.
        options: of the configuration.
        blocks: how many run on text.
        writers: how many modules of each block write to the stream; 0: not known.
        entry: the last block at which a pass may be entered.
        pads_matter: whether only prompts of equal length share a batch.
    """

    kind: str
    cls: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    blocks: int = LAYERS
    writers: int = 2
    entry: int = LAYERS - 1
    pads_matter: bool = False


FAMILIES: dict[str, Family] = {
    # A norm behind attention and MLP, under names of its own.
    "norms behind": Family("olmo2", "Olmo2ForCausalLM", _TEXT),
    "norms on both sides": Family("glm4", "Glm4ForCausalLM", _TEXT),
    "no norm behind": Family("vaultgemma", "VaultGemmaForCausalLM", {**_TEXT, "layer_types": _ALTERNATE}),
    # Where the stream goes through modules.
    "a module adds the residual": Family(
        "bloom", "BloomForCausalLM", {**_IDS, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": 4}
    ),
    "a norm on the stream": Family(
        "opt",
        "OPTForCausalLM",
        {**_TEXT, "ffn_dim": 64, "do_layer_norm_before": False, "word_embed_proj_dim": 16},
    ),
    "tokens in one row": Family("opt", "OPTForCausalLM", {**_TEXT, "ffn_dim": 64, "word_embed_proj_dim": WIDTH}),
    "elementwise residual weights": Family("doge", "DogeForCausalLM", _TEXT, writers=0),
    # More or fewer writers than two.
    "side by side": Family("falcon_h1", "FalconH1ForCausalLM", {**_TEXT, **_MAMBA, "mamba_d_ssm": 64}, writers=3),
    "one mixer": Family(
        "nemotron_h",
        "NemotronHForCausalLM",
        {
            **_TEXT,
            "layer_types": ["linear_attention", "moe", "full_attention", "mlp"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 1,
            "chunk_size": 8,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "moe_shared_expert_intermediate_size": 16,
            "use_mamba_kernels": False,
        },
        writers=1,
    ),
    "experts beside an MLP": Family(
        "granitemoehybrid",
        "GraniteMoeHybridForCausalLM",
        {
            **_TEXT,
            **_MAMBA,
            **_EXPERTS,
            "shared_intermediate_size": 32,
            "residual_multiplier": 0.5,
            "layer_types": ["mamba", "attention"] * 2,
        },
        writers=3,
    ),
    "router and experts": Family(
        "gemma4_text",
        "Gemma4ForCausalLM",
        {**_GEMMA4, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16},
    ),
    "shared keys, inputs per layer": Family(
        "gemma4_text",
        "Gemma4ForCausalLM",
        {**_GEMMA4, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2},
        writers=3,
        entry=-1,
    ),
    # Wrappers.
    "masks in a dict": Family(
        "gemma3",
        "Gemma3ForConditionalGeneration",
        {
            "text_config": {**_TEXT, "model_type": "gemma3_text", "sliding_window": 16, "layer_types": _ALTERNATE},
            "vision_config": {**_EYE, "model_type": "siglip_vision_model"},
        },
    ),
    "not among the causal ones": Family(
        "mistral3",
        "Mistral3ForConditionalGeneration",
        {
            "text_config": {**_TEXT, "model_type": "mistral"},
            "vision_config": {**_EYE, "model_type": "pixtral", "head_dim": 8},
        },
    ),
    "blocks that need an image": Family(
        "mllama_text_model",
        "MllamaForCausalLM",
        {**_TEXT, "cross_attention_layers": [1]},
        blocks=LAYERS - 1,
        entry=LAYERS - 2,
    ),
    # Pads.
    "pads that matter": Family(
        "recurrent_gemma",
        "RecurrentGemmaForCausalLM",
        {**_TEXT, "lru_width": WIDTH, "attention_window_size": 16, "block_types": ["recurrent", "attention"]},
        pads_matter=True,
    ),
}


def network(name: str, *, seed: int = 0) -> PreTrainedModel:
    """A random float32 model of a family."""
    family = FAMILIES[name]
    torch.manual_seed(seed)
    config = config_of(family.kind, family.options)
    hf = getattr(transformers, family.cls)(config).float().eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for buffer_name, buffer in hf.named_buffers():
            if buffer_name.endswith("layer_scalar"):
                buffer.fill_(0.8)
    return hf


def config_of(kind: str, options: dict[str, Any]) -> Any:
    if kind == "mllama_text_model":  # known by its class only
        return transformers.models.mllama.MllamaTextConfig(**options)
    return AutoConfig.for_model(kind, **options)
