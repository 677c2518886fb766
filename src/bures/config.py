"""Options of the main job: one frozen model that the command line, TOML files and Python all fill."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bures.hooks import Scope
from bures.judges import judge_by_name
from bures.methods import METHODS
from bures.options import validated


class AuditConfig(BaseModel):
    """What `bures audit` runs. Unknown keys are refused."""

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
    harmful_test: str = "harmbench:test"
    harmless_fit: str = "alpaca:fit"
    harmless_select: str = "alpaca:select"
    harmless_test: str = "alpaca:test"
    column: str | None = None
    """Prompt column of tables, where it cannot be told."""
    corpus: str | None = "wikipedia"
    """Text for corpus perplexity: a pinned name or a file; None leaves it out."""
    corpus_tokens: int = Field(default=8192, ge=256)

    n_fit: int = Field(default=128, ge=2)
    n_select: int = Field(default=32, ge=1)
    n_test: int | None = Field(default=None, ge=1)
    """Harmful test prompts; None: all."""
    n_harmless_test: int = Field(default=100, ge=1)
    limit: int | None = Field(default=None, ge=2)
    """At most this many prompts in every split: a quick look."""

    methods: tuple[str, ...] = ("rfa", "act", "mean-act", "pca-ot")
    ranks: tuple[int, ...] = (1, 2, 8)
    scopes: tuple[Scope, ...] = ("all", "last")
    depth: tuple[float, float] = (0.2, 0.8)
    """Which blocks are scanned, as shares of the depth."""
    blocks: tuple[int, ...] | None = None
    """Which blocks are scanned, by number; overrides `depth`."""
    all_blocks: bool = True
    """Whether each method on all blocks is measured too."""
    strength: float = Field(default=1.0, gt=0.0)
    ridge: float | None = Field(default=None, ge=0.0)
    shrinkage: Literal["ledoit-wolf", "oas"] | None = None
    max_perplexity_ratio: float = Field(default=1.10, ge=1.0)
    """Budget of a choice on the selection split: perplexity of the original model's harmless answers, over its own."""

    max_new_tokens: int = Field(default=64, ge=1)
    select_tokens: int = Field(default=24, ge=1)
    judge: str = "arditi"
    """The judge that chooses and heads the table; all judges are recorded."""
    seed: int = Field(default=0, ge=0)
    token_budget: int = Field(default=4096, ge=1)
    """Padded tokens in one forward pass."""

    @model_validator(mode="after")
    def _consistent(self) -> AuditConfig:
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
        if "pca-ot" in self.methods and max(self.ranks) > n_fit - 1:
            raise ValueError(
                f"ranks: K = {max(self.ranks)} is larger than n - 1 = {n_fit - 1} fit prompts allow; "
                "lower --ranks or raise --n-fit (or --limit)"
            )
        if not self.scopes:
            raise ValueError("scopes: expected at least one of all, prompt, last, generated")
        return self

    @staticmethod
    def make(**options: Any) -> AuditConfig:
        """A configuration, or a `ConfigError` with one line."""
        return validated(AuditConfig, options)
