"""How a job begins: its run folder, what it held already, the prompts and the model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from bures.data.conversations import Prompt
from bures.errors import ConfigError, PromptError
from bures.jobs.config import OF_ROWS, PASSING
from bures.jobs.foresight import say_memory
from bures.jobs.machine import settled
from bures.jobs.progress import Progress, Timed
from bures.jobs.run import Run, blocks_to_scan
from bures.jobs.scan_config import ScanConfig
from bures.jobs.splits import Splits, load_splits
from bures.judges.base import require_ready
from bures.judges.by_name import judge_by_name
from bures.models.chat import Tokenised, tokenised
from bures.models.checkpoints import adapter_folder
from bures.models.loading import ChatModel, load_model
from bures.models.methods import METHODS, notes_of
from bures.models.pace import threads_kept
from bures.models.precision import widen_for
from bures.results.run_folder import RunFolder
from bures.results.schema import AuditResult, RunResult

Config = TypeVar("Config", bound=ScanConfig)
Result = TypeVar("Result", bound=RunResult)

FAR = 4
"""Windows of the model from which a prompt is refused; shorter ones that exceed the window are noted."""

TRIED = 4
"""Selection prompts of each side on which the number format and the machine are tried."""


def default_out(config: ScanConfig) -> Path:
    """`runs/<model>-<hash of the options>`: the same command finds its folder again."""
    options = config.model_dump_json(exclude=set(PASSING))
    digest = hashlib.sha256(f"{type(config).__name__} {options}".encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9.]+", "-", Path(config.model).name).strip("-")[:60] or "model"
    return Path("runs") / f"{name}-{digest}"


@contextmanager
def open_run(
    config: ScanConfig, schema: type[Result], out: str | Path | None
) -> Generator[tuple[RunFolder, Result | None]]:
    """The run folder of a job, and the result that it holds where the job has been finished.

    Inside the block no other process writes it; behind it torch has the threads that it had before. Other options of
    the rows alone open the folder too; `start` then keeps all but the rows.
    """
    if not isinstance(cast("object", config), ScanConfig):
        raise ConfigError(
            f"the options are a {type(config).__name__}; expected a configuration, such as "
            "bures.AuditConfig(model='organism')"
        )
    path = Path(out) if out is not None else default_out(config)
    free = OF_ROWS if schema is AuditResult else ()
    with threads_kept(), RunFolder.open(path, config.options, free=free) as folder:
        held = folder.load(schema)
        is_done = held is not None and held.status == "complete" and not _changed(held, config)
        yield folder, held if is_done else None


def start(
    config: Config,
    schema: type[Result],
    folder: RunFolder | None,
    progress: Progress,
    checks: Sequence[Callable[[ChatModel], object]] = (),
    **more: Any,
) -> Run[Config, Result]:
    """Reads the prompts, loads the model, and takes up what the folder holds of the same run.

    Whatever can be wrong with the options, the prompts and the model is said before the first forward pass.

    Args:
        config: the options.
        schema: of the results.
        folder: where they are kept, if anywhere.
        progress: who is told how far it is.
        checks: called with the model once it is loaded; they raise where it does not do for the job.
        more: further fields of a fresh result.

    Raises:
        ConfigError: the judge lacks something, no block is to be scanned, or the model or the prompts have changed
            since the run began.
        ModelError: the model cannot be loaded.
        PromptError: a prompt set cannot be read.
    """
    require_ready(judge_by_name(config.judge))
    splits, progress = load_splits(config), Timed(progress)
    held = None if folder is None else folder.load(schema)
    say_memory(config, splits, progress)
    model = asked_as(open_model(config, progress), config, held)
    for check in (partial(_require_fit, config), *checks):
        check(model)
    given = _tokenise(config, splits, model)
    tried = model.encode(_tried(splits), system=config.system)
    notes = [*model.notes, *_beyond(given), *_widened(config, model, tried)]
    machine = settled(config, model, tried, {} if held is None else held.machine)
    fresh = schema(
        command=config.command,
        options=config.options,
        versions=versions(),
        model={**model.describe(), **_called(config)},
        machine=machine,
        methods=notes_of(config.methods),
        prompts=splits.describe(),
        tokenised={name: each.describe() for name, each in given.items()},
        judge=config.judge,
        seed=config.seed,
        **more,
    )
    run = Run(config, splits, model, fresh, folder, progress)
    if held is not None:
        run = replace(run, result=_continued(held, run, more))
        progress.before = held.seconds or {}
    run.note(*notes)
    return run


def _called(config: ScanConfig) -> dict[str, Any]:
    """What the results call the model, and the adapter that was merged into it."""
    if config.adapter is None:
        return {"name": config.name or config.model}
    folder = adapter_folder(config.adapter)
    digest = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    name = config.name or f"{config.model} + {folder.resolve().name} (adapter)"
    return {"name": name, "adapter": {"name": folder.resolve().name, "sha256": digest}}


def asked_as(model: ChatModel, config: ScanConfig, held: RunResult | None = None) -> ChatModel:
    """The model, told to think or not as the options say, on the day that the results of the run were begun."""
    date = None if held is None else held.model.get("template", {}).get("date")
    asked = (config.thinking, config.thinking_tokens, date or model.chat.date)
    if asked == (model.chat.thinking, model.chat.thinking_tokens, model.chat.date):
        return model
    return model.asked(thinking=config.thinking, thinking_tokens=config.thinking_tokens, date=date)


def _require_fit(config: ScanConfig, model: ChatModel) -> None:
    """Refuses blocks and ranks that the model does not have."""
    blocks_to_scan(config, len(model.blocks))
    if any(METHODS[name].ranked for name in config.methods) and max(config.ranks) > model.d_model:
        raise ConfigError(
            f"ranks: K = {max(config.ranks)} is larger than the width {model.d_model} of {config.model}; lower --ranks"
        )


def _tokenise(config: ScanConfig, splits: Splits, model: ChatModel) -> dict[str, Tokenised]:
    """What every prompt set becomes.

    Raises:
        ModelError: the template cannot render a prompt, or makes the same of two that differ.
        PromptError: one is so long that it must be a mistake.
    """
    room = {name: getattr(config, "max_new_tokens", 0) for name in OF_ROWS}
    found = {
        name: tokenised(model.encode(prompts, system=config.system), model.window, room=room.get(name, 0))
        for name, prompts in splits.sets.items()
    }
    for name, each in found.items():
        if each.window is not None and each.longest > FAR * each.window:
            raise PromptError(
                f"the longest prompt of {name} has {each.longest:,} tokens, and the model was made to read "
                f"{each.window:,}: is that file one prompt a line? Take it out, or choose another model"
            )
    return found


def _beyond(given: Mapping[str, Tokenised]) -> list[str]:
    """Says of prompts that are longer than what the model reads."""
    return [
        f"{len(each.beyond)} of {each.n} prompts of {name} are longer, with their answers, than the {each.window} "
        "tokens that the model was made to read: what it says to them is no measure of it."
        for name, each in given.items()
        if each.beyond
    ]


def _changed(held: RunResult, config: ScanConfig) -> list[str]:
    """The options of the rows whose values are not those of the results."""
    return sorted(name for name in OF_ROWS if held.options.get(name) != config.options.get(name))


def _continued(held: Result, run: Run[Any, Result], of_rows: Iterable[str]) -> Result:
    """What a run takes up: all, or, where options of the rows have changed, all but the rows.

    Args:
        held: what its folder holds.
        run: the run, with a fresh result.
        of_rows: fields of the result that are of the rows.

    Raises:
        ConfigError: the model, or what was measured on, has changed since the run began.
    """
    fresh, rows, changed = run.result, bool(getattr(held, "rows", ())), _changed(held, run.config)
    same_model = held.model["fingerprint"] == fresh.model["fingerprint"]
    templates = [result.model.get("template", {}).get("sha256") for result in (held, fresh)]
    if same_model and templates[0] != templates[1]:
        raise ConfigError("the chat template has changed since the run began; choose another folder with --out")
    before = [name for name in {*held.prompts, *fresh.prompts} if name not in OF_ROWS]
    if same_model and (moved := _retokenised(held, fresh, before if changed or not rows else held.tokenised)):
        raise ConfigError(
            f"the prompts of {', '.join(moved)} reach the model as other tokens than when the run began: its tokenizer "
            "has changed; choose another folder with --out"
        )
    if not same_model or any(held.prompts.get(name) != fresh.prompts.get(name) for name in before):
        raise ConfigError("the model or the prompts have changed since the run began; choose another folder with --out")
    if rows and not changed and any(getattr(held, name) != getattr(fresh, name) for name in ("prompts", *of_rows)):
        raise ConfigError("the test prompts or the corpus have changed since the run began; choose another with --out")
    if run.folder is None or not isinstance(held, AuditResult):
        return held
    if changed and (rows or held.status == "complete"):
        target = run.folder.set_aside()
        run.progress.say(
            f"other options for the rows ({', '.join(changed)}): they are measured again, after the scan and the "
            f"trials that {run.folder.path} holds; those measured before are kept in {target}"
        )
    if changed or not rows:
        now = {name: getattr(fresh, name) for name in ("command", "options", "prompts", "tokenised", *of_rows)}
        kept = held.without_rows().model_copy(update=now)
        run.folder.save(kept)
        run.folder.write_options(run.config.options)
        return cast("Result", kept)
    return held


def _retokenised(held: RunResult, fresh: RunResult, names: Iterable[str]) -> list[str]:
    """The sets of the same prompts that have become other tokens."""
    same = [name for name in names if held.prompts.get(name) == fresh.prompts.get(name)]
    ids = [{name: each["sha256"] for name, each in result.tokenised.items()} for result in (held, fresh)]
    return sorted(name for name in same if name in ids[0] and ids[0][name] != ids[1].get(name))


def _tried(splits: Splits) -> list[Prompt]:
    """The prompts on which number format and machine are tried."""
    return [prompt for _, prompts in splits.select.items() for prompt in list(prompts)[:TRIED]]


def _widened(config: ScanConfig, model: ChatModel, tried: Sequence[list[int]]) -> list[str]:
    """Tries the model's own number format on prompts of the job, and says if it was left."""
    if config.dtype != "auto":
        return []
    note = widen_for(model.hf, tried)
    return [] if note is None else [note]


def open_model(config: ScanConfig, progress: Progress) -> ChatModel:
    """The model of a job.

    Raises:
        ModelError: it cannot be loaded.
    """
    progress.stage("loading the model", 1)
    model = load_model(
        config.model,
        dtype=config.dtype,
        device=config.device,
        adapter=config.adapter,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        quantization=config.quantization,
    )
    progress.advance()
    return model


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    packages = ("bures", "torch", "transformers", "tokenizers", "peft", "safetensors", "numpy", "scipy")
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
