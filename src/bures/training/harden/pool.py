"""The pool of interventions that attack a model while it is hardened: fitted on the model as it has become.

Every so many steps some interventions are drawn (method, placement, blocks, rank, token scope) and fitted on training
prompts that are drawn anew. Half of the attacks are by the newest; the other half by earlier ones, which stay in a
memory of fixed size: without it a model learns to move its refusal out of the way of the last maps and back again. Of
several that are drawn the one attacks under which refusals were least likely when it last did, since the defence is
measured by its worst case and not by its mean; what has not attacked yet goes first. The strength is drawn for each
attack.

The `fail-closed` setting has one attack instead: the projection, at three sites of every block, of all directions found
so far; each new one is found while the earlier ones are projected out.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import torch
from torch import Tensor

from bures.errors import FitError
from bures.jobs.saved_interventions import read_intervention, save_intervention
from bures.models.activations import gather
from bures.models.finite import overflowing
from bures.models.fitting import FitData, arditi_sites, build
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.methods import FitOptions, method_of
from bures.models.subspaces import Directions
from bures.results.names import Scope
from bures.results.records import Candidate
from bures.results.run_folder import RunFolder
from bures.training.harden.plan import Attacks
from bures.transport import DiagonalAffine, LowRankAffine, TransportMap

FROM_ORIGINALS = 0.25
"""Share of the draws that are of maps fitted on the model before its training, where some are kept."""

RUINOUS: frozenset[Scope] = frozenset({"all", "generated"})
"""Scopes at which transport maps on all blocks ruin a model (perplexity times 70,000), so that no attacker gains."""


@dataclass(frozen=True)
class Attack:
    """A fitted intervention.

    Attributes:
        name: of its files; no two of a training are alike.
        born: the step before which it was fitted.
        method: the method's name.
        intervention: at strength 1.
    """

    name: str
    born: int
    method: str
    intervention: Intervention

    def at(self, strength: float) -> Intervention:
        """The intervention at another strength."""
        return replace(self.intervention, strength=strength)


def collected(model: ChatModel, harmful: Sequence[str], harmless: Sequence[str], *, blocks: Sequence[int]) -> FitData:
    """What interventions are fitted on: both sides' activations at the last prompt token of some blocks."""
    source, target = (gather(model, side, blocks=list(blocks)) for side in (harmful, harmless))
    return FitData(
        source_prompts=tuple(harmful),
        source=source,
        target=target,
        options=FitOptions(),
        overflowing=overflowing(target) | overflowing(source),
    )


