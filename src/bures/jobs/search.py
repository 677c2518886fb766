"""The job of `bures search`: a multi-objective search over interventions, ASR against KL, on the selection split.

A trial is a method at one block, two blocks, a band or three sites of every block, with rank, shrinkage, strength and
token scope (`bures.jobs.proposing`). It climbs three rungs, each dearer than the last, and stops where it is neither
among the best third of what reached the rung nor on its Pareto front (asynchronous successive halving, Li et al., arXiv
1810.05934):

1. first answer token: refusal log-odds on harmful prompts, KL on harmless ones;
2. short answers: ASR, and token KL along the original model's harmless answers;
3. long answers: the same; only these are reported.

Recommended is the smallest KL among the trials that are not shown to answer fewer prompts than the best; those answer
further prompts before, long ones (`bures.jobs.pareto`).
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bures.errors import ConfigError, FitError
from bures.jobs.beginning import open_run, start
from bures.jobs.config import SECRET, SearchConfig
from bures.jobs.lateness import about_late
from bures.jobs.pareto import climbs, finalists, honest_asr, judge_trials, value_of
from bures.jobs.progress import Progress, Silent
from bures.jobs.proposing import first_ones, sampler, suggest, suggested
from bures.jobs.run import Run
from bures.jobs.scanner import Scanner
from bures.jobs.selection import answered, ask_original
from bures.jobs.study import (
    CELL,
    TRIALS,
    create_study,
    finished,
    join_study,
    open_storage,
    optuna_module,
    require_free,
    work,
)
from bures.jobs.trying_again import marks_again, too_few
from bures.models.fitting import build
from bures.models.intervention import Intervention
from bures.models.pace import threads_kept
from bures.results.records import Candidate, Trial
from bures.results.run_folder import RunFolder
from bures.results.schema import SearchResult, SearchTrial

if TYPE_CHECKING:
    import optuna

RUNGS = ("first token", "short", "long")

WEAKER = "weaker"
"""User attribute: whether a trial tries the best at less strength, for which it climbs to the top."""


def search(config: SearchConfig, out: str | Path | None = None, *, progress: Progress | None = None) -> SearchResult:
    """Runs a search, or goes on with the one in `out`; other workers may join it meanwhile.

    Args:
        config: the options.
        out: the run folder; default `runs/<model>-<hash of the options>`.
        progress: who is told how far it is.

    Raises:
        BuresError: an input is bad; what was finished stays in the storage.
    """
    with open_run(config, SearchResult, out) as (folder, done):
        return done or _carry_out(config, folder, progress or Silent())


def _carry_out(config: SearchConfig, folder: RunFolder, progress: Progress) -> SearchResult:
    url = config.storage or f"sqlite:///{folder.path.resolve() / 'search.db'}"
    storage = open_storage(url)
    run = start(config, SearchResult, folder, progress)
    attributes = {
        "config": config.model_dump_json(exclude=set(SECRET)),
        "fingerprint": run.result.model["fingerprint"],
    }
    require_free(storage, config.study, attributes)
    climb = _Climb(run)
    owner = f"{platform.node()}:{folder.path.resolve()}"
    study = create_study(storage, config.study, config.trials, attributes, owner, first_ones(run))
    run.progress.stage("searching", config.trials)
    work(storage, study, climb, advance=run.progress.advance)
    result = run.result
    result.trials = _tried_again(climb, study, [_recorded(trial) for trial in finished(study)])
    front, recommended = judge_trials(result.trials)
    result.front, result.recommended = [t.number for t in front], None if recommended is None else recommended.number
    result.recommended_asr = honest_asr(result.trials)
    return run.finish()


def join(
    url: str,
    study_name: str,
    *,
    device: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Works on a search that another process began, until nothing is left to do.

    Args:
        url: its storage.
        study_name: of the search.
        device: of this worker's copy of the model; default that of the search.
        threads: of this worker; default as the search says, which is measured where it does not.
        progress: who is told how far it is.

    Returns:
        How many trials the search has finished.

    Raises:
        ConfigError: no such search, or this machine's model is another one.
    """
    storage = open_storage(url)
    study = join_study(storage, study_name)
    own = {name: value for name, value in (("device", device), ("threads", threads)) if value is not None}
    config = SearchConfig.make(**{**json.loads(study.user_attrs["config"]), **own})
    with threads_kept():
        return _help(storage, study, config, progress or Silent())


def _help(storage: optuna.storages.RDBStorage, study: optuna.Study, config: SearchConfig, progress: Progress) -> int:
    """Works on a search whose options are given, those of this worker among them."""
    climb = _Climb(start(config, SearchResult, None, progress))
    if climb.run.result.model["fingerprint"] != study.user_attrs["fingerprint"]:
        raise ConfigError(f"{config.model} is not the model that the search began with; bring the same weights")
    climb.run.progress.stage("searching", int(study.user_attrs["trials"]))
    work(storage, study, climb, advance=climb.run.progress.advance)
    return len(finished(study))


def _tried_again(climb: _Climb, study: optuna.Study, trials: list[SearchTrial]) -> list[SearchTrial]:
    """The trials, those that may be recommended with their marks on the further prompts; the study keeps these."""
    run = climb.run
    run.note(*too_few(run))
    wanted = [] if run.splits.again is None else finalists(trials)
    run.progress.stage("trying the best again", len(wanted))
    for trial in wanted:
        if _again(trial) not in study.user_attrs:
            study.set_user_attr(_again(trial), climb.again(trial))
        run.progress.advance()
    return [t.model_copy(update={"again": study.user_attrs.get(_again(t), "")}) for t in trials]


