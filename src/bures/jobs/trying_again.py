"""The best of every choice tried again, on selection prompts that had no part in making them the best.

The highest of many shares on few prompts is partly luck. So the best `BEST` trials of a choice answer further prompts
of the same source, and the choice among them goes by all their prompts: `docs/statistics.md` has what that saves. Left
out are those that the first prompts show to do worse than the best, and choices in which nothing else is left; the
costs stay those of the first prompts. A run that was killed here goes on with the same candidates: which they are
depends on the first marks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bures.errors import FitError
from bures.jobs.config import AuditConfig
from bures.jobs.lateness import trial_tokens
from bures.jobs.run import Run
from bures.jobs.selection import judged, pools, ranked
from bures.models.fitting import build
from bures.models.intervention import Intervention
from bures.results.inference import is_not_below
from bures.results.marks import answered, spelled
from bures.results.records import Candidate, Trial
from bures.results.regret import BEST
from bures.results.schema import AuditResult


def contenders(trials: Sequence[Trial], budget: float) -> list[Trial]:
    """The best trials within the budget that are not shown to answer fewer prompts than the first of them."""
    best = [t for t in ranked(trials, budget) if t.refused][:BEST]
    return [t for t in best if is_not_below(answered(t.refused), answered(best[0].refused))]


def try_again(run: Run[AuditConfig, AuditResult]) -> None:
    """Lets the contenders of every row answer the further selection prompts; fills `again` in `result.trials`."""
    config, result = run.config, run.result
    run.note(*too_few(run))
    if run.splits.again is None:
        return
    chosen = [
        contenders(pool, config.max_perplexity_ratio)
        for _, _, pool in pools(config, result.trials, len(run.model.blocks))
    ]
    wanted = dict.fromkeys(trial.candidate for among in chosen if len(among) > 1 for trial in among)
    run.progress.stage("trying the best again", len(wanted))
    for candidate in wanted:
        tried = {trial.candidate: trial for trial in result.trials}
        if not tried[candidate].again:
            tried[candidate] = replace(tried[candidate], again=_marks(run, candidate, trial_tokens(run)))
            result.trials = list(tried.values())
            run.save()
        run.progress.advance()


def marks_again(run: Run[Any, Any], intervention: Intervention, max_new_tokens: int) -> str:
    """The judge's marks on the further selection prompts; none where there are no such prompts."""
    further = run.splits.again
    return "" if further is None else spelled(judged(run, list(further), max_new_tokens, intervention))


def too_few(run: Run[Any, Any]) -> list[str]:
    """Says where the source to choose on has fewer further prompts than were asked for."""
    config, select = run.config, run.splits.select.harmful
    wanted = min(config.n_again, config.limit or config.n_again)
    found = 0 if run.splits.again is None else len(run.splits.again)
    if found >= wanted:
        return []
    sentence = (
        f"harmful_select ({select.name}) has {found or 'none'} of the {wanted} further prompts on which the best of "
        f"every choice are tried again (--n-again), besides the {len(select)} that were chosen on first."
    )
    return [sentence]


def _marks(run: Run[AuditConfig, AuditResult], candidate: Candidate, max_new_tokens: int) -> str:
    try:
        return marks_again(run, build(run.unthinking, candidate, run.fit), max_new_tokens)
    except FitError:  # numbers that overflow on a further prompt: it is not chosen where another is left
        return ""
