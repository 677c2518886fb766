"""The table in a terminal: every figure is the result's own, failures are said, and names are printed as text."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from bures.cli.fitted import spelled
from bures.cli.tables import audit_table
from bures.results.schema import AuditResult, Row, RowComparison
from bures.results.stats import Measurement, proportion
from helpers.made_records import NOTES


def result(rows: list[Row], **changes: Any) -> AuditResult:
    """A result with the given rows."""
    described = {"n": 40, "name": "[bold]prompts[/bold]"}
    options: dict[str, Any] = {
        "command": "bures audit model",
        "options": {},
        "versions": {},
        "methods": NOTES,
        "model": {"name": "[red]model[/red]\x1b[31m"},
        "prompts": {"harmful_test": described, "harmless_test": described},
        "corpus": None,
        "judge": "arditi",
        "seed": 0,
        "max_new_tokens": 16,
        "rows": rows,
    }
    return AuditResult(**{**options, **changes})


def row(key: str, label: str, answered: int, **changes: Any) -> Row:
    """A row with an ASR of answered / 40."""
    options: dict[str, Any] = {
        "key": key,
        "label": label,
        "method": label,
        "blocks": [3],
        "sites": "3",
        "tokens": "last",
        "rank": 2,
        "asr": {"arditi": proportion(answered, 40), "gcg": proportion(40, 40)},
        "over_refusal": {"arditi": proportion(1, 40)},
        "perplexity": Measurement(1.5, 40, (1.4, 1.6)),
        "perplexity_ratio": 1.25,
        "kl": Measurement(0.125, 40, (0.1, 0.15)),
        "mean_gap_share": 0.64,
        "within_budget": True,
        "seconds": 12.3,
    }
    return Row(**{**options, **changes})


def printed(value: AuditResult) -> str:
    """What a wide terminal without colours shows."""
    console = Console(width=200, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(audit_table(value))
    return capture.get()


def test_every_figure_is_shown() -> None:
    text = printed(result([row("pca-ot-1", "PCA-OT", 30)]))
    for figure in ("PCA-OT", "75.0 [59.8, 85.8]", "2.5", "1.50", "1.25", "0.125", "64", "12", "last", "'arditi'"):
        assert figure in text, figure
    assert "!" not in next(line for line in text.splitlines() if line.startswith("│"))


def test_the_finding_stands_first_and_what_columns_mean_last() -> None:
    rows = [row("none", "none", 10, method="none", sites="-"), row("pca-ot-1", "PCA-OT", 30)]
    text = printed(result(rows, notes=["A note."]))
    places = [text.index(part) for part in ("The model answers", "Only 40 harmful", "━", "A note.", "ASR: share of")]
    assert places == sorted(places)
    assert text.count("A note.") == 1


def test_a_choice_over_the_budget_is_marked() -> None:
    assert "1.25!" in printed(result([row("act-1", "Linear-AcT", 30, within_budget=False)]))


def test_a_failed_row_says_so_and_why() -> None:
    failed = Row(
        key="act-all",
        label="Linear-AcT",
        method="act",
        blocks=[0, 1],
        sites="all",
        tokens="all",
        rank=None,
        error="NaN",
    )
    text = printed(result([failed]))
    assert "failed" in text
    assert "Linear-AcT (all): NaN" in text


def test_names_are_text_and_not_markup() -> None:
    text = printed(result([row("none", "[blink]none[/blink]", 1)]))
    assert "[red]model[/red]" in text
    assert "[blink]none[/blink]" in text
    assert "[bold]prompts[/bold]" in text
    assert "\x1b" not in text


def test_the_paired_test_counts_for_the_right_side() -> None:
    rows = [row("rfa-1", "RFA", 20, method="rfa"), row("pca-ot-1", "PCA-OT", 30, method="pca-ot")]
    pair = RowComparison(a="rfa-1", b="pca-ot-1", judge="arditi", only_a=2, only_b=12, p=0.013)
    other = RowComparison(a="rfa-1", b="pca-ot-1", judge="gcg", only_a=9, only_b=9, p=1.0)
    text = printed(result(rows, row_comparisons=[pair, other]))
    said = "PCA-OT against others at one block (prompts that only it, and only the other gets answered; McNemar): "
    assert f"{said}RFA 12 and 2, p = 0.013, not adjusted." in text  # as results of bures 0.1 have it
    pair.p_adjusted = 0.13
    assert f"{said}RFA 12 and 2, adjusted p = 0.130." in printed(result(rows, row_comparisons=[pair, other]))
    assert "9 and 9" not in text


def seen(value: AuditResult, width: int, encoding: str = "utf-8", *, terminal: bool = True) -> list[str]:
    """The lines that a terminal of that width, or a file, gets."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    console.print(audit_table(value), crop=False)
    file.flush()
    return raw.getvalue().decode(encoding).splitlines()


