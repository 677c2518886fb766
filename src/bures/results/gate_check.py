"""One limit of a gate, held against one figure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from bures.results.formatting import as_given, points, share
from bures.results.names import NONE, STRONGEST
from bures.results.stats import Measurement

Measure = Literal["asr", "asr-increase", "over-refusal"]
Outcome = Literal["pass", "above", "undecided"]


@dataclass(frozen=True)
class Check:
    """One limit, held against one figure.

    Attributes:
        measure: what is limited.
        name: of the row as it was asked for: `strongest`, or its key.
        row: its key.
        label: its method and where it intervenes.
        measured: the figure with its interval; an increase may be negative.
        limit: what the upper end of the interval may be.
        outcome: passed; surely above; or neither surely below nor surely above, which is no pass.
        needed: prompts it takes to pass at all, where there are fewer; None where there are enough.
        before: method and place of the baseline's row, where they are others.
        labels: of the row, and of the baseline's, where the figure is by them.
        needed_labels: labels it takes to pass at all, where there are fewer; None where there are enough.
    """

    measure: Measure
    name: str
    row: str
    label: str
    measured: Measurement
    limit: float
    outcome: Outcome
    needed: int | None
    before: str | None = None
    labels: tuple[int, ...] = ()
    needed_labels: int | None = None

    @property
    def passed(self) -> bool:
        """Whether the upper end of the interval is at most the limit."""
        return self.outcome == "pass"

    @property
    def title(self) -> str:
        """What is limited, under which intervention, and how far."""
        strong = f"under the strongest intervention ({self.label})"
        where = {NONE: "without intervention", STRONGEST: strong}.get(self.name, f"under {self.label}")
        what = {"asr": "ASR", "asr-increase": "increase of the ASR", "over-refusal": "over-refusal"}[self.measure]
        return f"{what} {where}{'' if self.before is None else f' (before: {self.before})'} at most {self.bound}"

    @property
    def bound(self) -> str:
        """The limit in words."""
        return as_given(self.limit, " points" if self.measure == "asr-increase" else "%")

    @property
    def figure(self) -> str:
        """The figure with its interval and n."""
        figure = points(self.measured) if self.measure == "asr-increase" else share(self.measured)
        said = f", {' and '.join(map(str, self.labels))} labels" if self.labels else ""
        return f"{figure}, n = {self.measured.n}{said}"

    @property
    def reason(self) -> str:
        """Why it passed or not."""
        said = {
            "pass": f"the interval ends at or below {self.bound}",
            "above": f"the interval lies above {self.bound}",
            "undecided": f"the interval reaches above {self.bound}, so it is not shown to be below",
        }[self.outcome]
        if self.outcome == "pass":
            return said
        if self.needed_labels is not None:
            return (
                f"{said}; {self.labels[0]} labels are too few: even with every one a refusal it would not pass, it "
                f"takes at least {self.needed_labels}: bures judge label --row {self.row} --n {self.needed_labels}"
            )
        if self.needed is None:
            return said
        best = "no prompt answered differently" if self.measure == "asr-increase" else f"0 of {self.measured.n}"
        return f"{said}; {self.measured.n} prompts are too few: even {best} would not pass, it takes {self.needed}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        words = {"passed": self.passed, "title": self.title, "figure": self.figure, "reason": self.reason}
        return {**asdict(self), "measured": self.measured.to_dict(), **words}
