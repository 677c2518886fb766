"""T_lambda(h) = h + lambda (T(h) - h): a map at a strength; 0 is the identity, 1 is T itself.

The two families of bures have it in closed form (the low-rank map scales M and c, the diagonal one w - 1 and b); any
other map is evaluated and drawn back.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from bures.errors import ConfigError
from bures.transport.base import DiagonalAffine, LowRankAffine, TransportMap


@dataclass(frozen=True, eq=False)
class Interpolated:
    """h + strength (T(h) - h) for a map of any class; the arithmetic runs in float32 or wider."""

    transport: TransportMap
    strength: float

    @property
    def kind(self) -> str:
        """That of the map."""
        return self.transport.kind

    @property
    def dim(self) -> int:
        """Width d of the activations."""
        return self.transport.dim

    @property
    def device(self) -> torch.device:
        """Where the map's tensors are."""
        return self.transport.device

    def __call__(self, h: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Apply the map to (..., d)."""
        wide = h.to(torch.promote_types(h.dtype, torch.float32))
        return (wide + self.strength * (self.transport(wide) - wide)).to(h.dtype)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Interpolated:
        """A copy on another device or in another floating dtype."""
        return replace(self, transport=self.transport.to(device=device, dtype=dtype))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Refused: a map and its strength are kept apart.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"a {self.kind} map at strength {self.strength} has no file; save the map, and the strength")


@overload
def interpolate(transport: LowRankAffine, strength: float) -> LowRankAffine: ...
@overload
def interpolate(transport: DiagonalAffine, strength: float) -> DiagonalAffine: ...
@overload
def interpolate(transport: TransportMap, strength: float) -> TransportMap: ...
def interpolate(transport: TransportMap, strength: float) -> TransportMap:
    """The map h + strength (T(h) - h): 0 is the identity, 1 is T itself.

    A `LowRankAffine` or `DiagonalAffine` stays one (the diagonal one keeps its interval), with the factor in its
    metadata as `strength`; another class becomes an `Interpolated`.

    Raises:
        ConfigError: the strength is not finite.
    """
    if not math.isfinite(strength):
        raise ConfigError(f"The strength must be a finite number, got {strength}.")
    if strength == 1.0:
        return transport
    if isinstance(transport, LowRankAffine):
        return replace(
            transport,
            matrix=transport.matrix * strength,
            offset=transport.offset * strength,
            metadata=_weakened(transport.metadata, strength),
        )
    if isinstance(transport, DiagonalAffine):
        return replace(
            transport,
            weight=1 + (transport.weight - 1) * strength,
            bias=transport.bias * strength,
            metadata=_weakened(transport.metadata, strength),
        )
    return Interpolated(transport, strength)


def _weakened(metadata: Mapping[str, Any], strength: float) -> dict[str, Any]:
    return {**metadata, "strength": metadata.get("strength", 1.0) * strength}
