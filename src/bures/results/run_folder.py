"""The run folder, and how it is written so that a killed run can go on.

It holds `config.json`, `results.json`, `maps/*.safetensors` and `completions.jsonl`. Everything is written whole and is
on the disk before the next thing begins (`bures.durable`), so that readers see a whole state while a job runs; only one
process at a time writes. `completions.jsonl`, which alone holds text that a model wrote, is readable by its owner only.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from bures import durable
from bures.errors import BuresError, RunError
from bures.results.defending import DefenceResult
from bures.results.migrations import is_older, migrated
from bures.results.probing import ProbeResult
from bures.results.schema import SCHEMA_VERSION, AuditResult, RunResult, ScanResult, SearchResult
from bures.results.writing import alone, writing

CONFIG = "config.json"
"""Name of the file that holds a run's options."""

LOCK = ".lock"
"""Name of the file that the process which writes the folder holds locked; the kernel lets go of it when that dies."""

_OF_COMPLETIONS = ("row", "set", "hash", "completion")

Result = TypeVar("Result", bound=RunResult)

_JOBS: Mapping[str, type[RunResult]] = {
    "audit": AuditResult,
    "scan": ScanResult,
    "search": SearchResult,
    "probe": ProbeResult,
    "defend": DefenceResult,
}


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run."""

    path: Path

    @staticmethod
    @contextmanager
    def open(path: Path, config: Mapping[str, Any], free: Collection[str] = ()) -> Generator[RunFolder]:
        """Creates the folder, or opens one that holds the same run; one without results yet takes the new options.

        Inside the block no other process writes it.

        Args:
            path: of the folder.
            config: the options of the run.
            free: names of options that may be others than those of the run that the folder holds.

        Raises:
            RunError: it cannot be written, another process writes it, or it holds a run with other options.
        """
        folder, is_new = RunFolder(path), not path.exists()
        with writing(path):
            durable.make_folder(path / "maps")
        folder.require_writable()
        with folder.claimed():
            if folder.results.exists():
                folder._require_same(config, free)
            else:
                folder.write_options(config)
            try:
                yield folder
            except BuresError:
                if is_new:
                    folder._remove_if_unused()
                raise

    def _remove_if_unused(self) -> None:
        """Removes a folder in which nothing was found: no model of that name, say."""
        if {each.name for each in self.path.iterdir()} <= {CONFIG, LOCK, "maps"} and not any(self._maps.iterdir()):
            shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def claimed(self) -> Generator[None]:
        """Inside the block this process alone writes the folder; what killed ones left half written is removed.

        Raises:
            RunError: another process writes it.
        """
        refusal = (
            f"another process writes the run folder {self.path}; wait until it has ended, or choose another folder "
            "with --out"
        )
        with alone(self.path, self.path / LOCK, refusal):
            with writing(self.path):
                for folder in (self.path, self.path / "maps"):
                    durable.remove_unfinished(folder)
            yield

    def _require_same(self, config: Mapping[str, Any], free: Collection[str]) -> None:
        held, given = self._read_json(self._config), json.loads(json.dumps(config))
        different = sorted(k for k in {*held, *given} - {*free} if held.get(k) != given.get(k))
        if different:
            raise RunError(
                f"{self.path} holds a run with other options ({', '.join(different)}); "
                "choose another folder with --out, or give the same options to continue it"
            )

    def require_writable(self) -> None:
        """Finds out whether files can be written there.

        Raises:
            RunError: they cannot.
        """
        with writing(self.path), tempfile.TemporaryFile(dir=self.path):
            pass

    def write_options(self, config: Mapping[str, Any]) -> None:
        """Writes the options whole."""
        self.write_json(self._config, config)

    def set_aside(self) -> Path:
        """Copies all that the folder holds into a run folder of its own inside it, `earlier-1` or the next number.

        The pages of the run are only there then, for they show what is to be replaced.
        """
        number = next(n for n in itertools.count(1) if not (self.path / f"earlier-{n}").exists())
        part, target = self.path / ".earlier.part", self.path / f"earlier-{number}"
        with writing(self.path):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(mode=0o700)  # nobody else reads completions while they are copied
            shutil.copytree(self.path / "maps", part / "maps")
            files = [file for file in self.path.iterdir() if file.is_file() and not file.name.startswith(".")]
            for file in files:
                shutil.copy2(file, part / file.name)
            durable.sync_tree(part)
            part.rename(target)
            durable.sync_folder(self.path)
            for page in (file for file in files if file.suffix == ".html"):
                page.unlink()
        return target

    @property
    def _config(self) -> Path:
        return self.path / CONFIG

    @property
    def results(self) -> Path:
        """Where the results are."""
        return self.path / "results.json"

    @property
    def completions(self) -> Path:
        """Where the completions are (mode 0600)."""
        return self.path / "completions.jsonl"

    @property
    def _maps(self) -> Path:
        return self.path / "maps"

    def map_path(self, key: str) -> Path:
        """Where a map is kept."""
        return self._maps / f"{key}.safetensors"

    def _read_json(self, path: Path) -> dict[str, Any]:
        try:
            return durable.read_object(path)
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {path}: {error}; remove the folder or choose another with --out") from error

    def load(self, schema: type[Result]) -> Result | None:
        """What an earlier run of this job left, or None.

        Raises:
            RunError: it is damaged or of another schema version.
        """
        if not self.results.exists():
            return None
        return _read(self.path, schema)

    def save(self, result: RunResult) -> None:
        """Writes the results whole."""
        self.write_json(self.results, result.model_dump(mode="json"))

    def write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        """Writes a JSON file whole or not at all.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        with writing(self.path):
            durable.write(path, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def append_completions(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Adds completions; the file is created readable by its owner only."""
        with writing(self.path):
            durable.append(self.completions, _jsonl(lines), private=True)

    def read_completions(self) -> Iterator[dict[str, Any]]:
        """The completions written so far; a line cut short by a kill, or of something else, is passed over."""
        if not self.completions.exists():
            return
        with self.completions.open("rb") as file:
            for line in file:
                try:
                    held = json.loads(line.decode())
                except (ValueError, RecursionError):
                    continue
                if isinstance(held, dict) and all(isinstance(held.get(name), str) for name in _OF_COMPLETIONS):
                    yield cast("dict[str, Any]", held)

    def keep_completions(self, rows: Iterable[str]) -> None:
        """Drops completions of rows that were not finished, and of a line that was cut off."""
        wanted = set(rows)
        kept = [line for line in self.read_completions() if line.get("row") in wanted]
        with writing(self.path):
            if self.completions.exists():
                durable.write(self.completions, _jsonl(kept), private=True)


def load_result(path: str | Path, schema: type[Result] = AuditResult) -> Result:
    """Reads the results of a run folder.

    Args:
        path: the folder.
        schema: which job's results are expected; `RunResult` takes those of any job.

    Raises:
        RunError: no results there, damaged, of another job or schema version.
    """
    return _read(Path(path), schema)


def _read(path: Path, schema: type[Result]) -> Result:
    file = path / "results.json"
    wanted = "job" if schema is RunResult else schema.model_fields["job"].default
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if is_older(data):
            data = migrated(data, _config_beside(path))
        job: Any = data.get("job")
        if data.get("schema_version") != SCHEMA_VERSION:
            raise RunError(
                f"{file} has schema version {data.get('schema_version')}; this bures reads {SCHEMA_VERSION}: "
                f"run the {job} again or use the bures that wrote it"
            )
        if not isinstance(job, str) or job not in _JOBS or not issubclass(cast("type", _JOBS[job]), schema):
            raise RunError(f"{file} is of a bures {job}; expected the folder of a bures {wanted} run")
        return cast("type[Result]", _JOBS[job]).model_validate(data)
    except FileNotFoundError as error:
        raise RunError(f"no results.json in {path}; expected the folder of a bures {wanted} run") from error
    except (OSError, ValueError, AttributeError, TypeError, RecursionError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"cannot read {file}: {reason}; remove the folder or choose another with --out") from error


def _config_beside(path: Path) -> dict[str, Any] | None:
    """What `config.json` in the folder holds; None where there is none.

    Raises:
        RunError: it holds something else.
        ValueError: it is damaged.
    """
    try:
        held = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(held, dict):
        raise RunError(f"{path / CONFIG} holds no options; remove the folder or choose another with --out")
    return cast("dict[str, Any]", held)


def _jsonl(lines: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines)
