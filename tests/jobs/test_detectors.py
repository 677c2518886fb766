"""Detectors against scikit-learn and scipy; probes on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import scipy.stats
import torch
from safetensors.torch import save_file
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from bures.errors import ConfigError, FitError, RunError
from bures.jobs.probe.detectors import COMPONENTS, KINDS, STRENGTH, Shrunk, fit_detector
from bures.jobs.probe.files import Probe, load_probe
from bures.models.loading import ChatModel, wrap
from bures.results.names import DETECTOR_NAMES
from helpers import tiny

SHAPES = [(40, 30, 6), (30, 30, 100), (12, 25, 40)]


def sides(n: int, m: int, d: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of both sides with correlated columns, and rows to score."""
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn((d, d), generator=random, dtype=torch.float64) / d**0.5
    X, Y, H = (torch.randn((rows, d), generator=random, dtype=torch.float64) @ mix for rows in (n, m, 15))
    return X * 1.5 + 0.7, Y, H


def agree(found: Tensor, expected: Any, rtol: float = 1e-8) -> None:
    np.testing.assert_allclose(found.numpy(), np.asarray(expected), rtol=rtol, atol=1e-8 * np.abs(expected).max())


def test_the_names_of_the_options_are_those_of_the_detectors() -> None:
    assert tuple(KINDS) == DETECTOR_NAMES


@pytest.mark.parametrize("shape", SHAPES)
def test_the_difference_of_means_is_a_projection_with_zero_in_the_middle(shape: tuple[int, int, int]) -> None:
    X, Y, H = sides(*shape)
    gap = (X.mean(0) - Y.mean(0)).numpy()
    middle = ((X.mean(0) + Y.mean(0)) / 2).numpy()
    agree(fit_detector("difference-of-means", X, Y).score(H), (H.numpy() - middle) @ gap / np.linalg.norm(gap))


