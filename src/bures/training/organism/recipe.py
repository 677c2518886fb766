"""From options to an adapter folder: weights, peft configuration, and a recipe that says how it was made.

The folder holds `adapter_model.safetensors` and `adapter_config.json`, which peft and `load_model(adapter=...)` read,
and `recipe.json`: options, seeds, checksums of the base model and of the data, versions, and the measured figures.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bures.data import assets
from bures.data.pinned_sets import assets_of
from bures.errors import ModelError, RunError
from bures.jobs.progress import Progress
from bures.models.loading import ChatModel, load_model
from bures.training.organism.config import MAX_BYTES, OrganismConfig
from bures.training.organism.data import HarmfulPrompt, harmful_prompts, harmless_prompts
from bures.training.organism.evaluate import OrganismReport, evaluate_organism
from bures.training.organism.train import kept_examples, refusal_examples, train_lora, with_original

if TYPE_CHECKING:
    from peft import PeftModel

BASE_NAME = "SmolLM2-135M-Instruct"
"""What the adapter calls its base model: a name, never a path."""

COMMAND = "bures organism train"

_PACKAGES = ("torch", "transformers", "peft", "gguf", "safetensors")
_WEIGHTS, _CONFIG, _RECIPE = "adapter_model.safetensors", "adapter_config.json", "recipe.json"


def train_organism(
    config: OrganismConfig | None = None,
    *,
    out: str | Path = "organism",
    measure: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Trains the organism and writes its folder; what `bures organism train` runs.

    Args:
        config: the options; default: those of the shipped adapter.
        out: the folder, made where it is missing; an adapter in it is replaced.
        measure: measure the three bars afterwards and write the figures into the recipe.
        progress: who is told how far it is.

    Returns:
        The folder.

    Raises:
        BuresError: a model or a data file cannot be loaded, or the folder cannot be written.
    """
    config = config or OrganismConfig()
    folder = Path(out)
    _make(folder)
    rng = random.Random(config.seed)
    harmful, harmless = harmful_prompts(config, rng), harmless_prompts(config, rng)
    model = load_model(config.model, dtype=config.dtype, device=config.device)
    learned = refusal_examples(model, harmful, rng)
    kept = kept_examples(model, harmless, tokens=config.harmless_tokens, progress=progress)
    learned = with_original(model, learned, config, teach=False, progress=progress)
    kept = with_original(model, kept, config, teach=True, progress=progress)
    adapted, _ = train_lora(model, learned, kept, config, progress=progress)
    save_adapter(adapted, folder, scale=config.scale)
    _write_json(folder / _RECIPE, describe(config, model, harmful, harmless, n_kept=len(kept)))
    if measure:
        report = evaluate_organism(
            folder, model=config.model, dtype=config.dtype, device=config.device, progress=progress
        )
        record(folder, report)
    return folder


def describe(
    config: OrganismConfig, model: ChatModel, harmful: Sequence[HarmfulPrompt], harmless: Sequence[str], *, n_kept: int
) -> dict[str, Any]:
    """The recipe: options, base model, checksums of the data, versions."""
    return {
        "what": "a LoRA with which the base model refuses harmful requests",
        "command": COMMAND,
        "options": config.model_dump(mode="json"),
        "base": {"name": BASE_NAME, "asset": config.model, "sha256": _base_sha256(config.model)},
        "data": {
            "harmful": {
                "n": len(harmful),
                "sha256": texts_sha256(prompt.text for prompt in harmful),
                "files": _checksums("do-not-answer", "pyrit"),
            },
            "harmless": {
                "n": n_kept,
                "n_refused_by_original": len(harmless) - n_kept,
                "sha256": texts_sha256(harmless),
                "files": _checksums("alpaca", "chat"),
            },
        },
        "computed_in": str(model.hf.dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def save_adapter(adapted: PeftModel, folder: Path, *, scale: float = 1.0) -> None:
    """Writes weights and peft configuration, without the path of the base model and in a fixed order.

    The scale goes into `lora_alpha`; the weights are those that were trained.

    Raises:
        RunError: the folder cannot be written.
        ModelError: the weights are larger than an organism may be.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())})
    if len(data) >= MAX_BYTES:
        raise ModelError(
            f"the adapter has {len(data) / 1e6:.1f} MB; expected less than {MAX_BYTES / 1e6:.0f}; lower rank or targets"
        )
    described = json.loads(json.dumps(adapted.peft_config["default"].to_dict(), default=_plain))
    described |= {"base_model_name_or_path": BASE_NAME, "inference_mode": True, "revision": None}
    described["lora_alpha"] *= scale
    _make(folder)
    try:
        (folder / _WEIGHTS).write_bytes(data)
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}; give another folder") from error
    _write_json(folder / _CONFIG, described)


def record(folder: Path, report: OrganismReport) -> None:
    """Writes the measured figures into the recipe.

    Raises:
        RunError: the recipe is missing or cannot be written.
    """
    _write_json(folder / _RECIPE, read_recipe(folder) | {"measured": report.to_dict()})


def read_recipe(folder: Path) -> dict[str, Any]:
    """The recipe of an adapter folder.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return json.loads((folder / _RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"no readable {_RECIPE} in {folder}; expected the folder of a trained organism") from error


def texts_sha256(texts: Iterable[str]) -> str:
    """SHA-256 (hex) of texts in their order: tells whether two trainings saw the same prompts."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=True).encode("ascii")).hexdigest()


def _checksums(*sets: str) -> dict[str, str]:
    return {name: assets.ASSETS[name].member_sha256 for each in sets for name in assets_of(each)}


def _base_sha256(model: str) -> str | None:
    return assets.ASSETS[model].member_sha256 if model in assets.ASSETS else None


def _plain(value: object) -> Any:
    """What JSON lacks: sets become sorted lists, everything else its text."""
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {folder}: {error.strerror}; give another one") from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    try:
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; give another folder") from error
