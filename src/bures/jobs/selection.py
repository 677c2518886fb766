"""Choosing an intervention, on the selection split only.

1. Scan (`bures.jobs.scanner`): every method at every block is scored at the first answer token.
2. Trials: the scan's best answer the harmful selection prompts in short greedy completions, which the judge reads, and
   are charged the perplexity and KL of the original model's harmless answers.
3. Choice: the highest ASR among the trials within the perplexity budget, the smaller KL where ASR ties. Every method
   gets the same budget, so the reported rows compare at (at most) equal cost. The best three of each row are tried
   again before (`bures.jobs.trying_again`), and the choice goes by all their prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from bures.data.conversations import Prompt
from bures.errors import FitError
from bures.jobs.config import AuditConfig
from bures.jobs.counting import marked
from bures.jobs.lateness import trial_tokens
from bures.jobs.metrics import AnswerCosts
from bures.jobs.run import Run
from bures.models.along import Along
from bures.models.intervention import Intervention
from bures.models.methods import METHODS
from bures.results.marks import Mark, spelled
from bures.results.records import Candidate, Failure, Placement, ScanScore, Scope, Trial
from bures.results.shares import attack_success


@dataclass(frozen=True)
class Original:
    """What the model as it is says to the harmless selection prompts.

    Attributes:
        answers: token ids.
        costs: what they cost itself.
        along: what is held of the model along them.
        asked: the same along the harmful selection prompts.
        max_new_tokens: upper bound on an answer's tokens, here and in every trial.
    """

    answers: Sequence[Sequence[int]]
    costs: AnswerCosts
    along: Along
    asked: Along
    max_new_tokens: int


def ask_original(run: Run[Any, Any], max_new_tokens: int, asked: Along | None = None) -> Original:
    """Lets the original model answer the harmless selection prompts; progress hears of one step.

    Args:
        run: the run.
        max_new_tokens: upper bound on an answer's tokens.
        asked: what is held of the model along the harmful prompts already, if anything is.
    """
    harmless = list(run.splits.select.harmless)
    answers = run.answer(harmless, max_new_tokens)
    run.progress.advance()
    along = run.along(harmless, answers)
    asked = asked or run.asking(run.splits.select.harmful)
    return Original(answers, run.costs(harmless, answers, along=along), along, asked, max_new_tokens)


def finalists(scores: Sequence[ScanScore]) -> tuple[Candidate, ...]:
    """Per method, rank and scope: the lowest refusal log-odds, and the lowest among the cheaper half by KL."""
    groups: dict[tuple[str, int | None, str], list[ScanScore]] = {}
    for score in scores:
        groups.setdefault((score.candidate.method, score.candidate.rank, score.candidate.tokens), []).append(score)
    chosen: list[Candidate] = []
    for group in groups.values():
        cheap = sorted(group, key=lambda s: s.first_token_kl)[: max(1, len(group) // 2)]
        for pool in (group, cheap):
            chosen.append(min(pool, key=lambda s: (s.refusal_log_odds, s.first_token_kl)).candidate)
    return tuple(dict.fromkeys(chosen))


def single_block(trials: Sequence[Trial], method: str) -> list[Trial]:
    """The trials of a method on one block."""
    return [t for t in trials if t.candidate.method == method and t.candidate.is_at("one", 1)]


def pairs(scores: Sequence[ScanScore], trials: Sequence[Trial], budget: float, method: str) -> tuple[Candidate, ...]:
    """Two-block candidates, per scope: the method's best single block with the three next best at its rank."""
    found: list[Candidate] = []
    scopes: dict[Scope, None] = dict.fromkeys(s.candidate.tokens for s in scores if s.candidate.method == method)
    for scope in scopes:
        single = single_block(trials, method)
        best = choose([t for t in single if t.candidate.tokens == scope], budget)
        if best is None:
            continue
        same = [s for s in scores if s.candidate.method == method and s.candidate.tokens == scope]
        ranked = sorted(
            (
                s
                for s in same
                if s.candidate.rank == best.candidate.rank and s.candidate.blocks != best.candidate.blocks
            ),
            key=lambda s: s.refusal_log_odds,
        )
        for other in ranked[:3]:
            blocks = tuple(sorted({*best.candidate.blocks, *other.candidate.blocks}))
            found.append(Candidate(method, blocks, best.candidate.rank, scope))
    return tuple(found)


def try_all(run: Run[Any, Any], scores: Sequence[ScanScore]) -> None:
    """Short answers of the scan's best, of pairs and of all blocks; fills `result.trials`."""
    config, result = run.config, run.result
    run.progress.stage("asking the original model", 2)
    original = ask_original(run, trial_tokens(run))
    run.progress.advance()
    tried = {trial.candidate.key: trial for trial in result.trials}

    def attempt_all(candidates: Sequence[Candidate], what: str) -> None:
        run.progress.stage(what, len(candidates))
        for candidate in candidates:
            if candidate.key not in tried:
                tried[candidate.key] = attempt(run, candidate, original)
                result.trials = list(tried.values())
                run.save()
            run.progress.advance()

    for failure in _without_score(scores, result.failures):
        tried.setdefault(failure.candidate.key, Trial(failure.candidate, None, None, None, error=failure.error))
    result.trials = list(tried.values())
    attempt_all(finalists(scores), "trying single blocks")
    paired = [
        c for m in having("two", config.methods) for c in pairs(scores, result.trials, config.max_perplexity_ratio, m)
    ]
    if paired:
        attempt_all(paired, "trying pairs of blocks")
    if config.all_blocks:
        everywhere = on_all_blocks(config.methods, config.scopes, result.trials, len(run.model.blocks))
        unverified = run.model.parts.unverified
        if unverified and any(candidate.sites for candidate in everywhere):
            everywhere = [candidate for candidate in everywhere if not candidate.sites]
            run.note(f"The row at three sites of every block is left out for this architecture: {unverified}.")
        attempt_all(everywhere, "trying all blocks")


