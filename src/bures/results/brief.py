"""Results as small tables of text: what a terminal, a notebook and an export show, with the same words and digits.

Every figure has its interval, and every row of an audit the key by which `load_intervention` and `gate --row` know it.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bures.errors import plain
from bures.results.formatting import as_given, estimate, how_unfinished, number, percent, share, share_or_range
from bures.results.names import COHERENT, RATES
from bures.results.shares import certain_success

if TYPE_CHECKING:
    from bures.results.probing import ProbeResult, ProbeRow
    from bures.results.records import BlockGeometry, Effect
    from bures.results.schema import AuditResult, Row, ScanResult, SearchResult, SearchTrial

AUDIT = (
    *("row", "method", "block", "tokens", "K", "gap %", "ASR % [95 %]", "unfinished", "coherent %", "over-refusal %"),
    *("ppl", "x", "corpus", "KL", "s"),
)
SCAN = (
    *("block", "depth %", "refusal removed % [95 %]", "by", "KL", "induced %"),
    *("AUROC [95 %]", "distance", "in the mean %", "Fisher", "rank", "angle"),
)
SEARCH = ("", "intervention", "strength", "shrinkage", "ASR % [95 %]", "again %", "KL", "x")


@dataclass(frozen=True)
class Brief:
    """A table of text.

    Attributes:
        title: what it shows, of which model.
        header: names of the columns.
        rows: their cells.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def html(self) -> str:
        """The table as HTML; all text is escaped, control and direction characters are visible."""

        def cells(kind: str, row: tuple[str, ...]) -> str:
            return "<tr>" + "".join(f"<{kind}>{html.escape(plain(cell))}</{kind}>" for cell in row) + "</tr>"

        body = "".join(cells("td", row) for row in self.rows)
        title = html.escape(plain(self.title))
        return (
            f"<table><caption>{title}</caption><thead>{cells('th', self.header)}</thead><tbody>{body}</tbody></table>"
        )


def audit_brief(result: AuditResult) -> Brief:
    """The rows of an audit; columns that no row has anything to say in are left out."""
    left_out = {"coherent %": not knows_coherent(result), "unfinished": not has_unfinished(result)}
    kept = [i for i, name in enumerate(AUDIT) if not left_out.get(name)]
    rows = [audit_cells(row, result.judge) for row in result.rows]
    title = f"{result.model.get('name', '?')}: refusal under intervention (test split)"
    return Brief(title, tuple(AUDIT[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in rows))


def audit_cells(row: Row, judge: str) -> list[str]:
    """One row, in the columns of `AUDIT`."""
    head = [row.key, row.label, row.where, row.tokens or "-", "-" if row.rank is None else str(row.rank)]
    if row.error:
        return [*head, "-", "failed", *["-"] * 8]
    coherent, refusal = row.asr.get(judge + COHERENT), row.over_refusal.get(judge)
    ratio = number(row.perplexity_ratio) + ("" if row.within_budget is not False else "!")
    return [
        *head,
        percent(row.mean_gap_share, 0, ""),
        share_or_range(row.asr.get(judge), row.asr_bounds.get(judge), unit=""),
        how_unfinished(row.unfinished.get("harmful", 0), row.asr_bounds.get(judge)),
        percent(None if coherent is None else coherent.value, unit=""),
        percent(None if refusal is None else refusal.value, unit=""),
        number(row.perplexity),
        ratio,
        number(row.corpus_perplexity),
        number(row.kl, 3),
        number(row.seconds, 0),
    ]


def has_unfinished(result: AuditResult) -> bool:
    """Whether an answer to a harmful prompt was cut before it said anything."""
    return any(row.unfinished.get("harmful") for row in result.rows)


def knows_coherent(result: AuditResult) -> bool:
    """Whether incoherent answers were looked for."""
    return any(result.judge + COHERENT in row.asr for row in result.rows)


def scan_brief(result: ScanResult) -> Brief:
    """One row a block, causal and observational figures side by side, and under them the joint effects."""
    title, found = f"{result.model.get('name', '?')}: where refusal is decided", result.localisation
    if found is None:
        return Brief(title, SCAN, ())
    geometry = {each.block: each for each in found.geometry}
    rows: list[tuple[str, ...]] = []
    for effect in found.effects:
        block = effect.blocks[0]
        inside = found.decided is not None and found.decided.first <= block <= found.decided.last
        head = (f"{'*' * inside}{block}", percent((block + 1) / found.n_blocks, 0, ""))
        rows.append((*head, *_effect_cells(effect), *_geometry_cells(geometry.get(block))))
    for effect in found.joint:
        blocks = "+".join(map(str, effect.blocks)) if len(effect.blocks) < 3 else f"{len(effect.blocks)} blocks"
        rows.append((blocks, "", *_effect_cells(effect), *_geometry_cells(None)))
    return Brief(title, SCAN, tuple(rows))


def _geometry_cells(here: BlockGeometry | None) -> list[str]:
    if here is None:
        return [""] * 6
    return [
        estimate(here.auroc),
        number(here.distance),
        percent(here.mean_share, 0, ""),
        number(max(here.fisher), 1),
        number(here.effective_rank, 0),
        number(here.angle_previous, 0),
    ]


def _effect_cells(effect: Effect) -> list[str]:
    induced = percent(None if effect.induced is None else effect.induced.value, 0, "")
    return [share(effect.removed, unit=""), effect.candidate or "-", number(effect.kl), induced]


def search_brief(result: SearchResult) -> Brief:
    """The Pareto front of ASR and KL on the selection split; * marks the point that is recommended."""
    found = {trial.number: trial for trial in result.trials}
    rows = [_trial_cells(found[number_], chosen=number_ == result.recommended) for number_ in result.front]
    return Brief(f"{result.model.get('name', '?')}: ASR against KL (selection split)", SEARCH, tuple(rows))


def _trial_cells(trial: SearchTrial, *, chosen: bool) -> tuple[str, ...]:
    return (
        "*" if chosen else "",
        trial.candidate,
        str(trial.options.get("strength", "-")),
        str(trial.options.get("shrinkage", "-")),
        share(trial.asr, unit=""),
        share(certain_success(trial.again), unit=""),
        number(trial.kl, 3),
        number(trial.perplexity_ratio),
    )


def probe_brief(result: ProbeResult, key: str, title: str) -> Brief:
    """Detectors on one pair of sets, the baselines at the foot; * marks the one that is saved."""
    sides = [f"{side} % at {as_given(rate)}" for rate in RATES[::-1] for side in ("TPR", "FPR")]
    header = ("detector", "position", "block", "selection", "AUROC [95 %]", "over n-grams", *sides)
    rows = [_probe_cells(result, row, key) for row in result.detectors if key in row.told]
    return Brief(title, header, tuple(rows))


def _probe_cells(result: ProbeResult, row: ProbeRow, key: str) -> tuple[str, ...]:
    chosen, found = "*" if row.key == result.chosen else "", row.told[key]
    cells = [f"{chosen}{row.detector}", row.position or "-", "-" if row.block is None else str(row.block)]
    cells += [number(row.selection), estimate(found.auroc), estimate(found.over_words, signed=True)]
    for rate in RATES[::-1]:
        cutoff = next((each for each in found.cutoffs if each.rate == rate), None)
        cells += [
            share(None if cutoff is None else cutoff.flagged_harmful, 0, ""),
            share(None if cutoff is None else cutoff.flagged_harmless, 0, ""),
        ]
    return tuple(cells)
