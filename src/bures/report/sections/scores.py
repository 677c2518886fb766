"""The scan's score of every method at every block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bures.report.kit.charts import TIP, ZOOM, Spec, chosen, dashes, scale, shown
from bures.report.kit.page import Choice, Figure, Key, Legend, Table
from bures.report.sections.profile import depth, depth_axis, marked, marked_keys
from bures.report.words import TOKENS, is_baseline, listed, method_name, method_style, padded, tip, with_rank
from bures.results.formatting import number
from bures.results.records import MethodNote, ScanScore
from bures.results.schema import RunResult

Notes = Mapping[str, MethodNote]

_RANK_DASHES: tuple[tuple[int, ...], ...] = ((), (7, 3), (2, 3), (8, 3, 2, 3), (12, 4), (1, 2))


def scores_figure(result: RunResult) -> Figure | None:
    """Log-odds of no refusal, a line a method and rank; None where nothing was scanned."""
    found = result.localisation
    n_blocks = found.n_blocks if found is not None else int(result.model.get("n_blocks") or 0)
    scores = [score for score in result.scan if len(score.candidate.blocks) == 1]
    if not scores or n_blocks < 1:
        return None
    keys = _keys(scores, result.methods)
    best = min(scores, key=lambda score: score.refusal_log_odds)
    scopes = list(dict.fromkeys(score.candidate.tokens for score in scores))
    return Figure(
        "scores",
        "Causal: every method at every block",
        _spec(result, scores, n_blocks, keys, scopes[0]),
        f"Log-odds of not beginning a refusal under {listed([key.label for key in keys])} at "
        f"{len({score.candidate.blocks for score in scores})} blocks. The highest is {number(-best.refusal_log_odds)}, "
        f"of {_name(best, result.methods)} at block {best.candidate.blocks[0]}.",
        _table(scores, keys),
        "Mean over the harmful selection prompts, at the first answer token: 0 is even odds, and up is less refusal. "
        "This is the quick look by which candidates are chosen; it does not say what the answer then is, nor "
        "whether the map broke the model (see the KL).",
        Legend("shown", (*keys, *marked_keys(found, n_blocks, _blocks(scores)))),
        (Choice("tokens", "Moved", tuple((each, TOKENS[each]) for each in scopes)),) if len(scopes) > 1 else (),
        zoom=True,
    )


def _blocks(scores: Sequence[ScanScore]) -> set[int]:
    return {score.candidate.blocks[0] for score in scores}


def _series(score: ScanScore) -> str:
    return f"{score.candidate.method}/{score.candidate.rank or ''}"


def _name(score: ScanScore, notes: Notes) -> str:
    return with_rank(method_name(score.candidate.method, notes), score.candidate.rank)


def _keys(scores: Sequence[ScanScore], notes: Notes) -> tuple[Key, ...]:
    """One line a method and rank: the method's colour, and a dash for each rank."""
    ranks = sorted({score.candidate.rank for score in scores if score.candidate.rank is not None})
    examples = {(s.candidate.method, s.candidate.rank): s for s in scores}
    ordered = sorted(examples, key=lambda key: (is_baseline(key[0], notes), key[0], key[1] or 0))
    return tuple(
        Key(
            _series(examples[method, rank]),
            _name(examples[method, rank], notes),
            method_style(method, notes).colour,
            "",
            method_style(method, notes).dash if rank is None else _RANK_DASHES[ranks.index(rank) % len(_RANK_DASHES)],
        )
        for method, rank in ordered
    )


def _spec(result: RunResult, scores: Sequence[ScanScore], n_blocks: int, keys: Sequence[Key], first: str) -> Spec:
    found, notes = result.localisation, result.methods
    visible, keep = shown("shown", [key.value for key in (*keys, *marked_keys(found, n_blocks, _blocks(scores)))])
    scope, of_scope = chosen("tokens", first, "tokens")
    values = [_value(score, n_blocks, notes) for score in sorted(scores, key=lambda score: score.candidate.blocks)]
    x = depth_axis(n_blocks)
    y: Spec = {
        "field": "y",
        "type": "quantitative",
        "title": "log-odds of no refusal",
        "scale": {"domain": list(padded(v["y"] for v in values)), "nice": False, "zero": False},
        "axis": {"tickCount": 6},
    }
    shapes = [method_style(key.value.split("/")[0], notes).shape for key in keys]
    series: Spec = {"field": "series", "type": "nominal"}
    lines: Spec = {"x": x, "y": y, "color": {**series, "scale": scale(keys)}}
    points: Spec = {
        **lines,
        "shape": {**series, "scale": {"domain": [key.value for key in keys], "range": shapes}},
        "tooltip": TIP,
    }
    return {
        "params": [visible, scope],
        "width": "container",
        "height": 280,
        "data": {"values": values},
        "layer": [
            *marked(found, x, n_blocks, _blocks(scores)),
            {
                "params": [ZOOM],
                "transform": [keep, of_scope],
                "mark": {"type": "line", "clip": True},
                "encoding": {**lines, "strokeDash": {**series, "scale": dashes(keys)}},
            },
            {
                "transform": [keep, of_scope],
                "mark": {"type": "point", "filled": True, "size": 36, "opacity": 1, "clip": True},
                "encoding": points,
            },
        ],
    }


def _value(score: ScanScore, n_blocks: int, notes: Notes) -> Spec:
    block = score.candidate.blocks[0]
    return {
        "series": _series(score),
        "tokens": score.candidate.tokens,
        "x": depth(block, n_blocks),
        "y": -score.refusal_log_odds,
        "tip": tip(
            f"{_name(score, notes)} at block {block}",
            f"log-odds of no refusal {number(-score.refusal_log_odds)}",
            f"KL on harmless prompts {number(score.first_token_kl, 3)}",
            f"n = {len(score.each)}" if score.each else "",
        ),
    }


def _table(scores: Sequence[ScanScore], keys: Sequence[Key]) -> Table:
    """One line a block and scope, one column a series: log-odds, and the KL in parentheses."""
    found = {(s.candidate.blocks[0], s.candidate.tokens, _series(s)): s for s in scores}
    lines = sorted({(tokens, block) for block, tokens, _ in found})

    def cell(block: int, tokens: str, series: str) -> str:
        score = found.get((block, tokens, series))
        return "-" if score is None else f"{number(-score.refusal_log_odds)} ({number(score.first_token_kl)})"

    return Table(
        ("block", "tokens", *(key.label for key in keys)),
        tuple((str(block), tokens, *(cell(block, tokens, key.value) for key in keys)) for tokens, block in lines),
        "Log-odds of no refusal, and in parentheses the first-token KL on harmless prompts.",
    )
