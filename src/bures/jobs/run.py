"""One run of a job: its options, prompts and model, what it found so far, and the passes that its stages ask for.

A stage never hands on the system prompt, the token budget or the seed itself: `collect`, `answer`, `costs` and
`perplexity` of a `Run` do, so none can be forgotten.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from bures.data.conversations import Prompt
from bures.data.prompts import Corpus
from bures.errors import ConfigError, NumericsError
from bures.jobs.config import PASSING, ScanConfig
from bures.jobs.metrics import AnswerCosts, answer_costs, corpus_perplexity
from bures.jobs.progress import Progress, Silent
from bures.jobs.scanner import refusal_tokens
from bures.jobs.splits import Splits, load_splits
from bures.judges.base import Judge, require_ready
from bures.judges.by_name import judge_by_name
from bures.models.activations import gather
from bures.models.finite import overflowing
from bures.models.fitting import FitData
from bures.models.generation import Advance, generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, load_model
from bures.models.methods import FitOptions, notes_of
from bures.models.precision import widen_for
from bures.results.run_folder import RunFolder
from bures.results.schema import RunResult
from bures.results.stats import Measurement

Config = TypeVar("Config", bound=ScanConfig)
Result = TypeVar("Result", bound=RunResult)

TRIED = 4
"""Selection prompts of each side on which the number format is tried."""

ASKED = 64
"""Fit prompts of each side that the refusal tokens are looked for in."""


@dataclass(frozen=True)
class Run(Generic[Config, Result]):
    """What all stages of a job share.

    Attributes:
        config: the options.
        splits: the prompts.
        model: the model.
        result: what was found so far; the stages fill it.
        folder: where it is kept; None for a worker of a search, which writes nothing.
        progress: who is told how far the job is.
    """

    config: Config
    splits: Splits
    model: ChatModel
    result: Result
    folder: RunFolder | None = None
    progress: Progress = field(default_factory=Silent)

    @cached_property
    def judge(self) -> Judge:
        """The job's judge."""
        return judge_by_name(self.config.judge)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks under consideration."""
        return blocks_to_scan(self.config, len(self.model.blocks))

    @cached_property
    def fit(self) -> FitData:
        """The fit split's activations; collected when first asked for."""
        config, sides = self.config, self.splits.fit
        blocks = range(len(self.model.blocks)) if config.maps_everywhere else self.blocks
        self.progress.stage("collecting activations", len(sides))
        source, target = (self.gather(prompts, blocks, self.progress.advance) for _, prompts in sides.items())
        bad = overflowing(target) | overflowing(source)
        self.note(*(f"Block {block} is left out: {reason}." for block, reason in sorted(bad.items())))
        return FitData(
            source_prompts=tuple(sides.harmful),
            source={block: rows for block, rows in source.items() if block not in bad},
            target={block: rows for block, rows in target.items() if block not in bad},
            options=FitOptions(config.ridge, config.shrinkage),
            strength=config.strength,
            system=config.system,
            token_budget=config.token_budget,
            overflowing=bad,
        )

    @property
    def scanned(self) -> tuple[int, ...]:
        """The blocks that are scanned: those under consideration whose activations are finite.

        Raises:
            NumericsError: there is none.
        """
        found = tuple(block for block in self.blocks if block not in self.fit.overflowing)
        if not found:
            raise NumericsError(self.fit.overflowing[self.blocks[0]])
        return found

    # The passes -------------------------------------------------------------------------------------------------------

    def gather(
        self, prompts: Sequence[Prompt], blocks: Sequence[int], advance: Advance | None = None
    ) -> dict[int, Float[Tensor, "n d"]]:
        """Activations after each block, whether they are finite or not."""
        return gather(
            self.model,
            prompts,
            blocks=list(blocks),
            system=self.config.system,
            token_budget=self.config.token_budget,
            advance=advance,
        )

    def answer(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        intervention: Intervention | None = None,
        advance: Advance | None = None,
    ) -> list[list[int]]:
        """Token ids of the greedy answers under an intervention (None: of the model as it is)."""
        with (intervention or Intervention()).applied(self.model):
            return generate_ids(
                self.model,
                prompts,
                max_new_tokens=max_new_tokens,
                system=self.config.system,
                token_budget=self.config.token_budget,
                advance=advance,
            )

    def costs(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[int]],
        intervention: Intervention | None = None,
        advance: Advance | None = None,
    ) -> AnswerCosts:
        """What an intervention costs along given answers (None: what they cost the model as it is)."""
        return answer_costs(
            self.model,
            prompts,
            answers,
            intervention or Intervention(),
            system=self.config.system,
            seed=self.config.seed,
            token_budget=self.config.token_budget,
            advance=advance,
        )

    def perplexity(self, corpus: Corpus, max_tokens: int, intervention: Intervention) -> Measurement:
        """Perplexity of plain text under an intervention."""
        return corpus_perplexity(
            self.model,
            corpus.text,
            intervention,
            max_tokens=max_tokens,
            seed=self.config.seed,
            token_budget=self.config.token_budget,
        )

    # What is found ----------------------------------------------------------------------------------------------------

    def find_refusal_tokens(self) -> None:
        """Fills `result.refusal_tokens` from the model's own refusals on the fit split; notes where there are none."""
        if self.result.refusal_tokens:
            return
        harmful, harmless = list(self.splits.fit.harmful)[:ASKED], list(self.splits.fit.harmless)[:ASKED]
        self.result.refusal_tokens = list(refusal_tokens(self.model, harmful, harmless, self.judge, self.answer))
        if not self.result.refusal_tokens:
            self.note(
                f"The model refused none of {len(harmful)} harmful fit prompts (judge {self.judge.name}): "
                "there is no refusal to scan for, and blocks are ranked by cost alone."
            )

    def note(self, *sentences: str) -> None:
        """Adds what a reader of the results has to know, once."""
        self.result.notes = list(dict.fromkeys([*self.result.notes, *sentences]))

    def save(self) -> None:
        """Writes the results so far."""
        if self.folder is not None:
            self.folder.save(self.result)

    def finish(self) -> Result:
        """Marks the run complete and writes it."""
        self.result.finish()
        self.save()
        return self.result


