"""From options to an adapter folder: weights, peft configuration, and a recipe that says how it was made.

The folder holds `adapter_model.safetensors` and `adapter_config.json`, which peft and `load_model(adapter=...)` read,
and `recipe.json`: options, seeds, checksums of the base model and of the data, versions, and the measured figures.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bures import durable
from bures.data import assets
from bures.data.pinned_sets import assets_of
from bures.errors import RunError
from bures.jobs.examples import kept_examples, with_original
from bures.jobs.progress import Progress
from bures.judges.by_name import JUDGES
from bures.models.loading import NAME_OF_ITS_BASE, ChatModel, load_model
from bures.training.lora import make_folder, save_adapter, write_json
from bures.training.organism.config import MAX_BYTES, OrganismConfig
from bures.training.organism.data import HarmfulPrompt, harmful_prompts, harmless_prompts
from bures.training.organism.evaluate import OrganismReport, evaluate_organism
from bures.training.organism.train import refusal_examples, train_lora

BASE_NAME = NAME_OF_ITS_BASE
"""What the adapter calls its base model: a name, never a path."""

COMMAND = "bures organism train"

_PACKAGES = ("torch", "transformers", "peft", "gguf", "safetensors")
_RECIPE = "recipe.json"


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
    make_folder(folder)
    rng = random.Random(config.seed)
    harmful, harmless = harmful_prompts(config, rng), harmless_prompts(config, rng)
    model = load_model(config.model, dtype=config.dtype, device=config.device)
    learned = refusal_examples(model, harmful, rng)
    kept = kept_examples(model, harmless, tokens=config.harmless_tokens, judge=JUDGES["arditi"], progress=progress)
    rows = config.harmful_rows + config.harmless_rows
    held = partial(with_original, model, first_block=config.first_block, rows=rows, progress=progress)
    learned, kept = held(learned, teach=False), held(kept, teach=True)
    adapted, _ = train_lora(model, learned, kept, config, progress=progress)
    save_adapter(adapted, folder, base=BASE_NAME, scale=config.scale, max_bytes=MAX_BYTES)
    write_json(folder / _RECIPE, describe(config, model, harmful, harmless, n_kept=len(kept)))
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


def record(folder: Path, report: OrganismReport) -> None:
    """Writes the measured figures into the recipe.

    Raises:
        RunError: the recipe is missing or cannot be written.
    """
    write_json(folder / _RECIPE, read_recipe(folder) | {"measured": report.to_dict()})


def read_recipe(folder: Path) -> dict[str, Any]:
    """The recipe of an adapter folder.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return durable.read_object(folder / _RECIPE)
    except (OSError, ValueError) as error:
        raise RunError(f"no readable {_RECIPE} in {folder}; expected the folder of a trained organism") from error


def texts_sha256(texts: Iterable[str]) -> str:
    """SHA-256 (hex) of texts in their order: tells whether two trainings saw the same prompts."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=True).encode("ascii")).hexdigest()


def _checksums(*sets: str) -> dict[str, str]:
    return {name: assets.ASSETS[name].member_sha256 for each in sets for name in assets_of(each)}


def _base_sha256(model: str) -> str | None:
    return assets.ASSETS[model].member_sha256 if model in assets.ASSETS else None
