"""What the jobs hand on and results keep: plain records, without torch, so that reading results costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bures.results.marks import answered
from bures.results.names import Scope
from bures.results.shares import least
from bures.results.stats import Measurement

Extent = Literal["one block", "two blocks", "spread out", "nothing"]
"""How many blocks it takes to remove refusal."""

Placement = Literal["one", "two", "all", "sites"]
"""Where a method's maps are: after one block, two blocks or all of them, or at three sites of every block."""

Point = tuple[float, float]


class BlockRange(NamedTuple):
    """The blocks from the first to the last of them."""

    first: int
    last: int


def open_ends(inside: BlockRange, scanned: Sequence[int], n_blocks: int) -> tuple[bool, bool]:
    """Whether what lies between two blocks may begin before the scanned ones, and whether it may end behind them.

    Args:
        inside: the two blocks, both scanned.
        scanned: in ascending order.
        n_blocks: of the model, whose ends are no open ones.
    """
    return 0 < inside.first == scanned[0], n_blocks - 1 > inside.last == scanned[-1]


@dataclass(frozen=True)
class MethodNote:
    """What results say of a method, so that nobody who reads them needs it installed.

    Attributes:
        label: in tables and plots.
        ranked: whether it has a rank K.
        baseline: whether it is there for the others to be held against.
        order: its place among all methods; it decides how plots draw it.
    """

    label: str
    ranked: bool
    baseline: bool
    order: int


@dataclass(frozen=True)
class Candidate:
    """What is tried: a method at blocks, with a rank (or None) and a token scope.

    With `sites`, the map fitted at the one block is put at three sites of every block.
    """

    method: str
    blocks: tuple[int, ...]
    rank: int | None
    tokens: Scope
    sites: bool = False

    def is_at(self, placement: Placement, n_blocks: int) -> bool:
        """Whether it counts as tried there, in a model with so many blocks."""
        if placement == "sites" or self.sites:
            return placement == "sites" and self.sites
        return len(self.blocks) == {"one": 1, "two": 2, "all": n_blocks}[placement]

    @property
    def key(self) -> str:
        """A stable name: in results, in file names."""
        rank = "" if self.rank is None else f"-k{self.rank}"
        blocks = (
            f"{self.blocks[0]}" if len(self.blocks) == 1 else f"{self.blocks[0]}to{self.blocks[-1]}n{len(self.blocks)}"
        )
        if len(self.blocks) == 2:
            blocks = f"{self.blocks[0]}+{self.blocks[1]}"
        return f"{self.method}{'-sites' if self.sites else ''}{rank}-b{blocks}-{self.tokens}"


