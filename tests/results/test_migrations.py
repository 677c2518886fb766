"""Results of an older schema: read as if written today, with the options that the run had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bures.errors import RunError
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
    assert found.options == {"model": "m", "seed": 7}
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
        (version_3(schema_version=2), None, "has schema version 2; this bures reads 4"),
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
