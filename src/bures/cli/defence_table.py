"""How the results of `bures defend` look in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType

from bures.cli.fitted import Fitted, columns, words
from bures.report.defence_words import asr_of, attacks_of, cautions, legend
from bures.results.defence_brief import defence_brief
from bures.results.defending import Attacked, DefenceResult
from bures.results.formatting import share


def defence_table(result: DefenceResult) -> RenderableType:
    """One row a model, one row an attack, and what one needs to read them."""
    lines = legend(result)
    warned = words(*(f"! {line}" for line in cautions(result)), style="bold")
    return Group(words(lines[0], style="bold"), warned, _models(result), _attacks(result), words(*lines[1:]))


def _models(result: DefenceResult) -> Fitted:
    brief = defence_brief(result)
    over = [name for name in brief.header if name.startswith("refused %")]
    spare = ("attacks", "none %", "KL, 95th", "null %", *over[1:], "by", "x [95 %]", "KL [95 %]")
    table = Fitted(brief.title, columns(*brief.header, left=("name", "by"), wraps=("name", "by", *over), spare=spare))
    for row in brief.rows:
        table.add(row)
    return table


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
