"""What a map is, in a few figures: how it stretches, how far it shifts, and at what angle to RFA's direction.

    J    the map's derivative: I + U M V' (low rank), diag(w) (per coordinate, inside its interval)
    s    mean(T(X)) - mean(X), the mean displacement of the source rows that it was fitted on
    g    mean(Y) - mean(X), the line that RFA ablates and along which Mean-AcT shifts

The stretch is the spectrum of J: K eigenvalues, those of I + M V'U, besides d - K that are 1; or the d weights. For
PCA-OT they are those of A: 1 where a component keeps its spread, more where the map widens it, 0 where RFA flattens it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float64
from torch import Tensor

_ROUNDING = 1e-9  # imaginary parts below this share of the largest eigenvalue


@dataclass(frozen=True)
class Summary:
    """A map in a few figures.

    Attributes:
        kind: name of the method that fitted it.
        dim: width d of the activations.
        rank: directions that it reads and writes; None: a map per coordinate.
        strength: lambda in h + lambda (T(h) - h), where it was interpolated.
        gap_held: share of the squared mean gap inside its subspace; None where the fit does not say.
        stretch: eigenvalues of its derivative (moduli where some are complex), largest first: K of them, or one a
            coordinate.
        shift: |s|, in the units of the activations; None where the fit does not say.
        angle_to_rfa: between s and g, in degrees; None where there is no angle.
    """

    kind: str
    dim: int
    rank: int | None
    strength: float
    gap_held: float | None
    stretch: tuple[float, ...]
    shift: float | None
    angle_to_rfa: float | None

    def __repr__(self) -> str:
        """One line."""
        return f"Summary({', '.join(f'{name} {said}' for name, said in self._said().items())})"

    def _repr_html_(self) -> str:
        """A table of two columns."""
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(said)}</td></tr>" for name, said in self._said().items())
        return f"<table>{rows}</table>"

    def _said(self) -> dict[str, str]:
        most, least = self.stretch[0], self.stretch[-1]
        said = {
            "kind": self.kind,
            "d": str(self.dim),
            "K": None if self.rank is None else str(self.rank),
            "strength": None if self.strength == 1.0 else f"{self.strength:g}",
            "gap held": None if self.gap_held is None else f"{self.gap_held:.0%}",
            "stretch": f"{most:.2f}" if most == least else f"{least:.2f} to {most:.2f}",
            "shift": None if self.shift is None else f"{self.shift:.3g}",
            "angle to RFA": None if self.angle_to_rfa is None else f"{self.angle_to_rfa:.0f} degrees",
        }
        return {name: text for name, text in said.items() if text is not None}


def low_rank_summary(kind: str, factors: tuple[Tensor, Tensor, Tensor], metadata: Mapping[str, Any]) -> Summary:
    """Of a `LowRankAffine`: `factors` are its U (d, k), M (k, k) and V (d, k)."""
    U, M, V = (factor.detach().to("cpu", torch.float64) for factor in factors)
    found = [complex(each) for each in _eigenvalues(torch.eye(len(M), dtype=M.dtype) + M @ V.mT @ U)]
    largest = max(1.0, *(abs(each) for each in found))
    is_real = all(abs(each.imag) <= _ROUNDING * largest for each in found)
    return _summary(kind, len(U), len(M), [each.real if is_real else abs(each) for each in found], metadata)


def diagonal_summary(kind: str, weight: Tensor, metadata: Mapping[str, Any]) -> Summary:
    """Of a `DiagonalAffine`: `weight` is its w (d,)."""
    return _summary(kind, len(weight), None, [float(w) for w in weight.detach().cpu()], metadata)


def _eigenvalues(M: Tensor) -> list[Any]:
    return cast("Any", torch.linalg).eigvals(M).tolist()  # torch does not type it


def _summary(kind: str, dim: int, rank: int | None, stretch: list[float], metadata: Mapping[str, Any]) -> Summary:
    strength = float(metadata.get("strength", 1.0))
    norm, cosine = metadata.get("shift_norm"), metadata.get("shift_cosine")
    return Summary(
        kind=kind,
        dim=dim,
        rank=rank,
        strength=strength,
        gap_held=metadata.get("mean_gap_share"),
        stretch=tuple(sorted(stretch, reverse=True)),
        shift=None if norm is None else abs(strength) * norm,
        angle_to_rfa=None if cosine is None else math.degrees(math.acos(max(-1.0, min(1.0, cosine)))),
    )


def shift_of(shift: Float64[Tensor, " d"], gap: Float64[Tensor, " d"]) -> dict[str, float | None]:
    """What a fit's metadata hold of s and g: `shift_norm` |s| and `shift_cosine`, None where one of them is 0."""
    length, other = float(shift.square().sum().sqrt()), float(gap.square().sum().sqrt())
    return {"shift_norm": length, "shift_cosine": float(shift @ gap) / (length * other) if length * other else None}
