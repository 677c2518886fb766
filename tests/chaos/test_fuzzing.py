"""Changed inputs for every parser, a few of each; what was found once stays mended. `make fuzz` tries many."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bures.data.prompts import load_prompts
from bures.errors import BuresError, ModelError, PromptError, RunError
from bures.jobs.saved_interventions import load_config
from bures.models.checkpoints import trained_on
from bures.results.run_folder import RunFolder
from bures.training.organism.recipe import read_recipe
from bures.transport import load_map
from chaos.fuzzing import found, fuzzed, mutated
from chaos.parsers import WRITTEN, Parser, parsers

PARSERS = {parser.name: parser for parser in parsers()}
DEEP = '{"a":' * 100_000
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
ALIKE = settings(deadline=None, derandomize=True, database=None, suppress_health_check=SLOW, max_examples=20)


@pytest.mark.parametrize("name", PARSERS)
def test_only_one_line_comes_out(name: str, tmp_path: Path) -> None:
    parser = PARSERS[name]
    (tmp_path / parser.file).parent.mkdir(exist_ok=True)

    @settings(ALIKE, max_examples=max(2, 20 // parser.costs))
    @given(st.one_of(st.randoms(use_true_random=False), st.binary(max_size=64)))
    def holds(drawn: Random | bytes) -> None:
        content = drawn if isinstance(drawn, bytes) else mutated(drawn, parser.seeds)
        assert found(parser, tmp_path, content) is None

    holds()


@pytest.mark.parametrize("name", [name for name, parser in PARSERS.items() if parser.costs == 1])
def test_the_inputs_that_are_changed_reach_their_parser(name: str, tmp_path: Path) -> None:
    """One that is refused before it is parsed would test nothing."""
    parser, path = PARSERS[name], tmp_path / PARSERS[name].file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(parser.seeds[0])
    if name in ("probe", "options gate"):
        with pytest.raises(BuresError) as refused:
            parser.read(path)
        assert not isinstance(refused.value, PromptError)
    else:
        parser.read(path)


def test_the_fuzzer_finds_what_is_wrong(tmp_path: Path) -> None:
    def careless(path: Path) -> None:
        json.loads(path.read_text())["a"]

    def talkative(path: Path) -> None:
        class TwoLinesError(BuresError):
            def __str__(self) -> str:
                return "one\ntwo"

        raise TwoLinesError

    n, faults = fuzzed(Parser("careless", "x", careless, (b'{"a": 1}',)), Random(0), 1.0)
    assert n > 20
    assert any("JSONDecodeError" in fault for fault in faults)
    assert "more than a line" in str(found(Parser("talkative", "x", talkative, (b"",)), tmp_path, b""))
    taken = Parser("careful", "x", load_prompts, (b"",))
    assert found(taken, tmp_path, b"") is None


def test_files_nested_without_end_are_refused(tmp_path: Path) -> None:
    for name in ("config.json", "adapter_config.json", "recipe.json"):
        (tmp_path / name).write_text(DEEP)
    with pytest.raises(RunError, match=r"cannot read .*nested too deeply"):
        load_config(tmp_path)
    with pytest.raises(ModelError, match="cannot read adapter_config"):
        trained_on(tmp_path)
    with pytest.raises(RunError, match="no readable recipe"):
        read_recipe(tmp_path)


def test_a_map_whose_figures_are_nested_without_end_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save

    from bures.transport._files import FORMAT, FORMAT_VERSION

    header = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "class": "LowRankAffine", "kind": "k"}
    (tmp_path / "m.safetensors").write_bytes(save({}, metadata={**header, "metadata": DEEP}))
    with pytest.raises(RunError, match="damaged"):
        load_map(tmp_path / "m.safetensors")


def test_cells_that_cannot_be_text_or_dates_are_refused(tmp_path: Path) -> None:
    """Parquet keeps them as they are; what reads a cell fails, not what reads the file."""
    (tmp_path / "text.parquet").write_bytes(PARSERS["prompts parquet"].seeds[0].replace(b"Why?", b"Wh\xf9?"))
    late = pa.array([10**15], pa.timestamp("s"))
    parquet.write_table(pa.table({"prompt": ["How?"], "asked": late}), tmp_path / "date.parquet")
    for name in ("text", "date"):
        with pytest.raises(PromptError, match="is not a valid Parquet file: ") as caught:
            load_prompts(tmp_path / f"{name}.parquet")
        assert "\n" not in str(caught.value)


def test_lines_that_are_no_completions_are_passed_over(tmp_path: Path) -> None:
    line = {"row": "none", "set": "harmful", "hash": "h", "completion": "c"}
    others = [b"\xff\xfe", b"[]", DEEP.encode(), *(json.dumps({**line, name: None}).encode() for name in line)]
    (tmp_path / "completions.jsonl").write_bytes(b"\n".join([*others, json.dumps(line).encode(), b'{"row": "no']))
    assert list(RunFolder(tmp_path).read_completions()) == [line]


def test_what_older_versions_wrote_is_there_to_be_changed() -> None:
    assert (WRITTEN / "results.json").is_file()
