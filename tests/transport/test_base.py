"""Applying, weakening, moving and storing maps."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bures.errors import BuresError, ConfigError, RunError
from bures.transport import (
    DiagonalAffine,
    LowRankAffine,
    TransportMap,
    fit_act,
    fit_mean_shift,
    fit_pca_ot,
    fit_rfa,
    interpolate,
    load_map,
)
from bures.transport._files import FORMAT_VERSION

D = 12


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y = randn(20, D, seed=1), randn(18, D, seed=2) * 0.5 + 1
SKEW = LowRankAffine(  # U, V and M all different, as no fit here makes them
    kind="custom",
    mean=randn(D, seed=3),
    basis_in=randn(D, 3, seed=4),
    matrix=randn(3, 3, seed=5),
    offset=randn(3, seed=6),
    basis_out=randn(D, 3, seed=7),
)
MAPS = {
    "pca-ot": fit_pca_ot(X, Y, 3, shrinkage="oas"),
    "rfa": fit_rfa(X, Y),
    "rfa-mean": fit_rfa(X, Y, add_target_mean=True),
    "act": fit_act(X, Y),
    "act-interval": fit_act(X, Y, interval=True),
    "mean-shift": fit_mean_shift(X, Y),
    "skew": SKEW,
}
every_map = pytest.mark.parametrize("T", MAPS.values(), ids=MAPS.keys())


def tensors(T: LowRankAffine | DiagonalAffine) -> dict[str, torch.Tensor]:
    values = {item.name: getattr(T, item.name) for item in dataclasses.fields(T)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def test_low_rank_formula_in_full() -> None:
    h = randn(9, D)
    dense = SKEW.basis_out @ SKEW.matrix @ SKEW.basis_in.mT
    expected = h + (h - SKEW.mean) @ dense.mT + SKEW.basis_out @ SKEW.offset
    torch.testing.assert_close(SKEW(h), expected)
    assert (SKEW.dim, SKEW.rank, SKEW.dtype) == (D, 3, torch.float64)


def test_diagonal_formula_in_full() -> None:
    w, b, h = randn(D, seed=1), randn(D, seed=2), randn(5, D)
    torch.testing.assert_close(DiagonalAffine("custom", w, b)(h), h @ torch.diag(w) + b)


@every_map
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(D,), (4, D), (2, 3, D), (0, D)])
def test_shape_and_dtype_come_back_and_h_is_not_edited(
    T: TransportMap, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    h = randn(*shape).to(dtype)
    kept = h.clone()
    out = T(h)
    assert (out.shape, out.dtype) == (h.shape, dtype)
    assert torch.equal(h, kept)
    torch.testing.assert_close(out, T(h.double()).to(dtype))
    assert isinstance(T, TransportMap)


@every_map
def test_half_precision_is_computed_in_float32_at_least(T: LowRankAffine | DiagonalAffine) -> None:
    """A map in bfloat16 on bfloat16 activations rounds once, at the end, under autocast too."""
    h = (randn(64, D) * 20).to(torch.bfloat16)
    low = T.to(dtype=torch.bfloat16)
    exact = low.to(dtype=torch.float64)(h.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = low(h)
        out32 = T.to(dtype=torch.float32)(h.float())
    torch.testing.assert_close(out.double(), exact, rtol=2**-8, atol=1e-4)
    torch.testing.assert_close(out32.double(), T(h.double()), rtol=1e-5, atol=1e-4)


@every_map
@given(strength=st.floats(-2, 2))
@settings(deadline=None, max_examples=15)
def test_interpolate_is_h_plus_strength_times_the_move(T: LowRankAffine | DiagonalAffine, strength: float) -> None:
    h = randn(30, D) * 2
    weak = interpolate(T, strength)
    assert type(weak) is type(T)
    torch.testing.assert_close(weak(h), h + strength * (T(h) - h), rtol=1e-11, atol=1e-11)


@every_map
def test_interpolate_at_its_ends_and_twice(T: LowRankAffine | DiagonalAffine) -> None:
    h = randn(30, D)
    assert torch.equal(interpolate(T, 0.0)(h), h)
    assert torch.equal(interpolate(T, 1.0)(h), T(h))
    twice = interpolate(interpolate(T, 0.5), 0.5)
    assert isinstance(twice, type(T))
    torch.testing.assert_close(twice(h), interpolate(T, 0.25)(h))
    assert twice.metadata["strength"] == 0.25
    assert "strength" not in T.metadata
    with pytest.raises(ConfigError, match="finite"):
        interpolate(T, float("nan"))


@dataclasses.dataclass(frozen=True)
class Reflection:
    """A map of somebody else's making."""

    kind: str = "reflection"
    dim: int = D
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        return -h

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TransportMap:
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        raise NotImplementedError


