"""What `bures compare`, `bures gate` and `bures history` are asked: frozen models of their options.

Every option is written once, as a field; see `bures.jobs.options`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from bures.results.asked import Asked
from bures.results.names import NONE, STRONGEST, WITHIN_BUDGET

_LABELS = "By whose labels (bures judge label --as) the ASR is, with an interval valid whatever the judge's error."

RowNames = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]
"""Names of rows, in a configuration; one alone is a list of one."""


class CompareConfig(Asked):
    """What `bures compare` is asked. Unknown keys are refused."""

    judge: str | None = Field(
        default=None, description="Whose marks count.", json_schema_extra={"unset": "that of the first run"}
    )
    labels: str | None = Field(default=None, description=_LABELS, json_schema_extra={"unset": "the judge alone"})
    max_perplexity_ratio: float | None = Field(
        default=None,
        ge=1.0,
        description="Perplexity budget of the strongest intervention on the selection split.",
        json_schema_extra={"unset": "that of each audit"},
    )
    margin: float = Field(
        default=0.05,
        gt=0.0,
        lt=1.0,
        description="Difference of the ASR, as a share, below which models count as refusing alike.",
    )
    common: bool = Field(
        default=False, description="Compare on the test prompts that all audits asked, where some asked more."
    )


class GateConfig(Asked):
    """What `bures gate` is asked. Unknown keys are refused; limits are shares, 0.10 for 10 %."""

    max_asr: float | None = Field(default=None, gt=0.0, le=1.0, description="Largest ASR, as a share: 0.10.")
    against: str | None = Field(default=None, description="Folder of the audit to compare with.")
    max_increase: float | None = Field(
        default=None, ge=0.0, le=1.0, description="Largest increase of the ASR over that audit's, as a share."
    )
    max_over_refusal: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="Largest share of harmless prompts refused without intervention.",
    )
    row: RowNames = Field(
        default=(NONE, WITHIN_BUDGET),
        min_length=1,
        description="Row whose ASR is checked: its key, `within-budget` (every intervention within the budget), or "
        "`strongest` (the one of them that the selection split says); repeatable.",
        json_schema_extra={"repeatable": True},
    )
    judge: str | None = Field(
        default=None, description="Whose marks count.", json_schema_extra={"unset": "that of the audit"}
    )
    labels: str | None = Field(default=None, description=_LABELS, json_schema_extra={"unset": "the judge alone"})
    max_perplexity_ratio: float | None = Field(
        default=None,
        ge=1.0,
        description="Perplexity ratio on the selection split within which an intervention is an attack.",
        json_schema_extra={"unset": "that of the audit"},
    )
    require_methods: RowNames = Field(
        default=(),
        description="Method that the audit must have tried; repeatable.",
        json_schema_extra={"repeatable": True},
    )
    min_tokens: int | None = Field(default=None, ge=1, description="Fewest tokens that answers were allowed.")
    min_prompts: int | None = Field(default=None, ge=1, description="Fewest harmful test prompts.")
    min_blocks: int | None = Field(default=None, ge=1, description="Fewest blocks that were scanned.")

    @model_validator(mode="after")
    def _consistent(self) -> GateConfig:
        if self.max_asr is None and self.max_increase is None and self.max_over_refusal is None:
            raise ValueError("no limit given; expected --max-asr, --max-increase with --against, or --max-over-refusal")
        if (self.against is None) != (self.max_increase is None):
            raise ValueError("--against and --max-increase go together; give both, such as 0.05, or neither")
        return self


class HistoryConfig(Asked):
    """What `bures history` is asked. Unknown keys are refused."""

    row: RowNames = Field(
        default=(NONE, STRONGEST),
        min_length=1,
        description="Row that is followed: its key, or `strongest` (one row of all audits: within the budget, by their "
        "selection splits); repeatable.",
        json_schema_extra={"repeatable": True},
    )
    judge: str | None = Field(
        default=None, description="Whose marks count.", json_schema_extra={"unset": "that of each audit"}
    )
    labels: str | None = Field(default=None, description=_LABELS, json_schema_extra={"unset": "the judge alone"})
    max_perplexity_ratio: float | None = Field(
        default=None,
        ge=1.0,
        description="Perplexity budget of `strongest` on the selection split.",
        json_schema_extra={"unset": "that of each audit"},
    )
    strict: bool = Field(default=False, description="Refuse a folder without a finished audit, instead of naming it.")
    looks: int = Field(
        default=30,
        ge=1,
        description="Audits over which the chance of a false change is kept: 5 % in so many looks together.",
    )


class PlanConfig(Asked):
    """What `bures plan` is asked. Unknown keys are refused; limits are shares, 0.10 for 10 %."""

    max_asr: float | None = Field(
        default=None, gt=0.0, lt=1.0, description="Limit that the ASR is to be shown to keep, as a share: 0.10."
    )
    max_over_refusal: float | None = Field(
        default=None, gt=0.0, lt=1.0, description="The same of the share of harmless prompts refused."
    )
    max_increase: float | None = Field(
        default=None, gt=0.0, lt=1.0, description="The same of the increase of the ASR over another audit's."
    )
    true: float | None = Field(
        default=None,
        ge=0.0,
        lt=1.0,
        description="What the share is taken to be in truth.",
        json_schema_extra={"unset": "half the limit"},
    )
    apart: float = Field(
        default=0.1,
        gt=0.0,
        le=1.0,
        description="Share of prompts that two audits of equal models answer differently, for --max-increase.",
    )
    power: float = Field(
        default=0.8, gt=0.0, lt=1.0, description="How often a model that keeps the limit is to pass, as a share."
    )
    rows: int = Field(default=1, ge=1, description="Rows that are checked, all of which have to pass.")
    max_regret: float | None = Field(
        default=None,
        gt=0.0,
        lt=1.0,
        description="True ASR that choosing on few prompts may give away, on the average, as a share: 0.015.",
    )
    candidates: int = Field(default=12, ge=2, le=200, description="Interventions among which is chosen.")
    n_again: int = Field(
        default=16, ge=0, le=500, description="Further selection prompts, on which the best three are tried again."
    )

    @model_validator(mode="after")
    def _consistent(self) -> PlanConfig:
        limits = [x for x in (self.max_asr, self.max_over_refusal) if x is not None]
        if not limits and self.max_increase is None and self.max_regret is None:
            raise ValueError(
                "no limit given; expected --max-asr, --max-over-refusal, --max-increase or --max-regret, such as 0.10"
            )
        if self.true is not None and any(self.true >= limit for limit in limits):
            raise ValueError(f"a true share of {self.true:g} keeps no limit of {min(limits):g}; expected a smaller one")
        return self
