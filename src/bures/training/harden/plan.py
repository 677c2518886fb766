"""What a configuration comes to on a model: the numbers that depend on its size, and what attacks it in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from torch import nn

from bures.errors import ConfigError
from bures.models.loading import ChatModel
from bures.models.offloading import count
from bures.results.names import Scope
from bures.training.harden.config import HardenConfig, Setting

SMALL = 200_000_000
"""Models with fewer parameters are trained longer, faster and in fewer blocks (they have less to say no with)."""


@dataclass(frozen=True)
class Attacks:
    """What attacks the harmful prompts of a step.

    Attributes:
        share: of the prompts that are attacked, in the end; 0: none.
        warmup: steps over which that share rises from nothing.
        every: steps after which interventions are fitted anew.
        n_fit: prompts of each side that they are fitted on.
        maps: how many are drawn each time.
        memory: how many earlier ones are kept.
        methods: by name.
        placements: `one`, `two`, `all` or `sites`, where the method has it.
        ranks: of ranked methods.
        scopes: token scopes.
        strengths: lowest and highest.
        originals: how many more are fitted before the first step and stay.
        draws: how many interventions share the attacked prompts of a step.
        hardest_of: of how many drawn at random each of them is the one with the highest loss so far.
        accumulated: instead of all this, all directions found so far are projected out everywhere.
    """

    share: float
    warmup: int
    every: int
    n_fit: int
    maps: int
    memory: int
    methods: tuple[str, ...]
    placements: tuple[str, ...]
    ranks: tuple[int, ...] = (1, 2, 8)
    scopes: tuple[Scope, ...] = ("last", "prompt", "all", "generated")
    strengths: tuple[float, float] = (0.5, 1.25)
    originals: int = 0
    draws: int = 1
    hardest_of: int = 1
    accumulated: bool = False

    def share_at(self, step: int) -> float:
        """Share of the harmful prompts that are attacked in a step."""
        return self.share * min(1.0, step / self.warmup if self.warmup else 1.0)

    def refits_at(self, step: int) -> bool:
        """Whether interventions are fitted anew before a step; twice as often while the share rises."""
        every = max(1, self.every // 2) if step < self.warmup else self.every
        return self.share > 0.0 and step % every == 0


@dataclass(frozen=True)
class Plan:
    """A configuration on a model; the options of the LoRA and the schedule among them."""

    steps: int
    harmful_rows: int
    harmless_rows: int
    text_rows: int
    accumulate: int
    learning_rate: float
    warmup_steps: int
    max_grad_norm: float
    kl_weight: float
    early_share: float
    rank: int
    alpha: float
    targets: tuple[str, ...]
    first_block: int
    seed: int
    attacks: Attacks

    def describe(self) -> dict[str, Any]:
        """As plain JSON types; in how many passes the rows go is no part of what is trained."""
        return {name: value for name, value in asdict(self).items() if name != "accumulate"}


def settled(config: HardenConfig, model: ChatModel) -> Plan:
    """The numbers of a configuration on a model.

    Raises:
        ConfigError: the model has no such block, or the setting attacks where it cannot be attacked.
    """
    small, depth = count(model.hf) < SMALL, len(model.blocks)
    first = (2 * depth // 5 if small else depth // 4) if config.first_block is None else config.first_block
    if first >= depth:
        raise ConfigError(f"first_block is {first}; expected less than {depth}, the blocks of {config.model}")
    return Plan(
        steps=config.steps or (400 if small else 150),
        harmful_rows=config.harmful_rows or (8 if small else 6),
        harmless_rows=config.harmless_rows or (10 if small else 8),
        text_rows=config.text_rows if config.text else 0,
        accumulate=config.accumulate,
        learning_rate=config.learning_rate or (5e-4 if small else 2e-4),
        warmup_steps=config.warmup_steps,
        max_grad_norm=config.max_grad_norm,
        kl_weight=config.kl_weight,
        early_share=config.early_share,
        rank=config.rank,
        alpha=config.alpha,
        targets=config.targets or linear_names(model),
        first_block=first,
        seed=config.seed,
        attacks=_possible(_attacks(config, small=small), model),
    )


def linear_names(model: ChatModel) -> tuple[str, ...]:
    """Names of the linear modules in the blocks, as they are called inside the module that holds them."""
    found = {
        name.rpartition(".")[2]
        for block in model.blocks
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear)
    }
    return tuple(sorted(found))


_SETTINGS: Mapping[Setting, Attacks] = MappingProxyType(
    {
        "moving": Attacks(
            share=0.5,
            warmup=50,
            every=15,
            n_fit=48,
            maps=4,
            memory=32,
            methods=("rfa", "mean-act", "act", "pca-ot"),
            placements=("one", "two", "all", "sites"),
        ),
        "refat": Attacks(  # Yu et al. 2024, arXiv 2409.20089: a direction for each of the last 75 % of the blocks
            share=0.5,
            warmup=0,
            every=4,
            n_fit=32,
            maps=1,
            memory=0,
            methods=("rfa",),
            placements=("all",),
            scopes=("all",),
            strengths=(1.0, 1.0),
        ),
        "fail-closed": Attacks(  # Coalson and Hong 2026, arXiv 2602.16977, with differences of means for directions
            share=1.0,
            warmup=0,
            every=25,
            n_fit=48,
            maps=1,
            memory=0,
            methods=("rfa",),
            placements=("sites",),
            scopes=("all",),
            strengths=(1.0, 1.0),
            accumulated=True,
        ),
    }
)


def _attacks(config: HardenConfig, *, small: bool) -> Attacks:
    if config.setting == "control":
        return replace(_SETTINGS["moving"], share=0.0)
    held = _SETTINGS[config.setting]
    if config.setting == "moving" and small:
        held = replace(held, every=10, n_fit=64)
    given = {
        "share": config.attack_share,
        "warmup": config.attack_warmup,
        "every": config.refit_every,
        "n_fit": config.n_fit,
        "maps": config.maps,
        "memory": config.memory,
        "originals": config.originals,
        "draws": config.draws,
        "hardest_of": config.hardest_of,
    }
    return replace(held, **{name: value for name, value in given.items() if value is not None})


def _possible(attacks: Attacks, model: ChatModel) -> Attacks:
    """Those without three sites of every block, where it is not known what the blocks add.

    Raises:
        ConfigError: nothing is left.
    """
    unverified = model.parts.unverified
    if not unverified or not attacks.share:
        return attacks
    left = tuple(place for place in attacks.placements if place != "sites")
    if not left:
        raise ConfigError(
            f"the setting attacks at three sites of every block, which cannot be for this architecture ({unverified}); "
            "take --setting moving or refat"
        )
    return replace(attacks, placements=left)
