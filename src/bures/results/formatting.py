"""How figures become text, in the terminal, in sentences and on pages: the only place where they do.

share          `79.2% [71.5, 85.3]`          a share with its interval
share_or_range `- [0.0, 100.0]`              the same where no answer is finished: all that it may be
brief          `97.5% [87, 100]`             the same in a sentence
percent        `79.2%`                       a bare share
points         `-12.5 points [-20.1, -4.0]`  a difference of shares
estimate       `0.93 [0.90, 0.96]`           any other figure with its interval
number         `1.23`, `3e+09`               a bare one, which stays narrow when it explodes
with_error     `41.2 ± 2.1`                  an accuracy with its standard error
p_value        `0.012`, `<0.001`             in a table
p_equals       `p = 0.012`, `p < 0.001`      in a sentence

Under a heading that names the unit, `unit=""` leaves it out. What was not measured is `-`; a figure without an interval
stands alone.
"""

from __future__ import annotations

from collections.abc import Callable

from bures.results.stats import Measurement

MISSING = "-"

_SMALLEST_P = 0.001  # smaller ones say no more to a reader
_LARGEST = 1e5  # from here on as a power of ten
_QUANTILE = 1.959964  # of the normal distribution: half a 95 % interval in standard errors


def share(m: Measurement | None, digits: int = 1, unit: str = "%") -> str:
    """`79.2% [71.5, 85.3]`."""
    if m is None:
        return MISSING
    return percent(m.value, digits, unit) + _bounds(m, lambda x: percent(x, digits, ""))


def share_or_range(m: Measurement | None, within: tuple[float, float] | None, unit: str = "%") -> str:
    """`79.2% [71.5, 85.3]`, or `- [0.0, 100.0]` where only the range is known."""
    if m is None and within is not None:
        return f"{MISSING} [{', '.join(percent(x, unit='') for x in within)}]"
    return share(m, unit=unit)


def how_unfinished(n: int, within: tuple[float, float] | None) -> str:
    """`4 (55.0-70.8)`: unfinished answers, and the share in per cent if none of them counts and if all do."""
    if not n or within is None:
        return str(n)
    return f"{n} ({'-'.join(percent(x, unit='') for x in within)})"


def brief(m: Measurement) -> str:
    """`97.5% [87, 100]`: no more digits than a sentence needs."""
    value = percent(m.value, unit="").removesuffix(".0")
    return f"{value}%{_bounds(m, lambda x: percent(x, 0, ''))}"


def percent(x: float | None, digits: int = 1, unit: str = "%") -> str:
    """`79.2%`."""
    return MISSING if x is None else f"{100 * x:.{digits}f}{unit}"


def as_given(x: float, unit: str = "%") -> str:
    """`5%`, `2.5%`: a share that somebody chose, with the digits that it has."""
    return f"{100 * x:g}{unit}"


def points(m: Measurement | None, digits: int = 1, unit: str = " points") -> str:
    """`-12.5 points [-20.1, -4.0]`: a difference of shares, always with its sign."""
    if m is None:
        return MISSING
    return f"{100 * m.value:+.{digits}f}{unit}{_bounds(m, lambda x: f'{100 * x:+.{digits}f}')}"


def estimate(m: Measurement | None, digits: int = 2, *, signed: bool = False) -> str:
    """`0.93 [0.90, 0.96]`."""
    if m is None:
        return MISSING
    return number(m.value, digits, signed=signed) + _bounds(m, lambda x: number(x, digits, signed=signed))


def number(x: float | Measurement | None, digits: int = 2, *, signed: bool = False) -> str:
    """`1.23`, or `3e+09` where it would be too wide; of a measurement the value alone."""
    if x is None:
        return MISSING
    value, sign = x.value if isinstance(x, Measurement) else x, "+" if signed else ""
    return format(value, f"{sign}.{digits}f" if abs(value) < _LARGEST else f"{sign}.0e")


def with_error(m: Measurement | None) -> str:
    """`41.2 ± 2.1`: a share in per cent with its standard error, as lm-eval shows it."""
    if m is None:
        return MISSING
    low, high = m.bounds
    error = "" if m.interval is None else f" ± {percent((high - low) / (2 * _QUANTILE), unit='')}"
    return f"{percent(m.value, unit='')}{error}"


def p_value(p: float) -> str:
    """`0.012`, or `<0.001`."""
    return f"<{_SMALLEST_P:g}" if p < _SMALLEST_P else f"{p:.3f}"


def p_equals(p: float, name: str = "p") -> str:
    """`p = 0.012`, or `p < 0.001`."""
    return f"{name} < {_SMALLEST_P:g}" if p < _SMALLEST_P else f"{name} = {p:.3f}"


def _bounds(m: Measurement, written: Callable[[float], str]) -> str:
    """` [71.5, 85.3]`; nothing where no interval was computed."""
    return "" if m.interval is None else f" [{', '.join(map(written, m.interval))}]"
