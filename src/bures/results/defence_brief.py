"""A defence table as a small table of text: one row a model, as terminal, notebook, page and exports show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bures.results.brief import Brief
from bures.results.formatting import estimate, number, p_value, percent, share

if TYPE_CHECKING:
    from bures.results.defending import DefenceResult, Figure, Withstood

_FIGURES = ("attacks", "worst % [95 %]", "by", "union % [95 %]", "p (Holm)", "worst, any cost", "union, any cost")
"""Of the attacks within the perplexity budget, but for the last two."""
_COSTS = ("x [95 %]", "KL [95 %]", "KL, 95th")


def figure(model: Withstood, *, coherent: bool = True, within_budget: bool = False) -> Figure | None:
    """The worst attack and the union; None before the table is finished."""
    wanted = coherent, within_budget
    return next((each for each in model.figures if (each.coherent, each.within_budget) == wanted), None)


def sets_of(models: Sequence[Withstood]) -> list[str]:
    """The harmless sets, by name."""
    return list(dict.fromkeys(name for model in models for name in model.refused_harmless))


def defence_brief(result: DefenceResult) -> Brief:
    """One row a model."""
    sets = sets_of(result.models)
    header = ("name", *_FIGURES, "none %", "null %", *(f"refused % {name}" for name in sets), *_COSTS)
    rows = tuple(_cells(result, model, sets) for model in result.models)
    return Brief(f"{result.model.get('name', '?')}: what each model withstands", header, rows)


def _cells(result: DefenceResult, model: Withstood, sets: Sequence[str]) -> tuple[str, ...]:
    whole, inside = figure(model), figure(model, within_budget=True)
    pair = next((each for each in result.pairs if each.second == model.name), None)
    null, cost = model.null, model.cost
    return (
        model.name,
        "-" if inside is None or whole is None else f"{inside.attacks} of {whole.attacks}",
        share(None if inside is None else inside.worst_asr, unit=""),
        "-" if inside is None else inside.worst,
        share(None if inside is None else inside.union, unit=""),
        "-" if pair is None else p_value(pair.p_adjusted),
        share(None if whole is None else whole.worst_asr, unit=""),
        share(None if whole is None else whole.union, unit=""),
        percent(model.attacks[0].asr.value, unit=""),
        percent(None if null is None else null.asr.value, unit=""),
        *(share(model.over_refusal.get(name), unit="") for name in sets),
        estimate(None if cost is None else cost.perplexity_ratio, 3),
        estimate(None if cost is None else cost.kl, 3),
        number(None if cost is None else cost.kl_95, 3),
    )