def _again(trial: SearchTrial) -> str:
    """Name of the study's attribute that holds a trial's marks on the further prompts."""
    return f"again {trial.number}"


class _Climb:
    """The objective: one trial's way up the rungs, with everything that trials share."""

    def __init__(self, run: Run[SearchConfig, SearchResult]) -> None:
        """Fits, and asks the original model.

        Raises:
            ConfigError: the model refuses nothing.
        """
        self.run, config = run, run.config
        self.model = run.unthinking
        decides = run.find_parting()
        if not decides.found:
            raise ConfigError(f"there is no refusal to search for in {config.model}: {' '.join(run.result.notes[-1:])}")
        self.scanner = Scanner(run.unthinking, run.fit, run.splits.select, decides)
        run.progress.stage("asking the original model", 2)
        rungs = {"short": config.short_tokens, "long": config.long_tokens}
        asked = run.asking(run.splits.select.harmful)
        self.originals = {rung: ask_original(run, tokens, asked) for rung, tokens in rungs.items()}
        run.note(*about_late(run))

    def __call__(self, trial: optuna.Trial) -> tuple[float, float]:
        study = trial.study
        done = map(_recorded, finished(study))  # read by the last trials alone
        study.sampler, is_weaker = sampler(self.run.config, trial.user_attrs[CELL], study.user_attrs[TRIALS], done)
        trial.set_user_attr(WEAKER, is_weaker)
        candidate, fit = suggest(self.run, trial)
        trial.set_user_attr("candidate", candidate.key)
        try:
            move = build(self.model, candidate, fit)
            score = self.scanner.under(candidate, move)
            self._rung(trial, "first token", score.refusal_log_odds, score.first_token_kl)
            self._answers(trial, candidate, move, "short")
            return self._answers(trial, candidate, move, "long")
        except FitError as error:
            trial.set_user_attr("error", str(error))
            raise optuna_module().TrialPruned from error

    def again(self, trial: SearchTrial) -> str:
        """A finished trial's marks on the further selection prompts; none where the model's numbers overflow there."""
        candidate, fit = suggested(self.run, trial.options)
        try:
            return marks_again(self.run, build(self.model, candidate, fit), self.run.config.long_tokens)
        except FitError:
            return ""

    def _answers(
        self, trial: optuna.Trial, candidate: Candidate, move: Intervention, rung: Literal["short", "long"]
    ) -> tuple[float, float]:
        tried = answered(self.run, candidate, move, self.originals[rung])
        trial.set_user_attr(f"{rung} answers", _plain(tried))
        asr, kl = tried.least, value_of(tried.kl)
        if rung == "short":
            self._rung(trial, rung, -asr, kl)
        return asr, kl

    def _rung(self, trial: optuna.Trial, rung: str, first: float, second: float) -> None:
        """Notes what the trial reached; ends it where others did better, unless it is the best at less strength.

        Raises:
            optuna.TrialPruned: it does not climb on.
        """
        study, lost = trial.study, optuna_module().trial.TrialState.FAIL
        others = [
            (t.user_attrs[rung][0], t.user_attrs[rung][1])
            for t in study.get_trials(deepcopy=False)
            if rung in t.user_attrs and t.number != trial.number and t.state != lost
        ]
        trial.set_user_attr(rung, [first, second])
        if not trial.user_attrs[WEAKER] and not climbs((first, second), others):
            raise optuna_module().TrialPruned


def interventions_of(run: Run[SearchConfig, SearchResult]) -> Iterator[tuple[SearchTrial, Intervention]]:
    """What a finished search recommends and the rest of its front, fitted again as they were tried.

    Args:
        run: the search's options and prompts, the model that it was of, and its result.

    Raises:
        FitError: the activations do not allow a fit, or overflow.
    """
    wanted = dict.fromkeys(([] if run.result.recommended is None else [run.result.recommended]) + run.result.front)
    trials = {trial.number: trial for trial in run.result.trials}
    for number in wanted:
        candidate, fit = suggested(run, trials[number].options)
        yield trials[number], build(run.unthinking, candidate, fit)


def _plain(trial: Trial) -> dict[str, Any]:
    return {
        "asr": None if trial.asr is None else trial.asr.to_dict(),
        "perplexity_ratio": trial.perplexity_ratio,
        "kl": None if trial.kl is None else trial.kl.to_dict(),
        "unfinished": trial.unfinished,
        "refused": trial.refused,
    }


def _recorded(trial: optuna.trial.FrozenTrial) -> SearchTrial:
    """What the storage holds of a finished trial."""
    held = trial.user_attrs
    reached = [name for name in RUNGS if name in held or f"{name} answers" in held]
    answers = held.get("long answers") or held.get("short answers") or {}
    first = held.get("first token", [None, None])
    return SearchTrial.model_validate(
        {
            "number": held[CELL],
            "candidate": held.get("candidate", "?"),
            "options": dict(trial.params.items()),
            "rung": reached[-1] if reached else None,
            "refusal_log_odds": first[0],
            "first_token_kl": first[1],
            "asr": answers.get("asr"),
            "perplexity_ratio": answers.get("perplexity_ratio"),
            "kl": answers.get("kl"),
            "unfinished": answers.get("unfinished", 0),
            "refused": answers.get("refused", ""),
            "error": held.get("error"),
        }
    )
