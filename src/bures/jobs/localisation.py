"""Where refusal is decided: the scan's scores and the geometry of the blocks, put into words.

The effect of a block is the share of first-token refusal that its map removes from harmful prompts,
1 - sum p(refusal | intervened) / sum p(refusal | original). The candidate that speaks for a block is chosen on one half
of the selection prompts and measured on the other, both ways round, so that the best of many does not flatter itself;
the interval resamples prompts. A candidate whose KL on harmless prompts is over the limit does not speak.

Refusal counts as localised where a block's effect stands clear of zero, harmful and harmless prompts can be told apart
there (held-out AUROC), and maps fitted on shuffled labels do less: a permutation test at the strongest block. Its map
is a transport map where there is one. An ablation takes away a direction however short the gap along it is, and the gap
of shuffled labels points where activations vary most, which is often from harmless to harmful: such ablations may
remove refusal too, and are no control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bures.models.methods import METHODS
from bures.results.formatting import number, percent, share
from bures.results.records import BlockGeometry, Candidate, Effect, Extent, Localisation, ScanScore, Shuffled
from bures.results.stats import Measurement, bootstrap_mean, bootstrap_ratio_of_sums

HALF = 0.5
"""Share of refusal that a map has to remove, by its interval's lower end, to suffice."""

CLEAR = 0.2
"""Share of refusal that a map has to remove, by its interval's lower end, to count at all."""

ONSET, REACHED = 0.5, 0.95
"""The decision begins at the first block with this part of the largest effect, and ends at the first with that part."""


def probability(log_odds: Sequence[float]) -> NDArray[np.float64]:
    """Refusal probabilities from log-odds."""
    return 1.0 / (1.0 + np.exp(-np.asarray(log_odds, dtype=np.float64)))


def removed(original: Sequence[float], moved: NDArray[np.float64]) -> Measurement:
    """Share of refusal probability that is gone, with a bootstrap interval over prompts."""
    before = probability(original)
    return bootstrap_ratio_of_sums(before - moved, before)


def block_effects(original: Sequence[float], scores: Sequence[ScanScore], max_kl: float) -> tuple[Effect, ...]:
    """The cross-fitted effect of every scanned block.

    Args:
        original: log-odds of the harmful prompts in the original model.
        scores: of all candidates, each on one block.
        max_kl: largest first-token KL with which a candidate may speak.
    """
    blocks = sorted({score.candidate.blocks[0] for score in scores})
    found: list[Effect] = []
    for block in blocks:
        speaking = [s for s in scores if s.candidate.blocks == (block,) and s.first_token_kl <= max_kl]
        if not speaking:
            found.append(Effect((block,), None, removed(original, probability(original)), None))
            continue
        best = min(speaking, key=lambda s: (s.refusal_log_odds, s.first_token_kl))
        induced = bootstrap_mean(probability(best.induced)) if best.induced else None
        moved = _cross_fitted(np.array([s.each for s in speaking], dtype=np.float64))
        found.append(Effect((block,), best.candidate.key, removed(original, moved), best.first_token_kl, induced))
    return tuple(found)


def largest(effects: Sequence[Effect]) -> Effect:
    """The block that removes most."""
    return max(effects, key=lambda effect: effect.removed.value)


def control(
    original: Sequence[float], scores: Sequence[ScanScore], effects: Sequence[Effect], max_kl: float
) -> tuple[Candidate, Effect] | None:
    """The map at the strongest block that is held against shuffled labels, and its effect with the true ones.

    The strongest within the KL limit that is no ablation; an ablation where there is nothing else; None where no
    candidate is within the limit.
    """
    block = largest(effects).blocks
    speaking = [s for s in scores if s.candidate.blocks == block and s.first_token_kl <= max_kl]
    if not speaking:
        return None
    moving = [s for s in speaking if not METHODS[s.candidate.method].ablates] or speaking
    best = min(moving, key=lambda s: (s.refusal_log_odds, s.first_token_kl))
    effect = Effect(block, best.candidate.key, removed(original, probability(best.each)), best.first_token_kl)
    return best.candidate, effect


@dataclass(frozen=True)
class Evidence:
    """What is concluded from.

    Attributes:
        n_blocks: of the model.
        harmful: log-odds of refusal of the harmful prompts in the original model.
        harmless: of the harmless ones.
        effects: of single blocks.
        joint: of several blocks together.
        control: the map that is held against shuffled labels.
        shuffled: what it does where it is fitted on shuffled labels.
        geometry: of the scanned blocks.
    """

    n_blocks: int
    harmful: Sequence[float]
    harmless: Sequence[float]
    effects: Sequence[Effect]
    joint: Sequence[Effect] = ()
    control: Effect | None = None
    shuffled: Shuffled | None = None
    geometry: Sequence[BlockGeometry] = ()

    @property
    def refusal(self) -> Measurement:
        """First-token refusal probability of the harmful prompts."""
        return bootstrap_mean(probability(self.harmful))

    @property
    def refusal_harmless(self) -> Measurement:
        """The same of the harmless ones."""
        return bootstrap_mean(probability(self.harmless))

    @property
    def peak(self) -> Effect:
        """The block that removes most."""
        return largest(self.effects)


