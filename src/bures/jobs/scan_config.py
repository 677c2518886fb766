"""Options that all jobs share, and all that `bures scan` has.

Every option is written once, as a field; see `bures.jobs.options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, model_validator
from pydantic.fields import FieldInfo

from bures.data.shorthand import expanded
from bures.jobs.option_types import Blocks, Depth, Methods, Ranks, Scopes, too_large
from bures.jobs.options import command_line, marked
from bures.judges.by_name import JUDGE_NAMES, judge_by_name
from bures.results.asked import Asked

Config = TypeVar("Config", bound="ScanConfig")


class ScanConfig(Asked):
    """What `bures scan` runs. Unknown keys are refused."""

    job: ClassVar[str] = "scan"
    """The subcommand."""

    without: ClassVar[frozenset[str]] = frozenset({"thinking", "thinking_tokens", "n_again"})
    """Options of all jobs that this one does not have."""

    shorthands: ClassVar[Mapping[str, FieldInfo]] = {
        "harmful": Field(
            description="For all harmful splits: harmbench, advbench, jailbreakbench, strongreject, file or hub id."
        ),
        "harmless": Field(description="For all harmless splits: alpaca, jailbreakbench-benign, file or hub id."),
    }
    """Options that stand for several fields; see `bures.data.shorthand`."""

    model: str = Field(
        min_length=1,
        description="Hub id, folder, .gguf file, or `organism`.",
        json_schema_extra={"positional": True},
    )
    adapter: str | None = Field(
        default=None, description="LoRA adapter folder, or `organism-hardened`; merged in memory."
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=80,
        description="What tables and pages call the model.",
        json_schema_extra={"passing": True, "unset": "MODEL, and its adapter"},
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub id.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Number format of the weights."
    )
    quantization: Literal["bnb-4bit", "bnb-8bit"] | None = Field(
        default=None, description="Pack the linear layers while loading (extra `quantization`)."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Threads of the processor. With a number, batch sizes are not measured either.",
        json_schema_extra={"unset": "measured; OMP_NUM_THREADS where that is set"},
    )
    device: str | None = Field(
        default=None,
        min_length=1,
        description="cpu, cuda, cuda:1, or auto to shard over all devices.",
        json_schema_extra={"unset": "cuda where there is one"},
    )
    trust_remote_code: bool = Field(default=False, description="Run code that comes with a hub repository.")
    system: str | None = Field(default=None, pattern=r"^[^\x00]*$", description="System prompt.")
    thinking: Literal["off", "on"] = Field(
        default="off", description="Whether a reasoning model thinks before it answers; maps are fitted without."
    )
    thinking_tokens: int = Field(
        default=1024, ge=1, description="Tokens of thinking behind which an answer is unfinished."
    )

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
    n_again: int = Field(
        default=16,
        ge=0,
        description="Further harmful selection prompts, on which the best three of every choice are tried again.",
    )
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
        default="bures",
        description="Judge that finds refusals, and in an audit chooses and heads the table.",
        json_schema_extra={"choices": list(JUDGE_NAMES), "group": "bures.judges"},
    )
    seed: int = Field(default=0, ge=0, lt=1 << 63, description="Of prompt subsets and bootstrap intervals.")
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
    def further(self) -> dict[str, tuple[str, int | None]]:
        """Sets beyond those, each with its source and how many prompts of it; repeats of others are left out."""
        return {}

    @property
    def calibrating(self) -> int:
        """How many harmless prompts thresholds are set on: others of the source to choose on."""
        return 0

    @property
    def maps_everywhere(self) -> bool:
        """Whether maps are fitted at blocks that are not scanned too."""
        return False

    @property
    def options(self) -> dict[str, Any]:
        """The options as plain JSON types: what identifies a run, and what its results carry."""
        return self.model_dump(mode="json", exclude={*marked(type(self), "secret"), *marked(type(self), "passing")})

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
        return cls(**options)
