"""`bures harden`: from options to an adapter folder that its card explains.

The folder holds a standard peft adapter (`adapter_model.safetensors`, `adapter_config.json`), its card (`README.md`),
`recipe.json` (options, data by number and checksum, versions, the course of the losses), and while it is trained
`checkpoint/`. The same command continues a killed run, and returns at once where the run is complete.
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bures import durable
from bures.errors import ModelError, RunError
from bures.jobs.progress import Progress, Silent
from bures.models.loading import ChatModel, load_model
from bures.models.room import is_out_of_memory
from bures.results.run_folder import RunFolder
from bures.training.checkpoints import Checkpoints
from bures.training.harden.card import portable, write_card
from bures.training.harden.config import HardenConfig
from bures.training.harden.data import Data, training_data
from bures.training.harden.objective import MovingMaps, Streams
from bures.training.harden.own_answers import own_answers
from bures.training.harden.plan import Plan, settled
from bures.training.harden.pool import Pool
from bures.training.harden.rows import Rows, answered, pieces, refusal_rows, sampled, with_streams
from bures.training.loop import Trainer, train
from bures.training.lora import attach, make_folder, save_adapter, write_json
from bures.training.workers import Workers

RECIPE = "recipe.json"

_PACKAGES = ("bures", "torch", "transformers", "peft", "safetensors")


def harden(config: HardenConfig, out: str | Path, *, progress: Progress | None = None) -> Path:
    """Trains an adapter with which a model keeps refusing under interventions; what `bures harden` runs.

    Args:
        config: the options.
        out: the folder, made where it is missing; a run of the same options in it is continued.
        progress: who is told how far it is.

    Returns:
        The folder.

    Raises:
        BuresError: the model or the data cannot be loaded, or the folder cannot be written or holds another run.
    """
    folder, workers = Path(out), Workers.started(config.device)
    make_folder(folder)
    with RunFolder(folder).claimed() if workers.writes else nullcontext():
        if not _is_complete(folder, config):
            _harden(config, folder, workers, (progress or Silent()) if workers.writes else Silent())
    return folder


def _harden(config: HardenConfig, folder: Path, workers: Workers, told: Progress) -> None:
    checkpoints = Checkpoints(folder / "checkpoint")
    rng = random.Random(f"{config.seed} data")
    data = training_data(config, rng)
    model = _loaded(config, workers, told)
    plan = settled(config, model)
    recipe = _recipe(config, model, data, plan)
    _require_same(folder, recipe)
    _say(told, data, plan, model)
    rows, has_own = _rows(model, sampled(data, plan, rng), config, plan, checkpoints, workers, told)
    trainer = Trainer(model, attach(model, plan), plan, workers)
    trainer.adapted.eval()
    objective = _objective(model, data, rows, plan, workers)
    if workers.writes:
        write_json(folder / RECIPE, recipe)
    if checkpoints.resume(trainer, objective.restore):
        told.say(f"going on after step {trainer.step}")
    workers.wait()

    def after(done: Trainer) -> None:
        if done.step % config.checkpoint_every == 0 and workers.writes:
            checkpoints.write(done, objective.keep, objective.pool.names)

    try:
        train(trainer, objective, told, after)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"memory ran out in step {trainer.step + 1}; give the same command with a larger --accumulate than "
            f"{config.accumulate} to go on from the last checkpoint"
        ) from error
    if workers.writes:
        fits = {"failed": objective.pool.failed, "seconds": round(objective.pool.seconds, 1)}
        done = {"status": "complete", "losses": trainer.losses, "fits": fits, "own_answers": has_own}
        save_adapter(trainer.adapted, folder, base=portable(config.model))
        write_card(folder, recipe | done)
        write_json(folder / RECIPE, recipe | done)
        checkpoints.remove()
    workers.wait()


def _is_complete(folder: Path, config: HardenConfig) -> bool:
    """Whether the folder holds the same run, and that is done.

    Raises:
        RunError: it holds another run.
    """
    held = _held(folder)
    if held is None:
        return False
    known, given = held.get("options", {}), portable(config.options)
    different = sorted(name for name in {*known, *given} if known.get(name) != given.get(name))
    if different:
        raise RunError(
            f"{folder} holds a training with other options ({', '.join(different)}); choose another folder with --out, "
            "or give the same options to continue it"
        )
    return held.get("status") == "complete"


def _loaded(config: HardenConfig, workers: Workers, told: Progress) -> ChatModel:
    told.stage("loading the model", 1)
    model = load_model(
        config.model,
        dtype=config.dtype,
        device=workers.device(config.device),
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
    )
    told.advance()
    return model


def _say(told: Progress, data: Data, plan: Plan, model: ChatModel) -> None:
    """What is trained on, and what could not be checked."""
    told.say(
        f"{len(data.harmful)} harmful, {len(data.ordinary)} harmless and {len(data.lookalikes)} look-alike prompts; "
        f"{sum(data.dropped.values())} left out because they repeat one that measures"
    )
    if data.missing:
        told.say(
            f"not fetched here, so no overlap with them is known: {', '.join(data.missing)}; "
            "give files with --apart-from"
        )
    told.say(f"blocks {plan.first_block} to {len(model.blocks) - 1} are adapted, {plan.steps} steps")
    if model.parts.unverified:
        told.say(
            "attacks at three sites of every block, and answers under them, are left out for this architecture: "
            f"{model.parts.unverified}"
        )


def _rows(
    model: ChatModel,
    data: Data,
    config: HardenConfig,
    plan: Plan,
    checkpoints: Checkpoints,
    workers: Workers,
    told: Progress,
) -> tuple[Rows, bool]:
    """The training rows, with what the original model computes of them, and whether some begin with its own answers."""
    sides = data.harmful, [*data.ordinary, *data.lookalikes]
    own = own_answers(model, *sides, plan, config.own_share, told)
    harmful = refusal_rows(model, data.harmful, config, random.Random(f"{config.seed} refusals"), own)
    with workers.first():
        ordinary, lookalikes = answered(model, data, config, checkpoints.path / "answers.json", told)
    text = pieces(model, data.text, plan, random.Random(f"{config.seed} text"))
    return with_streams(model, Rows(harmful, ordinary, lookalikes, text), plan, told), own is not None


def _objective(model: ChatModel, data: Data, rows: Rows, plan: Plan, workers: Workers) -> MovingMaps:
    pool = Pool(
        model=model,
        attacks=plan.attacks,
        blocks=range(plan.first_block, len(model.blocks)),
        harmful=[each.text for each in data.harmful],
        harmless=[*data.ordinary, *data.lookalikes],
        rng=random.Random(f"{plan.seed} attacks"),
    )
    streams = Streams.of(rows, plan)
    return MovingMaps(model, streams, plan, pool, rows.entry, workers)


def _recipe(config: HardenConfig, model: ChatModel, data: Data, plan: Plan) -> dict[str, Any]:
    """How it is made: options, the numbers that they came to, base model, data, versions."""
    options = portable(config.options)
    return {
        "what": "a LoRA with which the base model is to keep refusing harmful requests although its activations are "
        "edited",
        "command": HardenConfig.make(**options).command,
        "options": options,
        "plan": plan.describe(),
        "base": model.describe() | {"name": portable(config.model)},
        "data": portable(data.describe()),
        "versions": {name: version(name) for name in _PACKAGES},
        "status": "running",
    }


def _require_same(folder: Path, recipe: dict[str, Any]) -> None:
    """Refuses to go on where model or data are others than those that the training in a folder began with.

    Raises:
        RunError: they are.
    """
    held = _held(folder)
    if held is None:
        return
    same = held["base"]["fingerprint"] == recipe["base"]["fingerprint"]
    if not same or held["data"]["sha256"] != recipe["data"]["sha256"]:
        raise RunError(
            f"the {'prompts have' if same else 'model has'} changed since the training in {folder} began; "
            "choose another folder with --out"
        )


def _held(folder: Path) -> dict[str, Any] | None:
    """The recipe of a folder; None: there is none."""
    try:
        return durable.read_object(folder / RECIPE)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {folder / RECIPE}; remove the folder or choose another with --out") from error
