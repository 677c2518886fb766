"""`bures probe` on a model whose forbidden feature is known: it is found, and shuffled labels find nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from bures import cli
from bures.errors import BuresError, ConfigError, FitError, PromptError, RunError
from bures.jobs.probe.choice import Fold, Standing, best_of, folds_of, standing
from bures.jobs.probe.config import ProbeConfig
from bures.jobs.probe.files import load_probe
from bures.jobs.probe.job import PROBE, probe
from bures.models.loading import load_model
from bures.report.build import Report
from bures.results.names import DETECTOR_NAMES
from bures.results.probing import ProbeResult
from bures.results.run_folder import load_result
from helpers import scripted

SIZES = {"fit": 24, "select": 12, "test": 20}


def written(folder: Path, name: str, prompts: list[str]) -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return str(path)


def prompt_files(folder: Path, *, shuffled: bool = False) -> dict[str, str]:
    """Disjoint splits of both sides; shuffled ones hold both kinds on both sides."""
    found: dict[str, str] = {}
    n = sum(SIZES.values()) + 40
    kinds = [scripted.prompts(n, bad=True), scripted.prompts(n, bad=False)]
    if shuffled:
        every = [*kinds[0], *kinds[1]]
        random.Random(0).shuffle(every)
        kinds = [every[:n], every[n:]]
    for side, prompts in zip(("harmful", "harmless"), kinds, strict=True):
        at = 0
        for split, size in SIZES.items():
            more = 40 if split == "select" else 0  # thresholds are set on what the choice leaves
            found[f"{side}_{split}"] = written(folder, f"{side}_{split}", prompts[at : at + size + more])
            at += size + more
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted.folder(tmp_path_factory.mktemp("scripted") / "model")


def config(model: Path, files: dict[str, str], **options: Any) -> ProbeConfig:
    given = {"dtype": "float32", "n_select": SIZES["select"], "n_calibrate": 40}
    return ProbeConfig.make(model=str(model), **files, **given, **options)


@pytest.fixture(scope="module")
def found(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ProbeResult, Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("found")
    files = prompt_files(folder)
    return probe(config(model, files), folder / "run"), folder / "run", files


def test_every_detector_finds_the_forbidden_feature_at_both_positions(found: tuple[ProbeResult, Path, Any]) -> None:
    result, _, _ = found
    assert [row.key for row in result.detectors] == [
        *(f"{kind} {position}" for kind in DETECTOR_NAMES for position in ("last", "instruction")),
        "n-grams",
        "length",
    ]
    for row in result.detectors[:-2]:
        least = 0.8 if row.detector == "one-class" else 0.98  # which knows no direction
        assert row.told["test"].auroc.value > least, row.key
        assert row.told["test"].auroc.n == 2 * SIZES["test"]
        over = row.told["test"].over_words
        assert over is not None
        assert over.value == pytest.approx(row.told["test"].auroc.value - result.detectors[-2].told["test"].auroc.value)
    assert result.chosen_by == "selection"
    assert result.detectors[-2].told["test"].over_words is None
    assert result.detectors[-2].told["test"].auroc.value > 0.95  # so do the words: they have the feature on their face
    chosen = next(row for row in result.detectors if row.key == result.chosen)
    assert (chosen.selection, chosen.gap) == max((row.selection, row.gap) for row in result.detectors[:-2])


def test_shuffled_labels_find_nothing(model: Path, tmp_path: Path) -> None:
    result = probe(config(model, prompt_files(tmp_path, shuffled=True)), tmp_path / "run")
    for row in result.detectors:
        low, high = row.told["test"].auroc.bounds
        assert low < 0.5 < high or row.told["test"].auroc.value < 0.5, row.key
        for cutoff in row.told["test"].cutoffs:
            assert cutoff.flagged_harmful.value < 0.4


def test_thresholds_are_of_prompts_that_neither_fitted_nor_chose(found: tuple[ProbeResult, Path, Any]) -> None:
    result, _, _ = found
    assert result.prompts["harmless_calibrate"]["n"] == 40
    for row in result.detectors:
        assert [cutoff.rate for cutoff in row.told["test"].cutoffs] == [0.05]  # 1 % takes 99
    lda = next(row for row in result.detectors if row.key == "lda last").told["test"].cutoffs[0]
    assert lda.flagged_harmful.value > 0.9
    assert lda.flagged_harmless.value < 0.3


def test_the_probe_in_the_folder_is_the_one_that_was_measured(found: tuple[ProbeResult, Path, dict[str, str]]) -> None:
    result, folder, files = found
    opened = load_model(result.options["model"], dtype="float32")
    held = load_probe(folder / PROBE, opened)
    row = next(row for row in result.detectors if row.key == result.chosen)
    assert f"{held.detector.kind} {held.position}" == result.chosen
    assert held.block == row.block
    prompts = [json.loads(line)["prompt"] for line in Path(files["harmful_test"]).read_text().splitlines()]
    share = sum(held.flags(opened, prompts)) / len(prompts)
    assert share == row.told["test"].cutoffs[-1].flagged_harmful.value


def test_a_finished_run_is_handed_on_and_reads_back(found: tuple[ProbeResult, Path, dict[str, str]]) -> None:
    result, folder, files = found
    assert probe(config(Path(result.options["model"]), files), folder) == result
    assert load_result(folder, ProbeResult) == result
    assert result.status == "complete"
    page = Report(folder).html
    assert "difference-of-means" in page
    assert "n-grams" in page
    assert not any(word in page for word in scripted.FORBIDDEN)
    assert not any(word in (folder / "results.json").read_text() for word in (*scripted.FORBIDDEN, "word1 "))
    with pytest.raises(RunError, match="other options"):
        probe(config(Path(result.options["model"]), files, n_harmless_test=5), folder)


def test_further_sources_are_left_out_in_turn_and_sets_held_against_each_other(model: Path, tmp_path: Path) -> None:
    files = prompt_files(tmp_path)
    further = written(tmp_path, "further", scripted.prompts(20, bad=True, seed=8))
    pair = written(tmp_path, "bad", scripted.prompts(15, bad=True, seed=9))
    fine = written(tmp_path, "fine", scripted.prompts(15, bad=False, seed=9))
    odd = written(tmp_path, "odd", scripted.prompts(15, bad=True, seed=10))
    more: dict[str, Any] = {"more_harmful": (further,), "transfer_harmful": (pair,), "transfer_harmless": (fine, odd)}
    result = probe(config(model, files, detectors=("lda",), positions=("last",), **more), tmp_path / "run")
    assert result.chosen_by == "leave-one-source-out"
    assert result.pairs == {
        "test": ("harmful_test", "harmless_test"),
        "transfer 1": ("bad", "fine"),
        "transfer 2": ("harmful_test", "odd"),
    }
    lda, *baselines = result.detectors
    assert lda.told["transfer 1"].auroc.value > 0.95
    assert 0.2 < lda.told["transfer 2"].auroc.value < 0.8  # the same kind on both sides
    assert all(set(row.told) == set(lda.told) for row in baselines)
    assert result.prompts["harmful_fit_2"]["n"] == 20


def test_an_intervention_is_seen_by_a_detector_downstream_of_it_alone(model: Path, tmp_path: Path) -> None:
    files = prompt_files(tmp_path)
    audit = ["audit", str(model), "--methods", "rfa", "--blocks", "0", "--no-all-blocks", "--scopes", "all"]
    audit += ["--corpus", "none", "--dtype", "float32", "--out", str(tmp_path / "audit"), "--max-new-tokens", "4"]
    audit += ["--select-tokens", "3", "--n-fit", "16", "--n-select", "8", "--n-test", "8", "--n-harmless-test", "8"]
    for name, path in files.items():
        audit += [f"--{name.replace('_', '-')}", path]
    with pytest.raises(SystemExit) as end:
        cli.main(audit)
    assert not end.value.code
    under = f"{tmp_path / 'audit'}:rfa-1"
    options = {"detectors": ("difference-of-means",), "blocks": (0,), "under": (under,)}
    row, _, words, _ = probe(config(model, files, **options), tmp_path / "run").detectors
    moved = row.told[f"under {under}"]
    assert row.told["test"].auroc.value > 0.98
    assert moved.auroc.value < row.told["test"].auroc.value - 0.2  # the direction is what the detector reads
    assert words.told[f"under {under}"] == words.told["test"]


# Choice -------------------------------------------------------------------------------------------------------------


def test_each_source_of_a_side_that_has_several_is_left_out_once() -> None:
    assert folds_of("a", "x", "s", "t") == [Fold("a", "x", "s", "t")]
    found = folds_of(["a", "b"], ["x"], "s", "t")
    assert found == [Fold(["b"], ["x"], "a", "t"), Fold(["a"], ["x"], "b", "t")]
    assert folds_of(["a"], ["x", "y"], "s", "t")[1] == Fold(["a"], ["x"], "s", "y")


def test_the_choice_is_by_auroc_then_by_the_gap_then_the_first() -> None:
    assert best_of({3: Standing(0.9, 9.0), 4: Standing(1.0, 2.0), 5: Standing(1.0, 3.0), 6: Standing(1.0, 3.0)}) == 5
    rows = torch.tensor([2.0, 3.0, 4.0]).numpy(), torch.tensor([0.0, 1.0, 2.5]).numpy()
    one = standing([Fold([], [], *rows)], lambda *_: lambda x: x)
    assert one.auroc == pytest.approx(8 / 9)
    with pytest.raises(FitError, match="NaN"):
        standing([Fold([], [], *rows)], lambda *_: lambda x: x * float("nan"))


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"detectors": ("teapot",)}, ConfigError, "teapot"),
        ({"detectors": ()}, ConfigError, "detectors"),
        ({"positions": ("middle",)}, ConfigError, "positions"),
        ({"under": ("run",)}, ConfigError, "RUN:ROW"),
        ({"under": ("nowhere:rfa",)}, RunError, "nowhere"),
        ({"more_harmful": ("nowhere.txt",)}, PromptError, "nowhere"),
        ({"ranks": (1,)}, ConfigError, "not of a probe"),
        ({"blocks": (99,)}, ConfigError, "block 99"),
    ],
)
def test_bad_input_is_one_line(
    model: Path, tmp_path: Path, options: dict[str, Any], error: type[BuresError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        probe(config(model, prompt_files(tmp_path), **options), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_the_command_prints_a_table_with_the_baselines(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [x for name, path in prompt_files(tmp_path).items() for x in (f"--{name.replace('_', '-')}", path)]
    with pytest.raises(SystemExit) as end:
        cli.main(["probe", str(model), *given, "--blocks", "0", "--dtype", "float32", "--out", str(tmp_path / "run")])
    assert not end.value.code
    out = capsys.readouterr().out
    for expected in ("lda", "one-class", "n-grams", "length", "AUROC", "selection split", "triage"):
        assert expected in out
    assert (tmp_path / "run" / PROBE).is_file()
    assert (tmp_path / "run" / "report.html").is_file()
