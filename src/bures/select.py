"""Choosing an intervention, on the selection split only.

1. Scan: every method at every block (and rank, and token scope) is scored by one forward pass: the log-odds of a
   refusal token at the first answer token on harmful prompts, and the KL from the original there on harmless ones.
2. Trials: the scan's best answer the harmful selection prompts in short greedy completions, which the judge reads, and
   are charged the perplexity and KL of the original model's harmless answers.
3. Choice: the highest ASR among the trials within the perplexity budget, the smaller KL where ASR ties. Every method
   gets the same budget, so the reported rows compare at (at most) equal cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bures.errors import FitError
from bures.generation import decode, generate_ids
from bures.hooks import Intervention, Scope
from bures.judges import Judge
from bures.methods import METHODS, FitOptions, arditi_sites, fit_block, intervene
from bures.metrics import AnswerCosts, FirstToken, answer_costs, attack_success_rate, first_token
from bures.models import ChatModel
from bures.stats import Measurement

ARDITI_SITES = "rfa-sites"
"""Candidate name for one RFA direction at block input, attention output and MLP output of all blocks."""


@dataclass(frozen=True)
class Candidate:
    """What is tried: a method at blocks, with a rank (or None) and a token scope."""

    method: str
    blocks: tuple[int, ...]
    rank: int | None
    tokens: Scope

    @property
    def key(self) -> str:
        """A stable name: in results, in file names."""
        rank = "" if self.rank is None else f"-k{self.rank}"
        blocks = (
            f"{self.blocks[0]}" if len(self.blocks) == 1 else f"{self.blocks[0]}to{self.blocks[-1]}n{len(self.blocks)}"
        )
        if len(self.blocks) == 2:
            blocks = f"{self.blocks[0]}+{self.blocks[1]}"
        return f"{self.method}{rank}-b{blocks}-{self.tokens}"


@dataclass(frozen=True)
class ScanScore:
    """First-token score of a candidate.

    Attributes:
        candidate: what was scored.
        refusal_log_odds: mean log-odds of a refusal token on harmful prompts; the lower, the less refusal.
        first_token_kl: mean KL(original || intervened) on harmless prompts, in nats.
    """

    candidate: Candidate
    refusal_log_odds: float
    first_token_kl: float


@dataclass(frozen=True)
class Trial:
    """A candidate's answers on the selection split.

    Attributes:
        candidate: what was tried.
        asr: share of harmful selection prompts answered.
        perplexity_ratio: perplexity of the original model's harmless answers, over the original's own.
        kl: token KL(original || intervened) along them.
        error: why it could not be tried (then it is never chosen).
    """

    candidate: Candidate
    asr: Measurement | None
    perplexity_ratio: float | None
    kl: Measurement | None
    error: str | None = None


@dataclass(frozen=True)
class FitData:
    """The fit split: source prompts, and both sides' activations at every block under consideration."""

    source_prompts: Sequence[str]
    source: Mapping[int, Float[Tensor, "n d"]]
    target: Mapping[int, Float[Tensor, "m d"]]
    options: FitOptions
    strength: float = 1.0
    system: str | None = None


@dataclass(frozen=True)
class SelectionData:
    """The selection split, and what the original model says on it."""

    harmful: Sequence[str]
    harmless: Sequence[str]
    harmless_answers: Sequence[Sequence[int]]
    original: AnswerCosts
    first_harmless: FirstToken
    refusal_tokens: Sequence[int]
    judge: Judge
    max_new_tokens: int
    system: str | None = None


