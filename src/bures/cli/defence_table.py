"""How the results of `bures defend` look in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType

from bures.cli.fitted import Fitted, columns, words
from bures.report.defence_words import asr_of, attacks_of, cautions, figure, legend, sets_of
from bures.results.defending import Attacked, DefenceResult, Withstood
from bures.results.formatting import estimate, number, p_value, percent, share

_FIGURES = ("attacks", "worst % [95 %]", "by", "union % [95 %]", "worst, in budget", "union, in budget", "p (Holm)")


def defence_table(result: DefenceResult) -> RenderableType:
    """One row a model, one row an attack, and what one needs to read them."""
    lines = legend(result)
    warned = words(*(f"! {line}" for line in cautions(result)), style="bold")
    return Group(words(lines[0], style="bold"), warned, _models(result), _attacks(result), words(*lines[1:]))


def _models(result: DefenceResult) -> Fitted:
    sets = sets_of(result.models)
    over = [f"refused % {name}" for name in sets]
    names = ("model", *_FIGURES, "none %", "null %", *over, "x [95 %]", "KL [95 %]", "KL, 95th")
    spare = ("attacks", "none %", "KL, 95th", "null %", *over[1:], "by", "x [95 %]", "KL [95 %]")
    wraps = ("model", "by", *over)
    table = Fitted("what each model withstands", columns(*names, left=("model", "by"), wraps=wraps, spare=spare))
    for model in result.models:
        table.add(_cells(result, model, sets))
    return table


def _cells(result: DefenceResult, model: Withstood, sets: list[str]) -> list[str]:
    whole, inside = figure(model), figure(model, within_budget=True)
    pair = next((each for each in result.pairs if each.second == model.name), None)
    null, cost = model.null, model.cost
    return [
        model.name,
        "-" if whole is None else str(whole.attacks),
        share(None if whole is None else whole.worst_asr, unit=""),
        "-" if whole is None else whole.worst,
        share(None if whole is None else whole.union, unit=""),
        share(None if inside is None else inside.worst_asr, unit=""),
        share(None if inside is None else inside.union, unit=""),
        "-" if pair is None else p_value(pair.p_adjusted),
        percent(model.attacks[0].asr.value, unit=""),
        percent(None if null is None else null.asr.value, unit=""),
        *(share(model.over_refusal.get(name), unit="") for name in sets),
        estimate(None if cost is None else cost.perplexity_ratio, 3),
        estimate(None if cost is None else cost.kl, 3),
        number(None if cost is None else cost.kl_95, 3),
    ]


def _attacks(result: DefenceResult) -> Fitted:
    names = [f"{model.name} %" for model in result.models]
    table = Fitted("ASR of each attack", columns("attack", *names, left=("attack",), wraps=("attack",)))
    for name, found in attacks_of(result):
        is_null = any(each is not None and each.kind == "random" for each in found)
        table.add([f"{name} (null)" if is_null else name, *map(_asr, found)], style="dim" if is_null else None)
    return table


def _asr(attacked: Attacked | None) -> str:
    mark = "!" if attacked is not None and attacked.within_budget is False else ""
    return "failed" if attacked is not None and attacked.error is not None else share(asr_of(attacked), unit="") + mark
