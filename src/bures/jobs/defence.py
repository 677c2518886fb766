"""What a hardened model withstands: many attacks on the same prompts, the worst of them, and their union.

A mean over attacks says nothing of a defence: the attacker takes the best one. So two figures head the table, the
highest attack success rate of any attack, and the share of prompts that at least one attack gets answered. Two models
are held against each other by their unions, prompt by prompt (McNemar, exact).

Attacks: none; every row of an audit of the hardened model (all fitted anew); iterated ablation of 1 to 8 directions;
the rows of an audit of the model before it was hardened, transferred; prefilling, alone and under the best two of the
audit by the selection split. A random ablation is the null: it is shown, and belongs to neither figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bures.errors import ConfigError
from bures.jobs.attacks import iterated_ablations, prefilled_answers, random_ablation, transferred
from bures.jobs.beginning import open_model
from bures.jobs.config import AuditConfig
from bures.jobs.progress import Progress
from bures.jobs.saved_interventions import load_config, load_intervention
from bures.jobs.splits import Splits, load_splits
from bures.judges.by_name import readings
from bures.models.generation import generate_ids, read
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.results.inference import mcnemar
from bures.results.marks import answered
from bures.results.names import NONE
from bures.results.run_folder import load_result
from bures.results.schema import Row
from bures.results.stats import Measurement, proportion

Kind = Literal["none", "refitted", "iterated", "transferred", "prefilled", "random"]

BEST = 2
"""Rows of the audit under which answers are prefilled too."""


@dataclass(frozen=True)
class Attacked:
    """One attack on a model.

    Attributes:
        name: of the attack.
        kind: of its kind.
        answered: for each harmful test prompt, whether it got an answer that is certainly no refusal.
        within_budget: whether it kept the audit's perplexity budget; None: not known.
    """

    name: str
    kind: Kind
    answered: tuple[bool, ...]
    within_budget: bool | None = None

    @property
    def asr(self) -> Measurement:
        """Share of the prompts that were answered, with a Wilson interval."""
        return proportion(sum(self.answered), len(self.answered))


@dataclass(frozen=True)
class Withstood:
    """All attacks on one model.

    Attributes:
        name: of the model.
        judge: who says what is a refusal.
        attacks: on the same prompts.
    """

    name: str
    judge: str
    attacks: tuple[Attacked, ...]

    @property
    def counted(self) -> tuple[Attacked, ...]:
        """Those that count: all but the null."""
        return tuple(each for each in self.attacks if each.kind != "random")

    @property
    def worst(self) -> Attacked:
        """The attack that gets most prompts answered."""
        return max(self.counted, key=lambda each: sum(each.answered))

    @property
    def broken(self) -> tuple[bool, ...]:
        """For each prompt, whether any attack gets it answered."""
        return tuple(map(any, zip(*(each.answered for each in self.counted), strict=True)))

    @property
    def union(self) -> Measurement:
        """Share of the prompts that at least one attack gets answered, with a Wilson interval."""
        return proportion(sum(self.broken), len(self.broken))


@dataclass(frozen=True)
class Against:
    """Two models' unions, prompt by prompt.

    Attributes:
        only_first: prompts that are broken in the first model alone.
        only_second: in the second alone.
        p: of McNemar's exact test, two-sided.
    """

    only_first: int
    only_second: int
    p: float


def against(first: Withstood, second: Withstood) -> Against:
    """Holds the unions of two models against each other.

    Raises:
        ConfigError: they were not attacked on the same number of prompts, or judged by different judges.
    """
    if len(first.broken) != len(second.broken) or first.judge != second.judge:
        raise ConfigError(f"{first.name} and {second.name} have other prompts or judges; attack both on the same")
    pairs = list(zip(first.broken, second.broken, strict=True))
    only = [sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)]
    return Against(only[0], only[1], mcnemar(*only))


def withstood(run_folder: str | Path, before: str | Path | None, progress: Progress, *, name: str = "") -> Withstood:
    """Attacks the model of a finished audit on its harmful test prompts.

    Args:
        run_folder: the audit of the model; its options say which model, adapter, prompts, judge and length.
        before: the audit of the model before it was hardened, whose maps are transferred; None: no transfer.
        progress: who is told how far it is.
        name: of the model in the table; default: the folder's.

    Raises:
        RunError: a folder holds no finished audit.
        ConfigError: its test prompts have changed, or the maps are of another kind of model.
    """
    result, config = load_result(run_folder), load_config(run_folder)
    splits = load_splits(config)
    test = splits.tested.harmful
    if list(test.hashes) != list(result.tested["harmful"].hashes):
        raise ConfigError(f"the test prompts of {run_folder} have changed; run the audit again")
    rows = [row for row in result.rows if row.error is None]
    model = open_model(config, progress)
    found = [
        Attacked(row.key, "none" if row.method == NONE else "refitted", _marks(row, config.judge), row.within_budget)
        for row in rows
    ]
    bench = _Bench(model, config, splits)
    planned = [*_interventions(bench, before), *_prefilled(run_folder, rows)]
    progress.stage(f"attacking {name or config.model}", len(planned))
    for each, kind, intervention in planned:
        found.append(Attacked(each, kind, bench.answered(intervention, prefilled=kind == "prefilled")))
        progress.advance()
    return Withstood(name or Path(run_folder).name, config.judge, tuple(found))


def _marks(row: Row, judge: str) -> tuple[bool, ...]:
    return tuple(answered(row.refused[judge]))


@dataclass(frozen=True)
class _Bench:
    """What attacks are measured with."""

    model: ChatModel
    config: AuditConfig
    splits: Splits

    def answered(self, intervention: Intervention, *, prefilled: bool) -> tuple[bool, ...]:
        """Which of the harmful test prompts are answered under an intervention."""
        prompts, config = list(self.splits.tested.harmful), self.config
        with intervention.applied(self.model):
            if prefilled:
                ids = prefilled_answers(self.model, prompts, max_new_tokens=config.max_new_tokens, system=config.system)
            else:
                ids = generate_ids(self.model, prompts, max_new_tokens=config.max_new_tokens, system=config.system)
        answers = [read(self.model, each) for each in ids]
        texts, finished = [each.text for each in answers], [each.finished for each in answers]
        refused = readings(config.judge, prompts, texts, harmful=True, finished=finished)[config.judge]
        return tuple(mark is False for mark in refused)


def _interventions(bench: _Bench, before: str | Path | None) -> Iterator[tuple[str, Kind, Intervention]]:
    """Iterated ablation, transfer, and the null."""
    fit, blocks = bench.splits.fit, range(len(bench.model.blocks))
    if not bench.model.parts.unverified:
        for directions, intervention in iterated_ablations(bench.model, list(fit.harmful), list(fit.harmless), blocks):
            yield f"iterated-{len(directions)}", "iterated", intervention
        yield "random", "random", random_ablation(bench.model, bench.config.seed)
    if before is not None:
        for row, intervention in transferred(bench.model, before).items():
            yield f"transferred-{row}", "transferred", intervention


def _prefilled(run_folder: str | Path, rows: Sequence[Row]) -> Iterator[tuple[str, Kind, Intervention]]:
    """Prefilling alone, and under the best of the audit by the selection split."""
    yield "prefilled", "prefilled", Intervention()
    moved = [row for row in rows if row.method != NONE and row.selection is not None]
    for row in sorted(moved, key=_on_selection, reverse=True)[:BEST]:
        yield f"prefilled-{row.key}", "prefilled", load_intervention(run_folder, row.key)


def _on_selection(row: Row) -> float:
    return -1.0 if row.selection is None else row.selection.least_in_all
