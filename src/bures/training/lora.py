"""A LoRA (Hu et al. 2021, arXiv 2106.09685, by peft) on a chat model, and the folder that it is saved in.

The folder holds `adapter_model.safetensors` and `adapter_config.json`, which peft and `load_model(adapter=...)` read.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import torch

from bures import durable
from bures.errors import ConfigError, ModelError, RunError
from bures.models.loading import ChatModel

if TYPE_CHECKING:
    from peft import PeftModel

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@runtime_checkable
class LoraOptions(Protocol):
    """What a LoRA is made of."""

    @property
    def rank(self) -> int:
        """Its rank."""
        ...

    @property
    def alpha(self) -> float:
        """The update is scaled by alpha / rank."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the linear modules that are adapted; `all-linear`: all."""
        ...

    @property
    def first_block(self) -> int:
        """The first adapted block."""
        ...

    @property
    def seed(self) -> int:
        """Of the initial values."""
        ...


def attach(model: ChatModel, options: LoraOptions) -> PeftModel:
    """A fresh LoRA on the model, in place, with the seed's initial values and the model's dtype.

    Raises:
        ConfigError: there is no such block, or no module of that name.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(options.seed)
    if options.first_block >= len(model.blocks):
        raise ConfigError(f"first_block is {options.first_block}; expected less than {len(model.blocks)}, the blocks")
    lora = LoraConfig(
        r=options.rank,
        lora_alpha=cast("int", options.alpha),
        target_modules=list(options.targets),
        layers_to_transform=list(range(options.first_block, len(model.blocks))),
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():  # peft still asks transformers for a property by its old name
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing")
            return cast("Any", get_peft_model(cast("Any", model.hf), lora, autocast_adapter_dtype=False))
    except ValueError as error:
        raise ConfigError(f"targets {', '.join(options.targets)}: {error}; expected names of linear modules") from error


def save_adapter(
    adapted: PeftModel, folder: Path, *, base: str, scale: float = 1.0, max_bytes: int | None = None
) -> None:
    """Writes weights and peft configuration, without the path of the base model and in a fixed order.

    Args:
        adapted: the trained model.
        folder: made where it is missing.
        base: what the adapter calls its base model: a name, never a path.
        scale: goes into `lora_alpha`; the weights are those that were trained.
        max_bytes: how large the weights may be.

    Raises:
        RunError: the folder cannot be written.
        ModelError: the weights are larger than that.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())})
    if max_bytes is not None and len(data) >= max_bytes:
        raise ModelError(
            f"the adapter has {len(data) / 1e6:.1f} MB; expected less than {max_bytes / 1e6:.0f}; lower rank or targets"
        )
    described = json.loads(json.dumps(adapted.peft_config["default"].to_dict(), default=_plain))
    described |= {"base_model_name_or_path": base, "inference_mode": True, "revision": None}
    described["lora_alpha"] *= scale
    make_folder(folder)
    try:
        durable.write(folder / WEIGHTS, data)
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}; give another folder") from error
    write_json(folder / CONFIG, described)


def _plain(value: object) -> Any:
    """What JSON lacks: sets become sorted lists, everything else its text."""
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def make_folder(folder: Path) -> None:
    """Makes a folder where it is missing.

    Raises:
        RunError: it cannot be made.
    """
    try:
        durable.make_folder(folder)
    except OSError as error:
        raise RunError(f"cannot make the folder {folder}: {error.strerror}; give another one") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, its keys in order.

    Raises:
        RunError: it cannot be written.
    """
    try:
        durable.write(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; give another folder") from error
