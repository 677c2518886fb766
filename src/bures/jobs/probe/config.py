"""Options of `bures probe`. Each is a field; see `bures.jobs.options`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from bures.jobs.option_types import Methods
from bures.jobs.scan_config import ScanConfig
from bures.results.names import DETECTOR_NAMES, Position


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in DETECTOR_NAMES]
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; expected some of {', '.join(DETECTOR_NAMES)}")
    return tuple(dict.fromkeys(names))


Detectors = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_known)]


class ProbeConfig(ScanConfig):
    """What `bures probe` runs. Unknown keys are refused."""

    job: ClassVar[str] = "probe"
    without: ClassVar[frozenset[str]] = ScanConfig.without | {
        *("methods", "ranks", "scopes", "strength", "ridge", "shrinkage", "max_kl", "judge")
    }

    harmful_test: str = Field(default="harmbench:test", description="Harmful prompts to measure on.")
    harmless_test: str = Field(default="alpaca:test", description="Harmless prompts to measure on.")
    more_harmful: tuple[str, ...] = Field(
        default=(),
        description="Further harmful sources to fit on; the choice is then by leaving one source out at a time.",
    )
    more_harmless: tuple[str, ...] = Field(default=(), description="Further harmless sources, likewise.")
    transfer_harmful: tuple[str, ...] = Field(
        default=(), description="Further harmful prompts to measure on, such as xstest-unsafe,rho-pairs."
    )
    transfer_harmless: tuple[str, ...] = Field(
        default=(),
        description="Further harmless ones, each held against the harmful set in the same place; where there is none, "
        "against the test prompts.",
    )
    under: tuple[str, ...] = Field(
        default=(),
        description="Audited interventions, as RUN:ROW, under which the test prompts are scored again.",
    )

    n_test: int | None = Field(
        default=None, ge=2, description="Harmful test prompts.", json_schema_extra={"unset": "all"}
    )
    n_harmless_test: int = Field(default=200, ge=2, description="Harmless test prompts.")
    n_calibrate: int = Field(
        default=300,
        ge=1,
        description="Harmless prompts that thresholds are set on, others of the source to choose on; "
        "a rate of 1 in 100 takes 99.",
    )
    n_transfer: int = Field(default=200, ge=1, description="Prompts of each further set to measure on, at most.")

    detectors: Detectors = Field(
        default=DETECTOR_NAMES,
        description="Detectors to fit.",
        json_schema_extra={"choices": list(DETECTOR_NAMES)},
    )
    positions: tuple[Position, ...] = Field(
        default=("last", "instruction"),
        min_length=1,
        description="Where in a prompt they read: at its last token, or at the last token of what the user says.",
    )
    methods: Methods = ("mean-act",)

    @model_validator(mode="after")
    def _interventions(self) -> ProbeConfig:
        strange = [name for name in self.under if not all(name.rpartition(":"))]
        if strange:
            raise ValueError(f"under: {strange[0]!r} is no RUN:ROW; expected for example runs/organism-1a2b:rfa")
        return self

    @property
    def sizes(self) -> dict[str, int | None]:
        """Every prompt set that the job reads, and how many prompts of it."""
        return {**super().sizes, "harmful_test": self.n_test, "harmless_test": self.n_harmless_test}

    @property
    def further(self) -> dict[str, tuple[str, int | None]]:
        """Further sources to fit on, and further sets to measure on."""
        fits = {"harmful": self.more_harmful, "harmless": self.more_harmless}
        tests = {"harmful": self.transfer_harmful, "harmless": self.transfer_harmless}
        found: dict[str, tuple[str, int | None]] = {}
        for side, sources in fits.items():
            found |= {f"{side}_fit_{i}": (source, self.n_fit) for i, source in enumerate(sources, start=2)}
        for side, sources in tests.items():
            found |= {f"{side}_transfer_{i}": (source, self.n_transfer) for i, source in enumerate(sources, start=1)}
        return found

    @property
    def calibrating(self) -> int:
        """How many harmless prompts thresholds are set on."""
        return self.n_calibrate
