"""How much memory a job will need, from a model's configuration alone: nothing is loaded.

The network is built on torch's `meta` device: shapes without values. What the passes take follows from their batches,
which the token budget and the logits held at once bound. The largest stage counts, not the sum: memory is given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from bures.models.batching import LOGIT_BUDGET, TOKEN_BUDGET

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LIBRARIES = 150_000_000
"""What loading any model imports and allocates besides its weights; measured with a model of 0.6 MB."""

_BITS: dict[str, float] = {"bnb-4bit": 4.5, "bnb-8bit": 8.02}
"""Bits of a linear weight with its scale (float32 over 64 weights of 4 bits; over a row of 8 bits)."""

_WINDOW = 257
"""Tokens of a window of the corpus, the one in front included."""


@dataclass(frozen=True)
class Shape:
    """What matters of a model.

    Attributes:
        weights: bytes of its parameters, as they are kept.
        while_loading: bytes that loading takes besides, and gives back.
        itemsize: bytes of one number in its passes.
        vocabulary: number of logits.
        width: of the residual stream.
        inner: widest layer of a block.
        blocks: number of blocks.
        cached: numbers that the cache of keys and values holds for one token, all blocks together.
        resident: numbers of the blocks' weights.
        active: those of them that one token meets: all, but for a mixture of experts.
    """

    weights: int
    while_loading: int
    itemsize: int
    vocabulary: int
    width: int
    inner: int
    blocks: int
    cached: int
    resident: int = 0
    active: int = 0


@dataclass(frozen=True)
class Passes:
    """What a job does with it.

    Attributes:
        prompt_tokens: of the longest prompts, the template's included.
        fitted: prompts whose activations are kept, both sides together.
        scored: prompts of a side whose first token is scored.
        answers: answers that are generated at once at most.
        new_tokens: of an answer; 0: none is generated.
        costed: answers along which costs are measured.
        corpus_tokens: of the text for perplexity.
        token_budget: padded tokens in one pass.
    """

    prompt_tokens: int = 64
    fitted: int = 0
    scored: int = 0
    answers: int = 0
    new_tokens: int = 0
    costed: int = 0
    corpus_tokens: int = 0
    token_budget: int = TOKEN_BUDGET


@dataclass(frozen=True)
class Need:
    """Bytes that a job needs, by what they are for.

    Attributes:
        weights: the model.
        while_loading: more than that, until it is loaded.
        passes: the largest of the passes: stream, keys and values, logits.
        collected: activations that are kept for the fits.
    """

    weights: int
    while_loading: int
    passes: int
    collected: int

    @property
    def total(self) -> int:
        """At the highest point, with the libraries."""
        return LIBRARIES + self.weights + max(self.while_loading, self.passes + self.collected)

    def sentence(self, free: int | None, place: str) -> str:
        """What a user reads before the model is loaded, in one line.

        Args:
            free: bytes that the place has; None: not known.
            place: where the model goes.
        """
        parts = (("weights", self.weights), ("passes", self.passes), ("activations", self.collected))
        said = f"memory: about {_gb(self.total)} at most ({', '.join(f'{name} {_gb(size)}' for name, size in parts)})"
        if free is None:
            return said
        if self.total <= free:
            return f"{said}; {place} has {_gb(free)} free"
        return (
            f"{said}, and {place} has {_gb(free)} free: expect smaller batches, or that it does not load; "
            "--token-budget, --dtype bfloat16, --quantization bnb-4bit and --device auto take less"
        )


def need(shape: Shape, passes: Passes) -> Need:
    """The memory that passes over a model need, in bytes."""
    budget, item = passes.token_budget, shape.itemsize
    full = passes.prompt_tokens + passes.new_tokens

    def rows(width: int, most: int, keep: int = 0) -> int:
        """Rows of the largest batch."""
        by_logits = LOGIT_BUDGET // (shape.vocabulary * keep) if keep else most
        return max(1, min(64, most, budget // width, by_logits)) if most else 0

    def stream(tokens: int) -> int:
        """One block at work: the stream, its norm in float32, queries and keys, the MLP."""
        return tokens * item * (6 * shape.width + 3 * shape.inner) + tokens * 8 * shape.width

    def logits(positions: int) -> int:
        """As they come, in float32 (where that is another format), and as log-probabilities."""
        return positions * shape.vocabulary * (item + (4 if item < 4 else 0) + 4)

    answered = rows(full, passes.answers) if passes.new_tokens else 0
    costed = rows(full, passes.costed, passes.new_tokens + 1) if passes.new_tokens else 0
    read = rows(_WINDOW, passes.corpus_tokens // (_WINDOW - 1), _WINDOW)
    scored = passes.scored * passes.prompt_tokens
    stages = (
        stream(rows(passes.prompt_tokens, passes.fitted // 2) * passes.prompt_tokens),
        answered * (full * shape.cached * item) + stream(answered * passes.prompt_tokens) + logits(answered),
        stream(costed * full)
        + logits(costed * (passes.new_tokens + 1))
        + 4 * costed * (passes.new_tokens + 1) * shape.vocabulary,
        stream(read * _WINDOW) + logits(read * _WINDOW),
        2 * scored * shape.width * item + stream(min(scored, budget)) + 8 * 4 * passes.scored * shape.vocabulary,
    )
    collected = 4 * passes.fitted * shape.blocks * shape.width
    return Need(shape.weights, shape.while_loading, max(stages), collected)


# The model --------------------------------------------------------------------------------------------------------


def shape_of(
    config: PretrainedConfig,
    network: nn.Module,
    *,
    dtype: torch.dtype,
    quantization: str | None = None,
    stored: torch.dtype | None = None,
    is_gguf: bool = False,
) -> Shape:
    """The shape of a model.

    Args:
        config: its configuration.
        network: the model on the meta device.
        dtype: of its parameters once they are loaded.
        quantization: how its linear layers are packed on the way.
        stored: number format in its files, where that is known.
        is_gguf: whether it is dequantised from a GGUF file.
    """
    text: Any = cast("Any", config).get_text_config()
    weights = weight_bytes(network, dtype, _BITS.get(quantization or ""))
    plain = weight_bytes(network, dtype, None)
    numbers = sum(p.numel() for p in network.parameters())
    again = plain if is_gguf else 0 if stored in (None, dtype) else numbers * stored.itemsize
    return Shape(
        weights=weights,
        while_loading=again,
        itemsize=dtype.itemsize,
        vocabulary=int(text.vocab_size),
        width=int(text.hidden_size),
        inner=_inner(text),
        blocks=int(text.num_hidden_layers),
        cached=int(text.num_hidden_layers) * cached_numbers(text),
        **_inside(network, text),
    )


def _inside(network: nn.Module, text: Any) -> dict[str, int]:
    """Numbers of the weights between embedding and head, and those of them that one token meets."""
    ends = {id(p) for m in network.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    named = [(n, p) for n, p in network.named_parameters() if id(p) not in ends and "lm_head" not in n]
    experts = sum(p.numel() for name, p in named if ".experts." in name)
    resident = sum(p.numel() for _, p in named)
    said = (getattr(text, kind, None) for kind in ("num_local_experts", "num_experts", "n_routed_experts"))
    among = next((n for n in said if isinstance(n, int) and n > 0), 1)
    chosen = getattr(text, "num_experts_per_tok", None) or among
    return {"resident": resident, "active": resident - experts + experts * min(chosen, among) // among}


def weight_bytes(network: nn.Module, dtype: torch.dtype, bits: float | None) -> int:
    """Bytes of a model's parameters, tied ones once; `bits` of a linear weight where these are packed."""
    head = cast("Any", network).get_output_embeddings() if hasattr(network, "get_output_embeddings") else None
    packed = {id(m.weight) for m in network.modules() if isinstance(m, nn.Linear) and m is not head and bits}
    return int(
        sum(p.numel() * ((bits or 0.0) / 8 if id(p) in packed else dtype.itemsize) for p in network.parameters())
    )


