"""What each trial of a search tries.

The first ones try every method once, fitted at three fifths of the scanned blocks (and once a scope at three sites of
every block, where it was published so), so that a short search has seen them all; those of the last quarter try the
recommended trial at the next weaker strength, for as long as that answers no fewer prompts, since a map that does the
same with less of it costs less; all others try what Optuna's tree-structured Parzen estimator suggests (Bergstra et al.
2011). A trial depends on its cell and on what was found before, whoever makes it and however often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bures.jobs.config import SearchConfig
from bures.jobs.pareto import judge_trials
from bures.jobs.run import Run
from bures.jobs.study import optuna_module
from bures.models.fitting import FitData
from bures.models.methods import METHODS, FitOptions
from bures.results.records import Candidate, Scope
from bures.results.schema import SearchResult, SearchTrial

if TYPE_CHECKING:
    import optuna

DEPTH = 0.6
"""Where the first trials fit: the paper's maps lie at 40 to 60 % of the depth, Arditi et al.'s directions near that."""

WEAKER = 0.25
"""Share of the trials, the last ones, that are spent on less strength where less may do."""


def suggest(run: Run[SearchConfig, SearchResult], trial: optuna.trial.BaseTrial) -> tuple[Candidate, FitData]:
    """What a trial tries, and what it is fitted with."""
    config, blocks, last = run.config, run.scanned, len(run.scanned) - 1
    method = trial.suggest_categorical("method", config.methods)
    layouts = [name for name in ("one", "two", "band") if name == "one" or last > 0]
    layout = trial.suggest_categorical("layout", layouts)
    start = trial.suggest_int("block", 0, last)
    places = {start}
    if layout == "two":
        places.add((start + trial.suggest_int("second", 1, last)) % (last + 1))
    elif layout == "band":
        places |= set(range(start, min(last, start + trial.suggest_int("width", 2, config.max_band) - 1) + 1))
    at_sites = layout == "one" and has_sites(run, method) and bool(trial.suggest_categorical("sites", [False, True]))
    scope = cast("Scope", trial.suggest_categorical("scope", config.scopes))
    strength = trial.suggest_categorical("strength", config.strengths)
    rank, options = None, FitOptions(config.ridge, config.shrinkage)
    if METHODS[method].ranked:
        rank = trial.suggest_categorical("rank", config.ranks)
        shrinkage = trial.suggest_categorical("shrinkage", config.shrinkages)
        options = FitOptions(config.ridge, cast("Any", None if shrinkage == "none" else shrinkage))
    candidate = Candidate(method, tuple(blocks[i] for i in sorted(places)), rank, scope, sites=at_sites)
    return candidate, replace(run.fit, options=options, strength=strength)


def suggested(run: Run[SearchConfig, SearchResult], options: Mapping[str, Any]) -> tuple[Candidate, FitData]:
    """The same of a trial that was tried before; older ones know no `sites`."""
    return suggest(run, optuna_module().trial.FixedTrial({"sites": False, **options}))


def has_sites(run: Run[SearchConfig, SearchResult], method: str) -> bool:
    """Whether the method's map of a block is tried at three sites of every block too, as RFA was published."""
    return "sites" in METHODS[method].placements and not run.model.parts.unverified


def first_ones(run: Run[SearchConfig, SearchResult]) -> list[dict[str, Any]]:
    """What is given of the first trials: every method, fitted at `DEPTH`, at the strength nearest to 1."""
    config, block = run.config, int(DEPTH * len(run.scanned))
    strength = min(config.strengths, key=lambda each: abs(each - 1.0))
    place = {"layout": "one", "block": block, "scope": config.scopes[0], "strength": strength}
    first = [
        {"method": method, "sites": True, **place, "scope": scope}
        for method in config.methods
        if has_sites(run, method)
        for scope in config.scopes
    ]
    return [*first, *({"method": method, "sites": False, **place} for method in config.methods)]


def sampler(config: SearchConfig, cell: int, n: int, done: Iterable[SearchTrial]) -> tuple[Any, bool]:
    """Who suggests what a trial tries, and whether that is the best at less strength.

    Args:
        config: the options of the search.
        cell: the trial's number.
        n: trials of the search.
        done: the trials that were finished, of which the last ones try the best at less strength.
    """
    samplers = optuna_module().samplers
    seed = int(np.random.SeedSequence((config.seed, cell)).generate_state(1)[0])
    drawn = samplers.TPESampler(seed=seed, multivariate=False)
    given = weaker(config.strengths, list(done)) if cell >= n - int(WEAKER * n) else None
    return (drawn, False) if given is None else (samplers.PartialFixedSampler(given, drawn), True)


def weaker(strengths: Sequence[float], done: Sequence[SearchTrial]) -> Mapping[str, Any] | None:
    """The recommended trial at the next weaker strength; None where there is none, or it was tried already."""
    _, best = judge_trials(done)
    if best is None:
        return None
    below = [each for each in strengths if each < float(best.options["strength"])]
    if not below:
        return None
    given = {**best.options, "strength": max(below)}
    return None if any(trial.options == given for trial in done) else given
