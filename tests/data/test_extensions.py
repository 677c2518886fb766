"""A method, a judge and a metric that an installed package adds by entry point."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bures.cli import main
from bures.data.extensions import Registry
from bures.errors import ConfigError
from bures.jobs.further_metrics import METRICS, Answers, Metric
from bures.jobs.saved_interventions import load_intervention
from bures.judges.by_name import JUDGES, judge_by_name
from bures.judges.phrases import ARDITI
from bures.models.methods import METHODS, FitOptions, Method, fit_block, fit_of
from bures.results.run_folder import RunFolder, load_result
from bures.results.stats import Measurement
from helpers import installing, small_run

EXAMPLE = installing.ROOT / "examples" / "plugin"


def forget() -> None:
    """Registries ask once what is installed; here that changes."""
    for registry in (METHODS, METRICS, JUDGES):
        registry.__dict__.pop("offered", None)
        assert isinstance(registry, Registry)
        registry.loaded.clear()
    sys.modules.pop("bures_plugin", None)
    importlib.invalidate_caches()


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example, installed."""
    site = tmp_path / "site-packages"
    installing.install(site, EXAMPLE, EXAMPLE / "bures_plugin.py")
    monkeypatch.syspath_prepend(str(site))
    forget()
    yield site
    monkeypatch.undo()
    forget()


def offering(site: Path, monkeypatch: pytest.MonkeyPatch, line: str, code: str) -> Registry[Method]:
    """A registry over one package that offers what `line` says."""
    info = site / "odd_package-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-package\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(f"[bures.methods]\n{line}\n")
    (site / "odd_package.py").write_text(code)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "odd_package", raising=False)
    importlib.invalidate_caches()
    return Registry("bures.methods", Method, dict(METHODS))


