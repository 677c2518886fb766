"""Chat models: load a hub id, a folder or a GGUF file, and tokenise through the chat template."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from bures.data import assets
from bures.data.conversations import PromptLike
from bures.data.home import expanded
from bures.errors import ModelError, plain
from bures.models.architecture import Parts, find_parts, text_config, window_of
from bures.models.chat import Chat
from bures.models.checkpoints import (
    adapter_folder,
    from_pretrained,
    merge,
    organism_adapter,
    trained_on,
)
from bures.models.dequantised import Kept
from bures.models.offloading import count, device_of, fingerprint, remarks, whereabouts
from bures.models.precision import widen
from bures.models.quantization import Quantization, described, gguf_packed_again
from bures.models.reentry import Entries
from bures.models.room import Room
from bures.models.settling import settled
from bures.models.sources import Dtype, place_of, require_on_hub, resolve, torch_dtype
from bures.models.thinking import Thinking

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ORGANISM = "organism"
"""The name under which the packaged model organism is loaded: a pinned SmolLM2-135M-Instruct with a refusal adapter."""

BASE_OF_ORGANISM = "smollm2-135m-instruct"

NAME_OF_ITS_BASE = "SmolLM2-135M-Instruct"
"""What an organism's adapter calls the model that it was trained on."""


@dataclass(frozen=True)
class ChatModel:
    """A causal language model, its tokenizer and the parts that hooks attach to.

    Attributes:
        hf: the transformers model, in evaluation mode.
        tokenizer: its tokenizer; has a chat template.
        name: what the user asked for.
        parts: what hooks attach to.
        chat: how it is spoken to.
        notes: what a reader of its figures has to know.
        room: how large batches may be, where memory has run out.
        entries: where passes may begin.
    """

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    parts: Parts
    chat: Chat
    notes: tuple[str, ...] = ()
    room: Room = field(default_factory=Room, repr=False, compare=False)
    entries: Entries = field(default_factory=Entries, repr=False, compare=False)

    @property
    def decoder(self) -> nn.Module:
        """The network without `lm_head`; returns the final residual stream."""
        return self.parts.decoder

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The decoder blocks, first to last."""
        return self.parts.blocks

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(text_config(self.hf).hidden_size)

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(text_config(self.hf).vocab_size)

    @property
    def device(self) -> torch.device:
        """Device of the input embeddings; where token ids must be."""
        return device_of(self.hf)

    @property
    def pad_id(self) -> int:
        """What pads hold; they are never attended, so any valid token id serves."""
        for candidate in (self.tokenizer.pad_token_id, *self.eos_ids):
            if isinstance(candidate, int):
                return candidate
        return 0

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Token ids that end an answer: the generation configuration's, the tokenizer's and the chat template's."""
        configured: Any = getattr(cast("Any", self.hf).generation_config, "eos_token_id", None)
        listed: list[Any] = [*configured] if isinstance(configured, list) else [configured]
        listed += [self.tokenizer.eos_token_id, *self.chat.ends.ids]
        return tuple(dict.fromkeys(int(i) for i in listed if isinstance(i, int)))

    def encode(self, prompts: Iterable[PromptLike], *, system: str | None = None) -> list[list[int]]:
        """Token ids of each prompt, with the generation prompt, by the tokenizer's own chat template.

        A prompt is a user turn or a conversation that ends with one.

        Raises:
            PromptError: that is no list of prompts.
            ModelError: the template cannot render them (for example it has no system turn), or makes the same of
                prompts that differ.
        """
        return self.chat.encode(prompts, system=system)

    def asked(
        self, *, thinking: Thinking | None = None, thinking_tokens: int | None = None, date: str | None = None
    ) -> ChatModel:
        """The same model, spoken to in another way; what is left out stays.

        Args:
            thinking: whether it is to think before it answers.
            thinking_tokens: for how many tokens.
            date: the day that the template is told, where it asks for one (ISO).
        """
        asked = settled(
            self.tokenizer,
            self.name,
            hf=self.hf,
            thinking=thinking or self.chat.thinking,
            thinking_tokens=thinking_tokens or self.chat.thinking_tokens,
            date=date or self.chat.date,
        )
        return replace(self, chat=asked)

    @property
    def window(self) -> int | None:
        """Tokens that the model reads at once; None where it does not say."""
        return window_of(self.hf, self.tokenizer)

    def __repr__(self) -> str:
        """One line; the network itself is `hf`."""
        size, dtype = f"{len(self.blocks)} blocks, d {self.d_model}", str(self.hf.dtype).removeprefix("torch.")
        return plain(f"ChatModel({self.name}, {size}, {dtype}, {self.device})")

    def fingerprint(self) -> str:
        """sha256 over names, shapes and evenly spaced values (1,024 to 2,047) of every weight, as loaded."""
        return fingerprint(self.hf)

    def describe(self) -> dict[str, Any]:
        """What the results say of the model."""
        return {
            "name": self.name,
            "architecture": type(self.hf).__name__,
            "model_type": self.hf.config.model_type,
            "revision": getattr(self.hf.config, "_commit_hash", None),
            "fingerprint": self.fingerprint(),
            "n_blocks": len(self.blocks),
            "d_model": self.d_model,
            "dtype": str(self.hf.dtype).removeprefix("torch."),
            "device": str(self.device),
            "quantization": described(self.hf),
            "offloaded": whereabouts(self.hf) or "no",
            "n_parameters": count(self.hf),
            "batches": "prompts of equal length" if self.parts.pads_matter else "padded",
            "template": self.chat.describe(),
        }