@given(strength=st.floats(-2, 2))
@settings(deadline=None, max_examples=15)
def test_a_map_of_somebody_elses_making_has_every_strength(strength: float) -> None:
    other = Reflection()
    assert interpolate(other, 1.0) is other
    weak = interpolate(other, strength)
    assert isinstance(weak, TransportMap)
    assert (weak.kind, weak.dim, weak.to(dtype=torch.float32).device) == (other.kind, D, other.device)
    h = randn(30, D)
    torch.testing.assert_close(weak(h), h + strength * (other(h) - h))
    half = weak(h.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, ((1 - 2 * strength) * h.bfloat16().float()).bfloat16())


def test_a_map_at_a_strength_is_saved_as_the_map(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="save the map, and the strength"):
        interpolate(Reflection(), 0.5).save(tmp_path / "x.safetensors")


@every_map
def test_to_makes_a_copy_and_leaves_the_original(T: LowRankAffine | DiagonalAffine) -> None:
    fast = T.to(dtype=torch.float32)
    assert {t.dtype for t in tensors(fast).values()} == {torch.float32}
    assert {t.dtype for t in tensors(T).values()} == {torch.float64}
    assert (fast.kind, fast.metadata, fast.device) == (T.kind, T.metadata, torch.device("cpu"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        fast.kind = "other"  # pyright: ignore[reportAttributeAccessIssue]


@every_map
def test_maps_are_differentiable_in_h(T: LowRankAffine | DiagonalAffine) -> None:
    h = randn(2, D).requires_grad_()
    assert torch.autograd.gradcheck(T, (h,))


@every_map
def test_a_tensor_that_does_not_fit_is_refused(T: LowRankAffine | DiagonalAffine) -> None:
    with pytest.raises(ConfigError, match="width 12"):
        T(torch.zeros(3, D + 1))
    with pytest.raises(ConfigError, match="on meta"):
        T(torch.zeros(3, D, device="meta"))


def test_parts_that_do_not_fit_together_are_refused() -> None:
    # jaxtyping's import hook, where a test run has it, refuses the first two before the class does, with a TypeError
    with pytest.raises((ValueError, TypeError), match="matrix"):
        dataclasses.replace(SKEW, matrix=randn(2, 2))
    with pytest.raises((ValueError, TypeError), match=r"floating|weight"):
        DiagonalAffine("custom", torch.ones(D, dtype=torch.int64), randn(D))
    with pytest.raises(ValueError, match="differ in dtype"):
        dataclasses.replace(SKEW, offset=SKEW.offset.float())
    with pytest.raises(ValueError, match="both low and high"):
        DiagonalAffine("custom", randn(D), randn(D), low=randn(D))


@every_map
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_save_and_load_bit_for_bit(T: LowRankAffine | DiagonalAffine, dtype: torch.dtype, tmp_path: Path) -> None:
    saved = T.to(dtype=dtype)
    saved.save(tmp_path / "layer.13.safetensors")
    loaded = load_map(tmp_path / "layer.13.safetensors")
    assert type(loaded) is type(saved)
    assert (loaded.kind, loaded.metadata) == (saved.kind, saved.metadata)
    assert tensors(loaded).keys() == tensors(saved).keys()
    for name, tensor in tensors(saved).items():
        assert tensors(loaded)[name].dtype == dtype
        assert torch.equal(tensors(loaded)[name], tensor)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["layer.13.json", "layer.13.safetensors"]
    sidecar = json.loads((tmp_path / "layer.13.json").read_text())
    assert (sidecar["kind"], sidecar["dim"], sidecar["format_version"]) == (T.kind, D, FORMAT_VERSION)
    assert sidecar["rank"] == (T.rank if isinstance(T, LowRankAffine) else None)
    assert sidecar["dtype"] == str(dtype).removeprefix("torch.")
    assert sidecar["shapes"] == {name: list(tensor.shape) for name, tensor in tensors(T).items()}
    assert sidecar["metadata"] == T.metadata


def test_the_readable_file_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    SKEW.save(str(path))
    path.with_suffix(".json").unlink()
    assert torch.equal(load_map(str(path)).to(dtype=torch.float64)(X), SKEW(X))


def test_a_failed_write_leaves_the_old_map_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.safetensors"
    SKEW.save(path)
    before = path.read_bytes()

    def refuse(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(RunError, match="No space left"):
        MAPS["pca-ot"].save(path)
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["map.json", "map.safetensors"]


def test_saving_where_one_cannot(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"use map\.safetensors"):
        SKEW.save(tmp_path / "map")
    with pytest.raises(RunError, match="folder exists"):
        SKEW.save(tmp_path / "missing" / "map.safetensors")


def rewrite(path: Path, header: dict[str, str | None], parts: dict[str, torch.Tensor | None]) -> None:
    """Save a good map with some header entries and tensors replaced, or dropped where None is given."""
    good = {"format": "bures-map", "format_version": str(FORMAT_VERSION), "class": "LowRankAffine", "kind": "custom"}
    merged = {**good, "metadata": "{}", **header}
    SKEW.save(path)
    contents = {**load_file(path), **parts}
    save_file(
        {name: tensor for name, tensor in contents.items() if tensor is not None},
        path,
        metadata={key: value for key, value in merged.items() if value is not None},
    )


def test_rewriting_nothing_is_a_good_map(tmp_path: Path) -> None:
    rewrite(tmp_path / "map.safetensors", {}, {})
    assert load_map(tmp_path / "map.safetensors").kind == "custom"


@pytest.mark.parametrize(
    ("header", "parts", "message"),
    [
        ({"format": None}, {}, "is not a map"),
        ({"format": "pt"}, {}, "is not a map"),
        ({"format_version": "999"}, {}, "version 999"),
        ({"class": "Hexagon"}, {}, "unknown class Hexagon"),
        ({"class": None}, {}, "class"),
        ({"kind": ""}, {}, "no kind"),
        ({"kind": None}, {}, "kind"),
        ({"metadata": "{"}, {}, "damaged"),
        ({"metadata": "[]"}, {}, "not a JSON object"),
        ({}, {"matrix": None}, "matrix"),
        ({}, {"surprise": torch.zeros(1)}, "surprise"),
        ({}, {"matrix": torch.zeros(2, 2, dtype=torch.float64)}, r"matrix has shape \(2, 2\)"),
        ({}, {"offset": torch.full((3,), torch.nan, dtype=torch.float64)}, "offset has NaN"),
        ({}, {"offset": torch.zeros(3)}, "differ in dtype"),
        ({}, {"offset": torch.zeros(3, dtype=torch.int64)}, "offset has dtype torch.int64"),
        ({"class": "DiagonalAffine"}, {}, "weight"),
    ],
)
def test_broken_maps_give_one_line(
    header: dict[str, str | None], parts: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "map.safetensors"
    rewrite(path, header, parts)
    with pytest.raises(BuresError, match=message) as caught:
        load_map(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a map", b"\xff" * 100, None])
def test_files_that_are_not_safetensors_give_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    if content is None:  # cut short
        SKEW.save(path)
        path.write_bytes(path.read_bytes()[:-8])
    else:
        path.write_bytes(content)
    with pytest.raises(RunError, match="cannot be read as safetensors") as caught:
        load_map(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(RunError, match="no map file"):
            load_map(path)


def test_transport_is_light() -> None:
    probe = "import sys; import {}; sys.exit('transformers' in sys.modules)"
    codes = {
        name: subprocess.run([sys.executable, "-c", probe.format(name)], check=False).returncode
        for name in ("bures.transport", "transformers")
    }
    assert codes == {"bures.transport": 0, "transformers": 1}
