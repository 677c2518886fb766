"""Options of the jobs: frozen models that the command line, TOML files and Python all fill."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bures.data.shorthand import expanded
from bures.errors import RunError
from bures.jobs.capability import by_suite
from bures.jobs.engines import backend_of
from bures.jobs.metrics import METRICS
from bures.jobs.options import validated
from bures.judges.by_name import judge_by_name
from bures.models.methods import METHODS
from bures.results.records import Scope

Config = TypeVar("Config", bound="ScanConfig")


SECRET = frozenset({"storage"})
"""Options that may hold a password and are never written down."""

PASSING = frozenset({"vllm_memory"})
"""Options on which no figure depends: a run may be continued with another value."""


class ScanConfig(BaseModel):
    """What `bures scan` runs. Unknown keys are refused."""

    job: ClassVar[str] = "scan"
    """The subcommand."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str
    """Hub id, folder, .gguf file, or `organism`."""
    adapter: str | None = None
    """Folder of a LoRA adapter, merged in memory."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str | None = None
    trust_remote_code: bool = False
    system: str | None = None
    """System prompt."""

    harmful_fit: str = "advbench"
    harmful_select: str = "harmbench:select"
    harmless_fit: str = "alpaca:fit"
    harmless_select: str = "alpaca:select"
    column: str | None = None
    """Prompt column of tables, where it cannot be told."""

    n_fit: int = Field(default=128, ge=2)
    n_select: int = Field(default=32, ge=1)
    limit: int | None = Field(default=None, ge=2)
    """At most this many prompts in every split: a quick look."""

    methods: tuple[str, ...] = ("rfa", "rfa-mean", "act", "mean-act", "pca-ot")
    ranks: tuple[int, ...] = (1, 2, 4, 8, 16)
    scopes: tuple[Scope, ...] = ("all",)
    depth: tuple[float, float] = (0.0, 1.0)
    """Which blocks are scanned, as shares of the depth."""
    blocks: tuple[int, ...] | None = None
    """Which blocks are scanned, by number; overrides `depth`."""
    strength: float = Field(default=1.0, gt=0.0)
    ridge: float | None = Field(default=None, ge=0.0)
    shrinkage: Literal["ledoit-wolf", "oas"] | None = None
    max_kl: float = Field(default=0.5, gt=0.0)
    """Largest first-token KL on harmless prompts, in nats, with which a map may speak for its block."""

    judge: str = "arditi"
    """The judge that finds the model's refusals (and, in an audit, chooses and heads the table)."""
    seed: int = Field(default=0, ge=0)
    token_budget: int = Field(default=4096, ge=1)
    """Padded tokens in one forward pass."""

    @model_validator(mode="after")
    def _consistent(self) -> ScanConfig:
        unknown = [m for m in self.methods if m not in METHODS]
        if unknown or not self.methods:
            raise ValueError(
                f"methods: unknown {', '.join(unknown) or '(none)'}; expected some of {', '.join(METHODS)}"
            )
        judge_by_name(self.judge)
        low, high = self.depth
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(f"depth: {low} to {high}; expected two shares with 0 <= low < high <= 1")
        if not self.ranks or min(self.ranks) < 1:
            raise ValueError(f"ranks: {self.ranks}; expected whole numbers of at least 1")
        n_fit = min(self.n_fit, self.limit or self.n_fit)
        if any(METHODS[m].ranked for m in self.methods) and max(self.ranks) > n_fit - 1:
            raise ValueError(
                f"ranks: K = {max(self.ranks)} is larger than n - 1 = {n_fit - 1} fit prompts allow; "
                "lower --ranks or raise --n-fit (or --limit)"
            )
        if not self.scopes:
            raise ValueError("scopes: expected at least one of all, prompt, last, generated")
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
        words = ["bures", self.job, self.model]
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name in ("model", *SECRET) or value == field.get_default(call_default_factory=True):
                continue
            option = f"--{name.replace('_', '-')}"
            if isinstance(value, bool):
                words.append(option if value else option.replace("--", "--no-", 1))
            else:
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value or "none")
                words += [option, text]
        return shlex.join(words)

    @classmethod
    def make(cls: type[Config], **options: Any) -> Config:
        """A configuration, or a `ConfigError` with one line.

        `harmful` and `harmless` name one source for all splits of their side; see `bures.data.shorthand`.
        """
        return validated(cls, expanded(options, cls.model_fields))


