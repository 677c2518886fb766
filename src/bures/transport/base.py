"""What every transport map has in common: the protocol, the two families of maps, and their files.

    LowRankAffine    h + U [ M V'(h - mu) + c ]      what is orthogonal to V is never read, and only span(U) is written
    DiagonalAffine   w * h + b                       per coordinate, optionally only where low <= h <= high

Both are frozen, callable on (..., d), and never form a d x d matrix. They are fitted and stored in float64; the
arithmetic runs in promote(h.dtype, map dtype, float32), with autocast switched off, and the result has the dtype of h.
`.to(dtype=torch.float32)` makes a faster copy for use inside a model.

A map is saved as one safetensors file; beside it lies a `.json` for people, which `load_map` does not read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from bures.errors import ConfigError, plain
from bures.transport._files import Contents, damaged, read_contents, write_contents
from bures.transport.summary import Summary, diagonal_summary, low_rank_summary


@runtime_checkable
class TransportMap(Protocol):
    """A map of R^d to itself that moves activations; strength is the business of the hook, or of `interpolate`."""

    @property
    def kind(self) -> str:
        """Name of the method that fitted it."""
        ...

    @property
    def dim(self) -> int:
        """Width d of the activations it acts on."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its tensors are, and where h must be."""
        ...

    def __call__(self, h: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """A new tensor of the same shape and dtype; h is not edited."""
        ...

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TransportMap:
        """A copy on another device or in another floating dtype."""
        ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map to a `.safetensors` file, with a `.json` for people beside it."""


@dataclass(frozen=True, eq=False)
class LowRankAffine:
    """h + U [ M V'(h - mu) + c ] with U = basis_out, M = matrix, V = basis_in, c = offset, mu = mean.

    Raises:
        ValueError: the shapes, dtypes or devices of the tensors do not fit together.
    """

    kind: str
    mean: Float[Tensor, " d"]
    basis_in: Float[Tensor, "d k"]
    matrix: Float[Tensor, "k k"]
    offset: Float[Tensor, " k"]
    basis_out: Float[Tensor, "d k"]
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        _check_low_rank(_tensors(self))

    @property
    def dim(self) -> int:
        """Width d of the activations."""
        return self.mean.shape[0]

    @property
    def rank(self) -> int:
        """Number k of directions that the map reads and writes."""
        return self.offset.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the tensors."""
        return self.mean.dtype

    def __call__(self, h: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Apply the map to (..., d).

        Raises:
            ConfigError: h has another width or is on another device.
        """
        dtype = _compute_dtype(self, h)
        with torch.autocast(h.device.type, enabled=False):
            wide = h.to(dtype)
            z = (wide - self.mean.to(dtype)) @ self.basis_in.to(dtype)
            shift = z @ self.matrix.to(dtype).mT + self.offset.to(dtype)
            return (wide + shift @ self.basis_out.to(dtype).mT).to(h.dtype)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LowRankAffine:
        """A copy on another device or in another floating dtype."""
        return replace(self, **_moved(self, device, dtype))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map to `path` (.safetensors) and a readable `.json` beside it.

        Raises:
            ConfigError: the name does not end in .safetensors.
            RunError: the files cannot be written.
        """
        contents = Contents("LowRankAffine", self.kind, _tensors(self), self.metadata)
        write_contents(path, contents, dim=self.dim, rank=self.rank)

    def summary(self) -> Summary:
        """What it does, in a few figures."""
        return low_rank_summary(self.kind, (self.basis_out, self.matrix, self.basis_in), self.metadata)

    def __repr__(self) -> str:
        """One line without tensors."""
        return _line(self, f"K {self.rank}")


@dataclass(frozen=True, eq=False)
class DiagonalAffine:
    """w * h + b per coordinate, with w = weight and b = bias.

    With `low` and `high` (both or neither), a coordinate outside [low, high] is left alone.

    Raises:
        ValueError: the shapes, dtypes or devices of the tensors do not fit together, or only one bound is given.
    """

    kind: str
    weight: Float[Tensor, " d"]
    bias: Float[Tensor, " d"]
    low: Float[Tensor, " d"] | None = None
    high: Float[Tensor, " d"] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        _check_diagonal(_tensors(self))

    @property
    def dim(self) -> int:
        """Width d of the activations."""
        return self.weight.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the tensors."""
        return self.weight.dtype

    def __call__(self, h: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Apply the map to (..., d).

        Raises:
            ConfigError: h has another width or is on another device.
        """
        dtype = _compute_dtype(self, h)
        wide = h.to(dtype)
        moved = wide * self.weight.to(dtype) + self.bias.to(dtype)
        if self.low is not None and self.high is not None:
            moved = torch.where((wide >= self.low.to(dtype)) & (wide <= self.high.to(dtype)), moved, wide)
        return moved.to(h.dtype)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> DiagonalAffine:
        """A copy on another device or in another floating dtype."""
        return replace(self, **_moved(self, device, dtype))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map to `path` (.safetensors) and a readable `.json` beside it.

        Raises:
            ConfigError: the name does not end in .safetensors.
            RunError: the files cannot be written.
        """
        contents = Contents("DiagonalAffine", self.kind, _tensors(self), self.metadata)
        write_contents(path, contents, dim=self.dim, rank=None)

    def summary(self) -> Summary:
        """What it does, in a few figures."""
        return diagonal_summary(self.kind, self.weight, self.metadata)

    def __repr__(self) -> str:
        """One line without tensors."""
        return _line(self, "per coordinate" if self.low is None else "per coordinate, in an interval")


def load_map(path: str | os.PathLike[str]) -> LowRankAffine | DiagonalAffine:
    """Read a map written by `save`, bit for bit, onto the CPU.

    Raises:
        RunError: there is no such file, it is damaged, it is not a map, it was written by another format version,
            or its tensors are not finite or do not fit together.
    """
    contents = read_contents(path)
    tensors: dict[str, Any] = {**contents.tensors}
    try:
        if contents.class_name == "LowRankAffine":
            _check_low_rank(tensors)
            return LowRankAffine(kind=contents.kind, metadata=contents.metadata, **tensors)
        if contents.class_name == "DiagonalAffine":
            _check_diagonal(tensors)
            return DiagonalAffine(kind=contents.kind, metadata=contents.metadata, **tensors)
    except ValueError as error:
        raise damaged(path, error) from error
    raise damaged(path, f"unknown class {contents.class_name}")


def _line(transport: LowRankAffine | DiagonalAffine, shape: str) -> str:
    """`LowRankAffine(pca-ot, d 576, K 2, gap 94 %)`; number format and device where they are not float64 and cpu."""
    gap, strength = transport.metadata.get("mean_gap_share"), transport.metadata.get("strength")
    said = [transport.kind, f"d {transport.dim}", shape]
    said += [] if gap is None else [f"gap {gap:.0%}".replace("%", " %")]
    said += [] if strength is None else [f"strength {strength:g}"]
    said += [] if transport.dtype == torch.float64 else [str(transport.dtype).removeprefix("torch.")]
    said += [] if transport.device.type == "cpu" else [str(transport.device)]
    return plain(f"{type(transport).__name__}({', '.join(said)})").replace("\n", "\\n")


def _tensors(transport: LowRankAffine | DiagonalAffine) -> dict[str, Tensor]:
    values = {item.name: getattr(transport, item.name) for item in fields(transport)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _check_low_rank(tensors: Mapping[str, Tensor]) -> None:
    d, k = (tensors[name].numel() if name in tensors else 0 for name in ("mean", "offset"))
    _check(tensors, {"mean": (d,), "basis_in": (d, k), "matrix": (k, k), "offset": (k,), "basis_out": (d, k)})


def _check_diagonal(tensors: Mapping[str, Tensor]) -> None:
    bounds = {"low", "high"} & set(tensors)
    if len(bounds) == 1:
        raise ValueError(f"an interval needs both low and high, got only {bounds.pop()}")
    d = tensors["weight"].numel() if "weight" in tensors else 0
    _check(tensors, dict.fromkeys(["weight", "bias", *sorted(bounds)], (d,)))


def _check(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if set(tensors) != set(shapes):
        raise ValueError(f"the tensors {sorted(shapes)} were expected, got {sorted(tensors)}")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name]:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shapes[name]}")
        if not tensor.dtype.is_floating_point:
            raise ValueError(f"{name} has dtype {tensor.dtype}, expected a floating one")
    if len({(tensor.dtype, tensor.device) for tensor in tensors.values()}) > 1:
        raise ValueError("the tensors differ in dtype or device")


def _moved(
    transport: LowRankAffine | DiagonalAffine, device: torch.device | str | None, dtype: torch.dtype | None
) -> dict[str, Any]:
    return {name: tensor.to(device=device, dtype=dtype) for name, tensor in _tensors(transport).items()}


def _compute_dtype(transport: LowRankAffine | DiagonalAffine, h: Tensor) -> torch.dtype:
    """The dtype the arithmetic runs in; refuses an h that the map was not made for."""
    if h.ndim == 0 or h.shape[-1] != transport.dim:
        raise ConfigError(
            f"The {transport.kind} map acts on width {transport.dim}, got a tensor of shape {tuple(h.shape)}; "
            "use a map that was fitted on this model."
        )
    if h.device != transport.device:
        raise ConfigError(f"The map is on {transport.device} and h on {h.device}; move the map with .to(device).")
    return torch.promote_types(torch.promote_types(h.dtype, transport.dtype), torch.float32)
