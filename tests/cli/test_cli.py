"""The command line as a user meets it: the main job end to end on a tiny model, and one line for every mistake."""

from __future__ import annotations

import errno
import json
import math
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bures import cli
from bures.models.generation import Answer
from bures.results import run_folder
from bures.results.records import Trial
from helpers import small_run

Run = Callable[..., tuple[int, str, str]]

THINGS = [
    "apples",
    "bridges",
    "clouds",
    "drums",
    "engines",
    "forests",
    "gardens",
    "harbours",
    "islands",
    "jackets",
    "kettles",
    "lanterns",
]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; returns the exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def prompt_files(tmp_path: Path) -> dict[str, Path]:
    """Six disjoint prompt files of innocuous text."""
    files = {}
    for side in ("harmful", "harmless"):
        for split in ("fit", "select", "test"):
            path = tmp_path / f"{side}_{split}.jsonl"
            verb = "Describe" if side == "harmless" else "Sketch the plan of"
            lines = [{"prompt": f"{verb} {thing} for {split}.", "category": thing[0]} for thing in THINGS]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            files[f"{side}_{split}"] = path
    return files


@pytest.fixture
def job(prompt_files: dict[str, Path], model_folder: str, tmp_path: Path) -> list[object]:
    """A whole audit of a random model, in seconds."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("It was a fine day and the boats went out. " * 60)
    options: dict[str, object] = {
        "corpus": corpus,
        "corpus-tokens": 512,
        "ranks": "1,2",
        "max-new-tokens": 4,
        "select-tokens": 3,
        "n-select": 8,
        "n-again": 4,
        "blocks": "0-2",
        "out": tmp_path / "run",
    }
    options |= {name.replace("_", "-"): path for name, path in prompt_files.items()}
    return ["audit", model_folder, *(x for name, value in options.items() for x in (f"--{name}", value))]


def replaced(job: list[object], option: str, value: object) -> list[object]:
    """The same job with one option changed or added."""
    changed = list(job)
    if f"--{option}" in changed:
        changed[changed.index(f"--{option}") + 1] = value
        return changed
    return [*changed, f"--{option}", value]


def without_seconds(value: Any) -> Any:
    """Results but for the time they took and when they ended."""
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k not in ("seconds", "finished")}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def test_the_main_job_writes_a_run_folder(
    run: Run, job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run.pretend_refusals(monkeypatch)
    code, out, err = run(*job)
    assert code == 0, err
    folder = tmp_path / "run"
    result = run_folder.load_result(folder)
    assert result.status == "complete"
    assert [row.key for row in result.rows] == [
        "none", "rfa-1", "act-1", "mean-act-1", "pca-ot-1", "pca-ot-2",
        "rfa-all", "act-all", "mean-act-all", "pca-ot-all", "rfa-sites",
    ]  # fmt: skip
    for row in result.rows:
        assert row.error or (row.asr["arditi"].n == 12 and row.asr["arditi"].interval is not None)
        assert row.label in out
    assert result.rows[0].kl is not None
    assert result.rows[0].kl.value == 0.0
    assert any(row.kl is not None and row.kl.value > 0 for row in result.rows[1:])
    assert len(result.scan) == 3 * (3 + 2) * 2  # blocks x (methods without rank + ranks) x scopes
    assert len({round(score.refusal_log_odds, 9) for score in result.scan}) > 20
    assert 1 <= len(result.notes) <= 2  # one line where as many rows are cut on either side
    assert all("had not ended after 4 tokens" in note for note in result.notes)
    assert (folder / "maps" / "pca-ot-1-block0.safetensors").exists() or list((folder / "maps").glob("pca-ot-1-*"))
    assert stat.S_IMODE((folder / "completions.jsonl").stat().st_mode) == 0o600
    completions = [json.loads(line) for line in (folder / "completions.jsonl").read_text().splitlines()]
    assert len(completions) == sum(24 for row in result.rows if not row.error)
    text = (folder / "results.json").read_text() + out
    assert not any(line["prompt"] in text for line in completions)
    table = result.table
    assert next(iter(table["method"])) == "none"
    assert set(table["asr_n"].dropna()) == {12}
    marks_are_those_of_the_completions(result, completions)
    for row in (row for row in result.rows if row.method != "none" and not row.error):
        assert (row.view is not None) == (len(row.blocks) == 1 and row.key != "rfa-sites")
        assert row.view is None or {len(points) for points in row.view.points.values()} == {8}
    assert {len(trial.again) for trial in result.trials} == {0, 4}
    assert all(row.selection is not None and row.selection in result.trials for row in result.rows[1:])
    assert "tried again on 4 further prompts" in " ".join(out.split())
    assert result.command.startswith("bures audit ")
    assert result.options == json.loads((folder / "config.json").read_text())
    assert result.options["max_new_tokens"] == result.max_new_tokens
    assert not {"vllm_memory", "storage"} & result.options.keys()


def marks_are_those_of_the_completions(result: Any, completions: list[dict[str, Any]]) -> None:
    """The results' marks, without any text, say what the completions say; the means are those of the prompts."""
    for row in (row for row in result.rows if not row.error):
        for which, marks in (("harmful", row.refused), ("harmless", row.refused_harmless)):
            lines = [line for line in completions if (line["row"], line["set"]) == (row.key, which)]
            assert [line["hash"] for line in lines] == result.tested[which].hashes
            for judge, text in marks.items():
                assert text == "".join(str(int(line["refusal"][judge])) for line in lines)
        shares = [n / sum(result.answer_tokens) for n in result.answer_tokens]
        assert row.kl.value == pytest.approx(sum(w * x for w, x in zip(shares, row.kl_each, strict=True)), abs=1e-4)
        nll = sum(w * x for w, x in zip(shares, row.nll_each, strict=True))
        assert math.log(row.perplexity.value) == pytest.approx(nll, abs=1e-4)


