"""The check that every fit makes of its two sides before anything else.

Fits take plain tensors rather than shaped annotations, so that a wrong shape is a readable `FitError` everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float64
from torch import Tensor

from bures.errors import FitError


def as_pair(source: Tensor, target: Tensor) -> tuple[Float64[Tensor, "n d"], Float64[Tensor, "m d"]]:
    """Both sides of a fit, checked, detached, in float64 and on the device of the source.

    Raises:
        FitError: a side is not a floating (n, d) with at least one row, the widths differ, or a row has NaN or
            infinite entries.
    """
    X, Y = _as_rows(source, "source"), _as_rows(target, "target")
    if X.shape[1] != Y.shape[1]:
        raise FitError(
            f"The source rows have width {X.shape[1]} and the target rows {Y.shape[1]}; "
            "both must come from the same layer of the same model."
        )
    return X, Y.to(X.device)


def _as_rows(rows: Tensor, side: str) -> Tensor:
    if not isinstance(cast("object", rows), Tensor):
        hint = "pick one block, such as X[13]" if isinstance(rows, Mapping) else "make one by torch.as_tensor"
        kind = type(cast("object", rows)).__name__
        raise FitError(f"The {side} must be a floating tensor of shape (n, d), but is a {kind}; {hint}.")
    if rows.ndim != 2 or 0 in rows.shape or not rows.dtype.is_floating_point:
        raise FitError(
            f"The {side} must be a floating tensor of shape (n, d) with at least one row, "
            f"got {tuple(rows.shape)} of {rows.dtype}."
        )
    rows64 = rows.detach().to(torch.float64)
    finite = torch.isfinite(rows64).all(dim=1)
    if not bool(finite.all()):
        raise FitError(
            f"Row {int((~finite).nonzero()[0])} of the {side} has NaN or infinite entries ({int((~finite).sum())} "
            f"of {len(rows)} rows); finite activations were expected: run the model in float32 or bfloat16."
        )
    return rows64
