"""The page of a search."""

from __future__ import annotations

from bures.report.kit.charts import INK, MUTED, STYLES, TIP, ZOOM, Spec, shown
from bures.report.kit.page import Details, Figure, Grid, Key, KeyFigure, Legend, Page, Section, Table
from bures.report.kit.text import named
from bures.report.pages.audit import footer
from bures.report.sections.provenance import about_run, limits_section, present, provenance_section, words_section
from bures.report.sections.tradeoff import ASR_AXIS, cost_axis, front_layer
from bures.report.words import judge_words, model_name, prompts, tip
from bures.results.formatting import brief, number, percent, share
from bures.results.schema import SearchResult, SearchTrial
from bures.results.shares import certain_success

_RUNGS = ("first token", "short", "long")


def search_page(result: SearchResult, extra: tuple[Section, ...] = ()) -> Page:
    """The page of a search; `extra` sections come after the findings."""
    cautions = ["Chosen and measured on the same selection prompts: audit the recommended point before you report it."]
    if result.status == "running":
        cautions.insert(0, "The search has not finished; these are the trials so far.")
    failed = sum(trial.error is not None for trial in result.trials)
    if failed:
        cautions.append(f"{failed} of {len(result.trials)} trials failed.")
    return Page(
        kind="Search",
        title=model_name(result),
        finding=_finding(result),
        key_figures=_key_figures(result),
        cautions=tuple(cautions),
        sections=present(
            [_trials(result), *extra, limits_section(result), provenance_section(result), words_section()]
        ),
        about=about_run(result),
        footer=footer(result.versions.get("bures", "")),
    )


def _name(trial: SearchTrial) -> str:
    options = ", ".join(f"{named(k, 20)} {named(v, 20)}" for k, v in trial.options.items() if v is not None)
    return named(trial.candidate, 80) + (f" ({options})" if options else "")


def _recommended(result: SearchResult) -> SearchTrial | None:
    return next((trial for trial in result.trials if trial.number == result.recommended), None)


def _finding(result: SearchResult) -> str:
    best = _recommended(result)
    if best is None or best.asr is None:
        return f"{len(result.trials)} trials were made; none was measured on long answers, so nothing is recommended."
    return (
        f"Of {len(result.trials)} interventions, {_name(best)} is recommended: the model answers {brief(best.asr)} of "
        f"{prompts(best.asr.n, 'harmful')}, by {judge_words(result.judge)}, at a KL of "
        f"{number(best.kl, 3)} nats from the original. It is the least costly that is not shown to answer fewer "
        f"prompts than the best.{_honest(result)}"
    )


def _honest(result: SearchResult) -> str:
    found, best = result.recommended_asr, _recommended(result)
    again = None if best is None else certain_success(best.again)
    further = (
        ""
        if again is None
        else f" It was one of the best on them, and answers {brief(again)} of {again.n} further ones."
    )
    if found is None:
        return f" It was chosen on these prompts, which flatters it.{further}"
    return (
        " It was chosen on these prompts, which flatters it: what one half of them recommends answers "
        f"{brief(found)} of the other half.{further}"
    )


def _key_figures(result: SearchResult) -> tuple[KeyFigure, ...]:
    best = _recommended(result)
    reached = [sum(trial.rung == rung for trial in result.trials) for rung in _RUNGS]
    counts = KeyFigure("trials", str(len(result.trials)), f"{reached[2]} measured on long answers")
    if best is None or best.asr is None:
        return (counts,)
    return (
        KeyFigure("ASR, recommended", percent(best.asr.value), f"n = {best.asr.n} selection prompts"),
        KeyFigure("KL, recommended", number(best.kl, 3), f"perplexity × {number(best.perplexity_ratio)}"),
        counts,
    )


