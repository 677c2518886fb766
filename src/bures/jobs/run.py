"""One run of a job: its options, prompts and model, what it found so far, and the passes that its stages ask for.

A stage never hands on the system prompt, the token budget or the seed itself: `collect`, `answer`, `costs` and
`perplexity` of a `Run` do, so none can be forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from bures.data.conversations import Prompt
from bures.data.prompts import Corpus
from bures.errors import ConfigError, NumericsError
from bures.jobs.metrics import AnswerCosts, along_answers, answer_costs, corpus_perplexity
from bures.jobs.parting import Parting
from bures.jobs.progress import Progress, Silent, Timed
from bures.jobs.scan_config import ScanConfig
from bures.jobs.scanner import find_parting
from bures.jobs.splits import Side, Splits
from bures.judges.base import Judge
from bures.judges.by_name import judge_by_name
from bures.models.activations import gather
from bures.models.along import Along
from bures.models.answering import answers_along
from bures.models.finite import overflowing
from bures.models.fitting import FitData, build
from bures.models.generation import Advance, generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.methods import FitOptions
from bures.models.room import PREFIX
from bures.results.records import Candidate
from bures.results.run_folder import RunFolder
from bures.results.schema import RunResult
from bures.results.stats import Measurement

Config = TypeVar("Config", bound=ScanConfig)
Result = TypeVar("Result", bound=RunResult)


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

    @cached_property
    def unthinking(self) -> ChatModel:
        """The model told not to think: what maps are fitted on, and where refusal is scored at the first token."""
        return self.model if self.config.thinking == "off" else self.model.asked(thinking="off")

    @cached_property
    def held_out(self) -> dict[Side, dict[int, Float[Tensor, "n d"]]]:
        """Activations of the selection split, on which nothing is fitted, at the blocks under consideration."""
        return {side: self.gather(prompts, self.blocks) for side, prompts in self.splits.select.items()}

    @cached_property
    def _built(self) -> dict[str, Intervention]:
        """By their candidates' keys, interventions on several blocks."""
        return {}

    def build(self, candidate: Candidate) -> Intervention:
        """The candidate's intervention; maps on several blocks are fitted once.

        Raises:
            FitError: the activations do not allow a fit, or overflow.
        """
        found = self._built.get(candidate.key)
        if found is None:
            found = build(self.unthinking, candidate, self.fit)
            if len(candidate.blocks) > 1:
                self._built[candidate.key] = found
        return found

    # The passes -------------------------------------------------------------------------------------------------------

    def gather(
        self, prompts: Sequence[Prompt], blocks: Sequence[int], advance: Advance | None = None
    ) -> dict[int, Float[Tensor, "n d"]]:
        """Activations after each block, whether they are finite or not."""
        return gather(
            self.unthinking,
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
        *,
        thinks: bool = True,
        along: Along | None = None,
    ) -> list[list[int]]:
        """Token ids of the greedy answers under an intervention (None: of the model as it is).

        With `thinks` the model thinks if the options say so; `along`, of `asking`, holds what answers to the same
        prompts share.
        """
        if along is not None:
            return answers_along(
                along,
                intervention or Intervention(),
                max_new_tokens=max_new_tokens,
                token_budget=self.config.token_budget,
                advance=advance,
            )
        with (intervention or Intervention()).applied(self.model):
            return generate_ids(
                self.model if thinks else self.unthinking,
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
        along: Along | None = None,
        advance: Advance | None = None,
        *,
        max_new_tokens: int | None = None,
    ) -> AnswerCosts:
        """What an intervention costs along given answers (None: what they cost the model as it is).

        With `max_new_tokens`, the bound that the answers had, what is answered under it is found on the way.
        """
        return answer_costs(
            self.model,
            prompts,
            answers,
            intervention or Intervention(),
            system=self.config.system,
            seed=self.config.seed,
            token_budget=self.config.token_budget,
            advance=advance,
            along=along,
            max_new_tokens=max_new_tokens,
        )

    def asking(self, prompts: Sequence[Prompt]) -> Along:
        """What the answers to the same prompts share, under several interventions."""
        return along_answers(self.model, prompts, [()] * len(prompts), system=self.config.system)

    def along(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Along:
        """What the costs of several interventions along the same answers share."""
        return along_answers(self.model, prompts, answers, system=self.config.system)

    def perplexity(
        self, corpus: Corpus, max_tokens: int, intervention: Intervention, along: Along | None = None
    ) -> Measurement:
        """Perplexity of plain text under an intervention."""
        return corpus_perplexity(
            self.model,
            corpus.text,
            intervention,
            max_tokens=max_tokens,
            seed=self.config.seed,
            token_budget=self.config.token_budget,
            along=along,
        )

    # What is found ----------------------------------------------------------------------------------------------------

    def find_parting(self) -> Parting:
        """Where the model's own refusals and answers part, on the fit split; notes it where that is not plain.

        Fills `result.refusal_tokens` and `result.refusal_begin`.
        """
        result = self.result
        if result.refusal_tokens:
            return Parting(tuple(result.refusal_tokens), tuple(result.refusal_begin))
        harmful, harmless = list(self.splits.fit.harmful)[:ASKED], list(self.splits.fit.harmless)[:ASKED]
        try:
            found = find_parting(self.unthinking, harmful, harmless, self.judge, partial(self.answer, thinks=False))
        except NumericsError as error:  # the block says more than the logits
            raise NumericsError(next(iter(self.fit.overflowing.values()), str(error))) from error
        result.refusal_tokens, result.refusal_begin = list(found.tokens), list(found.begin)
        if not found.found:
            self.note(found.missing(len(harmful), self.judge.name))
        elif found.begin:
            self.note(
                f"Refusals and answers of this model begin alike ({self.model.chat.spelled(found.begin)!r}, tokens: "
                f"{len(found.begin)}): refusal is scored at the token behind that."
            )
        return found

    def note(self, *sentences: str) -> None:
        """Adds what a reader of the results has to know, once."""
        self.result.notes = list(dict.fromkeys([*self.result.notes, *sentences]))

    def save(self) -> None:
        """Writes the results so far, and whether memory was too small for the batches asked for."""
        smaller = self.model.room.notes()
        if smaller:  # in place of those of larger batches
            self.result.notes = [note for note in self.result.notes if not note.startswith(PREFIX)]
            self.note(*smaller)
        if isinstance(self.progress, Timed):
            self.result.seconds = self.progress.seconds
        if self.folder is not None:
            self.folder.save(self.result)

    def finish(self) -> Result:
        """Marks the run complete and writes it."""
        self.result.finish()
        self.save()
        return self.result


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
