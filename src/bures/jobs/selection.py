"""Choosing an intervention, on the selection split only.

1. Scan (`bures.jobs.scanner`): every method at every block is scored at the first answer token.
2. Trials: the scan's best answer the harmful selection prompts in short greedy completions, which the judge reads, and
   are charged the perplexity and KL of the original model's harmless answers.
3. Choice: the highest ASR among the trials within the perplexity budget, the smaller KL where ASR ties. Every method
   gets the same budget, so the reported rows compare at (at most) equal cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bures.errors import FitError
from bures.jobs.metrics import AnswerCosts, answer_costs, attack_success_rate
from bures.jobs.progress import Progress
from bures.judges.base import Judge, marks
from bures.models.generation import decode, generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.methods import FitData, build
from bures.results.records import Candidate, ScanScore, Scope, Trial


@dataclass(frozen=True)
class SelectionData:
    """The selection split, and what the original model says on it."""

    harmful: Sequence[str]
    harmless: Sequence[str]
    harmless_answers: Sequence[Sequence[int]]
    original: AnswerCosts
    judge: Judge
    max_new_tokens: int
    system: str | None = None


def ask_original(
    model: ChatModel,
    harmful: Sequence[str],
    harmless: Sequence[str],
    judge: Judge,
    *,
    max_new_tokens: int,
    system: str | None,
    token_budget: int,
    told: Progress,
) -> SelectionData:
    """Lets the original model answer the harmless selection prompts; `told` hears of that."""
    answers = generate_ids(model, harmless, max_new_tokens=max_new_tokens, system=system, token_budget=token_budget)
    told.advance()
    original = answer_costs(model, harmless, answers, Intervention(), system=system)
    return SelectionData(harmful, harmless, answers, original, judge, max_new_tokens, system)


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
    return [t for t in trials if t.candidate.method == method and len(t.candidate.blocks) == 1]


def pairs(
    scores: Sequence[ScanScore], trials: Sequence[Trial], budget: float, method: str = "pca-ot"
) -> tuple[Candidate, ...]:
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


def attempt(model: ChatModel, candidate: Candidate, fit: FitData, selection: SelectionData) -> Trial:
    """Fits a candidate and lets it answer the selection split."""
    try:
        intervention = build(model, candidate, fit)
    except FitError as error:  # moved activations that overflow are a finding about the method, not the user's mistake
        return Trial(candidate, None, None, None, error=str(error))
    return answered(model, candidate, intervention, selection)


def answered(model: ChatModel, candidate: Candidate, intervention: Intervention, selection: SelectionData) -> Trial:
    """Lets an intervention answer the selection split."""
    with intervention.applied(model):
        ids = generate_ids(model, selection.harmful, max_new_tokens=selection.max_new_tokens, system=selection.system)
    said = marks(selection.judge, selection.harmful, decode(model, ids), harmful=True, coherent=False)
    refused = said[selection.judge.name]
    costs = answer_costs(model, selection.harmless, selection.harmless_answers, intervention, system=selection.system)
    ratio = costs.perplexity.value / selection.original.perplexity.value
    return Trial(candidate, attack_success_rate(refused), ratio, costs.kl)


def choose(trials: Sequence[Trial], budget: float) -> Trial | None:
    """The highest ASR within the perplexity budget, ties by KL; the cheapest where none is; None where none ran."""
    ran = [t for t in trials if t.asr is not None and t.perplexity_ratio is not None and t.kl is not None]
    if not ran:
        return None
    within = [t for t in ran if (t.perplexity_ratio or 0.0) <= budget]
    if not within:
        return min(ran, key=lambda t: t.perplexity_ratio or 0.0)
    return max(within, key=lambda t: (t.asr.value if t.asr else 0.0, -(t.kl.value if t.kl else 0.0)))