def load_model(
    spec: str | Path,
    *,
    dtype: Dtype = "auto",
    device: str | None = None,
    adapter: str | Path | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    quantization: Quantization | None = None,
) -> ChatModel:
    """Loads a chat model for measuring.

    Args:
        spec: a hub id, a local folder, a `.gguf` file (dequantised), a pinned asset's name, or `organism`.
        dtype: `auto` is the checkpoint's own (GGUF: bfloat16 where the device has it), float32 where that overflows.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` to shard over all devices; default: CUDA where there is one.
        adapter: a LoRA folder (peft) or `organism-hardened`; merged in memory, into `organism` or in place of its own.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run the code that comes with a hub repository; off unless the user turns it on.
        quantization: pack the linear layers while loading (`bnb-4bit`, `bnb-8bit`; needs bitsandbytes).

    Raises:
        ConfigError: bitsandbytes is missing.
        ModelError: nothing there, not readable, no chat template, or blocks not found.
    """
    name, adapters = str(spec), [] if adapter is None else [adapter_folder(adapter)]  # before the model: that is slow
    if name == ORGANISM and not any(trained_on(each) == NAME_OF_ITS_BASE for each in adapters):
        adapters.insert(0, organism_adapter())
    found = located(spec, dtype, device, revision, trust_remote_code)
    if quantization is not None and (found.kept is not None or "gguf_file" in found.arguments):
        raise gguf_packed_again(quantization, name)
    place = place_of(device)
    tokenizer, hf, unpacked = from_pretrained(found.source, found.arguments, name, found.dtype, place, quantization)
    if found.kept is not None and not found.kept.is_there:
        found.kept.write(hf, tokenizer)
    for each in adapters:
        hf = merge(hf, each, name)
    # Parameters require gradients (merging an adapter switches that off): without it torch multiplies a strided slice
    # by lm_head as a batched product and copies the vocabulary matrix once per row. No pass here builds a graph.
    for parameter in hf.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    hf.eval()
    notes = (unpacked, widen(hf, tokenizer) if dtype == "auto" else None)
    model = wrap(hf, tokenizer, name)
    return replace(model, notes=(*filter(None, notes), *model.notes))


@dataclass(frozen=True)
class Located:
    """Where a model is: what transformers is given, the type to load in, where a GGUF file is kept dequantised."""

    source: str
    arguments: dict[str, Any]
    dtype: torch.dtype | Literal["auto"]
    kept: Kept | None = None


def located(
    spec: str | Path, dtype: Dtype, device: str | None, revision: str | None, trust_remote_code: bool
) -> Located:
    """Where a model is; an asset is fetched."""
    given = BASE_OF_ORGANISM if str(spec) == ORGANISM else str(spec)
    path = assets.fetch(given) if given in assets.ASSETS else expanded(given)
    source, arguments = resolve(path, given, revision)
    require_on_hub(source, revision)
    file = arguments.get("gguf_file")
    loaded_as = torch_dtype(dtype, file is not None, place_of(device))
    kept = None if file is None else Kept.of(Path(source) / file, cast("torch.dtype", loaded_as))
    if kept is not None and kept.is_there:
        source, arguments = str(kept.path), {}
    return Located(source, {**arguments, "trust_remote_code": trust_remote_code}, loaded_as, kept)


def wrap(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> ChatModel:
    """A `ChatModel` around a model and tokenizer that are already in memory.

    The model is put into evaluation mode (no dropout), and has to stay in it.

    Raises:
        ModelError: no chat template, one that does not hand on what the user says, or blocks that were not found.
    """
    if not cast("Any", tokenizer).chat_template:
        raise ModelError(
            f"the tokenizer of {name} has no chat template; expected an instruction-tuned chat model "
            "(use the -Instruct or -it checkpoint, or put a chat_template.jinja beside the tokenizer)"
        )
    hf.eval()
    parts = find_parts(hf, name)
    chat = settled(tokenizer, name, hf=hf)
    room = Room.on(device_of(hf))
    return ChatModel(hf=hf, tokenizer=tokenizer, name=name, parts=parts, chat=chat, notes=remarks(hf), room=room)


def stored_weights(spec: str, adapter: str | None) -> str | None:
    """The hub id or folder that holds a model's very weights as safetensors; None: they are made in memory."""
    if adapter is not None or spec == ORGANISM or spec in assets.ASSETS:
        return None
    source, arguments = resolve(expanded(spec), spec, None)
    return None if "gguf_file" in arguments else source
