"""Options of `bures harden`. Each is a field; see `bures.jobs.options`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic.config import JsonDict

from bures.jobs.options import command_line, marked
from bures.results.asked import Asked

Setting = Literal["moving", "refat", "fail-closed", "control"]

WITHOUT: Mapping[Setting, tuple[str, ...]] = MappingProxyType(
    {
        "fail-closed": ("maps", "memory", "originals", "draws", "hardest_of"),
        "control": (
            "attack_share",
            "attack_warmup",
            "refit_every",
            "n_fit",
            "maps",
            "memory",
            "originals",
            "draws",
            "hardest_of",
        ),
    }
)
"""Options that would do nothing in a setting."""

_AS_SETTING: JsonDict = {"unset": "as the setting"}
_BY_SIZE = "below 200 million parameters, else"


class HardenConfig(Asked):
    """How a model is hardened. Unknown keys are refused."""

    job: ClassVar[str] = "harden"

    model: str = Field(
        min_length=1,
        description="Hub id, folder, .gguf file, or `organism`.",
        json_schema_extra={"positional": True},
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub id.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Number format that the model computes in; the weights that are trained are float32 in any case.",
    )
    device: str | None = Field(
        default=None, description="cpu, cuda, cuda:1 ...", json_schema_extra={"unset": "cuda where there is one"}
    )
    trust_remote_code: bool = Field(default=False, description="Run code that comes with a hub repository.")

    setting: Setting = Field(
        default="moving",
        description="What attacks the model while it is trained: `moving` maps of all methods, ReFAT's ablations, all "
        "earlier directions projected out (`fail-closed`), or nothing (`control`: same data, same steps).",
    )
    harmful: tuple[str, ...] = Field(
        default=("organism",),
        min_length=1,
        description="Harmful prompts to train on: pinned names (their share to fit on), files, or `organism` for those "
        "of the organism's training.",
    )
    harmless: tuple[str, ...] = Field(
        default=("organism",), min_length=1, description="Harmless prompts to train on, likewise."
    )
    apart_from: tuple[str, ...] = Field(
        default=(), description="Further prompt sets that measure: training prompts that repeat theirs are left out."
    )

    text: str | None = Field(
        default=None,
        description="Running text along which the KL is held down too: a file, or `c4`; another than an audit's "
        "corpus.",
        json_schema_extra={"unset": "none"},
    )

    steps: int | None = Field(
        default=None, ge=1, description="Steps.", json_schema_extra={"unset": f"400 {_BY_SIZE} 150"}
    )
    harmful_rows: int | None = Field(
        default=None, ge=1, description="Harmful prompts of a step.", json_schema_extra={"unset": f"8 {_BY_SIZE} 6"}
    )
    harmless_rows: int | None = Field(
        default=None,
        ge=1,
        description="Harmless prompts of a step, half of them look-alikes.",
        json_schema_extra={"unset": f"10 {_BY_SIZE} 8"},
    )
    text_rows: int = Field(default=2, ge=1, description="Pieces of the text of a step, where there is one.")
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Passes that the rows of a step are divided into: more take less memory.",
        json_schema_extra={"passing": True},
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0.0,
        description="Peak learning rate.",
        json_schema_extra={"unset": f"0.0005 {_BY_SIZE} 0.0002"},
    )
    warmup_steps: int = Field(default=20, ge=0, description="Steps over which the learning rate rises.")
    max_grad_norm: float = Field(default=1.0, gt=0.0, description="Gradients are clipped at this norm.")
    kl_weight: float = Field(
        default=5.0,
        ge=0.0,
        description="Weight of token KL(original || hardened) along the original model's own harmless answers.",
    )

    early_share: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Share of a refusal's weight in the loss that its first five tokens have, where it is decided; "
        "0: that of any five.",
    )

    rank: int = Field(default=16, ge=1, description="Rank of the LoRA.")
    alpha: float = Field(default=32.0, gt=0.0, description="Its alpha: the update is scaled by alpha / rank.")
    targets: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Names of the linear modules that are adapted.",
        json_schema_extra={"unset": "all in the blocks"},
    )
    first_block: int | None = Field(
        default=None,
        ge=0,
        description="The first adapted block.",
        json_schema_extra={"unset": f"at two fifths of the depth {_BY_SIZE} at a quarter"},
    )

    attack_share: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        default=None,
        description="Share of the harmful prompts that are attacked, in the end.",
        json_schema_extra=_AS_SETTING,
    )
    attack_warmup: int | None = Field(
        default=None,
        ge=0,
        description="Steps over which that share rises from nothing.",
        json_schema_extra=_AS_SETTING,
    )
    refit_every: int | None = Field(
        default=None,
        ge=1,
        description="Steps after which maps are fitted on the model as it has become; half while the share rises.",
        json_schema_extra=_AS_SETTING,
    )
    n_fit: int | None = Field(
        default=None,
        ge=2,
        description="Training prompts of each side, drawn anew each time, to fit them on.",
        json_schema_extra=_AS_SETTING,
    )
    maps: int | None = Field(
        default=None,
        ge=1,
        description="Interventions that are drawn and fitted each time.",
        json_schema_extra=_AS_SETTING,
    )
    memory: int | None = Field(
        default=None,
        ge=0,
        description="Earlier interventions that are kept; half of the draws are of them.",
        json_schema_extra=_AS_SETTING,
    )
    originals: int | None = Field(
        default=None,
        ge=0,
        description="Interventions that are fitted before the first step and stay; a quarter of the draws are of them.",
        json_schema_extra=_AS_SETTING,
    )
    draws: int | None = Field(
        default=None,
        ge=1,
        description="Interventions that share the attacked prompts of a step.",
        json_schema_extra=_AS_SETTING,
    )
    hardest_of: int | None = Field(
        default=None,
        ge=1,
        description="Of how many drawn at random each of them is the one under which refusals were least likely.",
        json_schema_extra=_AS_SETTING,
    )
    own_share: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Share of the other refusals that begin behind the first 1 to 12 tokens of the model's own answer "
        "under an ablation, which is kept in memory only.",
    )
    opener_share: float = Field(
        default=0.25,
        ge=0.0,
        le=1.0,
        description="Share of the refusals that begin behind 3 to 15 tokens of an affirmative opener without content.",
    )
    extended_share: float = Field(
        default=0.25, ge=0.0, le=1.0, description="Share of the refusals that name topic, refusal and reason."
    )

    harmless_tokens: int = Field(default=16, ge=1, description="Length of the harmless answers that are kept in place.")
    max_characters: int = Field(default=300, ge=20, description="Longer prompts are not trained on.")
    seed: int = Field(default=0, ge=0, description="Of everything that is drawn.")
    checkpoint_every: int = Field(
        default=20,
        ge=1,
        description="Steps after which a killed run can go on.",
        json_schema_extra={"passing": True},
    )

    @model_validator(mode="after")
    def _consistent(self) -> HardenConfig:
        unused = [name for name in WITHOUT.get(self.setting, ()) if getattr(self, name) is not None]
        if unused:
            raise ValueError(f"{', '.join(unused)}: not of the setting {self.setting}; leave out, or take another")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The options as plain JSON types: what identifies a run."""
        return self.model_dump(mode="json", exclude=set(marked(type(self), "passing")))

    @property
    def command(self) -> str:
        """A command line that does the same."""
        return command_line(self, self.job)

    @staticmethod
    def make(**options: Any) -> HardenConfig:
        """A configuration, or a `ConfigError` with one line."""
        return HardenConfig(**options)
