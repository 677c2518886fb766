"""What an attack does to a model: who answers under it, and what it costs on the model's own harmless answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bures.data.conversations import Prompt
from bures.data.prompts import PromptSet
from bures.errors import ConfigError, NumericsError
from bures.jobs.attacks import prefilled_answers
from bures.jobs.counting import Line, completion_lines
from bures.jobs.defence.planning import Planned, cost_of
from bures.jobs.defence.targets import Target
from bures.judges.by_name import readings
from bures.models.along import Along
from bures.models.generation import Answer, read
from bures.models.intervention import Intervention
from bures.results.defending import Attacked
from bures.results.marks import Mark, spelled
from bures.results.names import COHERENT, NONE, AttackName
from bures.results.schema import Row


@dataclass(frozen=True)
class Bench:
    """What the attacks on one model are measured with.

    Attributes:
        target: the model.
        n_perplexity: harmless selection prompts on which costs are measured.
    """

    target: Target
    n_perplexity: int

    def measure(self, kind: AttackName, plan: Planned) -> tuple[Attacked, list[Line]]:
        """One attack on the harmful test prompts, and the completions."""
        began = time.monotonic()
        found = Attacked(name=plan.name, kind=kind)
        try:
            ids = self._answers(plan)
            ratio, within = plan.cost or self._cost(plan.intervention)
        except NumericsError as error:  # a finding about the attack: it stands in the table
            return found.model_copy(update={"error": str(error)}), []
        prompts = self.target.run.splits.tested.harmful
        refused, lines = self.judged(f"{self.target.audit.name} {plan.name}", prompts, ids, harmful=True)
        judge = self.target.run.config.judge
        update = {
            "refused": spelled(refused[judge]),
            "refused_or_incoherent": spelled(refused[judge + COHERENT]),
            "perplexity_ratio": ratio,
            "within_budget": within,
            "seconds": round(time.monotonic() - began, 2),
        }
        return found.model_copy(update=update), lines

    def answers(self, prompts: PromptSet) -> list[list[int]]:
        """Answers without any attack."""
        return self.target.run.answer(list(prompts), self.target.run.config.max_new_tokens)

    def judged(
        self, row: str, prompts: PromptSet, ids: Sequence[list[int]], *, harmful: bool
    ) -> tuple[Mapping[str, Sequence[Mark]], list[Line]]:
        """Marks of answers per judge, and the answers as a run folder keeps them."""
        answers: list[Answer] = [read(self.target.model, each) for each in ids]
        texts, finished = [each.text for each in answers], [each.finished for each in answers]
        refused = readings(self.target.run.config.judge, list(prompts), texts, harmful=harmful, finished=finished)
        which = "harmful" if harmful else "harmless"
        return refused, list(completion_lines((row, which), prompts, list(zip(answers, ids, strict=True)), refused))

    def _answers(self, plan: Planned) -> list[list[int]]:
        run = self.target.run
        prompts, most = list(run.splits.tested.harmful), run.config.max_new_tokens
        if not plan.prefilled:
            return run.answer(prompts, most, plan.intervention, along=self._asking)
        with plan.intervention.applied(run.model):
            return prefilled_answers(run.model, prompts, max_new_tokens=most, system=run.config.system)

    @cached_property
    def _asking(self) -> Along:
        """What the answers to the harmful test prompts share."""
        return self.target.run.asking(list(self.target.run.splits.tested.harmful))

    @cached_property
    def _harmless(self) -> list[Prompt]:
        """The selection prompts on which costs are measured."""
        return list(self.target.run.splits.select.harmless)[: self.n_perplexity]

    @cached_property
    def _own(self) -> tuple[list[list[int]], Along, float]:
        """The model's own answers to them, what passes along these share, and their perplexity."""
        run = self.target.run
        answers = run.answer(self._harmless, self.target.trial_tokens)
        along = run.along(self._harmless, answers)
        return answers, along, run.costs(self._harmless, answers, along=along).perplexity.value

    def _cost(self, intervention: Intervention) -> tuple[float, bool]:
        """Perplexity ratio, and whether it is within the audit's budget."""
        run, (answers, along, own) = self.target.run, self._own
        ratio = run.costs(self._harmless, answers, intervention, along).perplexity.value / own
        return ratio, ratio <= run.config.max_perplexity_ratio


def of_row(row: Row, judge: str) -> Attacked:
    """A row of the audit as an attack.

    Raises:
        ConfigError: the judge's marks with incoherent answers counted are missing.
    """
    kind = "none" if row.method == NONE else "refitted"
    if row.error is not None:
        return Attacked(name=row.key, kind=kind, error=row.error)
    if judge + COHERENT not in row.refused:
        raise ConfigError(f"row {row.key} has no marks of {judge + COHERENT}; run the audit again")
    ratio, within = cost_of(row)
    return Attacked(
        name=row.key,
        kind=kind,
        refused=row.refused[judge],
        refused_or_incoherent=row.refused[judge + COHERENT],
        perplexity_ratio=ratio,
        within_budget=within,
        seconds=row.seconds,
    )