def _trials(result: SearchResult) -> Section | None:
    if not result.trials:
        return None
    on_front = [trial for number_ in result.front for trial in result.trials if trial.number == number_]
    figures = [each for each in (_figure(result, "kl"), _figure(result, "ratio")) if each is not None]
    blocks = (
        "Up and to the left is what an attacker wants: more answers to harmful prompts, less damage.",
        *((Grid(tuple(figures), Legend("shown", _keys())),) if figures else ()),
        Table(_HEADER, tuple(_row(result, trial) for trial in on_front), "The Pareto front, by rising ASR."),
        Details(f"All {len(result.trials)} trials", (Table(_HEADER, tuple(_row(result, t) for t in result.trials)),)),
    )
    return Section("trials", "Answers against damage", blocks)


_HEADER = ("trial", "intervention", "rung", "ASR % [95%]", "again %", "KL", "×", "recommended")


def _row(result: SearchResult, trial: SearchTrial) -> tuple[str, ...]:
    return (
        str(trial.number),
        _name(trial),
        "failed: " + named(trial.error, 120) if trial.error else named(trial.rung or "-", 20),
        share(trial.asr, unit=""),
        share(certain_success(trial.again), unit=""),
        number(trial.kl, 3),
        number(trial.perplexity_ratio),
        "yes" if trial.number == result.recommended else "-",
    )


def _keys() -> tuple[Key, ...]:
    return (
        Key("long", "long answers", STYLES[1].colour, STYLES[1].shape),
        Key("short", "short answers only", MUTED, "circle", hollow=True),
        Key("recommended", "recommended", STYLES[0].colour, "diamond"),
        Key("front", "Pareto front", INK, "", (5, 4)),
    )


def _figure(result: SearchResult, cost: str) -> Figure | None:
    points = [value for trial in result.trials if (value := _point(result, trial, cost)) is not None]
    if not points:
        return None
    title = "ASR against KL" if cost == "kl" else "ASR against perplexity"
    return Figure(
        f"search-{cost}",
        title,
        _spec(result, points, cost),
        f"{title} of {len(points)} trials on the selection prompts; {len(result.front)} are on the Pareto front of ASR "
        "and KL.",
        zoom=True,
    )


def _spec(result: SearchResult, points: list[Spec], cost: str) -> Spec:
    by_number = {point["number"]: point for point in points}
    best = sorted((by_number[n] for n in result.front if n in by_number), key=lambda point: (point["x"], point["y"]))
    long, short, recommended, _ = keys = _keys()
    visible, keep = shown("shown", [key.value for key in keys])
    x = cost_axis(cost, [point["x"] for point in _inner(points)])

    def dots(key: Key, size: int) -> Spec:
        mark: Spec = {"type": "point", "filled": not key.hollow, "shape": key.shape, "color": key.colour, "size": size}
        return {
            "data": {"values": [point for point in points if point["series"] == key.value]},
            "mark": {**mark, "opacity": 0.9, "clip": True},
            "encoding": {"x": x, "y": ASR_AXIS, "tooltip": TIP},
        }

    first: Spec = {"params": [ZOOM], **dots(short, 40)}
    line = [front_layer(best, x)] if cost == "kl" else []  # the front is that of KL
    return {
        "params": [visible],
        "width": "container",
        "height": 300,
        "layer": [{**layer, "transform": [keep]} for layer in (first, *line, dots(long, 60), dots(recommended, 160))],
    }


def _inner(points: list[Spec]) -> list[Spec]:
    """Those that are no outliers: long answers where there are any."""
    return [point for point in points if point["series"] != "short"] or points


def _point(result: SearchResult, trial: SearchTrial, cost: str) -> Spec | None:
    x = trial.perplexity_ratio if cost == "ratio" else None if trial.kl is None else trial.kl.value
    if trial.asr is None or x is None:
        return None
    series = "recommended" if trial.number == result.recommended else "long" if trial.rung == "long" else "short"
    return {
        "series": series,
        "number": trial.number,
        "x": x,
        "y": 100 * trial.asr.value,
        "tip": tip(
            f"{trial.number}  {_name(trial)}",
            f"ASR {brief(trial.asr)}, n = {trial.asr.n}, {named(trial.rung or '', 20)} answers",
            f"× {number(trial.perplexity_ratio)}, KL {number(trial.kl, 3)}",
        ),
    }
