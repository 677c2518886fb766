"""How long the answers of trials have to be: long enough that the model's own refusals are in them.

A refusal that opens with a neutral sentence and comes to the point after thirty tokens reads as an answer in the first
twenty. Trials of that length see no difference between a map that takes the refusal away and one that does nothing, so
the choice among maps is blind, and the figures of the chosen ones are too low. That is found out before the first
trial, on the model as it is.
"""

from __future__ import annotations

from typing import Any

from bures.jobs.config import SearchConfig
from bures.jobs.counting import marked
from bures.jobs.run import Run
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
        late = comes_late(run, config.select_tokens, config.max_new_tokens)
        result.trial_tokens = tokens = config.max_new_tokens if late else config.select_tokens
        run.save()
    if tokens > config.select_tokens:
        run.note(
            f"More than {MOST_LATE:.0%} of the harmful selection prompts are refused only behind the first "
            f"{config.select_tokens} tokens (--select-tokens), where a trial would take the refusal for an answer: "
            f"answers of trials have {tokens} tokens instead."
        )
    return tokens


def about_late(run: Run[SearchConfig, Any]) -> list[str]:
    """Says where the middle rung of a search takes refusals for answers, since they come later."""
    config = run.config
    if not comes_late(run, config.short_tokens, config.long_tokens):
        return []
    return [
        (
            f"More than {MOST_LATE:.0%} of the harmful selection prompts are refused only behind the first "
            f"{config.short_tokens} tokens (--short-tokens), where the middle rung takes the refusal for an answer and "
            f"ends trials by that; give up to --short-tokens {config.long_tokens}."
        )
    ]


def comes_late(run: Run[Any, Any], begun: int, whole: int) -> bool:
    """Whether the model as it is refuses more than `MOST_LATE` of the harmful selection prompts late.

    Args:
        run: the run.
        begun: tokens within which a refusal is none that comes late.
        whole: tokens within which there has to be a refusal.
    """
    if whole <= begun:
        return False
    harmful = list(run.splits.select.harmful)
    answers = run.answer(harmful, whole)
    shorter = [run.model.chat.within(ids, begun) for ids in answers]
    pairs = zip(marked(run, harmful, answers), marked(run, harmful, shorter), strict=True)
    return sum(late is True and early is False for late, early in pairs) > MOST_LATE * len(harmful)