def on_meta(kind: Any, config: PretrainedConfig, **arguments: Any) -> nn.Module:
    """The network with shapes and no values."""
    with torch.device("meta"):
        network = kind.from_config(config, **arguments)
    network.tie_weights()
    return network


def _inner(text: Any) -> int:
    """The widest layer of a block: of the MLP, or of the experts that a token goes to."""
    dense = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    each = getattr(text, "moe_intermediate_size", None)
    chosen = getattr(text, "num_experts_per_tok", None)
    if not isinstance(each, int) or not isinstance(chosen, int):
        return int(max(dense) if isinstance(dense, (list, tuple)) else dense)
    return max(each * chosen, 0)


def cached_numbers(text: Any) -> int:
    """Keys and values of one token in one block."""
    heads = getattr(text, "num_attention_heads", None) or 1
    if getattr(text, "kv_lora_rank", None):  # transformers caches them expanded
        return int(heads * (text.qk_nope_head_dim + text.qk_rope_head_dim + text.v_head_dim))
    try:
        size = getattr(text, "head_dim", None) or text.hidden_size // heads
        return int(2 * (getattr(text, "num_key_value_heads", None) or heads) * size)
    except RuntimeError:  # they differ from block to block
        return int(2 * text.hidden_size)


# The machine ------------------------------------------------------------------------------------------------------


def free_memory(place: str) -> tuple[int | None, str]:
    """Bytes that are free where a model goes (`auto`: on all devices and in memory), and the place in words."""
    if torch.cuda.is_available() and place != "cpu":
        one = [torch.device(place).index or 0] if place.startswith("cuda") else range(torch.cuda.device_count())
        free = sum(torch.cuda.mem_get_info(index)[0] for index in one)
        if place == "auto":
            return free + (_free_here() or 0), "this machine with its devices"
        return free, place
    return _free_here(), "this machine"


def _free_here() -> int | None:
    """Bytes that a process may take without swapping; a container's limit counts."""
    meminfo = _numbers(Path("/proc/meminfo"))
    free = meminfo.get("MemAvailable:")
    limit, used = _number(Path("/sys/fs/cgroup/memory.max")), _number(Path("/sys/fs/cgroup/memory.current"))
    if limit is not None and used is not None:
        cached = _numbers(Path("/sys/fs/cgroup/memory.stat"), unit=1).get("inactive_file", 0)
        rest = max(0, limit - used + cached)
        return rest if free is None else min(free, rest)
    return free


def _numbers(file: Path, unit: int = 1024) -> Mapping[str, int]:
    """The table in a file of the system; empty where there is none."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) * unit for line in lines if len(line) > 1 and line[1].isdigit()}


def _number(file: Path) -> int | None:
    """The number in a file of the system; None where there is none."""
    try:
        found = file.read_text().strip()
    except OSError:
        return None
    return int(found) if found.isdigit() else None


def _gb(size: int) -> str:
    """In decimal units."""
    if size < 1e9:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:.1f} GB" if size < 10e9 else f"{size / 1e9:.0f} GB"