@dataclass
class Pool:
    """What attacks, and where it is drawn from.

    Attributes:
        model: the model as it is trained.
        attacks: what may be drawn.
        blocks: the adapted blocks, first to last.
        harmful: training prompts to fit on.
        harmless: the same of the other side.
        rng: draws interventions, prompts and strengths.
        newest: those of the last fit.
        memory: earlier ones.
        originals: those that were fitted before the first step and stay: what an attacker has who transfers maps.
        directions: those that are projected out, in the `fail-closed` setting.
        met: name of an attack -> the loss of the refusals under it, later ones counting more.
        failed: how many fits failed.
        seconds: what all fits took.
    """

    model: ChatModel
    attacks: Attacks
    blocks: Sequence[int]
    harmful: Sequence[str]
    harmless: Sequence[str]
    rng: random.Random
    newest: list[Attack] = field(default_factory=list[Attack])
    memory: list[Attack] = field(default_factory=list[Attack])
    originals: list[Attack] = field(default_factory=list[Attack])
    directions: Directions = field(default_factory=Directions)
    met: dict[str, float] = field(default_factory=dict[str, float])
    failed: int = 0
    seconds: float = 0.0

    # Fitting ------------------------------------------------------------------------------------------------------

    def refit(self, step: int) -> None:
        """Fits new interventions on the model as it is."""
        began = time.monotonic()
        self._remember()
        self._fit(step)
        self.seconds += time.monotonic() - began

    def _fit(self, step: int) -> None:
        n = self.attacks.n_fit
        sides = [self.rng.sample(list(side), min(n, len(side))) for side in (self.harmful, self.harmless)]
        if self.attacks.accumulated:
            self._project(step, *sides)
            return
        fit = collected(self.model, *sides, blocks=self.blocks)
        usable = [block for block in self.blocks if block not in fit.overflowing]
        if not usable:
            return
        self.newest += self._fitted(step, "", self.attacks.maps, usable, fit)
        if step == 0:
            self.originals += self._fitted(step, "original-", self.attacks.originals, usable, fit)

    def _fitted(self, step: int, called: str, count: int, usable: Sequence[int], fit: FitData) -> list[Attack]:
        found: list[Attack] = []
        for number in range(count):
            candidate = self.draw_candidate(usable)
            try:
                built = build(self.model, candidate, fit)
            except FitError:
                self.failed += 1
                continue
            found.append(Attack(f"s{step:06d}-{called}{number}-{candidate.key}", step, candidate.method, _kept(built)))
        return found

    def _remember(self) -> None:
        """Puts the newest in the memory, in place of others where it is full."""
        for each in self.newest if self.attacks.memory else ():
            if len(self.memory) >= self.attacks.memory:
                self.memory.pop(self.rng.randrange(len(self.memory)))
            self.memory.append(each)
        if self.attacks.memory or not self.attacks.accumulated:
            self.newest = []

    def _project(self, step: int, harmful: Sequence[str], harmless: Sequence[str]) -> None:
        try:
            self.directions = self.directions.further(self.model, harmful, harmless, self.blocks)[0]
        except FitError:
            self.failed += 1
            return
        found = Intervention(arditi_sites(self.directions.ablation(), len(self.model.blocks)))
        self.newest = [Attack(f"s{step:06d}-0-rank{len(self.directions)}", step, "rfa", _kept(found))]

    def draw_candidate(self, usable: Sequence[int]) -> Candidate:
        """Draws what is to be fitted, at blocks whose activations are finite."""
        rng, attacks = self.rng, self.attacks
        method = method_of(rng.choice(attacks.methods))
        mine = [place for place in attacks.placements if place != "sites" or method.everywhere is not None]
        placement = rng.choice([place for place in mine if place != "two" or len(usable) > 1])
        count = {"one": 1, "two": 2, "sites": 1, "all": len(usable)}[placement]
        blocks = tuple(sorted(rng.sample(list(usable), count)))
        rank = rng.choice([k for k in attacks.ranks if k < attacks.n_fit] or [1]) if method.ranked else None
        ruins = placement == "all" and method.sequential
        scopes: list[Scope] = [scope for scope in attacks.scopes if not (ruins and scope in RUINOUS)]
        return Candidate(method.name, blocks, rank, rng.choice(scopes), placement == "sites")

    # Attacking ----------------------------------------------------------------------------------------------------

    def draw(self) -> tuple[str, Intervention] | None:
        """An attack's name, and what it does at a strength drawn for it; None: there is none yet."""
        if not self.newest and not self.memory:
            return None
        drawn = [self._one() for _ in range(self.attacks.hardest_of)]
        hardest = max(drawn, key=lambda each: self.met.get(each.name, math.inf))
        return hardest.name, hardest.at(self.rng.uniform(*self.attacks.strengths))

    def _one(self) -> Attack:
        if self.originals and self.rng.random() < FROM_ORIGINALS:
            return self.rng.choice(self.originals)
        side = self.memory if self.memory and (not self.newest or self.rng.random() < 0.5) else self.newest
        return self.rng.choice(side)

    def was_met(self, name: str, loss: float) -> None:
        """Remembers the loss of the refusals under an attack: the mean of this one and of what was remembered."""
        self.met[name] = (self.met.get(name, loss) + loss) / 2

    @property
    def names(self) -> frozenset[str]:
        """Names of all that may be drawn."""
        return frozenset(each.name for each in self._all)

    @property
    def _all(self) -> tuple[Attack, ...]:
        return (*self.newest, *self.memory, *self.originals)

    # Keeping ------------------------------------------------------------------------------------------------------

    def keep(self, folder: RunFolder) -> dict[str, Any]:
        """Writes what the folder does not hold yet; returns what `restore` takes."""
        for each in self._all:
            if not (folder.path / "maps" / f"{each.name}.json").exists():
                save_intervention(folder, each.name, each.intervention)
        sides, names = (self.newest, self.memory, self.originals), self.names
        known = [[(each.name, each.born, each.method) for each in side] for side in sides]
        return {
            "newest": known[0],
            "memory": known[1],
            "originals": known[2],
            "directions": self.directions.rows(),
            "met": {name: loss for name, loss in self.met.items() if name in names},
            "failed": self.failed,
            "seconds": self.seconds,
            "random": random_state(self.rng),
        }

    def restore(self, folder: RunFolder, state: dict[str, Any]) -> None:
        """Goes on with what `keep` left, bit for bit.

        Raises:
            RunError: files are missing or damaged.
        """
        self.newest, self.memory, self.originals = (
            [
                Attack(name, born, method, _kept(read_intervention(folder, name, method_of(method).load)))
                for name, born, method in state[side]
            ]
            for side in ("newest", "memory", "originals")
        )
        self.directions, self.met = Directions.of(state["directions"]), dict(state["met"])
        self.failed, self.seconds = state["failed"], state["seconds"]
        set_random_state(self.rng, state["random"])


def _kept(intervention: Intervention) -> Intervention:
    """The same with maps as they come from a file: float32, laid out row by row, with tensors that a graph may hold."""
    copies = {id(map_): _laid_out(map_.to(dtype=torch.float32)) for map_ in intervention.maps.values()}
    return replace(intervention, maps={key: copies[id(map_)] for key, map_ in intervention.maps.items()}, strength=1.0)


def _laid_out(map_: TransportMap) -> TransportMap:
    """A map of bures whose tensors lie row by row, each in memory of its own.

    Products round otherwise over another layout, and over tensors that a file's reader has put at odd addresses.
    """
    if not isinstance(map_, LowRankAffine | DiagonalAffine):
        return map_
    held = {each.name: getattr(map_, each.name) for each in fields(map_)}
    return replace(
        map_,
        **{
            name: value.clone(memory_format=torch.contiguous_format)
            for name, value in held.items()
            if isinstance(value, Tensor)
        },
    )


def random_state(rng: random.Random) -> list[Any]:
    """The state of a generator, as JSON has it."""
    version, numbers, gauss = rng.getstate()
    return [version, list(numbers), gauss]


def set_random_state(rng: random.Random, state: Sequence[Any]) -> None:
    """Goes on where `random_state` was."""
    version, numbers, gauss = state
    rng.setstate(cast("Any", (version, tuple(numbers), gauss)))
