"""Results of an older schema: read as if written today, with the options that the run had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bures.errors import BuresError, RunError
from bures.results.migrations import migrated
from bures.results.run_folder import load_result
from bures.results.schema import SCHEMA_VERSION, AuditResult, RunResult, ScanResult
from helpers.invented_audits import audit, localised, marks, row

COMMAND = (
    "bures audit org/model --device cpu --system 'be --kind' --harmful-fit mine.csv --n-fit 24 --ranks 2,4 "
    "--depth 0.25,0.75 --strength 0.5 --ridge 0.01 --no-all-blocks --trust-remote-code --corpus none --vllm-memory 0.9"
)
CHANGED: dict[str, Any] = {
    "model": "org/model",
    "device": "cpu",
    "system": "be --kind",
    "harmful_fit": "mine.csv",
    "n_fit": 24,
    "ranks": [2, 4],
    "depth": [0.25, 0.75],
    "strength": 0.5,
    "ridge": 0.01,
    "all_blocks": False,
    "trust_remote_code": True,
    "corpus": None,
}
LEFT: dict[str, Any] = {
    "harmless_test": "alpaca:test",
    "methods": ["rfa", "act", "mean-act", "pca-ot"],
    "scopes": ["all", "last"],
    "max_perplexity_ratio": 1.1,
    "limit": None,
    "blocks": None,
    "tasks": [],
    "backend": "transformers",
    "seed": 0,
}


def version_3(**changes: Any) -> dict[str, Any]:
    """An audit as version 3 wrote it."""
    result = audit([row("none", marks(6, 8)), row("rfa-1", marks(1, 8))], localisation=localised(2, 3), command=COMMAND)
    held = result.model_dump(mode="json")
    del held["options"], held["row_comparisons"]
    where = held["localisation"]
    where["verdict"] = where.pop("extent")
    where["shuffled"] = [0.25, 19]
    pair = {"a": "none", "b": "rfa-1", "judge": "arditi", "only_a": 0, "only_b": 5, "p": 0.0625}
    return {**held, "schema_version": 3, "comparisons": [pair], **changes}


def kept(folder: Path, held: dict[str, Any], config: object = None) -> Path:
    """A run folder with this `results.json` and, where there is one, `config.json`."""
    (folder / "results.json").write_text(json.dumps(held))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_file_of_version_3_is_read(tmp_path: Path) -> None:
    found = load_result(kept(tmp_path, version_3(), {"model": "m", "seed": 7}))
    assert found.schema_version == SCHEMA_VERSION
    assert found.options == migrated({**version_3(), "command": "bures audit m --seed 7"}, None)["options"]
    assert [(c.a, c.b, c.only_b, c.p) for c in found.row_comparisons] == [("none", "rfa-1", 5, 0.0625)]
    assert found.localisation is not None
    assert found.localisation.extent == "one block"
    assert found.localisation.shuffled is not None
    assert (found.localisation.shuffled.largest, found.localisation.shuffled.fits) == (0.25, 19)
    assert found.localisation.decided == (2, 3)


def test_without_config_json_the_command_and_the_defaults_of_then_tell_the_options(tmp_path: Path) -> None:
    found = load_result(kept(tmp_path, version_3())).options
    assert {name: found[name] for name in CHANGED} == CHANGED
    assert {name: found[name] for name in LEFT} == LEFT
    assert "vllm_memory" not in found
    assert "storage" not in found


def test_the_options_of_other_jobs_are_their_own() -> None:
    shared = {"schema_version": 3, "localisation": None}
    scan = migrated({**shared, "command": "bures scan m --scopes all,last"}, None)["options"]
    assert (scan["scopes"], "max_new_tokens" in scan, scan["ranks"]) == (["all", "last"], False, [1, 2, 4, 8, 16])
    search = migrated({**shared, "command": "bures search m --shrinkages none --strengths 0.5,1"}, None)["options"]
    assert (search["shrinkages"], search["strengths"], search["trials"]) == (["none"], [0.5, 1.0], 200)


def test_what_was_migrated_is_written_as_the_present_version(tmp_path: Path) -> None:
    once = load_result(kept(tmp_path, version_3()))
    again = load_result(kept(tmp_path, json.loads(once.to_json())))
    assert again == once


def test_unfinished_results_without_what_is_renamed_are_read(tmp_path: Path) -> None:
    held = version_3(localisation=None, status="running")
    del held["comparisons"]
    assert load_result(kept(tmp_path, held)).row_comparisons == []


@pytest.mark.parametrize(
    ("held", "config", "words"),
    [
        (version_3(schema_version=1), None, "has schema version 1; this bures reads 4"),
        (version_3(schema_version=2), None, "version 2 kept its options in config.json, and there is none beside it"),
        (version_3(schema_version=5), None, "has schema version 5; this bures reads 4"),
        (version_3(schema_version="3"), None, "has schema version 3; this bures reads 4"),
        (version_3(command="bures dance m"), None, "its command is that of no job"),
        (version_3(command="bures audit 'unclosed"), None, "No closing quotation"),
        (version_3(command="bures audit m --n-fit many"), None, "validation error"),
        (version_3(localisation=[1]), None, "validation error"),
        (version_3(), [1, 2], "holds no options"),
    ],
)
def test_what_cannot_be_migrated_is_one_line(tmp_path: Path, held: dict[str, Any], config: object, words: str) -> None:
    with pytest.raises(RunError, match=words) as error:
        load_result(kept(tmp_path, held, config), AuditResult)
    assert "\n" not in str(error.value)


def test_another_job_is_still_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is of a bures audit; expected the folder of a bures scan run"):
        load_result(kept(tmp_path, version_3()), ScanResult)
    assert load_result(tmp_path, RunResult).command == COMMAND


FILES = ("results.json", "config.json")
WRITTEN = Path(__file__).parent / "written"
"""What the writers of versions 2 and 3 themselves made of invented figures."""


def written(version: int, job: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `results.json` and `config.json` hold."""
    results, config = (json.loads((WRITTEN / str(version) / job / name).read_text()) for name in FILES)
    return results, config


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("job", ["audit", "scan", "search"])
def test_what_an_older_bures_wrote_is_read(version: int, job: str) -> None:
    held, config = written(version, job)
    assert held["schema_version"] == version != SCHEMA_VERSION
    found = load_result(WRITTEN / str(version) / job, RunResult)
    assert (found.schema_version, found.status, found.seed) == (SCHEMA_VERSION, "complete", 3)
    assert {name: found.options[name] for name in config} == config
    assert [(each.candidate.key, each.refusal_log_odds) for each in found.scan] == [
        ("rfa-b0-all", 1.5),
        ("pca-ot-k2-b1-all", -1.5),
    ]
    assert found.localisation is not None
    assert (found.localisation.extent, found.localisation.decided) == ("one block", (1, 1))
    assert found.localisation.shuffled is not None
    assert found.localisation.shuffled.fits == 19


