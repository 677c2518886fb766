"""Where refusal is decided, in words: what the figures of `bures.jobs.localisation` allow to be said.

Refusal counts as localised where the strongest map's effect stands clear of zero, harmful and harmless prompts can be
told apart there (held-out AUROC), and maps fitted on shuffled labels do less: a permutation test of the strongest map,
fitted anew on prompts that had no part in choosing it. It is a transport map where there is one. An ablation takes away
a direction however short the gap along it is, and the gap of shuffled labels points where activations vary most, which
is often from harmless to harmful: such ablations may remove refusal too, and are no control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bures.jobs.localisation import probability
from bures.results.bootstrap import bootstrap_mean
from bures.results.formatting import number, percent, share
from bures.results.inference import SHUFFLES
from bures.results.records import BlockGeometry, BlockRange, Effect, Extent, Localisation, Shuffled, open_ends
from bures.results.stats import Measurement

HALF = 0.5
"""Share of refusal that a map has to remove, by its interval's lower end, to suffice."""

CLEAR = 0.2
"""Share of refusal that a map has to remove, by its interval's lower end, to count at all."""

RULES = 2
"""Of the sentence; results whose localisation says 1, or nothing, were concluded by those of bures 0.1."""


@dataclass(frozen=True)
class Band:
    """The rise of the effect over the blocks.

    Attributes:
        decided: first block with half of the largest effect, first with nearly all of it.
        first: the blocks that may truly be the first of them (95 %).
        last: the blocks that may truly be the last.
    """

    decided: BlockRange
    first: BlockRange
    last: BlockRange


@dataclass(frozen=True)
class Evidence:
    """What is concluded from.

    Attributes:
        n_blocks: of the model.
        harmful: log-odds of refusal of the harmful prompts in the original model.
        harmless: of the harmless ones.
        effects: of single blocks.
        peak: the strongest map at one block.
        band: where the rise to it is.
        one_falls_short: whether every map at one block is shown to remove less than half.
        pair: the strongest map at two blocks, where one is not shown to suffice and a pair is within the KL limit.
        everywhere: the same on all blocks.
        control: the map that is held against shuffled labels, fitted on prompts that did not choose it.
        shuffled: what it does where those prompts' labels are shuffled.
        ablates: whether that map is an ablation, because no transport map there is within the KL limit.
        geometry: of the scanned blocks.
    """

    n_blocks: int
    harmful: Sequence[float]
    harmless: Sequence[float]
    effects: Sequence[Effect]
    peak: Effect
    band: Band
    one_falls_short: bool = False
    pair: Effect | None = None
    everywhere: Effect | None = None
    control: Effect | None = None
    shuffled: Shuffled | None = None
    ablates: bool = False
    geometry: Sequence[BlockGeometry] = ()

    @property
    def scanned(self) -> tuple[int, ...]:
        """The blocks at which maps were scored."""
        return tuple(sorted({block for effect in self.effects for block in effect.blocks}))

    @property
    def is_inside(self) -> bool:
        """Whether an end of the band lies among the scanned blocks, or the network's own: else it may be elsewhere."""
        return not all(open_ends(self.band.decided, self.scanned, self.n_blocks))

    @property
    def refusal(self) -> Measurement:
        """First-token refusal probability of the harmful prompts."""
        return bootstrap_mean(probability(self.harmful), within=(0.0, 1.0))

    @property
    def refusal_harmless(self) -> Measurement:
        """The same of the harmless ones."""
        return bootstrap_mean(probability(self.harmless), within=(0.0, 1.0))

    @property
    def together(self) -> tuple[Effect, ...]:
        """What several blocks do, within the KL limit."""
        return tuple(effect for effect in (self.pair, self.everywhere) if effect is not None)