class AuditConfig(ScanConfig):
    """What `bures audit` runs. Unknown keys are refused."""

    job: ClassVar[str] = "audit"

    harmful_test: str = "harmbench:test"
    harmless_test: str = "alpaca:test"
    corpus: str | None = "wikipedia"
    """Text for corpus perplexity: `wikipedia`, `wikitext`, `pile` or a file; None leaves it out."""
    corpus_tokens: int = Field(default=8192, ge=256)
    n_test: int | None = Field(default=None, ge=1)
    """Harmful test prompts; None: all."""
    n_harmless_test: int = Field(default=100, ge=1)

    methods: tuple[str, ...] = ("rfa", "act", "mean-act", "pca-ot")
    ranks: tuple[int, ...] = (1, 2, 8)
    scopes: tuple[Scope, ...] = ("all", "last")
    all_blocks: bool = True
    """Whether each method on all blocks is measured too."""
    max_perplexity_ratio: float = Field(default=1.10, ge=1.0)
    """Budget of a choice on the selection split: perplexity of the original model's harmless answers, over its own."""

    max_new_tokens: int = Field(default=64, ge=1)
    select_tokens: int = Field(default=24, ge=1)

    tasks: tuple[str, ...] = ()
    """Capability tasks that lm-eval scores under every row's intervention."""
    n_task: int | None = Field(default=None, ge=1)
    """Questions of every task (of every MMLU subject), the first ones; None: all."""
    metrics: tuple[str, ...] = ()
    """Metrics that installed packages add."""

    backend: str = "transformers"
    """Who answers the test prompts; everything else is computed by transformers."""
    tensor_parallel: int = Field(default=1, ge=1)
    """Devices over which vLLM shards the model."""
    vllm_memory: float = Field(default=0.5, gt=0.0, le=1.0)
    """Share of each device's memory (on a CPU: of the machine's) that vLLM takes for weights and cache."""

    @model_validator(mode="after")
    def _known_metrics(self) -> AuditConfig:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            known = ", ".join(METRICS) or "(none is installed)"
            raise ValueError(f"metrics: unknown {', '.join(unknown)}; expected some of {known}")
        return self

    @model_validator(mode="after")
    def _offered(self) -> AuditConfig:
        backend_of(self.backend)
        by_suite(self.tasks)
        return self

    @model_validator(mode="after")
    def _vllm_alone(self) -> AuditConfig:
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

    methods: tuple[str, ...] = ("rfa", "rfa-mean", "act", "mean-act", "pca-ot")
    ranks: tuple[int, ...] = (1, 2, 4, 8, 16)
    scopes: tuple[Scope, ...] = ("all", "last")
    strengths: tuple[float, ...] = Field(default=(0.5, 0.75, 1.0, 1.25, 1.5), min_length=1)
    shrinkages: tuple[Literal["none", "ledoit-wolf", "oas"], ...] = Field(default=("none", "ledoit-wolf"), min_length=1)
    max_band: int = Field(default=4, ge=2)
    """Most neighbouring blocks that a band may have."""
    trials: int = Field(default=200, ge=1)
    """Trials of all workers together."""
    short_tokens: int = Field(default=12, ge=1)
    long_tokens: int = Field(default=48, ge=1)
    storage: str | None = None
    """SQLAlchemy URL of the study; default: SQLite in the run folder."""
    study: str = "bures"
    """Name of the study in the storage."""

    @model_validator(mode="after")
    def _positive(self) -> SearchConfig:
        if min(self.strengths) <= 0:
            raise ValueError(f"strengths: {self.strengths}; expected numbers above 0")
        return self


def load_config(run_folder: str | Path) -> AuditConfig:
    """The options of an audit.

    Raises:
        RunError: there is no `config.json`, or it is damaged.
        ConfigError: it holds options that this bures does not know.
    """
    file = Path(run_folder) / "config.json"
    try:
        options = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"cannot read {file}: {error}; expected the folder of a bures audit run") from error
    return AuditConfig.make(**options)
