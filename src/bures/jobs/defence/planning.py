"""Which attacks are made on a model, kind by kind.

A kind has a name in `bures.results.names.AttackName` and a function here, in `_MAKERS`, that yields its attacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bures.errors import FitError, NumericsError
from bures.jobs.attacks import MOST_DIRECTIONS, iterated_ablations, random_ablation, transferred
from bures.jobs.defence.targets import Audited, Sources, Target
from bures.jobs.learned import Learning, learned_direction
from bures.jobs.run import Run
from bures.jobs.saved_interventions import load_intervention
from bures.jobs.search import interventions_of
from bures.jobs.selection import Original, answered, ask_original, choose
from bures.jobs.splits import load_splits
from bures.models.intervention import Intervention
from bures.models.subspaces import Directions
from bures.results.names import NONE, AttackName
from bures.results.records import Candidate, Trial
from bures.results.schema import Row

BEST = 2
"""Rows of the audit under which answers are prefilled too."""

DEPTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Where iterated ablation may find a direction, as shares of the depth."""


@dataclass(frozen=True)
class Planned:
    """An attack that is to be made.

    Attributes:
        name: of it.
        intervention: what is applied.
        prefilled: whether the answer begins with an affirmative opener.
        cost: perplexity ratio and whether it is within the budget, where both are known already.
    """

    name: str
    intervention: Intervention
    prefilled: bool = False
    cost: tuple[float | None, bool | None] | None = None


def planned(kind: AttackName, target: Target, sources: Sources) -> Iterator[Planned]:
    """The attacks of a kind on a model.

    Args:
        kind: of attack.
        target: the model.
        sources: what attacks are taken from.

    Raises:
        RunError: maps are missing or damaged.
        ConfigError: maps to be transferred are of another kind of model.
        FitError: nothing can be fitted.
    """
    return _MAKERS[kind](target, sources)


def why_not(kind: AttackName, audit: Audited, sources: Sources) -> str | None:
    """Why there is no attack of a kind on a model; None: there are some."""
    if kind == "search" and audit.name not in sources.searches:
        return "no --search of it was given"
    if kind != "transferred":
        return None
    if sources.before is None:
        return "no --before was given"
    if sources.before.fingerprint == audit.fingerprint:
        return "it is the model that the maps were fitted on"
    return None


def expected(kind: AttackName, audit: Audited, sources: Sources) -> int:
    """How many attacks of a kind there will be, at most."""
    if kind == "iterated":
        return MOST_DIRECTIONS
    if kind == "transferred":
        return 0 if sources.before is None else len(moved(sources.before))
    if kind == "search":
        return len(sources.searches[audit.name].result.front)
    return 1 + min(BEST, len(moved(audit))) if kind == "prefilled" else 1


def moved(audit: Audited) -> list[Row]:
    """The rows of an audit that have an intervention."""
    return [row for row in audit.result.rows if row.error is None and row.method != NONE]


def _iterated(target: Target, _: Sources) -> Iterator[Planned]:
    """Each further direction is found at the block that does best on the selection split, within the budget."""
    run, fit, n_blocks = target.run, target.run.splits.fit, len(target.model.blocks)
    if target.model.parts.unverified:
        return
    made = iterated_ablations(
        run.unthinking,
        list(fit.harmful),
        list(fit.harmless),
        sorted({round(depth * (n_blocks - 1)) for depth in DEPTHS}),
        choose=Choice(target).best,
        system=run.config.system,
    )
    for directions, intervention in made:
        yield Planned(f"iterated-{len(directions)}", intervention)


@dataclass(frozen=True)
class Choice:
    """Chooses among directions by what their ablation does on the selection split, as an audit chooses.

    Attributes:
        target: the model.
    """

    target: Target

    @cached_property
    def _original(self) -> Original:
        return ask_original(self.target.run, self.target.trial_tokens)

    def best(self, found: Sequence[Directions]) -> Directions:
        """The highest ASR within the perplexity budget; the least perplexity where none is within.

        Args:
            found: directions, each with the block at which the last was found.

        Raises:
            FitError: the model's numbers overflow under each of them.
        """
        run, n_blocks = self.target.run, len(self.target.model.blocks)
        tried: dict[Candidate, Directions] = {}
        trials: list[Trial] = []
        for directions in found:
            candidate = Candidate("rfa", (directions.blocks[-1],), None, "all", sites=True)
            tried[candidate] = directions
            try:
                trials.append(answered(run, candidate, directions.everywhere(n_blocks), self._original))
            except NumericsError:
                continue
        chosen = choose(trials, run.config.max_perplexity_ratio)
        if chosen is None:
            raise FitError("the model's numbers overflow under every further direction")
        return tried[chosen.candidate]


def _transferred(target: Target, sources: Sources) -> Iterator[Planned]:
    if sources.before is not None:
        for row, intervention in transferred(target.model, sources.before.path).items():
            yield Planned(f"transferred-{row}", intervention)


def _prefilled(target: Target, _: Sources) -> Iterator[Planned]:
    """Alone, and under the best rows of the audit by the selection split."""
    yield Planned("prefilled", Intervention(), prefilled=True, cost=(1.0, True))
    for row in _best(moved(target.audit)):
        intervention = load_intervention(target.audit.path, row.key)
        yield Planned(f"prefilled-{row.key}", intervention, prefilled=True, cost=cost_of(row))


def _learned(target: Target, _: Sources) -> Iterator[Planned]:
    """A direction found by gradient; what is learned is what the model says under the audit's best row."""
    run, fit, best = target.run, target.run.splits.fit, _best(moved(target.audit))
    if target.model.parts.unverified:
        return
    found = learned_direction(
        run.unthinking,
        list(fit.harmful),
        list(fit.harmless),
        strongest=load_intervention(target.audit.path, best[0].key) if best else None,
        options=Learning(judge=run.config.judge, system=run.config.system, seed=run.config.seed),
        progress=run.progress,
    )
    yield Planned("learned", found.intervention)


def _search(target: Target, sources: Sources) -> Iterator[Planned]:
    """What a search recommends and the rest of its front, fitted again on the search's prompts."""
    held = sources.searches[target.audit.name]
    run = Run(held.config, load_splits(held.config), target.model, held.result, None, target.run.progress)
    for trial, intervention in interventions_of(run):
        ratio = trial.perplexity_ratio
        cost = None if ratio is None else (ratio, ratio <= target.run.config.max_perplexity_ratio)
        yield Planned(f"search-{trial.number}", intervention, cost=cost)


def _random(target: Target, _: Sources) -> Iterator[Planned]:
    if not target.model.parts.unverified:
        yield Planned("random", random_ablation(target.model, target.run.config.seed))


def _best(rows: Sequence[Row]) -> list[Row]:
    chosen = [(row.selection.least_in_all, row) for row in rows if row.selection is not None]
    return [row for _, row in sorted(chosen, key=lambda each: each[0], reverse=True)[:BEST]]


def cost_of(row: Row) -> tuple[float | None, bool | None]:
    """What an audit knows of a row's perplexity on the selection split."""
    return None if row.selection is None else row.selection.perplexity_ratio, row.within_budget


_MAKERS: Mapping[AttackName, Callable[[Target, Sources], Iterator[Planned]]] = {
    "iterated": _iterated,
    "transferred": _transferred,
    "prefilled": _prefilled,
    "learned": _learned,
    "search": _search,
    "random": _random,
}
"""Kinds that are made here; `refitted` ones are the audit's rows."""
