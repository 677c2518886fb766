"""The parts of a decoder that hooks attach to, found by structure and numbers and never by a model's name.

The blocks are the modules of one `ModuleList` whose outputs are the model's own `hidden_states` in a short forward
pass. The same pass tells whether the model is causal, and whether pads change what a prompt's tokens become; a second
one finds what writes to the residual stream (`bures.models.writers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from bures.errors import ConfigError, ModelError
from bures.models.probing import blocks_of, is_causal, look, pads_matter
from bures.models.quantization import described, is_packed
from bures.models.room import is_out_of_memory
from bures.models.wrappers import refusal
from bures.models.writers import Role, find_writers, reads_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_UNBOUNDED = 1 << 40
"""Tokenizers that know no limit say 10 to the 30th."""


@dataclass(frozen=True)
class Parts:
    """Decoder (the network without `lm_head`), its blocks first to last, and what each adds to the residual stream.

    Attributes:
        decoder: the network without `lm_head`.
        blocks: those that run on text, first to last.
        attentions: the module of each block whose output is what its attention (or the state space or convolution in
            its place) adds; None where not every block has one.
        mlps: the same of its MLP or experts.
        others: a further such module of each block (a state space beside the attention, experts beside the MLP, inputs
            per layer; the only one where blocks differ); None where there is none.
        written: block and role -> every module there whose output is added; more than the three above where blocks
            have many.
        unverified: why what the blocks add was not found; empty: it was, and checked.
        pads_matter: whether pads change what the model computes, so that only prompts of equal length share a batch.
    """

    decoder: nn.Module
    blocks: tuple[nn.Module, ...]
    attentions: tuple[nn.Module, ...] | None
    mlps: tuple[nn.Module, ...] | None
    others: tuple[nn.Module, ...] | None
    written: Mapping[tuple[int, Role], tuple[nn.Module, ...]]
    unverified: str = ""
    pads_matter: bool = False

    def writers(self, block: int, role: Role) -> tuple[nn.Module, ...]:
        """What a block's attention or MLP adds to the stream comes out of these; none where it has no such part.

        Raises:
            ConfigError: what the blocks add could not be found.
        """
        if self.unverified:
            raise ConfigError(
                f"what {role} adds to the residual stream is not known ({self.unverified}); "
                "use the input or the output of the block"
            )
        return self.written.get((block, role), ())


def find_parts(hf: PreTrainedModel, name: str) -> Parts:
    """The parts of a model.

    Raises:
        ModelError: they were not found, or are not what they seem; the architecture is named.
    """
    if getattr(hf.config, "is_encoder_decoder", False):
        raise refusal(type(hf).__name__, f"{name} is an encoder-decoder")
    decoder = cast("nn.Module", hf.get_decoder()) if hasattr(hf, "get_decoder") else hf
    architecture = type(hf).__name__
    try:
        seen = look(hf, decoder)
        blocks, reason = blocks_of(seen, int(text_config(hf).hidden_size))
        if reason:
            if not getattr(text_config(hf), "num_attention_heads", None):
                reason = f"{reason}; it has no attention, as a state-space or recurrent model"
            raise refusal(architecture, f"{name} {reason}")
        if not any(reads_mask(module) for block in blocks for module in block.modules()):
            raise refusal(architecture, f"{name} has no attention, as a state-space or recurrent model")
        if not is_causal(seen, blocks[-1]):
            raise refusal(
                architecture,
                f"in {name} later tokens change what earlier ones become, as in a masked encoder or a diffusion model",
            )
        writers, unverified = find_writers(decoder, blocks, seen.ids)
        uneven, reason = pads_matter(seen, decoder, blocks[-1])
        if reason:
            raise refusal(architecture, f"{name} {reason}")
    except ModelError:
        raise
    except Exception as error:  # whatever a modelling file raises
        if is_out_of_memory(error):
            raise
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        if is_packed(hf):
            raise ModelError(
                f"{name} does not run here with its weights packed ({described(hf)}: {what}); take another "
                "--quantization, another device or the unpacked checkpoint"
            ) from error
        raise refusal(architecture, f"{name} does not run on text alone as a decoder does ({what})") from error
    return Parts(
        decoder=decoder,
        blocks=blocks,
        attentions=writers.attentions,
        mlps=writers.mlps,
        others=writers.others,
        written=writers.written,
        unverified=unverified,
        pads_matter=uneven,
    )


def text_config(hf: PreTrainedModel) -> Any:
    """The language model's configuration, also inside a multimodal one."""
    return cast("Any", hf.config).get_text_config()


def window_of(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Tokens that the model reads at once; None where it does not say."""
    said = (getattr(text_config(hf), "max_position_embeddings", None), tokenizer.model_max_length)
    return min((int(n) for n in said if isinstance(n, int) and 0 < n < _UNBOUNDED), default=None)
