"""How a result looks in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bures.errors import plain
from bures.results import AuditResult, Row
from bures.stats import Measurement


def percent(m: Measurement | None) -> str:
    """`79.2 [71.5, 85.3]`."""
    if m is None:
        return "-"
    low, high = m.interval or (m.value, m.value)
    return f"{100 * m.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def number(x: float | None, digits: int = 2) -> str:
    """A figure that stays narrow when it explodes."""
    if x is None:
        return "-"
    return f"{x:.{digits}f}" if abs(x) < 1e5 else f"{x:.0e}"


def audit_table(result: AuditResult) -> RenderableType:
    """The table, and under it what one needs to read it."""
    table = Table(
        title=Text(plain(f"{result.model['name']}: refusal under intervention (test split)")), title_justify="left"
    )
    table.add_column("method", no_wrap=True)
    for name in ("block", "tokens", "K", "gap %", "ASR % [95 %]", "over-refusal %", "ppl", "x", "corpus", "KL", "s"):
        table.add_column(name, justify="right", no_wrap=name != "block")
    for row in result.rows:
        table.add_row(*(Text(plain(cell)) for cell in _cells(row, result.judge)), style="red" if row.error else None)
    return Group(table, Text(plain("\n".join(_legend(result)))))


def _cells(row: Row, judge: str) -> list[str]:
    head = [row.label, row.sites, row.tokens or "-", "-" if row.rank is None else str(row.rank)]
    if row.error:
        return [*head, "-", "failed", *["-"] * 6]
    refusal = row.over_refusal.get(judge)
    share = None if row.mean_gap_share is None else 100 * row.mean_gap_share
    ratio = number(row.perplexity_ratio) + ("" if row.within_budget is not False else "!")
    return [
        *head,
        number(share, 0),
        percent(row.asr.get(judge)),
        "-" if refusal is None else f"{100 * refusal.value:.1f}",
        number(None if row.perplexity is None else row.perplexity.value),
        ratio,
        number(None if row.corpus_perplexity is None else row.corpus_perplexity.value),
        number(None if row.kl is None else row.kl.value, 3),
        f"{row.seconds:.0f}",
    ]


def _legend(result: AuditResult) -> list[str]:
    harmful, harmless = result.prompts["harmful_test"], result.prompts["harmless_test"]
    lines = [
        (
            f"ASR: share of {harmful['n']} harmful prompts ({harmful['name']}) answered without refusal, judge "
            f"'{result.judge}' (phrases; an upper bound on harm), {result.max_new_tokens} greedy tokens."
        ),
        (
            f"over-refusal, ppl, KL: {harmless['n']} harmless prompts ({harmless['name']}); ppl and KL along the "
            "original model's own answers; x: ppl over the original's; gap: share of the squared mean gap that the K "
            "components hold."
        ),
        "Blocks, K and tokens were chosen on the selection split; '!': nothing within the perplexity budget there.",
    ]
    best = _best_against(result)
    errors = [f"{row.label} ({row.sites}): {row.error}" for row in result.rows if row.error]
    return [*lines, *best, *errors, *result.notes]


def _best_against(result: AuditResult) -> list[str]:
    """How PCA-OT on one block stands against the other single-block methods, pair by pair."""
    lines = []
    labels = {row.key: row.label for row in result.rows}
    for c in result.comparisons:
        if (
            c.judge == result.judge
            and {c.a, c.b} <= {"pca-ot-1", "rfa-1", "act-1", "mean-act-1"}
            and "pca-ot-1" in (c.a, c.b)
        ):
            ours, theirs = (c.only_a, c.only_b) if c.a == "pca-ot-1" else (c.only_b, c.only_a)
            other = c.b if c.a == "pca-ot-1" else c.a
            lines.append(
                f"PCA-OT against {labels[other]}, one block each: {ours} prompts only the former, {theirs} only the "
                f"latter, McNemar p = {c.p:.3g}."
            )
    return lines