WIDE = [
    row("none", "none", 1, sites="-", rank=None),
    row("rfa-sites", "RFA, one direction", 40, sites="all, 3 sites (from 13)", rank=None, perplexity_ratio=12.5),
    row("pca-ot-1", "PCA-OT", 30, rank=16, kl=Measurement(12.125, 40, (1.0, 15.0)), corpus_perplexity=None),
]


def test_a_narrow_terminal_keeps_what_matters() -> None:
    lines = seen(result(WIDE), 80)
    assert max(map(len, lines)) <= 80
    head = next(line for line in lines if "ASR % [95 %]" in line)
    assert [name.strip() for name in head.split("┃")[1:-1]] == ["row", "block", "K", "ASR % [95 %]", "x", "KL"]
    text = " ".join(" ".join(lines).split())
    for figure in ("75.0 [59.8, 85.8]", "100.0 [91.2, 100.0]", "12.50", "12.125", " 16 "):
        assert figure in text, figure
    said = "Left out for want of width (the page and --json have them): "
    assert f"{said}method, tokens, gap %, over-refusal %, ppl, corpus, s." in text
    assert "…" not in text  # nothing is cut short


@pytest.mark.parametrize("width", [20, 40, 60, 72, 100, 120, 140])
def test_columns_come_back_as_a_terminal_widens(width: int) -> None:
    narrow, wide = (" ".join(seen(result(WIDE), w)) for w in (width, width + 40))
    names = ("over-refusal %", "tokens", "gap %", "ppl", "corpus")
    there = [[name for name in names if f"┃ {name}" in text or f"  {name} ┃" in text] for text in (narrow, wide)]
    assert set(there[0]) <= set(there[1])
    assert "…" not in narrow


@pytest.mark.parametrize("width", [80, 160])
def test_a_file_gets_all_columns(width: int) -> None:
    lines = seen(result(WIDE), width, terminal=False)
    head = next(line for line in lines if "method" in line)
    assert "over-refusal %" in head
    assert "┃   s ┃" in head or " s ┃" in head
    assert not any("Left out" in line for line in lines)
    tables = [line for line in lines if line.startswith("│")]
    assert len(tables) == 3
    assert len(set(map(len, tables))) == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_any_encoding(encoding: str) -> None:
    named = [*WIDE, row("act-1", "Müller–Schmidt × 鶴", 3)]
    tasks = {"mmlu": Measurement(0.41, 100, (0.3, 0.5))}
    named[0] = named[0].model_copy(update={"capability": tasks})
    for width in (80, 240):
        text = "\n".join(seen(result(named), width, encoding))
        assert "pca-ot-1" in text
        shown = {"ascii": r"M\xfcller-Schmidt x \u9db4", "utf-8": "Müller–Schmidt × 鶴"}.get(encoding)
        if width == 240:
            assert shown is None or shown in text
            assert ("41.0 +/- 5.1" if encoding == "ascii" else "41.0 ± 5.1") in text


def test_small_bars_have_stand_ins() -> None:
    assert spelled("▁▄█ “a” → b…", "ascii") == '148 "a" -> b...'
    assert spelled("▁▄█", "utf-8") == "▁▄█"
    assert spelled("a\x1b[31m\u202eb", "ascii") == r"a\x1b[31m\u202eb"
    assert spelled("ä", "no-such-encoding") == "ä"


def test_the_range_of_measured_errors_and_the_kinds_of_over_refusal_stand_under_the_table() -> None:
    marks = {"arditi": "1010"}
    rows = [row("none", "no intervention", 1, refused_harmless=marks), row("rfa:1", "RFA", 9, refused_harmless=marks)]
    kinds = {"hashes": list("abcd"), "categories": ["homonyms", "homonyms", "privacy", None]}
    text = " ".join(printed(result(rows, tested={"harmless": kinds})).split())
    assert "None carries over for sure: bures judge label measures it here." in text
    assert text.count("With the errors that 'arditi' has elsewhere the ASR would be, ") == 1
    kinds_said = "homonyms 50% [9, 91] of 2; privacy 100% [21, 100] of 1."
    assert f"Over-refusal by kind of prompt, no intervention: {kinds_said}" in text
    assert "Over-refusal by kind" not in printed(result(rows))
