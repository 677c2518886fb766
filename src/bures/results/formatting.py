"""How figures are written, in the terminal and on pages."""

from __future__ import annotations

from bures.results.stats import Measurement


def percent(m: Measurement | None) -> str:
    """`79.2 [71.5, 85.3]`."""
    if m is None:
        return "-"
    low, high = m.bounds
    return f"{100 * m.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def number(x: float | None, digits: int = 2) -> str:
    """A figure that stays narrow when it explodes."""
    if x is None:
        return "-"
    return f"{x:.{digits}f}" if abs(x) < 1e5 else f"{x:.0e}"
