"""How many prompts a gate and a choice take: what `bures plan` says before anything is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bures.results.formatting import as_given
from bures.results.power import fewest_for_bound, prompts_for_gate, prompts_for_increase
from bures.results.questions import PlanConfig
from bures.results.regret import MOST_PROMPTS, prompts_for_regret

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
class PlannedChoice:
    """The prompts that a choice takes.

    Attributes:
        regret: what it may give away of the true ASR, on the average, as a share.
        candidates: among which is chosen.
        n_again: further prompts on which the best three are tried again.
        needed: prompts to choose on first; None where `MOST_PROMPTS` are too few.
        alone: prompts to choose on where nothing is tried again; None likewise.
    """

    regret: float
    candidates: int
    n_again: int
    needed: int | None
    alone: int | None

    @property
    def sentence(self) -> str:
        """The same in words."""
        points = " point" if self.regret == 0.01 else " points"
        goal = (
            f"To give away at most {as_given(self.regret, points)} of the true ASR, on the average, by choosing "
            f"among {self.candidates} interventions"
        )
        if self.needed is None:
            return f"{goal} takes more than {MOST_PROMPTS} selection prompts."
        alone = f"more than {MOST_PROMPTS}" if self.alone is None else f"about {self.alone}"
        if not self.n_again:
            return f"{goal} takes {alone} selection prompts (--n-select {self.needed} --n-again 0)."
        return (
            f"{goal} takes about {self.needed} selection prompts, and {self.n_again} more for the best three "
            f"(--n-select {self.needed} --n-again {self.n_again}); {alone} where nothing is tried again."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "sentence": self.sentence}


@dataclass(frozen=True)
class Plan:
    """Everything that `bures plan` says."""

    limits: tuple[Planned, ...]
    rows: int
    choice: PlannedChoice | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        choice = None if self.choice is None else self.choice.to_dict()
        return {"limits": [each.to_dict() for each in self.limits], "rows": self.rows, "choice": choice}


def plan(config: PlanConfig) -> Plan:
    """How many prompts each limit takes, and a choice."""
    return Plan(tuple(_limits(config)), config.rows, _choice(config))


def _choice(config: PlanConfig) -> PlannedChoice | None:
    """What `--max-regret` asks; None where it is not given."""
    if config.max_regret is None:
        return None
    alone, needed = (prompts_for_regret(config.max_regret, n, config.candidates) for n in (0, config.n_again))
    return PlannedChoice(config.max_regret, config.candidates, config.n_again, needed, alone)


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
