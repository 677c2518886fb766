"""PCA-OT at six ranks beside POT's map in all dimensions; `side_by_side.py` runs it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import ot
import torch
from turns import arguments, in_turns, keep

from bures.transport import fit_pca_ot, fit_pca_ot_path

DIM, ROWS, RANKS = 512, 128, [1, 2, 4, 8, 16, 32]


def main() -> None:
    """Checks that both make the same of what both can fit (two dimensions), times and keeps."""
    given = arguments()
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, DIM, generator=draw, dtype=torch.float64) * torch.linspace(0.1, 3, DIM, dtype=torch.float64)
    y = torch.randn(ROWS, DIM, generator=draw, dtype=torch.float64) + 0.5
    map_ = fit_pca_ot(x, y, rank=2, ridge=0.0)
    basis = map_.basis_in.double()
    a, b = cast(
        "Any", ot.gaussian.empirical_bures_wasserstein_mapping((x @ basis).numpy(), (y @ basis).numpy(), reg=0.0)
    )
    moved = (x @ basis).numpy() @ np.asarray(a) + np.asarray(b)
    worst = float(np.abs(moved - (map_(x) @ basis).numpy()).max())
    if worst > 1e-6:
        raise SystemExit(f"POT moves the projected rows elsewhere, by {worst:.1e}: nothing is compared")

    def theirs() -> Any:
        return ot.gaussian.empirical_bures_wasserstein_mapping(x.numpy(), y.numpy(), reg=1e-3)

    def ours() -> Any:
        return fit_pca_ot_path(x, y, RANKS)

    ours()
    theirs()
    row = {"ours": f"PCA-OT, d = {DIM}, {ROWS} + {ROWS} rows, six ranks", "theirs": "POT, one map in all dimensions"}
    row["equal"] = f"at K = 2, within {worst:.0e}"
    keep("fit", [row | in_turns(ours, theirs, given.rounds)], versions=("POT",), note=given.note)


if __name__ == "__main__":
    main()