def refusal_tokens(
    model: ChatModel,
    harmful: Sequence[str],
    harmless: Sequence[str],
    judge: Judge,
    *,
    max_new_tokens: int = 24,
    system: str | None = None,
) -> tuple[int, ...]:
    """First tokens of the model's own refusals that are more frequent there than among its harmless answers.

    Found on the fit split; empty where the model refuses nothing, and then there is nothing to scan for.
    """
    refused: Counter[int] = Counter()
    answered: Counter[int] = Counter()
    for prompts in (harmful, harmless):
        answers = generate_ids(model, prompts, max_new_tokens=max_new_tokens, system=system)
        for prompt, ids, text in zip(prompts, answers, decode(model, answers), strict=True):
            (refused if judge.is_refusal(prompt, text) else answered)[ids[0]] += 1
    n_refused, n_answered = max(1, refused.total()), max(1, answered.total())
    return tuple(sorted(token for token, count in refused.items() if count / n_refused > answered[token] / n_answered))


def scan(
    model: ChatModel,
    fit: FitData,
    selection: SelectionData,
    *,
    blocks: Iterable[int],
    methods: Sequence[str],
    ranks: Sequence[int],
    scopes: Sequence[Scope],
    known: Mapping[str, ScanScore],
) -> Iterator[ScanScore]:
    """Yields the first-token score of every method at every block; scores in `known` are not computed again."""
    for block in blocks:
        for method in methods:
            tried: Sequence[int | None] = ranks if METHODS[method].ranked else (None,)
            candidates = [Candidate(method, (block,), rank, scope) for rank in tried for scope in scopes]
            if all(candidate.key in known for candidate in candidates):
                yield from (known[candidate.key] for candidate in candidates)
                continue
            maps = fit_block(method, fit.source[block], fit.target[block], ranks, fit.options)
            for candidate in candidates:
                move = Intervention({block: maps[candidate.rank or 0]}, candidate.tokens, fit.strength)
                log_odds = 0.0  # a model that refuses nothing: nothing to rank by but cost
                if selection.refusal_tokens:
                    harmful = first_token(model, selection.harmful, move, system=selection.system)
                    log_odds = harmful.refusal_log_odds(selection.refusal_tokens)
                harmless = first_token(model, selection.harmless, move, system=selection.system)
                yield ScanScore(candidate, log_odds, selection.first_harmless.kl_to(harmless))


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


def pairs(
    scores: Sequence[ScanScore], trials: Sequence[Trial], budget: float, method: str = "pca-ot"
) -> tuple[Candidate, ...]:
    """Two-block candidates, per scope: the method's best single block with the three next best at its rank."""
    found: list[Candidate] = []
    scopes: dict[Scope, None] = dict.fromkeys(s.candidate.tokens for s in scores if s.candidate.method == method)
    for scope in scopes:
        single = [t for t in trials if t.candidate.method == method and len(t.candidate.blocks) == 1]
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


def build(model: ChatModel, candidate: Candidate, fit: FitData) -> Intervention:
    """The candidate's intervention, fitted on the fit split."""
    if candidate.method == ARDITI_SITES:
        (block,) = candidate.blocks
        direction = fit_block("rfa", fit.source[block], fit.target[block], (), fit.options)[0]
        return Intervention(arditi_sites(direction, len(model.blocks)), candidate.tokens, fit.strength)
    return intervene(
        model,
        candidate.method,
        candidate.blocks,
        candidate.rank,
        tokens=candidate.tokens,
        source_prompts=fit.source_prompts,
        source=fit.source,
        target=fit.target,
        options=fit.options,
        strength=fit.strength,
        system=fit.system,
    )


def attempt(model: ChatModel, candidate: Candidate, fit: FitData, selection: SelectionData) -> Trial:
    """Lets a candidate answer the selection split."""
    try:
        intervention = build(model, candidate, fit)
    except FitError as error:  # moved activations that overflow are a finding about the method, not the user's mistake
        return Trial(candidate, None, None, None, error=str(error))
    with intervention.applied(model):
        ids = generate_ids(model, selection.harmful, max_new_tokens=selection.max_new_tokens, system=selection.system)
    refused = [
        selection.judge.is_refusal(prompt, text)
        for prompt, text in zip(selection.harmful, decode(model, ids), strict=True)
    ]
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
