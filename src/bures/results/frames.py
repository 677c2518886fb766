"""Rows as flat records, for DataFrames and CSV: one column a figure, one a bound of its interval, one for its n."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bures.results.schema import Row


def flat(row: Row, judge: str) -> dict[str, Any]:
    """One row of the table, figures under the headline judge."""
    where = {"blocks": row.sites, "tokens": row.tokens, "K": row.rank}
    cells: dict[str, Any] = {"row": row.key, "method": row.label, **where}
    figures = {
        "asr": row.asr.get(judge),
        "over_refusal": row.over_refusal.get(judge),
        "perplexity": row.perplexity,
        "kl": row.kl,
        "corpus_perplexity": row.corpus_perplexity,
        **row.capability,
        **row.metrics,
    }
    for name, figure in figures.items():
        bounds = (None, None) if figure is None or figure.interval is None else figure.interval
        cells |= {name: None if figure is None else figure.value, f"{name}_low": bounds[0], f"{name}_high": bounds[1]}
        cells[f"{name}_n"] = None if figure is None else figure.n
    least, most = row.asr_bounds.get(judge, (None, None))
    return cells | {
        "unfinished": row.unfinished.get("harmful", 0),
        "asr_least": least,
        "asr_most": most,
        "perplexity_ratio": row.perplexity_ratio,
        "perplexity_ratio_low": None if row.ratio is None else row.ratio.bounds[0],
        "perplexity_ratio_high": None if row.ratio is None else row.ratio.bounds[1],
        "mean_gap_share": row.mean_gap_share,
        "within_budget": row.within_budget,
        "seconds": row.seconds,
        "error": row.error,
    }
