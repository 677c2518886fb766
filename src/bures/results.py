"""The run folder: its versioned schema, and how it is written so that a killed run can go on.

A run folder holds `config.json`, `results.json`, `maps/*.safetensors` and `completions.jsonl`. Everything is written
whole (to a temporary file that is then renamed); `completions.jsonl`, which alone holds text that a model wrote, is
readable by its owner only.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bures.errors import RunError
from bures.select import ScanScore, Trial
from bures.stats import Measurement

SCHEMA_VERSION = 1


class Row(BaseModel):
    """One line of the table: an intervention on the test split."""

    model_config = ConfigDict(extra="forbid")

    key: str
    label: str
    method: str
    blocks: list[int]
    sites: str
    tokens: str | None
    rank: int | None
    asr: dict[str, Measurement] = Field(default_factory=dict)
    """Per judge."""
    over_refusal: dict[str, Measurement] = Field(default_factory=dict)
    """Per judge."""
    perplexity: Measurement | None = None
    """Of the original model's own greedy answers to the harmless test prompts."""
    perplexity_ratio: float | None = None
    kl: Measurement | None = None
    corpus_perplexity: Measurement | None = None
    mean_gap_share: float | None = None
    """Share of the squared mean gap (harmful - harmless) inside the map's subspace; the first block's."""
    within_budget: bool | None = None
    """Whether the choice was within the perplexity budget on the selection split."""
    selection: Trial | None = None
    seconds: float = 0.0
    error: str | None = None


class Comparison(BaseModel):
    """Two rows on the same harmful test prompts: McNemar's exact test."""

    model_config = ConfigDict(extra="forbid")

    a: str
    b: str
    judge: str
    only_a: int
    only_b: int
    p: float


class AuditResult(BaseModel):
    """Everything `bures audit` measured; no text of any prompt or completion."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    status: Literal["running", "complete"] = "running"
    versions: dict[str, str]
    model: dict[str, Any]
    prompts: dict[str, dict[str, Any]]
    corpus: dict[str, Any] | None
    judge: str
    seed: int
    max_new_tokens: int
    refusal_tokens: list[int] = Field(default_factory=list)
    scan: list[ScanScore] = Field(default_factory=list)
    trials: list[Trial] = Field(default_factory=list)
    rows: list[Row] = Field(default_factory=list)
    comparisons: list[Comparison] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    def to_json(self) -> str:
        """The results as JSON text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False)

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a DataFrame, one column per figure and one per bound of its interval."""
        return pd.DataFrame([_flat(row, self.judge) for row in self.rows])


def _flat(row: Row, judge: str) -> dict[str, Any]:
    """One row of the table, figures under the headline judge."""
    line: dict[str, Any] = {"method": row.label, "blocks": row.sites, "tokens": row.tokens, "K": row.rank}
    figures = {
        "asr": row.asr.get(judge),
        "over_refusal": row.over_refusal.get(judge),
        "perplexity": row.perplexity,
        "kl": row.kl,
        "corpus_perplexity": row.corpus_perplexity,
    }
    for name, figure in figures.items():
        bounds = (None, None) if figure is None or figure.interval is None else figure.interval
        line |= {name: None if figure is None else figure.value, f"{name}_low": bounds[0], f"{name}_high": bounds[1]}
        line[f"{name}_n"] = None if figure is None else figure.n
    return line | {
        "perplexity_ratio": row.perplexity_ratio,
        "mean_gap_share": row.mean_gap_share,
        "within_budget": row.within_budget,
        "seconds": row.seconds,
        "error": row.error,
    }


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run."""

    path: Path

    @staticmethod
    def open(path: Path, config: Mapping[str, Any]) -> RunFolder:
        """Creates the folder, or opens one that holds the same run; one without results yet takes the new options.

        Raises:
            RunError: it cannot be written, or holds a run with other options.
        """
        folder = RunFolder(path)
        with _writing(path):
            (path / "maps").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        if folder.results.exists():
            held = folder._read_json(folder._config)
            if held != json.loads(json.dumps(config)):
                different = sorted(k for k in {*held, *config} if held.get(k) != json.loads(json.dumps(config)).get(k))
                raise RunError(
                    f"{path} holds a run with other options ({', '.join(different)}); "
                    "choose another folder with --out, or give the same options to continue it"
                )
        else:
            folder.write_json(folder._config, config)
        return folder

    @property
    def _config(self) -> Path:
        return self.path / "config.json"

    @property
    def results(self) -> Path:
        """Where the results are."""
        return self.path / "results.json"

    @property
    def completions(self) -> Path:
        """Where the completions are (mode 0600)."""
        return self.path / "completions.jsonl"

    def map_path(self, key: str) -> Path:
        """Where a map is kept."""
        return self.path / "maps" / f"{key}.safetensors"

    def _read_json(self, path: Path) -> dict[str, Any]:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {path}: {error}; remove the folder or choose another with --out") from error

    def load(self) -> AuditResult | None:
        """What an earlier run left, or None.

        Raises:
            RunError: it is damaged or of another schema version.
        """
        if not self.results.exists():
            return None
        return load_result(self.path)

    def save(self, result: AuditResult) -> None:
        """Writes the results whole."""
        self.write_json(self.results, result.model_dump(mode="json"))

    def write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        """Writes a JSON file whole or not at all.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        temporary = path.with_name(f".{path.name}.part")
        with _writing(self.path):
            temporary.write_text(
                json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
            )
            temporary.replace(path)

    def append_completions(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Adds completions; the file is created readable by its owner only."""
        with _writing(self.path):
            handle = os.open(self.completions, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=True) + "\n" for line in lines)

    def read_completions(self) -> Iterator[dict[str, Any]]:
        """The completions written so far; a last line cut short by a kill is passed over."""
        if not self.completions.exists():
            return
        with self.completions.open(encoding="utf-8") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    def keep_completions(self, rows: Iterable[str]) -> None:
        """Drops completions of rows that were not finished."""
        wanted = set(rows)
        kept = [line for line in self.read_completions() if line.get("row") in wanted]
        with _writing(self.path):
            self.completions.unlink(missing_ok=True)
        if kept:
            self.append_completions(kept)


def load_result(path: str | Path) -> AuditResult:
    """Reads the results of a run folder.

    Raises:
        RunError: no results there, damaged, or of another schema version.
    """
    file = Path(path) / "results.json"
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if data.get("schema_version") != SCHEMA_VERSION:
            raise RunError(
                f"{file} has schema version {data.get('schema_version')}; this bures reads {SCHEMA_VERSION}: "
                "run the audit again or use the bures that wrote it"
            )
        return AuditResult.model_validate(data)
    except FileNotFoundError as error:
        raise RunError(f"no results.json in {path}; expected the folder of a bures audit run") from error
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"cannot read {file}: {reason}; remove the folder or choose another with --out") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turns what the operating system says into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"no space left for the run folder {path}; what was finished is kept: "
                "free some space and give the same command to continue"
            ) from error
        raise RunError(f"cannot write the run folder {path} ({error.strerror}); choose another with --out") from error
