"""Options of the jobs: frozen models that the command line, TOML files and Python all fill.

Every option is written once, as a field; see `bures.jobs.options`. Torch is imported only when one is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, model_validator

from bures.jobs.option_types import Methods, OrNone, Ranks, Scopes
from bures.jobs.options import marked, preset
from bures.jobs.protocols import PROTOCOLS, Protocol
from bures.jobs.scan_config import ScanConfig

ROWS: Any = {"stage": "rows"}
"""Of the options on which an audit's rows depend, and nothing before them."""


class AuditConfig(ScanConfig):
    """What `bures audit` runs. Unknown keys are refused."""

    job: ClassVar[str] = "audit"
    without: ClassVar[frozenset[str]] = frozenset()
    presets: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {"protocol": PROTOCOLS}

    protocol: Protocol = Field(
        default="bures",
        description="Whose defaults the other options have: ours, with equal budgets, or those of arXiv 2603.04355.",
    )
    harmful_test: str = Field(
        default="harmbench:test", description="Harmful prompts to measure on.", json_schema_extra=ROWS
    )
    harmless_test: str = Field(
        default="alpaca:test", description="Harmless prompts to measure on.", json_schema_extra=ROWS
    )
    corpus: OrNone[str] = Field(
        default="wikipedia",
        description="Text for perplexity: wikipedia, wikitext, pile, c4, a file or none.",
        json_schema_extra=ROWS,
    )
    corpus_tokens: int = Field(
        default=8192, ge=256, description="Tokens of the text for perplexity.", json_schema_extra=ROWS
    )
    n_test: int | None = Field(
        default=None, ge=1, description="Harmful test prompts.", json_schema_extra={**ROWS, "unset": "all"}
    )
    n_harmless_test: int = Field(default=100, ge=1, description="Harmless test prompts.", json_schema_extra=ROWS)

    methods: Methods = ("rfa", "act", "mean-act", "pca-ot")
    ranks: Ranks = (1, 2, 8)
    scopes: Scopes = ("all", "last")
    all_blocks: bool = Field(default=True, description="Measure each method on all blocks too.")
    max_perplexity_ratio: float = Field(
        default=1.10,
        ge=1.0,
        description="Budget of a choice on the selection split: perplexity of the original model's harmless answers, "
        "over its own.",
    )
    max_new_tokens: int = Field(default=64, ge=1, description="Greedy tokens per test answer.", json_schema_extra=ROWS)
    select_tokens: int = Field(default=24, ge=1, description="Greedy tokens per selection answer.")

    tasks: tuple[str, ...] = Field(
        default=(),
        description="Capability tasks of lm-eval, scored under every row's intervention, such as mmlu,arc_easy.",
        json_schema_extra=ROWS,
    )
    n_task: int | None = Field(
        default=None,
        ge=1,
        description="Questions of each task or MMLU subject, the first ones.",
        json_schema_extra={**ROWS, "unset": "all"},
    )
    metrics: tuple[str, ...] = Field(
        default=(), description="Metrics of installed packages.", json_schema_extra={**ROWS, "group": "bures.metrics"}
    )
    backend: str = Field(
        default="transformers",
        description="Engine that answers the test prompts: transformers, vllm or an installed one.",
        json_schema_extra=ROWS,
    )
    tensor_parallel: int = Field(
        default=1, ge=1, description="Devices over which vLLM shards the model.", json_schema_extra=ROWS
    )
    vllm_memory: float = Field(
        default=0.5,
        gt=0.0,
        le=1.0,
        description="Share of each device's memory (on a CPU: of the machine's) that vLLM takes for weights and cache.",
        json_schema_extra={"passing": True},
    )

    @model_validator(mode="before")
    @classmethod
    def _by_protocol(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        options = cast("Mapping[str, Any]", given)
        return {**preset(cls, options), **options}

    @model_validator(mode="after")
    def _offered(self) -> AuditConfig:
        from bures.jobs.capability import by_suite
        from bures.jobs.engines import backend_of
        from bures.jobs.further_metrics import METRICS

        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            known = ", ".join(METRICS) or "(none is installed)"
            raise ValueError(f"metrics: unknown {', '.join(unknown)}; expected some of {known}")
        backend_of(self.backend)
        by_suite(self.tasks)
        if self.tensor_parallel > 1 and self.backend != "vllm":
            raise ValueError("tensor_parallel is of --backend vllm; use --device auto to shard over all devices")
        return self

    @property
    def maps_everywhere(self) -> bool:
        """Whether maps are fitted at blocks that are not scanned too."""
        return self.all_blocks

    @property
    def sizes(self) -> dict[str, int | None]:
        """Every prompt set that the job reads, and how many prompts of it."""
        return {**super().sizes, "harmful_test": self.n_test, "harmless_test": self.n_harmless_test}


class SearchConfig(ScanConfig):
    """What `bures search` runs. Unknown keys are refused."""

    job: ClassVar[str] = "search"
    without: ClassVar[frozenset[str]] = frozenset({"strength", "shrinkage", "max_kl"})

    scopes: Scopes = ("all", "last")
    strengths: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(
        default=(0.5, 0.75, 1.0, 1.25, 1.5), min_length=1, description="Strengths to try."
    )
    shrinkages: tuple[Literal["none", "ledoit-wolf", "oas"], ...] = Field(
        default=("none", "ledoit-wolf"), min_length=1, description="Shrinkages to try of a ranked method."
    )
    max_band: int = Field(default=4, ge=2, description="Most neighbouring blocks that a band may have.")
    trials: int = Field(default=200, ge=1, description="Trials of all workers together.")
    short_tokens: int = Field(default=12, ge=1, description="Greedy tokens of the middle rung.")
    long_tokens: int = Field(default=48, ge=1, description="Greedy tokens of the last rung.")
    storage: str | None = Field(
        default=None,
        description="SQLAlchemy URL, such as postgresql+psycopg://user@host/database.",
        json_schema_extra={"unset": "SQLite in the run folder", "secret": True},
    )
    study: str = Field(default="bures", description="Name of the search in the storage.")


_ALL = (ScanConfig, AuditConfig, SearchConfig)

SECRET = frozenset[str]().union(*(marked(each, "secret") for each in _ALL))
"""Options that may hold a password and are never written down."""

PASSING = frozenset[str]().union(*(marked(each, "passing") for each in _ALL))
"""Options on which no figure depends: a run may be continued with another value."""

OF_ROWS = marked(AuditConfig, "stage")
"""Options on which the rows of an audit depend, and nothing before them."""