def test_an_audit_with_an_installed_method_judge_and_metric(
    plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_run.finished(tmp_path, methods="rfa,median-shift", metrics="answer-words", judge="curt")
    rows = {row.key: row for row in load_result(run).rows}
    assert list(rows) == [
        "none",
        "rfa-1",
        "median-shift-1",
        "median-shift-2",
        "rfa-all",
        "median-shift-all",
        "rfa-sites",
    ]
    completions = list(RunFolder(run).read_completions())
    for key, row in rows.items():
        words = [len(c["completion"].split()) for c in completions if (c["row"], c["set"]) == (key, "harmful")]
        assert row.metrics["answer-words"].value == pytest.approx(sum(words) / len(words))
        assert row.metrics["answer-words"].n == len(small_run.THINGS)
        assert row.asr["curt"].value == pytest.approx(sum(n >= 5 for n in words) / len(words))
    intervention = load_intervention(run, "median-shift-all")
    assert {map_.kind for map_ in intervention.maps.values()} == {"median-shift"}
    printed = capsys.readouterr().out
    assert "Median shift" in printed
    assert "answer-words" in printed


def test_an_installed_method_gets_all_that_pca_ot_gets(
    plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_run.finished(tmp_path, methods="median-shift,pca-ot", ranks="1", strength=0.5)
    result = load_result(run)
    rows = {row.key: row for row in result.rows}
    for mine in ("median-shift-1", "median-shift-2", "median-shift-all"):
        theirs = mine.replace("median-shift", "pca-ot")
        assert rows[mine].label == "Median shift"
        filled = {name for name, value in rows[mine].model_dump().items() if value not in (None, [], {})}
        assert {name for name, value in rows[theirs].model_dump().items() if value not in (None, [], {})} - filled <= {
            "rank",
            "mean_gap_share",  # of the subspace of a low-rank map
        }
        loaded = load_intervention(run, mine)
        assert (loaded.strength, len(loaded.maps)) == (0.5, len(rows[mine].blocks))
        assert {map_.kind for map_ in loaded.maps.values()} == {"median-shift"}
    assert rows["median-shift-1"].view is not None
    assert len(rows["median-shift-2"].blocks) == 2
    assert {score.candidate.method for score in result.scan} == {"median-shift", "pca-ot"}
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("Median shift") >= page.count("PCA-OT") / 2 > 0
    assert "Median shift" in capsys.readouterr().out


@dataclasses.dataclass(frozen=True)
class Turned:
    """A map of a package's own class: (1 - 2t) h, saved as one number."""

    share: float
    dim: int
    kind: str = "turn"
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        return h * (1 - 2 * self.share)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Turned:
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        save_file({"turned": torch.tensor([self.share, float(self.dim)])}, path)

    @staticmethod
    def load(path: Path) -> Turned:
        share, dim = load_file(path)["turned"].tolist()
        return Turned(round(share, 6), int(dim))


def test_a_method_with_a_map_class_of_its_own_gets_every_row_at_any_strength(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Method("turn", "Turn", True, lambda x, *_: Turned(0.25, x.shape[1]), load=Turned.load)
    assert isinstance(METHODS, Registry)
    monkeypatch.setitem(METHODS.built_in, "turn", turn)
    run = small_run.finished(tmp_path, methods="turn", strength=0.3)
    rows = load_result(run).rows
    assert [row.key for row in rows] == ["none", "turn-1", "turn-2", "turn-all"]
    assert [row.error for row in rows] == [None] * 4
    for row in rows[1:]:
        loaded = load_intervention(run, row.key)
        assert set(loaded.maps.values()) == {Turned(0.25, 32)}
        assert loaded.strength == 0.3


def test_a_metric_is_measured_under_the_intervention(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bures.models.intervention import count_hooks

    hooks: list[int] = []

    def measure(_: object, model: Any, harmful: Answers, harmless: Answers) -> Measurement:
        hooks.append(count_hooks(model))
        return Measurement(float(len(harmful.prompts) + len(harmless.answers)), 1)

    monkeypatch.setattr(type(METRICS["answer-words"]), "measure", measure)
    run = small_run.finished(tmp_path, "--no-all-blocks", methods="rfa", metrics="answer-words")
    assert [row.metrics["answer-words"].value for row in load_result(run).rows] == [20.0, 20.0]
    assert hooks[1] > hooks[0]


def test_the_method_is_found_by_name_and_fits(plugin: Path) -> None:
    assert list(METHODS)[-1] == "median-shift"
    assert len(METHODS) == 7
    made = torch.Generator().manual_seed(0)
    x, y = torch.randn(9, 4, generator=made), 2 + torch.randn(11, 4, generator=made)
    map_ = fit_of("median-shift", None, FitOptions())(x, y)
    assert torch.allclose(map_(x.double()).median(dim=0).values, y.double().median(dim=0).values)
    assert fit_block("median-shift", x, y, (), FitOptions()).keys() == {0}


def test_an_installed_ranked_method_is_fitted_once_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    base = METHODS["mean-act"]

    def fit(source: Any, target: Any, rank: int, options: FitOptions) -> Any:
        asked.append(rank)
        return base.fit(source, target, 0, options)

    assert isinstance(METHODS, Registry)
    monkeypatch.setitem(METHODS.built_in, "ranked", Method("ranked", "Ranked", True, fit, ranked=True))
    x = torch.randn(5, 3)
    assert fit_block("ranked", x, x + 1, (1, 4), FitOptions()).keys() == {1, 4}
    assert asked == [1, 4]
    with pytest.raises(ConfigError, match="needs a rank K"):
        fit_of("ranked", None, FitOptions())


def test_the_judge_is_found_by_name(plugin: Path) -> None:
    curt = judge_by_name("curt")
    assert curt.is_refusal("Name a river.", "No.")
    assert not curt.is_refusal("Name a river.", "The Danube flows through ten countries.")


def test_nothing_is_imported_before_it_is_asked_for(plugin: Path) -> None:
    assert "median-shift" in METHODS
    assert {"rfa", "median-shift"} <= {*METHODS}
    assert METHODS["rfa"].label == "RFA"
    assert "bures_plugin" not in sys.modules
    assert METHODS["median-shift"].sequential
    assert "bures_plugin" in sys.modules


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--methods", "teapot"], "act-interval, median-shift"),
        (["--metrics", "teapot"], "expected some of answer-words"),
    ],
)
def test_unknown_names_are_told_what_is_installed(
    plugin: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["audit", "organism", *options])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_without_the_package_its_names_are_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "median-shift" not in METHODS
    with pytest.raises(SystemExit):
        main(["audit", "organism", "--metrics", "answer-words"])
    assert "expected some of (none is installed)" in capsys.readouterr().err
    with pytest.raises(KeyError):
        METHODS["median-shift"]


METHOD = "from bures.models.methods import METHODS\nX = METHODS['rfa']\n"


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("mine = odd_package:X", "raise RuntimeError('broken')", "cannot load.*RuntimeError: broken"),
        ("mine = odd_package:absent", "", "cannot load.*AttributeError"),
        ("mine = no_such_module:X", "", "cannot load.*ModuleNotFoundError"),
        ("mine = odd_package:X", "X = 3", "is a int; expected a bures Method"),
        ("mine = odd_package:X", METHOD, "calls itself 'rfa'"),
        ("Mine.Too = odd_package:X", METHOD, "has a bad name"),
    ],
)
def test_a_package_that_offers_nonsense_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, code: str, words: str
) -> None:
    registry = offering(tmp_path / "odd", monkeypatch, line, code)
    with pytest.raises(ConfigError, match=words) as caught:
        registry[line.split(" =")[0]]
    assert "odd-package 2.0" in str(caught.value)


def test_a_name_of_bures_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = offering(tmp_path / "odd", monkeypatch, "rfa = odd_package:X", "raise RuntimeError('never run')")
    assert registry["rfa"] is METHODS["rfa"]
    assert list(registry).count("rfa") == 1


def test_metrics_are_a_protocol(plugin: Path) -> None:
    assert isinstance(METRICS["answer-words"], Metric)
    assert not isinstance(ARDITI, Metric)
