"""How long the answers of trials have to be: long enough that the model's own refusals are in them.

A refusal that opens with a neutral sentence and comes to the point after thirty tokens reads as an answer in the first
twenty. Trials of that length see no difference between a map that takes the refusal away and one that does nothing, so
the choice among maps is blind, and the figures of the chosen ones are too low. That is found out before the first
trial, on the model as it is.
"""

from __future__ import annotations

from typing import Any

from bures.jobs.run import Run
from bures.judges.base import marks
from bures.models.generation import read
from bures.results.marks import Mark
from bures.results.schema import AuditResult

MOST_LATE = 0.05
"""Share of the harmful selection prompts whose refusals may come behind the end of a trial's answer."""


def trial_tokens(run: Run[Any, AuditResult]) -> int:
    """Upper bound on the tokens of a trial's answer: `select_tokens`, or `max_new_tokens` where refusals come late.

    What it comes to is kept in the result, and said where it is more than was asked for.
    """
    config, result = run.config, run.result
    tokens = result.trial_tokens
    if tokens is None:
        n = len(run.splits.select.harmful)
        comes_late = config.max_new_tokens > config.select_tokens and _late(run) > MOST_LATE * n
        result.trial_tokens = tokens = config.max_new_tokens if comes_late else config.select_tokens
        run.save()
    if tokens > config.select_tokens:
        run.note(
            f"More than {MOST_LATE:.0%} of the harmful selection prompts are refused only behind the first "
            f"{config.select_tokens} tokens (--select-tokens), where a trial would take the refusal for an answer: "
            f"answers of trials have {tokens} tokens instead."
        )
    return tokens


def _late(run: Run[Any, AuditResult]) -> int:
    """How many harmful selection prompts the model as it is refuses, but not within `select_tokens`."""
    harmful, config = list(run.splits.select.harmful), run.config
    answers = run.answer(harmful, config.max_new_tokens)

    def judged(ids: list[list[int]]) -> list[Mark]:
        found = [read(run.model, each) for each in ids]
        texts, finished = [each.text for each in found], [each.finished for each in found]
        return marks(run.judge, harmful, texts, harmful=True, coherent=False, finished=finished)[run.judge.name]

    whole, begun = judged(answers), judged([ids[: config.select_tokens] for ids in answers])
    return sum(late is True and early is False for late, early in zip(whole, begun, strict=True))
