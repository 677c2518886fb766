"""Transport maps: functions of (source, target) activations that return a frozen, callable map of R^d to itself."""

from __future__ import annotations

from bures.transport.ablation import ablate_direction, ablate_subspace, fit_rfa
from bures.transport.act import fit_act
from bures.transport.base import DiagonalAffine, LowRankAffine, TransportMap, load_map
from bures.transport.gaussian import DEFAULT_RIDGE, fit_pca_ot, fit_pca_ot_path, ledoit_wolf_covariance
from bures.transport.interpolation import interpolate
from bures.transport.repair import fit_repair
from bures.transport.shift import fit_mean_shift

__all__ = [
    "DEFAULT_RIDGE",
    "DiagonalAffine",
    "LowRankAffine",
    "TransportMap",
    "ablate_direction",
    "ablate_subspace",
    "fit_act",
    "fit_mean_shift",
    "fit_pca_ot",
    "fit_pca_ot_path",
    "fit_repair",
    "fit_rfa",
    "interpolate",
    "ledoit_wolf_covariance",
    "load_map",
]