@pytest.mark.parametrize("version", [2, 3])
def test_every_figure_of_an_older_audit_is_what_was_written(version: int) -> None:
    """Leaf by leaf: a figure that a step dropped or moved to another row is missed here."""
    held, _ = written(version, "audit")
    found = load_result(WRITTEN / str(version) / "audit", AuditResult)
    kept = json.loads(found.to_json())
    for old, new in zip(held["rows"], kept["rows"], strict=True):
        assert {name: new[name] for name in old if name not in ("method", "selection")} == {
            name: value for name, value in old.items() if name not in ("method", "selection")
        }
    assert [row.method for row in found.rows] == ["none", "rfa", "pca-ot"]
    assert [trial.candidate.sites for trial in found.trials] == [True, False]
    assert [trial.asr and trial.asr.value for trial in found.trials] == [0.75, None]
    assert held["comparisons"] == [
        {name: pair[name] for name in held["comparisons"][0]} for pair in kept["row_comparisons"]
    ]
    assert (len(found.rows[1].refused), len(found.tested)) == ((0, 0) if version == 2 else (1, 2))


def test_the_command_of_version_2_is_made_of_its_options() -> None:
    held, config = written(2, "audit")
    command = migrated(held, config)["command"]
    assert command.startswith(
        "bures audit org/model --dtype auto --device cpu --trust-remote-code --system 'be --kind'"
    )
    assert "--corpus none" in command
    assert "--no-all-blocks" in command
    assert (
        migrated({**held, "schema_version": 3, "command": command}, None)["options"]
        == migrated(held, config)["options"]
    )
    assert "postgresql" not in migrated(*written(2, "search"))["command"]


@pytest.mark.parametrize("version", [2, 3])
def test_an_older_audit_has_its_page_and_is_gated_or_told_to_run_again(version: int, tmp_path: Path) -> None:
    from bures.report.build import write_report
    from bures.results.gate import gate
    from bures.results.questions import GateConfig

    folder = tmp_path / "run"
    shutil.copytree(WRITTEN / str(version) / "audit", folder)
    assert "RFA, one direction" in write_report(folder).read_text(encoding="utf-8")
    if version == 2:  # of which prompts each row refused was not kept then
        with pytest.raises(BuresError, match="audit again"):
            gate(folder, GateConfig(max_asr=0.1))
    else:
        assert "above" in {check.outcome for check in gate(folder, GateConfig(max_asr=0.05)).checks}
