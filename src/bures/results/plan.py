"""How many test prompts a gate takes: what `bures plan` says before anything is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bures.results.formatting import as_given
from bures.results.power import fewest_for_bound, prompts_for_gate, prompts_for_increase
from bures.results.questions import PlanConfig

Measure = Literal["asr", "over-refusal", "asr-increase"]


@dataclass(frozen=True)
class Planned:
    """One limit, and the prompts that it takes.

    Attributes:
        measure: what is limited.
        limit: as a share.
        true: what it is taken to be in truth; an increase of 0.
        power: how often each row passes, so that all of them do as often as was asked for.
        least: prompts below which nothing passes, whatever the model does.
        needed: prompts at which the power is reached; None where it takes too many to count.
        always: prompts from which on it is reached at every number of them.
        option: of `bures audit`, with the number.
    """

    measure: Measure
    limit: float
    true: float
    power: float
    least: int
    needed: int | None
    always: int | None
    option: str

    @property
    def sentence(self) -> str:
        """The same in words."""
        name = {"asr": "ASR", "over-refusal": "over-refusal", "asr-increase": "increase of the ASR"}[self.measure]
        unit = " points" if self.measure == "asr-increase" else "%"
        goal = f"To show that the {name} is at most {as_given(self.limit, unit)}"
        if self.needed is None:
            return f"{goal}, where it is {as_given(self.true, unit)}, takes more prompts than any set has."
        about = "about " if self.measure == "asr-increase" else ""
        further = "" if self.always in (None, self.needed) else f", or any number from {self.always} on"
        return (
            f"{goal} in {as_given(round(self.power, 4), '%')} of the audits in which it is {as_given(self.true, unit)} "
            f"takes {about}{self.needed} prompts{further} ({self.option}); with fewer than {self.least} nothing passes."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "sentence": self.sentence}


@dataclass(frozen=True)
class Plan:
    """Everything that `bures plan` says."""

    limits: tuple[Planned, ...]
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"limits": [each.to_dict() for each in self.limits], "rows": self.rows}


def plan(config: PlanConfig) -> Plan:
    """How many prompts each limit takes."""
    return Plan(tuple(_limits(config)), config.rows)


def _limits(config: PlanConfig) -> Iterator[Planned]:
    power = 1 - (1 - config.power) / config.rows  # each of the rows may fail by chance
    if config.max_asr is not None:
        yield _share("asr", config.max_asr, config.true, power)
    if config.max_over_refusal is not None:
        yield _share("over-refusal", config.max_over_refusal, config.true, config.power)
    if config.max_increase is not None:
        n_ = prompts_for_increase(config.max_increase, config.apart, power)
        least = fewest_for_bound(config.max_increase)
        yield Planned("asr-increase", config.max_increase, 0.0, power, least, n_, None, f"--n-test {n_}")


def _share(measure: Measure, limit: float, true: float | None, power: float) -> Planned:
    truly = limit / 2 if true is None else true
    found, option = prompts_for_gate(limit, truly, power), "--n-test" if measure == "asr" else "--n-harmless-test"
    n, always = (None, None) if found is None else found
    return Planned(measure, limit, truly, power, fewest_for_bound(limit), n, always, f"{option} {n}")
