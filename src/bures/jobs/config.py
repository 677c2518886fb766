"""Options of the jobs: frozen models that the command line, TOML files and Python all fill.

Every option is written once, as a field; see `bures.jobs.options`. Torch is imported only when one is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from bures.data.shorthand import expanded
from bures.jobs.option_types import Blocks, Depth, Methods, OrNone, Ranks, Scopes, too_large
from bures.jobs.options import command_line, layered, marked
from bures.judges.by_name import JUDGE_NAMES, judge_by_name

Config = TypeVar("Config", bound="ScanConfig")

ROWS: Any = {"stage": "rows"}
"""Of the options on which an audit's rows depend, and nothing before them."""


class ScanConfig(BaseModel):
    """What `bures scan` runs. Unknown keys are refused."""

    job: ClassVar[str] = "scan"
    """The subcommand."""

    without: ClassVar[frozenset[str]] = frozenset()
    """Inherited options that the job does not have."""

    shorthands: ClassVar[Mapping[str, FieldInfo]] = {
        "harmful": Field(
            description="For all harmful splits: harmbench, advbench, jailbreakbench, strongreject, file or hub id."
        ),
        "harmless": Field(description="For all harmless splits: alpaca, jailbreakbench-benign, file or hub id."),
    }
    """Options that stand for several fields; see `bures.data.shorthand`."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    model: str = Field(
        min_length=1,
        description="Hub id, folder, .gguf file, or `organism`.",
        json_schema_extra={"positional": True},
    )
    adapter: str | None = Field(default=None, description="LoRA adapter folder, merged in memory.")
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub id.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Number format of the weights."
    )
    device: str | None = Field(
        default=None,
        description="cpu, cuda, cuda:1, or auto to shard over all devices.",
        json_schema_extra={"unset": "cuda where there is one"},
    )
    trust_remote_code: bool = Field(default=False, description="Run code that comes with a hub repository.")
    system: str | None = Field(default=None, description="System prompt.")

    harmful_fit: str = Field(default="advbench", description="Harmful prompts to fit on: pinned name, file or hub id.")
    harmful_select: str = Field(default="harmbench:select", description="Harmful prompts to choose on.")
    harmless_fit: str = Field(default="alpaca:fit", description="Harmless prompts to fit on.")
    harmless_select: str = Field(default="alpaca:select", description="Harmless prompts to choose on.")
    column: str | None = Field(default=None, description="Prompt column of table files, where it cannot be told.")
    harmful_column: str | None = Field(
        default=None,
        description="Prompt column of the harmful files, where the sides differ.",
        json_schema_extra={"unset": "as --column"},
    )
    harmless_column: str | None = Field(
        default=None,
        description="Prompt column of the harmless files, likewise.",
        json_schema_extra={"unset": "as --column"},
    )

    n_fit: int = Field(default=128, ge=2, description="Prompts per side to fit on.")
    n_select: int = Field(default=32, ge=1, description="Prompts per side to choose on.")
    limit: int | None = Field(default=None, ge=2, description="At most this many prompts in every split: a quick look.")

    methods: Methods = ("rfa", "rfa-mean", "act", "mean-act", "pca-ot")
    ranks: Ranks = (1, 2, 4, 8, 16)
    scopes: Scopes = ("all",)
    depth: Depth = Field(default=(0.0, 1.0), description="Blocks to scan, as shares of the depth.")
    blocks: Blocks | None = Field(
        default=None, description="Blocks to scan, by number: 8-12 or 3,8-12; instead of a depth."
    )
    strength: float = Field(default=1.0, gt=0.0, description="lambda in h + lambda (T(h) - h).")
    ridge: float | None = Field(
        default=None,
        ge=0.0,
        description="Ridge of PCA-OT, relative to the mean variance.",
        json_schema_extra={"unset": "1e-06"},
    )
    shrinkage: Literal["ledoit-wolf", "oas"] | None = Field(
        default=None, description="Shrinkage of PCA-OT's covariances.", json_schema_extra={"unset": "none"}
    )
    max_kl: float = Field(
        default=0.5,
        gt=0.0,
        description="Largest first-token KL on harmless prompts, in nats, with which a map may speak for its block.",
    )

    judge: str = Field(
        default="arditi",
        description="Judge that finds refusals, and in an audit chooses and heads the table.",
        json_schema_extra={"choices": list(JUDGE_NAMES)},
    )
    seed: int = Field(default=0, ge=0, description="Of prompt subsets and bootstrap intervals.")
    token_budget: int = Field(default=4096, ge=1, description="Padded tokens in one forward pass.")

    @model_validator(mode="after")
    def _consistent(self) -> ScanConfig:
        from bures.models.methods import METHODS

        unknown = [m for m in self.methods if m not in METHODS]
        if unknown or not self.methods:
            raise ValueError(
                f"methods: unknown {', '.join(unknown) or '(none)'}; expected some of {', '.join(METHODS)}"
            )
        judge_by_name(self.judge)
        problem = too_large(self.methods, self.ranks, min(self.n_fit, self.limit or self.n_fit))
        if problem is not None:
            raise ValueError(f"{problem} (or --limit)")
        return self

    @model_validator(mode="after")
    def _of_this_job(self) -> ScanConfig:
        alien = [name for name in sorted(self.without) if getattr(self, name) != type(self).model_fields[name].default]
        if alien:
            raise ValueError(f"{', '.join(alien)}: not of a {self.job}; `bures {self.job} --help` lists what is")
        return self

    @property
    def sizes(self) -> dict[str, int | None]:
        """Every prompt set that the job reads, and how many prompts of it."""
        return {
            "harmful_fit": self.n_fit,
            "harmful_select": self.n_select,
            "harmless_fit": self.n_fit,
            "harmless_select": self.n_select,
        }

    @property
    def maps_everywhere(self) -> bool:
        """Whether maps are fitted at blocks that are not scanned too."""
        return False

    @property
    def options(self) -> dict[str, Any]:
        """The options as plain JSON types: what identifies a run, and what its results carry."""
        return self.model_dump(mode="json", exclude={*SECRET, *PASSING})

    @property
    def command(self) -> str:
        """A command line that does the same: every option that is not its default."""
        return command_line(self, self.job)

    @classmethod
    def spelled_out(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with those of single splits in place of `harmful` and `harmless`."""
        return expanded(options, cls.model_fields)

    @classmethod
    def make(cls: type[Config], **options: Any) -> Config:
        """A configuration, or a `ConfigError` with one line.

        `harmful` and `harmless` name one source for all splits of their side; see `bures.data.shorthand`.
        """
        return layered(cls, options)


class AuditConfig(ScanConfig):
    """What `bures audit` runs. Unknown keys are refused."""

    job: ClassVar[str] = "audit"

    harmful_test: str = Field(
        default="harmbench:test", description="Harmful prompts to measure on.", json_schema_extra=ROWS
    )
    harmless_test: str = Field(
        default="alpaca:test", description="Harmless prompts to measure on.", json_schema_extra=ROWS
    )
    corpus: OrNone[str] = Field(
        default="wikipedia",
        description="Text for perplexity: wikipedia, wikitext, pile, a file or none.",
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
    metrics: tuple[str, ...] = Field(default=(), description="Metrics of installed packages.", json_schema_extra=ROWS)
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

    @model_validator(mode="after")
    def _offered(self) -> AuditConfig:
        from bures.jobs.capability import by_suite
        from bures.jobs.engines import backend_of
        from bures.jobs.metrics import METRICS

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