def _without_score(scores: Sequence[ScanScore], failures: Sequence[Failure]) -> list[Failure]:
    """Of every method that the scan could not score at all, its first failure: it stands in the table."""
    scored = {score.candidate.method for score in scores}
    first = {failure.candidate.method: failure for failure in reversed(failures)}
    return [failure for method, failure in first.items() if method not in scored]


def having(placement: Placement, methods: Sequence[str]) -> list[str]:
    """The methods that are tried there."""
    return [name for name in methods if placement in METHODS[name].placements]


def on_all_blocks(
    methods: Sequence[str], scopes: Sequence[Scope], trials: Sequence[Trial], n_blocks: int
) -> list[Candidate]:
    """Every method on the whole network, and its map of one block at three sites of each, at every scope."""
    found: list[Candidate] = []
    for name in methods:
        best = choose(single_block(trials, name), float("inf"))
        if "all" in METHODS[name].placements:
            rank = None if best is None else best.candidate.rank
            found += [Candidate(name, tuple(range(n_blocks)), rank, scope) for scope in scopes]
        if "sites" in METHODS[name].placements and best is not None:
            one = best.candidate
            found += [Candidate(name, one.blocks, one.rank, scope, sites=True) for scope in scopes]
    return found


def attempt(run: Run[Any, Any], candidate: Candidate, original: Original) -> Trial:
    """Fits a candidate and lets it answer the selection split."""
    try:
        return answered(run, candidate, run.build(candidate), original)
    except FitError as error:  # numbers that overflow are a finding about the method, not the user's mistake
        return Trial(candidate, None, None, None, error=str(error))


def answered(run: Run[Any, Any], candidate: Candidate, intervention: Intervention, original: Original) -> Trial:
    """Lets an intervention answer the selection split.

    Raises:
        NumericsError: the model's numbers overflow under it.
    """
    select = run.splits.select
    said = judged(run, list(select.harmful), original.max_new_tokens, intervention, original.asked)
    success = attack_success(said)
    costs = run.costs(list(select.harmless), original.answers, intervention, original.along)
    ratio = costs.perplexity.value / original.costs.perplexity.value
    return Trial(candidate, success.share, ratio, costs.kl, unfinished=success.unfinished, refused=spelled(said))


def judged(
    run: Run[Any, Any],
    harmful: Sequence[Prompt],
    max_new_tokens: int,
    intervention: Intervention,
    asked: Along | None = None,
) -> list[Mark]:
    """The judge's mark on every answer to harmful prompts under an intervention.

    Args:
        run: the run.
        harmful: the prompts.
        max_new_tokens: upper bound on an answer's tokens.
        intervention: what is applied.
        asked: what is held of the original model along the prompts, if anything is.
    """
    return marked(run, harmful, run.answer(harmful, max_new_tokens, intervention, along=asked))


def pools(config: AuditConfig, trials: Sequence[Trial], n_blocks: int) -> Iterator[tuple[str, Placement, list[Trial]]]:
    """Of every row of the table its method, its placement, and the trials among which it is chosen."""
    for placement in get_args(Placement):
        if placement in ("all", "sites") and not config.all_blocks:
            continue
        for name in having(placement, config.methods):
            found = [t for t in trials if t.candidate.method == name and t.candidate.is_at(placement, n_blocks)]
            if found:
                yield name, placement, found


def choose(trials: Sequence[Trial], budget: float) -> Trial | None:
    """The highest ASR within the perplexity budget, ties by KL; the cheapest where none is; None where none ran.

    An unfinished answer is no success here: a map under which the model never ends is not chosen for it.
    """
    best = ranked(trials, budget)
    ran = [t for t in trials if _ran(t)]
    return best[0] if best else min(ran, key=lambda t: t.perplexity_ratio or 0.0, default=None)


def settle(trials: Sequence[Trial], budget: float) -> Trial | None:
    """`choose` by all prompts among those of the trials that were tried again, where there are some."""
    again = [t for t in ranked(trials, budget) if t.again]
    return max(again, key=lambda t: (t.least_in_all, -kl_of(t)), default=None) or choose(trials, budget)


def ranked(trials: Sequence[Trial], budget: float) -> list[Trial]:
    """The trials that ran within the perplexity budget, by falling ASR on the selection split, ties by KL."""
    within = [t for t in trials if _ran(t) and (t.perplexity_ratio or 0.0) <= budget]
    return sorted(within, key=lambda t: (-t.least, kl_of(t)))


def kl_of(trial: Trial) -> float:
    """The KL alone; 0 where there is none."""
    return 0.0 if trial.kl is None else trial.kl.value


def _ran(trial: Trial) -> bool:
    return trial.perplexity_ratio is not None and trial.kl is not None
