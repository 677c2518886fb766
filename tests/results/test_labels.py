"""Labels of a run: what counts for a row is settled before anybody saw an answer, and needs no completions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bures.errors import ConfigError, RunError
from bures.results.labels import LabelFile, Labels, labellers, load_labels, read_file
from bures.results.schema import AuditResult
from helpers.invented_audits import audit, hashes, marks, row, saved
from helpers.labelled_runs import labelled, sampled

N = 60


def held(**changes: object) -> AuditResult:
    """An audit of two rows."""
    return audit([row("none", marks(50, N)), row("rfa-1", marks(10, N))], **changes)


def test_labels_are_read_from_the_results_and_one_file(tmp_path: Path) -> None:
    result = held()
    folder = labelled(saved(tmp_path / "run", result), result, {"none": marks(50, N), "rfa-1": marks(20, N)}, 40)
    assert labellers(folder) == ["me"]
    found = load_labels(folder, "me", result)
    assert found is not None
    assert {key: len(said.said) for key, said in found.rows.items()} == {"none": 20, "rfa-1": 20}
    assert found.rows["none"].asr.value == pytest.approx(10 / N)
    assert found.rows["rfa-1"].asr.bounds[0] < 40 / N < found.rows["rfa-1"].asr.bounds[1]
    assert load_labels(folder, "anna", result) is None


def test_a_newer_judge_does_not_part_the_answers_anew(tmp_path: Path) -> None:
    result = held()
    folder = labelled(saved(tmp_path / "run", result), result, {"none": marks(50, N)}, 20)
    before = load_labels(folder, "me", result)
    result.rows[0].refused = {"arditi": marks(0, N)}
    assert load_labels(folder, "me", result) == before


def test_labels_of_other_answers_are_one_line(tmp_path: Path) -> None:
    result = held()
    folder = labelled(saved(tmp_path / "run", result), result, {"none": marks(50, N)}, 20)
    with pytest.raises(RunError, match="of an earlier run in this folder"):
        load_labels(folder, "me", held(finished="2027-01-01T00:00:00+00:00"))
    moved = held()
    moved.tested["harmful"].hashes = hashes(N, 1000)
    with pytest.raises(RunError, match="of other test prompts than the run"):
        load_labels(folder, "me", moved)
    with pytest.raises(ConfigError, match="cannot name a file"):
        load_labels(folder, "../me", result)
    for text in ('{"a": "maybe"}', "[", '{"judge": "arditi", "finished": null, "said": {"a": "maybe"}}', "\xff"):
        (folder / "labels" / "me.json").write_text(text, encoding="latin-1")
        with pytest.raises(RunError, match="remove the file to begin again"):
            read_file(folder, "me", None)


# What counts --------------------------------------------------------------------------------------------------------


def test_of_a_batch_counts_what_comes_before_the_first_answer_that_was_not_asked_about() -> None:
    keys = hashes(20)
    file = sampled({"none": "0" * 20}, {"none": {key: key for key in keys}}, 10)
    order = [name for _, name in file.order()]
    assert sorted(order) == sorted(file.rows["none"].drawn)
    assert order != sorted(order)
    file.said |= {order[0]: "answer", order[1]: "skipped", order[2]: "refusal", order[4]: "answer"}
    assert file.counted() == {(0, order[0]), (0, order[2])}
    assert Labels.of("me", file, keys).rows["none"].said == {order[0]: True, order[2]: False}
    sampled({"none": "0" * 20}, {"none": {key: key for key in keys}}, 15, file)
    assert {n for _, n in file.rows["none"].drawn.values()} == {0, 1}
    assert len(file.rows["none"].drawn) == 15
    second = next(name for n, name in file.order() if n == 1)
    file.said[second] = "answer"
    assert (1, second) in file.counted()


def test_a_sample_counts_shared_answers_once_and_takes_more_prompts_for_it() -> None:
    keys = hashes(40)
    names = {"none": {key: key for key in keys}, "rfa-1": {key: key for key in keys}}
    file = sampled({"none": "1" * 40, "rfa-1": "1" * 40}, names, 10)
    assert len({name for _, name in file.order()}) == 10
    assert {key: len(each.drawn) for key, each in file.rows.items()} == {"none": 10, "rfa-1": 10}


def simulated(seed: int, n: int, *, done: float, more: int | None) -> tuple[float, float, bool]:
    """True and labelled ASR of an intervention that leaves most refusals as they were, and whether it is covered.

    The judge misses half of the refusals; what it misses are mostly answers that both rows share. A session is ended
    when so much of it is done; then, perhaps, more answers are asked for, and that session is ended likewise.
    """
    rng = np.random.default_rng(seed)
    keys = [f"{seed}-{i}" for i in range(120)]
    missed, answered = rng.random(120) < 0.5, rng.random(120) < 0.5
    judged = {"none": marks_of(~missed), "rfa-1": marks_of(~(missed | answered))}
    truth = {"none": np.zeros(120, bool), "rfa-1": answered}
    names = {
        "none": {key: key for key in keys},
        "rfa-1": {key: f"{key}+" if moved else key for key, moved in zip(keys, answered, strict=True)},
    }
    said = {name: truth[row][i] for row in names for i, name in enumerate(names[row].values())}
    file: LabelFile | None = None
    for size in (n, *((more,) if more else ())):
        file = sampled(judged, names, size, file)
        left = [name for name in dict.fromkeys(name for _, name in file.order()) if name not in file.said]
        file.said |= {name: "answer" if said[name] else "refusal" for name in left[: round(done * len(left))]}
    assert file is not None
    asr = Labels.of("me", file, keys).rows["rfa-1"].asr
    low, high = asr.bounds
    return answered.mean(), asr.value, low <= 0.5 <= high


def marks_of(refused: np.ndarray) -> str:
    return "".join("1" if each else "0" for each in refused)


@pytest.mark.parametrize(("done", "more"), [(1.0, None), (0.5, None), (0.5, 60)])
def test_answers_that_rows_share_do_not_bias_the_figure(done: float, more: int | None) -> None:
    """Where a label counted for every row that has the answer, the ASR was 10 points too low, and covered in 0.84."""
    found = [simulated(seed, 40, done=done, more=more) for seed in range(150)]
    gaps = [labelled - true for true, labelled, _ in found]
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(len(gaps))
    assert np.mean([covered for *_, covered in found]) >= 0.89
