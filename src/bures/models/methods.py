"""The methods under test: how each one turns activations into a map, and where in a network it may be put.

A `Method` carries everything that the rest of bures has to know of it: scan, choice, rows, saved maps, tables and plots
ask it and know no method by name. One of an installed package (entry point group `bures.methods`) is therefore treated
like those of bures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from bures.data.extensions import Registry
from bures.errors import ConfigError
from bures.results.records import MethodNote, Placement
from bures.transport import (
    LowRankAffine,
    TransportMap,
    ablate_direction,
    fit_act,
    fit_mean_shift,
    fit_pca_ot,
    fit_pca_ot_path,
    fit_rfa,
    load_map,
)

Rows = Float[Tensor, "n d"]
Targets = Float[Tensor, "m d"]
Fit = Callable[[Rows, Targets], TransportMap]


@dataclass(frozen=True)
class FitOptions:
    """What the Gaussian fit is regularised with: see `fit_pca_ot`."""

    ridge: float | None = None
    shrinkage: Literal["ledoit-wolf", "oas"] | None = None

    def keywords(self) -> dict[str, Any]:
        """Keywords for `fit_pca_ot`; the ridge is left to its documented default unless it was given."""
        given: dict[str, Any] = {"shrinkage": self.shrinkage}
        return given if self.ridge is None else {**given, "ridge": self.ridge}


@dataclass(frozen=True)
class Method:
    """One way to turn source and target activations into a map.

    Attributes:
        name: on the command line.
        label: in tables and plots.
        sequential: whether several blocks are fitted one after the other on moved activations.
        fit: (source, target, rank, options) -> map; the rank is 0 for a method without one. Raises `FitError` where
            the activations do not allow it.
        ranked: whether it has a rank K.
        ablates: whether its map takes a direction away, however short the gap along it is.
        baseline: whether it is there for the others to be held against.
        placements: where it is tried: on one block, on two, on all, or at three sites of every block (`sites`: block
            input, attention output and MLP output).
        fit_ranks: all ranks at once, where that is cheaper: (source, target, ranks, options) -> rank -> map.
        fit_back: `fit` for the way back, from target to source, where it is another.
        everywhere: what a map fitted at one block becomes at the three sites of every block; with `sites` alone.
        load: reads one of its maps from the file that the map's own `save` wrote.

    Raises:
        ConfigError: it has no placement, or `sites` without `everywhere` or the other way round.
    """

    name: str
    label: str
    sequential: bool
    fit: Callable[[Rows, Targets, int, FitOptions], TransportMap]
    ranked: bool = False
    ablates: bool = False
    baseline: bool = False
    placements: tuple[Placement, ...] = ("one", "two", "all")
    fit_ranks: Callable[[Rows, Targets, Sequence[int], FitOptions], Mapping[int, TransportMap]] | None = None
    fit_back: Callable[[Rows, Targets, int, FitOptions], TransportMap] | None = None
    everywhere: Callable[[TransportMap], TransportMap] | None = None
    load: Callable[[Path], TransportMap] = load_map

    def __post_init__(self) -> None:
        if "one" not in self.placements or ("sites" in self.placements) != (self.everywhere is not None):
            raise ConfigError(
                f"method {self.name}: placements {self.placements}; expected `one` among them, and `sites` exactly "
                "where `everywhere` says what its map becomes there"
            )

    def label_at(self, placement: Placement) -> str:
        """What the table calls it there."""
        return f"{self.label}, one direction" if placement == "sites" else self.label

    def note(self, order: int) -> MethodNote:
        """What results keep of it, for whoever reads them without its package."""
        return MethodNote(self.label, self.ranked, self.baseline, order)


def _pca_ot(source: Rows, target: Targets, rank: int, options: FitOptions) -> TransportMap:
    return fit_pca_ot(source, target, rank, **options.keywords())


def _pca_ot_path(
    source: Rows, target: Targets, ranks: Sequence[int], options: FitOptions
) -> Mapping[int, TransportMap]:
    return fit_pca_ot_path(source, target, list(ranks), **options.keywords())


def _rfa(source: Rows, target: Targets, _: int, __: FitOptions) -> TransportMap:
    return fit_rfa(source, target)


def _rfa_mean(source: Rows, target: Targets, _: int, __: FitOptions) -> TransportMap:
    return fit_rfa(source, target, add_target_mean=True)


def _erased(map_: TransportMap) -> TransportMap:
    """The ablation of an RFA map's direction alone (Arditi et al., arXiv 2406.11717, section 2.4)."""
    assert isinstance(map_, LowRankAffine)
    return ablate_direction(map_.basis_in[:, 0])


_BUILT_IN = (
    Method("pca-ot", "PCA-OT", True, _pca_ot, ranked=True, fit_ranks=_pca_ot_path),
    Method(
        "rfa",
        "RFA",
        False,
        _rfa,
        ablates=True,
        baseline=True,
        placements=("one", "all", "sites"),
        fit_back=_rfa_mean,  # an ablation has no way back; this one puts the source's mean along the direction
        everywhere=_erased,
    ),
    Method("act", "Linear-AcT", True, lambda x, y, _, __: fit_act(x, y), baseline=True, placements=("one", "all")),
    Method(
        "mean-act", "Mean-AcT", True, lambda x, y, _, __: fit_mean_shift(x, y), baseline=True, placements=("one", "all")
    ),
    Method("rfa-mean", "RFA + harmless mean", False, _rfa_mean, ablates=True, baseline=True, placements=("one", "all")),
    Method(
        "act-interval",
        "Linear-AcT, source interval",
        True,
        lambda x, y, _, __: fit_act(x, y, interval=True),
        baseline=True,
        placements=("one", "all"),
    ),
)

METHODS: Mapping[str, Method] = Registry("bures.methods", Method, {method.name: method for method in _BUILT_IN})
"""Ours, and those of installed packages (entry point group `bures.methods`)."""


def method_of(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; expected one of {', '.join(METHODS)}")
    return METHODS[name]


def notes_of(names: Sequence[str]) -> dict[str, MethodNote]:
    """What results keep of methods: per name, in the registry's order."""
    return {name: METHODS[name].note(order) for order, name in enumerate(METHODS) if name in names}


def fit_of(name: str, rank: int | None, options: FitOptions) -> Fit:
    """The fit function of a method: (source, target) -> map.

    Raises:
        ConfigError: an unknown method, or a ranked one without a rank.
    """
    method = method_of(name)
    if method.ranked and rank is None:
        raise ConfigError(f"method {name} needs a rank K; give --ranks")
    return lambda source, target: method.fit(source, target, rank or 0, options)


def fit_block(
    name: str, source: Rows, target: Targets, ranks: Sequence[int], options: FitOptions
) -> dict[int, TransportMap]:
    """All maps of a method at one block: rank -> map (rank 0 for methods without one)."""
    method = method_of(name)
    if not method.ranked:
        return {0: method.fit(source, target, 0, options)}
    if method.fit_ranks is not None:
        return dict(method.fit_ranks(source, target, ranks, options))
    return {rank: method.fit(source, target, rank, options) for rank in ranks}


def fit_reversed(
    name: str, source: Rows, target: Targets, ranks: Sequence[int], options: FitOptions
) -> dict[int, TransportMap]:
    """The maps of a method the other way, from target to source: what should make harmless prompts look harmful."""
    back = method_of(name).fit_back
    if back is None:
        return fit_block(name, target, source, ranks, options)
    return {rank: back(target, source, rank, options) for rank in (ranks if METHODS[name].ranked else (0,))}
