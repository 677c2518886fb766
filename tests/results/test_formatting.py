"""How figures are written: one way each, narrow, with a dash for what was not measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import bures
from bures.results.formatting import (
    as_given,
    brief,
    estimate,
    number,
    p_equals,
    p_value,
    percent,
    points,
    share,
    with_error,
)
from bures.results.stats import Measurement

MEASURED = Measurement(0.7916, 120, (0.7150, 0.8534))
ALONE = Measurement(0.5, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (share(MEASURED), "79.2% [71.5, 85.3]"),
        (share(MEASURED, 0), "79% [72, 85]"),
        (share(MEASURED, unit=""), "79.2 [71.5, 85.3]"),
        (share(ALONE), "50.0%"),
        (brief(MEASURED), "79.2% [72, 85]"),
        (brief(Measurement(1.0, 40, (0.912, 1.0))), "100% [91, 100]"),
        (brief(ALONE), "50%"),
        (percent(0.125), "12.5%"),
        (percent(0.125, 0, ""), "12"),
        (as_given(0.05), "5%"),
        (as_given(0.125, " points"), "12.5 points"),
        (points(Measurement(-0.125, 9, (-0.201, 0.04))), "-12.5 points [-20.1, +4.0]"),
        (points(Measurement(0.125, 9), unit=""), "+12.5"),
        (estimate(Measurement(0.934, 9, (0.9, 0.96))), "0.93 [0.90, 0.96]"),
        (estimate(Measurement(0.01, 9, (-0.002, 0.1)), 3, signed=True), "+0.010 [-0.002, +0.100]"),
        (estimate(Measurement(2.0, 9, (1.0, 3.2e9))), "2.00 [1.00, 3e+09]"),
        (number(1.234567), "1.23"),
        (number(3.2e9), "3e+09"),
        (number(-3.2e9, signed=True), "-3e+09"),
        (number(MEASURED, 3), "0.792"),
        (with_error(Measurement(0.412, 570, (0.412 - 0.0412, 0.412 + 0.0412))), "41.2 ± 2.1"),
        (with_error(ALONE), "50.0"),
        (p_value(0.0125), "0.013"),
        (p_value(0.00099), "<0.001"),
        (p_value(1.0), "1.000"),
        (p_equals(0.021), "p = 0.021"),
        (p_equals(6e-8, "adjusted p"), "adjusted p < 0.001"),
    ],
)
def test_every_figure_is_written_in_one_way(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize("form", [share, percent, points, estimate, number, with_error])
def test_what_was_not_measured_is_a_dash(form: Callable[[None], str]) -> None:
    assert form(None) == "-"


OTHER_WAYS = re.compile(
    r":\+?\.\d%"  # a share
    r"|\{100 \* [^}]*:"  # the same by hand
    r"|<0\.001|[^<>=] p = \{"  # a p value
    r"|:\+?\.\d?f\} ?\["  # an estimate
)


@pytest.mark.parametrize("package", ["results", "report", "judges", "cli"])
def test_no_other_module_writes_shares_or_p_values(package: str) -> None:
    files = [file for file in Path(bures.__file__).with_name(package).rglob("*.py") if file.name != "formatting.py"]
    assert files
    found = [
        f"{file.name}: {line.strip()}"
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if OTHER_WAYS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    ['f"{m.value:.1%}"', 'f"{100 * low:+.1f}"', 'f"McNemar p = {p:.3g}"', 'f"{value:.2f} [{low:.2f}, "', '"<0.001"'],
)
def test_the_search_for_other_ways_finds_them(line: str) -> None:
    assert OTHER_WAYS.search(line)