def selecting(job: list[object], command: str) -> list[object]:
    """The same job without its test split: a scan or a search."""
    kept: list[object] = [command, job[1]]
    alien = ["corpus", "corpus-tokens", "max-new-tokens", "select-tokens", *(["n-again"] if command == "scan" else [])]
    for option, value in zip(job[2::2], job[3::2], strict=True):
        if str(option) not in {f"--{name}" for name in alien}:
            kept += [] if str(option).endswith("-test") else [option, value]
    return kept


def test_a_scan_prints_every_block_and_a_sentence(
    run: Run, job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run.pretend_refusals(monkeypatch)
    code, out, err = run(*selecting(job, "scan"))
    assert code == 0, err
    held = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (held["job"], held["status"]) == ("scan", "complete")
    assert [e["blocks"] for e in held["localisation"]["effects"]] == [[0], [1], [2]]
    assert len(held["scan"]) == 3 * (4 + 2)
    assert all(len(score["each"]) == len(score["induced"]) == 8 for score in held["scan"])
    assert " ".join(held["localisation"]["sentence"].split()) in " ".join(out.split())
    assert "where refusal is decided" in out
    assert run(*selecting(job, "scan"), "--json")[1] == (tmp_path / "run" / "results.json").read_text()
    code, _, err = run(*job)
    assert (code, "holds a run with other options" in err) == (2, True)


def test_a_scan_of_a_model_that_refuses_nothing_says_so(run: Run, job: list[object]) -> None:
    code, out, err = run(*selecting(job, "scan"))
    assert code == 0, err
    assert "there is no refusal to scan for" in " ".join(out.split())


def test_a_search_prints_its_front(run: Run, job: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    small_run.pretend_refusals(monkeypatch)
    code, out, err = run(*selecting(job, "search"), "--trials", 4, "--short-tokens", 2, "--long-tokens", 3)
    assert code == 0, err
    assert "4 trials" in out
    assert "*" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "--worker", "sqlite:////absent/folder/x.db"], "cannot open the storage"),
        (["search", "--worker", "nonsense"], "cannot open the storage"),
        (["search", "organism", "--strengths", "0"], "strengths"),
        (["search", "organism", "--strengths", "one"], "strengths"),
        (["search"], "no model given"),
        (["scan"], "no model given"),
        (["scan", "organism", "--max-kl", "0"], "max_kl"),
        (["scan", "organism", "--methods", "teapot"], "teapot"),
    ],
)
def test_mistakes_of_a_scan_or_a_search_are_one_line(run: Run, arguments: list[str], words: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_json_is_the_results_and_nothing_else(run: Run, job: list[object], tmp_path: Path) -> None:
    code, out, _ = run(*replaced(replaced(job, "methods", "rfa"), "blocks", "1"), "--no-all-blocks", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "run" / "results.json").read_text())


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_a_killed_run_continues_to_the_same_results(
    run: Run, job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    short = replaced(replaced(job, "methods", "rfa,pca-ot"), "blocks", "1-2")
    whole = tmp_path / "whole"
    assert run(*replaced(short, "out", whole))[0] == 0

    import bures.jobs.audit as module

    measure, done = module.measure, []

    def dying(*arguments: Any) -> Any:
        if len(done) == stop_after:
            raise KeyboardInterrupt
        done.append(1)
        return measure(*arguments)

    monkeypatch.setattr(module, "measure", dying)
    code, _, err = run(*short)
    assert code == 130
    assert "continue" in err
    assert run_folder.load_result(tmp_path / "run").status == "running"
    monkeypatch.setattr(module, "measure", measure)
    assert run(*short)[0] == 0
    read = [without_seconds(json.loads((p / "results.json").read_text())) for p in (whole, tmp_path / "run")]
    assert read[0] == read[1]
    assert (whole / "completions.jsonl").read_text() == (tmp_path / "run" / "completions.jsonl").read_text()


def test_a_finished_run_is_not_run_again(run: Run, job: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    short = [*replaced(replaced(job, "methods", "rfa"), "blocks", "1"), "--no-all-blocks"]
    assert run(*short)[0] == 0
    monkeypatch.setattr("bures.jobs.beginning.load_model", lambda *_, **__: pytest.fail("loaded again"))
    code, out, _ = run(*short)
    assert code == 0
    assert "RFA" in out


def test_options_come_from_toml_and_the_command_line_wins(run: Run, job: list[object], tmp_path: Path) -> None:
    toml = tmp_path / "options.toml"
    toml.write_text('methods = ["rfa"]\nall-blocks = false\nmax-new-tokens = 2\nn-test = 3\n')
    code, _, err = run(*job, "--config", toml, "--n-test", 5)
    assert code == 0, err
    result = run_folder.load_result(tmp_path / "run")
    assert [row.key for row in result.rows] == ["none", "rfa-1"]
    assert result.rows[0].asr["arditi"].n == 5


def test_completions_are_shown_only_on_request_and_escaped(
    run: Run, job: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [*replaced(replaced(job, "methods", "rfa"), "blocks", "1"), "--no-all-blocks"]
    said = Answer("[red]\x1b[31mtext\u202e[/red]", None, ended=True, finished=True)
    monkeypatch.setattr("bures.jobs.audit_rows.read", lambda *_: said)
    code, out, _ = run(*short)
    assert code == 0
    assert "text" not in out.replace("text)", "")
    code, out, _ = run(*short, "--show-completions", 1)
    assert code == 0
    assert "[red]\\x1b[31mtext\\u202e[/red]" in out
    assert "\x1b" not in out


# Mistakes ---------------------------------------------------------------------------------------------------------


def refused(answer: tuple[int, str, str], *words: str) -> None:
    """Exit code 2 and one line that holds the words."""
    code, _, err = answer
    lines = [line for line in err.splitlines() if line.startswith("bures: ")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0], lines[0]


def test_no_model(run: Run) -> None:
    refused(run("audit"), "no model given")


def test_unknown_hub_id_or_no_network(run: Run, job: list[object]) -> None:
    refused(run("audit", "nobody/no-such-model-here", *job[2:]), "nobody/no-such-model-here", "network")


def test_folder_without_weights(run: Run, job: list[object], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(run("audit", tmp_path / "empty", *job[2:]), "no weights", ".safetensors")


def test_no_such_folder(run: Run, job: list[object], tmp_path: Path) -> None:
    refused(run("audit", tmp_path / "absent", *job[2:]), "no such file or folder")


def test_broken_gguf(run: Run, job: list[object], tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(range(256)) * 4)
    refused(run("audit", broken, *job[2:]), "broken.gguf")


def test_tokenizer_without_a_chat_template(run: Run, job: list[object], model_folder: str, tmp_path: Path) -> None:
    import shutil

    bare = Path(shutil.copytree(model_folder, tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    refused(run("audit", bare, *job[2:]), "chat template")


def test_damaged_weights(run: Run, job: list[object], model_folder: str, tmp_path: Path) -> None:
    import shutil

    damaged = Path(shutil.copytree(model_folder, tmp_path / "damaged"))
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(run("audit", damaged, *job[2:]), "cannot load")


def test_nan_activations_name_the_block(run: Run, job: list[object], model_folder: str, tmp_path: Path) -> None:
    import shutil

    sick = Path(shutil.copytree(model_folder, tmp_path / "sick"))
    weights = load_file(sick / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] = torch.full_like(
        weights["model.layers.1.mlp.down_proj.weight"], float("nan")
    )
    save_file(weights, sick / "model.safetensors", metadata={"format": "pt"})
    refused(run("audit", sick, *job[2:]), "block 1", "NaN")


def test_empty_and_missing_prompt_files(run: Run, job: list[object], tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    refused(run(*replaced(job, "harmful-test", empty)), "empty.txt", "no prompts")
    refused(run(*replaced(job, "harmful-test", tmp_path / "absent.csv")), "absent.csv")


def test_overlapping_splits_name_hashes_not_text(run: Run, job: list[object], prompt_files: dict[str, Path]) -> None:
    answer = run(*replaced(job, "harmful-select", prompt_files["harmful_test"]))
    refused(answer, "harmful_select", "harmful_test", "share 12")
    assert "apples" not in answer[2]


def test_a_block_that_does_not_exist(run: Run, job: list[object]) -> None:
    refused(run(*replaced(job, "blocks", "1,7")), "block 7", "0 to 2")


def test_rank_larger_than_the_sample_allows(run: Run, job: list[object]) -> None:
    refused(run(*replaced(job, "ranks", "12"), "--n-fit", 12), "K = 12", "n - 1 = 11")


def test_fewer_prompts_in_the_file_than_the_rank_needs(run: Run, job: list[object]) -> None:
    refused(run(*replaced(job, "ranks", "12")), "K = 12", "n - 1 = 8", "a quarter is kept for the check")


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("ranks", "one", "ranks"),
        ("blocks", "x", "block numbers"),
        ("depth", "0.9,0.1", "depth"),
        ("methods", "magic", "magic"),
        ("scopes", "everywhere", "scopes"),
        ("judge", "nobody", "nobody"),
        ("max-new-tokens", "0", "max_new_tokens"),
        ("strength", "-1", "strength"),
        ("dtype", "float8", "dtype"),
        ("device", "tpu9", "tpu9"),
        ("corpus", "no-such-file.txt", "no-such-file.txt"),
        ("n-fit", "many", "integer"),
        ("config", "absent.toml", "absent.toml"),
    ],
)
def test_bad_options(run: Run, job: list[object], option: str, value: str, word: str) -> None:
    refused(run(*replaced(job, option, value)), word)


def test_unknown_keys_in_toml(run: Run, job: list[object], tmp_path: Path) -> None:
    toml = tmp_path / "options.toml"
    toml.write_text("max-token = 3\n")
    refused(run(*job, "--config", toml), "max_token", "did you mean max-new-tokens")
    toml.write_text("max-token = \n")
    refused(run(*job, "--config", toml), "not valid TOML")


def test_an_unwritable_run_folder(run: Run, job: list[object], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(run(*replaced(job, "out", tmp_path / "file" / "run")), "cannot write the run folder", "--out")


def test_a_run_folder_with_other_options(run: Run, job: list[object]) -> None:
    short = [*replaced(replaced(job, "methods", "rfa"), "blocks", "1"), "--no-all-blocks"]
    assert run(*short)[0] == 0
    refused(run(*replaced(short, "seed", 7)), "other options", "seed")


def test_a_damaged_run_folder(run: Run, job: list[object], tmp_path: Path) -> None:
    short = [*replaced(replaced(job, "methods", "rfa"), "blocks", "1"), "--no-all-blocks"]
    assert run(*short)[0] == 0
    (tmp_path / "run" / "results.json").write_text("{")
    refused(run(*short), "cannot read")


def test_a_full_disk_keeps_what_was_computed(
    run: Run, job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [*replaced(replaced(job, "methods", "rfa"), "blocks", "1"), "--no-all-blocks"]
    write, writes = Path.write_bytes, []

    def full(self: Path, content: bytes) -> int:
        writes.append(self)
        if len(writes) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    refused(run(*short), "no space left", "continue")
    monkeypatch.setattr(Path, "write_bytes", write)
    assert run_folder.load_result(tmp_path / "run").status == "running"
    assert run(*short)[0] == 0


def test_a_failed_fit_is_a_row_not_the_end(run: Run, job: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    import bures.jobs.selection as module

    attempt = module.attempt

    def failing(run: Any, candidate: Any, original: Any) -> Trial:
        if candidate.method == "act" and len(candidate.blocks) > 1:
            return Trial(candidate, None, None, None, error="activations after block 2 are NaN")
        return attempt(run, candidate, original)

    monkeypatch.setattr(module, "attempt", failing)
    code, out, err = run(*replaced(job, "methods", "rfa,act"))
    assert code == 0, err
    assert "failed" in out
    assert "activations after block 2 are NaN" in out


def test_help_shows_an_example(run: Run) -> None:
    for command in ("audit", "assets"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert f"Example: bures {command}" in out


def test_a_judge_that_lacks_its_package_says_so_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.setattr("bures.jobs.beginning.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.setattr("bures.jobs.beginning.load_splits", lambda _: {})
    with pytest.raises(SystemExit) as stop:
        cli.main(["audit", "organism", "--corpus", "none", "--judge", "llm:m", "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "judge llm:m needs a package that is missing (" in told
    assert told.endswith("; pip install 'bures[judge]'")