def conclude(found: Evidence) -> Localisation:
    """The extent and the sentence."""
    problem, peak = _problem(found), found.peak
    extent: Extent = "nothing" if problem else _extent(peak, found.joint)
    first = last = None
    if extent != "nothing":
        reached = {
            part: next(e.blocks[0] for e in found.effects if e.removed.value >= part * peak.removed.value)
            for part in (ONSET, REACHED)
        }
        first, last = reached[ONSET], reached[REACHED]
    return Localisation(
        found.n_blocks,
        found.refusal,
        found.refusal_harmless,
        tuple(found.effects),
        tuple(found.joint),
        found.shuffled,
        tuple(found.geometry),
        extent,
        first,
        last,
        problem or _sentence(found, extent, (first or 0, last or 0)),
        found.control,
    )


def needs_more_blocks(effects: Sequence[Effect]) -> bool:
    """Whether one block does not suffice, so that several have to be tried together."""
    return largest(effects).removed.bounds[0] < HALF


def partners(effects: Sequence[Effect], candidate: Candidate, count: int = 3) -> tuple[Candidate, ...]:
    """The candidate on its block together with each of the next strongest ones."""
    others = sorted((e for e in effects if e.blocks != candidate.blocks), key=lambda e: -e.removed.value)
    return tuple(
        Candidate(candidate.method, tuple(sorted({*candidate.blocks, *e.blocks})), candidate.rank, candidate.tokens)
        for e in others[:count]
    )


# What follows decides and says ------------------------------------------------------------------------------------


def _cross_fitted(each: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per prompt, the refusal probability under the candidate (row) that is best on the other half of the prompts."""
    moved = np.empty(each.shape[1])
    even = np.arange(each.shape[1]) % 2 == 0
    for here, there in ((even, ~even), (~even, even)):
        chosen = each[:, there].mean(axis=1).argmin() if there.any() else 0
        moved[here] = probability(each[chosen, here].tolist())
    return moved


def _problem(found: Evidence) -> str | None:
    """Why nothing is localised, in words; None where something is."""
    refusal, refusal_harmless, peak = found.refusal, found.refusal_harmless, found.peak
    control, shuffled = found.control, found.shuffled
    if refusal.bounds[0] <= refusal_harmless.bounds[1]:
        return (
            f"Nothing is localised: the model begins a refusal with probability {share(refusal, 0)} on harmful prompts "
            f"and {share(refusal_harmless, 0)} on harmless ones, which are not told apart."
        )
    best = max([peak, *found.joint], key=lambda e: e.removed.value)
    if best.removed.bounds[0] < CLEAR:
        return (
            f"Nothing is localised: the strongest map ({_where(best)}) removes {share(best.removed, 0)} of the "
            "first-token refusal."
        )
    if control is not None and shuffled is not None and control.removed.value <= shuffled.largest:
        return (
            f"Nothing is localised: at the strongest block {_where(control)} removes {share(control.removed, 0)} of "
            f"the first-token refusal, and the best of {shuffled.fits} such maps fitted on shuffled labels "
            f"{percent(shuffled.largest, 0)}."
        )
    here = [g for g in found.geometry if g.block == peak.blocks[0]]
    if here and here[0].auroc.bounds[0] <= HALF:
        return (
            f"Nothing is localised: at block {peak.blocks[0]}, where the strongest map is, harmful and harmless "
            f"prompts are not told apart (held-out AUROC {number(here[0].auroc)})."
        )
    return None


def _extent(peak: Effect, joint: Sequence[Effect]) -> Extent:
    if peak.removed.bounds[0] >= HALF:
        return "one block"
    pairs = [e for e in joint if len(e.blocks) == 2]
    if pairs and largest(pairs).removed.bounds[0] >= HALF:
        return "two blocks"
    return "spread out"


def _sentence(found: Evidence, extent: Extent, band: tuple[int, int]) -> str:
    n_blocks, peak, refusal = found.n_blocks, found.peak, found.refusal
    first, last = band
    low, high = (first + 1) / n_blocks, (last + 1) / n_blocks
    if first == last:
        where = f"at block {first} of {n_blocks} ({percent(low, 0)} depth)"
    else:
        where = f"at blocks {first}-{last} of {n_blocks} ({percent(low, 0, '')}-{percent(high, 0)} depth)"
    pairs = [effect for effect in found.joint if len(effect.blocks) == 2]
    best = largest(pairs) if pairs else peak
    suffices = {
        "one block": "one block suffices",
        "two blocks": f"two blocks are needed ({_where(best)} removes {share(best.removed, 0)})",
        "spread out": "it is spread out: no map tried at one or two blocks surely removes half of it",
        "nothing": "",
    }[extent]
    kl = "" if peak.kl is None else f", at a KL of {number(peak.kl)} nats on harmless ones"
    said = (
        f"Refusal is decided {where}; {suffices}. The strongest map at one block ({_where(peak)}) removes "
        f"{share(peak.removed, 0)} of the first-token refusal (probability {number(refusal)}, {refusal.n} harmful "
        f"prompts){kl}."
    )
    apart = next((g for g in found.geometry if g.auroc.bounds[0] >= 0.9), None)
    if apart is None:
        return said
    return (
        f"{said} Harmful and harmless prompts are told apart as early as block {apart.block} (held-out AUROC "
        f"{number(apart.auroc)})."
    )


def _where(effect: Effect) -> str:
    blocks = "+".join(map(str, effect.blocks)) if len(effect.blocks) <= 2 else f"{len(effect.blocks)} blocks"
    return effect.candidate or f"block {blocks}"
