"""Views: the plane, the Gaussians and the moved points against numpy, and what cannot be drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bures.errors import FitError
from bures.jobs.plane import about_leading_away, energy_distance, view
from bures.models.intervention import Intervention
from bures.results.records import View
from bures.results.schema import Row
from bures.transport import fit_mean_shift, fit_pca_ot


def clouds(seed: int, n: int, d: int = 6) -> dict[str, torch.Tensor]:
    """Two clouds that differ in mean and covariance."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(3.0, 0.3, d)
    harmful = rng.normal(size=(n, d)) * spread + np.linspace(4.0, 0.0, d)
    harmless = rng.normal(size=(n, d)) * spread[::-1]
    return {"harmful": torch.tensor(harmful), "harmless": torch.tensor(harmless)}


def test_the_view_is_numpys() -> None:
    fit, held = clouds(0, 50), clouds(1, 7)
    map_ = fit_pca_ot(fit["harmful"], fit["harmless"], rank=2)
    found = view("pca-ot-1", 3, Intervention({3: map_}), fit, held)
    pooled = np.concatenate([fit["harmful"].numpy(), fit["harmless"].numpy()])
    mu = pooled.mean(axis=0)
    axes = np.linalg.svd(pooled - mu, full_matrices=False)[2][:2].T
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    sides = {**fit, "moved": map_(fit["harmful"].float())}
    for name, rows in sides.items():
        flat = (rows.double().numpy() - mu) @ axes
        covariance = np.cov(flat.T)
        assert np.allclose(found.gaussians[name].mean, flat.mean(axis=0), rtol=1e-3, atol=2e-3)
        wanted = covariance[0, 0], covariance[0, 1], covariance[1, 1]
        assert np.allclose(found.gaussians[name].covariance, wanted, rtol=1e-3, atol=1e-3)
    wanted = (map_(held["harmful"].float()).double().numpy() - mu) @ axes
    assert np.allclose(found.points["moved"], wanted, rtol=1e-3, atol=1e-3)
    assert [len(points) for points in found.points.values()] == [7, 7, 7]
    total = ((pooled - mu) ** 2).sum()
    assert np.allclose(found.explained, (((pooled - mu) @ axes) ** 2).sum(axis=0) / total, rtol=1e-3)
    # K = 2 works in this very plane: the moved Gaussian is the harmless one, up to the ridge
    assert np.allclose(found.gaussians["moved"].mean, found.gaussians["harmless"].mean, atol=5e-2)
    assert np.allclose(found.gaussians["moved"].covariance, found.gaussians["harmless"].covariance, rtol=5e-2, atol=0.1)


def test_strength_halves_the_way() -> None:
    fit, held = clouds(0, 20), clouds(1, 5)
    map_ = fit_mean_shift(fit["harmful"], fit["harmless"])
    whole = view("r", 0, Intervention({0: map_}), fit, held)
    half = view("r", 0, Intervention({0: map_}, strength=0.5), fit, held)
    start, end, middle = (np.array(v.points[k]) for v, k in ((whole, "harmful"), (whole, "moved"), (half, "moved")))
    assert np.allclose(middle, (start + end) / 2, rtol=1e-3, atol=2e-3)


def test_what_cannot_be_drawn() -> None:
    fit = clouds(0, 20)
    map_ = fit_mean_shift(fit["harmful"], fit["harmless"])
    with pytest.raises(FitError, match="expected 2 or more"):
        view("r", 0, Intervention({0: map_}), {k: v[:1] for k, v in fit.items()}, fit)
    with pytest.raises(FitError, match="infinity"):
        view("r", 0, Intervention({0: map_}, strength=1e308), fit, fit)


def test_the_energy_distance_is_its_definition() -> None:
    sides = clouds(3, 9)
    x, y = sides["harmful"], sides["harmless"][:6]
    between = np.mean([np.linalg.norm(a - b) for a in x.numpy() for b in y.numpy()])
    within = [
        np.mean([np.linalg.norm(a - b) for i, a in enumerate(s.numpy()) for j, b in enumerate(s.numpy()) if i != j])
        for s in (x, y)
    ]
    assert float(energy_distance(x, y)) == pytest.approx(np.sqrt(2 * between - sum(within)), rel=1e-12)
    assert float(energy_distance(x, x[:5])) < 0.2 * float(energy_distance(x, y))


def test_a_map_that_leads_away_is_marked() -> None:
    fit, held = clouds(0, 60), clouds(1, 12)
    there = fit_mean_shift(fit["harmful"], fit["harmless"])
    back = fit_mean_shift(fit["harmless"], fit["harmful"])
    good, bad = (view(name, 0, Intervention({0: map_}), fit, held) for name, map_ in (("a", there), ("b", back)))
    assert good.distances is not None
    assert good.distances[1] < 0.7 * good.distances[0]
    assert (good.leads_away, bad.leads_away) == (False, True)
    rows = [_row(v) for v in (good, bad)]
    (said,) = about_leading_away(rows)
    assert said.startswith("b at 0 (^) carries")


def _row(found: View) -> Row:
    return Row(
        key=found.row, label=found.row, method="mean-act", blocks=[0], sites="0", tokens="all", rank=None, view=found
    )


def test_too_few_held_out_prompts_have_no_distance() -> None:
    fit, held = clouds(0, 20), {side: rows[:1] for side, rows in clouds(1, 5).items()}
    map_ = fit_mean_shift(fit["harmful"], fit["harmless"])
    assert view("r", 0, Intervention({0: map_}), fit, held).distances is None
