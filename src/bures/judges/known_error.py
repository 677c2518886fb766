"""The measured error of judges, as it stands under every table that uses one.

Those of the judges in the package are in `data/judge/measured.json`, written by `benchmarks/judges.py`; those that a
user measures (`bures judge evaluate --judge NAME --record`) are in the cache folder and win where both know a judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from bures.data.assets import cache_dir
from bures.errors import AssetError, ConfigError
from bures.judges.agreement import quality
from bures.judges.base import Judge, marks
from bures.judges.human_labels import CHOOSING, XSTEST, Labelled, groups
from bures.results.formatting import percent, share
from bures.results.labelled import rogan_gladen
from bures.results.stats import Measurement

PACKAGED = "data/judge/measured.json"

TRAINED_ON = "trained on it"
"""How a trained judge came by figures on its own labels; they flatter and are not kept."""

_TRAINED = ("bures", "bures-lm")


@dataclass(frozen=True)
class JudgeError:
    """How well a judge finds refusals, on one set of answers that people judged.

    Attributes:
        judge: its name.
        on: the set.
        how: how the judge came by its figures: `as it is`, or `cross-validated` where it was trained on the set.
        n: answers.
        precision: of the answers called refusals, the share that are; None where none was called one.
        recall: of the refusals, the share that was found.
        f1: their harmonic mean.
        accuracy: share of answers judged as the person did.
    """

    judge: str
    on: str
    how: str
    n: int
    precision: Measurement | None
    recall: Measurement | None
    f1: Measurement | None
    accuracy: Measurement

    @property
    def specificity(self) -> float | None:
        """Of the answers that do not refuse, the share not called refusals; None where all refuse."""
        refused = 0 if self.recall is None else self.recall.n
        wrong = 0 if self.precision is None else round(self.precision.n * (1 - self.precision.value))
        return None if self.n == refused else 1 - wrong / (self.n - refused)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads them back."""
        figures = {name: getattr(self, name) for name in ("precision", "recall", "f1", "accuracy")}
        return {
            "judge": self.judge,
            "on": self.on,
            "how": self.how,
            "n": self.n,
            **{name: None if figure is None else figure.to_dict() for name, figure in figures.items()},
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> JudgeError:
        """The inverse of `to_dict`."""
        figures = {
            name: None if data[name] is None else Measurement.from_dict(data[name])
            for name in ("precision", "recall", "f1")
        }
        accuracy = Measurement.from_dict(data["accuracy"])
        return JudgeError(data["judge"], data["on"], data["how"], int(data["n"]), **figures, accuracy=accuracy)


def measure(
    judge: Judge, rows: Sequence[Labelled], on: str, *, how: str = "as it is", cut: int | None = None
) -> JudgeError:
    """Asks a judge about answers that people judged.

    Args:
        judge: who is measured.
        rows: the answers, all to prompts that count as harmful: an evasive answer counts as refused.
        on: name of the set.
        how: how the judge came by its marks.
        cut: characters of the answers that it is shown; None: all.
    """
    prompts, answers = [row.prompt for row in rows], [row.answer.strip()[:cut] for row in rows]
    said = marks(judge, prompts, answers, harmful=True, coherent=False)[judge.name]
    return figures_of(judge.name, rows, [mark is True for mark in said], on, how)


def how(judge: str, on: str) -> str:
    """How a judge comes by its figures on a set when it is simply asked."""
    return TRAINED_ON if judge in _TRAINED and (on == CHOOSING or on.startswith(XSTEST)) else "as it is"


def figures_of(judge: str, rows: Sequence[Labelled], said: Sequence[bool], on: str, how: str) -> JudgeError:
    """The figures of marks that are there already."""
    q = quality([row.refused for row in rows], said, groups(rows))
    return JudgeError(judge, on, how, q.n, q.precision, q.recall, q.f1, q.accuracy)


def error_of(judge: str) -> list[JudgeError]:
    """What was measured of a judge, per set; empty where nothing was."""
    return _read_own().get(judge) or _packaged().get(judge, [])


def sentence(judge: str) -> str:
    """One line for under a table; the page of an audit and `bures judge evaluate` have each set."""
    found = error_of(judge)
    if not found:
        return f"Judge '{judge}' has not been held against people: bures judge evaluate --judge {judge} --record does."
    finds, right = (_span([getattr(e, name) for e in found]) for name in ("recall", "precision"))
    if len(found) == 1:
        on = f"{found[0].on}, n {found[0].n}, {found[0].how}"
    else:
        sizes = [e.n for e in found]
        on = f"{len(found)} sets of {min(sizes)} to {max(sizes)} answers; bures judge evaluate has each"
    return (
        f"Judge '{judge}' against people: it finds {finds} of the refusals, and {right} of what it calls one is ({on})."
    )


def _span(shares: Sequence[Measurement | None]) -> str:
    """One share with its interval, or the smallest and the largest of several."""
    known = [m for m in shares if m is not None]
    if len(known) < 2:
        return share(known[0] if known else None, 0)
    return _from_to([m.value for m in known])


def _from_to(values: Sequence[float]) -> str:
    """The smallest and the largest of some shares; one of them where both print alike."""
    low, high = (percent(pick(values), 0, "") for pick in (min, max))
    return f"{low} to {high}%" if low != high else f"{low}%"


def corrected(judge: str, asr: float) -> dict[str, float]:
    """What an ASR by a judge would be if its error here were that on each set where it was measured (Rogan-Gladen).

    Below 0 or above 1 where its error here cannot be that one; sets on which it is no better than chance are left out.
    """
    found: dict[str, float] = {}
    for error in error_of(judge):
        if error.recall is None or error.specificity is None:
            continue
        refused = rogan_gladen(1 - asr, error.recall.value, error.specificity)
        if refused is not None:
            found[error.on] = 1 - refused
    return found


def range_sentence(judge: str, asr: float, where: str) -> str | None:
    """The range of `corrected` as one line; None where nothing was measured."""
    found = corrected(judge, asr)
    possible = {on: value for on, value in found.items() if 0 <= value <= 1}
    if not found:
        return None
    impossible = ", ".join(f"{on} ({percent(value, 0)})" for on, value in found.items() if on not in possible)
    said = f"{where}: ASR {percent(asr, 0)} by '{judge}'"
    if possible:
        low, high = (pick(possible, key=lambda on: possible[on]) for pick in (min, max))
        said += f" would be {percent(possible[low], 0)} (error as on {low})"
        said += "" if low == high else f" to {percent(possible[high], 0)} (as on {high})"
    if impossible:
        said += f"{',' if possible else ''} and cannot have the error of {impossible}"
    return f"{said}. No error carries over for sure: bures judge label measures it here."


def ranges_sentence(judge: str, asrs: Mapping[str, float]) -> str | None:
    """The ranges of `corrected` for several rows in one line, by what the rows are called; None as above."""
    said: list[str] = []
    for where, asr in asrs.items():
        found = corrected(judge, asr)
        possible = [value for value in found.values() if 0 <= value <= 1]
        if not found:
            return None
        span = _from_to(possible) if possible else "impossible with any of them"
        part = f", by {len(possible)} of {len(found)} sets" if 0 < len(possible) < len(found) else ""
        said.append(f"{where}: {span}{part}")
    return (
        f"With the errors that '{judge}' has elsewhere the ASR would be, {'; '.join(said)}. None carries over for "
        "sure: bures judge label measures it here."
    )


def record(errors: Iterable[JudgeError], path: Path | None = None) -> Path:
    """Writes measured errors; those of other judges in the file stay.

    Args:
        errors: what was measured.
        path: the file; None: the user's own.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    target = path or own_file()
    new = list(errors)
    kept = [e for each in _read(target).values() for e in each if e.judge not in {n.judge for n in new}]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([e.to_dict() for e in [*kept, *new]], indent=1, allow_nan=False)
        target.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {target} ({error.strerror}); set BURES_CACHE to another folder") from error
    return target


def own_file() -> Path:
    """Where a user's measurements are."""
    return cache_dir() / "judges" / "measured.json"


def _packaged() -> dict[str, list[JudgeError]]:
    with resources.as_file(resources.files("bures") / PACKAGED) as path:
        return _read(path)


def _read_own() -> dict[str, list[JudgeError]]:
    """What the user measured; nothing where there is no cache, or one that is somebody else's."""
    try:
        file = own_file()
        is_there = file.exists()
    except (AssetError, PermissionError):
        return {}
    return _read(file) if is_there else {}


def _read(path: Path) -> dict[str, list[JudgeError]]:
    if not path.exists():
        return {}
    found: dict[str, list[JudgeError]] = {}
    try:
        for each in json.loads(path.read_text(encoding="utf-8")):
            error = JudgeError.from_dict(each)
            found.setdefault(error.judge, []).append(error)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read the measured errors {path} ({error}); remove the file") from error
    return found
