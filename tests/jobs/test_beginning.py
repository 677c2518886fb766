"""How a job begins: what can be wrong is said before the first pass, and other options of the rows cost the rows alone.

On the hand-made model, whose every figure is known.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bures.data.prompts import PromptSet
from bures.errors import BuresError, ConfigError, PromptError
from bures.jobs import splits
from bures.jobs.audit import audit
from bures.jobs.config import OF_ROWS, AuditConfig
from bures.jobs.scan_config import ScanConfig
from bures.jobs.splits import load_splits
from bures.results.run_folder import RunFolder, load_result
from bures.results.schema import AuditResult
from helpers import scripted


class Listening:
    """Progress that keeps what was said and which stages began."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.memory: list[str] = []
        self.stages: list[str] = []

    def stage(self, name: str, total: int) -> None:
        self.stages.append(name)

    def advance(self, n: int = 1) -> None:
        pass

    def row(self, result: Any) -> None:
        pass

    def say(self, line: str) -> None:
        if line.startswith("memory: about "):  # before every model that is loaded
            self.memory.append(line)
        else:
            self.said.append(line)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, prompts of both sides and a text."""
    folder = tmp_path_factory.mktemp("place")
    scripted.folder(folder / "model")
    for side in ("harmful", "harmless"):
        lines = scripted.prompts(40, bad=side == "harmful")
        (folder / f"{side}.txt").write_text("".join(f"{line}\n" for line in lines))
    (folder / "long.txt").write_text(" ".join(scripted.HARMLESS * 20))
    (folder / "short.txt").write_text(" ".join(scripted.HARMLESS))
    return folder


@pytest.fixture
def config(place: Path) -> Callable[..., AuditConfig]:
    """A small audit's options."""

    def make(**changes: Any) -> AuditConfig:
        options: dict[str, Any] = {
            "model": str(place / "model"),
            "harmful": str(place / "harmful.txt"),
            "harmless": str(place / "harmless.txt"),
            "corpus": None,
            "methods": ("rfa",),
            "scopes": ("all",),
            "all_blocks": False,
            "max_new_tokens": 8,
            "select_tokens": 8,
            "limit": 8,
        }
        return AuditConfig.make(**options | changes)

    return make


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(BuresError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def kill(*_: Any) -> None:
    raise KeyboardInterrupt


# --- before the first pass -------------------------------------------------------------------------------------------


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a corpus that is too short": ({"corpus": "short.txt"}, "the corpus has 40 tokens"),
    "a corpus that is not there": ({"corpus": "absent.txt"}, "no such file"),
    "a block that is not there": ({"blocks": (0, 7)}, "block 7 does not exist"),
    "too few prompts for a rank": (
        {"methods": ("pca-ot",), "ranks": (1, 4), "harmful_fit": "few.txt"},
        "harmful_fit (few) has 3 of the 128 prompts asked for, and ranks: K = 4 is larger than n - 1 = 2",
    ),
    "one prompt to fit on": ({"harmful_fit": "one.txt"}, "expected at least 2 to fit on"),
    "a rank above the width": (
        {"methods": ("pca-ot",), "ranks": (1, 140), "n_fit": 200, "limit": None}
        | {"harmful_fit": "many_bad.txt", "harmless_fit": "many.txt"},
        "K = 140 is larger than the width",
    ),
    "a judge without its model": ({"judge": "llm:"}, "llm"),
    "an unknown task": ({"tasks": ("no-such-suite:a",)}, "no capability suite"),
    "an unknown metric": ({"metrics": ("none-such",)}, "metrics: unknown"),
    "a prompt that is none": ({"harmful_test": "tool.jsonl"}, "has the role tool"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_can_be_wrong_is_said_before_the_first_pass(
    case: str, place: Path, config: Callable[..., AuditConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (place / "few.txt").write_text("word1 zarn2\nword2 zarn3\nword3 zarn4\n")
    (place / "one.txt").write_text("word1 zarn2\n")
    (place / "many_bad.txt").write_text("\n".join(scripted.prompts(200, bad=True, seed=9)))
    (place / "many.txt").write_text("\n".join(scripted.prompts(200, bad=False, seed=9)))
    (place / "tool.jsonl").write_text(json.dumps({"messages": [{"role": "tool", "content": "word7"}]}))
    monkeypatch.chdir(place)
    options, expected = MISTAKES[case]
    monkeypatch.setattr("bures.jobs.beginning.widen_for", lambda *_: pytest.fail("a forward pass was made"))
    monkeypatch.setattr("bures.jobs.run.gather", lambda *_, **__: pytest.fail("a forward pass was made"))
    assert expected in refused(lambda: audit(config(**options), tmp_path / "run"))


def test_the_check_for_a_pass_can_fail(
    config: Callable[..., AuditConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def passing(*_: Any) -> None:
        raise ConfigError("a forward pass was made")

    monkeypatch.setattr("bures.jobs.beginning.widen_for", passing)
    assert refused(lambda: audit(config(), tmp_path / "run")) == "a forward pass was made"


def test_a_side_has_a_column_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("id,ask\n" + "".join(f"{n},ask number {n}\n" for n in range(60)))
    (tmp_path / "fine.jsonl").write_text("".join(json.dumps({"id": n, "wish": f"wish {n}"}) + "\n" for n in range(60)))
    (tmp_path / "fine.txt").write_text("".join(f"line {n}\n" for n in range(60)))
    files: dict[str, Any] = {"model": "m", "harmful": tmp_path / "bad.csv", "harmless": tmp_path / "fine.jsonl"}
    files = {name: str(value) for name, value in files.items()}
    found = load_splits(ScanConfig.make(**files, harmful_column="ask", harmless_column="wish"))
    assert all(str(prompt).startswith("ask number") for prompt in found.fit.harmful)
    assert all(str(prompt).startswith("wish") for prompt in found.select.harmless)
    both = load_splits(ScanConfig.make(**files, column="ask", harmless_column="wish"))
    assert both.describe() == found.describe()
    plain = files | {"harmless": str(tmp_path / "fine.txt")}
    mixed = load_splits(ScanConfig.make(**plain, harmful_column="ask"))
    assert all(str(prompt).startswith("line") for prompt in mixed.fit.harmless)
    with pytest.raises(PromptError, match="--harmful-column"):
        load_splits(ScanConfig.make(**plain, column="ask"))


# --- other options of the rows ---------------------------------------------------------------------------------------


def test_the_options_of_the_rows_are_marked_as_such() -> None:
    assert {"corpus", "corpus_tokens", "max_new_tokens", "n_test", "tasks", "metrics"} <= OF_ROWS
    assert OF_ROWS.isdisjoint(ScanConfig.model_fields)


def test_another_corpus_does_not_cost_the_scan(
    config: Callable[..., AuditConfig], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as broken:
        broken.setattr("bures.jobs.audit.measure", kill)
        with pytest.raises(KeyboardInterrupt):
            audit(config(), out)
    scanned = load_result(out)
    assert scanned.scan
    assert not scanned.rows
    monkeypatch.setattr("bures.jobs.scanner.Scanner._score", lambda *_, **__: pytest.fail("scanned again"))
    progress = Listening()
    other = config(corpus=str(place / "long.txt"), corpus_tokens=256, max_new_tokens=7)
    found = audit(other, out, progress=progress)
    assert found.scan == scanned.scan
    assert found.options == other.options == json.loads((out / "config.json").read_text())
    assert (found.max_new_tokens, found.corpus is not None) == (7, True)
    assert all(row.corpus_perplexity is not None for row in found.rows)
    assert not progress.said  # nothing measured was dropped
    assert not list(out.glob("earlier-*"))


def test_rows_measured_under_other_options_are_kept_and_made_again(
    config: Callable[..., AuditConfig], tmp_path: Path
) -> None:
    out, progress = tmp_path / "run", Listening()
    first = audit(config(), out)
    (out / "report.html").write_text("a page")
    completions = (out / "completions.jsonl").read_text()
    second = audit(config(max_new_tokens=2, n_test=4), out, progress=progress)
    (said,) = progress.said
    (memory,) = progress.memory
    assert re.search(r"at most \(weights \d+ \w+, passes .*\); this machine has .* free$", memory)
    assert said.startswith("other options for the rows (max_new_tokens, n_test): they are measured again")
    assert said.endswith(f"those measured before are kept in {out / 'earlier-1'}")
    assert second.scan == first.scan
    assert second.trials == first.trials
    assert {row.key for row in second.rows} == {row.key for row in first.rows}
    lines = [json.loads(line) for line in (out / "completions.jsonl").read_text().splitlines()]
    assert max(line["n_tokens"] for line in lines) == 2
    assert len({line["hash"] for line in lines if line["set"] == "harmful"}) == 4
    assert not (out / "report.html").exists()
    # what was measured before is a run folder of its own, whole
    assert load_result(out / "earlier-1") == first
    assert (out / "earlier-1" / "completions.jsonl").read_text() == completions
    assert (out / "earlier-1" / "report.html").read_text() == "a page"
    assert (out / "earlier-1" / "completions.jsonl").stat().st_mode & 0o077 == 0
    assert audit(config(), out / "earlier-1") == first  # it is found complete
    # fresh in a folder of its own, the same figures come out
    fresh = audit(config(max_new_tokens=2, n_test=4), tmp_path / "fresh")
    assert [row.asr for row in fresh.rows] == [row.asr for row in second.rows]
    assert [row.kl for row in fresh.rows] == [row.kl for row in second.rows]


def test_a_mistake_in_the_other_options_costs_nothing(
    config: Callable[..., AuditConfig], place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = audit(config(), out)
    assert "the corpus has 40 tokens" in refused(lambda: audit(config(corpus=str(place / "short.txt")), out))
    assert load_result(out) == first
    assert not list(out.glob("earlier-*"))
    assert audit(config(), out) == first


def test_a_kill_while_rows_are_set_aside_loses_and_mixes_nothing(
    config: Callable[..., AuditConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    first = audit(config(), out)
    with monkeypatch.context() as killed:
        killed.setattr(RunFolder, "save", kill)
        with pytest.raises(KeyboardInterrupt):
            audit(config(max_new_tokens=2), out)
    assert load_result(out) == load_result(out / "earlier-1") == first
    with monkeypatch.context() as killed:
        killed.setattr(RunFolder, "write_options", kill)
        with pytest.raises(KeyboardInterrupt):
            audit(config(max_new_tokens=2), out)
    assert not load_result(out).rows
    again = audit(config(), out)  # as it was before
    assert [row.asr for row in again.rows] == [row.asr for row in first.rows]
    assert again.options == first.options == json.loads((out / "config.json").read_text())


def test_other_options_of_the_scan_are_refused(config: Callable[..., AuditConfig], tmp_path: Path) -> None:
    audit(config(), tmp_path / "run")
    said = refused(lambda: audit(config(strength=0.5, max_new_tokens=2), tmp_path / "run"))
    assert "holds a run with other options (strength)" in said


def test_test_prompts_that_changed_in_their_file_are_seen(config: Callable[..., AuditConfig], tmp_path: Path) -> None:
    test = tmp_path / "test.txt"
    test.write_text("\n".join(scripted.prompts(8, bad=True, seed=5)))
    out = tmp_path / "run"
    done: AuditResult = audit(config(harmful_test=str(test)), out)
    RunFolder(out).save(done.model_copy(update={"status": "running", "rows": done.rows[:1]}))
    test.write_text("\n".join(scripted.prompts(8, bad=True, seed=6)))
    assert "the test prompts or the corpus have changed" in refused(lambda: audit(config(harmful_test=str(test)), out))


@pytest.mark.parametrize("n", [20, 152, 520])
def test_a_smaller_test_set_lies_inside_a_larger_one_and_all_are_drawn_from_the_seed(n: int) -> None:
    prompts = PromptSet("made", "here", None, tuple(f"How do I do number {i}?" for i in range(n)))
    sizes = [k for k in (1, 5, 12, 21, 22, 40, 85, 86, 152) if k <= n]
    for seed in (0, 1):
        config = ScanConfig(model="m", seed=seed)
        drawn = [set(splits._sample(prompts, k, config, nested=True)) for k in sizes]
        assert [len(each) for each in drawn] == sizes
        assert all(small < large for small, large in pairwise(drawn))
        places = random.Random(seed).sample(range(n), sizes[-1])  # a large part, as it always was
        assert drawn[-1] == {prompts[i] for i in places}
        few = splits._sample(prompts, 12, config)
        assert list(few) == [prompts[i] for i in sorted(random.Random(seed).sample(range(n), 12))]