# Beginning --------------------------------------------------------------------------------------------------------


def default_out(config: ScanConfig) -> Path:
    """`runs/<model>-<hash of the options>`: the same command finds its folder again."""
    options = config.model_dump_json(exclude=set(PASSING))
    digest = hashlib.sha256(f"{type(config).__name__} {options}".encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9.]+", "-", Path(config.model).name).strip("-")[:60] or "model"
    return Path("runs") / f"{name}-{digest}"


def open_run(config: ScanConfig, schema: type[Result], out: str | Path | None) -> tuple[RunFolder, Result | None]:
    """The run folder of a job, and the result that it holds where the job has been finished."""
    folder = RunFolder.open(Path(out) if out is not None else default_out(config), config.options)
    held = folder.load(schema)
    return folder, held if held is not None and held.status == "complete" else None


def start(
    config: Config, schema: type[Result], folder: RunFolder | None, progress: Progress, **more: Any
) -> Run[Config, Result]:
    """Reads the prompts, loads the model, and takes up what the folder holds of the same run.

    Args:
        config: the options.
        schema: of the results.
        folder: where they are kept, if anywhere.
        progress: who is told how far it is.
        more: further fields of a fresh result.

    Raises:
        ConfigError: the judge lacks something, no block is to be scanned, or the model or the prompts have changed
            since the run began.
        ModelError: the model cannot be loaded.
        PromptError: a prompt set cannot be read.
    """
    require_ready(judge_by_name(config.judge))
    splits = load_splits(config)
    model = open_model(config, progress)
    blocks_to_scan(config, len(model.blocks))
    notes = [*model.notes, *_widened(config, model, splits)]
    fresh = schema(
        command=config.command,
        options=config.options,
        versions=versions(),
        model=model.describe(),
        methods=notes_of(config.methods),
        prompts=splits.describe(),
        judge=config.judge,
        seed=config.seed,
        **more,
    )
    held = None if folder is None else folder.load(schema)
    if held is not None and (held.model["fingerprint"] != fresh.model["fingerprint"] or held.prompts != fresh.prompts):
        raise ConfigError("the model or the prompts have changed since the run began; choose another folder with --out")
    run = Run(config, splits, model, held or fresh, folder, progress)
    run.note(*notes)
    return run


def _widened(config: ScanConfig, model: ChatModel, splits: Splits) -> list[str]:
    """Tries the model's own number format on prompts of the job, and says if it was left."""
    if config.dtype != "auto":
        return []
    tried = [prompt for _, prompts in splits.select.items() for prompt in list(prompts)[:TRIED]]
    note = widen_for(model.hf, model.encode(tried, system=config.system))
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
    )
    progress.advance()
    return model


def blocks_to_scan(config: ScanConfig, n_blocks: int) -> tuple[int, ...]:
    """The blocks under consideration.

    Raises:
        ConfigError: a block does not exist, or the depth range holds none.
    """
    if config.blocks is not None:
        for block in config.blocks:
            if not 0 <= block < n_blocks:
                raise ConfigError(f"block {block} does not exist in {config.model}; expected 0 to {n_blocks - 1}")
        return tuple(sorted(set(config.blocks)))
    low, high = config.depth
    found = tuple(b for b in range(n_blocks) if low <= (b + 1) / n_blocks <= high)
    if not found:
        raise ConfigError(f"no block of {n_blocks} lies between {low:.0%} and {high:.0%} depth; widen --depth")
    return found


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