def conclude(found: Evidence, joint: Sequence[Effect] = ()) -> Localisation:
    """The extent and the sentence.

    Args:
        found: the evidence.
        joint: everything that was tried at several blocks, for the table.
    """
    problem = _problem(found)
    extent: Extent = "nothing" if problem else _extent(found)
    known = extent != "nothing" and _is_clear(found.peak)
    named = known and found.is_inside
    return Localisation(
        found.n_blocks,
        found.refusal,
        found.refusal_harmless,
        tuple(found.effects),
        tuple(joint or found.together),
        found.shuffled,
        tuple(found.geometry),
        extent,
        found.band.decided.first if named else None,
        found.band.decided.last if named else None,
        problem or _sentence(found, extent),
        found.control,
        peak=found.peak,
        first_range=found.band.first if known else None,
        last_range=found.band.last if known else None,
        original=tuple(found.harmful),
        rules=RULES,
    )


def _is_clear(effect: Effect) -> bool:
    return effect.removed.bounds[0] >= CLEAR


def _problem(found: Evidence) -> str | None:
    """Why nothing is localised, in words; None where something is."""
    refusal, refusal_harmless, peak = found.refusal, found.refusal_harmless, found.peak
    if refusal.bounds[0] <= refusal_harmless.bounds[1]:
        return (
            f"Nothing is localised: the model begins a refusal with probability {share(refusal, 0)} on harmful prompts "
            f"and {share(refusal_harmless, 0)} on harmless ones, which are not told apart."
        )
    tried = [peak, *found.together]
    if not any(_is_clear(effect) for effect in tried):
        best = max(tried, key=lambda e: e.removed.value)
        return (
            f"Nothing is localised: the strongest map ({_where(best)}) removes {share(best.removed, 0)} of the "
            "first-token refusal."
        )
    return _by_chance(found) or _not_apart(found)


def _by_chance(found: Evidence) -> str | None:
    """Why the strongest map may do what it does by chance."""
    control, shuffled = found.control, found.shuffled
    if control is None or shuffled is None or shuffled.fits < SHUFFLES:
        fits = 0 if shuffled is None else shuffled.fits
        return (
            f"Nothing is localised: the check against shuffled labels takes {SHUFFLES} fits and {fits} succeeded; add "
            "prompts to fit on."
        )
    if control.removed.value > shuffled.largest:
        return None
    if found.ablates:
        return (
            f"Nothing is localised: at block {control.blocks[0]}, where the strongest map is, no transport map is "
            "within --max-kl, and what ablations do cannot be told from chance "
            f"({_where(control)}, fitted anew on other prompts, removes {share(control.removed, 0)} of the first-token "
            f"refusal, and the best of {shuffled.fits} such ablations fitted on shuffled labels "
            f"{percent(shuffled.largest, 0)}); try a transport map at a larger --max-kl."
        )
    return (
        f"Nothing is localised: fitted anew on other prompts, {_where(control)} removes {share(control.removed, 0)} of "
        f"the first-token refusal, and the best of {shuffled.fits} such maps fitted on shuffled labels "
        f"{percent(shuffled.largest, 0)}."
    )


def _not_apart(found: Evidence) -> str | None:
    """Why the block of the strongest map knows nothing."""
    block = found.peak.blocks[0]
    here = [g for g in found.geometry if g.block == block]
    if not here or here[0].auroc.bounds[0] > HALF:
        return None
    return (
        f"Nothing is localised: at block {block}, where the strongest map is, harmful and harmless "
        f"prompts are not told apart (held-out AUROC {number(here[0].auroc)})."
    )


def _extent(found: Evidence) -> Extent:
    if found.peak.removed.bounds[0] >= HALF:
        return "one block"
    if found.pair is not None and found.pair.removed.bounds[0] >= HALF:
        return "two blocks"
    return "spread out"