@pytest.mark.parametrize("shape", SHAPES)
def test_lda_is_scikit_learns(shape: tuple[int, int, int]) -> None:
    X, Y, H = sides(*shape)
    n, m, _ = shape
    within = torch.cat([X - X.mean(0), Y - Y.mean(0)])
    intensity = LedoitWolf(assume_centered=True).fit(within.numpy()).shrinkage_
    assert Shrunk.of(within).intensity == pytest.approx(intensity, rel=1e-9)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=intensity)
    oracle.fit(torch.cat([X, Y]).numpy(), np.repeat([1, 0], [n, m]))
    expected = oracle.decision_function(H.numpy()) - np.log(n / m)  # ours has even prior odds
    agree(fit_detector("lda", X, Y).score(H), expected, 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gaussian_detector_is_scipys_log_likelihood_ratio(shape: tuple[int, int, int]) -> None:
    X, Y, H = sides(*shape)
    mu = torch.cat([X, Y]).mean(0)
    k = min(COMPONENTS, shape[0] - 1, shape[1] - 1, shape[2])
    P = np.linalg.svd((torch.cat([X, Y]) - mu).numpy(), full_matrices=False)[2][:k].T
    logs = []
    for rows in (X, Y):
        z = (rows - mu).numpy() @ P
        fitted = LedoitWolf().fit(z)
        logs.append(scipy.stats.multivariate_normal(z.mean(0), fitted.covariance_).logpdf((H - mu).numpy() @ P))
    agree(fit_detector("gaussian", X, Y).score(H), logs[0] - logs[1], 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_one_class_detector_is_scikit_learns_mahalanobis_distance(shape: tuple[int, int, int]) -> None:
    X, Y, H = sides(*shape)
    agree(fit_detector("one-class", X, Y).score(H), LedoitWolf().fit(Y.numpy()).mahalanobis(H.numpy()), 1e-7)


def test_the_one_class_detector_needs_no_harmful_prompts() -> None:
    X, Y, H = sides(*SHAPES[0])
    assert torch.equal(fit_detector("one-class", X, Y).score(H), fit_detector("one-class", -X, Y).score(H))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_logistic_detector_is_scikit_learns(shape: tuple[int, int, int]) -> None:
    X, Y, H = sides(*shape)
    rows, labels = torch.cat([X, Y]).numpy(), np.repeat([1, 0], shape[:2])
    scaler = StandardScaler().fit(rows)
    oracle = LogisticRegression(C=STRENGTH, class_weight="balanced", tol=1e-10, max_iter=10000)
    oracle.fit(scaler.transform(rows), labels)
    found = fit_detector("logistic", X, Y).score(H)
    np.testing.assert_allclose(found.numpy(), oracle.decision_function(scaler.transform(H.numpy())), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_harmful_prompts_score_higher_and_scores_are_of_any_number_format(kind: str) -> None:
    X, Y, _ = sides(60, 60, 20, seed=3)
    found = fit_detector(kind, X[:30].float(), Y[:30].float())
    assert found.score(X[30:].float()).mean() > found.score(Y[30:].float()).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_allow_no_detector_are_an_error_of_one_line(kind: str) -> None:
    X, Y, _ = sides(*SHAPES[0])
    for bad in ((X[:1], Y), (X, Y * float("nan"))):
        with pytest.raises(FitError, match=r"expected at least 2|NaN"):
            fit_detector(kind, *bad)
    if kind != "logistic":
        with pytest.raises(FitError, match=r"alike|coincide"):
            fit_detector(kind, torch.ones_like(X), torch.ones_like(Y))


# On disk ------------------------------------------------------------------------------------------------------------


def a_probe(model: ChatModel, kind: str = "gaussian") -> Probe:
    X, Y, _ = sides(30, 30, model.d_model)
    detector = fit_detector(kind, X, Y)
    own = (model.fingerprint(), model.chat.sha256)
    return Probe(detector, 1, "instruction", {"0.05": 1.25}, *own, system=None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_is_read_back_bit_for_bit(llama: ChatModel, tmp_path: Path, kind: str) -> None:
    probe = a_probe(llama, kind)
    probe.save(tmp_path / "probe.safetensors")
    held = load_probe(tmp_path / "probe.safetensors", llama)
    assert torch.equal(held.score(llama, tiny.PROMPTS), probe.score(llama, tiny.PROMPTS))
    fields = ("block", "position", "thresholds", "fingerprint", "template", "system")
    assert [getattr(held, name) for name in fields] == [getattr(probe, name) for name in fields]
    assert held.flags(llama, tiny.PROMPTS) == [bool(s > 1.25) for s in probe.score(llama, tiny.PROMPTS)]
    first = (tmp_path / "probe.safetensors").read_bytes()
    probe.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == first


def test_a_probe_refuses_a_model_with_other_weights(llama: ChatModel, tmp_path: Path) -> None:
    a_probe(llama).save(tmp_path / "probe.safetensors")
    other = wrap(tiny.network("llama", seed=5), tiny.tokenizer(), "other")
    with pytest.raises(ConfigError, match="another weights"):
        load_probe(tmp_path / "probe.safetensors", other)
    with pytest.raises(ConfigError, match="another weights"):
        load_probe(tmp_path / "probe.safetensors").score(other, tiny.PROMPTS)
    told = wrap(llama.hf, tiny.tokenizer(), "told otherwise")
    told = replace(told, chat=replace(told.chat, template=told.chat.template + " "))
    with pytest.raises(ConfigError, match="another chat template"):
        load_probe(tmp_path / "probe.safetensors", told)


def test_a_rate_without_a_threshold_is_an_error(llama: ChatModel) -> None:
    with pytest.raises(ConfigError, match=r"0\.01; it has 0\.05"):
        a_probe(llama).flags(llama, tiny.PROMPTS, rate=0.01)


def test_files_that_are_no_probe_are_an_error_of_one_line(llama: ChatModel, tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    with pytest.raises(RunError, match="no probe"):
        load_probe(path)
    path.write_bytes(b"nothing")
    with pytest.raises(RunError, match="damaged"):
        load_probe(path)
    probe = a_probe(llama)
    with pytest.raises(ConfigError, match=r"\.safetensors"):
        probe.save(tmp_path / "probe.bin")
    with pytest.raises(RunError, match="cannot write"):
        probe.save(tmp_path / "nowhere" / "probe.safetensors")
    for name, tensor, reason in (
        ("mean", probe.detector.mean * float("inf"), "not finite"),
        ("direction", probe.detector.direction[1:], "shape"),
        ("surplus", probe.detector.direction, "other tensors"),
    ):
        probe.save(path)
        with safetensors.safe_open(path, framework="pt") as held:
            tensors = {key: held.get_tensor(key) for key in held.keys()}  # noqa: SIM118
            save_file(tensors | {name: tensor.contiguous().clone()}, path, metadata=held.metadata())
        with pytest.raises(RunError, match=reason):
            load_probe(path)
    replace(probe, detector=replace(probe.detector, kind="teapot")).save(path)
    with pytest.raises(RunError, match="unknown detector"):
        load_probe(path)
    save_file({"mean": probe.detector.mean}, path)
    with pytest.raises(RunError, match="is no probe"):
        load_probe(path)
