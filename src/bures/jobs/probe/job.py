"""`bures probe`: detectors fitted, chosen, given thresholds and measured, beside what the words alone tell.

Fitted on the fit split, the block chosen by `choice`, thresholds set on harmless prompts that had no part in either,
measured on the test split, on further pairs of sets, and on the test prompts under interventions. No detector sees an
intervention before it is measured under it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from bures.data.prompts import PromptSet
from bures.errors import ConfigError, FitError, NumericsError
from bures.jobs.beginning import open_run, start
from bures.jobs.probe.baselines import BASELINES, WORDS
from bures.jobs.probe.choice import Scores, Standing, best_of, folds_of, standing
from bures.jobs.probe.config import ProbeConfig
from bures.jobs.probe.detectors import Detector, fit_detector
from bures.jobs.probe.files import Probe
from bures.jobs.progress import Progress, Silent
from bures.jobs.run import Run
from bures.jobs.saved_interventions import load_intervention
from bures.models.activations import read
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.positions import places_of
from bures.results.names import Position
from bures.results.probing import ProbeResult, ProbeRow, Told, told
from bures.results.run_folder import load_result

PROBE = "probe.safetensors"
"""Name of the file in the run folder that holds the chosen detector."""

Activations = dict[int, Tensor]
Given = TypeVar("Given")


def probe(config: ProbeConfig, out: str | Path | None = None, *, progress: Progress | None = None) -> ProbeResult:
    """Fits detectors of harmful prompts and measures them, or hands on what `out` holds of the same run.

    Args:
        config: the options.
        out: the run folder; default `runs/<model>-<hash of the options>`. The chosen detector is its
            `probe.safetensors`.
        progress: who is told how far it is.

    Raises:
        BuresError: an input is bad.
    """
    with open_run(config, ProbeResult, out) as (folder, done):
        if done is not None:
            return done
        under = {name: load_intervention(*_run_and_row(name)) for name in config.under}
        checks = [partial(_require_alike, name) for name in under]
        run = start(config, ProbeResult, folder, progress or Silent(), checks)
        run.result.methods, run.result.prompts = {}, run.splits.describe()
        measured = Probing(run, under)
        measured.measure()
        measured.chosen.save(folder.path / PROBE)
        return run.finish()


def _fit_words(
    name: str, harmful: Sequence[tuple[str, ...]], harmless: Sequence[tuple[str, ...]]
) -> Callable[[Sequence[str]], Scores]:
    return BASELINES[name](*([text for source in side for text in source] for side in (harmful, harmless)))


def _run_and_row(name: str) -> tuple[str, str]:
    run, _, row = name.rpartition(":")
    return run, row


def _require_alike(name: str, model: ChatModel) -> None:
    """Refuses an intervention that was fitted on a model of another shape."""
    held = load_result(_run_and_row(name)[0]).model
    if (held["n_blocks"], held["d_model"]) != (len(model.blocks), model.d_model):
        raise ConfigError(f"--under {name}: that audit is of a model of another shape than {model.name}")


@dataclass(frozen=True)
class Fitted:
    """A fitted detector and where it reads."""

    detector: Detector
    block: int
    place: int
    position: Position

    def score(self, rows: Activations) -> Scores:
        """Of every prompt."""
        return self.detector.score(rows[self.block][:, self.place]).numpy()


@dataclass(frozen=True)
class Probing:
    """The stages of the job.

    Attributes:
        run: the run.
        under: name -> intervention under which the test prompts are scored again.
    """

    run: Run[ProbeConfig, ProbeResult]
    under: Mapping[str, Intervention]

    @cached_property
    def sets(self) -> dict[str, PromptSet]:
        """The prompts, by the names of their options."""
        return self.run.splits.sets

    @cached_property
    def rows(self) -> dict[str, Activations]:
        """Set -> block -> activations (n, positions, d); blocks where some are not finite are left out.

        Raises:
            NumericsError: no block is left.
        """
        self.run.progress.stage("collecting activations", sum(map(len, self.sets.values())))
        found = {name: self._read(prompts, self.run.blocks) for name, prompts in self.sets.items()}
        bad = {b for rows in found.values() for b, h in rows.items() if not bool(torch.isfinite(h).all())}
        if bad == {*self.run.blocks}:
            raise NumericsError("activations after every block are NaN or infinite; use --dtype float32 or bfloat16")
        self.run.note(*(f"Block {b} is left out: its activations are NaN or infinite." for b in sorted(bad)))
        return {name: {b: h for b, h in rows.items() if b not in bad} for name, rows in found.items()}

    def _read(self, prompts: PromptSet, blocks: Sequence[int], *, silent: bool = False) -> Activations:
        run = self.run
        given, system = list(prompts), run.config.system
        places = places_of(run.unthinking, given, run.config.positions, system=system)
        return read(
            run.unthinking,
            run.unthinking.encode(given, system=system),
            blocks,
            places,
            token_budget=run.config.token_budget,
            advance=None if silent else run.progress.advance,
        )

    def _sources(self, side: str) -> list[str]:
        return [name for name in self.sets if name.startswith(f"{side}_fit")]

    def _folds(self, of: Callable[[str], Given]) -> tuple[list[Given], list[Given], Given, Given]:
        """Sources of both sides and the selection sets, as arguments of `folds_of`."""
        harmful, harmless = ([of(name) for name in self._sources(side)] for side in ("harmful", "harmless"))
        return harmful, harmless, of("harmful_select"), of("harmless_select")

    @cached_property
    def pairs(self) -> dict[str, tuple[str, str]]:
        """Name -> the two sets that are told apart."""
        n = max(len(self.run.config.transfer_harmful), len(self.run.config.transfer_harmless))
        found = {"test": ("harmful_test", "harmless_test")}
        for i in range(1, n + 1):
            names = (f"harmful_transfer_{i}", f"harmless_transfer_{i}")
            one, two = (name if name in self.sets else f"{name.partition('_')[0]}_test" for name in names)
            found[f"transfer {i}"] = one, two
        return found

    # Stages -------------------------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Fills the result."""
        result, config = self.run.result, self.run.config
        result.chosen_by = "leave-one-source-out" if config.more_harmful or config.more_harmless else "selection"
        result.pairs = {key: (self.sets[a].name, self.sets[b].name) for key, (a, b) in self.pairs.items()}
        if "harmless_calibrate" not in self.sets:
            self.run.note("No harmless prompt is left to set thresholds on: give a larger source to choose on.")
        _ = self.rows
        self.run.progress.stage("fitting detectors", len(config.detectors) * len(config.positions))
        rows = [self._row(fitted, at) for fitted, at in self.fitted.values()]
        self._under(rows)
        result.detectors = [*rows, *(self._baseline(name) for name in BASELINES)]
        result.chosen = max(rows, key=lambda row: (row.selection, row.gap)).key
        self.run.save()

    @cached_property
    def fitted(self) -> dict[str, tuple[Fitted, Standing]]:
        """Every detector at every position, at its chosen block, fitted on all sources.

        Raises:
            FitError: none could be fitted.
        """
        found: dict[str, tuple[Fitted, Standing]] = {}
        for kind in self.run.config.detectors:
            for place, position in enumerate(self.run.config.positions):
                try:
                    found[f"{kind} {position}"] = self._choose(kind, place, position)
                except FitError as error:
                    self.run.note(f"{kind} at the position {position} could not be fitted: {error}")
                self.run.progress.advance()
        if not found:
            raise FitError(self.run.result.notes[-1])
        return found

    def _choose(self, kind: str, place: int, position: Position) -> tuple[Fitted, Standing]:
        def fit(harmful: Sequence[Tensor], harmless: Sequence[Tensor]) -> Callable[[Tensor], Scores]:
            detector = fit_detector(kind, torch.cat([*harmful]), torch.cat([*harmless]))
            return lambda h: detector.score(h).numpy()

        blocks = sorted(self.rows["harmful_fit"])
        standings: dict[int, Standing] = {}
        for block in blocks:
            standings[block] = standing(folds_of(*self._folds(partial(self._at, block, place))), fit)
        block = best_of(standings)
        harmful, harmless, _, _ = self._folds(partial(self._at, block, place))
        detector = fit_detector(kind, torch.cat(harmful), torch.cat(harmless))
        return Fitted(detector, block, place, position), standings[block]

    def _at(self, block: int, place: int, name: str) -> Tensor:
        return self.rows[name][block][:, place]

    def _row(self, fitted: Fitted, at: Standing) -> ProbeRow:
        kind = fitted.detector.kind
        return ProbeRow(
            key=f"{kind} {fitted.position}",
            detector=kind,
            position=fitted.position,
            block=fitted.block,
            selection=at.auroc,
            gap=at.gap,
            told=self._told(lambda name: fitted.score(self.rows[name])),
        )

    def _told(self, score: Callable[[str], Scores], *, is_words: bool = False) -> dict[str, Told]:
        calibration = score("harmless_calibrate") if "harmless_calibrate" in self.sets else None
        return {
            key: told(score(one), score(two), calibration, None if is_words else (self.words(one), self.words(two)))
            for key, (one, two) in self.pairs.items()
        }

    def _under(self, rows: Sequence[ProbeRow]) -> None:
        """Scores the test prompts again under each intervention, with the detectors and thresholds as they are."""
        blocks = sorted({fitted.block for fitted, _ in self.fitted.values()})
        for name, intervention in self.under.items():
            with intervention.applied(self.run.unthinking):
                moved = {key: self._read(self.sets[key], blocks, silent=True) for key in self.pairs["test"]}
            for row in rows:
                fitted, _ = self.fitted[row.key]
                scores = [fitted.score(moved[key]) for key in self.pairs["test"]]
                if not all(bool(np.isfinite(each).all()) for each in scores):
                    self.run.note(f"{row.key} has scores that are NaN or infinite under {name}.")
                    continue
                calibrated = "harmless_calibrate" in self.sets
                calibration = fitted.score(self.rows["harmless_calibrate"]) if calibrated else None
                words = self.words(self.pairs["test"][0]), self.words(self.pairs["test"][1])
                row.told[f"under {name}"] = told(scores[0], scores[1], calibration, words)

    @cached_property
    def words(self) -> Callable[[str], Scores]:
        """Scores of a set's prompts by the n-gram baseline."""
        return self._reader(WORDS)

    def _reader(self, name: str) -> Callable[[str], Scores]:
        harmful, harmless, _, _ = self._folds(self._texts)
        score = _fit_words(name, harmful, harmless)
        return lambda of: score(self._texts(of))

    def _texts(self, of: str) -> tuple[str, ...]:
        return self.sets[of].texts

    def _baseline(self, name: str) -> ProbeRow:
        """What the text alone tells; interventions do not change it."""
        at = standing(folds_of(*self._folds(self._texts)), partial(_fit_words, name))
        found = self._told(self.words if name == WORDS else self._reader(name), is_words=name == WORDS)
        unmoved = {f"under {intervention}": found["test"] for intervention in self.under}
        return ProbeRow(
            key=name,
            detector=name,
            position=None,
            block=None,
            selection=at.auroc,
            gap=at.gap,
            told=found | unmoved,
        )

    @property
    def chosen(self) -> Probe:
        """The detector that the selection chose, with its thresholds."""
        result, model = self.run.result, self.run.model
        row = next(row for row in result.detectors if row.key == result.chosen)
        fitted, _ = self.fitted[row.key]
        return Probe(
            detector=fitted.detector,
            block=fitted.block,
            position=fitted.position,
            thresholds={f"{cutoff.rate:g}": cutoff.threshold for cutoff in row.told["test"].cutoffs},
            fingerprint=result.model["fingerprint"],
            template=model.chat.sha256,
            system=self.run.config.system,
        )