@dataclass(frozen=True)
class ScanScore:
    """First-token score of a candidate.

    Attributes:
        candidate: what was scored.
        refusal_log_odds: mean log-odds of a refusal token on harmful prompts; the lower, the less refusal.
        first_token_kl: mean KL(original || intervened) on harmless prompts, in nats.
        each: log-odds of every harmful prompt, in their order; empty where there are no refusal tokens.
        induced: log-odds of every harmless prompt under the reversed map; empty where it was not asked for.
    """

    candidate: Candidate
    refusal_log_odds: float
    first_token_kl: float
    each: tuple[float, ...] = ()
    induced: tuple[float, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A candidate that could not be scored, and why."""

    candidate: Candidate
    error: str


@dataclass(frozen=True)
class Trial:
    """A candidate's answers on the selection split.

    Attributes:
        candidate: what was tried.
        asr: share of harmful selection prompts answered, of those whose answer is finished; None where none is.
        perplexity_ratio: perplexity of the original model's harmless answers, over the original's own.
        kl: token KL(original || intervened) along them.
        error: why it could not be tried (then it is never chosen).
        unfinished: answers that were cut before they said anything.
        refused: the judge's mark on every harmful selection prompt, in their order, as rows have theirs.
        again: its marks on the further selection prompts, which had no part in making the trial one of the best; empty
            where it was not tried again.
    """

    candidate: Candidate
    asr: Measurement | None
    perplexity_ratio: float | None
    kl: Measurement | None
    error: str | None = None
    unfinished: int = 0
    refused: str = ""
    again: str = ""

    @property
    def least(self) -> float:
        """Share of all harmful selection prompts that were certainly answered: what a first choice goes by."""
        return least(self.asr, self.unfinished)

    @property
    def least_in_all(self) -> float:
        """The same with the further prompts, where it was tried again: what the choice among the best goes by."""
        everything = answered(self.refused + self.again)
        return sum(everything) / len(everything) if self.again else self.least


@dataclass(frozen=True)
class BlockGeometry:
    """How two classes lie at one block (`bures.jobs.geometry` defines the figures).

    Angles are in degrees, None where there is nothing to compare.
    """

    block: int
    components: int
    distance: float
    mean_share: float
    distance_whitened: float
    mean_share_whitened: float
    fisher: tuple[float, ...]
    effective_rank: float
    auroc: Measurement
    gaussian_share: float
    angle_previous: float | None
    angle_rfa: float
    angle_act: float | None
    angle_rfa_act: float | None


@dataclass(frozen=True)
class Effect:
    """What maps at some blocks do to refusal at the first answer token.

    Attributes:
        blocks: where.
        candidate: name of the map, the best of all selection prompts within the KL limit; None where none is.
        removed: share of first-token refusal removed, cross-fitted where the map was chosen among several.
        kl: of that map, on harmless prompts, in nats.
        induced: refusal probability of harmless prompts under its reverse; None where it was not measured.
    """

    blocks: tuple[int, ...]
    candidate: str | None
    removed: Measurement
    kl: float | None
    induced: Measurement | None = None


@dataclass(frozen=True)
class Shuffled:
    """What fits on shuffled labels do: the largest effect, and how many such fits there were."""

    largest: float
    fits: int


@dataclass(frozen=True)
class Localisation:
    """Where refusal is decided.

    Attributes:
        n_blocks: of the model.
        refusal: first-token refusal probability of harmful selection prompts in the original model.
        refusal_harmless: the same of harmless ones.
        effects: of every scanned block.
        joint: of pairs of blocks and of all blocks, where one is not shown to suffice; those over the KL limit too.
        shuffled: what `control` does where it is fitted on shuffled labels instead.
        geometry: of every scanned block.
        extent: in two words.
        first, last: the blocks between which refusal is decided; None where nothing is localised.
        sentence: the same in a sentence, with the numbers that made it say so.
        control: the map at the strongest block that is held against shuffled labels, with its effect on true ones.
        peak: the strongest map at one block, block and map chosen on one half of the prompts and measured on the other.
        first_range, last_range: the blocks that may truly be `first` and `last` (95 %).
        original: log-odds of refusal of every harmful selection prompt in the original model.
        rules: by which it was concluded; 1: before choices of block and map were taken out of the figures.
    """

    n_blocks: int
    refusal: Measurement
    refusal_harmless: Measurement
    effects: tuple[Effect, ...]
    joint: tuple[Effect, ...]
    shuffled: Shuffled | None
    geometry: tuple[BlockGeometry, ...]
    extent: Extent
    first: int | None
    last: int | None
    sentence: str
    control: Effect | None = None
    peak: Effect | None = None
    first_range: BlockRange | None = None
    last_range: BlockRange | None = None
    original: tuple[float, ...] = ()
    rules: int = 1

    @property
    def scanned(self) -> tuple[int, ...]:
        """The scanned blocks, in ascending order."""
        return tuple(sorted({effect.blocks[0] for effect in self.effects}))

    @property
    def decided(self) -> BlockRange | None:
        """The blocks between which refusal is decided; None where nothing is localised."""
        return None if self.first is None or self.last is None else BlockRange(self.first, self.last)

    @property
    def strongest(self) -> Effect:
        """The strongest map at one block; of results by the first rules, the largest of the blocks' effects."""
        return self.peak or max(self.effects, key=lambda effect: effect.removed.value)


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance in the plane; the covariance as (xx, xy, yy)."""

    mean: Point
    covariance: tuple[float, float, float]


@dataclass(frozen=True)
class View:
    """What a map does in the plane of the first two principal components.

    Attributes:
        row: key of the table's row whose map it is.
        block: where the map is.
        explained: shares of the pooled variance of the fit split along the two axes.
        gaussians: `harmful`, `harmless` and `moved` (harmful, after the map), each of the fit split.
        points: the same three, of the selection split.
        distances: from the harmful to the harmless activations of the selection split in all dimensions, before the
            map and after it: energy distance, a norm, 0 where they are alike. None in results of before.
    """

    row: str
    block: int
    explained: Point
    gaussians: dict[str, Gaussian]
    points: dict[str, tuple[Point, ...]]
    distances: Point | None = None

    @property
    def leads_away(self) -> bool:
        """Whether the map carries what it was not fitted on away from where it should go."""
        return self.distances is not None and self.distances[1] > self.distances[0]