def _sentence(found: Evidence, extent: Extent) -> str:
    peak, refusal = found.peak, found.refusal
    where = f"Refusal is decided {_place(found) if _is_clear(peak) else 'only by several blocks together'}"
    if _is_clear(peak) and not found.is_inside:
        where = f"Where refusal is decided is not shown: the rise may begin before {_blocks(found)} and end behind"
    said = (
        f"{where}; {_suffices(found, extent)}. The strongest map at one block (such as "
        f"{_where(peak)}) removes {share(peak.removed, 0)} of the first-token refusal (probability {number(refusal)}, "
        f"{refusal.n} harmful prompts){_at_kl(peak)}."
    )
    apart = next((g for g in found.geometry if g.auroc.bounds[0] >= 0.9), None)
    if apart is None:
        return said
    first = found.scanned[0]
    early = f"already at block {first}, the first that was scanned" if 0 < first == apart.block else ""
    return (
        f"{said} Harmful and harmless prompts are told apart {early or f'as early as block {apart.block}'} (held-out "
        f"AUROC {number(apart.auroc, 3)})."
    )


def _place(found: Evidence) -> str:
    """The band, and how far its ends are known."""
    n_blocks, (first, last) = found.n_blocks, found.band.decided
    low, high = (first + 1) / n_blocks, (last + 1) / n_blocks
    begins, ends = (f"{a}" if a == b else f"{a}-{b}" for a, b in (found.band.first, found.band.last))
    known = f"the first of them is one of {begins}, the last one of {ends}, 95%{_at_the_edge(found)}"
    if first == last:
        return f"at block {first} of {n_blocks} ({percent(low, 0)} depth; {known})"
    return f"at blocks {first}-{last} of {n_blocks} ({percent(low, 0, '')}-{percent(high, 0)} depth; {known})"


def _blocks(found: Evidence) -> str:
    """The scanned blocks, of which there are fewer than the network has."""
    scanned = found.scanned
    if len(scanned) == 1:
        return f"block {scanned[0]} of {found.n_blocks}, the only one that was scanned,"
    return f"blocks {scanned[0]}-{scanned[-1]} of {found.n_blocks}, of which {len(scanned)} were scanned,"


def _at_the_edge(found: Evidence) -> str:
    """Which blocks were scanned, where not all were, and what of the band may lie outside."""
    scanned, (first, last) = found.scanned, found.band.decided
    if len(scanned) == found.n_blocks:
        return ""
    if len(scanned) == 1:
        return "; no other block was scanned, so nothing is known of the others"
    said = f"; of blocks {scanned[0]}-{scanned[-1]}, {len(scanned)} were scanned"
    if len(scanned) == scanned[-1] - scanned[0] + 1:
        said = f"; blocks {scanned[0]}-{scanned[-1]} were scanned"
    before, behind = open_ends(found.band.decided, scanned, found.n_blocks)
    said += f", it may begin before block {first}" if before else ""
    return said + (f", it may end behind block {last}" if behind else "")


def _suffices(found: Evidence, extent: Extent) -> str:
    """How many blocks are shown to suffice, and whether fewer are shown not to."""
    if extent == "one block":
        return "one block suffices"
    short = found.one_falls_short
    if extent == "two blocks" and found.pair is not None:
        pair = f"({_where(found.pair)} removes {share(found.pair.removed, 0)}{_at_kl(found.pair)})"
        if short:
            return f"two blocks are needed {pair}: every map tried at one block removes less than half"
        return f"two blocks suffice {pair}, and one is not shown to"
    if short:
        return "every map tried at one block removes less than half of it, and none at two is shown to remove half"
    return "no map tried at one or two blocks is shown to remove half of it"


def _at_kl(effect: Effect) -> str:
    return "" if effect.kl is None else f", at a KL of {number(effect.kl)} nats on harmless ones"


def _where(effect: Effect) -> str:
    blocks = "+".join(map(str, effect.blocks)) if len(effect.blocks) <= 2 else f"{len(effect.blocks)} blocks"
    return effect.candidate or f"block {blocks}"
